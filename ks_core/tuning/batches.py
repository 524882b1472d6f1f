"""Text as training batches, packed where a model's attention allows it, and the loss on them.

No padding, and the words that every prompt begins with once per batch; the loss is computed where there is a
target and nowhere else, so the output layer is not run over the prompt.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ks_core.errors import CorpusError
from ks_core.translation.corpora import Corpus
from ks_core.translation.encoder_decoder import answer_ids, is_encoder_decoder, opening
from ks_core.translation.evaluation import context_of
from ks_core.translation.prompts import format_prompt
from ks_core.tuning.rows import shares_input

IGNORED = -100  # the label that cross entropy passes over


def examples_for(
    model: Any, tokenizer: Any, corpus: Corpus, prompt: str, longest: int | None = None, *, ended: bool = True
) -> list[dict[str, list[int]]]:
    """The training examples of a corpus as a model is given them: ``encode``'s for a decoder, and ``answered`` ones for an
    encoder-decoder. Raises ``CorpusError`` for one that is longer than the model reads, or than ``longest`` tokens, and where
    the tokenizer has no end token, unless they are not ``ended`` (of a decoder, to be scored and not trained on)."""
    longest = longest or context_of(model) or 1 << 30
    if not is_encoder_decoder(model):
        return encode(corpus, tokenizer, prompt, longest, ended=ended)
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
    corpus: Corpus, tokenizer: Any, prompt: str, longest: int, *, ended: bool = True
) -> list[dict[str, list[int]]]:
    """A decoder's training examples: prompt, target and end token as ids, with labels on target and end alone. Those that are
    not ``ended`` lack the end token.

    The text is tokenized as a whole, as the model meets it; the target begins where the tokens
    differ from the prompt's own. Raises ``CorpusError`` when an example is longer than ``longest``
    tokens or the tokenizer has no end token to end it with.
    """
    if ended:
        _check_end(tokenizer)
    examples = []
    for pair in corpus.train:
        text = format_prompt(prompt, pair.source, corpus.source_language, corpus.target_language)
        start = tokenizer(text)["input_ids"]
        whole = tokenizer(text + " " + pair.target)["input_ids"]
        if ended and whole and whole[-1] == tokenizer.eos_token_id:
            whole = whole[:-1]
        same = next(
            (n for n, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b),
            min(len(start), len(whole)),
        )
        ids = [*whole, tokenizer.eos_token_id] if ended else whole
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


def batch_order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """Indices of the examples of every step, one after the other: ``steps * batch_size`` of them.

    Each pass over the examples is shuffled; within stretches of fifty batches those of like length go
    together, which saves half the padding, and the batches are shuffled again. The whole order is made
    beforehand from the seed, so a resumed run meets the very batches it would have met.
    """
    generator = random.Random(seed)
    order: list[int] = []
    while len(order) < steps * batch_size:
        shuffled = list(range(len(lengths)))
        generator.shuffle(shuffled)
        stretch = 50 * batch_size
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), stretch):
            alike = sorted(shuffled[start : start + stretch], key=lambda i: lengths[i])
            batches += [alike[n : n + batch_size] for n in range(0, len(alike), batch_size)]
        generator.shuffle(batches)
        order += [i for batch in batches for i in batch]
    return order[: steps * batch_size]


@dataclass(frozen=True)
class Collator:
    """Examples to a batch, a row each, padded on the left so that the targets end together.

    A column's label is the token that comes next, so an example's last token, which predicts nothing, is not
    in the batch. ``labels`` are those of the last columns alone, from the first that predicts a target on;
    before them stands an ignored one, for transformers counts labels from the second on.
    """

    pad: int

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(fed(e)) for e in examples)
        kept = max(sum(label != IGNORED for label in e["labels"]) for e in examples)

        def padded(name: str, fill: int) -> torch.Tensor:
            return torch.tensor([_to_width(e[name][:-1], width, fill) for e in examples])

        mask = torch.tensor([_to_width([1] * len(fed(e)), width, 0) for e in examples])
        return {
            "input_ids": padded("input_ids", self.pad),
            "attention_mask": mask,
            "labels": torch.tensor([[IGNORED, *_to_width(e["labels"], kept, IGNORED)[-kept:]] for e in examples]),
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        }


@dataclass(frozen=True)
class PairCollator:
    """Examples of an encoder-decoder to a batch, a row each, padded on the right on either side.

    ``labels`` have an ignored column before them, as ``Collator``'s have.
    """

    pad: int

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        def padded(name: str, fill: int) -> torch.Tensor:
            width = max(len(e[name]) for e in examples)
            return torch.tensor([e[name] + [fill] * (width - len(e[name])) for e in examples])

        width = max(len(e["input_ids"]) for e in examples)
        labels = padded("labels", IGNORED)
        return {
            "input_ids": padded("input_ids", self.pad),
            "attention_mask": torch.tensor([[1] * (n := len(e["input_ids"])) + [0] * (width - n) for e in examples]),
            "decoder_input_ids": padded("decoder", self.pad),
            "labels": torch.cat([labels.new_full((len(labels), 1), IGNORED), labels], dim=1),
        }


def _to_width(values: Sequence[int], width: int, fill: int) -> list[int]:
    return [fill] * (width - len(values)) + list(values)


@dataclass(frozen=True)
class _Place:
    """A token in a packed row: itself, its position in its example, whose it is, and what it is to predict."""

    token: int
    position: int
    owner: int
    label: int


@dataclass(frozen=True)
class Packer:
    """Examples to a batch of few rows with little padding: what all begin with once in a row, then several.

    A prompt's fixed words are thus run through the model once per row instead of once per example. Every
    token sees the shared beginning and its own example up to itself, and has the position it has there, so
    the losses are those of a padded batch but for rounding. As attention goes by the mask and not by the
    order, the tokens that predict a target stand at the end of their row, where ``Collator`` has them too.

    Attention is computed for a whole row and masked afterwards, so long rows cost more per token. The
    number of rows is the one that is cheapest for the batch at hand.
    """

    padded: Collator
    hidden_size: int  # of the model: the wider it is, the less attention weighs

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        shared, own = self._shared(examples), [len(fed(e)) for e in examples]

        def cost(rows: int) -> float:
            # In tokens. Measured on a Llama of hidden size 576 on a CPU, forward and backward through frozen
            # layers: 2.9 ms a token in rows of 60, 3.2 in 120, 3.6 in 240, 4.3 in 480, 5.1 in 960.
            width = shared + max(sum(own[i] - shared for i in row) for row in _spread(own, rows))
            return rows * width * (1 + width / (2 * self.hidden_size))

        return self.pack(examples, min(range(1, len(examples) + 1), key=cost))

    def pack(self, examples: Sequence[dict[str, list[int]]], rows: int = 1) -> dict[str, torch.Tensor]:
        """The batch in so many rows, whatever it costs."""
        shared, lengths = self._shared(examples), [len(fed(e)) for e in examples]
        packed = []
        for chosen in _spread(lengths, rows):
            places = [_Place(token, n, -1, IGNORED) for n, token in enumerate(examples[0]["input_ids"][:shared])]
            for i in chosen:
                ids, labels = examples[i]["input_ids"], examples[i]["labels"]
                places += [_Place(ids[n], n, i, labels[n + 1]) for n in range(shared, lengths[i])]
            packed.append(sorted(places, key=lambda place: place.label != IGNORED))
        width = max(len(row) for row in packed)
        kept = max(sum(place.label != IGNORED for place in row) for row in packed)
        full = [[_Place(self.padded.pad, 0, -2, IGNORED)] * (width - len(row)) + row for row in packed]
        owner, position = (
            torch.tensor([[getattr(place, name) for place in row] for row in full]) for name in ("owner", "position")
        )
        looked_at, looking = owner[:, None, :], owner[:, :, None]
        seen = ((looked_at == looking) | (looked_at == -1)) & (position[:, None, :] <= position[:, :, None])
        seen &= (looking != -2) | (looked_at == -2)  # padding sees padding, so that no row of the mask is empty
        return {
            "input_ids": torch.tensor([[place.token for place in row] for row in full]),
            "attention_mask": torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None],
            "labels": torch.tensor([[IGNORED, *(place.label for place in row[width - kept :])] for row in full]),
            "position_ids": position,
        }

    @staticmethod
    def _shared(examples: Sequence[dict[str, list[int]]]) -> int:
        """How many tokens all examples begin with, before the first of them predicts a target."""
        texts = [e["input_ids"] for e in examples]
        end = min(next(n for n, label in enumerate(e["labels"]) if label != IGNORED) for e in examples) - 1
        return next((n for n in range(end) if len({text[n] for text in texts}) > 1), end)


def _spread(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Indices in so many rows of about the same length: the longest first, each to the shortest row."""
    spread: list[list[int]] = [[] for _ in range(rows)]
    filled = [0] * rows
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        shortest = filled.index(min(filled))
        spread[shortest].append(i)
        filled[shortest] += lengths[i]
    return spread


