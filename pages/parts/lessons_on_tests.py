"""The lessons on the test itself: CDFs, width, p-values, ties, dependence. Each is an experiment to play with."""

from __future__ import annotations

from functools import partial

import streamlit as st

from ks_core.ks import asymptotic_critical_value, critical_value, ks_test, pvalue_table
from ks_core.signature import Signature, versions
from ks_core.study import figures
from ks_core.teaching import cite, figures as lesson_figures, lessons
from pages.parts import charts, pair, say
from pages.parts.small import small

SIZES = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)


def signature(**fields: object) -> str:
    """From what a figure of a lesson came: its settings, as there is no model in it."""
    return str(Signature({"rows": "normal, made up", **fields, **versions("numpy", "scipy")}))


@st.cache_data(max_entries=64, show_spinner=False)
def _power(shift: float, alpha: float) -> list[float]:
    return lessons.power(shift, alpha)


@st.cache_data(max_entries=64, show_spinner=False)
def _dependence(dim: int, alpha: float) -> dict[str, list[float]]:
    return lessons.dependence(dim, alpha, SIZES)


def cdfs() -> None:
    """Two samples, their CDFs, D and p."""
    st.write(
        "A row is a sample of d values. Sort them, climb one step at each, and you have its empirical CDF: the share of values at or "
        "below x. **D is the largest vertical gap** between the row before and the row after. **Move the tuned row** and watch."
    )
    left, right = st.columns([1, 2])
    with left, st.container(border=True):
        shift = st.slider(
            "Shift (deviations)", -2.0, 2.0, 0.4, 0.05, key="learn_shift", help="How far every value is moved."
        )
        spread = st.slider(
            "Spread (times)", 0.2, 3.0, 1.0, 0.05, key="learn_spread", help="How much wider the tuned row's values lie."
        )
        dim = st.select_slider("Values in a row, d", lessons.WIDTHS, 64, key="learn_dim")
        seed = int(st.number_input("Seed", 0, 999, 0, key="learn_seed", help="Another seed draws other rows."))
    before, after = lessons.two_samples(dim, shift, spread, seed)
    found = ks_test(before[None], after[None], device="cpu")
    with right:
        charts.chart(
            partial(figures.cdfs, before, after, "a made-up row"),
            "learn-cdfs",
            signature(d=dim, shift=shift, spread=spread, seed=seed),
        )
    alpha = pair.alpha()
    with st.container(horizontal=True):
        st.metric("D", f"{found.statistic[0]:.4f}", border=True, help=f"{int(found.counts[0])} steps of 1/{dim:d}.")
        st.metric("p-value (exact)", f"{found.pvalue[0]:.3g}", border=True)
        st.metric(
            "Critical D",
            _critical(dim, alpha),
            border=True,
            help=f"The smallest D with p < {alpha:g}. Alpha is in the sidebar.",
        )
        st.metric("Does it win?", "yes" if found.pvalue[0] < alpha else "no", border=True)
    say.info(
        "Try: shift 0 and spread 2. The middle of the row has not moved, and D sees the change all the same.",
        icon="lightbulb",
    )
    small(cite("smirnov", "exact"))


def width() -> None:
    """How d decides what can be seen."""
    alpha = pair.alpha()
    st.write(
        f"The same shift, in rows of different width. At alpha {alpha:g} a row of 64 values wins from D = {_critical(64, alpha)}, one of 576 "
        f"from {_critical(576, alpha)}, one of 4,096 from {_critical(4096, alpha)}. So the number of winning tokens says as much about d as about "
        "the training: **do not compare ticket sizes of models of different width.**"
    )
    shift = st.slider("Shift (deviations)", 0.0, 1.0, 0.2, 0.02, key="learn_power")
    charts.chart(
        partial(lesson_figures.power_curve, lessons.WIDTHS, _power(shift, alpha), shift, alpha, pair.width()), "learn-power",
        signature(shift=shift, alpha=f"{alpha:g}", draws=300, seed=0),
    )  # fmt: skip
    small("Each point: 300 pairs of made-up rows, tested by this program. " + cite("here", "exact"))


