"""A run's results as a table: one row per arm, ready for a page, a file or a terminal."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.tuning import trainings

if TYPE_CHECKING:
    import pandas as pd

#: What stands beside every table of scores.
OVER_SENTENCES = "Every interval is over sentences alone; training seeds can vary by more than it says."


def table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A row per finished arm of ``tuning.run``'s summary.

    Columns: ``arm, kind, rows, in_ticket`` (how many of the rows are the ticket's, empty where not noted), ``steps`` (of its
    training), ``trainable``; for each rule ``bleu_``, ``bleu_low_``, ``bleu_high_``, ``chrf_``,
    ``ter_`` (and ``spbleu_`` where it was scored) with the rule's name; ``stop_rate`` (0 to 1),
    ``mean_length`` (characters), ``training_seconds``, ``translating_seconds``, and the p-values of the
    paired bootstrap of BLEU under ``first_line`` against the base and against Embed Tuning, as they are and corrected for
    all comparisons of the run. A rule that an older result was not scored under has no columns.
    """
    import pandas as pd

    records = []
    for arm in summary["arms"]:
        if arm["error"]:
            continue
        e = arm["evaluation"]
        record = {
            "arm": arm["name"], "kind": arm["kind"], "rows": len(arm.get("rows", [])), "in_ticket": arm.get("in_ticket"), "steps": steps_of(arm),
            "trainable": arm["trainable"],
        }  # fmt: skip
        for rule in EXTRACTION_RULES:
            if rule not in e["scores"]:  # of an older version
                continue
            scores = e["scores"][rule]
            record |= {
                f"bleu_{rule}": scores["bleu"]["value"], f"bleu_low_{rule}": scores["bleu"]["low"],
                f"bleu_high_{rule}": scores["bleu"]["high"], f"chrf_{rule}": scores["chrf"]["value"],
                f"chrf_low_{rule}": scores["chrf"]["low"], f"chrf_high_{rule}": scores["chrf"]["high"],
                f"ter_{rule}": scores["ter"]["value"],
            }  # fmt: skip
            if "spbleu" in scores:
                record[f"spbleu_{rule}"] = scores["spbleu"]["value"]
        record |= {
            "stop_rate": e["stop_rate"], "mean_length": e["mean_length"],
            "training_seconds": arm.get("training_seconds", 0.0), "translating_seconds": arm["translating_seconds"],
            "tokens_per_second": arm.get("tokens_per_second"),
        }  # fmt: skip
        for baseline, rules in summary.get("significance", {}).items():
            found = rules["first_line"].get(arm["name"], {}).get("bleu", {})
            record[f"p against {baseline}"] = found.get("pvalue")
            record[f"Holm p against {baseline}"] = found.get("holm")
        records.append(record)
    return pd.DataFrame(records)


def notes(summary: Mapping[str, Any], tuned: str = "") -> list[str]:
    """What stands beside a run's table: what its intervals leave out, with the spread over seeds where there are several,
    where arms were not trained for as long, and how well matched controls match. ``tuned`` is the run's given checkpoint."""
    finished = [arm for arm in summary["arms"] if not arm["error"]]
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for arm in finished:
        by_kind.setdefault(arm["kind"], []).append(arm)
    spread = []
    for arms in by_kind.values():
        if len({(a.get("arm") or {}).get("seed") for a in arms}) > 1:
            chrf = sorted(a["evaluation"]["scores"]["first_line"]["chrf"]["value"] for a in arms)
            stops = sorted(a["evaluation"]["stop_rate"] for a in arms)
            spread.append(
                f"{arms[0]['name']} {chrf[0]:.1f} to {chrf[-1]:.1f} chrF (first line), ending {stops[0]:.0%} to {stops[-1]:.0%} of answers"
            )
    said = [OVER_SENTENCES + (f" Over the seeds here: {'; '.join(spread)}." if spread else "")]
    said += filter(None, [lengths(summary, tuned)])
    return said + [f"{a['name']}: {a['balance']['sentence']}." for a in finished if a.get("balance")]


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
    return [rule for rule in EXTRACTION_RULES if f"bleu_{rule}" in frame]


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
