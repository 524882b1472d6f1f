"""Greedy answers in bouts of a few tokens each: an answer that has ended leaves the batch, another prompt takes its place, and what
all prompts begin with is read once.

The tokens come from transformers' ``generate``, which goes on from its own cache, so whatever the model's settings say of
generation holds here as there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

#: Tokens in a bout. On the demo 4 and 8 took the same time: each bout begins with a look through the model's settings.
BOUT = 8
#: The share of a batch that has to be free before prompts are read into it.
FREE = 0.25
#: Settings of generation that count from an answer's first token, or need a cache of another kind: bouts would change what they do.
OTHER_WAYS = (
    "min_new_tokens", "forced_bos_token_id", "forced_eos_token_id", "begin_suppress_tokens", "exponential_decay_length_penalty",
    "guidance_scale", "cache_implementation", "prompt_lookup_num_tokens", "max_time",
)  # fmt: skip
#: Places for tokens that a cache is made larger by when it is full.
ROOM = 64


class RoomyLayer(DynamicLayer):
    """transformers' growing cache of one layer, float (batch, heads, tokens, size) each of keys and values, with room to grow:
    a new token is written behind the others, where a ``DynamicLayer`` copies all that it holds each time."""

    keys: torch.Tensor
    values: torch.Tensor

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *more: Any, **named: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.keys.shape[-2] if self.keys.numel() else 0
        self.keys = self._appended("_key_room", self.keys, key_states, held)
        self.values = self._appended("_value_room", self.values, value_states, held)
        return self.keys, self.values

    def trim(self, tokens: int) -> None:
        """Let go of so many of the first places."""
        self.keys, self.values = self.keys[..., tokens:, :], self.values[..., tokens:, :]

    def join(self, other: RoomyLayer) -> None:
        """Take the answers of another layer behind the own ones. Both end at the same place; zeros stand before the shorter."""
        held = max(self.keys.shape[-2], other.keys.shape[-2])
        for name in ("keys", "values"):
            parts = [getattr(self, name), getattr(other, name)]
            joined = parts[0].new_zeros((sum(map(len, parts)), *parts[0].shape[1:-2], held, parts[0].shape[-1]))
            for rows, part in zip(joined.split([len(part) for part in parts]), parts, strict=True):
                rows[..., held - part.shape[-2] :, :] = part
            setattr(self, name, joined)

    def _appended(self, name: str, old: torch.Tensor, new: torch.Tensor, held: int) -> torch.Tensor:
        end = held + new.shape[-2]
        room = getattr(self, name, None)
        # Whoever picks answers or repeats them puts another tensor in its place.
        if room is None or end > room.shape[-2] or old.data_ptr() != room.data_ptr() or len(old) != len(room):
            room = new.new_empty((*new.shape[:-2], end + ROOM, new.shape[-1]))
            if held:
                room[..., :held, :] = old
            setattr(self, name, room)
        room[..., held:end, :] = new
        return room[..., :end, :]


class RoomyCache(DynamicCache):
    """A cache of ``RoomyLayer``."""

    layers: list[RoomyLayer]  # type: ignore[assignment]


def cache_for(model: Any) -> RoomyCache | None:
    """An empty cache for a decoder whose attention sees all that went before, as its mask says; ``None`` for any other model.

    It has to take positions and heed a mask with a gap in it, as padding stands between what is shared and a prompt's own part.
    """
    plain = _plain(model)
    settings = getattr(model, "active_peft_config", None)
    if settings is not None and getattr(settings, "is_prompt_learning", False):
        return None  # peft puts what it learnt before the prompt, into a cache of its own
    if "position_ids" not in inspect.signature(plain.forward).parameters or plain.config.is_encoder_decoder:
        return None
    if plain.config.get_text_config()._attn_implementation not in ("eager", "sdpa"):
        return None
    if getattr(plain, "_is_stateful", False) or not plain._supports_default_dynamic_cache():
        return None
    if plain.generation_config.use_cache is False:
        return None
    if any(getattr(plain.generation_config, name, None) is not None for name in OTHER_WAYS):
        return None
    cache = RoomyCache(config=plain.config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None  # windows and states
    cache.layers = [RoomyLayer() for _ in cache.layers]
    return cache


class _Batch:
    """The answers that are being written: ids and mask int64 (answers, width), all ending in the same column, and the cache of every
    column but the last. ``made`` are the tokens of each answer so far, ``owner`` its prompt."""

    def __init__(self, ids: torch.Tensor, mask: torch.Tensor, cache: RoomyCache, owner: list[int]) -> None:
        self.ids, self.mask, self.cache = ids, mask, cache
        self.owner, self.made = owner, [0] * len(owner)

    def keep(self, places: list[int]) -> None:
        """Only these answers, and no column in which none of them has anything."""
        kept = torch.tensor(places, dtype=torch.long, device=self.ids.device)
        self.owner, self.made = [self.owner[n] for n in places], [self.made[n] for n in places]
        self.cache.batch_select_indices(kept)
        self.ids, self.mask = self.ids[kept], self.mask[kept]
        empty = int(self.mask.any(dim=0).int().argmax())
        if empty:
            self.ids, self.mask = self.ids[:, empty:], self.mask[:, empty:]
            for layer in self.cache.layers:
                layer.trim(empty)

    def join(self, other: _Batch) -> None:
        """These answers and those of another batch in one."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        for name in ("ids", "mask"):
            parts = [getattr(batch, name) for batch in (self, other)]
            padded = [torch.nn.functional.pad(part, (width - part.shape[1], 0)) for part in parts]
            setattr(self, name, torch.cat(padded))
        for mine, others in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.join(others)
        self.owner, self.made = self.owner + other.owner, self.made + other.made


