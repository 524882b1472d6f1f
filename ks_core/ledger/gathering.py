"""What is known of the changed rows of one training, gathered for its rules: from the pair, the training, and the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.errors import KSLotteryError, TicketError
from ks_core.ledger import attribution, exposure, kept, newest
from ks_core.ledger.evidence import Evidence
from ks_core.ledger.inquiry import Inquiry
from ks_core.ledger.smallest import fewest
from ks_core.likelihood.references import references_of
from ks_core.study.scan import Study
from ks_core.translation.corpora import Corpus

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: A sum of contributions that differs from the true one by more than this is said to be incomplete.
INCOMPLETE = 0.02


@dataclass
class Bench:
    """What the parts of an inquiry share for one of its trainings, whose rows lie over the model; and what is to be said."""

    inquiry: Inquiry
    running: Running
    study: Study
    corpus: Corpus
    model: Any
    tokenizer: Any
    device: str
    notes: list[str]

    def scorer(self, part: str, sentences: int) -> kept.KeptScorer:
        """The references of a part, with the changed rows to act on them."""
        found = references_of(
            self.model, self.tokenizer, self.corpus, self.inquiry.prompt, part=part, sentences=sentences
        )
        return kept.KeptScorer(self.model, found, self.key(part))

    def key(self, part: str, **more: Any) -> dict[str, Any]:
        """What decides every likelihood of a part's references under this training's rows."""
        return {
            "base": self.study.base.content_hash, "tuned": self.study.tuned.content_hash,
            **kept.facts(self.corpus, self.inquiry.prompt, part, self.device, self.inquiry.resources), **more,
        }  # fmt: skip

    def report(self, stage: str) -> Callable[[int, int, str], None]:
        """How far a part is, for the job; of several trainings with the one that it is."""
        sources = self.inquiry.sources
        which = sources.index(self.study.tuned_source)
        said = f" (training {which + 1} of {len(sources)})" if len(sources) > 1 else ""
        return lambda done, total, message: self.running.progress(
            done, total, message + said, unit="sentences", stage=f"{stage} {which}"
        )


def gathered(bench: Bench, evidence: Evidence) -> tuple[Evidence, dict[str, Any]]:
    """The evidence with all that the rules that are asked for need, and what is shown of it by itself."""
    inquiry, found = bench.inquiry, dict[str, Any]()
    for need in ("training", "steps", "gradients"):  # a recording beside the checkpoint may tell the last two
        told = evidence.known(need) if inquiry.needs(need) else evidence
        evidence = evidence if isinstance(told, str) else told
    if inquiry.draws and inquiry.needs("null"):
        exposed = exposure.exposure_of(bench.study, bench.study.scan())
        if not isinstance(exposed, str):
            evidence, shown = _with_null(bench, evidence, exposed)
            found |= shown
    if inquiry.training and inquiry.needs("slopes"):
        scorer = bench.scorer("train", inquiry.training)
        key = bench.key("train", sentences=len(scorer.references))
        made = kept.slopes(key, lambda: attribution.slopes(scorer, bench.report("gradients")))
        evidence = replace(evidence, slopes=made)
    if inquiry.needs("attribution") or inquiry.needs("left out"):
        evidence, shown = _with_attribution(bench, evidence)
        found |= shown
    return evidence, found


def _with_null(bench: Bench, evidence: Evidence, exposed: exposure.Exposure) -> tuple[Evidence, dict[str, Any]]:
    from ks_core.ledger.noise import null

    touched, inquiry = exposed.steps(), bench.inquiry
    if isinstance(touched, str):
        bench.notes.append(f"The training on noise is left out, as {touched}.")
        return evidence, {}
    report = bench.report("noise")
    try:
        made = null(
            evidence.before, evidence.token_ids, touched, exposed.recipe, draws=inquiry.draws, persistence=inquiry.persistence,
            seed=inquiry.seed, report=report,
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
    made = kept.attribution(
        bench.key("development", sentences=len(scorer.references), points=inquiry.points),
        lambda: attribution.attribute(scorer, points=inquiry.points, report=bench.report("attribution")),
    )
    newest.note(bench.study, made, inquiry.corpus.name)
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
        scorer.keep()
        found["rows"] = [
            {"token_id": int(i), "token": evidence.tokens[place[int(i)]], "content": own.content[n].tolist(), "end": own.end[n].tolist(),
             "left_out": float(lost[n]), "alone": float(given[n])}
            for n, i in enumerate(top)
        ]  # fmt: skip
        found["spans"] = list(attribution.SPANS)
    return replace(evidence, attribution=made), {"attribution": found}


def smallest(bench: Bench, test: kept.KeptScorer, order: np.ndarray) -> dict[str, Any]:
    """The smallest ticket that keeps the share that is asked for, as the answer holds it; empty where there is no gain."""
    inquiry = bench.inquiry
    development = bench.scorer("development", inquiry.development)
    report = bench.report("smallest")
    try:
        made = fewest(development, test, order.tolist(), inquiry.share, resamples=inquiry.resamples, report=report)
        development.keep()
    except TicketError as error:  # there is no gain to keep: one thing less to be said, and no reason to end
        bench.notes.append(f"The smallest ticket is left out: {error}")
        return {}
    return {"smallest": made.as_dict()}
