"""Does a ticket do as well as full tuning, and as the most frequent rows? Of a finished run of Fine-tune: in nats, and in chrF of its answers.

The paper's claim is of this form, and that no difference was seen does not show it: ``noninferiority`` tests it with a margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ks_core.ledger.noninferiority import MARGINS, NonInferiority, judged, of_answers
from ks_core.ledger.seeds import SeedDraws
from ks_core.translation.evaluation import part_of, read_answers
from ks_core.tuning.comparison import likelihoods
from ks_core.tuning.plans import Plan

#: Arms that are asked about, and those that they are compared with, the first of each kind.
TICKETS, AGAINST = ("partial", "transfer"), ("embed", "tuned", "frequent")


def of_run(
    folder: Path, parameters: Mapping[str, Any], summary: Mapping[str, Any], margins: Mapping[str, float] = MARGINS
) -> list[NonInferiority]:
    """The answers for each arm of a ticket in a run, against Embed Tuning (of the run, or given) and the most frequent rows: in nats, where
    both have a likelihood, and in chrF of the first line, where both wrote answers. Intervals are over sentences, of one seed.

    ``folder`` is the run's, ``parameters`` its plan as plain values, ``summary`` what it gave. Empty where there is nothing to compare.
    Raises ``CorpusError`` where the run's text is not here any more, and ``SettingsError`` for a margin that is not above 0.
    """
    arms = [arm for arm in summary["arms"] if not arm["error"]]
    first = {kind: next((arm for arm in arms if arm["kind"] == kind), None) for kind in (*TICKETS, *AGAINST)}
    pairs = [(own, other) for name in TICKETS if (own := first[name]) for kind in AGAINST if (other := first[kind])]
    known, references, found = likelihoods(arms), list[str](), list[NonInferiority]()
    for own, other in pairs:
        names = own["name"], other["name"]
        if all(name in known for name in names):
            draws = SeedDraws(len(known[names[0]]))
            better = draws.mean(draws.gains([known[names[1]]], [known[names[0]]]))
            found.append(judged(better, margins["nats"], sentences=draws.sentences, own=names[0], other=names[1]))
        if own.get("evaluation") and other.get("evaluation"):
            ours, theirs = (read_answers(folder, arm) for arm in (own, other))
            if not references:
                corpus = Plan.from_dict(dict(parameters)).corpus.load()
                references = [pair.target for pair in corpus.part(part_of(summary["signature"]))]
            asked = references[: len(ours)]
            found.append(of_answers(ours, theirs, asked, corpus.target_language, margins["chrF"], names=names))
    return found
