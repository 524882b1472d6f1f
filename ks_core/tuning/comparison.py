"""A run's results as a table: one row per arm, ready for a page, a file or a terminal. What is said beside it is in ``notes``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ks_core.likelihood.judgement import judge
from ks_core.likelihood.nats import PARTS, Draws, Likelihood
from ks_core.translation import shares
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.metrics import leading
from ks_core.tuning import trainings

if TYPE_CHECKING:
    import pandas as pd

#: What stands beside every table of scores.
OVER_SENTENCES = "Every interval is over sentences alone; training seeds can vary by more than it says."
#: And of answers, as ``make coverage`` found.
NARROW = (
    "Intervals of gains in BLEU are too narrow: simulated from the demo's answers to 77 sentences, 85 of 100 held the true value (to 24, "
    "74), of gains in chrF 94 and in nats 93."
)
#: Metrics of which a table has the intervals too.
BOUNDED = ("bleu", "chrf", "rouge", "exact")
#: The kinds of arms that all others are compared with: the base, Embed Tuning (of the run, or given), the base with a forced stop.
AGAINST = ("base", "embed", "tuned", "stop")


def likelihoods(arms: Sequence[Mapping[str, Any]]) -> dict[str, Likelihood]:
    """The likelihood of each arm of a summary that has one, by its name; those of older runs have none."""
    return {a["name"]: Likelihood.from_dict(a["likelihood"]) for a in arms if not a["error"] and a.get("likelihood")}


def judged(arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the likelihoods of arms say (``likelihood.judgement.judge``): against the first of each kind of ``AGAINST``, the gain of
    Embed Tuning being the whole; of an exam, which has no such kinds, against its first checkpoint."""
    found = likelihoods(arms)
    first: dict[str, str] = {}
    for arm in arms:
        if arm["name"] in found:
            first.setdefault(arm["kind"], arm["name"])
    against = [first[kind] for kind in AGAINST if kind in first]
    if "base" not in first and "checkpoint" in first:
        against.insert(0, first["checkpoint"])
    return judge(found, against, first.get("embed") or first.get("tuned") or "")


def judgement_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The judgement that a summary holds; made here for a run that is going on. Empty for a run of before there was one."""
    return summary["likelihood"] if "likelihood" in summary else judged(summary["arms"])


def rule_of(summary: Mapping[str, Any]) -> str:
    """The extraction rule that a summary's table leads with; of a run that is going on, or is older than the choice, the first line."""
    return str(summary.get("rule") or "first_line")


def metric_of(summary: Mapping[str, Any]) -> str:
    """The metric that its table leads with: ``bleu`` of translations, ``rouge`` of text to text; ``bleu`` where nothing was written."""
    found = next((a["evaluation"]["scores"] for a in summary["arms"] if a.get("evaluation")), None)
    return leading(next(iter(found.values()))) if found else "bleu"


def base_of(summary: Mapping[str, Any]) -> str:
    """The name of the arm that is the base, of an exam its first checkpoint; empty where that is no arm, or was not finished."""
    arms = summary["arms"]
    first = next((a for a in arms if a["kind"] == "base"), next((a for a in arms if a["kind"] == "checkpoint"), None))
    return first["name"] if first and not first["error"] else ""


