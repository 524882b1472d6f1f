"""Audit: is the ticket real? The verdict first, then the panel behind each of its sentences."""

import streamlit as st

from ks_core import audit_figures, figures, panel_figures, verdict
from ks_core.arms import KINDS
from ks_core.audit import PANELS, optimizer_sentence, ranking, second_seed, stability, structural_row
from ks_core.calibration import Settings, cached, critical_sentence, critical_values
from ks_core.devices import select as device
from ks_core.errors import KSLotteryError, TicketError
from ks_core.jobs import submit
from ks_core.tickets import RULES
from pages.parts import audit_panels, audited, downloads, job, pair

st.title("Audit")
st.write(
    "A ticket that scores well may have learned little more than to stop. Each panel asks one question that could make "
    "the claim smaller; the verdict above them says only what was run."
)
study = pair.study()
scan = pair.scan(study)

asked = audited.choose(study)
try:
    ticket = asked.positions(scan)
    run = asked.run()
    gains = verdict.gains(run) if run else None
    panels = {name: asked.panel(name) for name in PANELS}
    stable, explained = stability(asked, scan), ranking(asked, scan)
    said, missing = verdict.findings(gains, panels, stable, explained)
except TicketError as error:  # an empty ticket is an answer, not a mistake
    st.info(str(error), icon=":material/info:")
    st.stop()
except KSLotteryError as error:
    st.error(str(error), icon=":material/error:")
    st.stop()


def controls_button() -> None:
    """Start the run of the controls, or follow it."""
    plan = asked.controls(structural_row(asked))
    found = job.latest("tune", plan.as_dict())
    if found and found.state in ("queued", "running"):
        job.follow(found)
    elif st.button("Run the controls", icon=":material/play_arrow:", type="primary"):
        submit("tune", plan.as_dict(), label=f"Controls: {len(plan.arms)} arms", device=device(plan.device))
        st.rerun()
    st.caption(f"{len(plan.arms)} arms: {', '.join(dict.fromkeys(KINDS[a.kind][0] for a in plan.arms))}.")


audit_panels.card(said, missing, f"{len(ticket):,} rows, {RULES[asked.rule]}", str(asked.signature))
names = ["Termination", "Controls", "Gating", "Prompts", "Strength", "Calibration", "Stability", "Ranking"]
tabs = dict(zip(names, st.tabs(names), strict=True))
with tabs["Termination"]:
    if run and gains:
        audit_panels.termination(run, gains)
    else:
        controls_button()
with tabs["Controls"]:
    if run and gains:
        audit_panels.controls(gains, run)
    else:
        st.caption("This panel is made by the run that the panel Termination starts.")
for tab, name, draw in (
    ("Gating", "gating", panel_figures.recovery_bars),
    ("Prompts", "transfer", panel_figures.transfer_bars),
    ("Strength", "strength", panel_figures.strength_curves),
):
    with tabs[tab]:
        st.write(f"**{PANELS[name]}**")
        panel = panels[name]
        if panel:
            figure = draw(panel)
            st.plotly_chart(figure, key=f"audit-{name}", alt=figures.alt(figure))
            st.write(next(f.sentence for f in said if f.panel == name))
            audit_panels.explain(name)
            downloads.panel(panel, f"audit-{name}")
        elif name == next(n for n in PANELS if not panels[n]):
            audited.panels_button(asked)
        else:
            st.caption("This panel is made together with the one before it.")
with tabs["Strength"]:
    audit_panels.slider(asked, scan, scan.token_ids[ticket].tolist())
with tabs["Calibration"]:
    other = second_seed(asked)
    found = cached(study, Settings(alpha=pair.alpha()), other)
    if found is None:
        audit_panels.calibration_button(study, pair.alpha(), other)
    else:
        audit_panels.calibration(found, critical_values(scan), critical_sentence(critical_values(scan)))
with tabs["Stability"]:
    if stable:
        measure = st.segmented_control("Measure", list(audit_figures.MEASURES), default="jaccard", required=True,
                                       key="audit_measure")  # fmt: skip
        audit_panels.figure(audit_figures.overlap_heatmap(stable, str(measure)), "overlap")
        audit_panels.figure(audit_figures.top_curves(stable), "top")
        st.write(stable.sentence)
    else:
        st.info("There is nothing to compare this ticket with: the demo brings a second seed, prompt, language and "
                "optimizer, your own pair would need a second training.", icon=":material/info:")  # fmt: skip
with tabs["Ranking"]:
    if explained:
        audit_panels.ranking(explained, study)
        st.write(optimizer_sentence(asked, scan))
    else:
        st.info("How often each token was trained is not known for this checkpoint. Open a run of the page Fine-tune or "
                "the demo, where it is.", icon=":material/info:")  # fmt: skip
downloads.signature(str(asked.signature))
