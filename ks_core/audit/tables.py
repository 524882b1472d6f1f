"""The run of the controls as rows of text for tables: stopping, and every arm beside the ticket."""

from __future__ import annotations

from collections.abc import Sequence

from ks_core.audit import sentences
from ks_core.audit.gains import Gain
from ks_core.audit.sentences import METRICS, in_words, is_clear
from ks_core.translation.shares import Share

_OF = {"partial": "Partial Tuning", "transfer": "Partial Transfer", "paired": "Ticket rows with a partner"}


def stopping(arm_gains: Sequence[Gain]) -> list[dict[str, str]]:
    """A row an arm: what remains of its raw gain where answers are cut, in both metrics."""
    rows = []
    for gain in arm_gains:
        cut = gain.rule.replace("_", " ")
        row = {"Arm": gain.name, "Steps": f"{gain.steps}" if gain.steps else "–"}
        for metric, found in gain.stopping.items():
            row[f"Gain in {METRICS[metric]}, {cut}"] = sentences.gain(found)
            row[f"Share of the raw gain in {METRICS[metric]} that remains"] = _share(found, "raw ")
        rows.append({
            **row, "Ends by itself": f"{gain.stop_rate:.0%}", "Mean length": f"{gain.mean_length:.0f} characters",
        })  # fmt: skip
    return rows


def controls(arm_gains: Sequence[Gain]) -> list[dict[str, str]]:
    """A row an arm: its rows, how many are the ticket's, steps, gain, and share of the gain that it is compared with."""
    return [
        {
            "Arm": gain.name, "Rows": f"{gain.rows:,}" if gain.rows else "–",
            "Of them in the ticket": "–" if gain.in_ticket is None else f"{gain.in_ticket:,}",
            "Steps": f"{gain.steps}" if gain.steps else "–",
            "Gain in chrF, first line": sentences.gain(gain.shares["chrf"]), "Share": _share(gain.shares["chrf"]),
            "Of the gain of": _OF[gain.of], "Balance": gain.balance,
        }
        for gain in arm_gains
    ]  # fmt: skip


def _share(found: Share, kind: str = "") -> str:
    if is_clear(found):
        return in_words(found)
    return f"a {kind}loss" if found.whole_high is not None and found.whole_high < 0 else f"no clear {kind}gain"
