"""A model scored on held-out sentences: what it writes for them, and how likely it finds their references.

Every arm of a run, every alpha of a sweep and every checkpoint of an exam is scored by this one function, under the prompt of
the run or in another manner of asking, so that their numbers can stand in one table.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ks_core.errors import Cancelled, KSLotteryError, ModelError, SettingsError, one_line
from ks_core.jobs import world
from ks_core.likelihood.nats import Likelihood
from ks_core.translation.corpora import Corpus
from ks_core.translation.evaluation import HeldOut, Outcome, evaluate_model, held_out, outcome_of
from ks_core.translation.generation import Generation
from ks_core.translation.manners import Manner
from ks_core.translation.prompts import template
from ks_core.tuning.workbench import Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """``outcome``: answers and their scores, ``None`` where none were to be written; ``likelihood`` of the references, ``None``
    where it cannot be had, and then ``missing`` says why."""

    outcome: Outcome | None
    likelihood: Likelihood | None
    missing: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What of it stands in a result, as plain values for JSON: ``evaluation``, ``translating_seconds``, and ``likelihood`` or
        ``no_likelihood``, the reason."""
        found: dict[str, Any] = {
            "evaluation": self.outcome.evaluation.as_dict() if self.outcome else None,
            "translating_seconds": self.outcome.seconds if self.outcome else 0.0,
        }
        if self.likelihood is None:
            return {**found, "no_likelihood": self.missing}
        return {**found, "likelihood": self.likelihood.as_dict()}


def score(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    asked: HeldOut,
    report: Report,
    title: str,
    stage: str,
    *,
    manner: Manner | None = None,
    generate: bool = True,
    written: tuple[Sequence[Generation], float] | None = None,
) -> Scored:
    """Score a model on the held-out sentences of ``asked``, which is of ``corpus``.

    ``manner`` is how it is asked (``None``: by the prompt of ``asked``); without ``generate`` it writes nothing; ``written`` are
    answers that it is known to write, with the seconds that they took. A likelihood that cannot be had (a reference longer
    than the context, an empty target, one that is tokenized into the prompt, a value that is no number) is left out with its
    reason. Raises what ``evaluate_model`` raises, and ``ModelError`` where there is neither answer nor likelihood.
    """
    manner = manner or Manner(asked.template)
    own = _under(manner, corpus, asked)
    outcome = _written(model, tokenizer, own, manner, report, title, stage, written) if generate else None
    try:
        found, why = _read(model, tokenizer, corpus, own, manner, report, title, stage), ""
    except (Cancelled, OSError, MemoryError):
        raise
    except KSLotteryError as error:
        found, why = None, str(error)
    except Exception as error:  # a library may not know this model in this way, and there may be answers all the same
        if world.size() > 1:
            raise
        logger.warning("no likelihood of %s: %r", title, error)
        said = next(iter(str(error).strip().splitlines()), "")[:200]
        found, why = None, one_line(f"The model cannot be run over a reference ({type(error).__name__}: {said}).")
    if outcome is None and found is None:
        raise ModelError(f"The likelihood is all that is asked for, and it cannot be had: {why}")
    return Scored(outcome, found, why)


def _under(manner: Manner, corpus: Corpus, asked: HeldOut) -> HeldOut:
    """The same sentences in another manner."""
    if template(manner.prompt) == asked.template:
        return asked
    return held_out(
        corpus, manner.prompt, len(asked), part=asked.part, max_new_tokens=asked.max_new_tokens, beams=asked.beams,
        batch_size=asked.batch_size,
    )  # fmt: skip


def _written(
    model: Any,
    tokenizer: Any,
    asked: HeldOut,
    manner: Manner,
    report: Report,
    title: str,
    stage: str,
    written: tuple[Sequence[Generation], float] | None,
) -> Outcome:
    """What the model writes, each answer up to where the manner ends it, with its scores."""

    def progress(done: float, total: int) -> None:
        does = "translating" if asked.target_language else "answering"
        report(done, total, f"{title}: {does}", unit="sentences", stage=f"{stage} translating")

    if written is None:
        ends = () if manner.end is None else (manner.end,)
        outcome = evaluate_model(model, tokenizer, asked, progress, ends)
        if not manner.breaks:
            return outcome
        written = outcome.answers, outcome.seconds
    answers, seconds = written
    return outcome_of([manner.cut(answer, tokenizer) for answer in answers], asked, seconds)


def _read(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    asked: HeldOut,
    manner: Manner,
    report: Report,
    title: str,
    stage: str,
) -> Likelihood:
    """The likelihood of the references. Raises ``KSLotteryError`` where it cannot be had."""
    from ks_core.likelihood.references import references_of
    from ks_core.likelihood.scorer import likelihood_of

    output = model.get_output_embeddings()
    size = model.config.get_text_config().vocab_size if output is None else output.weight.shape[0]
    references = references_of(
        model, tokenizer, corpus, manner.prompt, part=asked.part, sentences=len(asked), joint=manner.joint, end=manner.end,
        ends=manner.ends(tokenizer, size),
    )  # fmt: skip

    def progress(done: int, total: int, message: str) -> None:
        report(done, total, f"{title}: {message}", unit="sentences", stage=f"{stage} reading")

    found = likelihood_of(model, references, progress)
    if not np.isfinite(found.summed()).all():
        raise SettingsError(
            "The model gives a reference a likelihood that is no number. Its weights, or a lower precision than float32, overflow."
        )
    return found
