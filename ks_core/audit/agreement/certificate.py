"""The certificate: where the margin condition holds, and whether the ticket model then really agrees.

The paper's Theorem 2 certifies that the model with only the ticket's rows tuned predicts as the embed-tuned model
does. Its exact statement could not be had; what follows is this program's reading of it, a margin condition: with
p_A and p_B the probabilities of the embed-tuned model's first and second next token, the KS distance of the rows
left out has to stay below (p_A - p_B) / 2. Two readings of "the rows left out" are offered:

    vocabulary   the largest D of any row outside the ticket
    context      the largest D of the rows outside the ticket that the model has read up to this token

Under a rule that cuts at a p-value, the largest D left out is by construction the lattice point below the critical value,
whichever rows the ticket has. So where the condition holds says how sure the embed-tuned model is; what says something
of the ticket is whether the models agree there, beside other rows copied at the same tokens: as many most frequent ones,
as many random ones, one structural one, none, and matched ones where there is
a match (``predictions.baselines``).

The agreement is measured on held-out sentences twice: given the reference so far, and along what the embed-tuned model
itself writes greedily. It says nothing about translation quality: two models can agree on nonsense.

The tokens of a sentence are not independent, so the unit of every interval is the sentence: 95%, percentiles of a bootstrap
over sentences (as in ``ks_core.translation.bootstrap``, with its draws and seed).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ks_core.audit.agreement.rates import Rate, by_sentences, difference, rate
from ks_core.store import shelf

READINGS = {
    "vocabulary": "the largest D of any row outside the ticket",
    "context": "the largest D of the rows outside the ticket that were read so far",
}
#: What the models have read before the token that they predict.
PREFIXES = {"reference": "the reference so far", "own": "the embed-tuned model's own greedy answer so far"}


@dataclass(frozen=True)
class Predictions:
    """One entry per predicted token, in order: along the references first, then along the embed-tuned model's own answers.

    ``sentence`` and ``place`` say which; ``reference``, ``tuned`` and ``ticket`` are token ids (the one that stands there, and
    the first of either model); ``p_first`` and ``p_second`` are the embed-tuned model's two largest probabilities;
    ``context`` is the largest D among left-out rows read so far, ``left_out`` the largest of the vocabulary.

    What follows is missing in panels from before it was measured. ``own``: 1 where the models read the embed-tuned model's
    own answer, 0 where the reference (empty: the reference everywhere). ``others``: by name, the first token of the base
    with other rows copied; ``rows`` token ids of those, and of the ticket; ``titles`` their names in words; ``notes`` why
    one was not compared, or how well it is matched. ``below``: the largest D that the rule can leave out, whichever rows
    pass (``None``: it depends on them).
    """

    sentence: list[int]
    place: list[int]
    reference: list[int]
    tuned: list[int]
    ticket: list[int]
    p_first: list[float]
    p_second: list[float]
    context: list[float]
    left_out: float
    sentences: int
    own: list[int] = field(default_factory=list)
    others: dict[str, list[int]] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    below: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, panel: Mapping[str, Any]) -> Predictions:
        """From the panel as it is kept: what ``as_dict`` gave, and a signature."""
        return cls(**{name: value for name, value in panel.items() if name in cls.__dataclass_fields__})

    @property
    def prefixes(self) -> dict[str, str]:
        """Those of ``PREFIXES`` that were measured."""
        return {name: words for name, words in PREFIXES.items() if name == "reference" or any(self.own)}

    def positions(self, prefix: str) -> np.ndarray:
        """Which entries were read after a prefix, int64 (n,)."""
        own = np.array(self.own, bool) if self.own else np.zeros(len(self.sentence), bool)
        return np.nonzero(own == (prefix == "own"))[0]


@dataclass(frozen=True)
class Agreement:
    """How often the base with some rows copied says what the embed-tuned model says, among certified tokens and among all.

    ``rows`` how many (``None``: not known), ``inside`` of them the ticket's; ``behind`` the ticket's share of agreement among the
    certified less this one's (of all tokens where none is certified), with its paired interval: (value, low, high).
    """

    name: str
    title: str
    rows: int | None
    inside: int | None
    certified: Rate
    all: Rate
    behind: tuple[float, float, float]

    @property
    def label(self) -> str:
        """Its rows in words, with how many are the ticket's."""
        shared = (
            f" ({self.inside:,} of them the ticket's)" if self.inside and self.name not in ("ticket", "paired") else ""
        )
        return self.title + shared


