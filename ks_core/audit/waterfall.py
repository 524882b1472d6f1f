"""The waterfall from base to tuned: what of the gain in likelihood is the ticket's and what the rest's, in the end token and in
the content of either.

Made of the run of the controls, where every step has an interval, or of the ledger's answer, where what is the rest's is the
difference of two measured gains and has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from ks_core.audit.account import Account
from ks_core.audit.figures import PART_COLOURS, PART_NAMES
from ks_core.audit.sentences import NATS, share_of
from ks_core.drawing import BASE, TUNED, labelled, sheet
from ks_core.likelihood.judgement import comparable
from ks_core.likelihood.nats import Draws, Likelihood


@dataclass(frozen=True)
class Step:
    """A step down: of the ``ticket`` or of the ``rest``, in a part of ``likelihood.PARTS``, ``gain`` nats a target token (below 0:
    a step up) with its 95% interval, where it is known."""

    whose: str
    part: str
    gain: float
    low: float | None = None
    high: float | None = None

    @property
    def words(self) -> str:
        """The gain with its interval."""
        said = f"{-self.gain:+.2f}"
        return said if self.low is None or self.high is None else f"{said} [{-self.high:.2f}, {-self.low:.2f}]"


@dataclass(frozen=True)
class Waterfall:
    """From ``base`` to ``tuned``, in nats a target token, by ``steps`` whose gains add up to the difference. ``rows`` are the
    ticket's, ``sentences`` the references; ``source`` says from what run, and ``signature`` is that run's."""

    base: float
    tuned: float
    steps: tuple[Step, ...]
    rows: int
    sentences: int
    source: str
    signature: str

    @property
    def sentence(self) -> str:
        """What the figure shows."""
        said = "; ".join(f"{_who(step, self.rows)} {step.words}" for step in self.steps)
        return (
            f"From {self.base:.2f} {NATS} of the base to {self.tuned:.2f} of the tuned model, on {self.sentences:,} references ({self.source}): "
            f"{said}."
        )


def of_arms(arms: Sequence[Mapping[str, Any]], source: str, signature: str) -> Waterfall | None:
    """Of a run's finished arms: the base, the copied ticket and the given tuned model; ``None`` where one has no likelihood."""
    found = {a["kind"]: a for a in reversed(arms) if not a["error"] and a.get("likelihood")}
    if not {"base", "transfer", "tuned"} <= set(found):
        return None
    base, ticket, tuned = (Likelihood.from_dict(found[kind]["likelihood"]) for kind in ("base", "transfer", "tuned"))
    if len(base) < 2 or not comparable(base, ticket) or not comparable(base, tuned):
        return None
    draws, steps = Draws(len(base)), []
    for whose, before, after in (("ticket", base, ticket), ("rest", ticket, tuned)):
        for part in _parts(base.parts):
            gain = draws.gain(before, after, part)
            steps.append(Step(whose, part, float(gain[0]), *draws.interval(gain)))
    rows = len(found["transfer"].get("rows", []))
    return Waterfall(
        base.nats, base.nats - sum(s.gain for s in steps), tuple(steps), rows, len(base), source, signature
    )


def of_account(account: Account) -> Waterfall | None:
    """Of the ledger's answer; ``None`` where the ticket's own rows are not in it."""
    row = account.ticket
    if row is None:
        return None
    whole, base = account.whole, account.result["base"]
    own = {
        "all": share_of(row["share"]),
        **{p: share_of(row[f"{p}_share"]) for p in ("end", "content") if f"{p}_share" in row},
    }
    parts = _parts([part for part in ("all", "end", "content") if part in own and part in whole])
    steps = [Step("ticket", part, own[part].gain, own[part].gain_low, own[part].gain_high) for part in parts]
    steps += [Step("rest", part, whole[part].gain - own[part].gain) for part in parts]
    return Waterfall(
        base["nats_all"], base["nats_all"] - sum(s.gain for s in steps), tuple(steps), account.rows, account.result["sentences"],
        f"the ledger, job {account.job}", account.result["signature"],
    )  # fmt: skip


def figure(found: Waterfall, brief: bool = False) -> go.Figure:
    """The waterfall, drawn: base and tuned stand on the ground, the steps hang between them. A ``brief`` one fits beside others: it
    lies, with short names, and without intervals."""
    drawn = sheet(
        "" if brief else f"{NATS} (less is better)".capitalize(), NATS.capitalize() if brief else "", height=440
    )
    names = ["base", *(_brief(step) if brief else _short(step, found.rows) for step in found.steps), "tuned"]
    level, told = found.base, set[str]()

    def bar(place: str, length: float, start: float = 0.0, **more: Any) -> None:
        lies = {"y": [place], "x": [length], "orientation": "h"} if brief else {"x": [place], "y": [length]}
        drawn.add_bar(base=[start], textposition="outside", cliponaxis=False, **lies, **more)

    bar(names[0], found.base, name="base", marker={"color": BASE}, text=[f"{found.base:.2f}"], showlegend=False,
        hovertemplate=f"base: {found.base:.2f} nats<extra></extra>")  # fmt: skip
    for name, step in zip(names[1:], found.steps, strict=False):
        bar(
            name, -step.gain, level, name=PART_NAMES[step.part], legendgroup=step.part, showlegend=not brief and step.part not in told,
            marker={"color": PART_COLOURS[step.part], "pattern": {"shape": "" if step.whose == "ticket" else "/"}},
            text=[f"{-step.gain:+.2f}" if brief else step.words],
            hovertemplate=f"{_who(step, found.rows)}: {step.words} nats<extra></extra>",
        )  # fmt: skip
        told.add(step.part)
        level -= step.gain
    bar(names[-1], found.tuned, name="tuned", marker={"color": TUNED}, text=[f"{found.tuned:.2f}"], showlegend=False,
        hovertemplate=f"tuned: {found.tuned:.2f} nats<extra></extra>")  # fmt: skip
    drawn.update_layout(barmode="overlay", bargap=0.25)
    span = [0, (1.25 if brief else 1.12) * max(found.base, found.tuned)]
    if brief:
        drawn.update_xaxes(range=span)
        drawn.update_yaxes(autorange="reversed")
    else:
        drawn.update_yaxes(range=span)
    return labelled(drawn, "From base to tuned: whose gain it is, and in what", found.sentence)


def _parts(parts: Sequence[str]) -> list[str]:
    """The parts that add up: those of a whole, or the whole where it cannot be parted."""
    return [part for part in parts if part != "all"] or ["all"]


def _who(step: Step, rows: int) -> str:
    whose = f"the ticket's {rows:,} rows" if step.whose == "ticket" else "all other rows"
    return f"{whose}, {PART_NAMES[step.part]}"


def _brief(step: Step) -> str:
    return f"{'ticket' if step.whose == 'ticket' else 'rest'}, {PART_NAMES[step.part].removeprefix('the ')}"


def _short(step: Step, rows: int) -> str:
    whose = f"ticket ({rows:,} rows)" if step.whose == "ticket" else "the other rows"
    return f"{whose}:<br>{PART_NAMES[step.part]}"
