"""What stands beside a winning token: whether the base hardly knew it, where it occurs in the training text, how often it was trained."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from ks_core.ledger import annotate, occurrences
from ks_core.store import access
from ks_core.study import Scan, Study, extension, untrained
from ks_core.tuning import trainings
from pages.parts import job
from pages.parts.say import plain

COLUMNS = {
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
    if extended := extension.extension_of(study, scan, alpha):
        st.caption(plain(extended.sentence))
    return annotate(frame, scan, untrained=found, steps=steps, where=where)
