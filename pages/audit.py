"""Audit: is the ticket real? The verdict first, then the panel behind each of its sentences."""

from dataclasses import asdict

import streamlit as st

from ks_core.audit import figures as panel_figures
from ks_core.audit.evidence import gather
from ks_core.audit.inquiry import PANELS, optimizer_sentence, second_seed, structural_row
from ks_core.study.critical_values import critical_sentence, critical_values
from ks_core.tickets import figures as audit_figures
from ks_core.tuning.arms import KINDS
from pages.parts import audit_panels, audited, charts, downloads, job, pair, place, tuning_form

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
    st.caption(f"{len(plan.arms)} arms: {', '.join(dict.fromkeys(KINDS[a.kind][0] for a in plan.arms))}.")
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
signature = str(asked.signature)
names = list(audit_panels.TABS.values())
tabs = dict(zip(names, st.tabs(names, key=audit_panels.TAB_KEY, bind="query-params"), strict=True))
if tabs["Termination"].open and found.run and found.gains:
    with tabs["Termination"]:
        audit_panels.termination(found.run, found.gains)
elif tabs["Controls"].open and found.run and found.gains:
    with tabs["Controls"]:
        audit_panels.controls(found.gains, found.run)
elif tabs["Termination"].open or tabs["Controls"].open:
    tabs["Termination" if tabs["Termination"].open else "Controls"].info(
        "This panel is made by the run of the controls, which the verdict's card starts.", icon=":material/info:"
    )
for tab, name, draw in (
    ("Gating", "gating", panel_figures.recovery_bars),
    ("Prompts", "transfer", panel_figures.transfer_bars),
    ("Strength", "strength", panel_figures.strength_curves),
):
    if not tabs[tab].open:
        continue
    with tabs[tab]:
        st.write(f"**{PANELS[name]}**")
        panel = found.panels[name]
        if panel:
            figure = draw(panel)
            charts.chart(figure, f"audit-{name}", signature)
            st.write(" ".join(found.sentences(name)))
            audit_panels.explain(name)
            downloads.panel(panel, f"audit-{name}")
        else:
            st.info("This panel has not been run. The verdict's card has the button.", icon=":material/info:")
        if name == "strength":
            audit_panels.slider(asked, scan, scan.token_ids[found.ticket].tolist())
if tabs["Calibration"].open:
    with tabs["Calibration"]:
        if found.calibration:
            critical = critical_values(scan)
            audit_panels.calibration(found.calibration, critical, critical_sentence(critical))
        else:
            st.info("The calibration has not been run. The verdict's card has the button.", icon=":material/info:")
if tabs["Stability"].open:
    with tabs["Stability"]:
        if found.stability:
            measure = st.segmented_control("Measure", list(audit_figures.MEASURES), default="jaccard", required=True,
                                           key="audit_measure")  # fmt: skip
            charts.chart(
                audit_figures.overlap_heatmap(found.stability, str(measure)),
                "audit-overlap",
                str(found.stability.signature),
            )
            charts.chart(audit_figures.top_curves(found.stability), "audit-top", str(found.stability.signature))
            st.write(found.stability.sentence)
        else:
            st.info("There is nothing to compare this ticket with. Train Embed Tuning again on the page Fine-tune, with another "
                    "seed, prompt or text, and open one of the runs: the others are then compared with it.",
                    icon=":material/info:")  # fmt: skip
if tabs["Ranking"].open:
    with tabs["Ranking"]:
        if found.ranking:
            audit_panels.ranking(found.ranking, study)
            st.write(optimizer_sentence(asked, scan))
        else:
            st.info("How often each token was trained is not known for this checkpoint, or too few rows changed. Open an arm "
                    "of a run of the page Fine-tune, or the demo, where it is known.", icon=":material/info:")  # fmt: skip
downloads.signature(signature)
