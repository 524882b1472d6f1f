"""How fast a ticket is trained here, against transformers' own Trainer with peft's TrainableTokens.

    python -m ks_core bench --training --steps 30 --rounds 3

Every way trains the same rows of the same frozen model on the same examples, the same eight to a batch and
the batches in the same order, with dense Adam, no weight decay and a constant rate, in this one process.
The ways take turns, so that what else the machine does meets all of them. ``Trainer`` itself times the
steps (``train_runtime``), without loading and setting up. Every way logs its loss in each step; this program
also writes its last checkpoint in that time, the peer writes none. Where others use the machine too, CPU
time tells more than the clock; with OMP_NUM_THREADS=1 no thread is counted that waits for another.

Equal training means equal losses but for rounding: the ways add up the same numbers in another order. That
is some 1e-7 in the first step, and grows: Adam divides a gradient by its own size, so where it is nearly
zero its rounding decides where a value moves. How much this may be is not guessed: two of the ways are the
peer itself, its batches padded and, by transformers' own collator, not, and those two differ by rounding alone.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer

from ks_core.errors import SettingsError
from ks_core.likelihood.batches import batch_order
from ks_core.likelihood.examples import encode
from ks_core.likelihood.rows import lay_over
from ks_core.tuning import saved_training, trainer
from ks_core.tuning.recipes import Recipe

Examples = Sequence[dict[str, list[int]]]

OURS = "this program"
PEER = "transformers' Trainer, peft TrainableTokens"
PADDING_FREE = "the same, with transformers' collator without padding"
MIXED = "peft TrainableTokens, this program's batches and loss"
PARTS = ("embedding", "layers", "output layer and loss", "optimizer")
#: Losses (nats per token) are equal up to so many times what the peer's two layouts differ by, or up to ``TOLERANCE``.
TIMES_ROUNDING, TOLERANCE = 3.0, 1e-4


@dataclass
class Clock:
    """Where a training's time goes, told by the moments at which a step passes from part to part."""

    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    last: float = 0.0

    def lap(self, part: str | None) -> None:
        """What went by since the last lap belongs to ``part``; to none of them when it is ``None``."""
        now = time.perf_counter()
        if part is not None:
            self.parts[part] += now - self.last
        self.last = now

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Laps of every training step of ``model`` while this is open, forward and backward of a part together."""

        def left_by(part: str, comes_back_to: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                vectors = output if torch.is_tensor(output) else output[0]
                if vectors.requires_grad:  # otherwise it is a trial and no step
                    self.lap(part)
                    vectors.register_hook(lambda gradient: self.lap(comes_back_to))

            return hook

        layers = model.get_base_model().base_model if hasattr(model, "peft_config") else model.base_model
        handles = [
            model.get_input_embeddings().register_forward_pre_hook(lambda *a: self.lap(None)),
            model.get_input_embeddings().register_forward_hook(left_by("embedding", "layers")),
            layers.register_forward_hook(left_by("layers", "output layer and loss")),
            torch_optimizer.register_optimizer_step_pre_hook(lambda *a: self.lap("embedding")),
            torch_optimizer.register_optimizer_step_post_hook(lambda *a: self.lap("optimizer")),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@dataclass(frozen=True)
class Round:
    """One training: its way, losses step by step, seconds, those of each part, and what the processor worked."""

    way: str
    losses: list[float]
    seconds: float
    parts: dict[str, float]
    cpu_seconds: float = 0.0


def train_ours(
    model: Any, tokenizer: Any, examples: Examples, ids: Sequence[int], recipe: Recipe, with_peft: bool = False
) -> Round:
    """One training as this program does it; ``with_peft`` of peft's adapter instead of our rows."""
    if not with_peft:
        lay_over(model, ids)
    model, clock = _with_peft(model, ids) if with_peft else model, Clock()
    with tempfile.TemporaryDirectory() as folder, clock.watching(model):
        done = trainer.train(model, tokenizer, examples, recipe, Path(folder), save_every=recipe.steps + 1)
    return Round(MIXED if with_peft else OURS, [loss for _, loss in done.losses], done.seconds, dict(clock.parts))


def train_peer(
    model: Any, tokenizer: Any, examples: Examples, ids: Sequence[int], recipe: Recipe, padded: bool = True
) -> Round:
    """One training by transformers' Trainer as it comes, with its own loss and peft's adapter.

    ``padded``: batches as transformers' ``DataCollatorForSeq2Seq`` pads them, with their labels; otherwise as
    its ``DataCollatorWithFlattening`` puts them, one example after the other.
    """
    from transformers import (
        DataCollatorForSeq2Seq,
        DataCollatorWithFlattening,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )

    wrapped, clock = _with_peft(model, ids), Clock()
    order = batch_order([len(e["input_ids"]) for e in examples], recipe.batch_size, recipe.steps, recipe.seed)
    with tempfile.TemporaryDirectory() as folder, clock.watching(wrapped):
        arguments = TrainingArguments(
            output_dir=folder, max_steps=recipe.steps, per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate, lr_scheduler_type=recipe.schedule, warmup_steps=recipe.warmup,
            seed=recipe.seed, max_grad_norm=0.0, weight_decay=0.0, logging_steps=1, report_to=[], disable_tqdm=True,
            save_strategy="no", remove_unused_columns=False, train_sampling_strategy="sequential",
            use_cpu=model.device.type == "cpu", dataloader_pin_memory=model.device.type == "cuda",
        )  # fmt: skip
        trained, betas = saved_training.trained_parameters(wrapped).values(), (recipe.beta1, recipe.beta2)
        peer = Trainer(
            wrapped,
            arguments,
            train_dataset=[examples[i] for i in order],
            data_collator=DataCollatorForSeq2Seq(tokenizer) if padded else DataCollatorWithFlattening(),
            optimizers=(torch.optim.Adam(list(trained), lr=recipe.learning_rate, betas=betas), None),
        )
        peer.pop_callback(PrinterCallback)
        seconds = float(peer.train().metrics["train_runtime"])
    losses = [float(entry["loss"]) for entry in peer.state.log_history if "loss" in entry]
    return Round(PEER if padded else PADDING_FREE, losses, seconds, dict(clock.parts))


