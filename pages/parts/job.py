"""A job on a page: progress with rate and time left, a cancel button, and the result when it is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pandas as pd
import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.jobs import FINAL, Job, all_jobs, duration, on_nodes, queue_words, requeue, submit
from ks_core.store import Cache, access
from pages.parts import say
from pages.parts.say import plain

#: Seconds in which a result that is not there cannot have left the cache by age.
RECENT = 60.0


def matching(kind: str, parameters: dict[str, Any]) -> Iterator[Job]:
    """The jobs that were asked for exactly this, the newest first."""
    return (job for job in all_jobs(kind) if job.request.get("parameters") == parameters)


def latest(kind: str, parameters: dict[str, Any]) -> Job | None:
    """The newest job that was asked for exactly this."""
    return next(matching(kind, parameters), None)


def finished(kind: str, parameters: dict[str, Any]) -> Job | None:
    """The newest job that was asked for exactly this, if it is done; while it is not, the one that is shipped."""
    found = latest(kind, parameters)
    if found is None or found.state == "done":
        return found
    return next((job for job in matching(kind, parameters) if job.shipped), None)


def make(kind: str, parameters: dict[str, Any], label: str, button: str = "", device: str = "cpu") -> NoReturn:
    """Have a job make what the page lacks: follow it, say how it ended, or start it. Ends the page there.

    With a ``button`` the job starts when that is pressed; without one it starts by itself, once: after a
    failure or a cancel it is the user who starts it again.
    """
    job = latest(kind, parameters)
    state = job.state if job else None
    if access.read_only() and state not in ("queued", "running"):
        say.info(access.NOTHING_STARTS, icon="lock")
        st.stop()
    if job and state in ("queued", "running"):
        follow(job)
        st.stop()
    if job and state == "failed":
        say.error(job.error)
    elif state == "cancelled":
        say.info("This was cancelled before it was finished. What was done is kept.", icon="cancel")
    lost = bool(job and state == "done" and not button and _just_lost(job))
    try:
        if button or lost or state in ("failed", "cancelled"):
            if st.button(button or "Start it again", type="primary", icon=":material/play_arrow:"):
                submit(kind, parameters, label=label, device=device)
                st.rerun()
        else:
            follow(submit(kind, parameters, label=label, device=device))
    except KSLotteryError as error:
        say.error(error)
    st.stop()


def _just_lost(job: Job) -> bool:
    """Whether a job was done only now and what it made is not there, which would start it for ever. Says so."""
    since = time.time() - float(job.status.get("finished", 0))
    if since >= RECENT:
        return False  # it was kept, and has left the cache since: it is made again
    if st.session_state.setdefault(f"looked-{job.id}", 0) < 1:
        st.session_state[f"looked-{job.id}"] += 1
        st.rerun()  # it may have ended after the page had looked into the cache
    say.error(
        f"This was computed just now, but {Cache().folder} does not hold the result: it was cleared meanwhile, or the disk is "
        "full or cannot be written to. Look after that, then start it again."
    )
    return True


def button(label: str, **options: Any) -> bool:
    """A button that starts something; a read-only server says instead that it starts nothing."""
    if access.read_only():
        say.info(access.NOTHING_STARTS, icon="lock")
        return False
    return st.button(label, **options)


def follow(job: Job) -> None:
    """Show a job until it is over, then run the page again. The page itself is not held up.

    The job lives in a process of its own: closing or reloading the page does not touch it.
    """

    @st.fragment(run_every=1.0)
    def view() -> None:
        state = job.state
        if state in FINAL:
            st.rerun()
        job.insist()
        progress = job.progress
        label = job.request.get("label", "")
        st.progress(progress.share, text=f"{plain(label)}: {plain(describe(job))}")
        words = queue_words(job)
        if words:
            st.caption(plain(words))
            _arms_table(job)
        asked = (job.folder / "cancel").exists()
        if access.read_only():
            return
        with st.container(horizontal=True):
            st.button(
                "Stopping …" if asked else "Cancel",
                icon=":material/stop_circle:",
                disabled=asked,
                key=f"cancel-{job.id}",
                on_click=job.cancel,
            )
            if words and on_nodes(job):
                _requeue_button(job)

    view()
    st.caption("This runs in a process of its own: you can reload or leave this page and come back.")


def _arms_table(job: Job) -> None:
    """Each arm of an array: where it stands in the queue, and how far it is."""
    parts = job.parts
    if not parts:
        return
    rows = []
    for part in parts:
        label, place = part.request.get("label", ""), part.place
        doing = describe(part) if part.state == "running" else part.error
        rows.append({
            "Arm": label, "Queue": place.words if place else part.state,
            "Progress": 1.0 if part.state in FINAL else part.progress.share,
            "Doing": doing.partition(f"{label}: ")[2] or doing,
        })  # fmt: skip
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, alt="The arms of this run in the queue",
        column_config={
            "Arm": st.column_config.Column(width=160),
            "Queue": st.column_config.Column(width=250),
            "Progress": st.column_config.ProgressColumn(format="percent", width=110),
            "Doing": st.column_config.Column(width=420),
        },
    )  # fmt: skip


def _requeue_button(job: Job) -> None:
    """Have Slurm start a running job again, on another node or later."""
    if st.button("Requeue", icon=":material/replay:", key=f"requeue-{job.id}",
                 help="Slurm ends it after it has saved, and starts it again when there is room."):  # fmt: skip
        try:
            requeue(job)
        except KSLotteryError as error:
            say.error(error)


def describe(job: Job) -> str:
    """How far a job is, in words: state, message, rate, time left."""
    if job.state == "queued":
        return job.progress.message or "starting"
    progress = job.progress
    parts = [progress.message or "working"]
    if progress.total > 1:
        parts.append(f"{progress.done:,.0f} of {progress.total:,.0f} {progress.unit}".rstrip())
        if progress.rate:
            rate = f"{progress.rate:,.0f}" if progress.rate >= 10 else f"{progress.rate:.2g}"
            parts.append(f"{rate} {progress.unit} a second".replace("  ", " "))
    if progress.seconds_left is not None and progress.done < progress.total:
        parts.append(f"about {duration(progress.seconds_left)} left")
    return ", ".join(parts)
