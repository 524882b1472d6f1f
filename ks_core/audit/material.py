"""What the panels that need the model are made from: the model with the pair's changed rows over it, ticket and text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ks_core.audit.inquiry import Audit
from ks_core.jobs import devices, world
from ks_core.jobs.resources import Resources
from ks_core.ledger import changed_rows
from ks_core.study.scan import Scan
from ks_core.translation.corpora import Corpus
from ks_core.translation.evaluation import HeldOut, check_length, held_out

if TYPE_CHECKING:
    from ks_core.jobs.running import Running
    from ks_core.likelihood.nats import Likelihood
    from ks_core.likelihood.references import References
    from ks_core.likelihood.scorer import Report


@dataclass(frozen=True)
class Material:
    """What a panel is made from.

    ``asked`` is the budget's held-out sentences of ``corpus`` under the audit's prompt, ``test`` and ``development`` the same
    many of either part as references; ``ticket`` the ids of its rows, the largest D first; ``model`` and ``tokenizer`` are
    ``delta_model``'s. Where nothing is held out for development, that part is the test's. ``report(done, total, message)`` is
    told how far ``ends`` are, and ends the work by what it raises.
    """

    audit: Audit
    scan: Scan
    corpus: Corpus
    asked: HeldOut
    ticket: list[int]
    model: Any
    tokenizer: Any
    report: Report

    @cached_property
    def test(self) -> References:
        return self._references("test")

    @cached_property
    def development(self) -> References:
        return self._references("development") if self.corpus.part("development") else self.test

    @cached_property
    def ends(self) -> tuple[Likelihood, Likelihood]:
        """The test references as the base reads them, and the base with the ticket copied: what every panel compares with."""
        from ks_core.audit.delta import acting
        from ks_core.audit.reading import read_each

        both = {"the base": 0.0, "the ticket": 1.0}
        found = read_each(
            self.model, dict.fromkeys(both, self.test), lambda run, batch: acting(self.model, self.ticket, both[run]),
            report=lambda done, total, run: self.report(done, total, f"reading with {run}"),
        )  # fmt: skip
        return found["the base"], found["the ticket"]

    def _references(self, part: str) -> References:
        from ks_core.likelihood.references import references_of

        audit = self.audit
        return references_of(
            self.model, self.tokenizer, self.corpus, audit.prompt, part=part, sentences=audit.sentences
        )


def prepare(audit: Audit, scan: Scan, running: Running) -> Material:
    """Load the text and the model. Raises what loading them raises, and ``SettingsError`` for prompts that are too long to be
    answered, where that is asked."""
    corpus = audit.corpus.load()
    asked = held_out(corpus, audit.prompt, audit.sentences, max_new_tokens=audit.max_new_tokens)
    running.progress(0, 1, "loading the model", stage="load")
    model, tokenizer = delta_model(audit, scan)
    if audit.generate:
        check_length(model, tokenizer, asked)
    return Material(
        audit, scan, corpus, asked, scan.token_ids[audit.positions(scan)].tolist(), model, tokenizer,
        lambda done, total, message: running.progress(done, total, message, unit="sentences", stage="ends"),
    )  # fmt: skip


def delta_model(audit: Audit, scan: Scan) -> tuple[Any, Any]:
    """The base with every changed row of the audit's pair laid over it, and its tokenizer: ``changed_rows.laid``."""
    # The slider of the page is moved in one process, whatever the job takes.
    resources = audit.resources if world.size() > 1 else Resources(precision=audit.resources.precision)
    device = world.device(devices.select(audit.device).removeprefix("torch:"))
    return changed_rows.laid(audit.study, scan, audit.corpus.load(), device, resources)
