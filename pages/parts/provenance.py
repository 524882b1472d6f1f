"""What is said of a result that came with the program, and the button that has it made anew here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.jobs import Job, devices, submit
from ks_core.store import Provenance, access
from pages.parts import job, say
from pages.parts.say import plain


def of_job(found: Provenance | None, kind: str, parameters: dict[str, Any], label: str, device: str = "cpu") -> None:
    """Where a result comes from that a job would make anew, if it is shipped. ``device`` as a run names it, ``auto`` among them."""

    def start() -> None:  # what a machine has is looked up only now: the first time it takes seconds
        submit(kind, parameters, label=label, device=devices.select(device).removeprefix("torch:"))

    if found:
        mark(found.sentence, start, job.latest(kind, parameters), kind)


def mark(sentence: str, start: Callable[[], object], made: Job | None, key: str) -> None:
    """A sentence about what is shipped, and the button that starts making it anew; or how far ``made`` is, the job that does."""
    going_on = made is not None and made.state in ("queued", "running")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f":material/inventory_2: {plain(sentence)}", width="content")
        if not (going_on or access.read_only()) and st.button(
            "Make it anew", icon=":material/refresh:", type="tertiary", key=f"anew-{key}",
            help="Here, on this machine. Until it is done, what is shipped is shown.",
        ):  # fmt: skip
            try:
                start()
                st.rerun()
            except KSLotteryError as error:
                say.error(error)
    if made is None:
        return
    if going_on:
        job.follow(made)
    elif made.state == "failed":
        say.error(made.error)
