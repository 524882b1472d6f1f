"""The question that the page Ask opens with: one that was asked of the demo, whose answers come with the program.

It is kept under what both checkpoints hold, so that another pair, or a changed one, has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_core.asking import answers
from ks_core.asking.answers import Asked
from ks_core.asking.protocol import usual
from ks_core.asking.question import Question
from ks_core.store import shipped

if TYPE_CHECKING:
    from ks_core.study.scan import Scan, Study

#: Where it lies among what is shipped.
FOLDER = "questions"
#: Digits of a log-probability and of a probability that are kept.
DIGITS = 6


@dataclass(frozen=True)
class Example:
    """A question with its answers, and where they come from."""

    asked: Asked
    shipped: shipped.Provenance


def content_of(study: Study) -> str:
    """What both checkpoints hold, as a question carries it: 16 hex digits."""
    return hashlib.sha256(json.dumps(study.key, sort_keys=True).encode()).hexdigest()[:16]


def question_of(study: Study, scan: Scan) -> Question:
    """What the page asks where nothing was changed: the first sentence that no training saw, as the tuned side was trained to read it, with the
    ticket at alpha 0.05."""
    known = usual(study.base_source, study.tuned_source, sentences=1)
    return Question(
        study.base_source, study.tuned_source, known.sentences[0], known.prompt, known.source_language, known.target_language,
        tuple(scan.token_ids[scan.winners(0.05)].tolist()), content=content_of(study),
    )  # fmt: skip


def kept(asked: Asked) -> dict[str, Any]:
    """Plain values: the question, and the pieces that ``Asked.hear`` takes."""
    along = [
        [voice, [[p.token_id, _rounded(p.nats), {v: [[i, round(x, DIGITS)] for i, x in top] for v, top in p.top.items()}] for p in places]]
        for voice, places in asked.along.items()
    ]  # fmt: skip
    told = {voice: [one.text, list(one.ids), one.stopped] for voice, one in asked.answers.items()}
    return {
        "question": asked.question.as_dict(), "first_token": asked.first_token, "seconds": asked.seconds,
        "pieces": [{"lacking": asked.lacking}, {"read": list(asked.read)}, {"answers": told}, *({"along": one} for one in along)],
    }  # fmt: skip


def _rounded(values: Any) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in values.items()}


def example_of(study: Study) -> Example | None:
    """The shipped question of a pair; ``None`` where there is none, or it is not shown."""
    found = shipped.read_json(FOLDER, f"{content_of(study)}.json")
    if found is None:
        return None
    told, source = found
    asked = Asked(
        Question.from_dict(told["question"]), answers.DONE, first_token=told["first_token"], seconds=told["seconds"]
    )
    for piece in told["pieces"]:
        asked.hear(piece)
    asked.state = answers.DONE
    return Example(asked, source)


def ask(study: Study, scan: Scan, report: Callable[[float, float, str], None] = lambda *_: None) -> Asked:
    """Ask it here, in this process. ``report(done, total, message)`` is told of each token. Raises what loading and asking raise."""
    from ks_core.asking import writing
    from ks_core.asking.bounds import bounds_of
    from ks_core.asking.models import load

    report(0, 1, "loading the models")
    models = load(study.base_source, study.tuned_source, bounds_of(study, scan))
    return writing.ask(models, question_of(study, scan), report)
