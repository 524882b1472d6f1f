"""The audit's panels as they stand on its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import streamlit as st

from ks_core.audit import (
    Evidence,
    Panel,
    Question,
    optimizer_sentence,
    questions,
    report,
    verdict,
)
from ks_core.jobs import submit
from ks_core.study import Study, critical_sentence, critical_values, readable
from ks_core.tickets import SELECTION_RULES, Settings, figures as audit_figures, ranking as rankings
from pages.parts import audit_runs, charts, downloads, job, noise, say
from pages.parts.say import plain

#: Questions that have a page of their own instead of a tab on the page Audit.
PAGES = {"certificate": "pages/certificate.py"}
TAB_KEY = "audit_panel"


def tabs() -> list[Question]:
    """The questions that have a tab."""
    return [question for question in questions() if question.name not in PAGES]


def draw(found: Evidence, question: Question) -> None:
    """A question's tab: what it asks, and what answers it, or what would."""
    st.write(f"**{plain(question.about)}**")
    if isinstance(question, Panel):
        _panel(found, question)
    else:
        _DRAWN[question.name](found)


def card(
    found: Evidence,
    everything: Callable[[], None],
    runners: Mapping[str, Callable[[], None]],
    origin: Callable[[], None],
) -> None:
    """The verdict: sentences with the way to their panel, what is missing with the button that runs it, files.

    ``origin`` says what of it is shipped; ``everything`` shows the button that runs all of it; ``runners``: by panel, what shows the button that makes it. Panels of one job share theirs.
    """
    with st.container(border=True):
        st.header("Verdict", anchor=False)
        ticket = f"{len(found.ticket):,} rows, {SELECTION_RULES[found.audit.rule].about}"
        st.caption(f"Ticket: {plain(ticket)}")
        origin()
        if found.headline:
            st.markdown(f"**{plain(found.headline)}**")
        for panel in dict.fromkeys(f.panel for f in found.findings):
            left, right = st.columns([1, 6], gap="small")
            with left:
                _way_to(panel)
            right.markdown("\n".join(f"- {plain(sentence)}" for sentence in found.sentences(panel)))
        if not found.findings:
            st.write("Nothing has been run for this pair yet.")
        if found.missing:
            needs = verdict.needs()
            st.markdown(
                f"**Not known, because it was not run:** {plain(', '.join(needs[name] for name in found.missing))}."
            )
        if found.not_taken:
            st.caption(plain(found.not_taken))
        if found.missing:
            everything()
        for run in dict.fromkeys(runners[name] for name in found.missing if name in runners):
            run()
        signature = str(found.audit.signature)
        with st.container(horizontal=True):
            st.download_button("Verdict as text", verdict.as_text(found.headline, found.findings, found.missing, ticket, signature, found.shipped),
                               "verdict.txt", icon=":material/download:", on_click="ignore")  # fmt: skip
            downloads.report(
                lambda: report.build(found.audit.study, found.scan, found.audit.alpha, found, st.context.url or ""),
                "audit",
            )


def _way_to(name: str) -> None:
    """From a sentence of the verdict to the panel that its figures come from."""
    title = plain(next(question.title for question in questions() if question.name == name))
    if name in PAGES:
        st.page_link(PAGES[name], label=title, icon=":material/arrow_forward:")
    else:
        st.button(
            title, key=f"to-{name}", type="tertiary", icon=":material/arrow_downward:",
            help="Open the panel below that these figures come from.",
            on_click=lambda: st.session_state.update({TAB_KEY: title}),
        )  # fmt: skip


def _panel(found: Evidence, panel: Panel) -> None:
    """A panel of the job: its figure, what the verdict says of it, how it is read, its file."""
    if kept := found.panels[panel.name]:
        for n, (draw_figure, said) in enumerate(zip(panel.drawn(kept), panel.said(kept), strict=True)):
            name = f"audit-{panel.name}{'-answers' if n else ''}"
            charts.chart(draw_figure, name, str(found.audit.signature))
            st.write(plain(said))
        st.caption(plain(panel.note))
        downloads.panel(kept, f"audit-{panel.name}")
    else:
        say.info("This panel has not been run. The verdict's card has the button.")
    if panel.name == "strength":
        st.page_link("pages/ask.py", label="Move the strength yourself: ask both models", icon=":material/forum:")


