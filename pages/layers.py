"""Layers: the same test over every tensor of the model."""

from functools import partial

import streamlit as st

from ks_core.ks import critical_value
from ks_core.study import figures, layers
from pages.parts import charts, downloads, pair, provenance
from pages.parts.job import finished, make
from pages.parts.say import plain

st.title("Layers")
st.write(
    "The same test, row by row, over every tensor that both checkpoints have: which layers did fine-tuning shift? A vector "
    "(a norm's weight, a bias) counts as one row. A LoRA is merged on the fly."
)
study = pair.study()
alpha = pair.alpha()
parameters = {"base": study.base_source, "tuned": study.tuned_source, "content": study.key}


@st.cache_resource(max_entries=4, show_spinner="Reading the results …")
def results(base: str, tuned: str, job: str) -> layers.LayerScan:
    """The scan that a job has made: every tensor comes from the cache. A new job is a new result."""
    return layers.scan_layers(base, tuned)


job = finished("layers", parameters)
if job is None:
    st.caption(
        "The whole model is read once: seconds for a small one, minutes for 7 billion parameters. A tensor that is equal on "
        "both sides costs no test, and what is done is kept, also when you cancel."
    )
    make("layers", parameters, "Testing tensors", button="Test every tensor")
provenance.of_job(job.shipped, "layers", parameters, "Testing tensors")

scan = results(study.base_source, study.tuned_source, job.id)
frame = layers.table(scan, alpha)
signature = str(scan.signature.with_fields(alpha=f"{alpha:g}"))
touched = frame[frame.changed > 0]
with st.container(horizontal=True):
    st.metric("Tensors changed", f"{len(touched):,} of {len(frame):,}", border=True)
    st.metric(
        f"Rows with p < {alpha:g}",
        f"{sum(round(t.share(alpha) * t.rows) for t in scan.tensors):,}",
        border=True,
    )
    st.metric("Parameters read", f"{sum(t.rows * t.dim for t in scan.tensors) / 1e6:,.1f} M", border=True)
for note in scan.notes:
    st.caption(f":material/info: {plain(note)}")
for note in scan.left_out[:20]:
    st.caption(f"Left out: {plain(note)}")

measure = st.segmented_control(
    "Colour",
    list(figures.MEASURES),
    default="share_below_alpha",
    required=True,
    format_func=figures.MEASURES.__getitem__,
    key="measure",
)
event = charts.chart(
    partial(figures.layer_map, frame, measure), "layer-map", signature, on_select="rerun", selection_mode="points"
)
clicked = event.selection.points
names = [t.name for t in sorted(scan.tensors, key=lambda t: t.share(alpha) * t.rows, reverse=True)]
if clicked and clicked[0]["customdata"][0] in names:
    st.session_state.tensor = clicked[0]["customdata"][0]
name = st.selectbox(
    "Tensor", names, key="tensor", help="Or click a square. Those with the most winning rows come first."
)
found = next(t for t in scan.tensors if t.name == name)
charts.chart(partial(figures.tensor_histogram, found, critical_value(found.dim, alpha)), "tensor-histogram", signature)
st.caption(
    f"{found.rows:,} rows of {found.dim:,} values; the critical D at alpha = {alpha:g} is {critical_value(found.dim, alpha):.4f}. "
    "Tensors of different width have different power: compare shares within a module first."
)
downloads.table(frame, f"layers-{scan.signature.short}", signature)
downloads.signature(signature)
