"""Drift map: where the changed rows were, and where they went."""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from ks_core.ledger import attributed
from ks_core.study import COLOURS, DriftMap, Rows, drift, map_figures, neighbourhoods, readable
from ks_core.tuning import trainings
from pages.parts import charts, downloads, map_side, pair, provenance, say
from pages.parts.job import make

#: Of so many changed tokens the map is drawn, those with the largest D.
CHANGED = 4000
st.title("Drift map")
study = pair.study()
scan = pair.scan(study)
alpha = pair.alpha()
metric = str(st.session_state.get("near") or "cosine")
replaced = neighbourhoods.cached(study, metric)
counts = trainings.counts(study.tuned_source)
strings = study.token_strings()
rows = Rows(
    scan.statistic, scan.pvalue, scan.l2, scan.winners(alpha), scan.token_ids,
    [readable(strings, int(i)) for i in scan.token_ids],
    None if counts is None else np.array([counts.get(int(i), 0) for i in scan.token_ids], float),
    None if replaced is None else replaced.by_position(len(scan.token_ids)),
    None if (carried := attributed(study)) is None else carried.of(scan.token_ids),
)  # fmt: skip

#: With the settings below as they are: UMAP where it is there, which shows at once; otherwise PCA, which takes no time.
first = "UMAP" if scan.changed.any() and drift.cached(study, drift.Settings("umap", changed=CHANGED)) else "PCA"
VIEWS = {"Drift": map_figures.drift_map, "Morph": map_figures.morph, "Side by side": map_figures.side_by_side}
with st.container(horizontal=True, vertical_alignment="bottom"):
    method = str(
        st.segmented_control(
            "Projection", [name.upper() for name in drift.METHODS], default=first, required=True, key="map", bind="query-params",
            help="PCA is instant. UMAP takes some twenty seconds, once.",
        )
    ).lower()  # fmt: skip
    shown = str(
        st.segmented_control("View", list(VIEWS), default="Drift", required=True, key="view", bind="query-params")
    )
    colour = st.selectbox("Colour", [c for c in COLOURS if c in rows.measures], key="colour", bind="query-params")
    arrows = st.toggle("Arrows", value=True, key="arrows", bind="query-params", help="Of winning tokens.")
    names = st.toggle(
        "Names", value=True, key="names", bind="query-params", help="Of winning tokens, where they have room."
    )
    regions = st.toggle(
        "Regions", value=False, key="regions", bind="query-params", help="What stands where the map is densest."
    )
with st.expander("Settings", icon=":material/tune:"), st.container(horizontal=True):
    seed = st.number_input("Seed", min_value=0, max_value=2**31 - 1, value=0, key="map_seed")
    vocabulary = len(scan.token_ids)
    background = st.number_input(
        "Unchanged tokens drawn", min_value=0, max_value=max(vocabulary, 6000), value=6000, step=1000, key="map_background",
        help=f"All {vocabulary:,} of the vocabulary can be drawn; a UMAP of so many takes minutes.",
    )  # fmt: skip
    changed = st.number_input(
        "Changed tokens drawn", min_value=3, max_value=20_000, value=CHANGED, step=500, key="map_changed", help="Those with the largest D.",
    )  # fmt: skip
    neighbors = st.number_input("UMAP neighbours", min_value=2, max_value=200, value=15, key="map_neighbors")
    min_dist = st.number_input(
        "UMAP minimum distance", min_value=0.0, max_value=0.99, value=0.1, step=0.05, key="map_min_dist"
    )

say.info(drift.EXPLANATION[method], icon="visibility")
if not scan.changed.any():
    say.info("No row changed, so there is no drift to draw.", icon="equal")
    st.stop()

settings = drift.Settings(method, int(seed), int(neighbors), float(min_dist), int(background), int(changed))
found = drift.cached(study, settings)
if found is None and method == "pca":
    with st.spinner("Finding principal components …"):
        found = drift.project(study, scan, settings)
parameters = {
    "base": study.base_source, "tuned": study.tuned_source, "content": study.key, "settings": asdict(settings),
}  # fmt: skip
if found is None:
    st.write("This map has not been made yet. It takes some twenty seconds on two cores, and is kept.")
    make("drift", parameters, "UMAP", button="Make the UMAP")
provenance.of_job(found.shipped, "drift", parameters, settings.method.upper())

signature = str(found.signature.with_fields(alpha=f"{alpha:g}"))


@st.fragment
def station(found: DriftMap) -> None:
    """The map and what stands beside it. A token that is looked for or picked has these drawn again, and nothing else."""
    # Two maps take all of the width, and what stands beside one map then stands below.
    side = shown == "Side by side"
    left, right = (st.container(), st.container()) if side else st.columns([7, 4])
    with right:
        position = map_side.look_for(rows)
        if map_side.metric() != metric:
            st.rerun()  # the map can be coloured by it
        spot, frame = (None, None) if position is None else map_side.near(study, scan, rows, position, metric)
    earlier = map_side.picked(st.session_state.get("map-figure"), rows, found, beside=True) if side else []
    view = map_figures.View(colour, arrows, names, regions, tuple(earlier), spot)
    drawn_around: dict[str, Any] = {} if shown == "Morph" else {"on_select": "rerun"}
    with left:
        event = charts.chart(partial(VIEWS[shown], found, rows, view), "map-figure", signature, **drawn_around)
        st.caption(
            f"One fit on base and tuned rows together, made in {found.seconds:.1f} s; unchanged tokens are one point and do not "
            "move. Drag to pan, scroll to zoom, double-click to see all again; draw around tokens (box or lasso, above the map) to pick them."
        )
        if not map_figures.singly(found).all():
            st.caption(
                f"Of the tokens in grey {map_figures.SINGLE:,} can be pointed at. The others are a picture behind them, and are picked "
                "by drawing around them, or looked for by name."
            )
    with right:
        chosen = map_side.picked(event, rows, found, beside=side) if shown != "Morph" else []
        if position is not None and frame is not None:
            map_side.spot(rows, position, frame, signature, position in map_figures.places(found))
        if chosen:
            map_side.selection(study, scan, rows, chosen, alpha, signature)
    downloads.signature(signature)
    if not chosen and position is None:
        with right:  # last, as it ends the page while there is nothing to show
            map_side.movers(study, scan, rows, metric, signature)


station(found)
