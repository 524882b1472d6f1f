"""Intervals as the program makes them, for any draw of sentences from a population whose true value is known, and how often they cover.

What ``intervals`` simulates: scores of answers, likelihoods, and gains over several trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ks_core.ledger.seeds import SeedDraws
from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.translation.bootstrap import interval
from ks_core.translation.generation import Generation
from ks_core.translation.metrics import Metric, metrics
from ks_core.translation.shares import Share, share

#: An interval, given the places of the sentences that were drawn; ``None`` where the program prints none.
Interval = Callable[[np.ndarray], tuple[float, float] | None]
#: What is simulated with several trainings: how many, and how much more variance they give a mean than the sentences do.
TRAININGS = ((2, 1.0), (3, 0.0), (3, 1.0), (3, 10.0), (5, 1.0), (5, 10.0))


@dataclass(frozen=True)
class Coverage:
    """How often an interval covered: of ``simulations`` it was printed in ``shown``, and covered in ``covered`` of these."""

    simulations: int
    shown: int
    covered: int
    above: int = 0

    @property
    def rate(self) -> float:
        return self.covered / self.shown if self.shown else float("nan")

    @property
    def words(self) -> str:
        """In percent, with how often it was printed where that is not always."""
        if self.shown < 0.05 * self.simulations:
            return "-"
        seldom = "" if self.shown == self.simulations else f" (shown in {self.shown / self.simulations:.0%})"
        return f"{self.rate:.1%}{seldom}"


def coverage(
    made: Interval, truth: float, population: int, sentences: int, simulations: int, seed: int = 1
) -> Coverage:
    """Draw sentences from a population, make the interval of each draw, and count those that hold the true value."""
    drawn = np.random.default_rng(seed)
    shown = covered = above = 0
    for _ in range(simulations):
        found = made(drawn.integers(0, population, sentences))
        if found is not None:
            shown += 1
            covered += found[0] <= truth <= found[1]
            above += truth > found[1]
    return Coverage(simulations, shown, covered, above)


class Scored:
    """A metric's scores of a model's answers under a rule, for any sentences of the population."""

    def __init__(self, metric: Metric, answers: Sequence[Generation], rule: str) -> None:
        self.metric, self.counts = metric, metric.counts([a.answer(rule) for a in answers])

    def all(self) -> float:
        """The score of the population."""
        return float(self.metric.scores(self.counts.sum(axis=0)[None])[0])

    def draws(self, places: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """The scores of draws of some sentences, as ``bootstrap.Bootstrap`` has them, float64 (1 + resamples,)."""
        return self.metric.scores(taken @ self.counts[places])


def of_answers(
    kept: Mapping[str, Sequence[Generation]], references: Sequence[str], language: str, taken: np.ndarray
) -> dict[str, tuple[Interval, float]]:
    """The intervals of scores, gains and shares: name -> (interval, true value)."""
    found: dict[str, tuple[Interval, float]] = {}
    for name, title in (("bleu", "BLEU"), ("chrf", "chrF")):
        metric = metrics(language, references)[name]
        own = {
            (model, rule): Scored(metric, answers, rule)
            for model, answers in kept.items()
            for rule in ("raw", "first_line")
        }
        base, tuned, ticket = (own[model, "first_line"] for model in ("base", "tuned", "ticket"))
        raw = (own["tuned", "raw"], own["base", "raw"])
        found[f"{title} of the base"] = (_score(base, taken), base.all())
        found[f"{title} of the tuned model"] = (_score(tuned, taken), tuned.all())
        found[f"gain in {title}"] = (_gain(ticket, base, taken), ticket.all() - base.all())
        found[f"share of the gain, {title}"] = (
            _share((ticket, base), (tuned, base), taken), (ticket.all() - base.all()) / (tuned.all() - base.all())
        )  # fmt: skip
        found[f"share of the raw gain that stays, {title}"] = (
            _share((tuned, base), raw, taken), (tuned.all() - base.all()) / (raw[0].all() - raw[1].all())
        )  # fmt: skip
    return found


def _score(own: Scored, taken: np.ndarray) -> Interval:
    return lambda places: interval(own.draws(places, taken)[1:])


def _gain(own: Scored, base: Scored, taken: np.ndarray) -> Interval:
    return lambda places: interval((own.draws(places, taken) - base.draws(places, taken))[1:])


def _share(part: tuple[Scored, Scored], whole: tuple[Scored, Scored], taken: np.ndarray) -> Interval:
    def made(places: np.ndarray) -> tuple[float, float] | None:
        gains = [after.draws(places, taken) - before.draws(places, taken) for after, before in (part, whole)]
        return bounds(share(*gains))

    return made


def bounds(found: Share) -> tuple[float, float] | None:
    """A share's interval, where it is shown."""
    return None if found.low is None or found.high is None else (found.low, found.high)


