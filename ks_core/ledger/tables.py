"""A bake-off as text and as a table, from the plain values that the job ``rules`` kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ks_core.errors import visible
from ks_core.ledger.rules import RULES, SIDES
from ks_core.values import table_cell

if TYPE_CHECKING:
    import pandas as pd


def share(found: Mapping[str, Any]) -> str:
    """A share with its interval, for a person; without bounds where there is no gain to be a share of."""
    if found["value"] is None:
        return "-"
    bounds = "" if found["low"] is None else f" [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
    return f"{100 * found['value']:.0f}{bounds}"


def lines(result: Mapping[str, Any]) -> list[str]:
    """The answer as Markdown: sentences, then what each rule keeps at each size, in percent of the whole gain."""
    sizes, whole = result["sizes"], result["whole"]
    base, tuned = result["base"], result["tuned"]
    found = [result["sentence"], ""]
    found.append(
        f"{result['sentences']:,} test references: {base['nats_all']:.3f} nats a target token with no row copied, {tuned['nats_all']:.3f} "
        f"with all {result['changed']:,} changed rows ({base['bits_per_character']:.2f} and {tuned['bits_per_character']:.2f} bits a character)."
    )
    if "end" in whole:
        found.append(
            f"The end token {base['nats_end']:.2f} and {tuned['nats_end']:.2f}, the content {base['nats_content']:.2f} and "
            f"{tuned['nats_content']:.2f}; {share(whole['end'])}% of the gain is the end token's."
        )
    found += ["", f"| rows copied | {' | '.join(f'{k:,}' for k in sizes)} | rank correlation with attribution |"]
    found.append("|---|" + "---:|" * (len(sizes) + 1))
    cells = {(row["rule"], row["k"]): row for row in result["rules"]}
    for rule in dict.fromkeys(row["rule"] for row in result["rules"]):
        rho = result["correlation"].get(rule)
        found.append(
            f"| {table_cell(cells[rule, sizes[0]]['title'])} | {' | '.join(share(cells[rule, k]['share']) for k in sizes)} | "
            f"{'-' if rho is None else f'{rho:.2f}'} |"
        )
    clear = [d for d in result["differences"] if d["holm"] < 0.05]
    found += [
        "",
        f"Of {len(result['differences'])} differences between D and another rule {len(clear)} are clear (paired bootstrap, p by Holm below 0.05).",
    ]
    for d in clear:
        better, worse = ("D", RULES[d["second"]].title) if d["value"] > 0 else (RULES[d["second"]].title, "D")
        points = sorted(abs(100 * x) for x in (d["low"], d["high"]))
        found.append(
            f"- {d['k']:,} rows: {better} keeps {abs(100 * d['value']):.0f} [{points[0]:.0f}, {points[1]:.0f}] points more than {worse}."
        )
    for name in ("attribution", "null", "smallest"):
        if name in result:
            found += ["", result[name]["sentence"]]
    found += ["", *(f"note: {note}" for note in result["notes"])]
    found += [f"left out: {RULES[name].title}, as {reason}." for name, reason in result["left"].items()]
    return [visible(line) for line in [*found, f"signature  {result['signature']}"]]


def frame(result: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each rule and size: what it keeps with its interval, and its likelihood in nats and bits."""
    import pandas as pd

    return pd.DataFrame([
        {
            "rule": row["rule"], "title": row["title"], "side": SIDES[row["side"]], "rows": row["k"], "share": row["share"]["value"],
            "low": row["share"]["low"], "high": row["share"]["high"], "gain": row["share"]["gain"],
            **{f"{part}_share": row[f"{part}_share"]["value"] for part in ("end", "content") if f"{part}_share" in row},
            **{name: row[name] for name in ("nats_all", "nats_end", "nats_content", "bits_per_character") if name in row},
            "correlation": result["correlation"].get(row["rule"]), "source": row["source"],
        }
        for row in result["rules"]
    ])  # fmt: skip
