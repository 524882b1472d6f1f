"""Generation: what a language model writes for prompts, batch by batch, shared between processes that work together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ks_core.errors import Cancelled
from ks_core.jobs import sharding, world
from ks_core.translation.encoder_decoder import is_encoder_decoder, opening
from ks_core.translation.extraction import extract

#: Batches' worth of prompts among which the place of an answer that has ended is taken by the next, in one process.
ROUNDS = 8


@dataclass(frozen=True)
class Generation:
    """What a model wrote for one prompt."""

    prompt: str
    #: The continuation, special tokens left out.
    text: str
    #: Whether the model ended it (an end token) before the limit.
    stopped: bool
    #: Tokens written, the end token not counted.
    tokens: int
    #: The prompt with ``{source}`` where its sentence stands (``evaluation.HeldOut.frame``); empty where it is not known.
    frame: str = ""

    def answer(self, rule: str) -> str:
        """What of it is the answer under an extraction rule. Raises ``SettingsError`` for an unknown rule."""
        return extract(self.text, rule, self.frame or self.prompt)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    ends: Collection[int] = (),
    progress: Callable[[float, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Generation]:
    """Let a causal LM continue each prompt, or an encoder-decoder answer it; results in the order of ``prompts``.

    Greedy, or beam search with ``beams`` > 1. ``ends`` are ids that end an answer beside those of ``end_ids``. Prompts are
    batched by length, so little is computed for padding. ``progress(done, total)`` is called as in ``generate_each``;
    ``should_stop()`` is asked before each call, and ``Cancelled`` raised when it says so. Processes that work together
    (``ks_core.jobs.world``) share the batches, and each gets all answers; they are the same but for rounding however many
    processes there are.
    """

    def told(done: float, total: int, _run: str) -> None:
        if should_stop and should_stop():
            raise Cancelled
        if progress:
            progress(done, total)

    return generate_each(
        model, tokenizer, {"": prompts}, lambda run, batch: contextlib.nullcontext(), max_new_tokens=max_new_tokens, beams=beams, batch_size=batch_size,
        ends=ends, progress=told, rounds=ROUNDS if world.size() == 1 else 1,
    )[""]  # fmt: skip


def generate_each(
    model: Any,
    tokenizer: Any,
    runs: Mapping[str, Sequence[str]],
    acting: Callable[[str, list[int]], contextlib.AbstractContextManager[Any]],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    ends: Collection[int] = (),
    rounds: int = 1,
    in_one_go: bool = False,
    progress: Callable[[float, int, str], None] = lambda done, total, run: None,
) -> dict[str, list[Generation]]:
    """``generate`` for several lists of prompts, each batch while the model is as ``acting(run, batch)`` makes it.

    ``batch`` has the positions of the prompts that are written together: ``batch_size`` at once, the place of an answer that
    has ended taken by the next until ``rounds`` times as many are done. ``in_one_go`` is for a condition that goes by places: each
    batch is one call of transformers' ``generate``, padded to one width from the first token to the last. ``progress(done, total, run)`` counts prompts of
    all runs, before each batch and at the end; one process by itself also says after each token how far the batch is, as if
    every answer ran to the limit. What it raises ends the work. Processes that work together share the batches of all runs,
    so that there are enough of them even where each list is short.
    """
    items = [(run, batch) for run, prompts in runs.items() for batch in batches_of(prompts, batch_size * rounds)]
    total, done = sum(map(len, runs.values())), 0
    found: dict[tuple[str, int], Generation] = {}
    for (run, batch), counts, taken in world.deal(items, sharding.is_spread(model)):
        progress(done, total, run)

        def stepped(tokens: float, done: int = done, run: str = run, size: int = len(batch)) -> None:
            progress(done + size * min(1.0, tokens / max_new_tokens), total, run)

        with acting(run, batch):
            written = write(
                model, tokenizer, [runs[run][i] for i in batch], max_new_tokens=max_new_tokens, beams=beams, ends=ends,
                # One of several processes that left in the middle of a batch would be waited for by the others.
                stepped=stepped if world.size() == 1 else None, at_once=batch_size,
                in_one_go=in_one_go,
            )  # fmt: skip
        if counts:
            found |= {(run, i): answer for i, answer in zip(batch, written, strict=True)}
        done = sum(len(batch) for _, batch in items[:taken])
    if items:
        progress(total, total, items[-1][0])
    found = dict(world.gather(list(found.items())))
    return {run: [found[run, i] for i in range(len(prompts))] for run, prompts in runs.items()}


def batches_of(prompts: Sequence[str], batch_size: int) -> list[list[int]]:
    """The prompts' positions by length, cut into batches.

    >>> batches_of(["long one", "a", "bb"], 2)
    [[1, 2], [0]]
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    ends: Collection[int] = (),
    stepped: Callable[[float], None] | None = None,
    at_once: int | None = None,
    in_one_go: bool = False,
) -> list[Generation]:
    """What a model writes for some prompts. ``stepped``, ``at_once`` and ``in_one_go`` are ``write_ids``'s."""
    ends = end_ids(model, tokenizer) | set(ends)
    answers = []
    written = write_ids(
        model, tokenizer, prompts, max_new_tokens=max_new_tokens, beams=beams, ends=ends, stepped=stepped, at_once=at_once,
        in_one_go=in_one_go,
    )  # fmt: skip
    for prompt, (_, ids) in zip(prompts, written, strict=True):
        stopped = bool(ids) and ids[-1] in ends
        own = ids[:-1] if stopped else ids
        text = tokenizer.decode(own, skip_special_tokens=True)
        answers.append(Generation(prompt, text, stopped, len(own)))
    return answers


