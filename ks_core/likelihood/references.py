"""References as a model reads them: held-out pairs under a prompt, as ids with labels on the target and its end alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ks_core.errors import CorpusError, SettingsError
from ks_core.likelihood.examples import IGNORED, examples_for
from ks_core.likelihood.spans import HEAD, SPANS, TARGET, character_spans, token_spans
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.prompts import format_prompt


@dataclass(frozen=True)
class References:
    """Examples of ``examples`` with what is known of them.

    ``examples`` (n) ids and labels; ``characters`` int64 (n,) of each target; ``ended``: each ends with the end token;
    ``spans`` (n) int8 arrays: of each id of ``input_ids`` the part of the sequence that it stands in, as a position in
    ``SPANS``; ``pad`` the padding's id; ``part`` of the corpus, and ``name`` of it with its hash. ``ends``: ids of which any
    ends an answer, so that the end's probability is their sum; empty, it is that of the end token alone.
    """

    examples: tuple[dict[str, list[int]], ...]
    characters: np.ndarray
    ended: bool
    spans: tuple[np.ndarray, ...]
    pad: int
    name: str = ""
    part: str = ""
    ends: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def tokens(self) -> np.ndarray:
        """How many tokens of each target are its own, the end token not among them, int64 (n,)."""
        labelled = [sum(label != IGNORED for label in e["labels"]) for e in self.examples]
        return np.array(labelled, np.int64) - int(self.ended)

    def some(self, places: Sequence[int]) -> References:
        """These of them, in this order."""
        return replace(
            self, examples=tuple(self.examples[i] for i in places), characters=self.characters[list(places)],
            spans=tuple(self.spans[i] for i in places),
        )  # fmt: skip


def references_of(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    prompt: str,
    *,
    part: str = "test",
    sentences: int = 0,
    joint: str | None = None,
    end: int | None = None,
    ends: Sequence[int] = (),
) -> References:
    """The first ``sentences`` pairs (0: all) of a part of a corpus under a prompt: of ``development``, on which is chosen, of
    ``test``, on which is claimed, or of ``train``; of all that is held out where the part is empty.

    ``joint`` and ``end`` are ``examples.encode``'s; ``ends`` further ids that end an answer as well. Raises ``CorpusError`` for a
    part without pairs, an empty target, and a pair that is longer than the model reads; ``SettingsError`` for a part or number
    that cannot be.
    """
    if sentences < 0:
        raise SettingsError(f"The number of sentences is {sentences}. Expected at least 0, which is all.")
    pairs = corpus.train if part == "train" else corpus.part(part)
    pairs = pairs[: sentences or None]
    if not pairs:
        raise CorpusError(f"{corpus.name} has no pair for {part}. Bring more text, or widen the length limits.")
    for pair in pairs:
        _check_target(pair)
    ended = end is not None or tokenizer.eos_token_id is not None
    asked = replace(corpus, train=tuple(pairs))
    examples = examples_for(model, tokenizer, asked, prompt, ended=ended, joint=joint, end=end)
    for pair, example in zip(pairs, examples, strict=True):
        if sum(label != IGNORED for label in example["labels"]) <= int(ended):
            raise CorpusError(
                f"The target {pair.target[:60]!r} has no token of its own under this prompt: it is tokenized into the prompt's "
                "last token. End the prompt otherwise, or leave the pair out."
            )
    # Collator fills with this id where the mask says that nothing is read; any id of the vocabulary does.
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    languages = (corpus.source_language, corpus.target_language)
    return References(
        tuple(examples), np.array([len(p.target) for p in pairs], np.int64), ended,
        tuple(_spans(model, tokenizer, p, e, prompt, languages) for p, e in zip(pairs, examples, strict=True)), pad,
        f"{corpus.name}@{corpus.content_hash[:12]}", part,
        tuple(sorted({*ends, tokenizer.eos_token_id if end is None else end})) if ends and ended else (),
    )  # fmt: skip


def _check_target(pair: SentencePair) -> None:
    if not pair.target.strip():
        raise CorpusError(
            f"The target of {pair.source[:60]!r} is empty, so it has no likelihood. Leave the pair out of the text."
        )


def _spans(
    model: Any,
    tokenizer: Any,
    pair: SentencePair,
    example: dict[str, list[int]],
    prompt: str,
    languages: tuple[str, str],
) -> np.ndarray:
    """The span of each id that is read, int8. Without a fast tokenizer the prompt is one span, its first."""
    ids = example["input_ids"]
    codes = np.full(len(ids), HEAD, np.int8)
    if getattr(tokenizer, "is_fast", False):
        text = format_prompt(prompt, pair.source, *languages)
        _, own = token_spans(tokenizer, text, character_spans(text, prompt, pair.source, languages[1]))
        codes[: len(own)] = own[: len(codes)]
    if not is_encoder_decoder(model):  # an encoder reads the prompt alone
        first = next(n for n, label in enumerate(example["labels"]) if label != IGNORED)
        codes[first:] = TARGET
    assert codes.max(initial=0) < len(SPANS)
    return codes
