"""How a pair is asked where nobody says otherwise: the prompt and the languages that its tuned side was trained with."""

from __future__ import annotations

from dataclasses import dataclass

from ks_core.errors import KSLotteryError
from ks_core.translation.prompts import usual_prompt
from ks_core.tuning import runnable, trainings


@dataclass(frozen=True)
class Usual:
    """A template's name or text, the two languages, and sentences of the text that no training saw, to be tried."""

    prompt: str
    source_language: str = "English"
    target_language: str = "French"
    sentences: tuple[str, ...] = ()


def usual(base: str, tuned: str, sentences: int = 20) -> Usual:
    """What is known of how the tuned side was trained (``trainings.of``); else the usual prompt of a model like the base."""
    training = trainings.of(tuned)
    if training is not None:
        try:
            text = training.corpus.load()
        except KSLotteryError:  # it is not here any more
            return Usual(training.prompt)
        return Usual(
            training.prompt, text.source_language, text.target_language, tuple(p.source for p in text.test[:sentences])
        )
    return Usual(usual_prompt(runnable.reads_with_encoder(base)))
