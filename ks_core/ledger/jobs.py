"""The job ``rules``: a pair's evidence, its bake-off, and what stands beside it, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError, TicketError
from ks_core.jobs import devices
from ks_core.ledger import attribution, changed_rows
from ks_core.ledger.bakeoff import bake_off, sizes_of
from ks_core.ledger.evidence import Evidence
from ks_core.ledger.inquiry import Inquiry
from ks_core.ledger.noise import null
from ks_core.ledger.rules import rankings
from ks_core.ledger.smallest import fewest
from ks_core.likelihood.references import references_of
from ks_core.likelihood.scorer import Scorer
from ks_core.study.scan import Scan
from ks_core.translation.corpora import Corpus
from ks_core.tuning import trainings

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: Fewer references than this are said to be few.
FEW = 48
#: A sum of contributions that differs from the true one by more than this is said to be incomplete.
INCOMPLETE = 0.02


@dataclass
class Bench:
    """What the parts of an inquiry share, and what is to be said of them."""

    inquiry: Inquiry
    running: Running
    scan: Scan
    corpus: Corpus
    model: Any
    tokenizer: Any
    notes: list[str]

    def scorer(self, part: str, sentences: int) -> Scorer:
        """The references of a part, with the changed rows to act on them."""
        found = references_of(
            self.model, self.tokenizer, self.corpus, self.inquiry.prompt, part=part, sentences=sentences
        )
        return Scorer(self.model, found)

    def report(self, stage: str) -> Callable[[int, int, str], None]:
        """How far a part is, for the job."""
        return lambda done, total, message: self.running.progress(done, total, message, unit="sentences", stage=stage)


def run_rules(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job: everything that an inquiry asks for, as plain values."""
    inquiry = Inquiry.from_dict(parameters)
    demo.prepare_for((inquiry.base, inquiry.tuned), running)
    scan = inquiry.study.scan(
        lambda done, total: running.progress(done, total, "testing rows", unit="rows", stage="scan")
    )
    evidence = replace(Evidence.of_pair(inquiry.study, scan), seed=inquiry.seed)
    sizes = sizes_of(len(evidence), inquiry.sizes, int(scan.winners(inquiry.alpha).sum()))
    corpus = inquiry.corpus.load()
    running.progress(0, 1, "loading the model", stage="load")
    device = devices.select(inquiry.device).removeprefix("torch:")
    model, tokenizer = changed_rows.laid(inquiry.study, scan, corpus, device, inquiry.resources)
    bench = Bench(inquiry, running, scan, corpus, model, tokenizer, _notes(inquiry, corpus))
    test = bench.scorer("test", inquiry.sentences)
    if len(test.references) < FEW:
        bench.notes.append(
            f"{len(test.references)} references are few: intervals by a bootstrap of so few are likely too narrow, and what is clear "
            "here need not be on all. How often they hold has not been measured."
        )
    if not test.references.ended:
        bench.notes.append("The tokenizer has no end token, so the likelihood cannot be parted into end and content.")
    evidence, found = _gathered(bench, evidence)
    orders, left = rankings(evidence, inquiry.rules)
    compared = bake_off(test, orders, sizes, left=left, resamples=inquiry.resamples, report=bench.report("rules"))
    found |= compared.as_dict()
    if inquiry.share:
        found |= _with_smallest(bench, test, orders.get("attribution", next(iter(orders.values()))))
    strings = dict(zip(evidence.token_ids.tolist(), evidence.tokens, strict=True))
    shown = {i for row in found["rules"] for i in row["tokens"]} | set(found.get("smallest", {}).get("token_ids", ()))
    return {
        **found, "strings": {str(i): strings[i] for i in sorted(shown)}, "notes": bench.notes, "changed": len(evidence),
        "winners": int(scan.winners(inquiry.alpha).sum()), "signature": str(inquiry.signature(corpus.content_hash)),
    }  # fmt: skip


def _notes(inquiry: Inquiry, corpus: Corpus) -> list[str]:
    """What a person should know before the numbers."""
    found = [
        "This is one training with one seed: the intervals are over sentences alone, and say nothing of another training."
    ]
    if not changed_rows.is_all(inquiry.study):
        found.append(
            "The tuned checkpoint is no set of rows over this base: it may change more than rows, and what is copied and attributed "
            "here is the part of its rows alone."
        )
    if corpus.halved:
        found.append(
            "Few pairs are held out: development and test are halves of them, in the order of their fingerprints."
        )
    return found


