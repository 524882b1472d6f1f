"""Beside a drift map: a token that is looked for, the tokens that are picked, the farthest movers in meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from ks_core.study import METRICS, DriftMap, Rows, Scan, Spot, Study, neighbourhoods, outlines
from ks_core.tickets import ticket_of
from pages.parts import downloads, provenance
from pages.parts.job import make
from pages.parts.say import plain

#: How many hits of a search one can choose from.
HITS = 50


def look_for(rows: Rows) -> int | None:
    """The field that a token is looked for in; its position, if there is one like it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        asked = st.text_input(
            "Find a token", type="search", placeholder="part of a token, or an id", key="find", bind="query-params",
            help="The map flies to it, and its nearest tokens before and after stand beside it.",
        )  # fmt: skip
        if not asked.strip():
            return None
        hits = _hits(rows, asked)
        if not len(hits):
            st.caption("No token fits.")
            return None
        return int(
            st.selectbox(
                f"{len(hits):,} fit" if len(hits) < HITS else f"The first {HITS} that fit", hits.tolist(), key="find_which",
                format_func=lambda i: f"{rows.tokens[i]} (id {rows.token_ids[i]})", disabled=len(hits) == 1,
            )
        )  # fmt: skip


def _hits(rows: Rows, asked: str) -> np.ndarray:
    """Positions of tokens that fit: the id itself, then equal strings, then those that hold it, the largest D first."""
    part = asked.replace(" ", "␣").casefold()
    bare = part.strip("␣")
    names = [t.casefold() for t in rows.tokens]
    kind = np.array([0 if t.strip("␣") == bare else 1 if part in t else 2 for t in names])
    if asked.strip().isdecimal():
        kind[rows.token_ids == int(asked.strip()[:18])] = -1
    order = np.lexsort((rows.token_ids, -rows.statistic, kind))
    return order[kind[order] < 2][:HITS]


def near(study: Study, scan: Scan, rows: Rows, position: int, metric: str) -> tuple[Spot, pd.DataFrame]:
    """A token and those near it in either space."""
    frame = neighbourhoods.of_token(study, scan, position, metric)
    parts = {kind: tuple(int(i) for i in frame.position[frame.stays == kind]) for kind in ("stayed", "left", "came")}
    return Spot(position, **parts), frame.assign(token=[rows.tokens[i] for i in frame.position])


def spot(rows: Rows, position: int, frame: pd.DataFrame, signature: str, on_map: bool) -> None:
    """What stands beside the map of a token that is looked at: its numbers, and who came and went."""
    st.subheader(plain(rows.tokens[position]), anchor=False)
    st.caption(
        f"id {int(rows.token_ids[position])}: D = {rows.statistic[position]:.4f}, p = {rows.pvalue[position]:.3g}, "
        f"shift {rows.l2[position]:.4g}."
    )
    if not on_map:
        st.caption("It is not among the tokens drawn: draw more of them in the settings.")
    came, left = int((frame.stays == "came").sum()), int((frame.stays == "left").sum())
    if not came and not left:
        st.write(f"Its {len(frame)} nearest tokens are the same before and after.")
    else:
        st.write(f"Of its {len(frame) - came:,} nearest tokens **{left:,}** went and **{came:,}** came.")
    _table(
        frame[["token", "token_id", "stays", "rank_before", "rank_after", "far_before", "far_after"]], "near",
        f"neighbours-{rows.token_ids[position]}", signature,
        token="Token", token_id="Id", stays="", rank_before="Base", rank_after="Tuned", far_before="Base, far", far_after="Tuned, far",
    )  # fmt: skip


def picked(event: Any, rows: Rows, found: DriftMap, *, beside: bool = False) -> list[int]:
    """Positions of what was drawn around or clicked on a map, without what is there twice: points say who they are, and what is drawn
    in the picture behind them is known by its place."""
    selection = event.selection if event else None
    ids = []
    for point in (selection.points if selection else []) or []:
        about = point.get("customdata")
        about = about[0] if isinstance(about, list | tuple) and about else about
        if isinstance(about, int | float) and about == about and abs(about) < 2**53:
            ids.append(int(about))
    where = {int(i): n for n, i in enumerate(rows.token_ids)} if ids else {}
    within = outlines.enclosed(found, _drawn(selection, "box"), _drawn(selection, "lasso"), beside=beside)
    return list(dict.fromkeys([*(where[i] for i in ids if i in where), *within.tolist()]))


