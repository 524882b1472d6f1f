"""Fine-tune: choose what to compare, start it, watch it, and read the comparison."""

import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.jobs import Job, all_jobs
from ks_core.store import access
from ks_core.tuning import runnable
from pages.parts import job, pair, place, provenance, say, tuning_form, tuning_results
from pages.parts.tuning_form import Chosen

st.title("Fine-tune")
st.write(
    "Does the ticket do as well as the model it came from, and would other rows have done as well? Every arm below "
    "starts from the same base, sees the same sentences and is scored on the same held-out ones."
)
study = pair.study()
runs = all_jobs("tune")
active = next((r for r in runs if r.state in ("queued", "running")), None)

#: In the session: the start was asked for, and not carried out yet.
PRESSED = "tune_pressed"
VIEWS = ["Results"] if access.read_only() else ["New run", "Results"]
#: In the session: what is shown first. A browser that was busy takes what is the default when it comes to it.
FIRST = "tune_first_view"
if FIRST not in st.session_state:
    going = active or "run" in st.query_params or tuning_results.is_shipped_of(runs, study)
    st.session_state[FIRST] = "Results" if going else VIEWS[0]
if st.session_state.pop("tune_go_to_results", False):
    st.session_state.view = "Results"
view = st.segmented_control(
    "View", VIEWS, key="view", required=True, default=st.session_state[FIRST],
    label_visibility="collapsed", bind="query-params",
)  # fmt: skip


def press() -> None:
    """Remember that the button was pressed, until it is carried out: a page that is run anew meanwhile would forget it."""
    st.session_state[PRESSED] = True


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
        say.error(found.error)
    elif state == "cancelled":
        say.info("This run was cancelled. The arms that were finished are below.", icon="cancel")
    if state != "done":
        tuning_results.resume_button(found)
    provenance.of_job(
        found.shipped,
        "tune",
        found.request["parameters"],
        found.request.get("label", ""),
        found.request["parameters"].get("device", "auto"),
    )
    tuning_results.results(found)


try:
    if view == "New run":
        runnable.check(study.base_source)
        above = st.container()
        with st.container(border=True):
            takes = st.container()
            if active:
                st.caption("A run is going on; a new one waits until it is over.")
            # Here at once: what comes above it may wait for the text to be read and the machine to be looked at.
            st.button("Start the run", type="primary", icon=":material/play_arrow:", on_click=press)
        with takes, st.spinner("Estimating how much memory and time this takes …"):
            with above:
                chosen = tuning_form.form(study, pair.alpha())
            if chosen:
                estimate(chosen)
        if st.session_state.pop(PRESSED, False) and chosen:
            start(chosen)
        elif not chosen:
            takes.caption("It can be started when nothing is missing above.")
    elif not runs:
        nothing = "There is no run yet. Choose the arms under New run and start one."
        say.info(access.NOTHING_STARTS if access.read_only() else nothing, icon="science")
    else:
        show(tuning_results.choose(runs))
except KSLotteryError as error:
    say.error(error)
