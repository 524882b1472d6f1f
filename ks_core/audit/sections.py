"""The sections of a report: the pair, its test, and one for every question of the audit that was answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ks_core import drawing
from ks_core.audit import control_sentences, figures as panel_figures, tables
from ks_core.audit.gains import cuts
from ks_core.audit.panels import Panel, questions
from ks_core.ks.statistic import critical_value
from ks_core.registry import named
from ks_core.study import figures
from ks_core.study.critical import critical_values
from ks_core.study.scan import Scan, Study, readable, table
from ks_core.tickets import figures as ticket_figures
from ks_core.translation.metrics import TITLES
from ks_core.tuning import comparison, figures as tuning_figures

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ks_core.audit.evidence import Evidence

#: How many tokens the report lists; the page Winning tokens has all of them as a file.
LISTED = 50


@dataclass
class Section:
    """One panel of the report. ``parts`` are HTML."""

    anchor: str
    title: str
    parts: list[str] = field(default_factory=list)
    figures: list[go.Figure] = field(default_factory=list)

    def text(self, *sentences: str) -> None:
        """Paragraphs of plain text."""
        self.parts += [f"<p>{escape(s)}</p>" for s in sentences]

    def figure(self, made: go.Figure, caption: str = "") -> None:
        """A figure that can be zoomed and pointed at, with its description for those who do not see it."""
        self.figures.append(made)
        made.update_layout(template="plotly_white")
        said = drawing.alt(made)
        self.parts.append(
            f'<figure role="group" aria-label="{escape(said)}">'
            + made.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
            + f"<figcaption>{escape(caption or said)}</figcaption></figure>"
        )

    def table(self, rows: Sequence[Mapping[str, Any]], caption: str) -> None:
        """A table; numbers stand on the right."""
        if not rows:
            return
        head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in rows[0])
        body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows)
        self.parts.append(
            f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def of_pair(study: Study) -> Section:
    """What was compared."""
    found = Section("pair", "The pair")
    found.table(
        [
            {
                "": name, "Checkpoint": c.label, "Kind": c.kind, "Rows": c.shape[0], "Values a row": c.shape[1],
                "Stored as": c.dtype, "Content (SHA-256)": c.content_hash[:16],
            }
            for name, c in (("Base", study.base), ("Tuned", study.tuned))
        ],
        "Input embeddings that were compared",
    )  # fmt: skip
    return found


def of_test(study: Study, scan: Scan, alpha: float) -> Section:
    """Which rows moved."""
    found = Section("test", "Which rows moved?")
    critical = critical_value(scan.dim, alpha)
    found.text(
        f"Two-sample Kolmogorov-Smirnov test of every token's row before against after: {scan.dim} values each, exact "
        f"two-sided p. "
        + (
            f"p < {alpha:g} needs D of at least {critical:.4f}."
            if critical <= 1
            else f"No D reaches p < {alpha:g} with rows this narrow."
        ),
        "A tuned row started as its base row, so the two samples are not independent: alpha says how large a shift must "
        "be and is not a false-positive rate.",
    )
    found.figure(figures.pvalue_histogram(scan.pvalue, scan.changed, alpha, log=False))
    largest = table(study, scan, alpha).head(LISTED)
    found.table(
        [
            {
                "Rank": int(r.rank), "Token": r.token, "Id": int(r.token_id), "D": f"{r.statistic:.4f}",
                "p-value": f"{r.pvalue:.3g}", "Shift (L2)": f"{r.l2:.3f}", "Wins": "yes" if r.winner else "",
            }
            for r in largest.itertuples()
        ],
        f"The {len(largest)} largest shifts (␣ is a space, ⏎ a line break)",
    )  # fmt: skip
    return found


def of_evidence(evidence: Evidence) -> Iterator[Section]:
    """A section for each question of the audit that was answered, with what the verdict says of it."""
    for question in questions():
        section = Section(question.name, question.about)
        if isinstance(question, Panel):
            _panel(evidence, section, question)
        else:
            _FILLED[question.name](evidence, section)
        if section.parts:
            section.text(*evidence.sentences(question.name))
            yield section


def _panel(evidence: Evidence, section: Section, panel: Panel) -> None:
    if kept := evidence.panels[panel.name]:
        if panel.table:
            section.table(*named(panel.table)(kept))
        for draw_figure in panel.drawn(kept):
            section.figure(draw_figure())


def _ledger(evidence: Evidence, section: Section) -> None:
    from ks_core.audit import waterfall
    from ks_core.ledger import figures as ledger_figures

    if evidence.waterfall:
        section.figure(waterfall.figure(evidence.waterfall))
    if known := evidence.account:
        section.figure(ledger_figures.gain_curves(known.result))
        section.parts.append(f'<p class="small">Ledger: <code>{escape(known.result["signature"])}</code></p>')


def _termination(evidence: Evidence, section: Section) -> None:
    if evidence.run is None or evidence.gains is None:
        return
    under = control_sentences.prompt_words
    told = [(f"Under {under(evidence.audit.prompt)}", evidence.gains)]
    if evidence.beside and evidence.beside_gains:
        prompt = evidence.beside.request["parameters"]["prompt"]
        told.append((f"The same ticket under {under(prompt)}", evidence.beside_gains))
    for words, gains in told:
        for rows in (tables.ends(gains), tables.stopping(gains)):
            section.table(rows, f"{words}. Paired bootstrap, 95%. {comparison.OVER_SENTENCES}")
    section.table(
        [{"Arm": c.arm, "Source": c.source, "Kept": c.kept or "nothing", "Cut off": c.dropped[:160]}
         for c in cuts(evidence.run, "first_line")],
        "Answers that the rule first_line cuts",
    )  # fmt: skip


def _controls(evidence: Evidence, section: Section) -> None:
    if evidence.run is None or evidence.gains is None:
        return
    if any(gain.nats for gain in evidence.gains):
        section.figure(panel_figures.nats_points(evidence.gains))
    if any(gain.shares for gain in evidence.gains):
        section.figure(panel_figures.gain_points(evidence.gains))
    section.table(tables.controls(evidence.gains), f"Every arm beside the ticket. {comparison.OVER_SENTENCES}")
    section.parts.append(f'<p class="small">Run: <code>{escape(evidence.run.result["signature"])}</code></p>')
    if not any(gain.shares for gain in evidence.gains):
        return
    frame, metric = comparison.table(evidence.run.result), comparison.metric_of(evidence.run.result)
    section.table(
        [
            {
                "Arm": r.arm, "Rows": int(r.rows), "Steps": int(r.steps) if pd.notna(r.steps) else None,
                "Trained values": f"{int(r.trainable):,}",
                **{f"{TITLES[metric]} {rule.replace('_', ' ')}": f"{getattr(r, f'{metric}_{rule}'):.2f} "
                   f"[{getattr(r, f'{metric}_low_{rule}'):.1f}, {getattr(r, f'{metric}_high_{rule}'):.1f}]"
                   for rule in ("raw", "first_line", "prompt_restart")},
                "chrF first line": f"{r.chrf_first_line:.1f} [{r.chrf_low_first_line:.1f}, {r.chrf_high_first_line:.1f}]", "Stops": f"{r.stop_rate:.0%}",
            }
            for r in frame.itertuples()
        ],
        f"Run {evidence.run.id}. {comparison.OVER_SENTENCES}",
    )  # fmt: skip
    section.figure(tuning_figures.score_chart(frame, "chrf", "first_line"))


def _calibration(evidence: Evidence, section: Section) -> None:
    if found := evidence.calibration:
        section.figure(ticket_figures.pvalue_cases(found))
        section.figure(ticket_figures.critical_values(critical_values(evidence.scan), found.dim))
        section.figure(ticket_figures.power_curves(found))
        if evidence.no_noise:
            section.text(f"A training on noise is left out: {evidence.no_noise}.")


def _stability(evidence: Evidence, section: Section) -> None:
    if evidence.stability:
        section.figure(ticket_figures.overlap_heatmap(evidence.stability, "jaccard"))
        section.figure(ticket_figures.top_curves(evidence.stability))


def _ranking(evidence: Evidence, section: Section) -> None:
    if found := evidence.ranking:
        strings = evidence.audit.study.token_strings()
        section.figure(ticket_figures.count_scatter(found, [readable(strings, int(i)) for i in found.token_ids]))
        section.figure(ticket_figures.coefficients(found))
        section.text(found.effect_sentence, found.adjusted_sentence)


#: What fills the section of a question that no panel of the job answers.
_FILLED: dict[str, Callable[[Evidence, Section], None]] = {
    "ledger": _ledger, "termination": _termination, "controls": _controls, "calibration": _calibration, "stability": _stability,
    "ranking": _ranking,
}  # fmt: skip


def _cell(value: Any) -> str:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number:
        words = f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.4g}"
    else:
        words = "" if value is None or value is pd.NA else str(value)
    return f'<td class="n">{words}</td>' if number else f"<td>{escape(words)}</td>"
