"""The audit's panels as they stand on its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from ks_core.audit import figures as panel_figures
from ks_core.audit import report, verdict
from ks_core.audit.evidence import Evidence
from ks_core.audit.inquiry import Audit
from ks_core.audit.panels import delta_model
from ks_core.jobs.queue import Job, submit
from ks_core.store import access
from ks_core.study.critical_values import Critical
from ks_core.study.scan import Scan, Study, readable
from ks_core.tickets import figures as audit_figures
from ks_core.tickets.calibration import Calibration, Settings
from ks_core.tickets.ranking import Ranking, table
from ks_core.tickets.ticket import RULES
from ks_core.translation.generation import RULES as EXTRACTION
from ks_core.translation.generation import extract, format_prompt
from pages.parts import charts, downloads, job
from pages.parts.tuning_results import plain

EXPLANATIONS = {
    "gating": "One trained change, nothing trained anew: the ticket's rows act only at the tokens of one part of the sequence. "
    "The diamonds say how many tokens there have an acting row: where none has, no effect is no opportunity.",
    "transfer": "The ticket's rows copied into the base, under prompts that it was not trained with, with the base beside it.",
    "strength": "base + a × change: 0 is the base, 1 the ticket as trained, bit for bit.",
}


#: The tab in which a panel of the verdict stands. The certificate has a page of its own.
TABS = {
    "termination": "Termination", "controls": "Controls", "gating": "Gating", "transfer": "Prompts",
    "strength": "Strength", "calibration": "Calibration", "stability": "Stability", "ranking": "Ranking",
}  # fmt: skip
TAB_KEY = "audit_panel"


def card(found: Evidence, runners: Mapping[str, Callable[[], None]]) -> None:
    """The verdict: sentences with the way to their panel, what is missing with the button that runs it, files.

    ``runners``: by panel, what shows the button that makes it. Panels of one job share theirs.
    """
    with st.container(border=True):
        st.header("Verdict", anchor=False)
        ticket = f"{len(found.ticket):,} rows, {RULES[found.audit.rule]}"
        st.caption(f"Ticket: {plain(ticket)}")
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
            st.markdown("**Not known, because it was not run:** "
                        + ", ".join(verdict.NEEDS[name] for name in found.missing) + ".")  # fmt: skip
        for run in dict.fromkeys(runners[name] for name in found.missing if name in runners):
            run()
        signature = str(found.audit.signature)
        with st.container(horizontal=True):
            st.download_button("Verdict as text", verdict.as_text(found.headline, found.findings, found.missing, ticket, signature),
                               "verdict.txt", icon=":material/download:", on_click="ignore")  # fmt: skip
            downloads.report(
                lambda: report.build(found.audit.study, found.scan, found.audit.alpha, found, st.context.url or ""),
                "audit",
            )


def _way_to(panel: str) -> None:
    """From a sentence of the verdict to the panel that its figures come from."""
    if panel == "certificate":
        st.page_link("pages/certificate.py", label="Certificate", icon=":material/arrow_forward:")
    else:
        st.button(
            TABS[panel], key=f"to-{panel}", type="tertiary", icon=":material/arrow_downward:",
            help="Open the panel below that these figures come from.",
            on_click=lambda: st.session_state.update({TAB_KEY: TABS[panel]}),
        )  # fmt: skip


def termination(run: Job, gains: Sequence[verdict.Gain]) -> None:
    """What stopping explains of each arm's gain, and answers in which the rule matters."""
    st.write("**How much of the gain is the model learning to stop?**")
    st.dataframe(pd.DataFrame(verdict.stopping_table(gains)), hide_index=True, alt="Gains under raw and first line")
    st.caption("Paired bootstrap over sentences, 95%. 100% means that nothing of the gain was stopping.")
    rule = st.segmented_control("Where does this rule cut?", [r for r in EXTRACTION if r != "raw"], default="first_line",
                                required=True, key="audit_cut_rule")  # fmt: skip
    for cut in verdict.cuts(run, str(rule)):
        st.markdown(f"**{plain(cut.arm)}** · {plain(cut.source)}  \n{plain(cut.kept) or '*nothing*'} "
                    f":red-background[{plain(cut.dropped[:220])}]")  # fmt: skip


def controls(gains: Sequence[verdict.Gain], run: Job) -> None:
    """Every arm's gain, so that the ticket stands beside what any rows give."""
    st.write("**Would other rows have done as well?**")
    charts.chart(panel_figures.gain_points(gains), "audit-gains", run.result["signature"])
    st.caption(f"95% paired bootstrap. The whole comparison is on the page Fine-tune, run {run.id}.")


