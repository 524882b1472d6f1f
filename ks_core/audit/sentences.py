"""What the verdict says of each panel that the job makes, which comes in as plain values; and how gains and shares are put in words.

A share is said with its interval, and where the whole gain's interval lies above 0; a loss has words of its own. Gains in
likelihood are said in nats a target token, with what of them is the end token's and what the content's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ks_core.audit.agreement.certificate import Predictions, outcome
from ks_core.translation.metrics import TITLES
from ks_core.translation.prompts import template_title
from ks_core.translation.shares import Share

#: How metrics are called; nats are said with two places, points of a score with one.
METRICS = {**TITLES, "nats": "likelihood"}
PLACES = {"nats": 2}
COPIED = "the copied ticket (Partial Transfer)"
NATS = "nats a target token"


def gating(panel: Mapping[str, Any]) -> str:
    """What each part of the sequence recovers of the gain, acting alone."""
    runs = {r["name"]: r for r in panel["runs"]}
    found = {name: nats_of(run) for name, run in runs.items()}
    if not is_clear(found["all"]["all"]):
        return (
            f"{unclear(COPIED, found['all']['all'], 'nats')}, so there is no gain of which a part of the sequence could have a share."
        )  # fmt: skip
    parts = []
    for name, run in runs.items():
        if name in ("none", "all", "instruction"):
            continue
        if run["acting"] == 0:
            parts.append(f"{spoken(name)} none (its tokens do not occur there)")
        else:
            parts.append(f"{spoken(name)} {with_parts(found[name])}")
    return (
        f"Acting in one part of the sequence alone {COPIED} recovers, of its gain in likelihood "
        f"({of_gain(found['all'])}): " + ", ".join(parts) + "."
    )


def transfer(panel: Mapping[str, Any]) -> str:
    """What is kept of the gain under each other prompt."""
    trained = next(nats_of(r["tuned"]) for r in panel["runs"] if r["trained"])
    others = {r["name"]: nats_of(r["tuned"]) for r in panel["runs"] if not r["trained"]}
    left = "".join(f" {template_title(name)} was left out: {reason}" for name, reason in panel["left"].items())
    if not is_clear(trained["all"]):
        each = ", ".join(f"{template_title(name)} {nats(found['all'])}" for name, found in others.items())
        more = f" Its change under other prompts: {each}." if each else ""
        return f"{unclear(COPIED, trained['all'], 'nats')} under its own prompt, so there is no gain to be kept.{more}{left}"
    each = ", ".join(f"{template_title(name)} {with_parts(found)}" for name, found in others.items())
    return f"Under other prompts {COPIED} keeps, of its gain in likelihood ({of_gain(trained)}): {each or 'unknown'}.{left}"


def strength(panel: Mapping[str, Any]) -> str:
    """At which size of the change the ticket reads best: chosen on development references, claimed of the test's."""
    strengths = sorted({p["strength"] for p in panel["points"] if p["rows"] == panel["claimed"][0]["rows"]})
    looked, chosen = panel["settings"], panel["chosen"]
    claimed = {p["strength"]: nats_of(p) for p in panel["claimed"]}
    where = f"{COPIED[0].upper()}{COPIED[1:]}, at {len(strengths)} strengths from {strengths[0]:g} to {strengths[-1]:g} times its change"
    if looked["part"] == "development":
        said = (
            f"{where}, makes {looked['sentences']} development references most likely at {chosen:g}; on "
            f"{panel['claim_settings']['sentences']} test references that gains {of_gain(claimed[chosen])}"
        )
    else:
        said = (
            f"{where}, makes references most likely at {chosen:g}, a maximum over {len(strengths)} on the same {looked['sentences']} "
            f"references, as none are held out for development: {of_gain(claimed[chosen])}"
        )
    if chosen == 1:
        return f"{said}, over the base."
    more = share_of(panel["over_one"]["all"])
    return f"{said}, over the base, against {nats(claimed[1.0]['all'])} at 1 (a difference of {nats(more)})."


def certificate(panel: Mapping[str, Any]) -> str:
    """Where the condition holds, and whether the models then agree."""
    return outcome(Predictions.of(panel), "vocabulary").sentence


def share_of(kept: Mapping[str, Any]) -> Share:
    """A share as a panel keeps it."""
    return Share(**{name: value for name, value in kept.items() if name in Share.__dataclass_fields__})


def nats_of(reading: Mapping[str, Any]) -> dict[str, Share]:
    """What a kept reading gains, by part."""
    return {part: share_of(kept) for part, kept in reading["nats"].items()}