def write_ids(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    ends: Collection[int] = (),
    heard: Callable[[list[int]], None] | None = None,
    stepped: Callable[[float], None] | None = None,
    at_once: int | None = None,
    in_one_go: bool = False,
) -> list[tuple[list[int], list[int]]]:
    """The ids of each prompt as the model reads it, and of what it writes, up to its end token (or one of ``ends``; included)
    or the limit. ``heard`` is told each next token as it comes, an id a prompt, and may raise; not with beams. ``stepped`` is told
    after each token how many an answer has by now (in the mean; an ended one counts as if it had gone on to the limit), and may
    raise. No more than ``at_once`` are worked at, if that is given.

    Greedy answers of a decoder are written in ``bouts``, where nobody listens and nothing is to go ``in_one_go``. Otherwise the
    prompts are padded to one width: on the left, where a decoder is to go on; on the right for an encoder, which would
    count its positions from the padding otherwise.
    """
    import torch

    from ks_core.translation import bouts

    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ends = end_ids(model, tokenizer) | set(ends)
    encoded = [list(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    settings: dict[str, Any] = {
        "num_beams": beams,
        "do_sample": False,
        "temperature": None,
        "top_p": None,
        "top_k": None,
    }
    model.eval()
    # Who listens is told of all answers until the last has ended; processes that share a model have to run it equally often.
    if beams == 1 and not heard and not in_one_go and not sharding.is_spread(model) and bouts.cache_for(model):

        def criteria(tokens: Callable[[int], float]) -> list[Any]:
            return [_Counter(lambda n: stepped(tokens(n)))] if stepped else []

        with sharding.inference(model):
            written = bouts.write(
                model, encoded, max_new_tokens, at_once or len(prompts), ends, pad, criteria, **settings
            )
        return list(zip(encoded, written, strict=True))
    if at_once and at_once < len(prompts):
        return _one_after_another(
            model, tokenizer, prompts, at_once, stepped, max_new_tokens=max_new_tokens, beams=beams, ends=ends, heard=heard
        )  # fmt: skip
    width, begun = max(map(len, encoded)), opening(model, tokenizer) if is_encoder_decoder(model) else []
    fill = [width - len(e) for e in encoded]
    left = [0 if begun else n for n in fill]
    inputs = {
        "input_ids": [[pad] * n + e + [pad] * (width - n - len(e)) for n, e in zip(left, encoded, strict=True)],
        "attention_mask": [
            [0] * n + [1] * len(e) + [0] * (width - n - len(e)) for n, e in zip(left, encoded, strict=True)
        ],
    }
    if heard:
        settings["streamer"] = _Listener(heard)
    if stepped:
        settings["stopping_criteria"] = [_Counter(stepped)]
    if begun:
        # An end token that is forced at the limit would pass for an answer that the model ended; and transformers would put
        # the start of the settings before a beginning that has another one.
        settings |= {"forced_bos_token_id": None, "forced_eos_token_id": None, "decoder_start_token_id": begun[0]}
        inputs["decoder_input_ids"] = [begun] * len(encoded)
    with sharding.inference(model):
        written = model.generate(
            **{name: torch.tensor(rows, device=model.device) for name, rows in inputs.items()},
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=sorted(ends),
            **settings,
        )[:, len(begun) or width :].tolist()
    return [
        (ids, tokens[: next((n + 1 for n, token in enumerate(tokens) if token in ends), None)])
        for ids, tokens in zip(encoded, written, strict=True)
    ]


def _one_after_another(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    at_once: int,
    stepped: Callable[[float], None] | None,
    *,
    max_new_tokens: int,
    **settings: Any,
) -> list[tuple[list[int], list[int]]]:
    """``write_ids`` of so many prompts at a time."""
    found: list[tuple[list[int], list[int]]] = []
    for start in range(0, len(prompts), at_once):
        batch = prompts[start : start + at_once]

        def told(tokens: float, start: int = start, size: int = len(batch)) -> None:
            if stepped:
                stepped((start * max_new_tokens + size * tokens) / len(prompts))

        found += write_ids(
            model, tokenizer, batch, max_new_tokens=max_new_tokens, stepped=told if stepped else None, **settings
        )  # fmt: skip
    return found


class _Listener:
    """What transformers hands tokens on to: first the prompts, which are known, then the next token of each."""

    def __init__(self, heard: Callable[[list[int]], None]) -> None:
        self.heard, self.begun = heard, False

    def put(self, ids: Any) -> None:
        if self.begun:
            self.heard(ids.tolist())
        self.begun = True

    def end(self) -> None:
        """Nothing more comes."""


class _Counter:
    """What transformers asks after each token whether an answer has to end: it counts, and ends none."""

    def __init__(self, stepped: Callable[[int], None]) -> None:
        self.stepped, self.tokens = stepped, 0

    def __call__(self, ids: Any, scores: Any, **more: Any) -> Any:
        import torch

        self.tokens += 1
        self.stepped(self.tokens)
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)


def end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every id that ends an answer, by the model's own settings and the tokenizer's."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    return {i for i in ids if i is not None}
