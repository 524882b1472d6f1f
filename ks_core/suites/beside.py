"""What was published, beside what suites measured here: row by row, the difference with its interval, and in what the protocols differ.

A share of a gain can be laid beside one of another model, in nats beside one in spBLEU; a score cannot, and is taken of the same language pairs
alone. What is measured is a finished suite that has it: one of the same pairs before others, of more seeds and sentences before fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError
from ks_core.jobs import queue
from ks_core.signature import Signature, versions
from ks_core.suites import published
from ks_core.suites.presets import PRESETS
from ks_core.suites.published import Row
from ks_core.suites.suite import Suite
from ks_core.suites.tables import ALL_PAIRS, WHOLES
from ks_core.tickets import appendix
from ks_core.translation.protocols import PROTOCOLS
from ks_core.translation.shares import Share
from ks_core.values import escaped, table_cell

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.jobs.handle import Job

#: What is typed before every command.
COMMAND = "python -m ks_core "
#: The demo's base, as people call it.
DEMO_MODEL = "SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Measured:
    """A figure of a finished suite: in ``unit``, with its interval where there is one, ``how`` it was made, the ``job`` it is of, and the ``model``
    that it was measured on (empty: on none)."""

    value: float
    unit: str
    how: str
    job: str = ""
    low: float | None = None
    high: float | None = None
    model: str = ""

    @property
    def text(self) -> str:
        """The figure for a person, with its model: most rows are of another one."""
        unit = "%" if self.unit == "%" else ""
        found = _figure(self.value, self.low, self.high, unit) + (f" {self.unit}" if not unit else "")
        return f"{found} ({self.model})" if self.model else found


@dataclass(frozen=True)
class Line:
    """A row of what was published with what was measured here (``None``: nothing); the ``command`` that measures it, and what that costs on this
    machine."""

    row: Row
    measured: Measured | None
    command: str
    cost: str = ""

    @property
    def difference(self) -> tuple[str, float, float | None, float | None] | None:
        """To which source, and measured less published, with the measured figure's interval: of the published one none is known.

        It is to the paper's figure, where that is not known to the replication's, in the unit that was measured.
        """
        one = self.measured
        for source in published.SOURCES if one else ():
            for result in self.row.of(source):
                if one and result.unit == one.unit and (value := result.nearest(one.value)) is not None:
                    low, high = (None if bound is None else bound - value for bound in (one.low, one.high))
                    return source, one.value - value, low, high
        return None

    @property
    def difference_text(self) -> str:
        """The same for a person; empty where there is none."""
        found = self.difference
        if found is None or self.measured is None:
            return ""
        source, value, low, high = found
        unit = " points" if self.measured.unit == "%" else f" {self.measured.unit}"
        return f"{_figure(value, low, high, signed=True)}{unit} to the {source}"

    @property
    def differs(self) -> str:
        """What differs in the protocol, in a sentence or two."""
        found = [self.measured.how] if self.measured else []
        return " ".join([*found, *([self.row.differs] if self.row.differs else [])])

    @property
    def here(self) -> str:
        """What was measured here, or how it would be."""
        if self.measured:
            return self.measured.text
        return (
            f"not run: {self.command}{f' (about {self.cost} here)' if self.cost else ''}" if self.command else "not run"
        )

    @property
    def rank(self) -> int:
        """Where it stands, the unflattering first: what speaks against a claim, then what clearly differs from what was published."""
        _, _, low, high = self.difference or ("", 0.0, None, None)
        clear = low is not None and high is not None and not low <= 0 <= high
        return (0 if self.row.against else 1 if clear else 3) if self.measured else 2 if self.row.against else 4


@dataclass(frozen=True)
class Finished:
    """A finished suite: what was asked, and what came out."""

    suite: Suite
    result: Mapping[str, Any] = field(repr=False)
    job: Job

    @property
    def model(self) -> str:
        """What its base is called."""
        return DEMO_MODEL if demo.is_name(self.suite.base) else self.suite.base


def finished() -> list[Finished]:
    """The suites that are done, in this workspace or shipped with the program, the newest first; what is damaged is left out."""
    found = []
    for job in queue.all_jobs("suite"):
        if job.state == "done":
            try:
                found.append(Finished(Suite.from_dict(job.request["parameters"]), job.result, job))
            except (KSLotteryError, KeyError, TypeError):
                continue
    return found


def lines(
    suites: Sequence[Finished],
    costs: Mapping[str, str] | None = None,
    audits: Mapping[str, tuple[Share, str]] | None = None,
) -> list[Line]:
    """Every row of what was published with what these suites measured, the unflattering first. ``costs`` are those of presets, by name;
    ``audits`` what an audit of the demo says (``audited.shares``), which is taken where no suite says anything."""
    found = []
    for row in published.rows():
        measured = next((one for suite in _nearest(row, suites) if (one := measure(row, suite))), None)
        if row.measure["kind"] == "published":
            measured = _of_tickets()
        elif measured is None and row.id in (audits or {}):
            measured = _of_audit(*(audits or {})[row.id])
        found.append(Line(row, measured, command_of(row), (costs or {}).get(row.suite, "")))
    return sorted(found, key=lambda line: line.rank)


def command_of(row: Row) -> str:
    """What is typed to measure a row; empty where nothing does."""
    if not row.suite:
        return COMMAND + row.command if row.command else ""
    pairs = row.measure.get("pairs", ())
    other = f" --pairs {','.join(pairs)}" if pairs and not set(pairs) <= set(PRESETS[row.suite].pairs) else ""
    return f"{COMMAND}reproduce {row.suite}{other}"


def measure(row: Row, found: Finished) -> Measured | None:
    """What a finished suite says of a row; ``None`` where it does not ask that, or its gain may be nothing."""
    asked = row.measure
    kind, pairs = asked["kind"], asked.get("pairs", ())
    same = set(pairs) <= set(found.suite.pairs) and not demo.is_name(found.suite.base)
    if kind in ("none", "published") or (kind in ("score", "gain", "stops") and not same):
        return None
    place = pairs[0] if same and len(pairs) == 1 else ALL_PAIRS if len(found.suite.pairs) > 1 else found.suite.pairs[0]
    if same and len(pairs) > 1 and set(pairs) != set(found.suite.pairs):
        return None
    told = next((r for r in found.result["rows"] if (r["pair"], r["kind"]) == (place, asked["arm"])), None)
    if told is None:
        return None
    value, low, high, unit, in_what = _of_row(kind, asked, told)
    if value is None:
        return None
    steps = f", {told['steps']:,} steps" if told["steps"] else ""
    seeds, protocol = f"{told['seeds']} seed{'s' * (told['seeds'] != 1)}", PROTOCOLS[told["protocol"]].title
    how = (
        f"Measured {in_what} on {found.model} ({', '.join(found.suite.pairs) if place == ALL_PAIRS else place}; {protocol} protocol{steps}, {seeds}, "
        f"{told['sentences']:,} sentences)."
    )
    return Measured(value, unit, how, found.job.id, low, high, found.model)


def _of_row(kind: str, asked: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[Any, Any, Any, str, str]:
    """Value, interval, unit, and in what it was measured."""
    if kind in ("share", "stopping"):
        column = "end_share" if kind == "stopping" else next(c for c, of in WHOLES.items() if of == asked["of"])
        share = told.get(column)
        if not share or share["low"] is None:
            return None, None, None, "%", ""
        words = "by the end token's share of the gain in likelihood" if kind == "stopping" else "in nats a target token"
        return *(100 * share[n] for n in ("value", "low", "high")), "%", words
    if kind == "stops":
        return (None if told.get("stops") is None else 100 * told["stops"]), None, None, "%", "by its answers"
    scores = told["scores"].get(PROTOCOLS[told["protocol"]].rules[0], {}).get(asked["metric"], {})
    names = ("gain", "gain_low", "gain_high") if kind == "gain" else ("value", "low", "high")
    return *(scores.get(n) for n in names), "spBLEU", "in spBLEU"


def _nearest(row: Row, suites: Sequence[Finished]) -> list[Finished]:
    """Suites in the order in which they are asked: of the same pairs first, then any but the demo's, then those of more seeds and sentences."""
    pairs = set(row.measure.get("pairs", ()))

    def order(one: Finished) -> tuple[bool, bool, int, int]:
        sentences = max((told["sentences"] for told in one.result["rows"]), default=0)
        return not pairs <= set(one.suite.pairs), demo.is_name(one.suite.base), -len(one.suite.seeds), -sentences

    return sorted(suites, key=order)