WAYS: tuple[Callable[..., Round], ...] = (
    train_peer, partial(train_peer, padded=False), partial(train_ours, with_peft=True), train_ours
)  # fmt: skip


def compare(
    model: Any, tokenizer: Any, examples: Examples, ids: Sequence[int], recipe: Recipe,
    rounds: int = 1, report: Callable[[Round], None] = lambda done: None,
) -> list[Round]:  # fmt: skip
    """Train by every way in turn, ``rounds`` times over; ``report`` is told of each. The model stays as it was.

    Raises ``SettingsError`` when ``rounds`` is below 1 or the recipe's optimizer is not the peer's ``adam``.
    """
    if rounds < 1:
        raise SettingsError(f"--rounds is {rounds}. Expected at least 1.")
    if recipe.optimizer != "adam":
        raise SettingsError(f"The optimizer is {recipe.optimizer}. Expected adam, which every way here can use.")
    found = []
    for way in WAYS * rounds:
        before = time.process_time()
        done = way(_sharing_weights(model), tokenizer, examples, ids, recipe)
        found.append(replace(done, cpu_seconds=time.process_time() - before))
        report(found[-1])
    return found


def largest_difference(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest difference of two loss curves at the same step."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def run(steps: int, rounds: int, machine: Sequence[str]) -> int:
    """Measure on the demo's base and ticket, and print Markdown, first what it is run on. Returns 1 when the losses are
    not equal."""
    from ks_core.study.scan import Study
    from ks_core.tickets.selection import select
    from ks_core.translation import corpora
    from ks_core.tuning.models import load_model

    recipe = Recipe(steps=steps, optimizer="adam")
    scan = Study("demo:base", "demo:en-fr").scan()
    ids = [int(i) for i in scan.token_ids[select(scan)]]
    model, tokenizer = load_model("demo:base")
    examples = encode(corpora.load("pack:fr-FR"), tokenizer, "short", model.config.max_position_embeddings)
    lengths = [len(e["input_ids"]) for e in examples]
    tokens = sum(lengths[i] for i in batch_order(lengths, recipe.batch_size, steps, recipe.seed))
    about = f"demo:base, {len(ids)} rows; {rounds} rounds of {steps} steps, {tokens:,} tokens with prompts, no padding"
    for line in (*machine, about, f"{torch.get_num_threads()} threads\n"):
        print(f"- {line}", flush=True)
    compare(model, tokenizer, examples, ids, replace(recipe, steps=1), min(rounds, 1))  # first calls are slow
    found = compare(model, tokenizer, examples, ids, recipe, rounds, _say)
    losses = {r.way: r.losses for r in found}
    apart, rounding = (largest_difference(losses[way], losses[PEER]) for way in (OURS, PADDING_FREE))
    verdict = (
        f"Largest difference of the losses in any step: {apart:.1e} between this program and the peer, {rounding:.1e} "
        f"between the peer padded and not. In the first step: {abs(losses[OURS][0] - losses[PEER][0]):.1e}."
    )
    print("\n".join(["", *table(found, tokens), "", verdict, "", *breakdown(found)]))
    return 0 if apart <= max(TOLERANCE, TIMES_ROUNDING * rounding) else 1


def table(found: Sequence[Round], tokens: int) -> list[str]:
    """The lines of a Markdown table: tokens per second and per CPU second, medians over the rounds."""
    lines = ["| way | tokens per second | times the peer | per CPU second | times the peer | loss at the end |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    last = {r.way: r.losses[-1] for r in found}
    wall = {way: tokens / statistics.median(r.seconds for r in found if r.way == way) for way in last}
    cpu = {way: tokens / statistics.median(r.cpu_seconds for r in found if r.way == way) for way in last}
    for way, loss in last.items():
        numbers = (f"{speed[way]:.0f} | {speed[way] / speed[PEER]:.2f}" for speed in (wall, cpu))
        lines.append(f"| {way} | {' | '.join(numbers)} | {loss:.5f} |")
    return lines


def breakdown(found: Sequence[Round]) -> list[str]:
    """The lines of a Markdown table: milliseconds of a step by part, medians over the rounds."""
    lines = [f"| ms of a step | {' | '.join(PARTS)} | the rest |", "|---|" + "---:|" * (len(PARTS) + 1)]
    for way in dict.fromkeys(r.way for r in found):
        cells = []
        for part in (*PARTS, None):
            spent = [r.parts[part] if part else r.seconds - sum(r.parts.values()) for r in found if r.way == way]
            cells.append(f"{1000 * statistics.median(spent) / len(found[0].losses):.1f}")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def _say(done: Round) -> None:
    print(f"{done.way}: {done.seconds:.1f} s, {done.cpu_seconds:.1f} s of CPU", flush=True)


def _sharing_weights(model: Any) -> Any:
    twin = copy.deepcopy(model, {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()})
    twin.config.tie_word_embeddings = False  # or peft would train the output layer as well
    return twin


def _with_peft(model: Any, ids: Sequence[int]) -> Any:
    from peft import TrainableTokensConfig, get_peft_model

    return get_peft_model(model, TrainableTokensConfig(token_indices=sorted(ids), target_modules=["embed_tokens"]))
