"""What only a GPU can show, in Markdown tables: ``make gpu``, or ``python tests/gpu/card.py``. On one card some five minutes.

    The test         integers of the torch kernel on the card against the CPU kernel's, and how fast it is
    Rows             laid over and not changed they change no logit; changed, they do what writing them into the matrix does
    Training         tokens a second and memory, beside what ``ks_core.tuning.memory`` says before a run, by models of
                     random weights in the shapes of published ones
    Translating      the same for batches of answers
    Two cards        the same run in one process and in two (nccl), where there are two cards

Where there is no GPU it says so and ends with 0. ``--device torch:cpu --small`` runs every part that needs no card on the CPU, on
small models: that is how the tests know that it runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
import numpy as np
import torch

from ks_core.checkpoints.matrices import FLOATS, ArrayMatrix
from ks_core.commands import bench
from ks_core.jobs import devices
from ks_core.jobs.resources import PRECISIONS, Resources
from ks_core.ks.statistic import ks_test
from ks_core.tuning import memory
from ks_core.tuning.memory import LLAMA_1B, LLAMA_7B, Shape, Work, need
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.rows import lay_over
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


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 where integers or rows differ, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default), or torch:cpu")
    parser.add_argument("--small", action="store_true", help="small matrices and models")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and "cuda" not in devices.available():
        print(
            "This machine has no GPU that torch can use, so nothing was run. What a GPU would show is not known from here."
        )
        return 0
    began = time.perf_counter()
    print("\n".join(f"- {line}" for line in (*card(options.device), *bench.machine())))
    right = [integers(options.device, options.small)]
    speed(options.device, options.small)
    right.append(rows(options.device))
    training(options.device, options.small)
    translating(options.device, options.small)
    right.append(two_cards(options.device))
    print(f"\nAll of it took {time.perf_counter() - began:.0f} s.")
    return 0 if all(right) else 1


def card(device: str) -> list[str]:
    """What the card is."""
    if not device.startswith("cuda"):
        return [f"no card: {device}"]
    about = torch.cuda.get_device_properties(device)
    return [f"{torch.cuda.device_count()} x {about.name}, {about.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"]


def samples(dtype: str, dim: int, rows_: int, rng: np.random.Generator) -> tuple[ArrayMatrix, ArrayMatrix]:
    """Rows of every kind: moved a little, the same, full of ties, signed zeros and subnormal numbers, very large ones."""
    a = rng.standard_normal((rows_, dim)).astype(np.float32)
    b = a + rng.standard_normal((rows_, dim)).astype(np.float32) * rng.choice([0, 1e-3, 0.1, 1], (rows_, 1)).astype(
        np.float32
    )
    kind = rng.integers(0, 5, rows_)
    for x in (a, b):
        x[kind == 1] = np.round(x[kind == 1])
        x[kind == 2] *= np.float32(1e-39) if dtype in ("float32", "bfloat16") else np.float32(1e-6)
        x[kind == 3] = np.where(rng.random(x[kind == 3].shape) < 0.5, np.float32(0.0), np.float32(-0.0))
        x[kind == 4] *= np.float32(1e4)
    if dtype == "bfloat16":
        return tuple(ArrayMatrix((x.view(np.uint32) >> 16).astype(np.uint16), dtype) for x in (a, b))  # type: ignore[return-value]
    with np.errstate(over="ignore", under="ignore"):
        a, b = (np.nan_to_num(x.astype(dtype), posinf=1, neginf=-1) for x in (a, b))
    if dtype == "float64":
        a[kind == 2] *= 1e-280
    return ArrayMatrix(a), ArrayMatrix(b)


def integers(device: str, small: bool) -> bool:
    """The torch kernel's integers against the CPU kernel's, on rows of every kind."""
    print(
        "\n## The test: integers\n\n| values | widths | rows | integers that differ | L2 and cosine, largest difference |\n|---|---|---:|---:|---:|"
    )
    rng, wrong = np.random.default_rng(0), 0
    for dtype in FLOATS:
        total, differ, apart, widths = 0, 0, 0.0, (16, 33) if small else (16, 64, 128, 576, 1000, 4096, 8192)
        for dim in widths:
            count = 200 if small else max(2000, 8_000_000 // dim)
            a, b = samples(dtype, dim, count, rng)
            ours, cpu = (ks_test(a, b, device=d, with_shift=True) for d in (device, "cpu"))
            assert ours.l2 is not None and ours.cosine is not None and cpu.l2 is not None and cpu.cosine is not None
            total, differ = total + count, differ + int((ours.counts != cpu.counts).sum())
            scale = np.maximum(cpu.l2, np.finfo(np.float64).tiny)
            apart = max(
                apart, float((np.abs(ours.l2 - cpu.l2) / scale).max()), float(np.abs(ours.cosine - cpu.cosine).max())
            )
        wrong += differ
        print(f"| {dtype} | {', '.join(map(str, widths))} | {total:,} | {differ:,} | {apart:.1e} |", flush=True)
    return wrong == 0


def speed(device: str, small: bool) -> None:
    """``bench`` on some sizes, scipy's loop and the CPU beside the card."""
    sizes = (
        [(300, 64, "float32")]
        if small
        else [
            (32_000, 4096, "float32"),
            (32_000, 4096, "bfloat16"),
            (128_256, 4096, "bfloat16"),
            (49_152, 576, "float32"),
        ]
    )
    for count, dim, dtype in sizes:
        print(f"\n## The test: {count:,} x {dim:,} {dtype}\n")
        before, after = bench.matrices(count, dim, dtype)
        print("\n".join(bench.table(bench.measure(before, after, min(200, count), 3, ("cpu", device)))), flush=True)


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


