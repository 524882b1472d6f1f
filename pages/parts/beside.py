"""What stands beside a winning token: whether the base hardly knew it, where it occurs in the training text, how often it was trained,
how many of its neighbours were replaced, and what of the gain it carries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.jobs import submit
from ks_core.ledger import annotate, attributed, occurrences
from ks_core.store import access
from ks_core.study import Scan, Study, extension, neighbourhoods, untrained
from ks_core.tuning import trainings
from pages.parts import job, say
from pages.parts.say import plain

COLUMNS = {
    "change": st.column_config.NumberColumn(
        "Neighbours replaced", format="%.2f", help="Share of the ten nearest tokens, by cosine, that were others before."
    ),
    "attribution": st.column_config.NumberColumn(
        "Attribution", format="%.3f", help="Nats of the gain over the base that the row carries, by integrated gradients."
    ),
    "length": st.column_config.NumberColumn("Length before", format="%.3f", help="L2 of the row in the base."),
    "untrained": st.column_config.CheckboxColumn(
        "Under-trained", help="Looks hardly trained in the base, by the indicators of Land and Bartolo (2024), arXiv 2405.05417."
    ),
    "steps": st.column_config.NumberColumn("Steps", format="%d", help="Optimizer steps of this training that touched the row."),
    "in_prompt": st.column_config.NumberColumn("In prompt", format="%d", help="Positions of the template in the training text."),
    "in_source": st.column_config.NumberColumn("In source", format="%d", help="Positions of source sentences."),
    "in_target": st.column_config.NumberColumn("In target", format="%d", help="Positions of target sentences."),
}  # fmt: skip


def annotated(study: Study, scan: Scan, frame: pd.DataFrame, chosen: np.ndarray, alpha: float) -> pd.DataFrame:
    """The table with what is known of its tokens beside the test, and the sentences about it."""
    found = untrained.cached(study)
    if found is None and (untrained.is_quick(study) or access.read_only()):
        found = untrained.find(study)
    if found is None:
        parameters = {"base": study.base_source, "tuned": study.tuned_source, "content": study.key}
        job.make("untrained", parameters, "Looking through the base's rows")
    training = trainings.of(study.tuned_source)
    with st.spinner("Looking where the tokens occur …"):
        where = occurrences(training) if training else None
        steps = trainings.steps(study.tuned_source)
    st.caption(plain(found.sentence(scan, chosen)))
    if training is None:
        st.caption("How this checkpoint was trained is not written down, so where its tokens occur is not known.")
    near, carried = _near(study, scan), attributed(study)
    if carried is not None:
        st.caption(plain(carried.sentence))
    else:
        st.caption("What of the gain each row carries is not known: the page Which rule? finds it.")
    if extended := extension.extension_of(study, scan, alpha):
        st.caption(plain(extended.sentence))
    return annotate(frame, scan, untrained=found, steps=steps, where=where, near=near, carried=carried)


def _near(study: Study, scan: Scan) -> neighbourhoods.Neighbourhoods | None:
    """The neighbourhoods, where they are known; else the button that has them found, or how far that is. The page goes on."""
    found = neighbourhoods.cached(study)
    if found is not None or access.read_only() or not scan.changed.any():
        return found
    parameters = {"base": study.base_source, "tuned": study.tuned_source, "content": study.key, "metric": "cosine"}
    made = job.latest("neighbourhoods", parameters)
    if made is not None and made.state in ("queued", "running"):
        job.follow(made)
        return None
    if made is not None and made.state == "failed":
        say.error(made.error)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("How many of its nearest tokens each changed row has lost is not known.", width="content")
        if st.button("Find the neighbours", icon=":material/hub:", type="tertiary"):
            try:
                submit("neighbourhoods", parameters, label="Neighbours before and after")
                st.rerun()
            except KSLotteryError as error:
                say.error(error)
    return None
