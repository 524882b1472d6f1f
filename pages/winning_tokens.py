"""Winning tokens: the table behind the numbers, and the ticket that comes out of it."""

from functools import partial

import numpy as np
import streamlit as st

from ks_core.checkpoints import take, to_floats
from ks_core.study import figures, table
from ks_core.tickets import SELECTION_RULES, spearman, ticket_of
from ks_core.tuning import trainings
from pages.parts import beside, charts, downloads, pair, say, ticket_rule
from pages.parts.say import plain

st.title("Winning tokens")
study = pair.study()
scan = pair.scan(study)
alpha = pair.alpha()
counts = trainings.counts(study.tuned_source)

with st.container(horizontal=True, vertical_alignment="bottom"):
    rule, k = ticket_rule.choose("Rule", most=len(scan.pvalue))
chosen = ticket_rule.rows(study, scan, rule, alpha, k)
frame = table(study, scan, alpha, counts)
frame["winner"] = np.isin(frame.token_id, scan.token_ids[chosen])
signature = str(
    scan.signature.with_fields(rule=rule, **({"k": k} if SELECTION_RULES[rule].by_count else {"alpha": f"{alpha:g}"}))
)
if about := ticket_rule.source(rule):
    st.caption(plain(about))
st.write(f"**{len(chosen):,}** of {len(frame):,} tokens are in the ticket.")
if st.toggle("What is known of each token beside the test", key="annotations", bind="query-params"):
    frame = beside.annotated(study, scan, frame, chosen, alpha)

with st.container(horizontal=True, vertical_alignment="bottom"):
    search = st.text_input(
        "Search", type="search", placeholder="part of a token, or an id", key="search", bind="query-params"
    )
    which = st.segmented_control(
        "Show", ["ticket", "changed", "all"], default="ticket", required=True, key="show", bind="query-params"
    )
shown = frame
if which == "ticket":
    shown = shown[shown.winner]
elif which == "changed":
    shown = shown[shown.l2 > 0]
if which == "ticket":
    shown = shown.drop(columns="winner")  # all of them are
if search:
    part = search.replace(" ", "␣")
    hits = shown.token.str.contains(part, case=False, regex=False) | (shown.token_id.astype(str) == search.strip())
    shown = shown[hits]

if shown.empty:
    say.info("No token fits. Clear the search, show all tokens, or raise alpha in the sidebar.", icon="search_off")
else:
    left, right = st.columns([3, 2])
    with left:
        event = st.dataframe(
            shown, hide_index=True, height=460, on_select="rerun", selection_mode="single-row", key="tokens",
            alt="Tokens with their test results, the largest shift first",
            column_config=beside.COLUMNS | {
                "rank": st.column_config.NumberColumn("Rank", width="small", help="By D, the largest first."),
                "token_id": st.column_config.NumberColumn("Id", width="small", format="%d"),
                "token": st.column_config.TextColumn("Token", help="␣ is a space, ⏎ a line break, ⟨E2⟩ a byte that is no text."),
                "statistic": st.column_config.NumberColumn("D", format="%.4f", help="Largest gap between the two CDFs."),
                "pvalue": st.column_config.NumberColumn("p-value", format="scientific", help="Exact, two-sided."),
                "winner": st.column_config.CheckboxColumn("In ticket"),
                "l2": st.column_config.NumberColumn("Shift (L2)", format="%.4f"),
                "cosine": st.column_config.NumberColumn("Cosine", format="%.4f"),
                "count": st.column_config.NumberColumn("Count", format="%d", help="How often the token occurs in the training "
                                                       "text, prompt and target together."),
            },
        )  # fmt: skip
    with right:
        rows = event.selection.rows
        row = shown.iloc[rows[0] if rows and rows[0] < len(shown) else 0]
        place = np.nonzero(scan.token_ids == row.token_id)[0]
        before, after = (to_floats(take(m, place), m.dtype)[0] for m in (study.pair.before, study.pair.after))
        charts.chart(partial(figures.cdfs, before, after, row.token), "token-cdfs", signature)
        st.caption(
            f"Rank {row['rank']:,}, id {row.token_id:d}: D = {row.statistic:.4f}, p = {row.pvalue:.3g}. Select a row to see "
            "another token."
        )
    downloads.table(shown, f"tokens-{scan.signature.short}", signature)
if len(chosen):
    downloads.ticket(lambda: ticket_of(study, scan, chosen, rule=rule, alpha=alpha), f"ticket-{scan.signature.short}")

if counts is not None:
    with st.expander("Do frequent tokens win?", icon=":material/query_stats:"):
        changed = frame[frame.l2 > 0]
        rho, _ = spearman(changed.statistic.to_numpy(), changed["count"].to_numpy())
        st.write(
            f"Among the {len(changed):,} changed rows, D and the count in the training text have a rank correlation of **{rho:.2f}** "
            f"(Spearman). Of the ticket's {len(chosen):,} tokens {int((frame[frame.winner]['count'] > 100).sum()):,} occur "
            "more than 100 times in the training text. A ticket that is little more than a list of frequent tokens says "
            "little about which parameters matter."
        )
downloads.signature(signature)