def _gathered(bench: Bench, evidence: Evidence) -> tuple[Evidence, dict[str, Any]]:
    """The evidence with all that the rules that are asked for need, and what is shown of it by itself."""
    inquiry, found = bench.inquiry, dict[str, Any]()
    training = trainings.of(inquiry.tuned)
    met = trainings.seen(training) if training else None
    if met:
        evidence = evidence.with_training(met.steps, met.counts, met.prompt_ids)
    if training and inquiry.draws and inquiry.needs("null"):
        evidence, shown = _with_null(bench, evidence, training)
        found |= shown
    if inquiry.training and inquiry.needs("slopes"):
        scorer = bench.scorer("train", inquiry.training)
        evidence = replace(evidence, slopes=attribution.slopes(scorer, bench.report("gradients")))
    if inquiry.needs("attribution") or inquiry.needs("left out"):
        evidence, shown = _with_attribution(bench, evidence)
        found |= shown
    return evidence, found


def _with_null(bench: Bench, evidence: Evidence, training: trainings.Training) -> tuple[Evidence, dict[str, Any]]:
    touched, inquiry = trainings.by_step(training), bench.inquiry
    if touched is None:
        return evidence, {}
    try:
        made = null(
            evidence.before, evidence.token_ids, touched, training.recipe, draws=inquiry.draws, persistence=inquiry.persistence,
            seed=inquiry.seed,
            report=lambda done, total, message: bench.running.progress(done, total, message, unit="draws", stage="noise"),
        )  # fmt: skip
    except (
        KSLotteryError
    ) as error:  # the rows are others than the notes say: one thing less to be said, and no reason to end
        bench.notes.append(f"The training on noise is left out: {error}")
        return evidence, {}
    return replace(evidence, null=made), {"null": made.summary(evidence.statistic, inquiry.alpha)}


def _with_attribution(bench: Bench, evidence: Evidence) -> tuple[Evidence, dict[str, Any]]:
    inquiry = bench.inquiry
    scorer = bench.scorer("development", inquiry.development)
    made = attribution.attribute(scorer, points=inquiry.points, report=bench.report("attribution"))
    if abs(made.complete() - 1) > INCOMPLETE:
        bench.notes.append(f"{made.sentence} That is more than {INCOMPLETE:.0%} off: take more points.")
    top = made.token_ids[np.argsort(-made.total, kind="stable")[: inquiry.singles]]
    found: dict[str, Any] = {
        "sentence": made.sentence,
        "complete": {p: made.complete(p) for p in ("all", "end", "content")},
    }
    if len(top):
        lost = attribution.left_out(scorer, top.tolist(), bench.report("left out"))
        place = {int(i): n for n, i in enumerate(evidence.token_ids)}
        column = np.full(len(evidence), np.nan)
        column[[place[int(i)] for i in top]] = lost
        evidence = replace(evidence, left_out=column)
        given = attribution.alone(scorer, top.tolist(), bench.report("alone"))
        own = attribution.of_rows(made, top.tolist())
        found["rows"] = [
            {"token_id": int(i), "token": evidence.tokens[place[int(i)]], "content": own.content[n].tolist(), "end": own.end[n].tolist(),
             "left_out": float(lost[n]), "alone": float(given[n])}
            for n, i in enumerate(top)
        ]  # fmt: skip
        found["spans"] = list(attribution.SPANS)
    return replace(evidence, attribution=made), {"attribution": found}


def _with_smallest(bench: Bench, test: Scorer, order: np.ndarray) -> dict[str, Any]:
    inquiry = bench.inquiry
    development = bench.scorer("development", inquiry.development)
    report = bench.report("smallest")
    try:
        made = fewest(development, test, order.tolist(), inquiry.share, resamples=inquiry.resamples, report=report)
    except TicketError as error:  # there is no gain to keep: one thing less to be said, and no reason to end
        bench.notes.append(f"The smallest ticket is left out: {error}")
        return {}
    return {"smallest": made.as_dict()}