@dataclass(frozen=True)
class Outcome:
    """A reading of the condition against what was measured, along one prefix.

    ``covered``: the tokens for which the condition holds; ``models``: what agrees with the embed-tuned model, the ticket first.
    ``violations`` are positions (into the predictions) that were certified and on which ticket and embed-tuned model disagree.
    ``below`` as in ``Predictions``; ``own``: the same along the embed-tuned model's own answers, where that was measured.
    """

    reading: str
    prefix: str
    sentences: int
    covered: Rate
    models: tuple[Agreement, ...]
    violations: tuple[int, ...]
    left_out: float
    below: float | None = None
    own: Outcome | None = None

    @property
    def tokens(self) -> int:
        """Predicted tokens."""
        return self.covered.tokens

    @property
    def certified(self) -> int:
        """Those for which the condition holds."""
        return self.covered.hits

    @property
    def agreeing_certified(self) -> int:
        """Certified tokens on which ticket and embed-tuned model agree."""
        return self.models[0].certified.hits

    @property
    def agreeing(self) -> int:
        """Tokens on which they agree."""
        return self.models[0].all.hits

    @property
    def coverage(self) -> float:
        """Share of tokens for which the condition holds."""
        return self.covered.share

    def interval(self) -> tuple[float, float]:
        """Of the agreement among certified tokens, by sentences; (0, 1) when there is none."""
        return self.models[0].certified.low, self.models[0].certified.high

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return " ".join(filter(None, (self._measured(), self.by_construction, self._compared(), self._along_own())))

    @property
    def by_construction(self) -> str:
        """What the rule decides of the coverage before anything is measured; empty where it does not, or is not known."""
        if self.below is None:
            return ""
        return (
            f"By the rule no row left out can have a D above {self.below:.4f}, the lattice point just below the critical value, "
            f"whichever rows the ticket has (the largest here: {self.left_out:.4f}). So the share for which the condition holds "
            "says how sure the embed-tuned model is of its next token, not how good the ticket is."
        )

    def _measured(self) -> str:
        ticket = self.models[0]
        said = f"Given {PREFIXES[self.prefix]}, "
        if self.certified:
            wrong = len(self.violations)
            cases = {0: "no certified case disagrees", 1: "1 certified case disagrees"}.get(
                wrong, f"{wrong:,} certified cases disagree"
            )
            said += (
                f"the condition holds for {self.covered} of the {self.tokens:,} predicted tokens. Among those the ticket model "
                f"and the embed-tuned model agree in {ticket.certified}: {cases}. "
            )
        else:
            said += (
                f"the condition holds for none of the {self.tokens:,} predicted tokens under this reading "
                f"({READINGS[self.reading]}), so nothing is certified. "
            )
        said += f"On all of them, certified or not, the two models agree in {ticket.all} of cases."
        return said if self.prefix == "own" else f"{said} {by_sentences(self.sentences)}"

    def _compared(self) -> str:
        if len(self.models) < 2:
            return ""
        said = "; ".join(f"{m.label} {m.certified if self.certified else m.all}" for m in self.models[1:])
        told = (
            f"With other rows copied, agreement on {'the same certified' if self.certified else 'all'} tokens: {said}."
        )
        for words, chosen in (
            ("higher than with", [m for m in self.models[1:] if m.behind[1] > 0]),
            ("lower than with", [m for m in self.models[1:] if m.behind[2] < 0]),
            ("not told apart from that with", [m for m in self.models[1:] if m.behind[1] <= 0 <= m.behind[2]]),
        ):
            if chosen:
                told += f" The ticket's share is {words} {', '.join(m.title for m in chosen)}."
        return told + " (Paired over sentences, 95%, each comparison by itself.)"

    def _along_own(self) -> str:
        return self.own._measured() if self.own else ""


