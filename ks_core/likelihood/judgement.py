"""Several models judged by the likelihood of the same references: nats with intervals, gains, their parts and shares. No torch.

Every comparison is over the same draws of sentences, and so paired. A model that tokenizes otherwise, or is asked otherwise, is
compared as well, for a reference is as likely as it is in whatever pieces it is read: gains are in nats a target token of the
one that is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.translation.bootstrap import RESAMPLES, SEED, holm, pvalue


def judge(
    found: Mapping[str, Likelihood], against: Sequence[str] = (), whole: str = "", resamples: int = RESAMPLES
) -> dict[str, Any]:
    """What the likelihoods of some models say, as plain values for JSON; empty without any.

    ``arms``: of each by name ``sentences``, ``perplexity``, ``bits_per_character``, and for each of its parts (``all``, and ``end``
    and ``content`` where the tokenizer names an end token) nats a token of that part: ``value, low, high``; and ``of_all``: how many
    of the nats a target token are the end's, and the content's.

    ``gains``: for each of ``against`` that is there, of every other by name: ``all``, ``end`` and ``content`` in nats a target
    token, the latter adding up to the former, each with ``value, low, high``; ``pvalue`` of the whole gain (paired bootstrap,
    two-sided) and ``holm``, the same corrected for all that is compared here; ``shares``: which part of its own gain is the end's
    and the content's; ``of_whole``, where ``whole`` is there: which share of that model's gain it is. Shares are
    ``translation.shares.Share`` as plain values, with bounds where the whole's interval lies above 0.

    ``whole`` is kept as well, and ``resamples`` with ``seed``. One that is of other references, or has no end token where the
    other has one, is not compared.
    """
    if not found:
        return {}
    sizes = sorted({len(one) for one in found.values()})
    draws = {n: Draws(n, resamples if n > 1 else 0) for n in sizes}
    arms = {name: _read_out(one, draws[len(one)]) for name, one in found.items()}
    gains: dict[str, dict[str, Any]] = {}
    for baseline in dict.fromkeys(name for name in against if name in found):
        base = found[baseline]
        full = found.get(whole)
        gains[baseline] = {
            name: _gain(base, own, full if full is not None and comparable(base, full) else None, draws[len(base)])
            for name, own in found.items()
            if name != baseline and comparable(base, own)
        }
    leaves = [gain for own in gains.values() for gain in own.values()]
    for leaf, corrected in zip(leaves, holm([leaf["pvalue"] for leaf in leaves]), strict=True):
        leaf["holm"] = corrected
    return {
        "arms": arms, "gains": gains, "whole": whole if whole in found else "", "resamples": resamples, "seed": SEED,
    }  # fmt: skip


def comparable(one: Likelihood, other: Likelihood) -> bool:
    """Whether two are of the same references, as far as their lengths tell, and both with an end or both without."""
    same = len(one) == len(other) and bool((one.characters == other.characters).all())
    return same and (one.end is None) == (other.end is None)


def _read_out(found: Likelihood, draws: Draws) -> dict[str, Any]:
    return {
        "sentences": len(found), "perplexity": found.perplexity, "bits_per_character": found.bits_per_character,
        **{part: _bounded(draws.nats(found, part), draws) for part in found.parts},
        "of_all": {part: float(found.summed(part).sum() / found.counted().sum()) for part in found.parts[1:]},
    }  # fmt: skip


def _gain(base: Likelihood, own: Likelihood, full: Likelihood | None, draws: Draws) -> dict[str, Any]:
    parts = {part: draws.gain(base, own, part) for part in base.parts}
    found: dict[str, Any] = {part: _bounded(won, draws) for part, won in parts.items()}
    found["pvalue"] = pvalue(parts["all"])
    found["shares"] = {part: asdict(draws.part_of_gain(base, own, part)) for part in base.parts[1:]}
    if full is not None and full is not own:
        found["of_whole"] = asdict(draws.share(base, own, full))
    return found


def _bounded(values: Any, draws: Draws) -> dict[str, float | None]:
    """A value with its 95% interval; without bounds where nothing was drawn."""
    if len(values) == 1:
        return {"value": float(values[0]), "low": None, "high": None}
    low, high = draws.interval(values)
    return {"value": float(values[0]), "low": low, "high": high}
