"""The job ``rules``: the evidence of each training, the bake-off of all, and what stands beside it, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints import demo
from ks_core.jobs import devices
from ks_core.ledger import changed_rows, gathering, newest
from ks_core.ledger.bakeoff import ASKED, BakeOff, bake_off, sizes_of, together
from ks_core.ledger.evidence import Evidence
from ks_core.ledger.gathering import Bench
from ks_core.ledger.inquiry import Inquiry
from ks_core.ledger.kept import KeptScorer
from ks_core.ledger.noninferiority import NonInferiority, judged
from ks_core.ledger.rules import rankings, scores
from ks_core.ledger.trained import FREQUENT, train_rules
from ks_core.likelihood.references import References
from ks_core.study.scan import Scan
from ks_core.translation.corpora import Corpus
from ks_core.tuning import trainings

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: Fewer references than this are said to be few.
FEW = 48


def run_rules(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job: everything that an inquiry asks for, as plain values."""
    inquiry = Inquiry.from_dict(parameters)
    demo.prepare_for((inquiry.base, *inquiry.sources), running)
    scans = [
        study.scan(lambda done, total: running.progress(done, total, "testing rows", unit="rows", stage="scan"))
        for study in inquiry.studies
    ]
    evidence = [
        replace(Evidence.of_pair(study, scan), seed=inquiry.seed)
        for study, scan in zip(inquiry.studies, scans, strict=True)
    ]
    winners = int(scans[0].winners(inquiry.alpha).sum())
    sizes = sizes_of(min(map(len, evidence)), inquiry.sizes, winners)
    corpus = inquiry.corpus.load()
    notes = _notes(inquiry, corpus)
    made, orders, found = _compared(inquiry, running, scans, evidence, sizes, corpus, notes)
    compared = together(made)
    found |= compared.as_dict()
    found["trainings"] = [
        {"source": source, "changed": len(own), "winners": int(scan.winners(inquiry.alpha).sum()), "gain": gain}
        for source, own, scan, gain in zip(inquiry.sources, evidence, scans, found["gains"], strict=True)
    ]
    found["as_good"] = [one.as_dict() for one in _as_good(compared, inquiry, winners)]
    if inquiry.train:
        found["trained"] = train_rules(inquiry, orders, compared.base, running).as_dict(inquiry.margin)
    strings = {i: token for own in evidence for i, token in zip(own.token_ids.tolist(), own.tokens, strict=True)}
    shown = {i for row in found["rules"] for i in row["tokens"]} | set(found.get("smallest", {}).get("token_ids", ()))
    return {
        **found, "strings": {str(i): strings[i] for i in sorted(shown)}, "notes": notes, "changed": len(evidence[0]),
        "winners": winners, "signature": str(inquiry.signature(corpus.content_hash)),
    }  # fmt: skip


def _compared(
    inquiry: Inquiry, running: Running, scans: list[Scan], evidence: list[Evidence], sizes: tuple[int, ...], corpus: Corpus, notes: list[str]
) -> tuple[list[BakeOff], list[Mapping[str, np.ndarray]], dict[str, Any]]:  # fmt: skip
    """The bake-off and the rankings of each training, and what is shown of the first besides. One model serves them all, in turn."""
    running.progress(0, 1, "loading the model", stage="load")
    device = devices.select(inquiry.device).removeprefix("torch:")
    model: Any = None
    made: list[BakeOff] = []
    orders: list[Mapping[str, np.ndarray]] = []
    shown: dict[str, Any] = {}
    for n, study in enumerate(inquiry.studies):
        if model is None:
            model, tokenizer = changed_rows.laid(study, scans[n], corpus, device, inquiry.resources)
        else:
            changed_rows.lay(model, study, scans[n])
        said = notes if n == 0 else list[str]()
        bench = Bench(inquiry, running, study, corpus, model, tokenizer, device, said)
        test = bench.scorer("test", inquiry.sentences)
        if n == 0:
            notes += _of_references(test.references)
        evidence[n], found = gathering.gathered(bench, evidence[n])
        order, left = rankings(evidence[n], inquiry.asked)
        newest.note_scores(study, evidence[n].token_ids, scores(evidence[n]))
        made.append(bake_off(test, order, sizes, left=left, resamples=inquiry.resamples, report=bench.report("rules")))
        orders.append(order)
        test.keep()
        if n == 0:
            shown = found
            if inquiry.share:
                shown |= _smallest(bench, test, order)
        else:
            notes += [f"{study.tuned.label}: {note}" for note in said]
    return made, orders, shown


def _smallest(bench: Bench, test: KeptScorer, order: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return gathering.smallest(bench, test, order.get("attribution", next(iter(order.values()))))


def _as_good(compared: BakeOff, inquiry: Inquiry, winners: int) -> list[NonInferiority]:
    """Whether D's rows, copied, do as well as all changed rows, and as well as as many most frequent ones: at every size."""
    found = []
    for k in compared.sizes if ASKED in compared.rankings else ():
        own = f"the ticket ({k:,} rows)" if k == winners else f"{k:,} rows of largest D"
        short = compared.draws.over(lambda a, b: a - b, compared.kept(ASKED, k), compared.whole)
        pairs = [(short, "all changed rows")]
        if FREQUENT in compared.rankings:
            pairs.append((compared.difference(ASKED, FREQUENT, k), "as many most frequent rows"))
        found += [
            judged(apart, inquiry.margin, sentences=len(compared.base), own=own, other=other) for apart, other in pairs
        ]
    return found


def _notes(inquiry: Inquiry, corpus: Corpus) -> list[str]:
    """What a person should know before the numbers."""
    found = _of_trainings(inquiry)
    more = [study for study in inquiry.studies if not changed_rows.is_all(study)]
    if more:
        found.append(
            ("The tuned checkpoint is" if len(more) == len(inquiry.studies) == 1 else f"{', '.join(s.tuned.label for s in more)}: this is")
            + " no set of rows over this base: it may change more than rows, and what is copied and attributed here is the part of its "
            "rows alone."
        )  # fmt: skip
    if corpus.halved:
        found.append(
            "Few pairs are held out: development and test are halves of them, in the order of their fingerprints."
        )
    return found


def _of_trainings(inquiry: Inquiry) -> list[str]:
    """What the trainings are to each other, for a person."""
    if not inquiry.others:
        return [
            "This is one training with one seed: the intervals are over sentences alone, and say nothing of another training."
        ]
    known = [trainings.of(source) for source in inquiry.sources]
    found = [
        f"{len(known)} trainings: the intervals are over seeds and sentences. What is shown of single rows is of {inquiry.tuned}."
    ]
    first, *others = known
    for source, other in zip(inquiry.others, others, strict=True):
        if first is None or other is None:
            found.append(
                f"How {inquiry.tuned if first is None else source} was trained is not written down, so that it differs from the others "
                "in the seed alone is taken on trust."
            )
        elif not trainings.differ_in_seed(first, other):
            found.append(
                f"{source} differs from {inquiry.tuned} in more than the seed, so the spread between them is not of seeds alone."
            )
    return list(dict.fromkeys(found))


def _of_references(references: References) -> list[str]:
    """What is to be said of the references."""
    found = []
    if len(references) < FEW:
        found.append(
            f"{len(references)} references are few: intervals by a bootstrap of so few are too narrow (with 24 of the demo's, 91 to 93% of the "
            "95% intervals of gains and shares in nats held: make coverage), and what is clear here need not be on all."
        )
    if not references.ended:
        found.append("The tokenizer has no end token, so the likelihood cannot be parted into end and content.")
    return found
