"""The part of ``card`` that reads references and records a training: what likelihood, ledger and *Over time* do on a card."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu.models import SMOL, TINY, Ids, model_of
from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.ks.statistic import ks_test
from ks_core.likelihood.references import References
from ks_core.likelihood.rows import lay_over
from ks_core.likelihood.scorer import Scorer, likelihood_of
from ks_core.trajectory.opening import open_trajectory
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.trainer import train

#: By how much a sentence's nats may differ between a card and a CPU, in parts of them. float32 both; sums go in other orders.
CLOSE = 1e-4


def references(vocabulary: int, sentences: int, tokens: int, targets: int) -> References:
    """Sentences of random ids, of lengths that differ, each with its end token."""
    rng = np.random.default_rng(0)
    examples = []
    for n in range(sentences):
        ids = [*rng.integers(3, vocabulary, tokens + n % 5).tolist(), 0]
        examples.append({"input_ids": ids, "labels": [-100] * (len(ids) - targets - 1) + ids[-targets - 1 :]})
    spans = tuple(np.zeros(len(e["input_ids"]), np.int8) for e in examples)
    return References(tuple(examples), np.full(sentences, 4 * targets, np.int64), True, spans, 0)


def likelihood(device: str, small: bool) -> bool:
    """References on the card and on the CPU: sentence by sentence the same; and how fast with many sets of acting rows."""
    print(
        "\n## Reading references\n\n| model | references | sets of rows | largest difference of a sentence, in parts | references a second, CPU | "
        "references a second, here |\n|---|---:|---:|---:|---:|---:|"
    )
    shape, count, sets = (TINY, 12, 3) if small else (SMOL, 64, 40)
    asked, changed = references(shape.vocabulary, count, 50, 20), range(3, min(2003, shape.vocabulary))
    start = np.random.default_rng(1).standard_normal((len(changed), shape.hidden)).astype(np.float32) * 0.05
    chosen = [list(changed)[:: n + 1] for n in range(sets)]
    found: dict[str, np.ndarray] = {}
    speeds: dict[str, float] = {}
    for where in ("cpu", device.removeprefix("torch:")):
        model = model_of(shape, "float32", "cpu").to(where)  # the same weights on both
        rows = lay_over(model, changed)
        with torch.no_grad():
            rows.rows += torch.from_numpy(start).to(where)
        few = chosen if where != "cpu" or small else chosen[:2]
        likelihood_of(model, asked.some(range(8)))  # warm
        scorer, began = Scorer(model, asked), time.perf_counter()
        made = scorer.score(few)
        speeds[where] = len(scorer._known) / (time.perf_counter() - began)
        own = likelihood_of(model, asked)
        found[where] = np.stack([own.content, own.end, *(x.content for x in made[:2]), *(x.end for x in made[:2])])
        del model
    cpu, here = found["cpu"], found[device.removeprefix("torch:")]
    apart = float((np.abs(cpu - here) / np.abs(cpu)).max())
    print(
        f"| {'tiny' if small else '135M'} | {count} | {sets} | {apart:.1e} | {speeds['cpu']:,.0f} | "
        f"{speeds[device.removeprefix('torch:')]:,.0f} |", flush=True,
    )  # fmt: skip
    return apart < CLOSE


def recording(device: str, small: bool) -> bool:
    """A training that is recorded where the model is: the last point against the test of the rows that it left."""
    print(
        "\n## Recording a training\n\n| model | rows | steps | integers of the last point that differ | seconds without | seconds with a record every tenth step |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    shape, steps = (TINY, 10) if small else (SMOL, 60)
    asked = references(shape.vocabulary, 64, 50, 20)
    where, changed = device.removeprefix("torch:"), range(3, min(3003, shape.vocabulary))
    seconds: dict[bool, float] = {}
    differ = -1
    for recorded in (False, False, True):  # the first warms up
        model = model_of(shape, "float32", where)
        rows = lay_over(model, changed)
        before = rows.rows.detach().cpu().numpy().copy()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trajectory.arrow"
            began = time.perf_counter()
            train(
                model, Ids(), list(asked.examples), Recipe(steps=steps), Path(folder) / "run", save_every=steps + 1,
                record=path if recorded else None,
            )  # fmt: skip
            seconds[recorded] = time.perf_counter() - began
            if recorded:
                differ = _differ(path, before, rows)
        del model
    print(
        f"| {'tiny' if small else '135M'} | {len(changed):,} | {steps} | {differ} | {seconds[False]:.1f} | {seconds[True]:.1f} |",
        flush=True,
    )
    return differ == 0


def _differ(path: Path, before: np.ndarray, rows: Any) -> int:
    """How many of the last point's counts are not those of the rows themselves, tested on the CPU."""
    trajectory = open_trajectory("", [str(path)])
    after = rows.rows.detach().cpu().numpy()
    counts = ks_test(ArrayMatrix(before), ArrayMatrix(after), device="cpu").counts
    place = {int(i): n for n, i in enumerate(rows.ids.tolist())}
    recorded = np.zeros(len(counts), np.int64)
    recorded[[place[int(i)] for i in trajectory.token_ids]] = np.rint(trajectory.statistic[-1] * trajectory.dim)
    return int((recorded != counts).sum())
