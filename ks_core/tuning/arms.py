"""The arms of a run: what is tuned, from where, with which rows.

Each arm answers one question about the ticket, and most of them are there to doubt it: would any other
rows have done as well, would one, would none?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ks_core import values
from ks_core.errors import SettingsError, TicketError
from ks_core.registry import Entry, Registry
from ks_core.study.scan import check_alpha
from ks_core.translation import manners
from ks_core.translation.corpora import Corpus
from ks_core.translation.prompts import REPLICATION
from ks_core.tuning import row_choice
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.row_choice import Asked, Material

#: More rows than any vocabulary has.
MOST_ROWS = 100_000_000

#: Optimizer steps of every kind, so that arms of one run are trained for as long unless somebody chooses otherwise.
STEPS = 150

#: What a kind is trained with unless it says otherwise. Rates: 1e-2 for rows is the paper's for Partial
#: Tuning; the paper's 2e-5 for Embed Tuning moves nothing in a run as short as those that a CPU allows. The paper's settings of
#: prefix tuning are not known: 20 virtual tokens at 1e-2, without a projection, are this program's.
ROW_RECIPE = Recipe(steps=STEPS, learning_rate=1e-2, schedule="linear")
EMBED_RECIPE = Recipe(steps=STEPS, learning_rate=1e-2, schedule="linear")
LORA_RECIPE = Recipe(steps=STEPS, learning_rate=1e-3, optimizer="adam", schedule="linear")
PREFIX_RECIPE = Recipe(steps=STEPS, learning_rate=1e-2, optimizer="adam", schedule="linear")
FULL_RECIPE = Recipe(steps=STEPS, learning_rate=5e-5, optimizer="adam", schedule="linear")

#: Settings of a prefix alone, and more virtual tokens than a context has room for.
OF_A_PREFIX, MOST_VIRTUAL = ("virtual_tokens", "projection"), 10_000
#: What the command line may say of an arm, beside its recipe.
SETTINGS = ("k", "alpha", "rank", "seed", "label", "copied", *OF_A_PREFIX)

PAPER = "KS-Lottery, arXiv 2402.02801"


@dataclass(frozen=True)
class ArmKind(Entry):
    """A kind of arm.

    ``function`` chooses its rows (``row_choice``; ``None``: it is no arm of rows), ``model`` names the function that makes
    its model (in ``arm_models``, named because it loads torch), ``recipe`` is what it is trained with (``None``: it is not
    trained). ``needs_ticket``: it has no meaning without one; ``needs_tuned_rows``: nor without the ticket's tuned values.
    ``seeded``: chance has a part in it. ``asked`` says how the model is asked (``translation.manners``): by the run's prompt, or in
    a manner that costs no training, a ``free`` one.
    """

    function: Callable[[Asked, Material], list[int]] | None = None
    model: str = "ks_core.tuning.arm_models:rows"
    recipe: Recipe | None = None
    needs_ticket: bool = False
    needs_tuned_rows: bool = False
    seeded: bool = False
    asked: Callable[[Any, Any, Corpus, str, int], manners.Manner] = manners.as_it_is

    @property
    def free(self) -> bool:
        """Whether it is the base, asked in another manner."""
        return self.asked is not manners.as_it_is


ARMS = Registry("arm", [
    ArmKind("base", "Base", "The base model as it is.", model="ks_core.tuning.arm_models:base"),
    ArmKind("stop", "Base, stopped at a line break", "The base's answers up to their first line break, as a stop sequence ends them; no training.",
            model="ks_core.tuning.arm_models:base", asked=manners.stopped),
    ArmKind("examples", "Base, three examples", "The base with three pairs of the training text in its prompt; no training.",
            model="ks_core.tuning.arm_models:base", asked=manners.with_examples, seeded=True),
    ArmKind("chat", "Base, chat template", "The base asked under its tokenizer's own chat template; no training.",
            model="ks_core.tuning.arm_models:base", asked=manners.in_chat),
    ArmKind("tuned", "Embed Tuning (given)", "The tuned checkpoint that the ticket comes from, as it is.",
            model="ks_core.tuning.arm_models:given"),
    ArmKind("embed", "Embed Tuning", "Every row whose token occurs in the training text.", PAPER,
            function=row_choice.embed, recipe=EMBED_RECIPE),
    ArmKind("partial", "Partial Tuning", "Only the ticket's rows, trained from the base.", PAPER,
            function=row_choice.ticket, recipe=ROW_RECIPE, needs_ticket=True),
    ArmKind("transfer", "Partial Transfer", "The ticket's rows copied from the embed-tuned model; no training.", PAPER,
            function=row_choice.ticket, needs_ticket=True, needs_tuned_rows=True),
    ArmKind("rows", "Chosen rows", "Rows of your choice, such as the newline alone.", REPLICATION,
            function=row_choice.chosen, recipe=ROW_RECIPE),
    ArmKind("frequent", "Most frequent rows", "The k rows whose tokens are most frequent in the training text.", PAPER,
            function=row_choice.frequent, recipe=ROW_RECIPE),
    ArmKind("matched", "Random rows, matched", "Random rows outside the ticket, each read about as often in the training text as a row in it.",
            REPLICATION, function=row_choice.matched, recipe=ROW_RECIPE, needs_ticket=True, seeded=True),
    ArmKind("paired", "Ticket rows with a partner", "The ticket's rows for which another row occurs within 25% as often.",
            function=row_choice.paired, recipe=ROW_RECIPE, needs_ticket=True, seeded=True),
    ArmKind("partners", "Their partners", "Rows outside the ticket, each within 25% of one in it in how often it occurs.",
            function=row_choice.partners, recipe=ROW_RECIPE, needs_ticket=True, seeded=True),
    ArmKind("both", "Ticket and frequent", "The ticket's rows that are among as many most frequent ones.",
            function=row_choice.both, recipe=ROW_RECIPE, needs_ticket=True),
    ArmKind("ticket-only", "Ticket, not frequent", "The ticket's rows that are not among as many most frequent ones.",
            function=row_choice.ticket_only, recipe=ROW_RECIPE, needs_ticket=True),
    ArmKind("frequent-only", "Frequent, not ticket", "As many most frequent rows as the ticket has, without those in it.",
            function=row_choice.frequent_only, recipe=ROW_RECIPE, needs_ticket=True),
    ArmKind("beyond-prompt", "Ticket without the prompt", "The ticket's rows without the prompt's own words.",
            function=row_choice.beyond_prompt, recipe=ROW_RECIPE, needs_ticket=True),
    ArmKind("random", "Random rows", "Random rows outside the ticket that occur in the training text.", REPLICATION,
            function=row_choice.at_random, recipe=ROW_RECIPE, needs_ticket=True, seeded=True),
    ArmKind("prompt", "Prompt rows", "The rows of the prompt's own words: those that every example holds.",
            function=row_choice.prompt, recipe=ROW_RECIPE),
    ArmKind("noise", "Random delta", "The ticket's rows moved in random directions, as far as tuning moved them; no training.",
            REPLICATION, function=row_choice.ticket, needs_ticket=True, needs_tuned_rows=True, seeded=True),
    ArmKind("lora", "LoRA", "Low-rank updates of the attention's query and value matrices.", "Hu et al. (2021), arXiv 2106.09685",
            model="ks_core.tuning.arm_models:lora", recipe=LORA_RECIPE),
    ArmKind("prefix", "Prefix tuning", "Keys and values that every layer reads before the text, as if they were words; no weight changes.",
            "Li and Liang (2021), arXiv 2101.00190", model="ks_core.tuning.arm_models:prefix", recipe=PREFIX_RECIPE),
    ArmKind("full", "Full tuning", "Every weight of the model.", model="ks_core.tuning.arm_models:full", recipe=FULL_RECIPE),
])  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One arm. ``k`` rows are chosen (``None``: as many as the ticket has), by ``seed`` where chance has a part.

    ``tokens`` are the ids of the kind ``rows``; ``alpha`` another threshold than the run's, for a sweep;
    ``rank`` a LoRA's; ``virtual_tokens`` are how many a prefix stands for, and ``projection`` has it come out of a small network that is
    trained in its place. ``copied``: its rows are taken from the tuned model and not trained. ``recipe`` is how it is trained (``None``:
    the kind's default).
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
    copied: bool = False
    virtual_tokens: int = 20
    projection: bool = False

    def __post_init__(self) -> None:
        kind = ARMS.find(values.text("An arm's kind", self.kind))
        title = kind.title
        values.text(f"{title}: the label", self.label)
        if self.alpha is not None:
            check_alpha(values.number(f"{title}: alpha", self.alpha))
        if self.k is not None:
            values.whole(f"{title}: k", self.k, 1, MOST_ROWS)
        values.whole(f"{title}: the seed", self.seed, 0, values.LARGEST_SEED)
        values.whole(f"{title}: the rank", self.rank, 1, 65_536)
        values.whole(f"{title}: the virtual tokens", self.virtual_tokens, 1, MOST_VIRTUAL)
        for token in values.members(f"{title}: tokens", self.tokens):
            values.whole(f"{title}: a token id", token, 0, MOST_ROWS)
        if self.kind == "rows" and not self.tokens:
            raise TicketError("Chosen rows: the list of rows is empty. Name at least one token.")
        if self.recipe is not None and not isinstance(self.recipe, Recipe):
            raise SettingsError(f"{title}: the recipe is {str(self.recipe)[:80]!r}. Expected a table of settings.")
        for name in ("copied", "projection"):
            if not isinstance(value := getattr(self, name), bool) and value not in (0, 1):
                raise SettingsError(f"{title}: {name} is {str(value)[:80]!r}. Expected true or false.")
            object.__setattr__(self, name, bool(value))
        if self.copied and not kind.function:
            raise SettingsError(f"{title} lays no rows over the base, so none can be copied. Leave copied out.")
        trained = None if self.copied else kind.recipe
        if (self.recipe is None) != (trained is None):
            object.__setattr__(self, "recipe", trained)

    @property
    def name(self) -> str:
        """What a table calls it."""
        if self.label:
            return self.label
        name = ARMS[self.kind].title
        if self.alpha is not None:
            name += f", alpha {self.alpha:g}"
        name += ", copied" if self.copied and ARMS[self.kind].recipe else ""
        if self.kind == "prefix":
            name += f", {self.virtual_tokens} virtual tokens" if self.virtual_tokens != Arm.virtual_tokens else ""
            name += ", projected" if self.projection else ""
        return name + (f", seed {self.seed}" if ARMS[self.kind].seeded and self.seed else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON. What only a prefix has stands in it where it was chosen, so that runs from before are found again."""
        found = asdict(self) | ({"recipe": self.recipe.as_dict()} if self.recipe else {})
        return {name: value for name, value in found.items() if name not in OF_A_PREFIX or value != getattr(Arm, name)}

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
        target, of = (found, Arm) if name in SETTINGS else (own, Recipe)
        if name not in of.__dataclass_fields__ or not value:
            raise SettingsError(
                f"{setting!r} in the arm {text!r} says nothing. Expected name=value with one of: {', '.join(SETTINGS)}, "
                f"{', '.join(n for n in Recipe.__dataclass_fields__ if n != 'seed')}."
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


def choose_rows(arm: Arm, material: Material) -> list[int]:
    """The ids of the rows that an arm lays over the base, in the order of their rank.

    Raises ``TicketError`` when the ticket is empty, names rows that the vocabulary has not, or the
    training text holds too few other tokens to choose from; ``SettingsError`` for an arm that is not of rows.
    """
    kind = ARMS[arm.kind]
    if kind.function is None:
        raise SettingsError(
            f"{arm.name} is no arm of rows. Expected one of: {', '.join(k for k in ARMS if ARMS[k].function)}."
        )
    if kind.needs_ticket and not material.ticket:
        raise TicketError(
            f"{arm.name}: the ticket is empty, no row has p below alpha. Raise alpha, or choose the ticket by count."
        )
    return kind.function(arm, material)