def is_clear(found: Share) -> bool:
    """Whether the whole is a gain that is clear of chance: only then is a share of it said."""
    return found.whole_low is not None and found.whole_low > 0


def unclear(who: str, found: Share, metric: str = "chrf") -> str:
    """What is said of a whole that is no clear gain: that it is a loss, or may be nothing."""
    name, places = f"{who[0].upper()}{who[1:]}", PLACES.get(metric, 1)
    said = f"{whole(found, places)}{f' {NATS}' if metric == 'nats' else ''}"
    if found.whole_high is not None and found.whole_high < 0:
        return f"{name} loses {METRICS[metric]} ({said})"
    return f"{name} has no gain in {METRICS[metric]} that is clear of chance ({said})"


def in_words(found: Share, places: int = 1) -> str:
    """A share of a clear gain with its interval; a negative one is called what it is.

    >>> in_words(Share(5, 4, 6, 0.5, 0.4, 0.6)), in_words(Share(-2, -3, -1, -0.2, -0.3, -0.1))
    ('50% [40%, 60%]', 'a loss of 2.0 [1.0, 3.0]')
    >>> in_words(Share(-0.2, -1, 0.6, -0.02, -0.1, 0.06))
    'none that is clear of chance [-10%, 6%]'
    """
    if found.value is None or found.low is None or found.high is None:
        return "no share that can be told"
    if found.gain_high is not None and found.gain_low is not None and found.gain_high < 0:
        return f"a loss of {-found.gain:.{places}f} [{-found.gain_high:.{places}f}, {-found.gain_low:.{places}f}]"
    bounds = f"[{percent(found.low)}, {percent(found.high)}]"
    return f"none that is clear of chance {bounds}" if found.value < 0 else f"{percent(found.value)} {bounds}"


def with_parts(found: Mapping[str, Share]) -> str:
    """A share of a clear gain in likelihood, with how many of its points are the end token's and how many the content's.

    >>> with_parts({"all": Share(5, 4, 6, 0.5, 0.4, 0.6), "end": Share(2, 1, 3, 0.2, 0.1, 0.3), "content": Share(3, 2, 4, 0.3, 0.2, 0.4)})
    '50% [40%, 60%] (end token 20%, content 30%)'
    """
    said = in_words(found["all"], PLACES["nats"])
    return f"{said} ({parts(found)})" if "end" in found and found["all"].low is not None else said


def parts(found: Mapping[str, Share]) -> str:
    """What of a share is the end token's and what the content's; empty where the two cannot be parted."""
    if "end" not in found:
        return ""
    return f"end token {percent(found['end'].value)}, content {percent(found['content'].value)}"


def of_gain(found: Mapping[str, Share]) -> str:
    """A gain in likelihood in nats with its interval, and what lies in the end token and in the content.

    >>> of_gain({"all": Share(5, 4, 6, 1, 1, 1), "end": Share(2, 1, 3, 0.4, 0.1, 0.6), "content": Share(3, 2, 4, 0.6, 0.4, 0.8)})
    '+5.00 [4.00, 6.00] nats a target token, of which end token +2.00 [1.00, 3.00] and content +3.00 [2.00, 4.00]'
    """
    said = f"{nats(found['all'])} {NATS}"
    return (
        f"{said}, of which end token {nats(found['end'])} and content {nats(found['content'])}"
        if "end" in found
        else said
    )


def gain(found: Share) -> str:
    """The gain in points with its interval: ``+4.0 [3.0, 5.0]``."""
    return _points(found.gain, found.gain_low, found.gain_high)


def nats(found: Share) -> str:
    """The gain in nats with its interval: ``+0.40 [0.30, 0.50]``."""
    return _points(found.gain, found.gain_low, found.gain_high, PLACES["nats"])


def whole(found: Share, places: int = 1) -> str:
    """The whole gain in points, or in nats, with its interval."""
    return _points(found.whole, found.whole_low, found.whole_high, places)


def percent(share: float | None) -> str:
    """A share in words.

    >>> percent(0.5), percent(None)
    ('50%', 'unknown')
    """
    return "unknown" if share is None else f"{share + 0.0 if abs(share) >= 0.005 else 0:.0%}"


def listed(words: Sequence[str]) -> str:
    """Words in a row.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _points(value: float, low: float | None, high: float | None, places: int = 1) -> str:
    value = value if abs(value) >= 0.5 * 10**-places else 0.0
    if low is None or high is None:
        return f"{value:+.{places}f}, no interval"
    return f"{value:+.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def spoken(name: str) -> str:
    """A gate in a sentence."""
    return {"prefill": "the prompt's end", "target": "the answer", "source": "the source"}.get(
        name, "the " + name.replace("_", "'s ")
    )
