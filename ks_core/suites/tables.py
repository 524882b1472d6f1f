"""A suite's table: what each arm gains over the base, for every pair and protocol and over all pairs, with intervals over seeds and sentences.

Gains are in nats a target token of the references, and in BLEU, chrF and spBLEU of what was written. A draw takes seeds, then sentences
(``ledger.seeds``). The mean over pairs is of draws that are taken for each pair by themselves, as no two share a sentence or a training; the
pairs are those that they are, and are not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ks_core.ledger.seeds import Found
from ks_core.signature import Signature
from ks_core.suites.cell import RESAMPLES, Cell, Done, bounded
from ks_core.suites.suite import Suite
from ks_core.translation.bootstrap import holm
from ks_core.translation.shares import Share, share
from ks_core.tuning.arms import Arm

#: What the mean over all pairs of a suite is called in the column of pairs.
ALL_PAIRS = "all pairs"
#: What stands behind a column's name for a bound of it.
MARKS = {"value": "", "low": "_low", "high": "_high"}
#: Columns of shares of another arm's gain, and the kind of that arm.
WHOLES = {"of_whole": "embed", "of_ticket": "partial"}


def cells(suite: Suite, found: Mapping[int, Done]) -> list[Cell]:
    """The pairs and protocols of a suite that have a run with the base."""
    made = []
    for protocol in suite.protocols:
        for pair in suite.pairs:
            done = [
                found[r.number] for r in suite.runs if (r.pair, r.protocol) == (pair, protocol) and r.number in found
            ]
            if any(arm["kind"] == "base" and arm.get("likelihood") for one in done for arm in one.summary["arms"]):
                made.append(Cell(suite, pair, protocol, done))
    return made


def rows(suite: Suite, found: Mapping[int, Done]) -> list[dict[str, Any]]:
    """The table as plain values: a row for each pair, protocol and arm, and for all pairs of a protocol together.

    ``pair, protocol, arm, kind``; ``rows`` that were laid over the base (the fewest and the most), ``steps``; ``seeds``, ``sentences``; ``nats`` a
    target token; ``gain`` over the base with ``low``, ``high``, ``pvalue`` and ``holm`` (over the table); as ``Share``s in plain values ``end_share``,
    the end token's part of the arm's own gain, and those of ``WHOLES``; ``stops``, the share of answers that it ended; ``scores`` by rule and
    metric, with ``value, low, high, gain, gain_low, gain_high``.
    """
    table: list[dict[str, Any]] = []
    made = cells(suite, found)
    for protocol in suite.protocols:
        own = [cell for cell in made if cell.protocol == protocol]
        for cell in own:
            table += [row for arm in suite.arms if (row := _row(arm, [cell]))]
        if len(own) > 1:
            table += [row for arm in suite.arms if (row := _row(arm, own))]
    leaves = [row["gain"] for row in table if row["gain"]]
    for leaf, corrected in zip(leaves, holm([leaf["pvalue"] for leaf in leaves]), strict=True):
        leaf["holm"] = corrected
    return table


def _row(arm: Arm, own: Sequence[Cell]) -> dict[str, Any] | None:
    """The row of an arm for one pair, or for the mean of several; ``None`` where one of them lacks it."""
    is_base, name = arm.kind == "base", arm.name
    if not is_base and not all(name in cell.likelihoods for cell in own):
        return None
    each = [[cell.base] if is_base else cell.likelihoods[name] for cell in own]
    told = [told for cell in own for done in cell.done if (told := done.arm(name))]
    sizes, stops = [len(one.get("rows", [])) for one in told], [cell.stops(name) for cell in own]
    found: dict[str, Any] = {
        "pair": own[0].pair if len(own) == 1 else ALL_PAIRS, "protocol": own[0].protocol, "arm": name, "kind": arm.kind,
        "rows": [min(sizes), max(sizes)], "steps": ((told[0].get("arm") or {}).get("recipe") or {}).get("steps"),
        "seeds": len(each[0]), "sentences": sum(len(cell.base) for cell in own),
        "nats": float(np.mean([np.mean([one.nats for one in likelihoods]) for likelihoods in each])),
        "gain": None, "end_share": None, **dict.fromkeys(WHOLES),
        "stops": None if None in stops else float(np.mean([one for one in stops if one is not None])), "scores": _scores(own, name),
    }  # fmt: skip
    if is_base:
        return found
    found["gain"] = _gain(together([cell.found(name) for cell in own]))
    if all(cell.base.end is not None for cell in own):
        found["end_share"] = asdict(_share(own, name, name, "end"))
    for column, kind in WHOLES.items():
        if all(cell.first(kind) not in ("", name) for cell in own):
            found[column] = asdict(_share(own, name, own[0].first(kind)))
    return found


def _share(own: Sequence[Cell], name: str, of: str, part: str = "all") -> Share:
    """A part of an arm's gain as a share of the gain of the arm ``of``; of several pairs the share of their means."""
    if len(own) == 1:
        return own[0].share(name, part, of)
    gain, whole = (together([cell.found(n, p) for cell in own]) for n, p in ((name, part), (of, "all")))
    return share(gain.draws, whole.draws)


