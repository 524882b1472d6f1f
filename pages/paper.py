"""Paper: every known result of the paper and of its replication, beside what suites of runs measured here."""

import pandas as pd
import streamlit as st

from ks_core.suites import PRESETS, audited, beside, costs, published, suite_of
from pages.parts import downloads, job, pair, suites
from pages.parts.say import code, plain


@st.cache_data(ttl=600, show_spinner="Looking what each suite takes here …")
def takes() -> list[dict[str, str]]:
    """What each preset takes on this machine, and what it lacks."""
    return costs.catalogue()


st.title("Paper")
st.write(
    "What the paper reports, what an independent replication found, and what was measured here, **the unflattering first**. Much of what is known of "
    "the paper is second hand, and says so. A suite runs the same arms over language pairs and seeds, and measures a row of it."
)
catalogue, finished = takes(), beside.finished()
lines = beside.lines(finished, {told["suite"]: told["time"] for told in catalogue}, audited.shares(pair.open_study))
measured = sum(line.measured is not None for line in lines)
with st.container(horizontal=True):
    st.metric("Results known", f"{len(lines)}")
    st.metric("Measured here", f"{measured}")
    st.metric(
        "Speak against",
        f"{sum(line.row.against for line in lines)}",
        help="Results that speak against the paper's claims, mostly the replication's.",
    )
frame = pd.DataFrame(beside.table(lines))
chosen = st.dataframe(
    frame, hide_index=True, key="paper_rows", on_select="rerun", selection_mode="single-row", alt="Results published, replicated and measured here",
    column_config={name: st.column_config.TextColumn(width=width) for name, width in suites.WIDTHS.items()},
)  # fmt: skip
picked = chosen["selection"]["rows"] if chosen else []
suites.line(lines[picked[0] if picked and picked[0] < len(lines) else 0])
signature = beside.signature(lines)
with st.container(horizontal=True):
    downloads.table(beside.frame(lines), "paper", signature)
    st.download_button(
        "Markdown", icon=":material/download:", data=lambda: beside.as_markdown(lines).encode(), file_name="paper.md", mime="text/markdown",
        key="paper-markdown", on_click="ignore",
    )  # fmt: skip
downloads.signature(signature)

st.header("How it was made")
st.caption("What is known of each source's protocol. Where two differ, so may their figures.")
st.dataframe(suites.protocols(), hide_index=True, alt="What is known of each protocol", row_height=36)
for source in published.sources().values():
    st.caption(f"{plain(source['title'])}: {plain(source['cited'])}. {plain(source['note'])}")

st.header("Suites")
st.write(
    "Each is one run with one table. It can be stopped and goes on; what was finished is found again, by another suite too."
)
st.dataframe(
    pd.DataFrame([{"Suite": t["suite"], "What": t["what"], "Takes here": t["time"], "Missing": t["missing"] or "nothing"} for t in catalogue]),
    hide_index=True, alt="The suites, what each takes on this machine, and what it lacks",
    column_config={"What": st.column_config.TextColumn(width=430), "Missing": st.column_config.TextColumn(width=430)},
)  # fmt: skip
st.markdown(
    f"One of a model and texts of yours: {code('python -m ks_core reproduce en-ca --model FOLDER --corpus file:pairs.tsv')}."
)

if finished:
    st.header("Measured here")
    names = [f"{one.result['suite']}, {one.job.id}" for one in finished]
    number = (
        st.selectbox("Suite", range(len(names)), format_func=lambda n: names[n], key="paper_suite")
        if len(names) > 1
        else 0
    )
    suites.result(finished[number or 0])

demo = suite_of(PRESETS["demo"]).as_dict()
if job.finished("suite", demo) is None:
    st.header("The demo's suite")
    st.caption(plain(next(told["about"] for told in catalogue if told["suite"] == "demo")))
    job.make("suite", demo, "Suite demo", button="Run the demo's suite", device=suites.lane())
