"""What the verdict says of each panel that the job makes, which comes in as plain values; and how shares are put in words.

A share is said with its interval, and where the whole gain's interval lies above 0; a loss has words of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ks_core.audit.certificate import Predictions, outcome
from ks_core.audit.gains import FIRST
from ks_core.translation.prompts import template_title
from ks_core.translation.shares import Share

#: How metrics are called.
METRICS = {"bleu": "BLEU", "chrf": "chrF"}
COPIED = "the copied ticket (Partial Transfer)"


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
            parts.append(f"{_spoken(name)} none (its tokens do not occur there)")
        else:
            parts.append(f"{_spoken(name)} {in_words(shares[name])}")
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
    """At which size of the change the ticket translates best: chosen on development sentences, claimed on the test's."""
    strengths = sorted({p["strength"] for p in panel["points"] if p["rows"] == "ticket"})
    looked, chosen = panel["settings"], panel["chosen"]
    claimed = {p["strength"]: _score(p) for p in panel["claimed"]}
    where = f"{COPIED[0].upper()}{COPIED[1:]}, at {len(strengths)} strengths from {strengths[0]:g} to {strengths[-1]:g} times its change"
    if looked["part"] == "development":
        said = (
            f"{where}, translates best at {chosen:g} on {looked['sentences']} development sentences; on "
            f"{panel['claim_settings']['sentences']} test sentences that scores chrF {claimed[chosen]}"
        )
    else:
        said = (
            f"{where}, translates best at {chosen:g}, a maximum over {len(strengths)} on the same {looked['sentences']} sentences, "
            f"as none are held out for development: chrF {claimed[chosen]}"
        )
    if chosen == 1:
        return f"{said}, against {claimed[0.0]} of the base."
    more = gain(share_of(panel["over_one"][FIRST]["chrf"]))
    return f"{said}, against {claimed[1.0]} at 1 (a difference of {more})."


def certificate(panel: Mapping[str, Any]) -> str:
    """Where the condition holds, and whether the models then agree."""
    return outcome(Predictions.of(panel), "vocabulary").sentence


def share_of(kept: Mapping[str, Any]) -> Share:
    """A share as a panel keeps it."""
    return Share(**{name: value for name, value in kept.items() if name in Share.__dataclass_fields__})


def is_clear(found: Share) -> bool:
    """Whether the whole is a gain that is clear of chance: only then is a share of it said."""
    return found.whole_low is not None and found.whole_low > 0


def unclear(who: str, found: Share, metric: str = "chrf") -> str:
    """What is said of a whole that is no clear gain: that it is a loss, or may be nothing."""
    name = f"{who[0].upper()}{who[1:]}"
    if found.whole_high is not None and found.whole_high < 0:
        return f"{name} loses {METRICS[metric]} ({whole(found)})"
    return f"{name} has no gain in {METRICS[metric]} that is clear of chance ({whole(found)})"


def in_words(found: Share) -> str:
    """A share of a clear gain with its interval; a negative one is called what it is.

    >>> in_words(Share(5, 4, 6, 0.5, 0.4, 0.6)), in_words(Share(-2, -3, -1, -0.2, -0.3, -0.1))
    ('50% [40%, 60%]', 'a loss of 2.0 [1.0, 3.0]')
    >>> in_words(Share(-0.2, -1, 0.6, -0.02, -0.1, 0.06))
    'none that is clear of chance [-10%, 6%]'
    """
    if found.value is None or found.low is None or found.high is None:
        return "no share that can be told"
    if found.gain_high is not None and found.gain_low is not None and found.gain_high < 0:
        return f"a loss of {-found.gain:.1f} [{-found.gain_high:.1f}, {-found.gain_low:.1f}]"
    bounds = f"[{percent(found.low)}, {percent(found.high)}]"
    return f"none that is clear of chance {bounds}" if found.value < 0 else f"{percent(found.value)} {bounds}"


def gain(found: Share) -> str:
    """The gain in points with its interval: ``+4.0 [3.0, 5.0]``."""
    return _points(found.gain, found.gain_low, found.gain_high)


def whole(found: Share) -> str:
    """The whole gain in points with its interval."""
    return _points(found.whole, found.whole_low, found.whole_high)


def percent(share: float | None) -> str:
    """A share in words.

    >>> percent(0.5), percent(None)
    ('50%', 'unknown')
    """
    return "unknown" if share is None else f"{share + 0.0 if abs(share) >= 0.005 else 0:.0%}"


def listed(parts: Sequence[str]) -> str:
    """Words in a row.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _points(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{value:+.1f}, no interval"
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def _score(point: Mapping[str, Any]) -> str:
    score = point["evaluation"]["scores"][FIRST]["chrf"]
    return f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"


def _spoken(name: str) -> str:
    return {"prefill": "the prompt's end", "target": "the answer", "source": "the source"}.get(
        name, "the " + name.replace("_", "'s ")
    )
