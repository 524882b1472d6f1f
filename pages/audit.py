"""Audit: is the ticket real? The verdict first, then the panel behind each of its sentences."""

from dataclasses import asdict

import streamlit as st

from ks_core.audit import PANELS, gather, second_seed, structural_row
from ks_core.tuning import ARMS
from pages.parts import audit_panels, audited, downloads, job, pair, place, tuning_form
from pages.parts.say import plain

st.title("Audit")
st.write(
    "A ticket that scores well may have learned little more than to stop. Each panel asks one question that could make "
    "the claim smaller; the verdict above them says only what was run."
)
study = pair.study()
scan = pair.scan(study)

asked, allocation = audited.choose(study)
with audited.explained(), st.spinner("Collecting what is known about this ticket …"):
    found = gather(asked, scan)


def controls_button() -> None:
    """Start the run of the controls, or follow it."""
    if not audited.is_whole(asked):
        return
    plan = asked.controls(structural_row(asked))
    running = job.latest("tune", plan.as_dict())
    if running and running.state in ("queued", "running"):
        job.follow(running)
    elif job.button("Run the controls", icon=":material/play_arrow:", type="primary"):
        label = f"Controls: {len(plan.arms)} arms"
        place.start("tune", plan.as_dict(), label, plan.device, allocation)
        st.rerun()
    st.caption(f"{len(plan.arms)} arms: {plain(', '.join(dict.fromkeys(ARMS[a.kind].title for a in plan.arms)))}.")
    corpus = tuning_form.read(asdict(plan.corpus))
    place.memory_line(plan, corpus, len(found.ticket), allocation)
    place.time_line(plan, corpus, allocation)


def panels_button() -> None:
    """Start the panels that need the model, or follow them."""
    audited.panels_button(asked, allocation)


def calibration_button() -> None:
    """Start the calibration, or follow it."""
    audit_panels.calibration_button(study, pair.alpha(), second_seed(asked))


audit_panels.card(
    found, {"controls": controls_button, "calibration": calibration_button, **dict.fromkeys(PANELS, panels_button)}
)
tabs = audit_panels.tabs()
titles = [plain(question.title) for question in tabs]
for tab, question in zip(st.tabs(titles, key=audit_panels.TAB_KEY, bind="query-params"), tabs, strict=True):
    if tab.open:
        with tab:
            audit_panels.draw(found, question)
downloads.signature(str(asked.signature))
