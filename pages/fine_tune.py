"""Fine-tune: choose what to compare, start it, watch it, and read the comparison."""

import streamlit as st

from ks_core.checkpoints import whole
from ks_core.errors import KSLotteryError
from ks_core.jobs import Job, all_jobs
from ks_core.store import access
from pages.parts import job, pair, place, tuning_form, tuning_results
from pages.parts.tuning_form import Chosen

st.title("Fine-tune")
st.write(
    "Does the ticket translate as well as the model it came from, and would other rows have done as well? Every arm below "
    "starts from the same base, sees the same sentences and is scored on the same held-out ones."
)
study = pair.study()
runs = all_jobs("tune")
active = next((r for r in runs if r.state in ("queued", "running")), None)

VIEWS = ["Results"] if access.read_only() else ["New run", "Results"]
if st.session_state.pop("tune_go_to_results", False):
    st.session_state.view = "Results"
view = st.segmented_control(
    "View", VIEWS, key="view", required=True,
    default=None if "view" in st.session_state else "Results" if active or "run" in st.query_params else VIEWS[0],
    label_visibility="collapsed", bind="query-params",
)  # fmt: skip


def estimate(chosen: Chosen) -> None:
    """What the plan takes: memory by arithmetic, time by what was measured; a button measures where nothing was."""
    plan = chosen.plan
    place.memory_line(plan, chosen.corpus, chosen.ticket, chosen.allocation)
    if not place.time_line(plan, chosen.corpus, chosen.allocation):
        place.measuring(plan, chosen.allocation)


def start(chosen: Chosen) -> None:
    """Submit the run and go to where it can be watched."""
    plan = chosen.plan
    label = f"{len(plan.arms)} arms on {plan.corpus.name}"
    started = place.start("tune", plan.as_dict(), label, plan.device, chosen.allocation)
    st.session_state.run = started.id
    st.session_state.tune_go_to_results = True
    st.rerun()


def show(found: Job) -> None:
    """One run: its progress while it is going on, its results so far, and how it ended."""
    state = found.state
    if state in ("queued", "running"):
        job.follow(found)
        tuning_results.live(found)
        return
    if state == "failed":
        st.error(found.error, icon=":material/error:")
    elif state == "cancelled":
        st.info("This run was cancelled. The arms that were finished are below.", icon=":material/cancel:")
    if state != "done":
        tuning_results.resume_button(found)
    tuning_results.results(found)


try:
    if view == "New run":
        whole.check(study.base_source)
        chosen = tuning_form.form(study, pair.alpha())
        if chosen:
            with st.container(border=True):
                estimate(chosen)
                if active:
                    st.caption("A run is going on; a new one waits until it is over.")
                if st.button("Start the run", type="primary", icon=":material/play_arrow:"):
                    start(chosen)
    elif not runs:
        st.info(access.NOTHING_STARTS if access.read_only() else
                "There is no run yet. Choose the arms under *New run* and start one.", icon=":material/science:")  # fmt: skip
    else:
        show(tuning_results.choose(runs))
except KSLotteryError as error:
    st.error(str(error), icon=":material/error:")
