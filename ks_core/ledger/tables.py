"""A bake-off as text and as a table, from the plain values that the job ``rules`` kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ks_core.errors import visible
from ks_core.ledger.bakeoff import CLEAR
from ks_core.ledger.noninferiority import OPEN
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
    """The answer as Markdown: sentences, then tables of what each rule keeps at each size, in percent of the whole gain."""
    found = [f"**{result['sentence']}**", "", *_whole(result), "", *_shares(result), "", *_differences(result)]
    for name in ("null", "attribution", "smallest"):
        if name in result:
            found.append(f"- {result[name]['sentence']}")
    if result.get("as_good"):
        found += ["", *_as_good(result["as_good"])]
    if "trained" in result:
        found += ["", *_trained(result["trained"])]
    found += ["", *(f"- note: {note}" for note in result["notes"])]
    found += [f"- left out: {RULES[name].title}, as {reason}." for name, reason in result["left"].items()]
    return [visible(line) for line in [*found, "", f"signature  {result['signature']}"]]


def _whole(result: Mapping[str, Any]) -> list[str]:
    """What all changed rows gain."""
    whole, base, tuned, gain = result["whole"], result["base"], result["tuned"], result["gain"]
    several = result.get("trainings", [])
    rows = f"{result['changed']:,} changed rows"
    if len(several) > 1:
        counts = ", ".join(f"{training['changed']:,}" for training in several)
        rows = f"changed rows ({counts}; means of {len(several)} trainings)"
    found = (
        f"The {result['sentences']:,} test references cost {base['nats_all']:.3f} nats a target token under the base and "
        f"{tuned['nats_all']:.3f} with all {rows}, {base['bits_per_character']:.2f} and {tuned['bits_per_character']:.2f} bits a "
        f"character: a gain of {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}]."
    )
    if "end" in whole:
        found += (
            f" The end token {base['nats_end']:.2f} and {tuned['nats_end']:.2f}, the content {base['nats_content']:.2f} and "
            f"{tuned['nats_content']:.2f}: {share(whole['end'])}% of the gain is the end token's."
        )
    return [found]


def _shares(result: Mapping[str, Any]) -> list[str]:
    """What each rule keeps at each size, with the share of the end token at the largest; several trainings in brackets behind."""
    sizes, parted = result["sizes"], "end" in result["whole"]
    cells = {(row["rule"], row["k"]): row for row in result["rules"]}

    def cell(row: Mapping[str, Any]) -> str:
        each = row.get("seeds", [])
        told = f" ({', '.join('-' if x is None else f'{100 * x:.0f}' for x in each)})" if len(each) > 1 else ""
        return share(row["share"]) + told

    heads = [f"{k:,} rows" for k in sizes] + ([f"of that the end token, {sizes[-1]:,} rows"] if parted else [])
    found = [f"| % of the gain kept by | {' | '.join(heads)} | rank correlation with attribution |"]
    found.append("|---|" + "---:|" * (len(heads) + 1))
    for rule in dict.fromkeys(row["rule"] for row in result["rules"]):
        rho = result["correlation"].get(rule)
        shown = [cell(cells[rule, k]) for k in sizes] + ([share(cells[rule, sizes[-1]]["end_share"])] if parted else [])
        shown.append("-" if rho is None else f"{rho:.2f}")
        found.append(f"| {table_cell(cells[rule, sizes[0]]['title'])} | {' | '.join(shown)} |")
    return found


def _differences(result: Mapping[str, Any]) -> list[str]:
    """Which rules keep clearly more and less than D, size by size."""
    found = []
    for k in result["sizes"]:
        own = [d for d in result["differences"] if d["k"] == k]
        clear = sorted((d for d in own if d["holm"] < CLEAR), key=lambda d: -abs(d["value"]))
        more = [_points(d) for d in clear if d["value"] < 0]
        less = [_points(d) for d in clear if d["value"] > 0]
        if own:
            found.append(
                f"- With {k:,} rows, of {len(own)} other rules these keep clearly more points than D (paired bootstrap, p by Holm over all "
                f"{len(result['differences'])} below {CLEAR:g}): {', '.join(more) or 'none'}; clearly less: {', '.join(less) or 'none'}."
            )
    return found


def _points(difference: Mapping[str, Any]) -> str:
    low, high = sorted(abs(100 * difference[name]) for name in ("low", "high"))
    return f"{RULES[difference['second']].title} {abs(100 * difference['value']):.0f} [{low:.0f}, {high:.0f}]"


def _as_good(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tests of doing as well as another, as a table."""
    lines = [
        "| does it do as well as | margin | better by | answer | references that would decide |",
        "|---|---:|---:|---|---:|",
    ]
    for one in found:
        unit, digits = ("nats", 3) if one["unit"] == "nats" else (one["unit"], 1)
        lines.append(
            f"| {table_cell(one['own'])} as {table_cell(one['other'])} | {one['margin']:g} {unit} | {one['value']:+.{digits}f} "
            f"[{one['low']:+.{digits}f}, {one['high']:+.{digits}f}] | {one['answer']} | {decided_by(one)} |"
        )
    return lines


def decided_by(one: Mapping[str, Any]) -> str:
    """How many references would decide a test of doing as well, in words; empty where it is decided."""
    if one["answer"] != OPEN:
        return ""
    return "no number" if one["needed"] is None else f"about {max(one['needed'], one['sentences'] + 1):,}"


def _trained(found: Mapping[str, Any]) -> list[str]:
    """What rules reach that were trained alone, as a table."""
    parted = any("end_share" in row for row in found["rules"])
    lines = [
        found["sentence"],
        "",
        f"| {found['k']:,} rows trained alone | gain in nats | each seed |{' of that the end token |' if parted else ''}",
    ]
    lines.append("|---|---:|---|" + "---:|" * parted)
    for row in found["rules"]:
        gain, each = row["gain"], ", ".join(f"{x:.3f}" for x in row["seeds"])
        end = f" {share(row['end_share'])}% |" if parted else ""
        lines.append(
            f"| {table_cell(row['title'])} | {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}] | {each} |{end}"
        )
    for d in found["differences"]:
        lines.append(
            f"- {RULES[d['first']].title} less {RULES[d['second']].title}: {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}] nats, "
            f"p = {d['holm']:.3g} by Holm."
        )
    lines += [f"- {one['sentence']}" for one in found["as_good"]]
    return lines + [f"- left out: {RULES[rule].title}: {why}" for rule, why in found["left"].items()]


def frame(result: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each rule and size: what it keeps with its interval, and its likelihood in nats and bits."""
    import pandas as pd

    return pd.DataFrame([
        {
            "rule": row["rule"], "title": row["title"], "side": SIDES[row["side"]], "rows": row["k"], "share": row["share"]["value"],
            "low": row["share"]["low"], "high": row["share"]["high"], "gain": row["share"]["gain"],
            **({f"seed_{n}": one for n, one in enumerate(row["seeds"])} if len(row.get("seeds", ())) > 1 else {}),
            **{f"{part}_share": row[f"{part}_share"]["value"] for part in ("end", "content") if f"{part}_share" in row},
            **{name: row[name] for name in ("nats_all", "nats_end", "nats_content", "bits_per_character") if name in row},
            "correlation": result["correlation"].get(row["rule"]), "source": row["source"],
        }
        for row in result["rules"]
    ])  # fmt: skip
