"""What recording costs a training: the demo's own, with and without, in turns. ``python tests/soak/recording_cost.py [STEPS] [TURNS]``

Two readings, both in processor time of this process. The first compares trainings that do the same steps on the same batches; other work on
the machine moves it by some percent either way. The second adds up what the recording itself took, and is steady.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from ks_core.checkpoints.demo import BASE
from ks_core.likelihood.batches import LossParts
from ks_core.likelihood.examples import count_tokens, encode
from ks_core.likelihood.rows import lay_over, lift_off
from ks_core.trajectory import FILE, Recorder
from ks_core.translation import corpora
from ks_core.tuning.demo_runs import RUNS
from ks_core.tuning.models import load_model
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.trainer import train


class Clock:
    """Processor seconds within some functions, those that they call in turn counted once."""

    def __init__(self) -> None:
        self.seconds, self.within = 0.0, False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if self.within:
                return function(*args, **kwargs)
            self.within, began = True, time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.within = False
                self.seconds += time.process_time() - began

        return called


def main(steps: int, turns: int) -> None:
    """Train ``steps`` steps ``turns`` times each way, and print both readings."""
    run = RUNS["en-fr"]
    model, tokenizer = load_model(BASE)
    examples = encode(corpora.load(run.corpus), tokenizer, run.prompt, model.config.max_position_embeddings)
    ids = sorted(count_tokens(examples))
    recipe = Recipe(
        steps, learning_rate=run.learning_rate, schedule=run.schedule, optimizer=run.optimizer, seed=run.seed
    )
    clock = Clock()
    _compile(ids[:200], model)
    for owner, names in (
        (Recorder, ("__init__", "before_step", "after_step", "note", "record", "close")),
        (LossParts, ("add", "take")),
    ):
        for name in names:
            setattr(owner, name, clock.timed(getattr(owner, name)))
    spent: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * turns):
        recorded = turn % 2 == 1
        lay_over(model, ids)
        with tempfile.TemporaryDirectory() as folder:
            place, began = Path(folder), time.process_time()
            train(
                model, tokenizer, examples, recipe, place, save_every=steps + 1, record=place / FILE if recorded else None, base=BASE
            )  # fmt: skip
            spent[recorded].append(time.process_time() - began)
        lift_off(model)
        print(f"{'recorded' if recorded else 'plain':>8}  {spent[recorded][-1]:8.1f} s for {steps} steps", flush=True)
    whole = sum(spent[True])
    print(f"recorded to plain  {whole / sum(spent[False]):.4f}")
    print(
        f"recording itself   {clock.seconds / turns:.2f} s for {steps} steps, {clock.seconds / (whole - clock.seconds):.2%} of the rest"
    )


def _compile(ids: list[int], model: Any) -> None:
    """One recording of rows like these, so that what the test compiles once in a process is no part of what a record takes."""
    rows = lay_over(model, ids)
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder) / FILE, model) as recorder:
        with torch.no_grad():
            rows.rows += 0.01
        recorder.after_step()
    lift_off(model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("steps", type=int, nargs="?", default=10, help="steps of each training (default 10)")
    parser.add_argument("turns", type=int, nargs="?", default=3, help="trainings of each kind (default 3)")
    main(**vars(parser.parse_args()))