def _calibration_of(study: Study, alpha: float, other: Study | None) -> dict[str, Any]:
    """What the job that calibrates is asked."""
    return {
        "base": study.base_source, "tuned": study.tuned_source, "settings": asdict(Settings(alpha=alpha)),
        "other": other.tuned_source if other else None,
    }  # fmt: skip


def start_calibration(study: Study, alpha: float, other: Study | None) -> None:
    """Start the calibration, unless it was made or is being made."""
    parameters = _calibration_of(study, alpha, other)
    found = job.latest("calibration", parameters)
    if found is None or found.state not in ("queued", "running", "done"):
        submit("calibration", parameters, label="Calibration")


def calibration_button(study: Study, alpha: float, other: Study | None) -> None:
    """Start the calibration, or follow it."""
    parameters = _calibration_of(study, alpha, other)
    found = job.latest("calibration", parameters)
    if found and found.state in ("queued", "running"):
        job.follow(found)
    elif job.button("Run the calibration", icon=":material/play_arrow:"):
        submit("calibration", parameters, label="Calibration")
        st.rerun()
    st.caption(
        "Some seconds: what p is when nothing happened, when noise was added, and for independent samples. Where the training is known, then "
        "the same rows trained on noise, which may take a minute or more."
    )


def _calibration(found: Evidence) -> None:
    """What p means here."""
    if not (known := found.calibration):
        return say.info("The calibration has not been run. The verdict's card has the button.")
    signature, critical = str(known.signature), critical_values(found.scan)
    charts.chart(partial(audit_figures.pvalue_cases, known), "audit-cases", signature)
    st.write(plain(known.pvalue_sentence))
    charts.chart(partial(audit_figures.critical_values, critical, known.dim), "audit-critical", signature)
    st.write(plain(critical_sentence(critical)))
    charts.chart(partial(audit_figures.power_curves, known), "audit-power", signature)
    st.write(plain(known.power_sentence))
    noise.said(found.no_noise, known.null_sentence, found.audit.study)
    if not found.no_noise:
        noise.table(found.audit.study, found.scan, found.ticket, signature)


def _stability(found: Evidence) -> None:
    """The ticket beside those of other trainings."""
    if not (known := found.stability):
        return say.info(
            "There is nothing to compare this ticket with. Train Embed Tuning again on the page Fine-tune, with another seed, "
            "prompt or text, and open one of the runs: the others are then compared with it."
        )
    measure = st.segmented_control(
        "Measure", list(audit_figures.MEASURES), default="jaccard", required=True, key="audit_measure"
    )  # fmt: skip
    charts.chart(partial(audit_figures.overlap_heatmap, known, str(measure)), "audit-overlap", str(known.signature))
    charts.chart(partial(audit_figures.top_curves, known), "audit-top", str(known.signature))
    st.write(plain(known.sentence))
    noise.said(found.no_noise, known.noise_sentence)


def _ranking(found: Evidence) -> None:
    """What goes with D."""
    if not (known := found.ranking):
        return say.info(
            "How often each token was trained is not known for this checkpoint, or too few rows changed. Open an arm of a run "
            "of the page Fine-tune, or the demo, where it is known."
        )
    signature, strings = str(known.signature), found.audit.study.token_strings()
    tokens = [readable(strings, int(i)) for i in known.token_ids]
    charts.chart(partial(audit_figures.count_scatter, known, tokens), "audit-counts", signature)
    st.write(plain(known.count_sentence))
    charts.chart(partial(audit_figures.coefficients, known), "audit-coefficients", signature)
    st.write(plain(known.effect_sentence))
    st.write(plain(known.adjusted_sentence))
    for note in known.notes:
        st.caption(plain(note))
    frame = rankings.table(known, strings)
    st.dataframe(frame.head(200), hide_index=True, alt="Tokens by D and by D with what goes with it held fixed")
    downloads.table(frame, "ranking", signature)
    st.write(plain(optimizer_sentence(found.audit, found.scan)))


#: What draws the tab of a question that no panel of the job answers.
_DRAWN: dict[str, Callable[[Evidence], None]] = {
    "ledger": audit_runs.ledger, "termination": audit_runs.termination, "controls": audit_runs.controls,
    "calibration": _calibration, "stability": _stability, "ranking": _ranking,
}  # fmt: skip
