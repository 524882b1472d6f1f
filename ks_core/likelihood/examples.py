"""Text as examples: a prompt and its answer as ids, with labels on what the model is to predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ks_core.errors import CorpusError
from ks_core.likelihood.rows import shares_input
from ks_core.translation.corpora import Corpus
from ks_core.translation.encoder_decoder import answer_ids, is_encoder_decoder, opening
from ks_core.translation.evaluation import context_of
from ks_core.translation.prompts import format_prompt
from ks_core.translation.tasks import usual_joint

IGNORED = -100  # the label that cross entropy passes over


def examples_for(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    prompt: str,
    longest: int | None = None,
    *,
    ended: bool = True,
    joint: str | None = None,
    end: int | None = None,
) -> list[dict[str, list[int]]]:
    """The training examples of a corpus as a model is given them: ``encode``'s for a decoder (which has ``joint`` and ``end``
    explained), and ``answered`` ones for an encoder-decoder. Raises ``CorpusError`` for one that is longer than the model reads,
    or than ``longest`` tokens, and where the tokenizer has no end token, unless they are not ``ended`` (of a decoder, to be
    scored and not trained on)."""
    longest = longest or context_of(model) or 1 << 30
    if not is_encoder_decoder(model):
        return encode(corpus, tokenizer, prompt, longest, ended=ended, joint=joint, end=end)
    _check_end(tokenizer)
    begun, languages = opening(model, tokenizer), (corpus.source_language, corpus.target_language)
    examples = []
    for pair in corpus.train:
        ids = list(tokenizer(format_prompt(prompt, pair.source, *languages))["input_ids"])
        answer = answer_ids(tokenizer, pair.target, begun)
        _check_length(max(len(ids), len(begun) + len(answer)), longest, pair.source)
        examples.append(answered(model, tokenizer, ids, answer, begun))
    return examples


def answered(
    model: Any, tokenizer: Any, prompt: list[int], answer: list[int], begun: list[int] | None = None
) -> dict[str, list[int]]:
    """An example of a prompt and an answer, both as ids: what is read, and labels on the answer alone.

    ``input_ids`` and ``labels`` (IGNORED on the prompt) for a decoder. For an encoder-decoder ``input_ids`` are what the encoder
    reads, ``decoder`` what the decoder reads, its beginning (``begun``) first, ``labels`` what it is to predict there, and
    ``read`` all ids that are looked up in the matrix of the encoder.
    """
    if not is_encoder_decoder(model):
        return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
    begun = begun or opening(model, tokenizer)
    read = begun + answer[:-1]
    labels = [IGNORED] * (len(begun) - 1) + answer
    return {
        "input_ids": prompt,
        "decoder": read,
        "labels": labels,
        "read": prompt + (read if shares_input(model) else []),
    }


def _check_end(tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise CorpusError(
            "The tokenizer has no end-of-sequence token, so a model could not learn to stop. "
            "Bring a tokenizer that names one."
        )


def _check_length(tokens: int, longest: int, source: str) -> None:
    if tokens > longest:
        raise CorpusError(
            f"A pair takes {tokens} tokens with its prompt, the model reads {longest}: {source[:60]!r}. "
            "Lower the length limit of the corpus."
        )


def encode(
    corpus: Corpus,
    tokenizer: Any,
    prompt: str,
    longest: int,
    *,
    ended: bool = True,
    joint: str | None = None,
    end: int | None = None,
) -> list[dict[str, list[int]]]:
    """A decoder's training examples: prompt, target and end token as ids, with labels on target and end alone. Those that are
    not ``ended`` lack the end token.

    ``joint`` stands between prompt and target (``None``: ``tasks.usual_joint``); ``end`` is the id that ends an answer (``None``: the tokenizer's end token).
    The text is tokenized as a whole, as the model meets it; the target begins where the tokens
    differ from the prompt's own. Raises ``CorpusError`` when an example is longer than ``longest``
    tokens or the tokenizer has no end token to end it with.
    """
    if ended and end is None:
        _check_end(tokenizer)
    last = tokenizer.eos_token_id if end is None else end
    examples = []
    for pair in corpus.train:
        text = format_prompt(prompt, pair.source, corpus.source_language, corpus.target_language)
        start = tokenizer(text)["input_ids"]
        between = usual_joint(corpus.target_language, text) if joint is None else joint
        whole = tokenizer(text + between + pair.target)["input_ids"]
        if ended and whole and whole[-1] == tokenizer.eos_token_id:
            whole = whole[:-1]
        same = next(
            (n for n, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b),
            min(len(start), len(whole)),
        )
        ids = [*whole, last] if ended else whole
        _check_length(len(ids), longest, pair.source)
        examples.append({"input_ids": ids, "labels": [IGNORED] * same + ids[same:]})
    return examples


def fed(example: dict[str, list[int]]) -> list[int]:
    """What of an example is looked up in the matrix that the prompt is read with: of a decoder's all but the last token, the
    end, which is only ever predicted; of an encoder-decoder's what ``answered`` says.

    ``Collator`` and ``Packer`` make batches of the same positions. A row that stands at none of them has no gradient.
    """
    return example["read"] if "read" in example else example["input_ids"][:-1]


def count_tokens(examples: Sequence[dict[str, list[int]]]) -> dict[int, int]:
    """How often the model reads each token id in the examples (``fed``): prompt and target, without the end token."""
    return dict(sorted(Counter(i for example in examples for i in fed(example)).items()))