def outcome(found: Predictions, reading: str) -> Outcome:
    """The condition under one reading, against the agreement that was measured: given the reference, and along own answers."""
    said = {prefix: shelf.kept(_outcome, found, reading, prefix) for prefix in found.prefixes}
    return replace(said["reference"], own=said.get("own"))


def _outcome(found: Predictions, reading: str, prefix: str) -> Outcome:
    here = found.positions(prefix)
    margin = _margin(found)[here]
    distance = np.array(found.context)[here] if reading == "context" else np.full(len(margin), found.left_out)
    certified, everything = distance < margin, np.ones(len(margin), bool)
    sentence, tuned = np.array(found.sentence)[here], np.array(found.tuned)[here]
    agree = {
        name: np.array(guesses)[here] == tuned for name, guesses in {"ticket": found.ticket, **found.others}.items()
    }
    compared = certified if certified.any() else everything
    own = set(found.rows.get("ticket", ()))
    models = tuple(
        Agreement(
            name, "the ticket's rows" if name == "ticket" else found.titles.get(name, name),
            len(found.rows[name]) if name in found.rows else None,
            len(own & set(found.rows[name])) if name in found.rows else None,
            rate(hit, certified, sentence, found.sentences), rate(hit, everything, sentence, found.sentences),
            difference(agree["ticket"], hit, compared, sentence, found.sentences),
        )
        for name, hit in agree.items()
    )  # fmt: skip
    return Outcome(
        reading, prefix, found.sentences, rate(certified, everything, sentence, found.sentences), models,
        tuple(here[certified & ~agree["ticket"]].tolist()), found.left_out, found.below,
    )  # fmt: skip


def _margin(found: Predictions) -> np.ndarray:
    return (np.array(found.p_first) - np.array(found.p_second)) / 2


def table(panel: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The panel as rows, one a model and prefix, and their caption."""
    found = Predictions.of(panel)
    said = {reading: outcome(found, reading) for reading in READINGS}
    rows = []
    for prefix in found.prefixes:
        both = [o if prefix == "reference" else o.own for o in said.values()]
        for n, model in enumerate(both[0].models if both[0] else ()):
            rows.append({
                "Given": PREFIXES[prefix], "Rows copied": model.title, "Rows": model.rows, "Of them the ticket's": model.inside,
                **{f"Agreeing, certified ({o.reading})": str(o.models[n].certified) for o in both if o},
                "Agreeing, all": str(model.all),
            })  # fmt: skip
    if not found.rows:  # of a panel that is older: what is not there has no column
        rows = [{k: v for k, v in row.items() if k not in ("Rows", "Of them the ticket's")} for row in rows]
    held = "; ".join(
        f"given {PREFIXES[o.prefix]}, {o.reading}: {o.covered} of {o.tokens:,} tokens"
        for each in said.values() for o in (each, each.own) if o
    )  # fmt: skip
    caption = f"Agreement with the embed-tuned model where the margin condition holds ({held}), and anywhere. {by_sentences(found.sentences)}"
    return rows, " ".join([caption, *notes(found)])


def notes(found: Predictions) -> list[str]:
    """Why something was not compared, and how well what is called matched is matched."""
    named = {name: title[:1].upper() + title[1:] for name, title in found.titles.items()}
    return [f"{named[name]}: {said}." if name in named else said for name, said in found.notes.items()]


def by_margin(found: Predictions, bins: int = 8) -> list[tuple[float, float, int, int]]:
    """Agreement given the reference against the margin (p_A - p_B) / 2: (low, high, tokens, agreeing) for bins of equal
    width over [0, 0.5]."""
    return [(low, high, one.tokens, one.hits) for low, high, one in rates_by_margin(found, bins)]


def rates_by_margin(found: Predictions, bins: int = 8) -> list[tuple[float, float, Rate]]:
    """The same with intervals by sentences: (low, high, rate) for each bin."""
    here = found.positions("reference")
    agree = (np.array(found.tuned) == np.array(found.ticket))[here]
    edges = np.linspace(0, 0.5, bins + 1)
    place = np.clip(np.digitize(_margin(found)[here], edges) - 1, 0, bins - 1)
    sentence = np.array(found.sentence)[here]
    return [
        (float(edges[b]), float(edges[b + 1]), rate(agree, place == b, sentence, found.sentences)) for b in range(bins)
    ]
