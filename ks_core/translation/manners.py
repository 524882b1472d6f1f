"""Other ways to put a sentence to a model than a run's prompt alone: what can be had without any training.

What a fine-tuned model gains over its base may be had for nothing: by the chat template that the base was trained with, by a
few examples in the prompt, or by ending an answer at its first line break, as a stop sequence does. Each way is a ``Manner``:
a prompt, and how an answer begins and ends. What a model makes of it is not computed here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from ks_core.errors import ModelError, one_line
from ks_core.translation.corpora import Corpus
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.generation import Generation
from ks_core.translation.prompts import format_prompt, template

#: Examples in a prompt.
SHOTS = 3
#: The longest text that a chat template may make of a sentence, in characters.
LONGEST = 20_000
#: Stand for the sentence and for the answer while a chat template is filled.
_SOURCE, _ANSWER = "KSLOTTERYSOURCE", "KSLOTTERYANSWER"


@dataclass(frozen=True)
class Manner:
    """A way to ask: ``prompt`` is a template, by name or as text; ``joint`` stands between it and the answer (``None``: what is
    usual, mostly a space); ``end`` is the id that ends an answer (``None``: the tokenizer's end token); ``breaks``: so does its first
    line break. ``about`` says what a reader has to know of it, in a sentence."""

    prompt: str
    joint: str | None = None
    end: int | None = None
    breaks: bool = False
    about: str = ""

    def ends(self, tokenizer: Any, size: int) -> tuple[int, ...]:
        """The ids below ``size`` that end an answer beside its end token: where it breaks, those of tokens that begin with a
        line break."""
        return breaking(tokenizer, size) if self.breaks else ()

    def cut(self, answer: Generation, tokenizer: Any) -> Generation:
        """An answer as it is in this manner: up to its first line break, or all of it.

        A break before the first word ends nothing, as under the rule ``first_line``: then what is left is that rule's answer.
        """
        kept, found, _ = answer.text.strip().partition("\n")
        if not self.breaks or not found:
            return answer
        kept = kept.rstrip()
        return replace(
            answer, text=kept, stopped=True, tokens=len(tokenizer(kept, add_special_tokens=False)["input_ids"])
        )


def as_it_is(model: Any, tokenizer: Any, corpus: Corpus, prompt: str, seed: int = 0) -> Manner:
    """The prompt of a run, and nothing besides."""
    return Manner(prompt)


def stopped(model: Any, tokenizer: Any, corpus: Corpus, prompt: str, seed: int = 0) -> Manner:
    """The same prompt, with a forced stop at the first line break."""
    return Manner(
        prompt, breaks=True,
        about="an answer is cut at its first line break; the probability of its end is that of the end token or of any token that "
        "begins with a line break",
    )  # fmt: skip


def with_examples(model: Any, tokenizer: Any, corpus: Corpus, prompt: str, seed: int = 0) -> Manner:
    """The same prompt after ``SHOTS`` pairs of the training part, drawn by ``seed``, an empty line between them.

    Raises ``ModelError`` for an encoder-decoder, which is given a sentence and no examples.
    """
    _refuse_encoder(model, "three examples")
    pairs = random.Random(seed).sample(list(corpus.train), min(SHOTS, len(corpus.train)))
    languages = (corpus.source_language, corpus.target_language)
    shown = [_literal(f"{format_prompt(prompt, p.source, *languages)} {p.target}") for p in pairs]
    told = "; ".join(f"{one_line(p.source)} = {one_line(p.target)}" for p in pairs)
    return Manner(
        "\n\n".join([*shown, template(prompt)]),
        about=f"{len(pairs)} pairs of the training part stand in the prompt: {told}",
    )


def in_chat(model: Any, tokenizer: Any, corpus: Corpus, prompt: str, seed: int = 0) -> Manner:
    """The same prompt under the tokenizer's chat template (``as_message``). Raises ``ModelError`` for an encoder-decoder too."""
    _refuse_encoder(model, "a chat template")
    return as_message(tokenizer, prompt, corpus.source_language, corpus.target_language)


def as_message(tokenizer: Any, prompt: str, source_language: str = "", target_language: str = "") -> Manner:
    """A prompt as a user's message under the tokenizer's own chat template, where the assistant's answer begins.

    How an answer is joined to the prompt, and which token ends it, is read off a whole conversation. Raises ``ModelError`` for
    a tokenizer without a template, and a template that makes nothing of a message.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("The tokenizer has no chat template, so the base cannot be asked in one. Leave it out.")
    message = {
        "role": "user",
        "content": format_prompt(prompt, _SOURCE, source_language, target_language),
    }
    before, found, after = _filled(tokenizer, [message, {"role": "assistant", "content": _ANSWER}]).partition(_ANSWER)
    if not found:  # a template that lets no answer stand
        before = _filled(tokenizer, [message], add_generation_prompt=True)
    if _SOURCE not in before:
        raise ModelError("The tokenizer's chat template leaves the message out that asks. Leave this arm out.")
    start = tokenizer.bos_token
    if start and before.startswith(start) and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        before = before.removeprefix(start)  # which the tokenizer puts there itself
    asked = before.rstrip(" ")
    text = _literal(asked).replace(_SOURCE, "{source}")
    end = _first_special(tokenizer, after.lstrip())
    about = "the prompt is a user's message under the tokenizer's chat template"
    if end is not None:
        about += f"; an answer ends with {tokenizer.convert_ids_to_tokens(end)}"
    return Manner(text, joint=before[len(asked) :], end=end, about=about)


def breaking(tokenizer: Any, size: int) -> tuple[int, ...]:
    """The ids below ``size`` of tokens that begin with a line break."""
    ids = range(min(size, len(tokenizer)))
    texts = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    return tuple(i for i, text in zip(ids, texts, strict=True) if text.startswith(("\n", "\r\n")))


def _filled(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> str:
    """What a tokenizer's chat template makes of messages. transformers fills it where it can call and change nothing."""
    try:
        made = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except Exception as error:  # a template says in its own words what it does not take
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise ModelError(
            f"The tokenizer's chat template cannot be filled ({one_line(said)}). Expected one that takes a user's message. Leave "
            "this arm out."
        ) from None
    if len(made) > LONGEST:
        raise ModelError(
            f"The tokenizer's chat template makes {len(made):,} characters of a sentence. Expected at most {LONGEST:,}. Leave this "
            "arm out."
        )
    return str(made)


def _first_special(tokenizer: Any, text: str) -> int | None:
    """The id of the special token that a text begins with; ``None`` where it begins with another, or is empty."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    known = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    return int(ids[0]) if ids and ids[0] in known else None


def _literal(text: str) -> str:
    """A text as the part of a template that stands for itself."""
    return text.replace("{", "{{").replace("}", "}}")


def _refuse_encoder(model: Any, what: str) -> None:
    if is_encoder_decoder(model):
        raise ModelError(
            f"An encoder-decoder is given the sentence that it is to translate, so it cannot be asked with {what}. Leave this arm out."
        )
