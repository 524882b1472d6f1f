"""Evaluating a model: the held-out sentences under a prompt, what it writes for them, and the scores.

Every arm of a run, the audit and the command ``evaluate`` score models with this one function, so that
their numbers can stand in one table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ks_core.errors import CorpusError, KSLotteryError, ModelError, SettingsError
from ks_core.jobs import bounded
from ks_core.translation.corpora import PARTS, Corpus
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.extraction import SOURCE
from ks_core.translation.generation import Generation, generate
from ks_core.translation.prompts import format_prompt, template
from ks_core.translation.scores import Evaluation, evaluate
from ks_core.translation.tasks import task_of


@dataclass(frozen=True)
class HeldOut:
    """What is asked: prompts with their sources and references, and how the answers are generated.

    ``part`` is that of the held-out pairs they are from (empty: of all); ``frame`` is the prompt with ``{source}`` where a sentence stands.
    ``max_new_tokens`` bounds an answer, ``beams`` above 1 is beam search, ``batch_size`` is in sentences
    and is part of what decides the last bits of a result.
    """

    corpus: str
    template: str
    prompts: tuple[str, ...]
    sources: tuple[str, ...]
    references: tuple[str, ...]
    target_language: str
    max_new_tokens: int = 48
    beams: int = 1
    batch_size: int = 32
    part: str = "test"
    frame: str = ""

    def __len__(self) -> int:
        return len(self.prompts)

    def settings(self) -> dict[str, Any]:
        """Everything about it but the sentences, as plain values."""
        return {
            "corpus": self.corpus, **({"part": self.part} if self.part else {}), "prompt": self.template,
            "sentences": len(self), "max_new_tokens": self.max_new_tokens, "beams": self.beams,
            **({"target_language": self.target_language} if self.target_language else {"task": task_of("").name}),
        }  # fmt: skip


def held_out(
    corpus: Corpus, prompt: str, sentences: int = 0, *, part: str = "test", max_new_tokens: int = 48, beams: int = 1,
    batch_size: int = 32,
) -> HeldOut:  # fmt: skip
    """The first ``sentences`` held-out pairs (0: all) of a part under a prompt, by name or as text.

    What is claimed is measured on the part ``test``, settings are chosen on ``development``; empty is all that is held out,
    as before there were parts. A part is in the order of a hash, so its beginning is a sample that every run shares. Raises ``SettingsError`` for a part, count, limit or beam size
    that cannot be, and ``CorpusError`` for a part without pairs.
    """
    for name, value, least in (
        ("number of sentences", sentences, 0), ("limit of new tokens", max_new_tokens, 1),
        ("number of beams", beams, 1), ("batch size", batch_size, 1),
    ):  # fmt: skip
        if value < least:
            raise SettingsError(f"The {name} is {value}. Expected at least {least}.")
    pairs = corpus.part(part)[: sentences or None]
    if not pairs:
        raise CorpusError(
            f"{corpus.name} holds out {len(corpus.held_out)} pairs, and none of them is for {part}. Bring more text, or widen "
            "the length limits."
        )
    languages = (corpus.source_language, corpus.target_language)
    return HeldOut(
        corpus=f"{corpus.name}@{corpus.content_hash[:12]}",
        template=template(prompt),
        prompts=tuple(format_prompt(prompt, p.source, *languages) for p in pairs),
        sources=tuple(p.source for p in pairs),
        references=tuple(p.target for p in pairs),
        target_language=corpus.target_language,
        max_new_tokens=max_new_tokens, beams=beams, batch_size=batch_size, part=part,
        frame=format_prompt(prompt, SOURCE, *languages),
    )  # fmt: skip


def part_of(signature: str) -> str:
    """The part of the held-out pairs that a saved result's signature names; empty where it is older than the parts, and its
    sentences are the first of all that are held out.

    >>> part_of("base:b|corpus:c@1|part:test|sentences:64"), part_of("base:b|corpus:c@1|sentences:64")
    ('test', '')
    """
    found = [field.removeprefix("part:") for field in signature.split("|") if field.startswith("part:")]
    return found[0] if found and found[0] in PARTS else ""


@dataclass(frozen=True)
class Outcome:
    """What a model wrote, how it scored, and the seconds that the writing took."""

    answers: list[Generation]
    evaluation: Evaluation
    seconds: float

    def answers_as_dicts(self) -> list[dict[str, Any]]:
        """The answers as plain values for JSON."""
        return [asdict(a) for a in self.answers]


def evaluate_model(
    model: Any,
    tokenizer: Any,
    held_out: HeldOut,
    progress: Callable[[float, int], None] | None = None,
    ends: Collection[int] = (),
) -> Outcome:
    """Let a model translate the held-out sentences, and score it. ``ends`` are ``generate``'s.

    ``progress(done, total)`` is ``generate``'s and may raise ``Cancelled``. Processes that work together share
    the sentences, and each gets the whole outcome.
    """
    check_length(model, tokenizer, held_out)
    started = time.perf_counter()
    answers = generate(
        model, tokenizer, held_out.prompts, max_new_tokens=held_out.max_new_tokens, beams=held_out.beams,
        batch_size=held_out.batch_size, ends=ends, progress=progress,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    return outcome_of([replace(answer, frame=held_out.frame) for answer in answers], held_out, seconds)


def outcome_of(answers: Sequence[Generation], held_out: HeldOut, seconds: float) -> Outcome:
    """Answers to the held-out sentences with their scores, and the seconds that the writing took."""
    return Outcome(list(answers), evaluate(answers, held_out.references, held_out.target_language), seconds)


def context_of(model: Any) -> int | None:
    """How many tokens a model reads at most, behind its prefix where it has one; ``None`` where its configuration sets no bound."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    before = getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", None) or 0
    return max(found - before, 1) if found and found > 0 else None


def check_length(model: Any, tokenizer: Any, held_out: HeldOut) -> None:
    """Raise ``SettingsError`` when a prompt with its answer is longer than the model reads."""
    context = context_of(model)
    longest = max(len(tokenizer(p)["input_ids"]) for p in held_out.prompts)
    together = (
        max(longest, held_out.max_new_tokens + 2) if is_encoder_decoder(model) else longest + held_out.max_new_tokens
    )
    if context and together > context:
        raise SettingsError(
            f"The longest prompt has {longest} tokens and {held_out.max_new_tokens} are to be written; the model reads "
            f"{context}. Lower the length limit of the corpus or the limit of new tokens."
        )


def read_answers(run: Path, arm: Mapping[str, Any]) -> list[Generation]:
    """The answers of a run's arm, in the order of the held-out sentences. ``arm`` is its entry in the run's result.

    Raises ``ModelError`` when the file is missing or damaged.
    """
    # The run may be somebody else's, and name any place.
    path = run / "arms" / Path(str(arm["folder"])).name / "answers.json"
    try:
        found = bounded.read_json(path, ModelError)
        answers = [Generation(**record) for record in found] if isinstance(found, list) else []
    except (KSLotteryError, OSError, TypeError):
        answers = []
    if not answers:
        raise ModelError(
            f"The answers of {arm['name']} cannot be read ({path}). The file is missing or damaged: start the run again."
        )
    return answers
