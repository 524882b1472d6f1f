"""Which rows an arm lays over the base: one function a kind of arm, from what is known of the training text.

Each takes the arm (what it asks for: how many rows, which seed) and the ``Material``, and gives token ids in the order
of their rank. All raise ``TicketError`` where there is nothing, or not enough, to choose from.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ks_core.errors import TicketError
from ks_core.tickets import matching


class Asked(Protocol):
    """What of an arm decides its rows (``arms.Arm``)."""

    @property
    def name(self) -> str: ...
    @property
    def k(self) -> int | None: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Material:
    """What rows are chosen from.

    ``counts`` token id -> how often the model reads it in the training text, prompt included (``examples.count_tokens``;
    the end token, which is only predicted, is none of them). That is known before any training; how many steps touch a
    row, which goes with D more closely (``trainings``), is not, and nothing is chosen or matched by it.
    ``prompt`` ids of the template's own tokens; ``ticket`` ids, the largest D first; ``size`` the vocabulary's.
    """

    counts: Mapping[int, int]
    prompt: Sequence[int] = ()
    ticket: Sequence[int] = ()
    size: int = 0

    def with_ticket(self, ticket: Sequence[int]) -> Material:
        """The same with another ticket."""
        return replace(self, ticket=list(ticket))


def embed(arm: Asked, material: Material) -> list[int]:
    """Every row that occurs in the training text."""
    return _by_count(material)


def ticket(arm: Asked, material: Material) -> list[int]:
    """The ticket's rows, or the first k of them."""
    return _inside(list(material.ticket)[: arm.k], material.size)


def chosen(arm: Asked, material: Material) -> list[int]:
    """The rows that the arm names."""
    return _inside(list(dict.fromkeys(arm.tokens)), material.size)


def prompt(arm: Asked, material: Material) -> list[int]:
    """The rows of the prompt's own words."""
    wanted = arm.k or len(material.ticket)
    return [i for i in _by_count(material) if i in set(material.prompt)][: wanted or None]


def frequent(arm: Asked, material: Material) -> list[int]:
    """The k most frequent rows."""
    wanted = _wanted(arm, material)
    return _enough(arm, _by_count(material), wanted)[:wanted]


def at_random(arm: Asked, material: Material) -> list[int]:
    """k rows outside the ticket, any of them."""
    wanted = _wanted(arm, material)
    found = random.Random(arm.seed).sample(_others(arm, material, wanted), wanted)
    return sorted(found, key=lambda i: (-material.counts[i], i))


def matched(arm: Asked, material: Material) -> list[int]:
    """As many rows outside the ticket, each for one of the ticket's that occurs about as often.

    Raises ``TicketError`` with the balance that could be had where that is no match.
    """
    wanted = _wanted(arm, material)
    rows, others = list(material.ticket)[:wanted], _others(arm, material, wanted)
    found = matching.nearest(rows, others, material.counts, arm.seed)
    reached = matching.balance(found, material.counts)
    if not reached.is_close:
        close = len(matching.partners(rows, others, material.counts, arm.seed))
        raise TicketError(
            f"{arm.name}: no rows outside the ticket match it ({reached.sentence}). {close:,} of its {len(rows):,} rows have a "
            "partner within 25%: compare those alone with their partners, by the arms paired and partners."
        )
    return list(found.values())


def paired(arm: Asked, material: Material) -> list[int]:
    """The ticket's rows that have a partner."""
    return list(_pairs(arm, material))


def partners(arm: Asked, material: Material) -> list[int]:
    """Those partners: rows outside the ticket, each within 25% of its row in how often it occurs."""
    return list(_pairs(arm, material).values())


def both(arm: Asked, material: Material) -> list[int]:
    """The ticket's rows that are among as many most frequent ones."""
    often = set(_most(arm, material))
    return _some(arm, [i for i in ticket(arm, material) if i in often])


def ticket_only(arm: Asked, material: Material) -> list[int]:
    """The ticket's rows that are not among as many most frequent ones."""
    often = set(_most(arm, material))
    return _some(arm, [i for i in ticket(arm, material) if i not in often])


def frequent_only(arm: Asked, material: Material) -> list[int]:
    """The most frequent rows, as many as the ticket has, that are not in it."""
    own = set(ticket(arm, material))
    return _some(arm, [i for i in _most(arm, material) if i not in own])


def beyond_prompt(arm: Asked, material: Material) -> list[int]:
    """The ticket's rows without the prompt's own words."""
    frame = set(material.prompt)
    return _some(arm, [i for i in ticket(arm, material) if i not in frame])


def balance_of(kind: str, arm: Asked, material: Material) -> matching.Balance | None:
    """How well a matched control matches; ``None`` for any other kind of arm."""
    if kind not in ("matched", "paired", "partners"):
        return None
    if kind != "matched":
        return matching.balance(_pairs(arm, material), material.counts)
    rows = list(material.ticket)[: _wanted(arm, material)]
    return matching.balance(
        matching.nearest(rows, _others(arm, material, 0), material.counts, arm.seed), material.counts
    )


def _pairs(arm: Asked, material: Material) -> dict[int, int]:
    rows = list(material.ticket)[: _wanted(arm, material)]
    found = matching.partners(rows, _others(arm, material, 0), material.counts, arm.seed)
    if not found:
        raise TicketError(f"{arm.name}: no row outside the ticket occurs within 25% as often as one in it.")
    return found


def _most(arm: Asked, material: Material) -> list[int]:
    return _by_count(material)[: _wanted(arm, material)]


def _some(arm: Asked, ids: list[int]) -> list[int]:
    if not ids:
        raise TicketError(f"{arm.name}: there is no such row here. Leave this arm out.")
    return ids


def _by_count(material: Material) -> list[int]:
    return sorted(material.counts, key=lambda i: (-material.counts[i], i))


def _wanted(arm: Asked, material: Material) -> int:
    wanted = arm.k or len(material.ticket)
    if not wanted:
        raise TicketError(f"{arm.name}: there is no ticket that says how many rows. Set k.")
    return wanted


def _others(arm: Asked, material: Material, wanted: int) -> list[int]:
    """The rows of the training text outside the ticket, if there are enough of them."""
    taken = set(material.ticket)
    return _enough(arm, [i for i in _by_count(material) if i not in taken], wanted)


def _inside(ids: list[int], size: int) -> list[int]:
    wrong = [i for i in ids if not 0 <= i < size]
    if wrong:
        raise TicketError(
            f"Token id {wrong[0]} is outside the vocabulary of {size:,} tokens. The ticket was made for another tokenizer."
        )
    return ids


def _enough(arm: Asked, ids: list[int], wanted: int) -> list[int]:
    if len(ids) < wanted:
        raise TicketError(
            f"{arm.name}: {wanted:,} rows are wanted, {len(ids):,} tokens of the training text are there to choose "
            "from. Set a smaller k, or take a smaller ticket."
        )
    return ids
