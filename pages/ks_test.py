"""KS test: the p-values, the statistic, the ticket's size against alpha, and any token's two CDFs."""

from functools import partial

import numpy as np
import streamlit as st

from ks_core.checkpoints import take, to_floats
from ks_core.ks import asymptotic_critical_value, critical_value
from ks_core.study import figures, readable
from ks_core.tickets import sizes
from pages.parts import charts, downloads, pair, say

st.title("KS test")
study = pair.study()
scan = pair.scan(study)
alpha = pair.alpha()
winners = scan.winners(alpha)
critical = critical_value(scan.dim, alpha)
strings = study.token_strings()


signature = str(scan.signature.with_fields(alpha=f"{alpha:g}"))
at = f"D ≥ {critical:.4f}" if critical <= 1 else "no D can"
st.write(
    f"**{int(winners.sum()):,}** of {len(winners):,} tokens have p < {alpha:g}. With rows of {scan.dim:,} values that takes "
    f"{at} (exact); the large-sample formula gives {asymptotic_critical_value(scan.dim, alpha):.4f}."
)
pair.limits(study)

left, right = st.columns(2)
with left:
    log = (
        st.segmented_control(
            "p-value axis",
            ["linear", "log"],
            default="linear",
            required=True,
            key="p_axis",
            bind="query-params",
        )
        == "log"
    )
    charts.chart(partial(figures.pvalue_histogram, scan.pvalue, scan.changed, alpha, log=log), "p", signature)
    st.caption(
        f"{int((~scan.changed).sum()):,} rows did not change at all: D = 0 and p = 1. They are not drawn. "
        "Gaps between the bars are values that p cannot take, as D is a multiple of 1/d."
    )
with right:
    st.caption(
        "D lies on the lattice k/d: it is the largest gap between the empirical CDFs of a row's values before and "
        "after. The dashed line is the smallest D whose exact p-value is below alpha."
    )
    charts.chart(
        partial(figures.statistic_histogram, scan.statistic, scan.changed, scan.dim, critical, alpha), "d", signature
    )

left, right = st.columns(2)
with left:
    alphas = np.logspace(-12, np.log10(0.999), 200)
    charts.chart(
        partial(figures.ticket_size_curve, alphas, sizes(scan, alphas), alpha, int(winners.sum())), "size", signature
    )
with right:
    shown = scan.order()
    shown = shown[scan.changed[shown]][:20_000]
    names = [readable(strings, int(i)) for i in scan.token_ids[shown]]
    charts.chart(
        partial(figures.shift_scatter, scan.l2[shown], scan.statistic[shown], winners[shown], names), "shift", signature
    )

st.header("One token, before and after")
order = scan.order()
ids = scan.token_ids[order]
choices = {int(i): f"{readable(strings, int(i))}  (id {int(i)}, rank {rank})" for rank, i in enumerate(ids[:3000], 1)}
with st.container(horizontal=True, vertical_alignment="bottom"):
    listed = st.selectbox(
        "Token",
        list(choices),
        format_func=choices.__getitem__,
        help="The 3,000 largest shifts; type to search.",
    )
    typed = st.number_input(
        "or any token id",
        min_value=0,
        max_value=int(scan.token_ids.max()),
        value=None,
        step=1,
        key="token",
        bind="query-params",
        placeholder="id",
    )
chosen = int(typed) if typed is not None else listed
place = np.nonzero(scan.token_ids == chosen)[0]
if not len(place):
    say.info(f"Token id {chosen} has no partner in the other checkpoint, so it was not tested.")
else:
    i = int(place[0])
    before, after = (to_floats(take(m, np.array([i])), m.dtype)[0] for m in (study.pair.before, study.pair.after))
    charts.chart(partial(figures.cdfs, before, after, readable(strings, chosen)), "cdfs", signature)
    with st.container(horizontal=True):
        st.metric("D", f"{scan.statistic[i]:.4f}", border=True)
        st.metric("p-value (exact)", f"{scan.pvalue[i]:.3g}", border=True)
        st.metric("Shift (L2)", f"{scan.l2[i]:.4f}", border=True, help="Euclidean length of after minus before.")
        st.metric("Cosine", f"{scan.cosine[i]:.4f}", border=True, help="Between the row before and the row after.")
st.caption(
    "The test sees the values of a row, not where they stand: permuting a row leaves D = 0. And because the tuned row "
    "started as the base row, alpha is not a false-positive rate."
)
downloads.signature(signature)
