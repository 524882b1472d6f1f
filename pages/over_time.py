"""Over time: when does each token win? The test at many steps of one training, while it goes on or afterwards."""

import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.study import readable
from ks_core.trajectory import is_ready, open_trajectory
from pages.parts import over_time, pair, say
from pages.parts.job import make

st.title("Over time")
st.write(
    "A pair shows two moments, before and after. Here the same test is done at many steps between them: **when does a token win, and does it "
    "stay?** A row wins when its D passes the critical value; what passes it early and falls back was on its way somewhere."
)
study = pair.study()
alpha = pair.alpha()
found = over_time.choice(study)
if found is None:
    over_time.explain()
    st.stop()

try:
    if not is_ready(study.base_source, [found.source]):
        parameters = {"base": study.base_source, "sources": [found.source]}
        st.write("Every checkpoint is tested against the base once, and kept.")
        make("trajectory", parameters, "Testing checkpoints", button="Test the checkpoints")
    trajectory = open_trajectory(study.base_source, [found.source])
except KSLotteryError as error:
    say.error(error)
    over_time.explain()
    st.stop()

strings = study.token_strings()
order = trajectory.order()[: over_time.OFFERED]
ids = [int(i) for i in trajectory.token_ids[order]]
chosen = st.multiselect(
    "Tokens that are followed", ids, ids[:8], format_func=lambda i: f"{readable(strings, i)} ({i})", key="over_time_tokens",
    help="Those of the largest D at the end are offered.",
)  # fmt: skip
if found.going_on:
    over_time.live(found, study, alpha, chosen)
else:
    over_time.show(found, trajectory, study, alpha, chosen)
