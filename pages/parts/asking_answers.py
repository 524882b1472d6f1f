"""The page Ask: the answers while they are written, the rows that the prompt touches, and where probabilities part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations

import streamlit as st

from ks_core.asking import VOICES, Asked, answers, figures, frame, parting as parted, respondent, touched
from ks_core.signature import versions
from ks_core.store import access
from ks_core.study import Scan, Study, readable
from pages.parts import asking, charts, downloads, say
from pages.parts.say import plain

#: Before how an answer ended: at the limit, by itself.
MARKS = (":material/more_horiz:", ":material/check_circle:")
#: Seconds between two looks at an answer that is being written.
LOOK = 0.4
WORDS = {
    answers.LOADS: "loading the models, once",
    answers.WRITES: "writing",
    answers.COMPARES: "comparing their probabilities",
}


def follow(asked: Asked) -> None:
    """The answers side by side, looked at again and again until they are written."""
    if asked.over:
        _columns(asked)
        return
    key = asked.question.key

    @st.fragment(run_every=LOOK)
    def view() -> None:
        found = asking.look(key)
        if found is None or found.over:
            st.rerun()
        before = respondent().before(key)
        words = f"{before} before this one" if before > 1 else WORDS.get(found.state, "waiting for its turn")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/hourglass_top: {plain(words)} …")
            if st.session_state.get(asking.LEFT) == key:
                st.caption(
                    "Somebody else waits for this answer, so it goes on. You can ask another question meanwhile."
                )
            else:
                st.button("Stop", icon=":material/stop_circle:", key="ask_stop", on_click=asking.stop, args=(key,))
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
    family = asking.family(question)
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
        format_func=lambda i: plain(f"{named(i)} ×{touching[i]}"), key=f"ask_rows_{family}", on_change=asking.switched,
        args=(family, tuple(touching), question.ticket),
    )  # fmt: skip
    others = [i for i in question.ticket if i not in touching]
    st.multiselect(
        "Other rows of the ticket that are off", others, [i for i in others if i in question.off],
        format_func=lambda i: f"{named(i)} ({i})", key=f"ask_others_{family}", on_change=asking.switched,
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
