"""What the verdict says of each panel that the job makes, which comes in as plain values; a sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ks_core.audit.certificate import Predictions, outcome
from ks_core.audit.gains import FIRST
from ks_core.translation.prompts import template_title


def gating(panel: Mapping[str, Any]) -> str:
    """What each part of the sequence recovers of the gain, acting alone."""
    runs = {r["name"]: r for r in panel["runs"]}
    single = [name for name in runs if name not in ("none", "all", "instruction")]
    parts = []
    for name in single:
        found = runs[name]["recovery"][FIRST]["chrf"]
        if runs[name]["acting"] == 0:
            parts.append(f"{_spoken(name)} none (its tokens do not occur there)")
        elif found["value"] is not None:
            parts.append(f"{_spoken(name)} {percent(found['value'])}")
    return (
        "Acting in one part of the sequence alone the ticket recovers, of its gain in chrF: " + ", ".join(parts) + "."
    )


def transfer(panel: Mapping[str, Any]) -> str:
    """What is kept of the gain under each other prompt."""
    parts = [
        f"{template_title(r['name'])} {percent(value)}"
        for r in panel["runs"]
        if not r["trained"] and (value := r["kept"][FIRST]["chrf"]["value"]) is not None
    ]
    return "Under other prompts the copied ticket keeps, of its gain in chrF: " + (", ".join(parts) or "unknown") + "."


def strength(panel: Mapping[str, Any]) -> str:
    """At which size of the change the ticket translates best."""
    points = [p for p in panel["points"] if p["rows"] == "ticket"]
    best = max(points, key=lambda p: p["evaluation"]["scores"][FIRST]["chrf"]["value"])
    return (
        f"Scaled from 0 to {max(p['strength'] for p in points):g} times its size, the ticket's change translates best at "
        f"{best['strength']:g} (chrF {best['evaluation']['scores'][FIRST]['chrf']['value']:.1f})."
    )


def certificate(panel: Mapping[str, Any]) -> str:
    """Where the condition holds, and whether the models then agree."""
    return outcome(Predictions.of(panel), "vocabulary").sentence


def percent(share: float | None) -> str:
    """A share in words.

    >>> percent(0.5), percent(None)
    ('50%', 'unknown')
    """
    return "unknown" if share is None else f"{share + 0.0 if abs(share) >= 0.005 else 0:.0%}"


def _spoken(name: str) -> str:
    return {"prefill": "the prompt's end", "target": "the answer", "source": "the source"}.get(
        name, "the " + name.replace("_", "'s ")
    )
