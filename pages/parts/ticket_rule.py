"""The rule that makes a ticket, wherever one is chosen: its widgets, and the rows that it takes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import streamlit as st

from ks_core.errors import KSLotteryError, TicketError
from ks_core.study import Scan, Study
from ks_core.tickets import SELECTION_RULES, SIDES, is_quick, select
from pages.parts import job, say
from pages.parts.say import plain


def words(rule: str) -> str:
    """A rule in a list of them: its name, what it takes, and from where it knows it. A link holds these words."""
    found = SELECTION_RULES[rule]
    side = {"pair": "", "control": " (control)"}.get(found.side, f" ({SIDES[found.side]})")
    return f"{found.name}: {found.about}{side}"


def choose(label: str, prefix: str = "", *, most: int = 100_000, bound: bool = True) -> tuple[str, int]:
    """The rule and its k. ``prefix`` is that of their keys; ``bound`` puts them into the address."""
    bind: Literal["query-params"] | None = "query-params" if bound else None
    rule = st.selectbox(plain(label), list(SELECTION_RULES), format_func=words, key=f"{prefix}rule", bind=bind)
    k = st.number_input(
        "k", 1, most, min(18, most), disabled=not SELECTION_RULES[rule].by_count, key=f"{prefix}k", bind=bind, width=160,
        help="How many rows the rules take that go by an order. The paper's ticket for LLaMA-7B has 18.",
    )  # fmt: skip
    return rule, int(k)


def rows(study: Study, scan: Scan, rule: str, alpha: float, k: int) -> np.ndarray:
    """The rows that the rule takes, as positions in the scan. While what it needs is made, the page shows how far that is and
    ends there; it ends with the reason where the rule cannot choose here."""
    try:
        if not is_quick(study, scan, rule):
            found = SELECTION_RULES[rule]
            parameters = {"base": study.base_source, "tuned": study.tuned_source, "rule": rule, "content": study.key}
            button = "Train on noise" if found.needs == "null" else ""
            if button:
                st.caption(
                    "The rule needs many trainings on noise, which takes minutes: one job, whose answer is kept."
                )
            job.make("selection", parameters, f"What the rule {found.title} needs", button=button)
        with st.spinner("Choosing rows …"):
            return select(scan, rule=rule, alpha=alpha, k=k, study=study)
    except TicketError as error:  # what is not known is an answer, not a mistake
        say.info(error)
    except KSLotteryError as error:
        say.error(error)
    st.stop()


def source(rule: str) -> str:
    """From where the rule is, and what it does not say."""
    found = SELECTION_RULES[rule]
    if rule == "noise":
        return (
            "An exposure-adjusted p-value is this program's, not the paper's: how often trainings on noise reach a row's D at the same "
            "optimizer steps. It says that a row moved more in one direction than noise does, not that it carries anything."
        )
    if rule.startswith(("bonferroni", "benjamini")):
        return (
            "This correction is not in the paper. It makes the list shorter; it does not make alpha a false-positive rate, "
            "because the rows before and after are not independent."
        )
    if rule in ("alpha", "count"):
        return ""
    return f"This rule is not the paper's ({found.source}). What its rows are worth beside those of D is measured on the page Which rule?"
