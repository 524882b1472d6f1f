"""The answers to a question, as they are written, and what each voice thinks of every token of them.

All voices of one model write at once, as the sequences of a batch, each with its own rows. Writing is greedy: the likeliest
token each time. What comes are pieces of plain values, each with one name, which ``answers.Asked.hear`` takes in.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ks_core.asking.answers import DONE, Asked
from ks_core.asking.models import Models, Part
from ks_core.asking.question import MOST_PROMPT, VOICES, Question
from ks_core.errors import Cancelled, ModelError, SettingsError
from ks_core.jobs import sharding
from ks_core.likelihood.batches import Collator, PairCollator, target_logits
from ks_core.likelihood.examples import answered
from ks_core.likelihood.rows import each_acting, rows_over
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.evaluation import context_of
from ks_core.translation.generation import end_ids, write_ids

#: How many of the likeliest tokens are told at each place.
LIKELIEST = 5


def answers(models: Models, question: Question, stop: Callable[[], bool] = lambda: False) -> Iterator[dict[str, Any]]:
    """The pieces of the answers. ``stop`` is asked at each token; when it says so, ``Cancelled`` is raised.

    Raises ``SettingsError`` for a prompt that has no token, or more than the model reads.
    """
    parts, lacking = models.parts(question)
    for part in parts:
        check_length(part, question)
    yield {"lacking": lacking}
    yield {"read": list(parts[0].tokenizer(question.whole)["input_ids"])}
    written: dict[str, list[int]] = {}
    for part in parts:
        for piece in _written(part, question, stop):
            if "ids" in piece:
                written |= piece["ids"]
                piece = {"answers": _told(part, piece["ids"])}
            yield piece
    for voice, ids in written.items():
        writer = next(part for part in parts if voice in part.voices)
        strings = writer.tokenizer.convert_ids_to_tokens(ids)
        places: list[list[Any]] = [[i, {}, {}] for i in ids]
        for part in parts:
            if _reads_alike(part, writer, question, ids, strings):
                for place, told in zip(places, _thought(part, question, ids, stop), strict=True):
                    place[1] |= {name: nats for name, (nats, _) in told.items()}
                    place[2] |= {name: top for name, (_, top) in told.items()}
        yield {"along": [voice, places]}


def ask(models: Models, question: Question, report: Callable[[float, float, str], None] = lambda *_: None) -> Asked:
    """All of the answers, waited for. ``report(done, total, message)`` is told of each token. Raises what ``answers`` raises."""
    asked, began, tokens = Asked(question), time.monotonic(), 0
    most = len(VOICES) * question.max_new_tokens
    for piece in answers(models, question):
        if "written" in piece:
            if not asked.written:
                asked.first_token = time.monotonic() - began
            tokens += 1
            report(min(tokens, most), most, "answering")
        asked.hear(piece)
    asked.seconds, asked.state = time.monotonic() - began, DONE
    return asked


def check_length(part: Part, question: Question) -> None:
    """Raise ``SettingsError`` for a prompt without a token, and for one that is longer than the model reads or a page asks."""
    tokens, most = len(part.tokenizer(question.whole)["input_ids"]), question.max_new_tokens
    context = context_of(part.model)
    if not tokens:
        raise SettingsError("The prompt has no token that the model reads. Type words that its tokenizer knows.")
    together = max(tokens, most + 2) if is_encoder_decoder(part.model) else tokens + most
    if tokens > MOST_PROMPT or (context and together > context):
        reads = f"the model reads {context:,} tokens together (its context)" if context else "the model sets no bound"
        raise SettingsError(
            f"The prompt has {tokens:,} tokens and {most:,} may be written; {reads}, and a question takes at most {MOST_PROMPT:,}. "
            "Shorten the prompt, or write fewer tokens."
        )


def _acting(part: Part, names: list[str]) -> AbstractContextManager[None]:
    """Inside, the sequences of a batch are these voices."""
    rows = rows_over(part.model)
    if rows is None or part.as_is:
        return nullcontext()
    acts = torch.zeros((len(names), len(rows.slots)), dtype=torch.bool, device=rows.slots.device)
    for n, name in enumerate(names):
        acts[n, list(part.voices[name][0])] = True
    return each_acting(rows, acts, [part.voices[name][1] for name in names])


def _written(part: Part, question: Question, stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """What a model's voices write: the text up to now after each token, and at last the ``ids`` of each.

    transformers writes in a thread of its own, as it hands tokens on and does not wait for whoever takes them.
    """
    told: queue.SimpleQueue[list[int] | dict[str, list[int]] | BaseException] = queue.SimpleQueue()
    names, left = list(part.voices), threading.Event()

    def hear(ids: list[int]) -> None:
        if left.is_set() or stop():
            raise Cancelled
        told.put(ids)

    def write() -> None:
        try:
            with _acting(part, names):
                found = write_ids(
                    part.model, part.tokenizer, [question.whole] * len(names), max_new_tokens=question.max_new_tokens,
                    heard=hear,
                )  # fmt: skip
            told.put({name: ids for name, (_, ids) in zip(names, found, strict=True)})
        except BaseException as error:  # raised where it is waited for
            told.put(error)

    thread = threading.Thread(target=write, name="writing", daemon=True)
    thread.start()
    ends, ended = end_ids(part.model, part.tokenizer), set()
    ids: dict[str, list[int]] = {name: [] for name in names}
    try:
        while isinstance(piece := told.get(), list):
            for name, token in zip(names, piece, strict=True):
                if token in ends:
                    ended.add(name)
                elif name not in ended:
                    ids[name].append(token)
            yield {"written": {n: part.tokenizer.decode(own, skip_special_tokens=True) for n, own in ids.items()}}
        if isinstance(piece, BaseException):
            raise piece
        yield {"ids": piece}
    finally:
        left.set()
        thread.join()  # the rows are the model's own, and the next question turns them


def _told(part: Part, written: dict[str, list[int]]) -> dict[str, tuple[str, list[int], bool]]:
    """Of each voice its text, its ids, and whether an end token ended it."""
    ends, found = end_ids(part.model, part.tokenizer), {}
    for name, ids in written.items():
        stopped = bool(ids) and ids[-1] in ends
        found[name] = (part.tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=True), ids, stopped)
    return found


def _reads_alike(part: Part, writer: Part, question: Question, ids: list[int], strings: list[str]) -> bool:
    """Whether a model has the prompt and an answer of another one as the same tokens."""
    if part is writer:
        return True
    if max(ids, default=0) >= len(part.tokenizer):
        return False
    own, theirs = (list(p.tokenizer(question.whole)["input_ids"]) for p in (part, writer))
    return own == theirs and part.tokenizer.convert_ids_to_tokens(ids) == strings


def _thought(
    part: Part, question: Question, ids: list[int], stop: Callable[[], bool]
) -> list[dict[str, tuple[float, list[tuple[int, float]]]]]:
    """At each place of an answer, of each voice of a model: the log-probability of its token, and its likeliest tokens.

    One voice after the other: the probabilities of the whole vocabulary at every place take the most memory of all.
    """
    prompt = list(part.tokenizer(question.whole)["input_ids"])
    pad = next((i for i in (part.tokenizer.pad_token_id, part.tokenizer.eos_token_id) if i is not None), 0)
    collate = PairCollator(pad) if is_encoder_decoder(part.model) else Collator(pad)
    batch = collate([answered(part.model, part.tokenizer, prompt, ids)])
    batch = {name: values.to(part.model.device) for name, values in batch.items()}
    found: list[dict[str, tuple[float, list[tuple[int, float]]]]] = [{} for _ in ids]
    for name in part.voices:
        if stop():
            raise Cancelled
        with sharding.inference(part.model), _acting(part, [name]):
            # What an encoder-decoder begins with stands before the answer.
            nats = target_logits(part.model, batch)[0, -len(ids) :].float().log_softmax(-1)
        if not bool(torch.isfinite(nats.amax(-1)).all()):
            raise ModelError(
                "The model gives probabilities that are no numbers. Its weights, or the rows over it, are damaged."
            )
        own = nats[torch.arange(len(ids), device=nats.device), torch.tensor(ids, device=nats.device)].tolist()
        top = nats.topk(min(LIKELIEST, nats.shape[-1]), dim=-1)
        for n, place in enumerate(found):
            place[name] = (own[n], list(zip(top.indices[n].tolist(), top.values[n].exp().tolist(), strict=True)))
    return found
