"""The part of ``card`` that trains and translates: models of random weights in the shapes of published ones."""

from __future__ import annotations

import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ks_core.jobs.resources import PRECISIONS, Resources
from ks_core.likelihood.rows import lay_over
from ks_core.tuning import memory
from ks_core.tuning.memory import LLAMA_1B, LLAMA_7B, Shape, Work, need
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.trainer import train

#: The demo's base, and one for the tests.
SMOL = Shape(30, 576, 1536, 9, 3, 64, 49_152, False)
TINY = Shape(2, 32, 64, 2, 2, 16, 512, False)
#: What is trained of each: pairs a step, tokens of a pair, and how many of them are learned.
WORKS = (Work(1000, 8, 60, 24), Work(1000, 32, 256, 100))
#: Steps of a training, of which the first warm up; tokens of an answer; sentences that are translated at once.
STEPS, WARM, ANSWER = 10, 4, 48


class Ids:
    """All of a tokenizer that training and translating of ids need: ids are written as words, ``7`` is token 7."""

    pad_token_id = eos_token_id = 0

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}

    def decode(self, ids: list[int], **_: Any) -> str:
        """The ids in words."""
        return " ".join(map(str, ids))


class Times:
    """The moments at which a training told of its steps."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def __call__(self, done: int, total: int, loss: float) -> None:
        self.at.append(time.perf_counter())


def model_of(shape: Shape, precision: str, device: str) -> Any:
    """A Llama of random weights in a shape, made on the device. Two fine tokens suffice to end nothing: it writes on."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head, max_position_embeddings=2048,
        tie_word_embeddings=shape.tied, bos_token_id=1, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, precision))
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def shapes(small: bool) -> Iterator[tuple[str, Shape, str, bool, Work]]:
    """What is trained: name, shape, precision, checkpointing, work."""
    if small:
        yield "tiny", TINY, "float32", False, Work(20, 2, 12, 4)
        yield "tiny", TINY, "bfloat16", True, Work(20, 2, 12, 4)
        return
    for precision in PRECISIONS:
        yield "135M", SMOL, precision, False, WORKS[0]
    for name, shape in (("1B", LLAMA_1B), ("7B", LLAMA_7B)):
        yield name, shape, "float32", False, WORKS[0]
        for work in WORKS:
            for checkpointing in (False, True):
                yield name, shape, "bfloat16", checkpointing, work


def training(device: str, small: bool) -> None:
    """Steps of ticket training by the program's own trainer."""
    print(
        "\n## Training 1,000 rows\n\n| model | body | pairs | checkpointing | ms a step | tokens a second | memory, GB | memory said before, GB |\n|---|---|---|---|---:|---:|---:|---:|"
    )
    for name, shape, precision, checkpointing, work in shapes(small):
        _empty()
        model = model_of(shape, precision, device.removeprefix("torch:"))
        lay_over(model, range(3, 3 + work.rows if not small else 23))
        rng = np.random.default_rng(0)
        examples = []
        for _ in range(work.examples):
            ids = rng.integers(3, shape.vocabulary, work.tokens).tolist()
            examples.append({"input_ids": ids, "labels": [-100] * (work.tokens - work.targets) + ids[-work.targets :]})
        told = Times()
        with tempfile.TemporaryDirectory() as folder:
            train(
                model, Ids(), examples, Recipe(steps=STEPS, batch_size=work.examples), Path(folder), checkpointing=checkpointing,
                save_every=STEPS + 1, progress=told,
            )  # fmt: skip
        step = statistics.median(b - a for a, b in itertools.pairwise(told.at[WARM:]))
        said = need(shape, Resources(precision=precision, checkpointing=checkpointing), work)
        expected = said.weights + said.rows + said.training + memory.OVERHEAD
        print(
            f"| {name} | {precision} | {work.examples} of {work.tokens} | {'yes' if checkpointing else 'no'} | {1000 * step:.0f} | "
            f"{work.examples * work.tokens / step:,.0f} | {_taken(device)} | {expected / 1e9:.1f} |", flush=True,
        )  # fmt: skip
        del model


def translating(device: str, small: bool) -> None:
    """Batches of answers by the program's own way of writing them. Random weights hardly ever end an answer."""
    from ks_core.translation.generation import write

    print(
        f"\n## Writing {ANSWER} tokens for {memory.SENTENCES} prompts of 60\n\n| model | body | tokens a second | memory, GB | memory said before, GB |\n|---|---|---:|---:|---:|"
    )
    chosen = [("tiny", TINY)] if small else [("135M", SMOL), ("1B", LLAMA_1B), ("7B", LLAMA_7B)]
    for name, shape in chosen:
        for precision in PRECISIONS:
            _empty()
            model = model_of(shape, precision, device.removeprefix("torch:"))
            rng = np.random.default_rng(0)
            prompts = [" ".join(map(str, rng.integers(3, shape.vocabulary, 60))) for _ in range(memory.SENTENCES)]
            seconds, answers = [], []
            for _ in range(2):
                began = time.perf_counter()
                answers = write(model, Ids(), prompts, max_new_tokens=ANSWER)
                seconds.append(time.perf_counter() - began)
            written = sum(answer.tokens for answer in answers)
            said = need(shape, Resources(precision=precision), Work(rows=0, written=ANSWER))
            expected = said.weights + said.translating + memory.OVERHEAD
            print(
                f"| {name} | {precision} | {written / min(seconds):,.0f} | {_taken(device)} | {expected / 1e9:.1f} |",
                flush=True,
            )
            del model


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _taken(device: str) -> str:
    """The most that was held on the card since ``_empty``, in GB; a dash on the CPU, where it is not counted."""
    return f"{torch.cuda.max_memory_reserved() / 1e9:.1f}" if device.startswith("cuda") else "-"
