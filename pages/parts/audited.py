"""What is audited: the choices that the pages Audit and Certificate share, and the button that runs the panels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from ks_core.audit import BUDGETS, PANELS, Audit, Step
from ks_core.errors import KSLotteryError, TicketError
from ks_core.jobs import Allocation
from ks_core.study import Study
from ks_core.tuning import runnable
from pages.parts import audit_runs, pair, place, say, ticket_rule, tuning_text


def choose(study: Study) -> tuple[Audit, Allocation | None]:
    """The audit that the widgets describe, and where it is to run (``None``: here). Ends the page while its text is missing."""
    with st.expander("What is audited", icon=":material/tune:"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            rule, k = ticket_rule.choose("Ticket", "audit_")
            budget = st.selectbox(
                "Budget", list(BUDGETS), list(BUDGETS).index(Audit.budget), key="audit_budget", bind="query-params",
                format_func=lambda b: "{}: {} sentences, {} steps an arm, {} of each random arm".format(b, *BUDGETS[b]),
            )  # fmt: skip
            generate = st.toggle(
                "Have answers written too", key="audit_generate", bind="query-params",
                help="Everything is judged by the likelihood of the references. With answers BLEU and chrF stand beside it, and the audit "
                "takes several times as long.",
            )  # fmt: skip
        left, right = st.columns(2)
        with left:
            corpus = tuning_text.corpus()
        with right:
            prompt = tuning_text.prompt(corpus[1] if corpus else None, study.base_source)
    resources, allocation = place.choose("audit")
    if not corpus:
        say.info("Name the text under What is audited.")
        st.stop()
    ticket_rule.rows(
        study, pair.scan(study), rule, pair.alpha(), k
    )  # what it needs is made by a job, or is said to be missing
    asked = Audit.of(
        study, rule=rule, alpha=pair.alpha(), k=k, corpus=corpus[0], prompt=prompt, budget=budget,
        resources=resources, generate=bool(generate),
    )  # fmt: skip
    return asked, allocation


@contextmanager
def explained() -> Iterator[None]:
    """Around what asks for the ticket: what cannot be had ends the page with the reason."""
    try:
        yield
    except TicketError as error:  # an empty ticket is an answer, not a mistake
        say.info(error)
        st.stop()
    except KSLotteryError as error:
        say.error(error)
        st.stop()


def is_whole(asked: Audit) -> bool:
    """Whether the pair can be run; says what is missing when it cannot."""
    try:
        runnable.check(asked.base)
    except KSLotteryError as error:
        say.info(error)
        return False
    return True


def panels_button(asked: Audit, allocation: Allocation | None) -> None:
    """Start the panels that need the model, or follow them."""
    if not is_whole(asked):
        return
    *titles, last = [panel.title.lower() for panel in PANELS.values()]
    about = "One job for these panels; each appears when it is finished, and stays."
    step = Step("audit", asked.as_dict(), "Audit")
    audit_runs.step_button(step, f"Run {', '.join(titles)} and {last}", about, asked.device, allocation)