def can_pack(model: Any, packer: Packer, examples: Sequence[dict[str, list[int]]]) -> bool:
    """Whether a model's loss on packed examples is that on padded ones: found out by trying the first two.

    It is for a decoder whose attention takes any mask. It is not where the mask is not heeded, or a token's
    vector depends on what went before in another way (state space layers). Attention that sees a window only
    is right as long as no example is longer than that.
    """
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(window and max(len(e["input_ids"]) for e in examples) > window for window in windows):
        return False
    if config._attn_implementation not in ("eager", "sdpa") or model.dtype != torch.float32:
        return False
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            packed, padded = (
                target_loss(model, {name: values.to(model.device) for name, values in batch.items()}).item()
                for batch in (packer.pack(examples[:2]), packer.padded(examples[:2]))
            )
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False
    finally:
        model.train(was_training)
    return math.isclose(packed, padded, rel_tol=1e-5)


def target_loss(model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None = None) -> torch.Tensor:
    """Cross entropy of a batch's labels per token (or summed and divided by ``count``)."""
    labels = inputs["labels"][:, 1:]
    logits = target_logits(model, inputs)
    loss = F.cross_entropy(
        logits.float().reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return loss / ((labels != IGNORED).sum() if count is None else count)


def target_logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """The logits of a collated batch for the columns that ``labels`` are about, less the first: (rows, columns, vocabulary).

    A decoder's output layer is run over these last columns alone.
    """
    if "decoder_input_ids" in inputs:
        names: tuple[str, ...] = ("input_ids", "attention_mask", "decoder_input_ids")
        return model(**{name: inputs[name] for name in names}, use_cache=False).logits
    names, kept = ("input_ids", "attention_mask", "position_ids"), inputs["labels"].shape[1] - 1
    logits = model(**{name: inputs[name] for name in names}, use_cache=False, logits_to_keep=kept).logits
    return logits[:, -kept:]  # some kinds do not heed it
