"""The page Ask, part by part: what is typed, the answers while they are written, the rows, where probabilities part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from ks_core.asking import (
    MOST_NEW,
    VOICES,
    Asked,
    Question,
    Usual,
    answers,
    bounds_of,
    content_of,
    example_of,
    figures,
    frame,
    parting as parted,
    respondent,
    touched,
    usual,
)
from ks_core.signature import versions
from ks_core.store import access
from ks_core.study import Scan, Study, readable
from ks_core.translation import TEMPLATES, template_title
from pages.parts import charts, downloads, job, say, ticket_rule
from pages.parts.say import plain

#: Where the question that is looked at stands: in the session, and in the address, so that a reload finds it.
KEY, LINK = "ask_question", "question"
#: In the session: the question that this visitor does not wait for any more, while others do.
LEFT = "ask_left"
#: In the session: the question of the pair that is shipped with its answers, if one is.
EXAMPLE = "ask_example"
KINDS = ("A sentence", "A whole prompt")
OWN = "own"
#: Before how an answer ended: at the limit, by itself.
MARKS = (":material/more_horiz:", ":material/check_circle:")
#: Seconds between two looks at an answer that is being written.
LOOK = 0.4
WORDS = {
    answers.LOADS: "loading the models, once",
    answers.WRITES: "writing",
    answers.COMPARES: "comparing their probabilities",
}


def look(key: str) -> Asked | None:
    """A question with what is known of its answers by now; this visitor waits for it, unless it was stopped here. The one that is shipped
    is found where nobody has asked it anew."""
    if not key:
        return None
    found = respondent().find(key, "" if st.session_state.get(LEFT) == key else _visitor())
    known: Asked | None = st.session_state.get(EXAMPLE)
    return found or (known if known and known.question.key == key else None)


def example(study: Study) -> Asked | None:
    """Begin with the question of this pair that is shipped, where the visitor has asked nothing."""
    found = example_of(study)
    st.session_state[EXAMPLE] = found.asked if found else None
    if found is None:
        return None
    if not (st.session_state.get(KEY) or st.query_params.get(LINK)):
        st.session_state[KEY] = found.asked.question.key
    return found.asked


def is_shipped(asked: Asked) -> bool:
    """Whether it is the one that is shipped, and was not asked here."""
    return asked is st.session_state.get(EXAMPLE)


def provenance(study: Study) -> None:
    """Where the shipped answers come from."""
    found = example_of(study)
    if found:
        again = "" if access.read_only() else " Ask it again to have it answered here, or ask something else."
        st.caption(f":material/inventory_2: {plain(found.shipped.sentence)} The ticket is that at alpha 0.05.{again}")


def remember() -> None:
    """After a reload, or coming back from another page: the question that was looked at, in the widgets as it was typed."""
    respondent().present = _is_here
    key = st.session_state.get(KEY) or st.query_params.get(LINK, "")
    found = look(key)
    if found is None:
        st.session_state.pop(KEY, None)
        if st.query_params.get(LINK):
            st.caption("The question of the link is not remembered any more: ask it again.")
            del st.query_params[LINK]
        return
    st.session_state[KEY] = key
    if "ask_text" in st.session_state or is_shipped(found):
        return
    asked = found.question
    named = asked.prompt in TEMPLATES
    st.session_state.update({
        "ask_kind": KINDS[not asked.prompt], "ask_text": asked.text, "ask_template": asked.prompt if named else OWN,
        "ask_from": asked.source_language, "ask_to": asked.target_language, "ask_strength": asked.strength,
        "ask_limit": asked.max_new_tokens,
    })  # fmt: skip
    if asked.prompt and not named:
        st.session_state["ask_own"] = asked.prompt


def form(study: Study, scan: Scan, alpha: float) -> Question | None:
    """What the widgets describe, where it is to be asked now: the button was pressed, or a row or the strength was moved.

    Raises ``SettingsError`` for what cannot be asked.
    """
    known = _usual(study.base_source, study.tuned_source)
    left, right = st.columns([3, 2])
    with left:
        kind = st.segmented_control("What is typed", KINDS, default=KINDS[0], required=True, key="ask_kind")
        text = st.text_area(
            "Text", next(iter(known.sentences), ""), key="ask_text", height=100, label_visibility="collapsed"
        )
        if known.sentences:
            st.selectbox("Take a sentence that no training saw", known.sentences, index=None, key="ask_sample", on_change=_take,
                         placeholder="Take a sentence that no training saw", label_visibility="collapsed")  # fmt: skip
    with right:
        prompt = ""
        if kind == KINDS[0]:
            names = [*TEMPLATES, OWN]
            usual = names.index(known.prompt) if known.prompt in TEMPLATES else len(TEMPLATES)
            prompt = str(st.selectbox("Template", names, usual, key="ask_template", format_func=_title,
                                      help="How the sentence is put to the models. A ticket is keyed to the prompt that it was "
                                      "trained with."))  # fmt: skip
            with st.container(horizontal=True):
                st.text_input("From", known.source_language, key="ask_from")
                st.text_input("To", known.target_language, key="ask_to")
            if prompt == OWN:
                first = known.prompt if known.prompt not in TEMPLATES else TEMPLATES["short"].text
                prompt = st.text_area("Own template", first, key="ask_own", help="{source} is the sentence; {source_language} and "
                                      "{target_language} are the languages.")  # fmt: skip
    with right, st.container(horizontal=True, vertical_alignment="bottom"):
        rule, k = ticket_rule.choose("Ticket", "ask_", most=len(scan.pvalue), bound=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        strength = st.slider(
            "Strength of the ticket's rows", 0.0, 2.0, 1.0, step=0.05, key="ask_strength", on_change=_again, width=360,
            help="0 is the base, 1 the tuned rows; beyond 1 they go on in the same direction.",
        )  # fmt: skip
        limit = st.number_input("Most new tokens", 1, MOST_NEW, 48, key="ask_limit", width=160)
        pressed = job.button("Ask", icon=":material/play_arrow:", type="primary")
    again = st.session_state.pop("ask_again", False) and KEY in st.session_state
    if not (pressed or again):
        return None
    ticket = tuple(scan.token_ids[ticket_rule.rows(study, scan, rule, alpha, k)].tolist())
    plain_one = Question(
        study.base_source, study.tuned_source, text, prompt, st.session_state.get("ask_from", "") or known.source_language,
        st.session_state.get("ask_to", "") or known.target_language, ticket, max_new_tokens=int(limit), content=content_of(study),
    )  # fmt: skip
    return replace(plain_one, strength=float(strength), off=_off(plain_one))


def ask(question: Question, study: Study, scan: Scan) -> None:
    """Put the question into the queue; from now on it is the one that is looked at."""
    st.session_state.pop(LEFT, None)
    st.session_state[KEY] = respondent().ask(question, bounds_of(study, scan), _visitor()).question.key


def _visitor() -> str:
    """Who asks: this session, which a reload ends."""
    context = get_script_run_ctx()
    return context.session_id if context else ""


def _is_here(visitor: str) -> bool:
    """Whether a session is still open in a browser."""
    return not runtime.exists() or bool(runtime.get_instance().is_active_session(visitor))


def _stop(key: str) -> None:
    if not respondent().stop(key, _visitor()):
        st.session_state[LEFT] = key


@st.cache_data(max_entries=8, show_spinner="Looking how it was trained …")
def _usual(base: str, tuned: str) -> Usual:
    return usual(base, tuned)


def _title(name: str) -> str:
    return "My own text" if name == OWN else template_title(name)


def _take() -> None:
    if st.session_state.get("ask_sample"):
        st.session_state["ask_text"], st.session_state["ask_kind"] = st.session_state["ask_sample"], KINDS[0]


def _again() -> None:
    st.session_state["ask_again"] = True


def _family(question: Question) -> str:
    """The question whatever rows act, and however strongly: what its switches are called by."""
    return replace(question, off=(), strength=1.0).key


def _off(question: Question) -> tuple[int, ...]:
    """The ticket's rows that are off for this question: as they were switched last, or as it was asked last."""
    family = _family(question)
    switched = st.session_state.get("ask_off", ("", ()))
    if switched[0] == family:
        return switched[1]
    before = look(st.session_state.get(KEY, ""))
    return before.question.off if before and _family(before.question) == family else ()


