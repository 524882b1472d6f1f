"""The pair and alpha that all pages look at: chosen in one place, kept in the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError
from ks_core.store import access
from ks_core.study import Scan, Study, named
from pages.parts import say
from pages.parts.job import make
from pages.parts.say import plain

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

#: In the session: where the sidebar says how large the ticket is, and what it said last, of which pair and alpha.
LINE, SAID = "ticket_line", "ticket_said"
ALPHA_HELP = (
    "A token wins when its p-value is below alpha. Because a tuned row started as the base row, the two samples are "
    "not independent: alpha sets how large a shift must be, it is not a false-positive rate."
)


def sidebar(above: DeltaGenerator) -> None:
    """The chooser, on every page, ``above`` the pages, with the ticket in a line. Its values are part of the URL, so a link restores
    them.

    What stands in a widget at first is given as its default, in every run: what is put into the session instead is sent to the
    browser once, and a run that follows at once takes its place there. A busy browser would show, and send back, an empty field.
    """
    with above:
        if access.read_only():
            _prepared()
        else:
            _sources()
        st.number_input(
            "alpha",
            min_value=1e-12,
            max_value=0.999999,
            value=0.05,
            step=0.01,
            format="%g",
            key="alpha",
            bind="query-params",
            help=ALPHA_HELP,
        )
        st.session_state[LINE] = st.empty()
        about, words = st.session_state.get(SAID, ((), ""))
        if about == _asked():  # a page that opens no pair knows no better
            st.session_state[LINE].caption(plain(words))
    with st.sidebar, st.popover("Share this view", icon=":material/link:"):
        st.caption("Whoever opens this link in the same app sees the same pair, alpha and view.")
        query = urlencode(st.query_params.to_dict(), doseq=True)
        st.code(f"{st.context.url}?{query}" if query else st.context.url, language=None, wrap_lines=True)


def _asked() -> tuple[str, ...]:
    return tuple(str(st.session_state.get(name)) for name in ("base", "tuned", "alpha"))


def _say_ticket(found: Scan) -> None:
    """The ticket in the sidebar, in a line: it is seen on every page without scrolling."""
    changed, wins = int(found.changed.sum()), int(found.winners(alpha()).sum())
    words = f"Ticket: {wins:,} of {changed:,} changed rows" if changed else "No row differs: no ticket."
    st.session_state[SAID] = _asked(), words
    if LINE in st.session_state:
        st.session_state[LINE].caption(plain(words))


def _prepared() -> None:
    """The studies that a read-only server shows. A link may name one by its pair, as elsewhere."""
    studies = {study.name: study for study in named.studies()}
    asked = (st.query_params.get("base", demo.BASE), st.query_params.get("tuned", demo.TUNED))
    meant = next((name for name, s in studies.items() if (s.base, s.tuned) == asked), None)
    if meant is None:
        say.warning("The pair of the link is not shown on this server.", icon="link_off")
    first = list(studies).index(meant or demo.TUNED)  # the address names the one that was chosen last
    chosen = studies[
        st.selectbox("Study", list(studies), first, key="study", help="This server shows prepared studies alone.")
    ]
    st.session_state.base, st.session_state.tuned = chosen.base, chosen.tuned
    st.query_params.update({"base": chosen.base, "tuned": chosen.tuned})


def _sources() -> None:
    """Any pair: two text fields."""
    st.text_input(
        "Base checkpoint",
        demo.BASE,
        key="base",
        bind="query-params",
        help="Before fine-tuning: a folder, a file, a hub id such as org/name, or demo:base. Of several embeddings :: chooses one, "
        "as in org/name::encoder.",
    )
    st.text_input(
        "Tuned checkpoint",
        demo.TUNED,
        key="tuned",
        bind="query-params",
        help="After fine-tuning: a folder, a file, a hub id, an adapter (on the base above where its own is not here), or a "
        "demo name such as demo:en-fr.",
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def open_study(base: str, tuned: str) -> Study:
    """A study held for all sessions. Its matrices are memory maps: what is held is small. An audit looks at those of other trainings too."""
    return Study(base, tuned)


def _routed() -> None:
    """Have the page run by way of app.py, which draws the sidebar."""
    if "base" not in st.session_state:
        # The first visitor of a fresh server came by a link to a page: Streamlit then runs that file of
        # pages/ by itself, as it did before st.navigation. From now on it goes through app.py.
        PagesManager.uses_pages_directory = False
        st.rerun()


def width() -> int | None:
    """Values in a row of the chosen pair; ``None`` while it cannot be opened."""
    _routed()
    try:
        return open_study(str(st.session_state.base).strip(), str(st.session_state.tuned).strip()).base.shape[1]
    except KSLotteryError:
        return None


def study() -> Study:
    """The chosen study, opened and matched. Shows the error and stops the page when it cannot be."""
    _routed()
    base, tuned = str(st.session_state.base).strip(), str(st.session_state.tuned).strip()
    if not base or not tuned:
        _explain("Name a base and a tuned checkpoint in the sidebar, or look at the demo.")
    if any(demo.is_name(source) for source in (base, tuned)) and not demo.is_ready():
        make("demo", {}, "Preparing the demo model")
    try:
        found = open_study(base, tuned)
        _ = found.pair, found.token_strings()  # opens both, and their tokenizers
        return found
    except KSLotteryError as error:
        _explain(error)


def alpha() -> float:
    """The chosen alpha."""
    _routed()
    return float(st.session_state.alpha)


def limits(chosen: Study) -> None:
    """What bounds the numbers of a page: rows that were not tested, rounding, what was read of several."""
    for note in chosen.pair.notes:
        st.caption(f":material/info: {plain(note)}")


def scan(chosen: Study) -> Scan:
    """The study's scan. While it is being computed the page shows the progress and ends there."""
    try:
        found = chosen.cached_scan()
    except KSLotteryError as error:
        _explain(error)
    if found is None:
        # The content is part of the job, so a changed file is a new job and not an old failure.
        make("scan", scan_parameters(chosen), "Testing every row")
    if [chosen.base_source, chosen.tuned_source] == [str(st.session_state[name]).strip() for name in ("base", "tuned")]:
        _say_ticket(found)  # not of another, which a page looks at beside the chosen pair
    return found


def scan_parameters(chosen: Study) -> dict[str, Any]:
    """What the job that tests a study is asked."""
    return {"base": chosen.base_source, "tuned": chosen.tuned_source, "content": chosen.key}


def _explain(problem: object) -> NoReturn:
    say.error(problem)
    st.caption("Choose another pair in the sidebar, or look at the demo: a real model, tuned on English-French pairs.")
    _demo_button()
    st.stop()


def _demo_button() -> None:
    def choose() -> None:
        st.session_state.base, st.session_state.tuned = demo.BASE, demo.TUNED

    st.button("Open the demo", icon=":material/play_circle:", on_click=choose)