def exact() -> None:
    """Exact p-values beside those of the large-sample formula."""
    alpha = pair.alpha()
    st.write(
        "Two samples of d values can be merged in C(2d, d) orders. Counting the orders with a gap of at least D gives the **exact** p-value. "
        "Kolmogorov's formula is what it tends to **for large samples**; it is a little too cautious, most so in narrow rows."
    )
    dim = st.select_slider("Values in a row, d", lessons.WIDTHS, 16, key="learn_exact")
    charts.chart(
        partial(lesson_figures.exact_and_asymptotic, dim, alpha), "learn-exact", signature(d=dim, alpha=f"{alpha:g}")
    )
    with st.container(horizontal=True):
        st.metric("Critical D, exact", _critical(dim, alpha), border=True)
        st.metric("Critical D, large samples", f"{asymptotic_critical_value(dim, alpha):.4f}", border=True)
        st.metric("Values of D judged differently", f"{lessons.misjudged(dim, alpha)} of {dim + 1}", border=True)
    small(
        "Because both samples have the same size, p depends on d and D alone: this program computes a table of d + 1 values and looks up "
        f"each row in it. Here p = {pvalue_table(dim)[dim]:.3g}, at D = 1, the smallest there is. "
        + cite("exact", "smirnov")
    )


def ties() -> None:
    """What equal values do to p."""
    st.write(
        "Numbers in bf16 have about three digits, so a row of 4,096 values has only some 1,300 distinct ones. Where values are equal, D is taken "
        "after all of them have been climbed. **Round the rows** and compare the p-value that assumes no ties with one that needs no such "
        "assumption: shuffle the labels before and after many times, and count how often the gap is as large."
    )
    left, right = st.columns([1, 2])
    with left, st.container(border=True):
        step = st.select_slider(
            "Rounded to",
            [0.0, 0.01, 0.1, 0.25, 0.5, 1.0, 2.0],
            0.5,
            key="learn_step",
            format_func=lambda s: f"{s:g}" if s else "not rounded",
        )
        shift = st.slider("Shift (deviations)", 0.0, 1.0, 0.2, 0.05, key="learn_ties_shift")
        dim = st.select_slider(
            "Values in a row, d", [w for w in lessons.WIDTHS if w <= 1024], 256, key="learn_ties_dim"
        )
    found = lessons.ties(dim, step, shift)
    with right:
        charts.chart(
            partial(lesson_figures.permutation_histogram, found),
            "learn-ties",
            signature(d=dim, step=step, shift=shift, permutations=1000, seed=0),
        )
    with st.container(horizontal=True):
        st.metric("Distinct values", f"{found.distinct:,}", border=True, help=f"Of {2 * dim:,} in both rows.")
        st.metric("D", f"{found.statistic:.4f}", border=True)
        st.metric("p, assuming no ties", f"{found.exact:.3g}", border=True)
        st.metric(
            "p, by relabelling",
            f"{found.permutation:.3g}",
            border=True,
            help="1,000 relabellings: no smaller than 0.001.",
        )
    st.write(
        "With ties D tends to be smaller, so the exact p-value is, if anything, too large: **ties make the test cautious, not generous.**"
    )
    small(cite("permutation", "here"))


def dependence() -> None:
    """Why alpha is no error rate when the second sample began as the first."""
    alpha = pair.alpha()
    st.write(
        "The test asks: were these two samples drawn **independently** from one distribution? After fine-tuning they were not: the tuned row is "
        "the base row, moved. Below, each value is moved by random noise. A row that is drawn anew with the same spread is below alpha as often as "
        "alpha says while the noise is small; the moved row hardly ever, until the noise is large enough to change the shape of its distribution."
    )
    dim = st.select_slider("Values in a row, d", [w for w in lessons.WIDTHS if w <= 4096], 576, key="learn_dependence")
    shares = _dependence(dim, alpha)
    charts.chart(
        partial(lesson_figures.dependence_curve, SIZES, shares, alpha),
        "learn-dependence",
        signature(d=dim, alpha=f"{alpha:g}", draws=300, seed=0),
    )
    st.write(
        "So alpha sets **how large a shift must be**, and it is not the share of false alarms. p-values of barely moved rows pile up at 1, and no "
        "correction for many tests repairs that. The audit page measures the same on the rows of your own model."
    )
    st.page_link("pages/audit.py", label="See it on this pair: panel Calibration", icon=":material/gavel:")
    small("Each point: 300 made-up rows. " + cite("here", "replication"))


def _critical(dim: int, alpha: float) -> str:
    value = critical_value(dim, alpha)
    return f"{value:.4f}" if value <= 1 else "none"
