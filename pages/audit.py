"""Audit: is the ticket real? The verdict first, then the panel behind each of its sentences."""

from dataclasses import asdict

import streamlit as st

from ks_core.audit import PANELS, Step, account, gather, left, second_seed, structural_row
from ks_core.store import shipped
from ks_core.tuning import ARMS
from pages.parts import audit_panels, audit_runs, audited, downloads, job, pair, place, provenance, tuning_text
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
    found = gather(asked, scan, pair.open_study)


def everything_button() -> None:
    """Start all that is missing, one job after the other."""
    if not audited.is_whole(asked):
        return
    steps = [step for step in left(asked, scan) if audit_runs.going_on(step) is None]
    if len(steps) > 1 and job.button("Run everything", icon=":material/playlist_play:", type="primary"):
        start(steps)
        st.rerun()


def start(steps: list[Step]) -> None:
    """Start jobs of the audit, one after the other, and the calibration beside them."""
    for step in steps:
        place.start(step.kind, step.parameters, step.label, asked.device, allocation)
    audit_panels.start_calibration(study, pair.alpha(), second_seed(asked))


def origin() -> None:
    """What of it came with the program, and the button that makes all of that anew."""
    if not found.shipped:
        return
    with shipped.hidden():
        steps = left(asked, scan)
    made = next(filter(None, map(audit_runs.going_on, steps)), None)
    provenance.mark(found.shipped, lambda: start(steps), made, "audit")


def ledger_button() -> None:
    """Have the ledger kept, or follow it."""
    if audited.is_whole(asked):
        about = "Which rows carry the gain, a training on noise, and the rules that compete with the test: no answer is written, and nothing trained."
        step = Step("rules", account.asked(asked, scan).as_dict(), "Ledger")
        audit_runs.step_button(step, "Run the ledger", about, asked.device, allocation)


def controls_button() -> None:
    """Start the run of the controls, or follow it."""
    if not audited.is_whole(asked):
        return
    plan = asked.controls(structural_row(asked))
    about = f"{len(plan.arms)} arms: {', '.join(dict.fromkeys(ARMS[a.kind].title for a in plan.arms))}."
    step = Step.of_run(plan, f"Controls: {len(plan.arms)} arms")
    audit_runs.step_button(step, "Run the controls", about, plan.device, allocation)
    corpus = tuning_text.read(asdict(plan.corpus))
    place.memory_line(plan, corpus, len(found.ticket), allocation)
    place.time_line(plan, corpus, allocation)


def panels_button() -> None:
    """Start the panels that need the model, or follow them."""
    audited.panels_button(asked, allocation)


def calibration_button() -> None:
    """Start the calibration, or follow it."""
    audit_panels.calibration_button(study, pair.alpha(), second_seed(asked))


audit_panels.card(
    found,
    everything_button,
    {
        "ledger": ledger_button, "controls": controls_button, "calibration": calibration_button, **dict.fromkeys(PANELS, panels_button),
    },
    origin,
)  # fmt: skip
tabs = audit_panels.tabs()
titles = [plain(question.title) for question in tabs]
for tab, question in zip(st.tabs(titles, key=audit_panels.TAB_KEY, bind="query-params"), tabs, strict=True):
    if tab.open:
        with tab:
            audit_panels.draw(found, question)
downloads.signature(str(asked.signature))
