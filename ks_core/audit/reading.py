"""Readings: the same references read under several conditions, and what each gains in nats. No answer is written.

What the panels Gating, Prompts and Strength have in common: they differ in what acts while the model reads.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import numpy as np

from ks_core.jobs import sharding, world
from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.likelihood.references import References
from ks_core.likelihood.scorer import Report, batches, collated, made, silent, target_nats
from ks_core.translation.bootstrap import RESAMPLES
from ks_core.translation.shares import Share, share


def read_each(
    model: Any,
    runs: Mapping[str, References],
    acting: Callable[[str, list[int]], AbstractContextManager[Any]],
    *,
    same: Callable[[str, int], Hashable] = lambda run, place: (run, place),
    known: Mapping[str, Likelihood] | None = None,
    report: Report = silent,
) -> dict[str, Likelihood]:
    """The likelihood of each run's references, by run; at least one run there is.

    ``acting(run, batch)`` is the condition of a run, entered for each batch of positions in its references. Two sentences
    with equal ``same(run, place)`` are one, and are read once; runs that are ``known`` already are not read. ``report(done, total, run)`` counts sentences of all runs;
    what it raises ends the work. Processes that work together share the batches.
    """
    keys = {run: [same(run, place) for place in range(len(references))] for run, references in runs.items()}
    found: dict[Hashable, tuple[float, float]] = {}
    for run, one in (known or {}).items():
        ends = one.end if one.end is not None else np.zeros(len(one))
        found |= dict(zip(keys.get(run, ()), zip(one.content.tolist(), ends.tolist(), strict=True), strict=False))
    first: dict[Hashable, tuple[str, int]] = dict.fromkeys(found, ("", -1))
    for run, own in keys.items():
        for place, key in enumerate(own):
            first.setdefault(key, (run, place))
    dealt: list[tuple[str, list[int]]] = []
    for run, references in runs.items():
        wanted = [place for place, key in enumerate(keys[run]) if first[key] == (run, place)]
        dealt += [(run, [wanted[n] for n in batch]) for batch in batches(references, wanted)]
    model.eval()
    total = len(first) - len(found)
    report(0, total, next(iter(runs)))
    for (run, batch), counts, taken in world.deal(dealt, sharding.is_spread(model)):
        references = runs[run]
        with sharding.inference(model), acting(run, batch):
            content, end = target_nats(model, collated(model, references, batch), references.ended)
        if counts:
            nats = zip(content.tolist(), end.tolist(), strict=True)
            found |= {keys[run][place]: pair for place, pair in zip(batch, nats, strict=True)}
        report(sum(len(own) for _, own in dealt[:taken]), total, run)
    found = dict(world.gather(list(found.items())))
    return {run: made(runs[run], np.array([found[key] for key in own])) for run, own in keys.items()}


class Gains:
    """Gains in nats over draws of sentences that all of them share, so that every comparison is paired.

    Raises ``SettingsError`` where likelihoods are not of as many sentences.
    """

    def __init__(self, sentences: int, resamples: int = RESAMPLES) -> None:
        self.draws = Draws(sentences, resamples)

    def of(
        self, before: Likelihood, after: Likelihood, whole: tuple[Likelihood, Likelihood] | None = None
    ) -> dict[str, Share]:
        """What ``after`` gains over ``before``, by part: in nats a target token, and as a share of the gain of ``whole`` (its
        before and after; ``None``: of this very gain). The shares of ``end`` and ``content`` add up to that of ``all``."""
        most = self.draws.gain(*(whole or (before, after)))
        return {part: share(self.draws.gain(before, after, part), most) for part in after.parts}


def kept(found: Likelihood, gained: Mapping[str, Share]) -> dict[str, Any]:
    """A reading as a panel keeps it: nats of each sentence, the read-outs, and what is ``gained`` by part."""
    return {
        "likelihood": found.as_dict(), "read": found.read_out(), "nats": {part: asdict(own) for part, own in gained.items()},
    }  # fmt: skip


def settings(references: References, resamples: int) -> dict[str, Any]:
    """What decided the numbers of a panel's readings, as plain values."""
    return {
        "part": references.part, "sentences": len(references), "tokens": int(references.tokens.sum()), "ended": references.ended,
        "resamples": resamples,
    }  # fmt: skip
