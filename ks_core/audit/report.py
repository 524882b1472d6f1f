"""A study as one HTML file that needs nothing else: verdict, figures that can be handled, tables, signature.

The first page, printed, is the verdict; every sentence of it links to the panel that its figures come from.
What was not run is named and left out: a report starts nothing.
"""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING

from ks_core import __version__
from ks_core.audit import verdict
from ks_core.audit.sections import Section, of_evidence, of_pair, of_test
from ks_core.errors import one_line
from ks_core.study.scan import Scan, Study
from ks_core.tickets.selection import SELECTION_RULES

if TYPE_CHECKING:
    from ks_core.audit.evidence import Evidence

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


def build(study: Study, scan: Scan, alpha: float, evidence: Evidence | None = None, link: str = "") -> str:
    """The report of a pair: its test, and what ``evidence`` knows of its ticket. ``link``: where the app shows it.

    Raises what reading the evidence's runs raises.
    """
    from plotly.offline import get_plotlyjs

    sections = make_sections(study, scan, alpha, evidence)
    signature = signature_of(scan, alpha, evidence)
    title = one_line(f"{study.tuned.label} against {study.base.label}")
    is_web = link.startswith(("http://", "https://"))  # a browser says it, and may say javascript:
    body = [
        '<div class="first">', f"<h1>{escape(title)}</h1>",
        f'<p class="small">KS-Lottery Explorer {__version__}, {time.strftime("%Y-%m-%d %H:%M", time.gmtime())} UTC</p>',
        _card(scan, alpha, evidence, {s.anchor for s in sections}),
        f'<p class="small">Signature: <code>{escape(signature)}</code></p>',
        f'<p class="small">In the app: <a href="{escape(link)}">{escape(link)}</a></p>' if is_web else "", "</div>",
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
    return [of_pair(study), of_test(study, scan, alpha), *(of_evidence(evidence) if evidence else ())]


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
    needs = verdict.needs()
    missing = [needs[name] for name in (evidence.missing if evidence else needs)]
    not_run = f"<p>Not known, because it was not run: {escape(', '.join(missing))}.</p>" if missing else ""
    ticket = ""
    if evidence and evidence.not_taken:
        not_run += f'<p class="small">{escape(evidence.not_taken)}</p>'
    if evidence:
        ticket = f'<p class="small">Ticket: {len(evidence.ticket):,} rows, {escape(SELECTION_RULES[evidence.audit.rule].about)}</p>'
    if evidence and evidence.shipped:
        not_run += f'<p class="small">{escape(evidence.shipped)}</p>'
    short = f"<p><strong>{escape(evidence.headline)}</strong></p>" if evidence and evidence.headline else ""
    return f'<div class="card"><h2>Verdict</h2>{ticket}{short}<ul>{"".join(said)}</ul>{not_run}</div>'
