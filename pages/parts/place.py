"""Where and how a run is computed: this machine or a cluster, how many processes, in which precision. And what that takes."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from ks_core.jobs import PRECISIONS, Allocation, Job, Resources, cluster, devices, duration, submit
from ks_core.store import access
from ks_core.translation import Corpus
from ks_core.tuning import Plan, estimates, memory
from pages.parts import say
from pages.parts.job import follow, matching
from pages.parts.say import plain


def choose(key: str, device: str = "auto") -> tuple[Resources, Allocation | None]:
    """What the widgets describe. What this machine lacks is shown and cannot be chosen; a read-only server starts nothing."""
    if access.read_only():
        return Resources(), None
    with st.spinner("Looking at this machine …"):  # the first time in a server torch has to be loaded for it
        here = devices.select(device).removeprefix("torch:")
    with st.expander("Machine: where and how it is computed", icon=":material/dns:"):
        reason = cluster.why_not()
        on_slurm = st.toggle(
            "Run on a cluster, through Slurm", key=f"{key}_slurm", disabled=bool(reason),
            help="The job goes into Slurm's queue and runs on a node that sees this workspace's folder.",
        )  # fmt: skip
        if reason:
            st.caption(f"Not available here: {plain(reason)}")
        allocation = _allocation(key) if on_slurm and not reason else None
        there = devices.count(here) if allocation is None else allocation.gpus or allocation.cpus
        held = [name for name in PRECISIONS if name == "float32" or allocation or devices.has_bfloat16(here)]
        with st.container(horizontal=True, vertical_alignment="bottom"):
            processes = st.number_input(
                "Processes", 1, max(there, 1), max(allocation.gpus, 1) if allocation else 1, disabled=there < 2,
                key=f"{key}_processes_{there if allocation else 'here'}",
                help="They share each step's pairs and the sentences to translate: a GPU each, or the CPU's cores. Losses, rows and "
                f"scores are those of one process but for rounding. {'' if allocation else f'This machine has {there:,}.'}",
            )  # fmt: skip
            precision = st.selectbox(
                "Precision of the model", held, key=f"{key}_precision",
                help="bfloat16 halves the frozen body. Trained rows and their moments are float32 in either case. It changes "
                "scores a little, and is part of the signature.",
            )  # fmt: skip
        with st.container(horizontal=True):
            checkpointing = st.toggle(
                "Checkpointing", key=f"{key}_checkpointing",
                help="Keeps no activations inside layers and computes them again: less memory, a third to a half more time.",
            )  # fmt: skip
            sharded = st.toggle(
                "Shard the model (FSDP)", key=f"{key}_sharded", disabled=processes < 2,
                help="Spreads the layers over the processes, for a model that fits no single GPU. Rows alone can be trained then.",
            )  # fmt: skip
    return Resources(int(processes), bool(sharded and processes > 1), str(precision), checkpointing), allocation


def _allocation(key: str) -> Allocation:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        named = cluster.partitions()
        partition = st.selectbox("Partition", list(named), key=f"{key}_partition", help="As sinfo lists them.")
        gpus = st.number_input("GPUs", 0, 64, 0, key=f"{key}_gpus", help="Of one node.")
        cpus = st.number_input("Cores", 1, 4096, 2, key=f"{key}_cpus")
        gigabytes = st.number_input(
            "Memory, GB", 0, 1 << 20, 0, key=f"{key}_memory", help="0: what the partition gives."
        )
        most = named.get(str(partition)) or 60 * 24 * 60
        minutes = st.number_input(
            "Time, minutes", 1, most, min(240, most), key=f"{key}_minutes_{partition}",
            help="When it is over, Slurm has the job save, and starts it again in its turn.",
        )  # fmt: skip
    array = st.toggle(
        "Arms side by side, as an array", True, key=f"{key}_array",
        help="Each arm that needs nothing of the others is a task of its own; a last job writes the table.",
    )  # fmt: skip
    return Allocation(str(partition), int(gpus), int(minutes), int(cpus), int(gigabytes), bool(array))


def start(kind: str, parameters: dict, label: str, device: str, allocation: Allocation | None) -> Job:
    """Submit a job to where it was chosen to run."""
    lane = "slurm" if allocation else devices.select(device).removeprefix("torch:")
    return submit(kind, parameters, label=label, device=lane, allocation=allocation)


def time_line(plan: Plan, corpus: Corpus, allocation: Allocation | None) -> bool:
    """How long the plan takes, here or on a node, where that was measured for its model; otherwise nothing. Whether it was."""
    rates = estimates.known(plan, allocation)
    if rates is None:
        return False
    st.write(f"**{plain(estimates.sentence(plan, corpus, rates, allocation))}**")
    parts = estimates.seconds(plan, corpus, rates)
    st.caption(plain("; ".join(f"{name} {duration(seconds)}" for name, seconds in parts if seconds >= 1)))
    return True


def measuring(plan: Plan, allocation: Allocation | None) -> None:
    """Measure how long the plan takes, here or on a node, or follow the job that does."""
    asked = asdict(allocation) if allocation else None
    found = next((j for j in matching("estimate", plan.as_dict()) if j.request.get("allocation") == asked), None)
    if found and found.state in ("queued", "running"):
        follow(found)
        return
    if found and found.state == "failed":
        say.error(found.error)
    if st.button(f"Measure how long this takes {'there' if allocation else 'here'}", icon=":material/timer:"):
        start("estimate", plan.as_dict(), "Measuring", plan.device, allocation)
        st.rerun()
    st.caption(
        "Four steps of training and a few translations: half a minute with the demo's model"
        f"{', once its turn in the queue has come' if allocation else ''}. It is kept for later runs."
    )


def memory_line(plan: Plan, corpus: Corpus, ticket: int, allocation: Allocation | None) -> None:
    """What the plan takes of memory, against what is free here or asked of Slurm, with advice where it does not fit."""
    shape = memory.shape_of(plan.base)
    if shape is None:
        st.caption("How much memory this takes is not known: the model has no config.json that says its shape.")
        return
    work = memory.work_of(plan, corpus, shape, ticket)
    if allocation:
        fits, words = memory.sentence_on_node(shape, plan.resources, work, allocation)
    else:
        device = devices.select(plan.device).removeprefix("torch:")
        fits, words = memory.sentence(shape, plan.resources, work, device)
    if fits:
        st.caption(plain(words))
    else:
        say.warning(words, icon="memory")
