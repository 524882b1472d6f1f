"""What runs in the process that holds the models for a server: load a pair, and answer about it.

``answerer`` has it done by names, in a process of ``jobs.reading``, which the system ends at its bounds. The server itself
imports this file, so torch is loaded inside.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from ks_core.asking.bounds import Bounds
from ks_core.asking.question import Question
from ks_core.errors import Cancelled, of_machine

if TYPE_CHECKING:
    from ks_core.asking.models import Models

#: The models that this process holds; it is started for one pair.
_held: list[Models] = []


def prepare(base: str, tuned: str, bounds: dict[str, Any]) -> None:
    """Load a pair's models, to be kept; ``bounds`` are those of ``Bounds`` as plain values. Raises what ``models.load`` raises."""
    from ks_core.asking.models import load

    _held[:] = [load(base, tuned, Bounds(**bounds))]


def answer(stop: BinaryIO, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pieces of the answers. ``stop`` is a pipe: when there is something in it, or it is closed, nobody waits any more."""
    from ks_core.asking.writing import answers

    (models,) = _held

    def stopped() -> bool:
        return bool(select.select([stop], [], [], 0)[0])

    try:
        yield from answers(models, Question.from_dict(question), stopped)
    except Cancelled:
        return
    except RuntimeError as error:  # torch's own way of saying that its memory was not enough
        if of_machine(error):
            raise MemoryError from None
        raise