def some(found: Likelihood, places: np.ndarray) -> Likelihood:
    """The likelihood of some of the references."""
    return Likelihood(
        found.content[places], None if found.end is None else found.end[places], found.tokens[places], found.characters[places]
    )  # fmt: skip


def of_nats(kept: Mapping[str, Likelihood], sentences: int, resamples: int) -> dict[str, tuple[Interval, float]]:
    """The same of likelihoods."""
    draws, every = Draws(sentences, resamples), Draws(len(kept["base"]), 0)
    base, tuned, ticket = (kept[model] for model in ("base", "tuned", "ticket"))

    def at(places: np.ndarray) -> list[Likelihood]:
        return [some(found, places) for found in (base, tuned, ticket)]

    def nats(part: str) -> Interval:
        return lambda places: draws.interval(draws.nats(some(tuned, places), part))

    def gain(places: np.ndarray) -> tuple[float, float]:
        own = at(places)
        return draws.interval(draws.gain(own[0], own[2]))

    def difference(places: np.ndarray) -> tuple[float, float]:
        own = at(places)
        return draws.interval(draws.gain(own[0], own[1]) - draws.gain(own[0], own[2]))

    def kept_share(places: np.ndarray) -> tuple[float, float] | None:
        own = at(places)
        return bounds(draws.share(own[0], own[2], own[1]))

    def end_share(places: np.ndarray) -> tuple[float, float] | None:
        own = at(places)
        return bounds(draws.part_of_gain(own[0], own[1], "end"))

    whole = float(every.gain(base, tuned)[0])
    return {
        "nats of the base": (lambda places: draws.interval(draws.nats(some(base, places))), base.nats),
        "nats of the tuned model": (nats("all"), tuned.nats),
        "nats of its end token": (nats("end"), tuned.nats_of("end")),
        "nats of its content": (nats("content"), tuned.nats_of("content")),
        "gain in nats": (gain, float(every.gain(base, ticket)[0])),
        "difference of two gains in nats": (difference, whole - float(every.gain(base, ticket)[0])),
        "share of the gain, nats": (kept_share, float(every.gain(base, ticket)[0]) / whole),
        "share of the gain that is the end token's": (end_share, float(every.gain(base, tuned, "end")[0]) / whole),
    }  # fmt: skip


def hierarchical(
    base: Likelihood, own: Likelihood, sentences: int, seeds: int, ratio: float, resamples: int, seed: int = 2
) -> tuple[Interval, float]:
    """The gain over several trainings: each adds to every sentence's gain an effect of its own, ``ratio`` times as variable as the
    sentences make their mean; what a training does to a sentence by itself adds as much again as one sentence in four has."""
    draws, noise = SeedDraws(sentences, seeds, resamples), np.random.default_rng(seed)
    tokens = base.counted()
    won = base.summed() - own.summed()
    truth = float(won.sum() / tokens.sum())
    spread = float(((won - truth * tokens) / tokens.mean()).std())  # of a sentence's part in the mean
    effect = ratio**0.5 * spread / sentences**0.5

    def made(places: np.ndarray) -> tuple[float, float]:
        before = some(base, places)
        each = noise.normal(0, 1, (seeds, 1)) * effect + noise.normal(0, spread / 4, (seeds, sentences))
        after = [
            Likelihood(before.summed() - won[places] - extra * tokens[places], None, tokens[places], before.characters)
            for extra in each
        ]
        start = Likelihood(before.summed(), None, tokens[places], before.characters)
        return draws.mean(draws.gains([start] * seeds, after)).interval

    return made, truth
