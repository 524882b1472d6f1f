"""A study as one HTML file that needs nothing else: verdict, figures that can be handled, tables, signature.

The first page, printed, is the verdict; every sentence of it links to the panel that its figures come from.
What was not run is named and left out: a report starts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ks_core import __version__, drawing
from ks_core.audit import verdict
from ks_core.ks.statistic import critical_value
from ks_core.study import figures
from ks_core.study.scan import Scan, Study, readable, table
from ks_core.tickets.ticket import RULES

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ks_core.audit.evidence import Evidence

#: How many tokens the report lists; the page Winning tokens has all of them as a file.
LISTED = 50

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.8rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; border-top: 1px solid #d0d7de; padding-top: 1rem; }
p.small, footer, caption { color: #57606a; font-size: .85rem; } caption { text-align: left; padding-bottom: .3rem; }
table { border-collapse: collapse; font-size: .85rem; margin: .6rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #d0d7de; padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.card { border: 1px solid #d0d7de; border-radius: .5rem; padding: 1rem 1.4rem; } .card h2 { border: none; margin: 0; padding: 0; } .card li { margin-bottom: .35rem; } .card a { white-space: nowrap; }
code { font-size: .8rem; overflow-wrap: anywhere; } a { color: #0b5cad; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } .card { border: none; padding: 0; } .first { break-after: page; } figure, table { break-inside: avoid; } }
figure { margin: .6rem 0; } figcaption { color: #57606a; font-size: .85rem; }
"""


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


def build(study: Study, scan: Scan, alpha: float, evidence: Evidence | None = None, link: str = "") -> str:
    """The report of a pair: its test, and what ``evidence`` knows of its ticket. ``link``: where the app shows it.

    Raises what reading the evidence's runs raises.
    """
    from plotly.offline import get_plotlyjs

    sections = make_sections(study, scan, alpha, evidence)
    signature = signature_of(scan, alpha, evidence)
    title = f"{study.tuned.label} against {study.base.label}"
    body = [
        '<div class="first">', f"<h1>{escape(title)}</h1>",
        f'<p class="small">KS-Lottery Explorer {__version__}, {time.strftime("%Y-%m-%d %H:%M", time.gmtime())} UTC</p>',
        _card(scan, alpha, evidence, {s.anchor for s in sections}),
        f'<p class="small">Signature: <code>{escape(signature)}</code></p>',
        f'<p class="small">In the app: <a href="{escape(link)}">{escape(link)}</a></p>' if link else "", "</div>",
    ]  # fmt: skip
    for section in sections:
        body += [f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>', *section.parts, "</section>"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><main>{''.join(body)}</main><footer>Each figure's numbers carry the signature on the first page.</footer></body></html>"
    )


def make_sections(study: Study, scan: Scan, alpha: float, evidence: Evidence | None = None) -> list[Section]:
    """Every panel for which there is something to show, with its figures."""
    return [_pair(study), _test(study, scan, alpha), *(_evidence(evidence) if evidence else ())]


def signature_of(scan: Scan, alpha: float, evidence: Evidence | None = None) -> str:
    """The signature that the report and its figures carry."""
    return str(evidence.audit.signature if evidence else scan.signature.with_fields(alpha=f"{alpha:g}"))


def _card(scan: Scan, alpha: float, evidence: Evidence | None, anchors: set[str]) -> str:
    winners = int(scan.winners(alpha).sum())
    said = [
        f"<li>{winners:,} of {len(scan.pvalue):,} tokens have p &lt; {alpha:g}; {int(scan.changed.sum()):,} rows changed. "
        '<a href="#test">the test</a></li>'
    ]
    for finding in evidence.findings if evidence else []:
        link = f' <a href="#{finding.panel}">{finding.panel}</a>' if finding.panel in anchors else ""
        said.append(f"<li>{escape(finding.sentence)}{link}</li>")
    missing = [verdict.NEEDS[name] for name in (evidence.missing if evidence else verdict.NEEDS)]
    not_run = f"<p>Not known, because it was not run: {escape(', '.join(missing))}.</p>" if missing else ""
    ticket = ""
    if evidence:
        ticket = f'<p class="small">Ticket: {len(evidence.ticket):,} rows, {escape(RULES[evidence.audit.rule])}</p>'
    short = f"<p><strong>{escape(evidence.headline)}</strong></p>" if evidence and evidence.headline else ""
    return f'<div class="card"><h2>Verdict</h2>{ticket}{short}<ul>{"".join(said)}</ul>{not_run}</div>'


def _pair(study: Study) -> Section:
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


def _test(study: Study, scan: Scan, alpha: float) -> Section:
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


def _evidence(evidence: Evidence) -> Iterator[Section]:
    made: dict[str, Callable[[Evidence, Section], None]] = {
        "termination": _termination, "controls": _controls, "gating": _gating, "transfer": _transfer,
        "strength": _strength, "certificate": _certificate, "calibration": _calibration, "stability": _stability,
        "ranking": _ranking,
    }  # fmt: skip
    for name, fill in made.items():
        section = Section(name, TITLES[name])
        fill(evidence, section)
        if section.parts:
            section.text(*evidence.sentences(name))
            yield section


