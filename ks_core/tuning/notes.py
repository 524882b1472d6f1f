"""What stands beside a run's table: what its intervals leave out, where its scores disagree, and what can be had for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ks_core.translation.metrics import TITLES
from ks_core.tuning.comparison import NARROW, OVER_SENTENCES, base_of, judgement_of, lengths, metric_of, rule_of

#: Kinds of arms that are the ticket, and those of an exam, the first of which is the base.
TICKETS = ("partial", "transfer", "checkpoint")
#: What stands beside a sweep over alpha.
CHOSEN = (
    "The sweep is scored on the sentences of the table: an alpha that is chosen by it has to be tried on others before its score is "
    "claimed."
)
#: Below this a p-value, corrected by Holm, is clear.
CLEAR = 0.05


def notes(summary: Mapping[str, Any], tuned: str = "") -> list[str]:
    """Sentences beside a run's table. ``tuned`` is the run's given checkpoint.

    What the intervals leave out, with the spread over seeds where there are several; where likelihood and BLEU disagree; whether
    a ticket does more than a stop sequence; where arms were not trained for as long; how well matched controls match; how the
    base was asked otherwise; what the sweep over alpha is no ground for; and of which arm there is no likelihood, or none in parts.
    """
    finished = [arm for arm in summary["arms"] if not arm["error"]]
    judgement = judgement_of(summary)
    spread = _spread(finished, judgement, rule_of(summary))
    said = [OVER_SENTENCES + (f" Over the seeds here: {'; '.join(spread)}." if spread else "")]
    if finished and not any(arm.get("evaluation") for arm in finished):
        said.append("No answers were written: the arms are judged by the likelihood of the references alone.")
    elif len(finished) > 1 and metric_of(summary) == "bleu":  # of other metrics it was not looked at
        said.append(NARROW)
    said += _disagreements(finished, summary, judgement) + _stop_sequences(finished, summary, judgement)
    said += filter(None, [lengths(summary, tuned)])
    said += [f"{a['name']}: {a['balance']['sentence']}." for a in finished if a.get("balance")]
    said += [f"{a['name']}: {a['asked']['about']}." for a in finished if a.get("asked")]
    said += [CHOSEN] if summary.get("sweep") else []
    return said + _missing(finished, judgement)


def _spread(finished: Sequence[Mapping[str, Any]], judgement: Mapping[str, Any], rule: str) -> list[str]:
    """Of each kind of arm that there is with several seeds, from where to where it goes."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for arm in finished:
        by_kind.setdefault(arm["kind"], []).append(arm)
    found = []
    for arms in by_kind.values():
        if len({(a.get("arm") or {}).get("seed") for a in arms}) < 2:
            continue
        nats = sorted(
            judgement["arms"][a["name"]]["all"]["value"] for a in arms if a["name"] in judgement.get("arms", {})
        )
        written = [a["evaluation"] for a in arms if a.get("evaluation")]
        words = [f"{nats[0]:.2f} to {nats[-1]:.2f} nats a target token"] if len(nats) > 1 else []
        if len(written) > 1:
            chrf = sorted(e["scores"][rule]["chrf"]["value"] for e in written)
            stops = sorted(e["stop_rate"] for e in written)
            words += [
                f"{chrf[0]:.1f} to {chrf[-1]:.1f} chrF ({_words(rule)})", f"ending {stops[0]:.0%} to {stops[-1]:.0%} of answers"
            ]  # fmt: skip
        if words:
            found.append(f"{arms[0]['name']} {', '.join(words)}")
    return found


def _disagreements(
    finished: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], judgement: Mapping[str, Any]
) -> list[str]:
    """Where likelihood and BLEU (``metric_of``) disagree: about a gain over the base being there, and about an order."""
    significance, said = summary.get("significance", {}), []
    likely_alone, score_alone, turned = [], [], []
    metric, rule = metric_of(summary), rule_of(summary)
    title = TITLES[metric]
    told = f"{title} ({_words(rule)})"
    base = base_of(summary)
    for baseline, gains in judgement.get("gains", {}).items():
        for name, gain in gains.items():
            leaf = significance.get(baseline, {}).get(rule, {}).get(name, {}).get(metric)
            if leaf is None:
                continue
            likely = _sign(gain["all"]["value"], gain["holm"])
            score = _sign(leaf["difference"], leaf.get("holm", leaf["pvalue"]))
            if likely * score < 0:
                better, worse = ("likelihood", title) if likely > 0 else (title, "likelihood")
                turned.append(f"against {baseline}, {name} is clearly better by {better} and clearly worse by {worse}")
            elif baseline == base and likely > 0 and not score:
                likely_alone.append(name)
            elif baseline == base and score > 0 and not likely:
                score_alone.append(name)
    parts = []
    if likely_alone:
        parts.append(f"by likelihood a gain over the base is clear that is not by {told} for {_listed(likely_alone)}")
    if score_alone:
        parts.append(f"by {told} a gain over the base is clear that is not by likelihood for {_listed(score_alone)}")
    if parts:
        said.append(f"The scores disagree about a gain: {'; '.join(parts)}.")
    order = [*_best(finished, judgement, metric, rule), *turned]
    return said + ([f"The scores disagree about an order: {'; '.join(order)}."] if order else [])


