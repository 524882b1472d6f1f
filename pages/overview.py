"""Overview: how many rows moved, what they buy, whether that is real; the largest shifts, what to do next."""

import streamlit as st

from ks_core.ks import critical_value
from ks_core.study import table
from pages.parts import downloads, pair, say, tour

st.title("Which tokens did fine-tuning move?")
st.write(
    "KS-Lottery compares every token's embedding row before and after fine-tuning with a two-sample "
    "Kolmogorov-Smirnov test. The tokens whose rows shifted are the **winning tickets**: the few rows that, tuned "
    "alone, are said to do what the whole fine-tuning does."
)

study = pair.study()
scan = pair.scan(study)
alpha = pair.alpha()
winners = scan.winners(alpha)
signature = str(scan.signature.with_fields(alpha=f"{alpha:g}"))
critical = critical_value(scan.dim, alpha)

with st.container(horizontal=True):
    st.metric("Ticket size", f"{int(winners.sum()):,}", border=True, help=f"Tokens with p < {alpha:g}.")
    st.metric(
        "Rows changed",
        f"{int(scan.changed.sum()):,}",
        border=True,
        help="Rows that differ in at least one value.",
    )
    st.metric("Rows tested", f"{len(winners):,}", border=True, help="Tokens that both checkpoints have.")
    if study.pair.untested:
        st.metric(
            "Not tested", f"{study.pair.untested:,}", border=True, help="Rows of either checkpoint without a partner."
        )
    st.metric(
        "Largest D",
        f"{scan.statistic.max():.4f}",
        border=True,
        help="D is the largest gap between the two CDFs.",
    )
    st.metric(
        "Critical D",
        f"{critical:.4f}" if critical <= 1 else "none",
        border=True,
        help=f"The smallest D that alpha = {alpha:g} accepts for rows of {scan.dim:,} values.",
    )

pair.limits(study)
if not scan.changed.any():
    say.info(study.alike, icon="equal")
    if study.tuned.elsewhere:
        st.page_link("pages/layers.py", label="Test what it changes", icon=":material/layers:")
elif not winners.any():
    say.info(
        f"Rows changed, but none so much that p < {alpha:g}. Raise alpha in the sidebar, or see on the KS test page "
        "how the ticket's size depends on it."
    )
known = tour.known(study, scan, alpha) if winners.any() else None
told = known is not None and bool(known.account or known.waterfall)
columns = st.columns(3 if told else [1, 2], gap="medium")
with columns[0]:
    tour.moved(scan, alpha, signature)
if known and told:
    with columns[1]:
        tour.worth(known)
    with columns[2]:
        tour.real(known)
if known:
    with st.container() if told else columns[1]:
        tour.to_run(known)

if critical > 1:
    say.warning(f"With rows of {scan.dim:,} values no shift at all can reach p < {alpha:g}. Raise alpha.")
elif scan.dim < 1024:
    st.caption(
        f"Rows of this model are narrow (d = {scan.dim:,}): a shift has to open a gap of {critical:.3f} to be seen. "
        "In a model with d = 4096, 0.030 is enough."
    )

st.header("Largest shifts")
largest = table(study, scan, alpha, most=12)
st.dataframe(
    largest[["rank", "token", "statistic", "pvalue", "l2", "winner"]],
    hide_index=True, height=458, alt="The twelve tokens with the largest D",
    column_config={
        "rank": st.column_config.NumberColumn("Rank", width="small"),
        "token": st.column_config.TextColumn("Token", help="␣ is a space, ⏎ a line break."),
        "statistic": st.column_config.NumberColumn("D", format="%.4f"),
        "pvalue": st.column_config.NumberColumn("p-value", format="scientific"),
        "l2": st.column_config.NumberColumn("Shift (L2)", format="%.3f"),
        "winner": st.column_config.CheckboxColumn("Wins"),
    },
)  # fmt: skip

st.header("Go on")
with st.container(horizontal=True):
    st.page_link("pages/ks_test.py", label="Look at the test itself", icon=":material/bar_chart:")
    st.page_link("pages/winning_tokens.py", label="Read the winning tokens", icon=":material/confirmation_number:")
    st.page_link("pages/drift_map.py", label="See where they went", icon=":material/scatter_plot:")
    st.page_link("pages/audit.py", label="Ask whether the ticket is real", icon=":material/gavel:")
    st.page_link("pages/learn.py", label="Learn the method", icon=":material/school:")
    st.page_link("pages/checkpoints.py", label="Open your own pair", icon=":material/folder_open:")
st.caption(
    "What p does not say: a tuned row started as its base row, so the two samples are not independent. Small "
    "perturbations pile p up at 1, a mere permutation within a row has D = 0, and alpha is not a false-positive rate. "
    "A token on the list has moved; whether tuning it alone is worth anything is another question."
)
downloads.signature(signature)