def _of_audit(share: Share, words: str) -> Measured:
    """A share that the demo's audit found."""
    value, low, high = (None if bound is None else 100 * bound for bound in (share.value, share.low, share.high))
    return Measured(
        value or 0.0, "%", f"Measured in nats a target token by the audit of the demo ({DEMO_MODEL}, en-fr, its own ticket): {words}.",
        low=low, high=high, model=DEMO_MODEL,
    )  # fmt: skip


def _of_tickets() -> Measured:
    """How many tokens stand in all published tickets, counted."""
    tickets = appendix.published().values()
    shared = set.intersection(*map(set, tickets))
    return Measured(len(shared), "rows", "Counted in the six tickets that come with this program.")


def signature(found: Sequence[Line]) -> str:
    """What the lines are made of: the program, and the jobs that measured some."""
    jobs = dict.fromkeys(line.measured.job for line in found if line.measured and line.measured.job)
    return str(Signature({"paper": "arXiv 2402.02801v2", "measured": ", ".join(jobs) or "nothing", **versions()}))


def table(found: Sequence[Line]) -> list[dict[str, str]]:
    """The lines as texts by column, for a page, a file and Markdown alike."""
    return [
        {
            "Result": line.row.title, "Published": line.row.said("paper"), "Replicated": line.row.said("replication"), "Measured here": line.here,
            "Difference": line.difference_text, "What differs": line.differs,
        }
        for line in found
    ]  # fmt: skip


def frame(found: Sequence[Line]) -> pd.DataFrame:
    """The lines with figures as numbers: for CSV, and for whoever computes with them."""
    import pandas as pd

    return pd.DataFrame([
        {
            "id": line.row.id, **told, "measured": line.measured.value if line.measured else None, "unit": line.measured.unit if line.measured else "",
            **dict(zip(("difference_to", "difference", "difference_low", "difference_high"), line.difference or ("", None, None, None), strict=True)),
            "command": line.command, "job": line.measured.job if line.measured else "",
        }
        for line, told in zip(found, table(found), strict=True)
    ])  # fmt: skip


def as_markdown(found: Sequence[Line]) -> str:
    """The lines as a Markdown table."""
    rows = table(found)
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return (
        "\n".join(lines + [f"| {' | '.join(table_cell(escaped(row[name])) for name in head)} |" for row in rows]) + "\n"
    )


def _figure(value: float, low: float | None, high: float | None, mark: str = "", *, signed: bool = False) -> str:
    """A figure with its interval, each with a ``mark`` behind it; one that is a whole number without a digit behind the point.

    >>> _figure(10, 8.25, 12, "%"), _figure(-3.5, -5, 1, signed=True)
    ('10% [8.2%, 12%]', '-3.5 [-5, +1]')
    """

    def told(number: float) -> str:
        return f"{number:{'+' if signed else ''}.1f}".removesuffix(".0") + mark

    return told(value) + ("" if low is None or high is None else f" [{told(low)}, {told(high)}]")
