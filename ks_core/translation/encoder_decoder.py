"""Encoder-decoders: how their answer begins, and how a tokenizer with codes of languages is told the two that are meant.

A decoder goes on where the prompt ends. Here the encoder reads the prompt, which is mostly the sentence alone, and the decoder
begins by itself: with a token that its configuration names (T5, Marian), with the end token and the code of the language that
is to be written (M2M-100, NLLB, mBART-50), or with that code alone (mBART). This is the same in training and in writing. The
tokenizer puts the code of the source's language to the prompt. Which parts a model has, and what is trained, is not told here.
"""

from __future__ import annotations

import re
from typing import Any

from ks_core.errors import ModelError, SettingsError
from ks_core.translation import languages

#: How codes of languages are written as tokens where a tokenizer keeps no list of them: NLLB's, and SeamlessM4T's.
_CODES = re.compile(r"([a-z]{3}_[A-Z][a-z]{3})|__([a-z]{3}(?:_[A-Z][a-z]{3})?)__")


def is_encoder_decoder(model: Any) -> bool:
    """Whether a model of transformers reads with an encoder and writes with a decoder."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def speak(tokenizer: Any, source_language: str, target_language: str) -> None:
    """Tell a tokenizer that knows languages by codes which it reads and which is to be written; another one is left alone.

    Languages are names or codes as ``languages.find`` takes them; empty, they stay as the tokenizer has them. Raises ``SettingsError`` for one that the tokenizer has not.
    """
    codes = language_codes(tokenizer)
    if codes and target_language:
        tokenizer.src_lang, tokenizer.tgt_lang = (_code(codes, name) for name in (source_language, target_language))


def language_codes(tokenizer: Any) -> dict[str, int]:
    """The codes of a tokenizer's languages with the ids of their tokens; empty for one that is not told languages."""
    if not hasattr(tokenizer, "src_lang"):
        return {}
    if listed := getattr(tokenizer, "lang_code_to_id", None):
        return dict(listed)
    found = {}
    for token, number in tokenizer.get_added_vocab().items():
        if match := _CODES.fullmatch(token):
            found[match[1] or match[2]] = number
    return found


def _code(codes: dict[str, int], name: str) -> str:
    """The code of a language: itself, or one of the same language, in the same script where there are several."""
    if name in codes:
        return name
    wanted = languages.find(name)
    alike = {code: found for code in codes if (found := languages.find(code.removesuffix("_XX")))} if wanted else {}
    fitting = [code for code, found in alike.items() if wanted and found.code == wanted.code]
    same_script = [code for code in fitting if wanted and alike[code].script == wanted.script]
    if not fitting:
        some = ", ".join(sorted(codes)[:8])
        raise SettingsError(
            f"{name!r} is none of the {len(codes)} languages that this model's tokenizer knows ({some} and so on). Name the two "
            "languages by one of its codes, with --languages or under From and To."
        )
    return (same_script or fitting)[0]


def opening(model: Any, tokenizer: Any) -> list[int]:
    """The ids that the decoder reads before it writes the first token of an answer: one, or more with a language's code."""
    import torch

    nothing = _target_ids(tokenizer, "")
    try:  # as each kind shifts its labels, which it does by its configuration
        read = model.prepare_decoder_input_ids_from_labels(torch.tensor([nothing], device=model.device))[0].tolist()
    except (AttributeError, TypeError, ValueError):
        start = getattr(model.generation_config, "decoder_start_token_id", None)
        if start is None:
            raise ModelError(
                f"This {type(model).__name__} does not say with which token its decoder begins. Set decoder_start_token_id in its "
                "config.json."
            ) from None
        read = [start, *nothing[:-1]]
    return read[: nothing.index(tokenizer.eos_token_id) + 1]


def answer_ids(tokenizer: Any, text: str, begun: list[int]) -> list[int]:
    """The ids of an answer after what the decoder begins with (``opening``), its end token included."""
    ids = _target_ids(tokenizer, text)
    return ids[len(begun) - 1 : ids.index(tokenizer.eos_token_id, len(begun) - 1) + 1]


def _target_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text in the language that is written, with all that the tokenizer adds, an end token at least."""
    ids = list(tokenizer(text_target=text)["input_ids"])
    return ids if tokenizer.eos_token_id in ids else [*ids, tokenizer.eos_token_id]
