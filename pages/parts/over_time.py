"""The page Over time: which training is looked at, its figures, and how to get a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from ks_core import drawing
from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError
from ks_core.jobs import FINAL, Job, all_jobs
from ks_core.store import access
from ks_core.study import Study, readable
from ks_core.trajectory import FILE, PLANES, Trajectory, drift_paths, figures, known, open_trajectory, tables
from pages.parts import charts, downloads, say
from pages.parts.say import plain

#: Tokens that one can choose from, and rows of the heat map.
OFFERED, HEAT = 500, 40
#: What a plane of paths is called.
PLANE_NAMES = {"shifts": "Of these shifts", "rows": "Of the rows, as on the map"}
#: The choice of a name of one's own.
OWN = "A recorded file, or a Trainer's output folder"


@dataclass(frozen=True)
class Found:
    """A trajectory that can be looked at: what it is called, where it lies, and the run that is making it."""

    name: str
    source: str
    run: Job | None = None

    @property
    def going_on(self) -> bool:
        return self.run is not None and self.run.state not in FINAL


def choice(study: Study) -> Found | None:
    """The trajectory that is looked at, chosen from those that are known of this base; ``None`` while none is named."""
    every = {found.name: found for found in _known(study)}
    names = [*every, *([] if access.read_only() else [OWN])]
    if not names:
        return None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Training", names, key="trajectory", bind="query-params")
        if name != OWN:
            return every[name]
        named = st.text_input(
            "File or folder", key="trajectory_where", bind="query-params", placeholder=f"~/my-run/{FILE}",
            help="What KSLotteryCallback recorded, or the output folder of a Trainer with checkpoint-* in it.",
        )  # fmt: skip
    return Found(named, named.strip()) if named.strip() else None


def _known(study: Study) -> list[Found]:
    """The trajectory beside the tuned checkpoint, then those of Fine-tune's runs on this base, the newest first."""
    found = []
    beside = known(study.tuned_source)
    if beside:
        found.append(Found(f"The training of {study.tuned.label}", beside))
    for run in all_jobs("tune"):
        if run.request.get("parameters", {}).get("base") != study.base_source:
            continue
        for file in sorted(run.folder.glob(f"arms/*/{FILE}")):
            if str(file) != beside:
                found.append(
                    Found(f"{run.id[:15]}, arm {file.parent.name}: {run.request.get('label', '')}", str(file), run)
                )
    return sorted(found, key=lambda one: not one.going_on)


def explain() -> None:
    """How to get a trajectory, for somebody who has none."""
    say.info(
        "A trajectory is had in three ways. Fine-tune records one of every Embed Tuning; a training of your own records one with a "
        "callback; and checkpoints that a Trainer left are tested one by one: name their folder.",
        icon="timeline",
    )
    st.code(
        "from ks_core import KSLotteryCallback\n\n"
        "trainer = Trainer(model=model, args=args, train_dataset=data, callbacks=[KSLotteryCallback()])\n"
        f"trainer.train()  # writes {FILE} into the output folder",
        language=None,
    )
    st.code("python -m ks_core trajectory BASE OUTPUT_FOLDER --output trajectory.csv", language=None)
    if known(demo.TUNED):
        st.button("Look at the demo's", icon=":material/play_circle:", on_click=_demo)


def _demo() -> None:
    st.session_state.base, st.session_state.tuned = demo.BASE, demo.TUNED
    st.session_state.pop("trajectory", None)


def live(found: Found, study: Study, alpha: float, chosen: Sequence[int]) -> None:
    """The figures of a training that is going on, drawn anew every few seconds."""
    st.caption("This training is going on: the figures follow it.")
    strings = study.token_strings()

    @st.fragment(run_every=4.0)
    def view() -> None:
        if not found.going_on:
            st.rerun()
        try:
            trajectory = open_trajectory(study.base_source, [found.source])
        except KSLotteryError as error:
            say.info(error)
            return
        st.markdown(f"**{plain(trajectory.sentence(alpha))}**")
        tokens, places, hot = _drawn(trajectory, strings, chosen)
        drawn = {
            "size": figures.ticket_size(trajectory, alpha),
            "statistics": figures.statistics(trajectory, tokens, places, alpha),
            "heat": figures.heat(trajectory, tokens, hot),
        }
        for name, figure in drawn.items():
            st.plotly_chart(figure, key=f"live-{name}", alt=drawing.alt(figure))

    view()


