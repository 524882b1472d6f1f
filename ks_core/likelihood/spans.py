"""Spans: which part of a sequence a token stands in.

A prompt with its answer falls into five of them:

    instruction_head   the first line of the template, with its line break and with a BOS token
    instruction_tail   what else stands before the source sentence: the label of its field
    source             the source sentence
    prefill            the template after the source, where the answer begins ("\\nFrench:")
    target             what the model writes, or of a reference what it reads

A token belongs to the span that holds its last character, by the tokenizer's own offsets: the space that most
tokenizers glue to the first word of the source goes with the source, a full stop glued to the line break after
it with the prefill. A token without characters goes with the token before it, a BOS with the head; so does
padding, which is never attended to.
"""

from __future__ import annotations

import re
import string
from typing import Any

import numpy as np

from ks_core.errors import ModelError, SettingsError
from ks_core.translation.prompts import template as template_text

SPANS = ("instruction_head", "instruction_tail", "source", "prefill", "target")
HEAD, TAIL, SOURCE, PREFILL, TARGET = range(5)


def character_spans(prompt: str, template: str, source: str, target_language: str) -> np.ndarray:
    """The span of each character of a prompt, int8 (len(prompt),), as positions in ``SPANS``.

    Found by laying the template over the prompt, so a source that reads like a label is still the source.
    Raises ``SettingsError`` when the prompt was not made from this template and source.
    """
    pattern, seen, kinds = "", set(), []
    for literal, name, spec, conversion in string.Formatter().parse(template_text(template)):
        if literal:
            pattern += f"({re.escape(literal)})"
            kinds.append("text")
        if name == "source_language":  # the one part that is not known here, but the same wherever it stands
            pattern += f"((?P={name}))" if name in seen else f"(?P<{name}>[^\\n]*?)"
        elif name is not None:
            value = string.Formatter().convert_field(source if name == "source" else target_language, conversion)
            pattern += f"({re.escape(format(value, spec or ''))})"
        if name is not None:
            kinds.append("source" if name == "source" else "text")
            seen.add(name)
    if (found := re.fullmatch(pattern, prompt)) is None:
        raise SettingsError(
            f"The prompt {prompt[:60]!r} was not made from the template {template[:60]!r} and its source sentence. "
            "Expected prompts, sources and template of one held-out part."
        )
    codes = np.full(len(prompt), PREFILL, np.int8)
    sources = [found.span(n) for n, kind in enumerate(kinds, 1) if kind == "source"]
    codes[: sources[0][0]] = TAIL
    codes[: len(re.sub(r"(\s*[^\n]*\n?).*", r"\1", prompt[: sources[0][0]], flags=re.DOTALL))] = HEAD
    for start, end in sources:
        codes[start:end] = SOURCE
    return codes


def token_spans(tokenizer: Any, prompt: str, characters: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The prompt's token ids (n,) as ``generate`` reads them, and the span of each, int8 (n,).

    Raises ``ModelError`` for a tokenizer that does not say where its tokens stand in the text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell where its tokens stand in the text. Parts of a sequence need a "
            "fast tokenizer: a model folder with tokenizer.json."
        )
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    codes = np.empty(len(encoded["input_ids"]), np.int8)
    span = HEAD
    for n, (_, end) in enumerate(encoded["offset_mapping"]):
        span = int(characters[end - 1]) if end else span
        codes[n] = span
    return encoded["input_ids"], codes