def _switched(family: str, touching: tuple[int, ...], ticket: tuple[int, ...]) -> None:
    # Kept apart from the widgets, which are not there while an answer is awaited, and forget.
    on, others = (set(st.session_state.get(f"ask_{name}_{family}", ())) for name in ("rows", "others"))
    off = tuple(i for i in ticket if (i in touching and i not in on) or i in others)
    st.session_state["ask_off"] = (family, off)
    _again()


def follow(asked: Asked) -> None:
    """The answers side by side, looked at again and again until they are written."""
    if asked.over:
        _columns(asked)
        return
    key = asked.question.key

    @st.fragment(run_every=LOOK)
    def view() -> None:
        found = look(key)
        if found is None or found.over:
            st.rerun()
        before = respondent().before(key)
        words = f"{before} before this one" if before > 1 else WORDS.get(found.state, "waiting for its turn")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/hourglass_top: {plain(words)} …")
            if st.session_state.get(LEFT) == key:
                st.caption(
                    "Somebody else waits for this answer, so it goes on. You can ask another question meanwhile."
                )
            else:
                st.button("Stop", icon=":material/stop_circle:", key="ask_stop", on_click=_stop, args=(key,))
        _columns(found)

    view()


def _columns(asked: Asked) -> None:
    question = asked.question
    for column, (voice, title) in zip(st.columns(len(VOICES)), VOICES.items(), strict=True):
        with column, st.container(border=True, height="stretch"):
            st.subheader(plain(title), anchor=False)
            if voice == "ticket" and question.ticket:
                st.caption(
                    plain(
                        f"{len(question.acting):,} of {len(question.ticket):,} rows act, at strength {question.strength:g}"
                    )
                )
            if voice in asked.lacking:
                st.caption(plain(asked.lacking[voice]))
                continue
            say.text_block(asked.written.get(voice, "").strip(" "))
            answer = asked.answers.get(voice)
            if answer:
                st.caption(f"{MARKS[answer.stopped]} {plain(answer.ending)}")