def _scores(own: Sequence[Cell], name: str) -> dict[str, dict[str, Any]]:
    """What an arm's answers score by rule and metric, of several pairs their mean, where all of them have it."""
    each = [cell.scores(name) for cell in own]
    found: dict[str, dict[str, Any]] = {}
    for rule, metric in each[0]:
        if all((rule, metric) in one for one in each):
            scores, gains = ([one[rule, metric][n] for one in each] for n in (0, 1))
            told = bounded(together([s for s in scores if s]))
            if all(gains):
                told |= {f"gain{MARKS[what]}": v for what, v in bounded(together([g for g in gains if g])).items()}
            found.setdefault(rule, {})[metric] = told | {"seeds": scores[0].seeds if scores[0] else 0}
    return found


def together(found: Sequence[Found]) -> Found:
    """The mean of statistics that share neither trainings nor sentences, draw by draw.

    Its variances are the sums of theirs over the square of their number, its degrees of freedom Satterthwaite's of these.
    """
    if len(found) == 1:
        return found[0]
    count = len(found)
    each = [(one.of_seeds + one.of_sentences) / count**2 for one in found]
    below = sum(v**2 / one.freedom for v, one in zip(each, found, strict=True))
    return Found(
        np.mean([one.draws for one in found], axis=0), max(one.seeds for one in found), sum(one.of_seeds for one in found) / count**2,
        sum(one.of_sentences for one in found) / count**2, sum(each) ** 2 / below if below else np.inf,
    )  # fmt: skip


def left_out(suite: Suite, found: Mapping[int, Done]) -> dict[str, str]:
    """What was not carried out of the runs that were, by its name, with the reason."""
    return {
        f"{done.run.label}, {arm['name']}": arm["error"] for done in found.values() for arm in done.summary["arms"] if arm["error"]
    }  # fmt: skip


def signature(suite: Suite, found: Mapping[int, Done]) -> Signature:
    """What decided the table."""
    texts = {done.run.pair: f"{done.corpus.name}@{done.corpus.content_hash[:12]}" for done in found.values()}
    first = next(iter(found.values())).summary["signature"].split("|")
    return Signature({
        "suite": suite.name, "base": next(f for f in first if f.startswith("base:")).removeprefix("base:"),
        "ticket": suite.ticket, "texts": ", ".join(f"{pair} {name}" for pair, name in texts.items()),
        "protocols": ", ".join(suite.protocols), "seeds": ", ".join(map(str, suite.seeds)), "sentences": suite.sentences or "all",
        "arms": ", ".join(arm.name for arm in suite.arms), "resamples": RESAMPLES, **suite.resources.facts(),
    })  # fmt: skip


def _gain(found: Found) -> dict[str, Any]:
    return {
        **bounded(found),
        "pvalue": found.pvalue,
        "holm": None,
        "of_seeds": found.of_seeds,
        "of_sentences": found.of_sentences,
    }
