"""A suite's result as sentences, Markdown and a table that a file takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ks_core.errors import visible
from ks_core.study.export import table_bytes
from ks_core.suites.cell import METRICS
from ks_core.suites.tables import ALL_PAIRS, WHOLES
from ks_core.translation.protocols import PROTOCOLS
from ks_core.values import table_cell

if TYPE_CHECKING:
    import pandas as pd

#: Metrics as people call them.
TITLES = {"bleu": "BLEU", "chrf": "chrF", "spbleu": "spBLEU"}


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What came out, in sentences, the unflattering first: what does as well without a ticket, then what the ticket keeps."""
    said = []
    for protocol in dict.fromkeys(row["protocol"] for row in result["rows"]):
        own = [row for row in result["rows"] if row["protocol"] == protocol]
        pairs = list(dict.fromkeys(row["pair"] for row in own))
        place = ALL_PAIRS if ALL_PAIRS in pairs else pairs[-1]
        gains = {row["kind"]: row for row in own if row["pair"] == place and row["gain"]}
        where = "In the mean of all pairs" if place == ALL_PAIRS else place
        if {"frequent", "partial"} <= set(gains):
            first, second = gains["frequent"]["gain"], gains["partial"]["gain"]
            said.append(
                f"{where}, under the protocol {protocol}, the most frequent rows gain {_span(first)} nats a target token and the ticket's rows, trained as long, "
                f"{_span(second)}."
            )
        if (row := gains.get("partial")) and row["end_share"] and row["end_share"]["low"] is not None:
            said.append(
                f"{_percent(row['end_share'])} of what the trained ticket gains is the end token's: learning to stop."
            )
        if whole := gains.get("embed"):
            kept = [
                f"{row['arm']} {_percent(row['of_whole'])}"
                for row in gains.values()
                if row["of_whole"] and row["of_whole"]["low"] is not None
            ]
            shares = f"; of that {', '.join(kept)}" if kept else ""
            said.append(f"Embed Tuning gains {_span(whole['gain'])}{shares}.")
    return said


def markdown(result: Mapping[str, Any]) -> list[str]:
    """The table as Markdown, line by line."""
    rules = _rules(result)
    metrics = [m for m in METRICS if any(m in row["scores"].get(rules[row["protocol"]], {}) for row in result["rows"])]
    head = [
        "pair",
        "arm",
        "rows",
        "steps",
        "seeds",
        "gain, nats a token",
        "p (Holm)",
        "of it the end's",
        "of Embed Tuning's",
    ]
    lines = []
    for protocol in dict.fromkeys(row["protocol"] for row in result["rows"]):
        own = [row for row in result["rows"] if row["protocol"] == protocol]
        lines += [
            f"**Protocol {protocol}** ({PROTOCOLS[protocol].title}; answers cut by the rule {rules[protocol]})",
            "",
        ]
        lines.append(f"| {' | '.join(head + [TITLES[m] for m in metrics])} |")
        lines.append(f"|---|---|{'---:|' * (len(head) - 2 + len(metrics))}")
        lines += [f"| {' | '.join(_cells(row, rules[protocol], metrics))} |" for row in own]
        lines.append("")
    return lines


def lines(result: Mapping[str, Any]) -> list[str]:
    """All of it: sentences, table, what was left out, signature."""
    told = [visible(sentence) for sentence in sentences(result)]
    left = [visible(f"left out: {name}: {why}") for name, why in result["left"].items()]
    return [
        "",
        *told,
        "",
        *markdown(result),
        *left,
        *(visible(f"note: {note}") for note in result["notes"]),
        visible(f"signature: {result['signature']}"),
    ]


def frame(result: Mapping[str, Any]) -> pd.DataFrame:
    """The table with a column for every number: for CSV, and for whoever computes with it."""
    import pandas as pd

    found = []
    for row in result["rows"]:
        made = {name: row[name] for name in ("pair", "protocol", "arm", "kind", "steps", "seeds", "sentences", "nats")}
        made["rows"] = (row["rows"][-1] if row["rows"] else 0) or None
        gain = row["gain"] or {}
        made |= {
            "gain": gain.get("value"),
            "gain_low": gain.get("low"),
            "gain_high": gain.get("high"),
            "p": gain.get("pvalue"),
            "holm_p": gain.get("holm"),
        }
        for name in ("end_share", *WHOLES):
            share = row[name] if row[name] and row[name]["low"] is not None else {}
            made |= {name: share.get("value"), f"{name}_low": share.get("low"), f"{name}_high": share.get("high")}
        for rule, scores in row["scores"].items():
            for metric, told in scores.items():
                made |= {
                    f"{metric}_{rule}{f'_{what}' if what != 'value' else ''}": told.get(what)
                    for what in ("value", "low", "high", "gain", "gain_low", "gain_high")
                }
        found.append(made)
    return pd.DataFrame(found)


def score_columns(result: Mapping[str, Any]) -> list[str]:
    """The columns of ``frame`` with what was written, by the rules that its protocols name first."""
    rules = dict.fromkeys(_rules(result).values())
    return [
        f"{metric}_{rule}"
        for metric in METRICS
        for rule in rules
        if any(metric in row["scores"].get(rule, {}) for row in result["rows"])
    ]


def file(result: Mapping[str, Any], suffix: str) -> str:
    """The result as the text of a file: ``.md``, ``.csv`` or ``.json``."""
    if suffix == ".json":
        return json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    if suffix == ".csv":
        return table_bytes(frame(result), suffix, result["signature"]).decode()
    return "\n".join(lines(result)).strip() + "\n"


def _rules(result: Mapping[str, Any]) -> dict[str, str]:
    """The extraction rule that a protocol's authors name first, by protocol."""
    return {row["protocol"]: PROTOCOLS[row["protocol"]].rules[0] for row in result["rows"]}


def _cells(row: Mapping[str, Any], rule: str, metrics: Sequence[str]) -> list[str]:
    """A row of the Markdown table."""
    sizes = sorted(set(row["rows"]))
    gain, scores = row["gain"], row["scores"].get(rule, {})
    return [
        table_cell(row["pair"]), table_cell(row["arm"]), " to ".join(f"{n:,}" for n in sizes) if any(sizes) else "", f"{row['steps']:,}" if row["steps"] else "",
        f"{row['seeds']}", f"{_span(gain)}" if gain else "", f"{gain['holm']:.2g}" if gain else "",
        *(_percent(row[name]) if row[name] and row[name]["low"] is not None else "" for name in ("end_share", "of_whole")),
        *(_score(scores.get(metric)) for metric in metrics),
    ]  # fmt: skip


def _score(told: Mapping[str, Any] | None) -> str:
    if not told:
        return ""
    return f"{told['value']:.1f}" + ("" if told["low"] is None else f" [{told['low']:.1f}, {told['high']:.1f}]")


def _span(found: Mapping[str, Any]) -> str:
    bounds = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['value']:+.2f}{bounds}"


def _percent(share: Mapping[str, Any]) -> str:
    return f"{100 * share['value']:.0f}% [{100 * share['low']:.0f}%, {100 * share['high']:.0f}%]"