def _best(finished: Sequence[Mapping[str, Any]], judgement: Mapping[str, Any], metric: str, rule: str) -> list[str]:
    """That another arm of three or more is the best by likelihood than by a metric, clearly or not."""
    both = [a for a in finished if a.get("evaluation") and a["name"] in judgement.get("arms", {})]
    if len(both) < 3:
        return []
    # By the character, as arms that are asked otherwise may read a reference in other pieces.
    likely = min(both, key=lambda a: judgement["arms"][a["name"]]["bits_per_character"])
    scored = {a["name"]: a["evaluation"]["scores"][rule][metric]["value"] for a in both}
    best = max(both, key=lambda a: scored[a["name"]])
    if scored[best["name"]] <= scored[likely["name"]]:  # one and the same, or as good
        return []
    return [f"the best by likelihood is {likely['name']}, by {TITLES[metric]} ({_words(rule)}) {best['name']}"]


def _stop_sequences(
    finished: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], judgement: Mapping[str, Any]
) -> list[str]:
    """Of each ticket that is not clearly better than the base with a forced stop, that it is not."""
    stopped = next((a["name"] for a in finished if a["kind"] == "stop"), None)
    metric, said = metric_of(summary), []
    title = TITLES[metric]
    for arm in finished if stopped else []:
        if arm["kind"] not in TICKETS or (arm["kind"] == "checkpoint" and arm is finished[0]):
            continue
        name = arm["name"]
        gain = judgement.get("gains", {}).get(stopped, {}).get(name)
        leaf = summary.get("significance", {}).get(stopped, {}).get("raw", {}).get(name, {}).get(metric)
        found: list[tuple[str, str, bool]] = []
        if gain:
            own = gain["all"]
            bounds = "" if own["low"] is None else f" [{own['low']:+.2f}, {own['high']:+.2f}]"
            words = f"{own['value']:+.2f}{bounds} nats a target token"
            found.append(("likelihood", words, _sign(own["value"], gain["holm"]) > 0))
        if leaf:
            p = leaf.get("holm", leaf["pvalue"])
            found.append(
                (f"{title} (raw)", f"{leaf['difference']:+.1f} {title}, p = {p:.2g}", _sign(leaf["difference"], p) > 0)
            )
        more, no_more = ([one for one in found if one[2] is clear] for clear in (True, False))
        if no_more:
            by, words = (" and ".join(texts) for texts in zip(*(one[:2] for one in no_more), strict=True))
            said.append(
                f"{name} does what a stop sequence does: by {by} it is not clearly better than the base that is stopped at a line "
                f"break ({words})" + (f"; by {more[0][0]} it is ({more[0][1]})." if more else ".")
            )
    return said


def _missing(finished: Sequence[Mapping[str, Any]], judgement: Mapping[str, Any]) -> list[str]:
    """Of which arms there is no likelihood, and why; and of which it has no parts."""
    reasons: dict[str, list[str]] = {}
    for arm in finished:
        if arm.get("no_likelihood"):
            reasons.setdefault(arm["no_likelihood"], []).append(arm["name"])
    said = [f"No likelihood of {_listed(names)}: {reason}" for reason, names in reasons.items()]
    whole = [name for name, own in judgement.get("arms", {}).items() if "end" not in own]
    if whole:
        said.append(
            f"The likelihood of {_listed(whole)} cannot be parted into end and content, as the tokenizer names no end token: what "
            "was learned of stopping is not seen in it."
        )
    return said


def _words(rule: str) -> str:
    """A rule's name in a sentence."""
    return rule.replace("_", " ")


def _sign(value: float, p: float) -> int:
    """Whether a difference is clearly above 0 (1), clearly below it (-1), or neither."""
    return 0 if p >= CLEAR or not value else 1 if value > 0 else -1


def _listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a sentence, the first few of many."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
