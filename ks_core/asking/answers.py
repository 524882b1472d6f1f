"""What came of a question: the answers, and where the probabilities of those who gave them part. Plain values, no torch.

A place is a token of an answer: what each voice thought of it, having read the prompt and the answer up to there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ks_core.asking.question import VOICES, Question

if TYPE_CHECKING:
    import pandas as pd

#: How a question stands: it waits for others, the model is loaded, answers are written, their probabilities looked at, or it is over.
WAITS, LOADS, WRITES, COMPARES = "waits", "loads", "writes", "compares"
DONE, FAILED, STOPPED = "done", "failed", "stopped"
OVER = (DONE, FAILED, STOPPED)


@dataclass(frozen=True)
class Answer:
    """What a voice wrote: ``ids`` with the end token where it ``stopped`` by one, ``text`` without special tokens."""

    text: str
    ids: tuple[int, ...]
    stopped: bool

    @property
    def tokens(self) -> int:
        """How many tokens it has, the end token not among them."""
        return len(self.ids) - self.stopped

    @property
    def ending(self) -> str:
        """How it came to its end, in words."""
        tokens = f"{self.tokens} token{'s' * (self.tokens != 1)}"
        return f"ended by itself after {tokens}" if self.stopped else f"ran to the limit of {tokens}"


@dataclass(frozen=True)
class Place:
    """A token of an answer: of each voice the log-probability that it gave to it, in nats, and its five likeliest tokens there
    with their probabilities."""

    token_id: int
    nats: Mapping[str, float]
    top: Mapping[str, Sequence[tuple[int, float]]]


@dataclass
class Asked:
    """A question and what is known of its answers by now. ``lacking``: why a voice does not answer."""

    question: Question
    state: str = WAITS
    error: str = ""
    #: The ids of the prompt as the base reads it.
    read: tuple[int, ...] = ()
    #: What is written up to now, by voice.
    written: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    #: Along each voice's answer, the places.
    along: dict[str, list[Place]] = field(default_factory=dict)
    #: Seconds from the question's turn to its first token, and to the end.
    first_token: float = math.nan
    seconds: float = math.nan

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.state in OVER

    def hear(self, piece: Mapping[str, Any]) -> None:
        """Take in a piece of ``writing.answers``."""
        kind, value = next(iter(piece.items()))
        if kind == "read":
            self.state, self.read = WRITES, tuple(value)
        elif kind == "lacking":
            self.lacking = dict(value)
        elif kind == "written":
            self.written |= value
        elif kind == "answers":
            self.answers |= {v: Answer(text, tuple(ids), stopped) for v, (text, ids, stopped) in value.items()}
            self.written |= {v: answer.text for v, answer in self.answers.items()}
        elif kind == "along":
            self.state = COMPARES
            self.along[value[0]] = [Place(*place) for place in value[1]]


def parting(
    places: Sequence[Place], first: str, second: str, named: Callable[[int], str], stopped: bool
) -> tuple[list[float], str]:
    """Of each place the log-ratio, in nats, of what ``second`` gave to its token to what ``first`` gave; and the sentence about it.

    ``named`` gives a token's readable string; ``stopped`` says that the last place is the end token.
    """
    ratios = [place.nats[second] - place.nats[first] for place in places]
    if not ratios:
        return [], "There is no token to compare."
    at = max(range(len(ratios)), key=lambda n: abs(ratios[n]))
    found, one, other = places[at], VOICES[first], VOICES[second]
    words = (
        f"{other} and {one} part most at token {at + 1} of {len(places)}, {named(found.token_id)}: probability "
        f"{math.exp(found.nats[second]):.2g} against {math.exp(found.nats[first]):.2g}. Over the whole answer {other} gives "
        f"{sum(ratios):+.2f} nats more than {one}"
    )
    if stopped:
        words += f", {ratios[-1]:+.2f} of them at the end token"
    return ratios, f"{words}."


def touched(read: Sequence[int], ticket: Sequence[int]) -> dict[int, int]:
    """The ticket's rows that some ids touch, and how often, the most often first; equal ones in the ticket's order.

    >>> touched([5, 7, 7, 9], [9, 7, 3])
    {7: 2, 9: 1}
    """
    often = Counter(read)
    return dict(sorted(((i, often[i]) for i in dict.fromkeys(ticket) if often[i]), key=lambda pair: -pair[1]))


def frame(places: Sequence[Place], named: Callable[[int], str]) -> pd.DataFrame:
    """The places as a table: ``token_id, token`` and of each voice ``<voice>_nats``, the log-probability of the token, and
    ``<voice>_likeliest``, the five likeliest tokens there with their probabilities."""
    import pandas as pd

    rows = []
    for place in places:
        row: dict[str, Any] = {"token_id": place.token_id, "token": named(place.token_id)}
        for voice in (v for v in VOICES if v in place.nats):
            row[f"{voice}_nats"] = place.nats[voice]
            row[f"{voice}_likeliest"] = ", ".join(f"{named(i)} {p:.2f}" for i, p in place.top[voice])
        rows.append(row)
    return pd.DataFrame(rows)
