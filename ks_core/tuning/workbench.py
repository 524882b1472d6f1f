"""What the arms of a run share: the model, the text, the ticket, and how to report. Each part is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import take, to_floats
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import SettingsError, TicketError
from ks_core.jobs import devices, world
from ks_core.signature import Signature, versions
from ks_core.store import workspace
from ks_core.study.scan import Study
from ks_core.tickets.selection import SELECTION_RULES, select
from ks_core.tickets.ticket import Ticket, ticket_of
from ks_core.translation.corpora import Corpus
from ks_core.translation.encoder_decoder import speak
from ks_core.translation.evaluation import HeldOut, held_out, part_of
from ks_core.translation.metrics import notes
from ks_core.translation.prompts import format_prompt
from ks_core.tuning import runnable
from ks_core.tuning.plans import Plan
from ks_core.tuning.row_choice import Material


class Report(Protocol):
    """How far a run is; raises ``Cancelled`` when it is to stop. ``Running.progress`` is one."""

    def __call__(self, done: float, total: float, message: str = "", *, unit: str = "", stage: str = "") -> None: ...


class Bench:
    """What the arms of a run share; each part is made when it is first asked for."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        report: Report,
        event: Callable[..., None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.device = world.device(devices.select(plan.device).removeprefix("torch:"))
        if plan.resources.precision == "bfloat16" and not devices.has_bfloat16(self.device):
            raise SettingsError(f"The GPU {self.device} does not compute in bfloat16. Choose float32.")
        self.plan, self.folder, self.report, self.event, self.should_stop = (
            plan.in_steps(),
            folder,
            report,
            event,
            should_stop,
        )

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        from ks_core.tuning.models import load_model

        self.report(0, 1, "loading the model", stage="load")
        model, tokenizer = load_model(self.plan.base, self.device, self.plan.resources)
        speak(tokenizer, self.corpus.source_language, self.corpus.target_language)
        return model, tokenizer

    def begin_anew(self) -> None:
        """Forget the model, so that it is loaded again: after an arm that may have left it half changed."""
        self.__dict__.pop("loaded", None)

    @property
    def model(self) -> Any:
        return self.loaded[0]

    @property
    def tokenizer(self) -> Any:
        return self.loaded[1]

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The base as ``open_checkpoint`` gives it: hash, vocabulary, whether it is tied."""
        return open_checkpoint(self.plan.base)

    @cached_property
    def corpus(self) -> Corpus:
        return self.plan.corpus.load()

    @cached_property
    def part(self) -> str:
        """The part that is scored: the test. A run that an older version began goes on with what that version scored."""
        for path in sorted((self.folder / "arms").glob("*/result.json")):
            found = workspace.read_json(path)
            if isinstance(found, dict) and not found.get("error"):
                return part_of(str(found.get("signature", "")))
        return "test"

    @cached_property
    def held_out(self) -> HeldOut:
        plan = self.plan
        return held_out(
            self.corpus, plan.prompt, plan.sentences, part=self.part, max_new_tokens=plan.max_new_tokens, beams=plan.beams
        )  # fmt: skip

    @cached_property
    def examples(self) -> list[dict[str, list[int]]]:
        from ks_core.likelihood.examples import examples_for

        return examples_for(self.model, self.tokenizer, self.corpus, self.plan.prompt)

    @cached_property
    def material(self) -> Material:
        """Counts, prompt tokens and vocabulary; the ticket is added where an arm needs it."""
        from ks_core.likelihood.examples import count_tokens
        from ks_core.likelihood.rows import reading

        empty = format_prompt(self.plan.prompt, "", self.corpus.source_language, self.corpus.target_language)
        return Material(
            counts=count_tokens(self.examples),
            prompt=self.tokenizer(empty)["input_ids"],
            size=reading(self.model).weight.shape[0],
        )

    @property
    def study(self) -> Study:
        """The pair that the ticket comes from: the plan's, or this run's own Embed Tuning once it is trained."""
        if self.plan.tuned:
            return self._given
        number = next(n for n, arm in enumerate(self.plan.arms) if arm.kind == "embed")
        adapter = self.folder / "arms" / f"{number:02d}-embed" / "adapter"
        if not adapter.is_dir():
            raise TicketError("The ticket comes from this run's Embed Tuning, which was not finished.")
        return Study(self.plan.base, str(adapter))

    @cached_property
    def _given(self) -> Study:
        return Study(self.plan.base, self.plan.tuned)

    def ticket(self, alpha: float | None = None) -> Ticket:
        """The plan's ticket with its tuned rows, or that of another ``alpha`` (which makes the rule p < alpha)."""
        study = self.study
        with world.main_first():
            scan = study.scan(lambda done, total: self.report(done, total, "testing rows", unit="rows", stage="scan"))
            rule, threshold = ("alpha", alpha) if alpha is not None else (self.plan.rule, self.plan.alpha)
            positions = select(
                scan, rule=rule, alpha=threshold, k=self.plan.k, study=study,
                report=lambda done, total, message: self.report(done, total, message, stage="rule"),
            )  # fmt: skip
        return ticket_of(study, scan, positions, rule=rule, alpha=threshold)

    def tuned_rows(self, ids: Sequence[int]) -> np.ndarray:
        """The tuned model's rows of these token ids, float32 (k, d), in their order.

        Raises ``TicketError`` for a token that has no partner in the tuned vocabulary.
        """
        pair = self.study.pair
        place = {int(i): n for n, i in enumerate(pair.base_ids)}
        if missing := [i for i in ids if i not in place]:
            raise TicketError(
                f"Token id {missing[0]} has no partner in the tuned vocabulary, so its row cannot be copied. Choose other rows."
            )
        return to_floats(take(pair.tuned_rows, np.array([place[i] for i in ids])), pair.tuned_rows.dtype)

    @property
    def signature(self) -> Signature:
        plan = self.plan
        return Signature({
            "base": f"{self.checkpoint.label}@{self.checkpoint.content_hash[:12]}",
            "tuned": f"{self.study.tuned.label}@{self.study.tuned.content_hash[:12]}" if plan.tuned else "this run's",
            "ticket": f"{plan.rule} {plan.k if SELECTION_RULES[plan.rule].by_count else plan.alpha}",
            **self.held_out.settings(),
            "decoding": "greedy" if plan.beams == 1 else f"{plan.beams} beams", "device": self.device.partition(":")[0], **plan.resources.facts(),
            **versions("torch", "transformers", "peft", "accelerate", "sacrebleu"),
        })  # fmt: skip

    def notes(self) -> list[str]:
        """What a person should know about the run as a whole."""
        found = []
        if runnable.reads_with_encoder(self.plan.base):
            found.append(self._of_halves())
        elif self.checkpoint.tied:
            found.append(
                "The base ties its output layer to its input embedding. They were untied: rows are trained on the input "
                "side alone, and the output layer stays as it was."
            )
        if self.corpus.halved:
            found.append(
                f"Only {len(self.corpus.held_out)} pairs are held out, too few to part by their fingerprint: they are halved, and the "
                "scores are of the second half."
            )
        return found + notes(self.corpus.target_language)

    def _of_halves(self) -> str:
        """What is said of an encoder-decoder: where rows act."""
        from ks_core.likelihood.rows import shares_input

        where = (
            "what its encoder and its decoder read, which share one matrix. Its output layer stayed as it was, except in full "
            "tuning, which leaves all tied that is tied"
            if shares_input(self.model)
            else "what its encoder reads. Its decoder has a matrix of its own, which stayed as it was, and so did its output layer"
        )
        return f"The base is an encoder-decoder: rows are laid over {where}."


def write_once(path: Path, value: Any) -> None:
    """Write JSON, once for all processes."""
    if world.is_main():
        workspace.write_json(path, value)