def _drawn(selection: Any, name: str) -> list[Any]:
    drawn = getattr(selection, name, None)
    return drawn if isinstance(drawn, list) else []


def selection(study: Study, scan: Scan, rows: Rows, positions: list[int], alpha: float, signature: str) -> None:
    """The picked tokens as a table, as a file, and as a ticket."""
    st.subheader(f"{len(positions):,} tokens picked", anchor=False)
    at = np.array(positions)
    at = at[np.lexsort((rows.token_ids[at], -rows.l2[at], -rows.statistic[at]))]
    frame = pd.DataFrame({
        "token": [rows.tokens[i] for i in at], "token_id": rows.token_ids[at], "statistic": rows.statistic[at],
        "pvalue": rows.pvalue[at], "l2": rows.l2[at], "winner": rows.winning[at],
    })  # fmt: skip
    if rows.change is not None:
        frame["change"] = rows.change[at]
    if rows.carried is not None:
        frame["attribution"] = rows.carried[at]
    _table(frame, "picked", f"picked-{scan.signature.short}", signature, token="Token", token_id="Id", statistic="D", pvalue="p-value",
           l2="Shift", winner="Wins", change="Neighbours replaced", attribution="Attribution")  # fmt: skip
    moved = at[scan.changed[at]]
    if len(moved):
        if len(moved) < len(at):
            st.caption(f"The ticket takes the {len(moved):,} of them whose rows changed.")
        downloads.ticket(
            lambda: ticket_of(study, scan, moved, rule="picked", alpha=alpha), f"picked-ticket-{scan.signature.short}"
        )
    else:
        st.caption("None of them changed, so they make no ticket.")


def movers(study: Study, scan: Scan, rows: Rows, metric: str, signature: str) -> None:
    """The farthest movers in meaning; or the button that finds them."""
    st.subheader("Farthest movers in meaning", anchor=False)
    found = neighbourhoods.cached(study, metric)
    parameters = {"base": study.base_source, "tuned": study.tuned_source, "content": study.key, "metric": metric}
    if found is None:
        st.write(
            "A long way is not a new meaning: a row may take its neighbours with it. For every changed token (of more than "
            f"{neighbourhoods.MOST:,}, those of the largest D) its {neighbourhoods.K} nearest ones before and after, and how many were replaced."
        )
        make("neighbourhoods", parameters, "Neighbours before and after", button="Find the neighbours")
        return
    provenance.of_job(found.shipped, "neighbourhoods", parameters, "Neighbours before and after")
    change = found.change
    order = np.lexsort((rows.token_ids[found.positions], -rows.l2[found.positions], -change))
    at = found.positions[order]
    frame = pd.DataFrame({
        "token": [rows.tokens[i] for i in at], "token_id": rows.token_ids[at], "change": change[order],
        "statistic": rows.statistic[at], "l2": rows.l2[at], "winner": rows.winning[at],
    })  # fmt: skip
    if rows.carried is not None:
        frame["attribution"] = rows.carried[at]
    st.write(
        f"Of {len(at):,} changed tokens{' (those of the largest D)' if len(at) < int(scan.changed.sum()) else ''} {int((change == 0).sum()):,} kept their {neighbourhoods.K} nearest tokens and "
        f"{int((change == 1).sum()):,} kept none."
    )
    _table(frame, "movers", f"movers-{scan.signature.short}", signature, token="Token", token_id="Id", change="Replaced", statistic="D",
           l2="Shift", winner="Wins", attribution="Attribution")  # fmt: skip


def metric() -> str:
    """How near is measured."""
    return str(
        st.segmented_control(
            "Near by", list(METRICS), default="cosine", required=True, key="near", bind="query-params",
            help="By direction (cosine) or by place (Euclidean); every distance is computed, none is estimated.",
        )
    )  # fmt: skip


def _table(frame: pd.DataFrame, key: str, name: str, signature: str, **titles: str) -> None:
    formats = {"statistic": "%.4f", "pvalue": "scientific", "l2": "%.4f", "change": "%.2f", "attribution": "%.3f", "far_before": "%.3f", "far_after": "%.3f",
               "token_id": "%d"}  # fmt: skip
    config: dict[str, Any] = {
        column: st.column_config.NumberColumn(title, format=formats[column]) if column in formats else title
        for column, title in titles.items() if column in frame
    }  # fmt: skip
    st.dataframe(frame, hide_index=True, height=360, key=f"map-{key}", column_config=config)
    downloads.table(frame, name, signature)
