"""The training on noise on a page: what it says, why it is not there, and the rows beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from ks_core.jobs import submit
from ks_core.ledger import exposure
from ks_core.study import Scan, Study
from ks_core.tickets import Changed
from pages.parts import downloads, job
from pages.parts.say import plain


def said(reason: str, sentence: str, study: Study | None = None) -> None:
    """What noise says; or why it says nothing. With a ``study``, the button that has it done where it can be."""
    if not reason:
        st.write(plain(sentence))
        return
    st.caption(plain(f"A training on noise at the same exposure is left out: {reason}."))
    if study is None or reason != exposure.NOT_DONE:
        return
    parameters = {"base": study.base_source, "tuned": study.tuned_source, "rule": "noise", "content": study.key}
    running = job.latest("selection", parameters)
    if running and running.state in ("queued", "running"):
        job.follow(running)
        return
    if running and running.state == "failed":
        st.caption(plain(running.error))
    if job.button("Train on noise", icon=":material/play_arrow:", key="train_on_noise"):
        submit("selection", parameters, label="Training on noise")
        st.rerun()


def table(study: Study, scan: Scan, ticket: np.ndarray, signature: str) -> None:
    """The ticket's rows at their own exposure: which go beyond noise, and which win without anything to learn."""
    found = Changed.of_pair(study, scan).known("null")
    if isinstance(found, str) or found.null is None:
        return
    chosen = np.isin(found.token_ids, scan.token_ids[ticket])
    if not chosen.any():
        return
    frame = pd.DataFrame({
        "token_id": found.token_ids[chosen], "token": np.array(found.tokens, object)[chosen], "statistic": found.statistic[chosen],
        "exposure_adjusted_p": found.null.pvalues(found.statistic)[chosen], "noise_statistic": found.null.statistic.mean(axis=0)[chosen],
        "noise_wins": found.null.reaching(found.statistic[chosen].min())[chosen],
    }).sort_values(["exposure_adjusted_p", "statistic"], ascending=[True, False])  # fmt: skip
    st.dataframe(
        frame, hide_index=True, height=320, alt="The ticket's rows beside a training on noise at their own exposure",
        column_config={
            "token_id": st.column_config.NumberColumn("Id", format="%d"), "token": "Token",
            "statistic": st.column_config.NumberColumn("D", format="%.4f"),
            "exposure_adjusted_p": st.column_config.NumberColumn(
                "p at its exposure", format="%.3f", help="This program's: the share of trainings on noise that reach this row's D."
            ),
            "noise_statistic": st.column_config.NumberColumn("D under noise", format="%.4f", help="The mean of the draws."),
            "noise_wins": st.column_config.NumberColumn(
                "In the ticket on noise", format="percent", help="In how many draws the row has at least the D of the ticket's smallest."
            ),
        },
    )  # fmt: skip
    downloads.table(frame, "noise", signature)
