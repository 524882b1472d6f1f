"""Strength by answers: how the effect of a trained delta grows while its rows go from the base's to the tuned ones, and beyond.

The best of several strengths is a maximum, and on the sentences that it was found on it flatters itself. So the panel looks
for it on development sentences, and scores what was chosen, beside strength 1 and the base, on the test's.

>>> swept = sweep(model, tokenizer, asked, rows={"ticket": ids})
>>> [(p.strength, p.evaluation.scores["raw"]["chrf"].value) for p in swept.points]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ks_core.audit.delta import acting
from ks_core.audit.material import Material
from ks_core.audit.strength import STRENGTHS, check, count
from ks_core.audit.writing.trials import run_trials, settings
from ks_core.likelihood.scorer import Report, silent
from ks_core.translation.bootstrap import RESAMPLES
from ks_core.translation.evaluation import HeldOut, check_length, held_out
from ks_core.translation.scores import Evaluation
from ks_core.translation.shares import Share, shares

#: By which metric and extraction rule a strength is chosen.
CHOSEN_BY = ("chrf", "first_line")


@dataclass(frozen=True)
class StrengthPoint:
    """One set of rows at one strength: its answers, in the order of the prompts, and their scores."""

    rows: str
    #: How many rows act.
    count: int
    strength: float
    evaluation: Evaluation
    texts: tuple[str, ...]


@dataclass(frozen=True)
class StrengthSweep:
    """Every set of rows at every strength, set by set, with the settings that decided the numbers.

    Of a panel: ``chosen`` is the ticket's best strength there, ``claimed`` its points at 0, 1 and ``chosen`` on the test's
    sentences (of which ``claim_settings`` tell), and ``over_one`` what ``chosen`` gains there over strength 1.
    """

    points: tuple[StrengthPoint, ...]
    settings: dict[str, Any]
    chosen: float | None = None
    claimed: tuple[StrengthPoint, ...] = ()
    claim_settings: dict[str, Any] | None = None
    over_one: dict[str, dict[str, Share]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def sweep(
    model: Any,
    tokenizer: Any,
    asked: HeldOut,
    *,
    strengths: Sequence[float] = STRENGTHS,
    rows: Mapping[str, Sequence[int] | None] | None = None,
    resamples: int = RESAMPLES,
    report: Report = silent,
) -> StrengthSweep:
    """Translate and score at each strength, for each named set of rows.

    ``rows`` maps names to token ids (``None``: all changed rows), for example ``{"all": None, "ticket":
    ids}``. Strength 0 is the base whatever the rows, so it is written once. Raises ``TicketError`` for rows that
    the delta has not or a set that is empty, ``SettingsError`` for strengths that cannot be.
    """
    sets = {"all": None} if rows is None else dict(rows)
    check(model, sets, strengths)
    # Strength 0 is the base whatever the rows, so all sets share it.
    keys = {(name, a): "the base" if a == 0 else f"strength {a:.10g}, rows: {name}" for name in sets for a in strengths}
    how = {key: (sets[name], a) for (name, a), key in keys.items()}
    trials = run_trials(
        model, tokenizer, dict.fromkeys(how, asked), lambda key, _: acting(model, *how[key]), resamples=resamples,
        report=report,
    )  # fmt: skip
    points = []
    for (name, strength), key in keys.items():
        found = trials[key]
        points.append(StrengthPoint(name, count(model, sets[name]), float(strength), found.evaluation, found.texts))
    return StrengthSweep(tuple(points), settings(asked, resamples))


def claim(
    model: Any,
    tokenizer: Any,
    asked: HeldOut,
    swept: StrengthSweep,
    *,
    name: str,
    ids: Sequence[int] | None,
    resamples: int = RESAMPLES,
    report: Report = silent,
) -> StrengthSweep:
    """Choose the best strength of a set of rows in a sweep, and score it on the sentences ``asked``, which it has not seen."""
    metric, rule = CHOSEN_BY
    points = [p for p in swept.points if p.rows == name]
    best = max(points, key=lambda p: p.evaluation.scores[rule][metric].value)
    strengths = list(dict.fromkeys((0.0, 1.0, best.strength)))
    keys = {a: "the base" if a == 0 else f"strength {a:.10g}, rows: {name}, test" for a in strengths}
    of_key = {key: a for a, key in keys.items()}
    trials = run_trials(
        model, tokenizer, dict.fromkeys(of_key, asked), lambda key, _: acting(model, ids, of_key[key]), resamples=resamples,
        report=report,
    )  # fmt: skip
    found = {a: trials[key] for a, key in keys.items()}
    return replace(
        swept, chosen=best.strength,
        claimed=tuple(StrengthPoint(name, best.count, a, t.evaluation, t.texts) for a, t in found.items()),
        claim_settings={"part": asked.part, **settings(asked, resamples)},
        over_one=shares(found[best.strength].scores, found[1.0].scores, found[1.0].scores, found[0.0].scores),
    )  # fmt: skip


def panel(material: Material, report: Report) -> dict[str, Any]:
    """What the panel ``strength`` asks of answers: the ticket's rows beside all changed ones on development sentences, and what is claimed of the
    ticket's best strength on the test's. Where nothing is held out for development, both are on the test's."""
    audit, asked = material.audit, material.asked
    looked = asked
    if material.corpus.part("development"):
        looked = held_out(
            material.corpus, audit.prompt, audit.sentences, part="development", max_new_tokens=audit.max_new_tokens
        )
        check_length(material.model, material.tokenizer, looked)
    rows = {"ticket": material.ticket, "all changed rows": None}
    first = (1 + len(rows) * sum(a != 0 for a in STRENGTHS)) * len(looked)
    swept = sweep(
        material.model, material.tokenizer, looked, rows=rows,
        report=lambda done, total, message: report(done, first + 3 * len(asked), message),
    )  # fmt: skip
    swept = replace(swept, settings={"part": looked.part, **swept.settings})
    return claim(
        material.model, material.tokenizer, asked, swept, name="ticket", ids=material.ticket,
        report=lambda done, total, message: report(first + done, first + total, message),
    ).as_dict()  # fmt: skip