def nats_of(points: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Nats a target token of each of some points of a sweep, ``value, low, high``, over the same draws; all have a likelihood."""
    found = [Likelihood.from_dict(p["likelihood"]) for p in points]
    draws = Draws(len(found[0]))
    return [
        dict(zip(("value", "low", "high"), (one.nats, *draws.interval(draws.nats(one))), strict=True)) for one in found
    ]


def table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A row per finished arm of ``tuning.run``'s summary.

    Columns: ``arm, kind, rows, in_ticket`` (how many of the rows are the ticket's, empty where not noted), ``steps`` (of its
    training), ``trainable``.

    Of the references' likelihood, where some arm has one: ``nats`` a target token with ``nats_low``, ``nats_high`` (95%, as all
    intervals); the same with ``end_`` and ``content_`` before it, in nats a token of that part; ``nats_from_end`` and
    ``nats_from_content``, which add up to ``nats``; ``perplexity`` and ``bits_per_character``; what is gained over the base (``base_of``) in nats
    a target token, ``gain`` with ``gain_low``, ``gain_high``, and its parts ``gain_end`` and ``gain_content`` likewise;
    ``end_share`` of that gain, and ``of_whole``, its share of Embed Tuning's, both with ``_low`` and ``_high`` and empty where there is
    no clear gain to be a share of.

    Of the answers, where there are some: for each rule ``bleu_``, ``bleu_low_``, ``bleu_high_``, ``chrf_`` likewise, ``ter_`` (and
    ``spbleu_`` where it was scored) with the rule's name, of text to text ``rouge_``, ``chrf_`` and ``exact_`` with their bounds; ``stop_rate`` (0 to 1) with ``stop_low``, ``stop_high`` (Wilson 1927),
    ``mean_length`` (characters). A rule that an older result was not scored under has no columns.

    Then ``training_seconds``, ``translating_seconds``, ``tokens_per_second``, and p-values of paired bootstraps against the base,
    Embed Tuning and the base with a forced stop, as they are and corrected for all comparisons of the run: of BLEU (``metric_of``) under
    ``first_line`` (``rule_of``; ``p against ...``), and of the likelihood (``nats p against ...``).
    """
    import pandas as pd

    judgement, base = judgement_of(summary), base_of(summary)
    rule, metric = rule_of(summary), metric_of(summary)
    records = []
    for arm in summary["arms"]:
        if arm["error"]:
            continue
        record = {
            "arm": arm["name"], "kind": arm["kind"], "rows": len(arm.get("rows", [])), "in_ticket": arm.get("in_ticket"), "steps": steps_of(arm),
            "trainable": arm["trainable"], **_of_likelihood(judgement, arm["name"], base), **_of_answers(arm.get("evaluation")),
            "training_seconds": arm.get("training_seconds", 0.0), "translating_seconds": arm["translating_seconds"],
            "tokens_per_second": arm.get("tokens_per_second"),
        }  # fmt: skip
        for baseline, rules in summary.get("significance", {}).items():
            found = rules[rule].get(arm["name"], {}).get(metric, {})
            record[f"p against {baseline}"] = found.get("pvalue")
            record[f"Holm p against {baseline}"] = found.get("holm")
        for baseline, gains in judgement.get("gains", {}).items():
            found = gains.get(arm["name"], {})
            record[f"nats p against {baseline}"] = found.get("pvalue")
            record[f"nats Holm p against {baseline}"] = found.get("holm")
        records.append(record)
    return pd.DataFrame(records)


def _of_answers(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns of an arm's answers; none where it wrote none."""
    if not evaluation:
        return {}
    found: dict[str, Any] = {}
    for rule in EXTRACTION_RULES:
        if rule not in evaluation["scores"]:  # of an older version
            continue
        scores = evaluation["scores"][rule]
        for metric in (name for name in BOUNDED if name in scores):
            found |= {
                f"{metric}_{rule}": scores[metric]["value"], f"{metric}_low_{rule}": scores[metric]["low"],
                f"{metric}_high_{rule}": scores[metric]["high"],
            }  # fmt: skip
        found |= {f"{metric}_{rule}": scores[metric]["value"] for metric in ("ter", "spbleu") if metric in scores}
    low, high = wilson(evaluation["stop_rate"], evaluation["sentences"])
    return found | {
        "stop_rate": evaluation["stop_rate"], "stop_low": low, "stop_high": high, "mean_length": evaluation["mean_length"],
    }  # fmt: skip


def _of_likelihood(judgement: Mapping[str, Any], name: str, base: str) -> dict[str, Any]:
    """The columns of an arm's likelihood; none where it has none, and no gain of the base itself, or where there is no base."""
    own = judgement.get("arms", {}).get(name)
    if not own:
        return {}
    found: dict[str, Any] = {}
    for part in PARTS:
        found |= _bounded("nats" if part == "all" else f"{part}_nats", own.get(part, {}))
    found |= {f"nats_from_{part}": own["of_all"].get(part) for part in PARTS[1:]}
    found |= {n: own[n] for n in ("perplexity", "bits_per_character")}
    gain = judgement["gains"].get(base, {}).get(name, {})
    for part in PARTS:
        found |= _bounded("gain" if part == "all" else f"gain_{part}", gain.get(part, {}))
    return (
        found
        | _bounded("end_share", _clear(gain.get("shares", {}).get("end")))
        | _bounded("of_whole", _clear(gain.get("of_whole")))
    )


def _bounded(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found.get("value"), f"{name}_low": found.get("low"), f"{name}_high": found.get("high")}


def _clear(share: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A share that may be shown; nothing for one of a whole that may be nothing."""
    return share if share and share["low"] is not None else {}


def wilson(rate: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share of ``count`` sentences (Wilson 1927), which has a width at 0 and at 1 too.

    >>> [round(bound, 3) for bound in wilson(0.0, 64)]
    [0.0, 0.057]
    """
    return shares.wilson(round(rate * count), count)


def lengths(summary: Mapping[str, Any], tuned: str = "") -> str:
    """Which arms were trained for how many steps, where that is not the same for all of them and for the given checkpoint
    (as far as its training is known); empty elsewhere."""
    by_steps: dict[int, list[str]] = {}
    given = trainings.of(tuned) if tuned else None
    for arm in summary["arms"]:
        steps = given.recipe.steps if given and arm["kind"] == "tuned" else steps_of(arm)
        if steps and not arm["error"]:
            by_steps.setdefault(steps, []).append(arm["name"])
    if given and not any(arm["kind"] == "tuned" for arm in summary["arms"]):
        by_steps.setdefault(given.recipe.steps, []).append("the Embed Tuning that the ticket is of")
    if len(by_steps) < 2:
        return ""
    each = [
        f"{steps:,} steps ({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
        for steps, names in sorted(by_steps.items(), reverse=True)
    ]
    return f"Not trained for as long: {' against '.join(each)}."


def steps_of(arm: Mapping[str, Any]) -> int | None:
    """How many steps an arm of a summary was trained; ``None`` where it was not."""
    return ((arm.get("arm") or {}).get("recipe") or {}).get("steps")


def rules_of(frame: pd.DataFrame) -> list[str]:
    """The extraction rules that a ``table`` has scores of."""
    return [rule for rule in EXTRACTION_RULES if f"chrf_{rule}" in frame]


def losses(arms: Sequence[str], events: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The loss of every step as the events of a job tell it: columns ``arm, step, loss``.

    A run that was resumed tells some steps twice; the later word counts.
    """
    import pandas as pd

    found = {(e["arm"], e["step"]): e["loss"] for e in events if "loss" in e and e.get("arm", -1) < len(arms)}
    return pd.DataFrame(
        [(arms[n], step, loss) for (n, step), loss in sorted(found.items())], columns=["arm", "step", "loss"]
    )


def marked(answer: str, reference: str) -> list[tuple[str, bool]]:
    """The words of an answer in stretches, each with whether it stands in the reference in the same order.

    >>> marked("le chat noir", "un chat noir")
    [('le', False), ('chat noir', True)]
    """
    words, wanted = answer.split(), reference.split()
    matcher = difflib.SequenceMatcher(None, [_bare(w) for w in words], [_bare(w) for w in wanted], autojunk=False)
    same = set()
    for block in matcher.get_matching_blocks():
        same |= set(range(block.a, block.a + block.size))
    stretches: list[tuple[str, bool]] = []
    for n, word in enumerate(words):
        if stretches and stretches[-1][1] == (n in same):
            stretches[-1] = (f"{stretches[-1][0]} {word}", stretches[-1][1])
        else:
            stretches.append((word, n in same))
    return stretches


def _bare(word: str) -> str:
    return re.sub(r"\W", "", word).casefold() or word
