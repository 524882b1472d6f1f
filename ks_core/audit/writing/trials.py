"""Trials: one model answers the same sentences under several conditions, and every trial is scored alike.

What the panels of gating, prompts and strength have in common: they differ in what acts while the model writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ks_core.likelihood.scorer import Report, silent
from ks_core.translation.bootstrap import RESAMPLES, SEED, Bootstrap, Scores
from ks_core.translation.evaluation import HeldOut
from ks_core.translation.generation import Generation, generate_each
from ks_core.translation.scores import Evaluation, evaluate


@dataclass(frozen=True)
class Trial:
    """What was written under one condition, in the order of the prompts, and how it scored."""

    answers: Sequence[Generation]
    evaluation: Evaluation
    bootstrap: Bootstrap

    @property
    def texts(self) -> tuple[str, ...]:
        """What was written, as text."""
        return tuple(answer.text for answer in self.answers)

    @cached_property
    def scores(self) -> Scores:
        """Its scores on every draw of sentences that all trials share: what shares of gains are made of."""
        return self.bootstrap.all_scores(self.answers)


def run_trials(
    model: Any,
    tokenizer: Any,
    runs: Mapping[str, HeldOut],
    acting: Callable[[str, list[int]], AbstractContextManager[Any]],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    in_one_go: bool = False,
    report: Report = silent,
) -> dict[str, Trial]:
    """Let a model answer what each run asks, and score the answers.

    All runs have the same sentences and the same way of answering, and at least one there is; ``acting(run, batch)`` is the
    condition of a run, entered for each batch of its prompts; one that goes by places in the padded prompts
    needs them ``in_one_go``. ``report(done, total, run)`` counts sentences of all runs;
    what it raises ends the work. ``resamples`` (0: no intervals) are drawn with ``seed``. The trials come by run.
    """
    asked = next(iter(runs.values()))
    prompts = {run: held_out.prompts for run, held_out in runs.items()}
    written = generate_each(
        model, tokenizer, prompts, acting, max_new_tokens=asked.max_new_tokens, beams=asked.beams,
        batch_size=asked.batch_size, in_one_go=in_one_go, progress=lambda done, total, run: report(int(done), total, run),
    )  # fmt: skip
    bootstrap = Bootstrap(asked.references, asked.target_language, resamples, seed)
    found = {}
    for run, held_out in runs.items():
        answers = [replace(answer, frame=held_out.frame) for answer in written[run]]
        scored = evaluate(answers, asked.references, asked.target_language, resamples=resamples)
        found[run] = Trial(answers, scored, bootstrap)
    return found


def settings(asked: HeldOut, resamples: int) -> dict[str, Any]:
    """What decided the numbers of all trials, as plain values."""
    return {
        "sentences": len(asked), "target_language": asked.target_language, "max_new_tokens": asked.max_new_tokens,
        "beams": asked.beams, "batch_size": asked.batch_size, "resamples": resamples,
    }  # fmt: skip
