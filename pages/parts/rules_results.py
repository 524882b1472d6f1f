"""The answer of the job ``rules`` on a page: what each rule's rows keep, whether it differs, and what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from ks_core.ledger import CLEAR, RULES, figures, tables
from pages.parts import charts, say
from pages.parts.say import plain


def numbers(result: Mapping[str, Any]) -> None:
    """The sentence, what all changed rows gain, and the notes."""
    whole, base, tuned, gain = result["whole"], result["base"], result["tuned"], result["gain"]
    several = result["trainings"]
    st.subheader(plain(result["sentence"]))
    columns = st.columns(4)
    columns[0].metric(
        "Base", f"{base['nats_all']:.3f}", help="Nats for each target token with no row copied. Less is better."
    )
    columns[1].metric(
        "All changed rows", f"{tuned['nats_all']:.3f}",
        help=f"With all {result['changed']:,} changed rows copied." if len(several) == 1 else f"The mean of {len(several)} trainings.",
    )  # fmt: skip
    columns[2].metric(
        "Gain", f"{gain['value']:.3f}", help="By so many nats a target token they are better than the base."
    )
    columns[3].metric("Test references", f"{result['sentences']:,}", help="The intervals are over these, in pairs.")
    said = f"The gain is {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}] nats a target token."
    if "end" in whole:
        said += (
            f" {tables.share(whole['end'])}% of it is the end token's, which is learning to stop; the rest is content."
        )
    st.caption(plain(said))
    for note in result["notes"]:
        st.caption(f":material/info: {plain(note)}")
    if len(several) > 1:
        st.dataframe(
            pd.DataFrame([
                {"Training": t["source"], "Changed rows": t["changed"], "p below alpha": t["winners"], "Gain (nats a token)": t["gain"]}
                for t in several
            ]),
            hide_index=True, alt="The trainings that are taken together",
            column_config={"Gain (nats a token)": st.column_config.NumberColumn(format="%.3f")},
        )  # fmt: skip


def differences(result: Mapping[str, Any]) -> None:
    """D against every other rule, as a table."""
    found = [d for d in result["differences"] if d["holm"] < CLEAR]
    st.write(
        f"Of {len(result['differences'])} differences between D and another rule, {len(found)} are clear (paired bootstrap over "
        + ("the sentences" if len(result["trainings"]) == 1 else "trainings and sentences")
        + f", p corrected by Holm below {CLEAR:g}). Below 0 the other rule keeps more."
    )
    if not result["differences"]:
        return
    st.dataframe(
        pd.DataFrame([
            {"Rows": d["k"], "Rule": RULES[d["second"]].title, "D keeps more by": 100 * d["value"], "from": 100 * d["low"],
             "to": 100 * d["high"], "p (Holm)": d["holm"]} for d in sorted(result["differences"], key=lambda d: (d["holm"], d["value"]))
        ]),
        hide_index=True, alt="D against each rule, at each size",
        column_config={name: st.column_config.NumberColumn(format="%.1f", help="Points of the whole gain") for name in ("D keeps more by", "from", "to")}
        | {"p (Holm)": st.column_config.NumberColumn(format="%.3f")},
    )  # fmt: skip


def as_good(result: Mapping[str, Any]) -> None:
    """Whether the ticket does as well as all changed rows, and as the most frequent ones: a test with its margin."""
    found = result["as_good"]
    if not found:
        return
    st.header("Does the ticket do as well?")
    margin = found[0]["margin"]
    st.write(
        f"As well as means: worse by less than {margin:g} nats a target token, which is a choice, made before. Yes where the 95% interval of "
        f"the paired difference lies above {-margin:g}, no where it lies below, and else it is not decided."
    )
    shown = [one for one in found if one["own"].startswith("the ticket")] or found[:2]
    for one in shown:
        say.info(one["sentence"], icon={"yes": "check", "no": "close"}.get(one["answer"], "question_mark"))
    st.dataframe(
        pd.DataFrame([
            {"What": one["own"], "as well as": one["other"], "Better by": one["value"], "from": one["low"], "to": one["high"],
             "Answer": one["answer"], "Would decide it": tables.decided_by(one)} for one in found
        ]),
        hide_index=True, alt="Tests of doing as well, at each size",
        column_config={name: st.column_config.NumberColumn(format="%.3f", help="Nats a target token") for name in ("Better by", "from", "to")}
        | {"Would decide it": st.column_config.Column(help="How many references would decide it, if the difference that is seen is the true one")},
    )  # fmt: skip


def trained(result: Mapping[str, Any], signature: str) -> None:
    """What rows reach that were trained alone."""
    found = result.get("trained")
    if found is None:
        return
    st.header("Trained at equal budget")
    st.write(plain(found["sentence"]))
    charts.chart(partial(figures.trained_gains, result), "rules-trained", signature)
    for one in found["as_good"]:
        st.write(plain(one["sentence"]))
    if found["differences"]:
        st.dataframe(
            pd.DataFrame([
                {"Rule": RULES[d["first"]].title, "less": RULES[d["second"]].title, "nats a token": d["value"], "from": d["low"],
                 "to": d["high"], "p (Holm)": d["holm"]} for d in found["differences"]
            ]),
            hide_index=True, alt="Differences between rules whose rows were trained",
            column_config={name: st.column_config.NumberColumn(format="%.3f") for name in ("nats a token", "from", "to", "p (Holm)")},
        )  # fmt: skip
    if found["left"]:
        st.caption(
            plain("Left out: " + "; ".join(f"{RULES[name].title}: {why}" for name, why in found["left"].items()))
        )