def rows(asked: Asked, study: Study) -> None:
    """Which ticket rows the prompt touches, each with its switch."""
    question, named = asked.question, _named(study)
    touching = touched(asked.read, question.ticket)
    family = _family(question)
    st.header("Which rows does the prompt touch?")
    fixed = access.read_only()
    st.write(
        f"The prompt has {len(asked.read):,} tokens; {sum(touching.values()):,} of them stand at {len(touching):,} of the ticket's "
        f"{len(question.ticket):,} rows{plain(_listed(touching, named)) if fixed else ''}. "
        f"{'' if fixed else 'Switch a row off, and the answer of the ticket is written without it.'}"
    )
    if not question.ticket or fixed:
        return
    st.pills(
        "Rows that act", list(touching), selection_mode="multi", default=[i for i in touching if i not in question.off],
        format_func=lambda i: plain(f"{named(i)} ×{touching[i]}"), key=f"ask_rows_{family}", on_change=_switched,
        args=(family, tuple(touching), question.ticket),
    )  # fmt: skip
    others = [i for i in question.ticket if i not in touching]
    st.multiselect(
        "Other rows of the ticket that are off", others, [i for i in others if i in question.off],
        format_func=lambda i: f"{named(i)} ({i})", key=f"ask_others_{family}", on_change=_switched,
        args=(family, tuple(touching), question.ticket),
        help="They can matter where the answer itself reads them.",
    )  # fmt: skip


def _listed(touching: dict[int, int], named: Callable[[int], str]) -> str:
    return ": " + ", ".join(f"{named(i)} ×{often}" for i, often in touching.items()) if touching else ""


def parting(asked: Asked, study: Study, scan: Scan) -> None:
    """Where two voices part, token by token, along one of the answers."""
    named = _named(study)
    st.header("Where do their probabilities part?")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        along = str(st.segmented_control("Along the answer of", list(asked.along), default=_last(asked), required=True,
                                         format_func=lambda voice: plain(VOICES[voice]), key="ask_along"))  # fmt: skip
        places = asked.along.get(along) or []
        heard = [v for v in VOICES if all(v in p.nats for p in places)]
        pairs = {f"{second}-{first}": (first, second) for first, second in combinations(heard, 2)}
        if not pairs:
            st.caption("No other model reads this answer as the same tokens, so there is nothing to compare.")
            return
        which = str(
            st.selectbox("Compared", list(pairs), format_func=partial(_pair, pairs), key=f"ask_pair_{len(pairs)}")
        )
    first, second = pairs[which]
    ratios, words = parted(places, first, second, named, asked.answers[along].stopped)
    signature = str(scan.signature.with_fields(
        question=asked.question.key, strength=asked.question.strength, off=len(asked.question.off), **versions("torch", "transformers")
    ))  # fmt: skip
    strings = {
        i: named(i) for place in places for i in (place.token_id, *(i for top in place.top.values() for i, _ in top))
    }
    charts.chart(partial(figures.coloured, places, ratios, first, second, strings, words), "ask-parting", signature)
    st.write(plain(words))
    st.caption(
        f"Blue: {plain(VOICES[second])} finds the token likelier than {plain(VOICES[first])}, red: less likely. Point at a token for the five "
        "likeliest of each. All have read the prompt and the answer up to there. "
        f"Without loading, the first token came after {asked.first_token:.1f} s and everything after {asked.seconds:.1f} s."
    )
    with st.expander("The same as a table", icon=":material/table:"):
        table = frame(places, named)
        st.dataframe(
            table, hide_index=True, alt="Each token of the answer with its log-probability and the likeliest tokens"
        )
        downloads.table(table, "ask-tokens", signature)
    downloads.signature(signature)


def _last(asked: Asked) -> str:
    return next((v for v in ("ticket", "tuned", "base") if v in asked.along), "base")


def _pair(pairs: dict[str, tuple[str, str]], name: str) -> str:
    first, second = pairs[name]
    return f"{VOICES[second]} against {VOICES[first]}"


def _named(study: Study) -> Callable[[int], str]:
    strings = study.token_strings()
    return lambda i: readable(strings, i)
