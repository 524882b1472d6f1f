"""KS-Lottery Explorer: the router. Navigation and the pair that is being looked at, nothing else.

``streamlit run app.py`` imports this file once, for the server, and runs it as a script for every visit.
"""

from pathlib import Path

import streamlit as st

from ks_core.checkpoints import demo_files
from ks_core.errors import KSLotteryError, of_machine
from ks_core.jobs import turns
from ks_core.store import log
from pages.parts import gate, links, pair, readiness, say, warm_up

ASSETS = Path(__file__).parent / "assets"

log.begin(also=("streamlit",))
demo_files.show_evidence()


def failed(error: Exception, where: str = "what a widget calls") -> bool:
    """Say an error that a page did not deal with, such as a file that changes or a disk that fills meanwhile. The details of one that
    nobody expected are for whoever runs the server. Always true: Streamlit has nothing to add."""
    say.error(error if isinstance(error, KSLotteryError) else of_machine(error) or log.unexpected(error, where))
    return True


if __name__ != "__main__":
    readiness.begin()
    app = st.App(__file__, middleware=gate.middleware(), on_script_error=failed)
else:
    st.set_page_config(page_title="KS-Lottery Explorer", page_icon=str(ASSETS / "logo.png"), layout="wide")

    PAGES = {
        "": [
            st.Page("pages/overview.py", title="Overview", icon=":material/home:", default=True,
                    help="What is loaded, how large the ticket is, the largest shifts, what to do next."),
        ],
        "Understand": [
            st.Page("pages/learn.py", title="Learn", icon=":material/school:",
                    help="The method by doing: CDFs, D and p to play with, tickets, and the stopping trap, in nine short steps."),
            st.Page("pages/glossary.py", title="Glossary", icon=":material/menu_book:", help="Every term, in a sentence or two, with its source."),
        ],
        "The pair": [
            st.Page("pages/checkpoints.py", title="Checkpoints", icon=":material/folder_open:",
                    help="Choose the base and the tuned checkpoint; see what was found in each and what did not match."),
        ],
        "The test": [
            st.Page("pages/ks_test.py", title="KS test", icon=":material/bar_chart:",
                    help="p-values and D over the vocabulary, ticket size against alpha, and any token's two CDFs."),
            st.Page("pages/winning_tokens.py", title="Winning tokens", icon=":material/confirmation_number:",
                    help="The tokens behind the numbers: search, filter, inspect, download, save as a ticket."),
            st.Page("pages/layers.py", title="Layers", icon=":material/layers:",
                    help="The same test over every tensor of the model: which layers did fine-tuning shift?"),
            st.Page("pages/drift_map.py", title="Drift map", icon=":material/scatter_plot:",
                    help="Where the changed rows went, as PCA or UMAP of the embedding rows."),
            st.Page("pages/over_time.py", title="Over time", icon=":material/timeline:",
                    help="When does each token win? The same test at many steps of one training, live while it goes on."),
            st.Page("pages/compare.py", title="Compare", icon=":material/compare_arrows:",
                    help="Several tuned checkpoints of one base: shared and own tokens, ranks, p-values over one another."),
        ],
        "Tickets at work": [
            st.Page("pages/ask.py", title="Ask", icon=":material/forum:",
                    help="One prompt, three answers side by side: base, ticket, tuned; where they part, and which rows make the difference."),
            st.Page("pages/fine_tune.py", title="Fine-tune", icon=":material/science:",
                    help="Train the ticket, controls and references in the background; compare them by BLEU and chrF."),
            st.Page("pages/which_rule.py", title="Which rule?", icon=":material/balance:",
                    help="Whose rows keep most of what was learnt: D's, the longest, the most trained, those of attribution, or any?"),
            st.Page("pages/audit.py", title="Audit", icon=":material/gavel:",
                    help="Is the ticket real? What stopping explains, what other rows give, where and when it acts."),
            st.Page("pages/certificate.py", title="Certificate", icon=":material/verified:",
                    help="Does the ticket model predict what the embed-tuned one does, where the margin says it should?"),
            st.Page("pages/paper.py", title="Paper", icon=":material/article:",
                    help="What was published, what was replicated, and what suites of runs measured here, row by row."),
        ],
    }  # fmt: skip

    # Streamlit's own list of pages has section titles between its items, which is no list to a screen reader.
    page = st.navigation([p for pages in PAGES.values() for p in pages], position="hidden")

    st.logo(str(ASSETS / "logo.png"), size="large")
    st.html(ASSETS / "page.css")
    with st.sidebar:
        above = st.container(gap="xsmall")
    with st.sidebar, st.container(gap="xxsmall"):
        for section, pages in PAGES.items():
            if section:
                st.caption(section)
            for entry in pages:
                st.page_link(entry)
    try:
        with turns.turn(), links.checked(page.title):
            pair.sidebar(above)
            page.run()
        left = [entry.url_path for pages in PAGES.values() for entry in pages if entry.url_path != page.url_path]
        warm_up.answered(left, {name: str(st.session_state[name]) for name in ("base", "tuned")})
    except Exception as error:  # Streamlit's own ways out of a script are none
        failed(error, f"page {page.title}")
