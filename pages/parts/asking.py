"""What a visitor of the page Ask looks at: the question in the session and in the address, its queue, the rows that are switched off."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from ks_core.asking import Asked, Example, Question, bounds_of, example_of, respondent
from ks_core.store import Provenance, access
from ks_core.study import Scan, Study
from pages.parts.say import plain

#: Where the question that is looked at stands: in the session, and in the address, so that a reload finds it.
KEY, LINK = "ask_question", "question"
#: In the session: the question that this visitor does not wait for any more, while others do.
LEFT = "ask_left"
#: In the session: the question of the pair that is shipped with its answers, if one is.
EXAMPLE = "ask_example"


def look(key: str) -> Asked | None:
    """A question with what is known of its answers by now; this visitor waits for it, unless it was stopped here. The one that is shipped
    is found where nobody has asked it anew."""
    if not key:
        return None
    found = respondent().find(key, "" if st.session_state.get(LEFT) == key else _visitor())
    known: Example | None = st.session_state.get(EXAMPLE)
    return found or (known.asked if known and known.asked.question.key == key else None)


def example(study: Study) -> Asked | None:
    """Begin with the question of this pair that is shipped, where the visitor has asked nothing."""
    found = st.session_state[EXAMPLE] = example_of(study)
    if found is None:
        return None
    if not (st.session_state.get(KEY) or st.query_params.get(LINK)):
        st.session_state[KEY] = found.asked.question.key
    return found.asked


def shipped(asked: Asked) -> Provenance | None:
    """Where it comes from, if it is the one that is shipped and was not asked here."""
    known: Example | None = st.session_state.get(EXAMPLE)
    return known.shipped if known and known.asked is asked else None


def provenance(found: Provenance) -> None:
    """Where the shipped answers come from."""
    again = "" if access.read_only() else " Ask it again to have it answered here, or ask something else."
    st.caption(f":material/inventory_2: {plain(f'{found.sentence} The ticket is that at alpha 0.05.{again}')}")


def ask(question: Question, study: Study, scan: Scan) -> None:
    """Put the question into the queue; from now on it is the one that is looked at."""
    st.session_state.pop(LEFT, None)
    st.session_state[KEY] = respondent().ask(question, bounds_of(study, scan), _visitor()).question.key


def _visitor() -> str:
    """Who asks: this session, which a reload ends."""
    context = get_script_run_ctx()
    return context.session_id if context else ""


def is_here(visitor: str) -> bool:
    """Whether a session is still open in a browser."""
    return not runtime.exists() or bool(runtime.get_instance().is_active_session(visitor))


def stop(key: str) -> None:
    """This visitor waits no more; where others do, it alone is told so."""
    if not respondent().stop(key, _visitor()):
        st.session_state[LEFT] = key


def again() -> None:
    """A row or the strength was moved: the question is asked anew by this run of the page."""
    st.session_state["ask_again"] = True


def family(question: Question) -> str:
    """The question whatever rows act, and however strongly: what its switches are called by."""
    return replace(question, off=(), strength=1.0).key


def off(question: Question) -> tuple[int, ...]:
    """The ticket's rows that are off for this question: as they were switched last, or as it was asked last."""
    own = family(question)
    last = st.session_state.get("ask_off", ("", ()))
    if last[0] == own:
        return last[1]
    before = look(st.session_state.get(KEY, ""))
    return before.question.off if before and family(before.question) == own else ()


def switched(family: str, touching: tuple[int, ...], ticket: tuple[int, ...]) -> None:
    """Rows were switched on or off."""
    # Kept apart from the widgets, which are not there while an answer is awaited, and forget.
    on, others = (set(st.session_state.get(f"ask_{name}_{family}", ())) for name in ("rows", "others"))
    off = tuple(i for i in ticket if (i in touching and i not in on) or i in others)
    st.session_state["ask_off"] = (family, off)
    again()