def show(found: Found, trajectory: Trajectory, study: Study, alpha: float, chosen: Sequence[int]) -> None:
    """Everything that a trajectory says."""
    strings = study.token_strings()
    signature = str(trajectory.signature.with_fields(alpha=f"{alpha:g}"))
    st.markdown(f"**{plain(trajectory.sentence(alpha))}**")
    for note in trajectory.notes:
        st.caption(f":material/info: {plain(note)}")
    scan = study.cached_scan() if found.source == known(study.tuned_source) else None
    if scan is not None and (parted := trajectory.against(scan, alpha)):
        st.caption(f":material/info: {plain(parted)}")
    tokens, places, hot = _drawn(trajectory, strings, chosen)
    about = signature, study.key, places, hot  # the signature names the recording by its content
    charts.chart(partial(figures.ticket_size, trajectory, alpha), "over-time-size", signature, content=about)
    charts.chart(
        partial(figures.statistics, trajectory, tokens, places, alpha), "over-time-statistics", signature, content=about
    )
    left, right = st.columns(2)
    with left:
        charts.chart(partial(figures.ranks, trajectory, tokens, places), "over-time-ranks", signature, content=about)
    with right:
        charts.chart(partial(figures.first_wins, trajectory, alpha), "over-time-first", signature, content=about)
    charts.chart(partial(figures.heat, trajectory, tokens, hot), "over-time-heat", signature, content=about)
    st.caption(
        "D is the test's statistic against the start, so it may fall again. Ranks are among the rows that moved at all; a line begins where its "
        "row first moved."
    )
    _paths(trajectory, study, chosen, signature)
    st.header("When each token won")
    won = tables.wins(trajectory, strings, alpha)
    st.dataframe(
        won, hide_index=True, height=380, alt="Tokens that won at some point, with the step of the first win and whether they stayed",
        column_config={
            "token_id": st.column_config.NumberColumn("Id", format="%d"), "token": "Token",
            "first_win": st.column_config.NumberColumn("First win", help="The first recorded step with p < alpha."),
            "stays": st.column_config.CheckboxColumn("Stays", help="p < alpha at every recorded step from then on."),
            "times_won": st.column_config.NumberColumn("Points won"),
            "largest": st.column_config.NumberColumn("Largest D", format="%.4f"),
            "statistic": st.column_config.NumberColumn("Last D", format="%.4f"), "pvalue": st.column_config.NumberColumn("Last p", format="%.3g"),
            "touched": st.column_config.NumberColumn("Steps", help="Optimizer steps in which the row had a gradient."),
        },
    )  # fmt: skip
    downloads.table(won, f"wins-{trajectory.signature.short}", signature)
    if trajectory.every_loss:
        st.write("The loss at every recorded step, of all targets, of content and of the end token, in nats a token:")
        downloads.table(tables.losses(trajectory), f"losses-{trajectory.signature.short}", signature)
    downloads.signature(signature)


def _paths(trajectory: Trajectory, study: Study, chosen: Sequence[int], signature: str) -> None:
    """Where the rows that are followed went, on a plane with a slider over the steps."""
    st.header("Where they went")
    if not trajectory.shifts:
        st.caption("This recording holds no row whole, so no path can be drawn. Recordings that are made now do.")
        return
    plane = st.segmented_control(
        "Plane", list(PLANE_NAMES), format_func=PLANE_NAMES.__getitem__, default=PLANES[0], required=True, key="over_time_plane",
    )  # fmt: skip
    found = drift_paths(trajectory, study.base.matrix, chosen, str(plane))
    strings = study.token_strings()
    charts.chart(
        partial(figures.paths, found, [readable(strings, int(i)) for i in found.token_ids]),
        "over-time-paths",
        signature,
    )
    without = len(chosen) - len(found.token_ids)
    st.caption(
        f"Grey are {len(found.background):,} other rows where they stand in the base. The plane of the shifts is the one that shows most of them; in the "
        "plane of the rows, that of a drift map, rows differ most, and a shift need not lie in it. "
        f"This one shows {found.seen:.1%} of the squared shifts: what goes elsewhere is not seen. Between two places that are known a path is straight. "
        + (
            f"{without:,} of the chosen tokens never had one of the largest D at a recorded step, and have no path."
            if without
            else ""
        )
    )


def _drawn(
    trajectory: Trajectory, strings: list[str] | None, chosen: Sequence[int]
) -> tuple[list[str], list[int], list[int]]:
    """The strings of all rows, and the places of those that are followed and of those in the heat map."""
    tokens = [readable(strings, int(i)) for i in trajectory.token_ids]
    places = np.searchsorted(trajectory.token_ids, list(chosen))
    there = [int(p) for p, i in zip(places, chosen, strict=True) if p < len(tokens) and trajectory.token_ids[p] == i]
    return tokens, there, [int(p) for p in trajectory.order()[:HEAT]]
