"""What the verdict says of the panels' answers, where an audit had them written: gains in chrF at the first line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ks_core.audit.gains import FIRST
from ks_core.audit.sentences import COPIED, gain, in_words, is_clear, share_of, spoken, unclear, whole
from ks_core.translation.prompts import template_title


def gating(panel: Mapping[str, Any]) -> str:
    """What each part of the sequence recovers of the gain, acting alone."""
    runs = {r["name"]: r for r in panel["runs"]}
    shares = {name: share_of(r["recovery"][FIRST]["chrf"]) for name, r in runs.items()}
    if not is_clear(shares["all"]):
        return (
            f"{unclear(COPIED, shares['all'])}, so there is no gain of which a part of the sequence could have a share."
        )
    parts = []
    for name in runs:
        if name in ("none", "all", "instruction"):
            continue
        if runs[name]["acting"] == 0:
            parts.append(f"{spoken(name)} none (its tokens do not occur there)")
        else:
            parts.append(f"{spoken(name)} {in_words(shares[name])}")
    return (
        f"Acting in one part of the sequence alone {COPIED} recovers, of its gain in chrF ({whole(shares['all'])}): "
        + ", ".join(parts) + "."
    )  # fmt: skip


def transfer(panel: Mapping[str, Any]) -> str:
    """What is kept of the gain under each other prompt."""
    trained = next(share_of(r["kept"][FIRST]["chrf"]) for r in panel["runs"] if r["trained"])
    others = {r["name"]: share_of(r["kept"][FIRST]["chrf"]) for r in panel["runs"] if not r["trained"]}
    if not is_clear(trained):
        each = ", ".join(f"{template_title(name)} {gain(found)}" for name, found in others.items())
        more = f" Its change under other prompts: {each}." if each else ""
        return f"{unclear(COPIED, trained)} under its own prompt, so there is no gain to be kept.{more}"
    each = ", ".join(f"{template_title(name)} {in_words(found)}" for name, found in others.items())
    return f"Under other prompts {COPIED} keeps, of its gain in chrF ({whole(trained)}): {each or 'unknown'}."


def strength(panel: Mapping[str, Any]) -> str:
    """At which size of the change the ticket answers best: chosen on development sentences, claimed on the test's."""
    strengths = sorted({p["strength"] for p in panel["points"] if p["rows"] == "ticket"})
    looked, chosen = panel["settings"], panel["chosen"]
    claimed = {p["strength"]: _score(p) for p in panel["claimed"]}
    where = f"{COPIED[0].upper()}{COPIED[1:]}, at {len(strengths)} strengths from {strengths[0]:g} to {strengths[-1]:g} times its change"
    if looked["part"] == "development":
        said = (
            f"{where}, answers best at {chosen:g} on {looked['sentences']} development sentences; on "
            f"{panel['claim_settings']['sentences']} test sentences that scores chrF {claimed[chosen]}"
        )
    else:
        said = (
            f"{where}, answers best at {chosen:g}, a maximum over {len(strengths)} on the same {looked['sentences']} sentences, "
            f"as none are held out for development: chrF {claimed[chosen]}"
        )
    if chosen == 1:
        return f"{said}, against {claimed[0.0]} of the base."
    more = gain(share_of(panel["over_one"][FIRST]["chrf"]))
    return f"{said}, against {claimed[1.0]} at 1 (a difference of {more})."


def _score(point: Mapping[str, Any]) -> str:
    score = point["evaluation"]["scores"][FIRST]["chrf"]
    return f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"