def explain(name: str) -> None:
    """What a panel does, in small print."""
    st.caption(EXPLANATIONS[name])


@st.cache_resource(max_entries=1, show_spinner="Loading the model …")
def _delta_model(content: str, _asked: Audit, _scan: Scan) -> tuple[Any, Any]:
    """The base with the changed rows over it, held for all sessions; ``content`` says whose."""
    return delta_model(_asked, _scan)


def slider(asked: Audit, scan: Scan, ticket: Sequence[int]) -> None:
    """base + a * change on sentences of one's choice, translated at once."""
    from ks_core.audit.strength import translate_at

    if access.read_only():  # translating takes the machine as a job does
        return
    text = asked.corpus.load()
    st.write(
        "**Try it**: how do the translations change while the rows move from the base's to the tuned ones, and beyond?"
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        strength = st.slider("Strength a", 0.0, 2.0, 1.0, 0.05, key="audit_strength")
        which = st.segmented_control(
            "Rows", ["ticket", "all changed"], default="ticket", required=True, key="audit_which"
        )
    given = st.text_area("Sentences, one a line", "\n".join(p.source for p in text.held_out[:3]), key="audit_sentences")
    sentences = [line.strip() for line in given.splitlines() if line.strip()][:8]
    if not st.toggle("Translate as the slider moves", key="audit_live", help="Loads the model into the app: a few seconds "
                     "the first time, then a second or two for each position of the slider."):  # fmt: skip
        return
    model, tokenizer = _delta_model(str(asked.study.signature), asked, scan)
    prompts = [format_prompt(asked.prompt, s, text.source_language, text.target_language) for s in sentences]
    with st.spinner("Translating …"):
        answers = translate_at(model, tokenizer, prompts, strength, ids=list(ticket) if which == "ticket" else None)
    for sentence, answer in zip(sentences, answers, strict=True):
        kept = extract(answer.text, "first_line", answer.prompt)
        rest = extract(answer.text, "raw", answer.prompt)[len(kept) :]
        st.markdown(f"{plain(sentence)}  \n**{plain(kept) or '*nothing*'}** :gray[{plain(rest[:160])}] "
                    f"*({'ended' if answer.stopped else 'ran on to the limit'})*")  # fmt: skip


def calibration_button(study: Study, alpha: float, other: Study | None) -> None:
    """Start the calibration, or follow it."""
    parameters = {"base": study.base_source, "tuned": study.tuned_source, "settings": asdict(Settings(alpha=alpha)),
                  "other": other.tuned_source if other else None}  # fmt: skip
    found = job.latest("calibration", parameters)
    if found and found.state in ("queued", "running"):
        job.follow(found)
    elif job.button("Run the calibration", icon=":material/play_arrow:", type="primary"):
        submit("calibration", parameters, label="Calibration")
        st.rerun()
    st.caption("Some seconds: what p is when nothing happened, when noise was added, and for independent samples.")


def calibration(found: Calibration, critical: Sequence[Critical], words: str) -> None:
    """What p means here."""
    signature = str(found.signature)
    st.write("**What does p mean for rows that started as one another?**")
    charts.chart(audit_figures.pvalue_cases(found), "audit-cases", signature)
    st.write(found.pvalue_sentence)
    charts.chart(audit_figures.critical_values(critical, found.dim), "audit-critical", signature)
    st.write(words)
    charts.chart(audit_figures.power_curves(found), "audit-power", signature)
    st.write(found.power_sentence)


def ranking(found: Ranking, study: Study) -> None:
    """What explains D."""
    signature = str(found.signature)
    st.write("**Does D say more than how often a token was trained?**")
    strings = study.token_strings()
    charts.chart(
        audit_figures.count_scatter(found, [readable(strings, int(i)) for i in found.token_ids]),
        "audit-counts",
        signature,
    )
    st.write(found.count_sentence)
    charts.chart(audit_figures.coefficients(found), "audit-coefficients", signature)
    st.write(found.effect_sentence)
    st.write(found.adjusted_sentence)
    for note in found.notes:
        st.caption(note)
    frame = table(found, strings)
    st.dataframe(frame.head(200), hide_index=True, alt="Tokens by D and by D adjusted for what explains it")
    downloads.table(frame, "ranking", str(found.signature))
