"""The run of the controls as rows of text for tables: stopping, by likelihood and by answers, and every arm beside the ticket."""

from __future__ import annotations

from collections.abc import Sequence

from ks_core.audit import sentences
from ks_core.audit.gains import Gain
from ks_core.audit.sentences import METRICS, in_words, is_clear
from ks_core.translation.shares import Share

_OF = {"partial": "Partial Tuning", "transfer": "Partial Transfer", "paired": "Ticket rows with a partner"}


def ends(arm_gains: Sequence[Gain]) -> list[dict[str, str]]:
    """A row an arm that has a likelihood: its gain in nats, and what of it is the end token's and the content's."""
    rows = []
    for gain in arm_gains:
        if not gain.nats:
            continue
        row = {
            "Arm": gain.name,
            "Steps": f"{gain.steps}" if gain.steps else "–",
            "Gain, nats a target token": sentences.nats(gain.own["all"]),
        }
        for part, words in (("end", "the end token"), ("content", "the content")):
            if part in gain.own:
                row[f"Of it {words}"] = sentences.nats(gain.own[part])
                row[f"Share of {words}"] = _share(gain.own[part], places=2)
        rows.append(row)
    return rows


def stopping(arm_gains: Sequence[Gain]) -> list[dict[str, str]]:
    """A row an arm that has answers: what remains of its raw gain where they are cut, in both metrics."""
    rows = []
    for gain in arm_gains:
        if not gain.stopping:
            continue
        cut = gain.rule.replace("_", " ")
        row = {"Arm": gain.name, "Steps": f"{gain.steps}" if gain.steps else "–"}
        for metric, found in gain.stopping.items():
            row[f"Gain in {METRICS[metric]}, {cut}"] = sentences.gain(found)
            row[f"Share of the raw gain in {METRICS[metric]} that remains"] = _share(found, "raw ")
        rows.append({
            **row, "Ends by itself": sentences.percent(gain.stop_rate), "Mean length": f"{gain.mean_length or 0:.0f} characters",
        })  # fmt: skip
    return rows


def controls(arm_gains: Sequence[Gain]) -> list[dict[str, str]]:
    """A row an arm: its rows, how many are the ticket's, steps, gain, and share of the gain that it is compared with, in
    likelihood and in chrF, as far as the run has them."""
    read, written = any(gain.nats for gain in arm_gains), any(gain.shares for gain in arm_gains)
    return [
        {
            "Arm": gain.name, "Rows": f"{gain.rows:,}" if gain.rows else "–",
            "Of them in the ticket": "–" if gain.in_ticket is None else f"{gain.in_ticket:,}",
            "Steps": f"{gain.steps}" if gain.steps else "–",
            **(_read(gain) if read else {}), **(_written(gain) if written else {}),
            "Of the gain of": _OF[gain.of], "Balance": gain.balance,
        }
        for gain in arm_gains
    ]  # fmt: skip


def _read(gain: Gain) -> dict[str, str]:
    found = gain.nats
    return {
        "Gain, nats a target token": sentences.nats(found["all"]) if found else "–", "Share of the nats": _share(found["all"], places=2) if found else "–",
        "Of it end token and content": sentences.parts(gain.own) if found and is_clear(gain.own["all"]) else "–",
    }  # fmt: skip


def _written(gain: Gain) -> dict[str, str]:
    found = gain.shares.get("chrf")
    return {
        "Gain in chrF, first line": sentences.gain(found) if found else "–", "Share of the chrF": _share(found) if found else "–",
    }  # fmt: skip


def _share(found: Share, kind: str = "", places: int = 1) -> str:
    if is_clear(found):
        return in_words(found, places)
    return f"a {kind}loss" if found.whole_high is not None and found.whole_high < 0 else f"no clear {kind}gain"
