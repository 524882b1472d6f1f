"""Drift map: where the changed rows were, and where they went."""

from dataclasses import asdict

import streamlit as st

from ks_core.study import drift, figures, readable
from pages.parts import charts, downloads, pair, say
from pages.parts.job import make

st.title("Drift map")
study = pair.study()
scan = pair.scan(study)
alpha = pair.alpha()

with st.container(horizontal=True, vertical_alignment="bottom"):
    method = str(
        st.segmented_control(
            "Projection",
            [name.upper() for name in drift.METHODS],
            default="PCA",
            required=True,
            key="map",
            bind="query-params",
            help="PCA is instant. UMAP takes a minute or two, once.",
        )
    ).lower()
    colour = st.selectbox("Colour", list(figures.COLOURS), key="colour", bind="query-params")
    arrows = st.toggle("Arrows for winning tokens", value=True, key="arrows", bind="query-params")
with st.expander("Settings", icon=":material/tune:"), st.container(horizontal=True):
    seed = st.number_input("Seed", min_value=0, max_value=2**31 - 1, value=0, key="map_seed")
    background = st.number_input(
        "Unchanged tokens drawn", min_value=0, max_value=20_000, value=6000, step=1000, key="map_background"
    )
    changed = st.number_input(
        "Changed tokens drawn",
        min_value=3,
        max_value=8000,
        value=2000,
        step=500,
        key="map_changed",
        help="Those with the largest D.",
    )
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
if found is None:
    parameters = {
        "base": study.base_source,
        "tuned": study.tuned_source,
        "content": study.key,
        "settings": asdict(settings),
    }
    st.write("This map has not been made yet. It takes a minute or two on two cores, and is kept.")
    make("drift", parameters, "UMAP", button="Make the UMAP")

strings = study.token_strings()
names = [readable(strings, int(i)) for i in scan.token_ids]
figure = figures.drift_map(
    found,
    statistic=scan.statistic,
    pvalue=scan.pvalue,
    l2=scan.l2,
    winning=scan.winners(alpha),
    token_ids=scan.token_ids,
    tokens=names,
    colour=colour,
    arrows=arrows,
)
signature = str(found.signature.with_fields(alpha=f"{alpha:g}"))
charts.chart(figure, "map-figure", signature)
st.caption(
    f"One fit on base and tuned rows together, made in {found.seconds:.1f} s; unchanged tokens are one point and do not "
    "move. Hover for the token, drag to zoom, double-click to see all again."
)
downloads.signature(signature)
