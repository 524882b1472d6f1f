"""The arms of a run: what is tuned, from where, with which rows.

Each arm answers one question about the ticket, and most of them are there to doubt it: would any other
rows have done as well, would one, would none?
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ks_core import values
from ks_core.errors import SettingsError, TicketError
from ks_core.study.scan import check_alpha
from ks_core.tuning.recipes import Recipe

#: Kind of arm -> its name, and what it is.
KINDS = {
    "base": ("Base", "The base model as it is."),
    "tuned": ("Embed Tuning (given)", "The tuned checkpoint that the ticket comes from, as it is."),
    "embed": ("Embed Tuning", "Every row whose token occurs in the training text."),
    "partial": ("Partial Tuning", "Only the ticket's rows, trained from the base."),
    "transfer": ("Partial Transfer", "The ticket's rows copied from the embed-tuned model; no training."),
    "rows": ("Chosen rows", "Rows of your choice, such as the newline alone."),
    "frequent": ("Most frequent rows", "The k rows whose tokens are most frequent in the training text."),
    "matched": ("Random rows, matched", "Random rows outside the ticket, each trained about as often as a row in it."),
    "random": ("Random rows", "Random rows outside the ticket that occur in the training text."),
    "prompt": ("Prompt rows", "The rows of the prompt's own words: those that every example holds."),
    "noise": ("Random delta", "The ticket's rows moved in random directions, as far as tuning moved them; no training."),
    "lora": ("LoRA", "Low-rank updates of the attention's query and value matrices."),
    "full": ("Full tuning", "Every weight of the model."),
}  # fmt: skip

#: Kinds that train rows, kinds that train anything, kinds that need the ticket, and those that need its tuned values.
ROWS = ("embed", "partial", "rows", "frequent", "matched", "random", "prompt")
TRAINED = (*ROWS, "lora", "full")
NEED_TICKET = ("partial", "transfer", "matched", "random", "noise")
NEED_TUNED_ROWS = ("transfer", "noise")
SEEDED = ("matched", "random", "noise")

#: More rows than any vocabulary has.
MOST_ROWS = 100_000_000

#: What a kind is trained with unless it says otherwise. Rates: 1e-2 for rows is the paper's for Partial
#: Tuning; the paper's 2e-5 for Embed Tuning moves nothing in a run as short as those that a CPU allows.
RECIPES = {
    "embed": Recipe(steps=300, learning_rate=1e-2, schedule="linear"),
    "lora": Recipe(steps=80, learning_rate=1e-3, optimizer="adam", schedule="linear"),
    "full": Recipe(steps=80, learning_rate=5e-5, optimizer="adam", schedule="linear"),
}
ROW_RECIPE = Recipe(steps=80, learning_rate=1e-2, schedule="linear")


@dataclass(frozen=True)
class Arm:
    """One arm. ``k`` rows are chosen (``None``: as many as the ticket has), by ``seed`` where chance has a part.

    ``tokens`` are the ids of the kind ``rows``; ``alpha`` another threshold than the run's, for a sweep;
    ``rank`` a LoRA's. ``recipe`` is how it is trained (``None``: the kind's default).
    Raises ``SettingsError`` for an arm that cannot be.
    """

    kind: str
    k: int | None = None
    tokens: tuple[int, ...] = ()
    alpha: float | None = None
    rank: int = 8
    seed: int = 0
    recipe: Recipe | None = None
    label: str = ""

    def __post_init__(self) -> None:
        if values.text("An arm's kind", self.kind) not in KINDS:
            raise SettingsError(f"{self.kind!r} is no arm. Expected one of: {', '.join(KINDS)}.")
        title = KINDS[self.kind][0]
        values.text(f"{title}: the label", self.label)
        if self.alpha is not None:
            check_alpha(values.number(f"{title}: alpha", self.alpha))
        if self.k is not None:
            values.whole(f"{title}: k", self.k, 1, MOST_ROWS)
        values.whole(f"{title}: the seed", self.seed, 0, values.LARGEST_SEED)
        values.whole(f"{title}: the rank", self.rank, 1, 65_536)
        for token in values.members(f"{title}: tokens", self.tokens):
            values.whole(f"{title}: a token id", token, 0, MOST_ROWS)
        if self.kind == "rows" and not self.tokens:
            raise TicketError("Chosen rows: the list of rows is empty. Name at least one token.")
        if self.recipe is not None and not isinstance(self.recipe, Recipe):
            raise SettingsError(f"{title}: the recipe is {str(self.recipe)[:80]!r}. Expected a table of settings.")
        if self.kind in TRAINED and self.recipe is None:
            object.__setattr__(self, "recipe", RECIPES.get(self.kind, ROW_RECIPE))
        if self.kind not in TRAINED and self.recipe is not None:
            object.__setattr__(self, "recipe", None)

    @property
    def name(self) -> str:
        """What a table calls it."""
        if self.label:
            return self.label
        name = KINDS[self.kind][0]
        if self.alpha is not None:
            name += f", alpha {self.alpha:g}"
        return name + (f", seed {self.seed}" if self.kind in SEEDED and self.seed else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Arm:
        """From what ``as_dict`` gave, or from part of it. Raises ``SettingsError`` for a field that is not known."""
        known = {"kind": "", **values.of_fields(cls, given)}
        if isinstance(known.get("recipe"), Mapping):
            known["recipe"] = Recipe(**values.of_fields(Recipe, known["recipe"]))
        return cls(**{**known, "tokens": values.members("tokens", known.get("tokens") or ())})


def parse_arm(text: str, rows: Sequence[int] = (), **recipe: Any) -> Arm:
    """An arm from the command line's words: its kind, and settings after colons.

    ``rows`` are the ids for the kind ``rows``; ``recipe`` what the arm is trained with where the text does not
    say otherwise. Raises ``SettingsError`` for words that say nothing.

    >>> parse_arm("matched:seed=2:steps=40").seed
    2
    """
    kind, *settings = values.text("The arm", text).strip().split(":")
    found: dict[str, Any] = {"kind": kind}
    if kind == "rows":
        found["tokens"] = tuple(rows)
    own: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        target, of = (found, Arm) if name in ("k", "alpha", "rank", "seed", "label") else (own, Recipe)
        if name not in of.__dataclass_fields__ or not value:
            raise SettingsError(
                f"{setting!r} in the arm {text!r} says nothing. Expected name=value with one of: k, alpha, rank, seed, "
                f"label, {', '.join(n for n in Recipe.__dataclass_fields__ if n != 'seed')}."
            )
        target[name] = value if name == "label" else _number(value)
    arm = Arm(**found)
    if arm.recipe is None:
        return arm
    changes = {**recipe, "seed": arm.seed or recipe.get("seed", 0), **own}
    return replace(arm, recipe=replace(arm.recipe, **changes))


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True)
class Material:
    """What rows are chosen from.

    ``counts`` token id -> how often it occurs in the training text, prompt and end token included;
    ``prompt`` ids of the template's own tokens; ``ticket`` ids, the largest D first; ``size`` the vocabulary's.
    """

    counts: Mapping[int, int]
    prompt: Sequence[int] = ()
    ticket: Sequence[int] = ()
    size: int = 0

    def with_ticket(self, ticket: Sequence[int]) -> Material:
        """The same with another ticket."""
        return replace(self, ticket=list(ticket))


def choose_rows(arm: Arm, material: Material) -> list[int]:
    """The ids of the rows that an arm trains, in the order of their rank.

    Raises ``TicketError`` when the ticket is empty, names rows that the vocabulary has not, or the
    training text holds too few other tokens to choose from.
    """
    by_count = sorted(material.counts, key=lambda i: (-material.counts[i], i))
    wanted = arm.k or len(material.ticket)
    if arm.kind in NEED_TICKET and not material.ticket:
        raise TicketError(
            f"{arm.name}: the ticket is empty, no row has p below alpha. Raise alpha, or choose the ticket by count."
        )
    if arm.kind == "embed":
        return by_count
    if arm.kind in ("partial", "transfer", "noise"):
        return _inside(list(material.ticket)[: arm.k], material.size)
    if arm.kind == "rows":
        return _inside(list(dict.fromkeys(arm.tokens)), material.size)
    if arm.kind == "prompt":
        return [i for i in by_count if i in set(material.prompt)][: wanted or None]
    if not wanted:
        raise TicketError(f"{arm.name}: there is no ticket that says how many rows. Set k.")
    if arm.kind == "frequent":
        return _enough(arm, by_count, wanted)[:wanted]
    generator = random.Random(arm.seed)
    taken = set(material.ticket)
    others = _enough(arm, [i for i in by_count if i not in taken], wanted)
    if arm.kind == "random":
        return sorted(generator.sample(others, wanted), key=lambda i: (-material.counts[i], i))
    return _matched(list(material.ticket)[:wanted], others, material.counts, generator)


def _matched(
    ticket: Sequence[int], others: list[int], counts: Mapping[int, int], generator: random.Random
) -> list[int]:
    """For each ticket row one of the ten unused rows whose training count is nearest."""
    free = list(others)
    chosen = []
    for row in sorted(ticket, key=lambda i: (-counts.get(i, 0), i)):  # the frequent first: they have fewest equals
        near = sorted(free, key=lambda i: (abs(counts[i] - counts.get(row, 0)), i))[:10]
        chosen.append(generator.choice(near))
        free.remove(chosen[-1])
    return chosen


def _inside(ids: list[int], size: int) -> list[int]:
    wrong = [i for i in ids if not 0 <= i < size]
    if wrong:
        raise TicketError(
            f"Token id {wrong[0]} is outside the vocabulary of {size:,} tokens. The ticket was made for another tokenizer."
        )
    return ids


def _enough(arm: Arm, ids: list[int], wanted: int) -> list[int]:
    if len(ids) < wanted:
        raise TicketError(
            f"{arm.name}: {wanted:,} rows are wanted, {len(ids):,} tokens of the training text are there to choose "
            "from. Set a smaller k, or take a smaller ticket."
        )
    return ids
