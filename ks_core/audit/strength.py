"""Strength: how the effect of a trained change grows while its rows go from the base's to the tuned ones, and beyond.

The best of several strengths is a maximum, and on the sentences that it was found on it flatters itself. So the panel looks
for it on development references, and claims what was chosen, beside strength 1, of the test's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ks_core.audit.delta import acting
from ks_core.audit.material import Material
from ks_core.audit.reading import Gains, kept, read_each, settings
from ks_core.errors import SettingsError, TicketError
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.references import References
from ks_core.likelihood.rows import rows_of
from ks_core.likelihood.scorer import Report, silent
from ks_core.translation.bootstrap import RESAMPLES

STRENGTHS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5)


def read_strengths(
    model: Any,
    looked: References,
    claimed: References,
    *,
    rows: Mapping[str, Sequence[int] | None],
    strengths: Sequence[float] = STRENGTHS,
    known: tuple[Likelihood, Likelihood] | None = None,
    resamples: int = RESAMPLES,
    report: Report = silent,
) -> dict[str, Any]:
    """Read references at each strength for each named set of rows, choose the first set's best, and read others there.

    ``rows`` maps names to token ids (``None``: all changed rows). ``points`` has ``rows``, ``count``, ``strength`` and
    ``reading.kept`` on ``looked`` (shares are of that set's gain at strength 1; where 1 is not asked for, of its largest
    strength); ``chosen`` is the strength of the first set with the fewest nats there. ``claimed`` are its points at 1 and
    ``chosen`` on the references ``claimed``, which it has not seen, and ``over_one`` what ``chosen`` gains there over 1, as a
    share of the gain at 1. ``known`` are the first set's ``claimed`` at 0 and 1, where they were read before. As plain values. Raises ``TicketError`` for rows that the change has not or a set that is empty,
    ``SettingsError`` for strengths that cannot be.
    """
    check(model, rows, strengths)
    first, wanted = next(iter(rows)), sorted({0.0, *map(float, strengths)})
    looks = [(name, a) for name in rows for a in wanted]
    before = (1 + sum(a != 0 for _, a in looks)) * len(looked)
    at_most = before + 3 * len(claimed)
    found = _read(model, looked, rows, looks, lambda done, total, message: report(done, at_most, message))
    gains, points = Gains(len(looked), resamples), []
    for name, ids in rows.items():
        base, whole = found[name, 0.0], found[name, 1.0 if 1.0 in wanted else max(wanted)]
        for a in map(float, strengths):
            points.append({
                "rows": name, "count": count(model, ids), "strength": a,
                **kept(found[name, a], gains.of(base, found[name, a], (base, whole))),
            })  # fmt: skip
    chosen = min(map(float, strengths), key=lambda a: found[first, a].nats)
    keys = [(first, a) for a in dict.fromkeys((0.0, 1.0, chosen))]
    there = dict(zip(((first, 0.0), (first, 1.0)), known or (), strict=False))
    own = _read(
        model, claimed, rows, keys, lambda done, total, message: report(before + done, before + total, f"{message}, test"), there
    )  # fmt: skip
    gains, base, whole = Gains(len(claimed), resamples), own[first, 0.0], own[first, 1.0]
    return {
        "points": points, "chosen": chosen,
        "claimed": [
            {"rows": first, "count": points[0]["count"], "strength": key[1], **kept(own[key], gains.of(base, own[key], (base, whole)))}
            for key in keys
        ],
        "over_one": kept(own[first, chosen], gains.of(whole, own[first, chosen], (base, whole)))["nats"],
        "settings": settings(looked, resamples), "claim_settings": settings(claimed, resamples),
    }  # fmt: skip


def check(model: Any, rows: Mapping[str, Sequence[int] | None], strengths: Sequence[float]) -> None:
    """Find out before the first sentence what cannot be. Raises ``TicketError`` for rows that the change has not or a set that is
    empty, ``SettingsError`` for strengths that cannot be."""
    if not rows or not strengths or len(set(strengths)) != len(strengths):
        raise SettingsError(
            f"{len(rows)} sets of rows at the strengths {list(strengths)}. Expected at least one of each, none twice."
        )
    for name, ids in rows.items():
        if ids is not None and not len(ids):
            raise TicketError(f"The set of rows {name!r} is empty: nothing would act. Choose at least one token.")
        for strength in strengths:
            with acting(model, ids, strength):
                pass


def count(model: Any, ids: Sequence[int] | None) -> int:
    """How many rows a set has (``None``: all changed ones)."""
    return len(rows_of(model).ids) if ids is None else len({int(i) for i in ids})


def _read(
    model: Any,
    references: References,
    rows: Mapping[str, Sequence[int] | None],
    keys: Sequence[tuple[str, float]],
    report: Report,
    known: Mapping[tuple[str, float], Likelihood] | None = None,
) -> dict[tuple[str, float], Likelihood]:
    """References at some (set of rows, strength). Strength 0 is the base whatever the rows, so it is read once."""
    words = {key: "the base" if key[1] == 0 else f"strength {key[1]:.10g}, rows: {key[0]}" for key in keys}
    named = {said: key for key, said in words.items()}
    read = read_each(
        model, dict.fromkeys(named, references), lambda said, batch: acting(model, rows[named[said][0]], named[said][1]),
        known={words[key]: one for key, one in (known or {}).items() if key in words}, report=report,
    )  # fmt: skip
    return {key: read[said] for key, said in words.items()}


def panel(material: Material, report: Report) -> dict[str, Any]:
    """The panel ``strength``: the ticket's rows on development references, in a large audit beside all changed ones, and what is
    claimed of the ticket's best strength on the test's. Where nothing is held out for development, both are on the test's."""
    rows: dict[str, list[int] | None] = {"ticket": material.ticket}
    if material.audit.budget == "large":
        rows["all changed rows"] = None
    return read_strengths(
        material.model, material.development, material.test, rows=rows, known=material.ends, report=report
    )