#: What each panel asks.
TITLES = {
    "termination": "How much of the gain is learning to stop?",
    "controls": "Would other rows have done as well?",
    "gating": "Where in the sequence does the ticket act?",
    "transfer": "Does it survive another prompt?",
    "strength": "How much of its change does it need?",
    "certificate": "Does the ticket model predict what the tuned one does?",
    "calibration": "What does p mean for rows that started as one another?",
    "stability": "Is it the same ticket in another run?",
    "ranking": "Does D say more than how often a token was trained?",
}


def _termination(evidence: Evidence, section: Section) -> None:
    if evidence.run is None or evidence.gains is None:
        return
    section.table(verdict.stopping_table(evidence.gains), "Paired bootstrap over sentences, 95%")
    section.table(
        [{"Arm": c.arm, "Source": c.source, "Kept": c.kept or "nothing", "Cut off": c.dropped[:160]}
         for c in verdict.cuts(evidence.run, "first_line")],
        "Answers that the rule first_line cuts",
    )  # fmt: skip


def _controls(evidence: Evidence, section: Section) -> None:
    if evidence.run is None or evidence.gains is None:
        return
    from ks_core.audit import figures as panel_figures
    from ks_core.tuning import comparison
    from ks_core.tuning import figures as tuning_figures

    section.figure(panel_figures.gain_points(evidence.gains))
    frame = comparison.table(evidence.run.result)
    section.table(
        [
            {
                "Arm": r.arm, "Rows": int(r.rows), "Trained values": f"{int(r.trainable):,}",
                **{f"BLEU {rule.replace('_', ' ')}": f"{getattr(r, f'bleu_{rule}'):.2f} "
                   f"[{getattr(r, f'bleu_low_{rule}'):.1f}, {getattr(r, f'bleu_high_{rule}'):.1f}]"
                   for rule in ("raw", "first_line", "prompt_restart")},
                "chrF first line": f"{r.chrf_first_line:.1f}", "Stops": f"{r.stop_rate:.0%}",
            }
            for r in frame.itertuples()
        ],
        f"Run {evidence.run.id}",
    )  # fmt: skip
    section.figure(tuning_figures.score_chart(frame, "chrf", "first_line"))
    section.parts.append(f'<p class="small">Run: <code>{escape(evidence.run.result["signature"])}</code></p>')


def _gating(evidence: Evidence, section: Section) -> None:
    if panel := evidence.panels["gating"]:
        from ks_core.audit.figures import recovery_bars

        section.figure(recovery_bars(panel))


def _transfer(evidence: Evidence, section: Section) -> None:
    if panel := evidence.panels["transfer"]:
        from ks_core.audit.figures import transfer_bars

        section.figure(transfer_bars(panel))


def _strength(evidence: Evidence, section: Section) -> None:
    if panel := evidence.panels["strength"]:
        from ks_core.audit.figures import strength_curves

        section.figure(strength_curves(panel))


def _certificate(evidence: Evidence, section: Section) -> None:
    if panel := evidence.panels["certificate"]:
        from ks_core.audit.certificate import READINGS, Predictions, by_margin, outcome
        from ks_core.audit.figures import agreement_curve

        found = Predictions(**{k: v for k, v in panel.items() if k in Predictions.__dataclass_fields__})
        rows = []
        for reading, words in READINGS.items():
            said = outcome(found, reading)
            low, high = said.interval()
            rows.append({
                "Rows left out": words, "Tokens": said.tokens, "Certified": said.certified,
                "Certified and agreeing": said.agreeing_certified, "Clopper-Pearson, 95%": f"{low:.1%} to {high:.1%}",
                "Agreeing, all": said.agreeing,
            })  # fmt: skip
        section.table(rows, "The margin condition, under two readings, against what was measured")
        section.figure(agreement_curve(by_margin(found), found.left_out))


def _calibration(evidence: Evidence, section: Section) -> None:
    if found := evidence.calibration:
        from ks_core.study.critical_values import critical_values
        from ks_core.tickets import figures as audit_figures

        section.figure(audit_figures.pvalue_cases(found))
        section.figure(audit_figures.critical_values(critical_values(evidence.scan), found.dim))
        section.figure(audit_figures.power_curves(found))


def _stability(evidence: Evidence, section: Section) -> None:
    if evidence.stability:
        from ks_core.tickets import figures as audit_figures

        section.figure(audit_figures.overlap_heatmap(evidence.stability, "jaccard"))
        section.figure(audit_figures.top_curves(evidence.stability))


def _ranking(evidence: Evidence, section: Section) -> None:
    if found := evidence.ranking:
        from ks_core.tickets import figures as audit_figures

        strings = evidence.audit.study.token_strings()
        section.figure(audit_figures.count_scatter(found, [readable(strings, int(i)) for i in found.token_ids]))
        section.figure(audit_figures.coefficients(found))
        section.text(found.effect_sentence, found.adjusted_sentence)


def _cell(value: Any) -> str:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number:
        words = f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.4g}"
    else:
        words = "" if value is None or value is pd.NA else str(value)
    return f'<td class="n">{words}</td>' if number else f"<td>{escape(words)}</td>"
