"""What the page Paper shows of a row and of a suite's result."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from ks_core.jobs import devices
from ks_core.suites import beside, published, texts
from pages.parts import downloads, provenance, say
from pages.parts.say import code, plain

#: Widths of the columns of results, in pixels.
WIDTHS = {
    "Result": 270, "Published": 120, "Replicated": 90, "Measured here": 300, "Difference": 220, "What differs": 300,
}  # fmt: skip
#: What is shown of a suite's table, by its column, and how.
COLUMNS = {
    "pair": "Pair", "arm": "Arm", "rows": "Rows", "steps": "Steps", "seeds": "Seeds", "gain": "Gain (nats a token)", "gain_low": "Gain, low",
    "gain_high": "Gain, high", "holm_p": "p (Holm)", "end_share": "Of it the end's", "of_whole": "Of Embed Tuning's",
}  # fmt: skip


def line(found: beside.Line) -> None:
    """A row in full: who says what, what was measured, in what the protocols differ, and how to measure it."""
    with st.container(border=True):
        st.markdown(f"**{plain(found.row.title)}** ({plain(found.row.model)})")
        if found.row.said("paper"):
            st.markdown(f"Published: {plain(found.row.said('paper'))}")
        if found.row.said("replication"):
            st.markdown(f"Replicated: {plain(found.row.said('replication'))}")
        if found.measured:
            st.markdown(f"Measured here: {plain(found.measured.text)}")
            if found.difference_text:
                st.markdown(f"Difference: {plain(found.difference_text)}")
        if found.differs:
            st.caption(plain(found.differs))
        if found.command:
            cost = f", about {found.cost} on this machine" if found.cost else ""
            st.markdown(f"{'Again' if found.measured else 'Not run'}{plain(cost)}: {code(found.command)}")


def protocols() -> pd.DataFrame:
    """What is known of the sources' protocols, a row a fact and a column a source; what is second hand says so."""
    known = published.protocols()
    facts = dict.fromkeys(fact for told in known.values() for fact in told["facts"])
    titles = {source: f"{source}{' (second hand)' if told['second_hand'] else ''}" for source, told in known.items()}
    return pd.DataFrame([
        {"Fact": fact, **{titles[source]: told["facts"].get(fact, "").replace("\n", " ⏎ ") for source, told in known.items()}} for fact in facts
    ])  # fmt: skip


def result(found: beside.Finished) -> None:
    """What came of a suite: sentences, the table, what was left out, downloads."""
    told = found.result
    provenance.of_job(
        found.job.shipped, "suite", found.suite.as_dict(), f"Suite {found.suite.name}", found.suite.device
    )
    for sentence in texts.sentences(told):
        st.write(plain(sentence))
    frame = texts.frame(told)
    shown = [*(name for name in COLUMNS if name in frame), *texts.score_columns(told)]
    st.dataframe(
        frame[shown].rename(columns={**COLUMNS, **{n: n.replace("_", " ") for n in shown if n not in COLUMNS}}), hide_index=True,
        alt="What each arm gains, by pair", column_config=_formats(),
    )  # fmt: skip
    st.caption("Intervals are 95%, over seeds and sentences together. Shares stand where the whole gain is clear.")
    for name, why in told["left"].items():
        say.warning(f"{name} was left out: {why}")
    for note in told["notes"]:
        st.caption(f":material/info: {plain(note)}")
    with st.container(horizontal=True):
        downloads.table(frame, f"suite-{found.job.id}", told["signature"])
        st.download_button(
            "Markdown", icon=":material/download:", data=lambda: texts.file(told, ".md").encode(), file_name=f"suite-{found.job.id}.md",
            mime="text/markdown", key=f"suite-{found.job.id}-markdown", on_click="ignore",
        )  # fmt: skip
    downloads.signature(told["signature"])


def _formats() -> dict[str, Any]:
    """How numbers of the table are shown."""
    plainly = {
        name: st.column_config.NumberColumn(format="%.2f")
        for name in ("Gain (nats a token)", "Gain, low", "Gain, high")
    }
    shares = {
        name: st.column_config.NumberColumn(format="percent") for name in ("Of it the end's", "Of Embed Tuning's")
    }
    return {**plainly, **shares, "p (Holm)": st.column_config.NumberColumn(format="%.2g")}


def lane() -> str:
    """The device whose queue a suite waits in."""
    return devices.select("auto").removeprefix("torch:")