def rows(device: str) -> bool:
    """Rows over a tiny model: not changed they change nothing, to the bit; changed they do what the matrix does."""
    print(
        "\n## Rows\n\n| body | not changed: logits that differ | changed, beside writing them into the matrix: largest difference |\n|---|---:|---:|"
    )
    right, where = True, device.removeprefix("torch:")
    for precision in PRECISIONS:
        model = model_of(TINY, precision, where)
        ids = torch.arange(3, 3 + 8 * 40, device=where).reshape(8, 40) % TINY.vocabulary
        with torch.inference_mode():
            plain = model(ids).logits
            embedding = lay_over(model, range(3, 103))
            over = model(ids).logits
            embedding.rows += torch.randn_like(embedding.rows)
            changed = model(ids).logits
            model.set_input_embeddings(embedding.base)
            embedding.base.weight[embedding.ids] = embedding.rows.to(embedding.base.weight.dtype)
            written = model(ids).logits
        differ, apart = int((plain != over).sum()), float((changed - written).abs().max())
        right &= differ == 0 and apart == 0
        print(f"| {precision} | {differ:,} | {apart:.1e} |", flush=True)
    return right


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
        at: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            train(
                model, Ids(), examples, Recipe(steps=STEPS, batch_size=work.examples), Path(folder), checkpointing=checkpointing,
                save_every=STEPS + 1, progress=lambda done, total, loss: at.append(time.perf_counter()),
            )  # fmt: skip
        step = statistics.median(b - a for a, b in zip(at[WARM:], at[WARM + 1 :], strict=False))
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


def two_cards(device: str) -> bool:
    """A run in one process and in two that talk by nccl; and sharded over the two."""
    print("\n## Two cards\n")
    if device != "cuda" or torch.cuda.device_count() < 2:
        print("Not run: it takes two GPUs.")
        return True
    from helpers import tiny_text
    from helpers.outcomes import outcome
    from ks_core.jobs import queue
    from ks_core.store import workspace
    from ks_core.tuning.arms import parse_arm
    from ks_core.tuning.plans import Plan

    folder = workspace.folder("gpu")
    model = model_of(TINY, "float32", "cpu")
    model.save_pretrained(folder / "model")
    tiny_text.tokenizer().save_pretrained(folder / "model")
    plan = Plan(
        base=str(folder / "model"), tuned="", corpus=tiny_text.corpus(folder, 800), device="cuda", sentences=35, max_new_tokens=4,
        prompt="w3 {source} w4", arms=tuple(parse_arm(a, [7, 9], steps=12, batch_size=5, learning_rate=0.05) for a in ("base", "rows")),
    )  # fmt: skip
    ways = {
        "one process": plan,
        "two": replace(plan, resources=Resources(2)),
        "two, sharded": replace(plan, resources=Resources(2, sharded=True)),
    }
    found = {name: outcome(queue.submit("tune", made.as_dict(), device="cuda")) for name, made in ways.items()}
    alone, right = found["one process"], True
    print("| processes | losses, largest relative difference | answers that differ |\n|---|---:|---:|")
    for name, arms in list(found.items())[1:]:
        losses, others = (np.array(x["Chosen rows"][0]["losses"])[:, 1] for x in (alone, arms))
        apart = float(np.max(np.abs(others - losses) / losses))
        differ = sum(a != b for arm in alone for a, b in zip(alone[arm][1], arms[arm][1], strict=True))
        right &= apart < 1e-4 and differ == 0
        print(f"| {name} | {apart:.1e} | {differ} |", flush=True)
    return right


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _taken(device: str) -> str:
    """The most that was held on the card since ``_empty``, in GB; a dash on the CPU, where it is not counted."""
    return f"{torch.cuda.max_memory_reserved() / 1e9:.1f}" if device.startswith("cuda") else "-"


if __name__ == "__main__":
    sys.exit(main())
