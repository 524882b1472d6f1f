"""What the ledger and the runs of Fine-tune answer of an audit, as it stands on its page: ledger, termination, controls."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from ks_core.audit import (
    Evidence,
    Step,
    control_sentences,
    controls as audit_controls,
    figures as panel_figures,
    gains,
    structural_row,
    tables,
    waterfall,
)
from ks_core.jobs import Allocation, Job
from ks_core.ledger import figures as ledger_figures
from ks_core.translation import EXTRACTION_RULES
from ks_core.tuning import comparison
from pages.parts import charts, job, place, say
from pages.parts.say import plain

NO_CONTROLS = "This panel is made by the run of the controls, which the verdict's card starts."
NO_LEDGER = "The ledger has not been kept for this pair, text and prompt. The verdict's card has the button; the page Which rule? asks for more of it."


def ledger(found: Evidence) -> None:
    """Whose gain it is and in what, then which rows carry it."""
    if steps := found.waterfall:
        charts.chart(partial(waterfall.figure, steps), "audit-waterfall", steps.signature)
        st.write(plain(steps.sentence))
    if not (known := found.account):
        return say.info(NO_LEDGER)
    for sentence in known.sentences:
        st.write(plain(sentence))
    charts.chart(partial(ledger_figures.gain_curves, known.result), "audit-ledger", known.result["signature"])
    for note in known.result["notes"]:
        st.caption(f":material/info: {plain(note)}")
    st.page_link("pages/which_rule.py", label="All rules, row by row", icon=":material/arrow_forward:")
    return None


def termination(found: Evidence) -> None:
    """What stopping explains of each arm's gain, and answers in which the rule matters."""
    if not (found.run and found.gains):
        return say.info(NO_CONTROLS)
    st.write(f"Under {plain(control_sentences.prompt_words(found.audit.prompt))}:")
    _tables(found.gains, "")
    _beside(found)
    for sentence in found.sentences("termination"):
        st.write(plain(sentence))
    if not any(gain.stopping for gain in found.gains):
        return None
    rule = st.segmented_control("Where does this rule cut?", [r for r in EXTRACTION_RULES if r != "raw"], default="first_line",
                                required=True, key="audit_cut_rule")  # fmt: skip
    for cut in gains.cuts(found.run, str(rule)):
        st.markdown(f"**{plain(cut.arm)}** · {plain(cut.source)}  \n{plain(cut.kept) or '*nothing*'} "
                    f":red-background[{plain(cut.dropped[:220])}]")  # fmt: skip
    return None


def _tables(arm_gains: list[gains.Gain], where: str) -> None:
    """Stopping by likelihood and by answers, as far as a run has either."""
    for rows, words, about in (
        (tables.ends(arm_gains), "What of each gain is the end token's", "What a model learns of stopping is the end token's part of its gain."),
        (tables.stopping(arm_gains), "Gains raw and cut", "100% means that nothing of the gain was stopping."),
    ):  # fmt: skip
        if rows:
            st.dataframe(pd.DataFrame(rows), hide_index=True, alt=words + where)
            st.caption(f"Paired bootstrap, 95%. {plain(about)} {comparison.OVER_SENTENCES}")


def _beside(found: Evidence) -> None:
    """The same question under another protocol's prompt, or the button that has it answered."""
    plan = audit_controls.beside(found.audit.controls(structural_row(found.audit)))
    words = control_sentences.prompt_words(plan.prompt)
    if found.beside_gains:
        st.write(f"The same ticket under {plain(words)}:")
        _tables(found.beside_gains, " under another prompt")
        return
    st.write(
        f"What of the gain is stopping holds for this prompt. Under {plain(words)} the ticket was not trained; the panel Prompts reads the "
        "copied one under every prompt."
    )
    step = Step.of_run(plan, "The ticket under another prompt")
    running = job.latest(step.kind, step.parameters)
    if running and running.state in ("queued", "running"):
        job.follow(running)
    elif job.button("Run base and ticket under that prompt", icon=":material/play_arrow:"):
        place.start(step.kind, step.parameters, step.label, plan.device, None)
        st.rerun()


def controls(found: Evidence) -> None:
    """Every arm's gain, so that the ticket stands beside what any rows give."""
    if not (found.run and found.gains):
        return say.info(NO_CONTROLS)
    signature = found.run.result["signature"]
    if any(gain.nats for gain in found.gains):
        charts.chart(partial(panel_figures.nats_points, found.gains), "audit-nats", signature)
    if any(gain.shares for gain in found.gains):
        charts.chart(partial(panel_figures.gain_points, found.gains), "audit-gains", signature)
    st.dataframe(pd.DataFrame(tables.controls(found.gains)), hide_index=True, alt="Every arm beside the ticket")
    st.caption(
        f"95% paired bootstrap. {comparison.OVER_SENTENCES} {plain(found.lengths)} The whole comparison is on the page Fine-tune, "
        f"run {plain(found.run.id)}."
    )
    return None


def going_on(step: Step) -> Job | None:
    """The job of the audit that waits or runs for a step, if there is one."""
    found = job.latest(step.kind, step.parameters)
    return found if found and found.state in ("queued", "running") else None


def step_button(step: Step, words: str, about: str, device: str, allocation: Allocation | None) -> None:
    """Start a job of the audit, or follow it. ``about`` says what it does."""
    running = job.latest(step.kind, step.parameters)
    if running and running.state in ("queued", "running"):
        job.follow(running)
        return
    if running and running.state == "failed":
        say.error(running.error)
    if job.button(plain(words), icon=":material/play_arrow:", key=f"audit-start-{step.kind}"):
        place.start(step.kind, step.parameters, step.label, device, allocation)
        st.rerun()
    st.caption(plain(about))