class _Reader:
    """Reads prompts (ids) into a cache, all of each but its last token; what all of them begin with it has read once."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad: int) -> None:
        self.model, self.prompts, self.pad = model, prompts, pad
        self.shared = _shared(prompts)
        self.fewer = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(_plain(model).forward).parameters else {}
        )
        self.opening = self._empty()
        if self.shared:
            ids = torch.tensor([prompts[0][: self.shared]], device=model.device)
            model(input_ids=ids, past_key_values=self.opening, use_cache=True, **self.fewer)

    def __call__(self, owners: list[int]) -> _Batch:
        prompts = [self.prompts[i] for i in owners]
        width, shared = max(map(len, prompts)), self.shared
        # Padding stands between what is shared and a prompt's own part.
        rows = [[*p[:shared], *[self.pad] * (width - len(p)), *p[shared:]] for p in prompts]
        seen = [[*[1] * shared, *[0] * (width - len(p)), *[1] * (len(p) - shared)] for p in prompts]
        ids, mask = (torch.tensor(values, device=self.model.device) for values in (rows, seen))
        cache = self._empty()
        for layer, first in zip(cache.layers, self.opening.layers, strict=True):
            if shared:
                layer.update(*(part.expand(len(owners), -1, -1, -1) for part in (first.keys, first.values)))
        if width - 1 > shared:
            places = (mask.cumsum(dim=1) - 1).clamp(min=0)
            self.model(
                input_ids=ids[:, shared:-1], attention_mask=mask[:, :-1], position_ids=places[:, shared:-1],
                past_key_values=cache, use_cache=True, **self.fewer,
            )  # fmt: skip
        return _Batch(ids, mask, cache, owners)

    def _empty(self) -> RoomyCache:
        cache = cache_for(self.model)
        assert cache is not None
        return cache


def write(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    at_once: int,
    ends: Collection[int],
    pad: int,
    criteria: Callable[[Callable[[int], float]], list[Any]] = lambda tokens: [],
    **settings: Any,
) -> list[list[int]]:
    """The ids that a model for which there is ``cache_for`` writes for each prompt (ids), up to its end (one of ``ends``, included) or
    the limit; ``at_once`` prompts at the most are worked at.

    ``criteria(tokens)`` has the stopping criteria of a bout, in whose course ``tokens(n)`` are those of an answer in the mean after
    its first n, an ended one counted as if it had gone on to the limit. ``settings`` go to ``generate`` as they are.
    """
    read = _Reader(model, prompts, pad)
    written: list[list[int]] = [[] for _ in prompts]
    waiting = list(range(len(prompts)))
    batch = read(_taken(waiting, at_once))
    while True:
        ended = len(prompts) - len(waiting) - len(batch.owner)
        before = ended * max_new_tokens + sum(batch.made)

        def tokens(n: int, before: int = before, going: int = len(batch.owner)) -> float:
            return (before + n * going) / len(prompts)

        bout = min(BOUT, max_new_tokens - max(batch.made))
        width = batch.ids.shape[1]
        batch.ids = model.generate(
            input_ids=batch.ids, attention_mask=batch.mask, past_key_values=batch.cache, max_new_tokens=bout,
            stopping_criteria=criteria(tokens), pad_token_id=pad, eos_token_id=sorted(ends), **settings,
        )  # fmt: skip
        new = batch.ids[:, width:]
        batch.mask = torch.cat([batch.mask, torch.ones_like(new)], dim=1)
        going = []
        for place, (owner, ids) in enumerate(zip(batch.owner, new.tolist(), strict=True)):
            end = next((n + 1 for n, token in enumerate(ids) if token in ends), None)
            written[owner] += ids[:end]
            batch.made[place] += len(ids)
            if end is None and batch.made[place] < max_new_tokens:
                going.append(place)
        free = at_once - len(going)
        more = _taken(waiting, free) if free >= FREE * at_once else []
        if not going and not more:
            return written
        if not going:
            batch = read(more)
            continue
        if len(going) < len(batch.owner):
            batch.keep(going)
        if more:
            batch.join(read(more))


def _taken(waiting: list[int], most: int) -> list[int]:
    """Up to so many from the front of a list, which is without them then."""
    taken = waiting[:most]
    del waiting[:most]
    return taken


def _plain(model: Any) -> Any:
    """A model of transformers, out of its adapter where it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many ids all prompts begin with, one of each left to begin the answer from.

    >>> _shared([[1, 2, 3, 4], [1, 2, 5]])
    2
    >>> _shared([[1, 2], [1, 2]])
    1
    """
    end = max(min(map(len, prompts)) - 1, 0)
    return next((n for n in range(end) if len({prompt[n] for prompt in prompts}) > 1), end)
