"""The models that answer: one base with every changed row over it, and the tuned checkpoint itself where it changed more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ks_core.asking.bounds import Bounds
from ks_core.asking.question import Question
from ks_core.errors import of_machine
from ks_core.jobs import devices
from ks_core.jobs.resources import Resources
from ks_core.ledger.changed_rows import is_all, lay
from ks_core.likelihood.rows import rows_over
from ks_core.study.scan import Study
from ks_core.translation.encoder_decoder import speak
from ks_core.tuning.models import load_model

EQUAL = "No row differs between base and tuned, so it would write what the base writes."
NO_TICKET = "The ticket is empty: no row passes the rule. Raise alpha, or choose the ticket by count."


@dataclass(frozen=True)
class Part:
    """A model with its tokenizer, and the voices that it has: name -> the ids of the rows that act, and their strength. One that
    answers ``as_is`` has one voice, and no row of it is turned."""

    model: Any
    tokenizer: Any
    voices: dict[str, tuple[tuple[int, ...], float]]
    as_is: bool = False


@dataclass(frozen=True)
class Models:
    """``model`` is the base with the changed rows over it, ``changed`` their ids; ``own`` the tuned checkpoint as it is, where it
    was loaded, with its tokenizer. ``all_rows``: rows are all that the tuning changed."""

    model: Any
    tokenizer: Any
    changed: tuple[int, ...]
    all_rows: bool
    own: tuple[Any, Any] | None
    lacking: str

    def parts(self, question: Question) -> tuple[list[Part], dict[str, str]]:
        """The models that answer a question, each with its voices; and of voices that do not, why.

        Rows of the ticket that did not change are the base's, and are passed over.
        """
        for tokenizer in (self.tokenizer, *(self.own or ())[1:]):
            speak(tokenizer, question.source_language, question.target_language)
        voices: dict[str, tuple[tuple[int, ...], float]] = {"base": ((), 1.0)}
        lacking: dict[str, str] = {}
        if question.ticket:
            voices["ticket"] = (tuple(set(question.acting).intersection(self.changed)), question.strength)
        else:
            lacking["ticket"] = NO_TICKET if self.changed else EQUAL
        if self.all_rows and self.changed:
            voices["tuned"] = (self.changed, 1.0)
        elif self.own is None:
            lacking["tuned"] = self.lacking or EQUAL
        found = [Part(self.model, self.tokenizer, voices)]
        if self.own is not None:
            found.append(Part(*self.own, {"tuned": ((), 1.0)}, as_is=True))
        return found, lacking


def load(base: str, tuned: str, bounds: Bounds) -> Models:
    """Load a pair's models. Raises ``MemoryError``, and what ``load_model`` raises."""
    torch.set_num_threads(devices.count("cpu"))  # a process with bounds is started with one
    study, resources = Study(base, tuned), Resources(precision=bounds.precision)
    device = devices.select("auto").removeprefix("torch:")
    try:
        scan = study.scan()
        model, tokenizer = load_model(base, device, resources)
        if scan.changed.any():
            lay(model, study, scan)
        rows = rows_over(model)
        own = load_model(tuned, device, resources, beside=base) if bounds.own else None
        return Models(
            model, tokenizer, tuple(rows.ids.tolist()) if rows else (), is_all(study), own, bounds.lacking
        )  # fmt: skip
    except RuntimeError as error:  # torch's own way of saying it
        if of_machine(error):
            raise MemoryError from None
        raise
