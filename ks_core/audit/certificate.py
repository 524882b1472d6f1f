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
a match (``baselines``).

The agreement is measured on held-out sentences twice: given the reference so far, and along what the embed-tuned model
itself writes greedily. It says nothing about translation quality: two models can agree on nonsense.

The tokens of a sentence are not independent, so the unit of every interval is the sentence: 95%, percentiles of a bootstrap
over sentences (as in ``ks_core.translation.bootstrap``, with its draws and seed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.audit.inquiry import structural_row
from ks_core.audit.material import Material
from ks_core.audit.trials import Report, silent
from ks_core.errors import TicketError
from ks_core.jobs import sharding, world
from ks_core.ks.statistic import critical_value
from ks_core.study.scan import readable
from ks_core.translation.bootstrap import RESAMPLES, SEED, interval
from ks_core.tuning import row_choice
from ks_core.tuning.arms import Arm

if TYPE_CHECKING:
    from ks_core.translation.evaluation import HeldOut

READINGS = {
    "vocabulary": "the largest D of any row outside the ticket",
    "context": "the largest D of the rows outside the ticket that were read so far",
}
#: What the models have read before the token that they predict.
PREFIXES = {"reference": "the reference so far", "own": "the embed-tuned model's own greedy answer so far"}
#: Fewer sentences than this give no interval: a difference that has one sign in five sentences is no rarer than 1 in 16.
FEWEST = 6


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
class Rate:
    """A share of tokens with its 95% interval, whose unit is the sentence; (0, 1) where there is none to be had."""

    hits: int
    tokens: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """0 without a token."""
        return self.hits / self.tokens if self.tokens else 0.0

    @property
    def bounds(self) -> str:
        """Its interval, for a person."""
        return f"95% interval, by sentences: {self.low:.1%} to {self.high:.1%}."

    def __str__(self) -> str:
        return f"{self.share:.1%} [{self.low:.1%}, {self.high:.1%}]" if self.tokens else "no token"


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


def predict(
    model: Any,
    examples: Sequence[Mapping[str, list[int]]],
    *,
    pad: int,
    ticket: Sequence[int],
    statistic: Mapping[int, float],
    own: Sequence[Mapping[str, list[int]]] = (),
    others: Mapping[str, Sequence[int]] | None = None,
    batch_size: int = 8,
    report: Report = silent,
) -> Predictions:
    """What both models, and the base with each of ``others``' rows copied, predict along the references.

    ``model`` has every changed row laid over it (``ks_core.tuning.rows``); ``examples`` are ``batches.encode``'s; ``statistic``
    maps token id to D (ids that are not in it have D = 0). ``own`` are ``own_answers``' examples of the same sentences,
    which are gone through in the same way; ``others`` maps names to ids of changed rows. A batch is run once for each model.
    ``report(done, total, message)`` may raise to cancel.
    """
    from ks_core.audit.delta import acting
    from ks_core.tuning.batches import IGNORED, Collator

    inside = set(map(int, ticket))
    left_out = {token: d for token, d in statistic.items() if token not in inside}
    sets: dict[str, list[int] | None] = {"tuned": None, "ticket": sorted(inside)}
    compared = {name: sorted(map(int, ids)) for name, ids in (others or {}).items()}
    collate, texts, message = Collator(pad), (examples, own), "comparing the models' predictions"
    batches = [
        (which, range(start, min(start + batch_size, len(texts[which]))))
        for which in (0, 1)
        for start in range(0, len(texts[which]), batch_size)
    ]
    pieces: list[tuple[tuple[int, int], dict[str, list[Any]]]] = []  # by the prefix and the first example of each
    total = len(examples) + len(own)
    model.eval()
    report(0, total, message)
    for (which, chosen), counts, taken in world.deal(batches, sharding.is_spread(model)):
        part = [dict(texts[which][i]) for i in chosen]
        batch = {name: values.to(model.device) for name, values in collate(part).items()}
        labels = batch.pop("labels")[:, 1:]  # of the last columns: what each is to predict
        rows, columns = (labels != IGNORED).nonzero(as_tuple=True)
        guesses: dict[str, list[int]] = {}
        with sharding.inference(model):
            for name, ids in (sets | compared).items():
                with acting(model, ids):
                    logits = model(**batch, use_cache=False, logits_to_keep=labels.shape[1]).logits
                logits = logits[rows, columns].float()
                guesses[name] = logits.argmax(-1).tolist()
                if name == "tuned":
                    top = logits.softmax(-1).topk(2).values.tolist()
        found: dict[str, list[Any]] = {name: [] for name in ("sentence", "place", "reference", "context", "own")}
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            ids = part[row]["input_ids"]
            place = len(ids) - labels.shape[1] + column  # both end together
            found["sentence"].append(chosen[row])
            found["place"].append(place)
            found["reference"].append(ids[place])
            found["context"].append(max((left_out.get(i, 0.0) for i in ids[:place]), default=0.0))
            found["own"].append(which)
        found |= {"p_first": [p for p, _ in top], "p_second": [p for _, p in top]} | guesses
        if counts:
            pieces.append(((which, chosen[0]), found))
        report(sum(len(batch) for _, batch in batches[:taken]), total, message)
    in_order = [piece for _, piece in sorted(world.gather(pieces), key=lambda piece: piece[0])]
    lists: dict[str, Any] = {
        name: [value for piece in in_order for value in piece[name]]
        for name in (
            "sentence",
            "place",
            "reference",
            "tuned",
            "ticket",
            "p_first",
            "p_second",
            "context",
            "own",
            *compared,
        )
    }
    return Predictions(
        others={name: lists.pop(name) for name in compared}, **lists,
        rows={"ticket": sorted(inside), **compared} if compared else {},
        left_out=max(left_out.values(), default=0.0), sentences=len(examples),
    )  # fmt: skip


def own_answers(model: Any, tokenizer: Any, asked: HeldOut, report: Report = silent) -> list[dict[str, list[int]]]:
    """What the model writes greedily for each prompt, as ``batches.encode`` gives references: ids, and labels on the answer.

    The ids are the model's own, with the end token where it ended; an answer tokenized anew could be another sequence.
    The model is taken as it is: with every changed row acting, it is the embed-tuned one.
    """
    import torch

    from ks_core.translation.generation import batches_of
    from ks_core.tuning.batches import IGNORED

    named = getattr(model.generation_config, "eos_token_id", None)
    ends = {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    batches = batches_of(asked.prompts, asked.batch_size)
    message, found = "writing the embed-tuned model's own answers", {}
    model.eval()
    for batch, counts, taken in world.deal(batches, sharding.is_spread(model)):
        report(sum(map(len, batches[: max(taken - world.size(), 0)])), len(asked), message)
        prompts = [list(tokenizer(asked.prompts[i])["input_ids"]) for i in batch]
        width = max(map(len, prompts))
        with sharding.inference(model):
            written = model.generate(
                input_ids=torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device),
                attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device),
                max_new_tokens=asked.max_new_tokens, num_beams=1, do_sample=False, temperature=None, top_p=None, top_k=None,
                pad_token_id=pad, eos_token_id=sorted(ends),
            )[:, width:].tolist()  # fmt: skip
        for i, prompt, tokens in zip(batch, prompts, written, strict=True):
            end = next((n + 1 for n, token in enumerate(tokens) if token in ends), None)
            answer = tokens[:end]
            if counts:
                found[i] = {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
    found = dict(world.gather(list(found.items())))
    return [found[i] for i in range(len(asked))]


def baselines(
    counts: Mapping[int, int], changed: set[int], ticket: Sequence[int], size: int, structural: Sequence[int] = (), token: str = ""
) -> tuple[dict[str, list[int]], dict[str, str], dict[str, str]]:  # fmt: skip
    """Which other rows are copied for comparison: ids by name, the names in words, and notes (why one is missing, or how well
    it is matched).

    ``counts`` token id -> how often the model reads it in the training text (``batches.count_tokens``); rows that did not
    change are no candidates, as copying them copies nothing. ``structural`` is one row, ``token`` its text. Matched rows are
    there only where they match (``ks_core.tuning.matching``); otherwise the ticket's rows that have a partner, and the partners.
    """
    among = {i: n for i, n in counts.items() if i in changed}
    limit = "" if len(among) == len(counts) else ", of those that changed"
    material = row_choice.Material(among, ticket=list(ticket), size=size)
    rows: dict[str, list[int]] = {}
    titles: dict[str, str] = {}
    notes: dict[str, str] = {}

    def add(kind: str, words: str) -> bool:
        arm = Arm(kind)
        choose = {"frequent": row_choice.frequent, "random": row_choice.at_random, "matched": row_choice.matched,
                  "paired": row_choice.paired, "partners": row_choice.partners}[kind]  # fmt: skip
        try:
            rows[kind] = sorted(choose(arm, material))
        except TicketError as error:
            notes[kind] = str(error)
            return False
        titles[kind] = words.format(n=f"{len(rows[kind]):,}")
        if reached := row_choice.balance_of(kind, arm, material):
            notes[kind] = reached.sentence
        return True

    add("frequent", "the {n} most frequent rows" + limit)
    if structural and structural[0] in changed:
        rows["structural"], titles["structural"] = [int(structural[0])], f"the row {token}"
    elif structural:
        notes["structural"] = f"The row {token} did not change, so there is nothing to copy."
    if not add("matched", "{n} rows outside the ticket that occur as often") and add(
        "partners", "the partners of those"
    ):
        # The order of a sentence: the ticket's rows first, then their partners.
        partners, words = rows.pop("partners"), titles.pop("partners")
        add("paired", "those {n} rows of the ticket that have a partner within 25%")
        rows["partners"], titles["partners"] = partners, words
    add("random", "{n} random rows outside the ticket" + limit)
    rows["base"], titles["base"] = [], "no row (the base)"
    return rows, titles, notes


def panel(material: Material, report: Report) -> Predictions:
    """The panel ``certificate``: the models along references and own answers of the sentences that are asked.

    One generation, and for either prefix one run over the sentences for the embed-tuned model, the ticket and each baseline.
    """
    from ks_core.tuning.batches import count_tokens, encode

    model, tokenizer, scan, audit = material.model, material.tokenizer, material.scan, material.audit
    pairs = replace(material.corpus, train=material.corpus.part(material.asked.part)[: audit.sentences])
    examples = encode(pairs, tokenizer, audit.prompt, getattr(model.config, "max_position_embeddings", 1 << 30))
    statistic = dict(zip(scan.token_ids[scan.changed].tolist(), scan.statistic[scan.changed].tolist(), strict=True))
    structural = structural_row(audit)
    rows, titles, notes = baselines(
        count_tokens(encode(material.corpus, tokenizer, audit.prompt, 1 << 62)), set(statistic), material.ticket,
        model.get_input_embeddings().weight.shape[0], structural,
        readable(audit.study.token_strings(), structural[0]) if structural else "",
    )  # fmt: skip
    found = predict(
        model, examples, pad=tokenizer.pad_token_id, ticket=material.ticket, statistic=statistic,
        own=own_answers(model, tokenizer, material.asked, report), others=rows, report=report,
    )  # fmt: skip
    tests = {"alpha": 1, "bonferroni": len(scan.pvalue), "bonferroni-changed": max(int(scan.changed.sum()), 1)}
    below = None
    if audit.rule in tests:
        below = critical_value(scan.dim, audit.alpha / tests[audit.rule]) - 1 / scan.dim
    return replace(found, titles=titles, notes=notes, below=below)


def outcome(found: Predictions, reading: str) -> Outcome:
    """The condition under one reading, against the agreement that was measured: given the reference, and along own answers."""
    said = {prefix: _outcome(found, reading, prefix) for prefix in found.prefixes}
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


def rate(hit: np.ndarray, among: np.ndarray, sentence: np.ndarray, sentences: int) -> Rate:
    """The share of ``hit`` among some tokens, with an interval by sentences; all three arrays (tokens,), the first two bool.

    Percentiles of a bootstrap over sentences. Where all tokens are hits, or none, no draw could be otherwise: there it is
    Clopper-Pearson's interval with the sentences as trials. (0, 1) for tokens of fewer than ``FEWEST`` sentences otherwise.
    """
    hits, tokens = int((hit & among).sum()), int(among.sum())
    clusters = len(np.unique(sentence[among]))
    if hits in (0, tokens):
        low, high = clopper_pearson(clusters if hits else 0, clusters)
    elif clusters < FEWEST:
        low, high = 0.0, 1.0
    else:
        low, high = interval(_draws(hit & among, among, sentence, sentences))
    return Rate(hits, tokens, low, high)


def difference(
    first: np.ndarray, second: np.ndarray, among: np.ndarray, sentence: np.ndarray, sentences: int
) -> tuple[float, float, float]:
    """By how much two shares differ among the same tokens, first less second, with its interval on the same draws of
    sentences: (value, low, high). (value, -1, 1) for tokens of fewer than ``FEWEST`` sentences."""
    count = max(int(among.sum()), 1)
    value = (int((first & among).sum()) - int((second & among).sum())) / count
    if len(np.unique(sentence[among])) < FEWEST:
        return value, -1.0, 1.0
    draws = [_draws(hit & among, among, sentence, sentences) for hit in (first, second)]
    return value, *interval(draws[0] - draws[1])


def _draws(hit: np.ndarray, among: np.ndarray, sentence: np.ndarray, sentences: int) -> np.ndarray:
    """The share on each draw of sentences, float64 (draws,); draws without a token among those counted are left out."""
    hits, tokens = (np.bincount(sentence, weights=what, minlength=sentences) for what in (hit, among))
    drawn = _weights(sentences) @ np.stack([hits, tokens], axis=1)
    return drawn[drawn[:, 1] > 0, 0] / drawn[drawn[:, 1] > 0, 1]


@lru_cache(maxsize=2)
def _weights(sentences: int) -> np.ndarray:
    """How often each draw takes each sentence, float64 (RESAMPLES, sentences)."""
    return (
        np.random.default_rng(SEED).multinomial(sentences, np.full(sentences, 1 / sentences), RESAMPLES).astype(float)
    )


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


def by_sentences(count: int) -> str:
    """What the intervals are (``rate``), in words."""
    return (
        f"Intervals are 95%, by a bootstrap over the {count:,} sentences; where all tokens agree, or none, Clopper-Pearson's "
        f"with sentences as trials. Fewer than {FEWEST} sentences otherwise give none: 0% to 100%."
    )


def notes(found: Predictions) -> list[str]:
    """Why something was not compared, and how well what is called matched is matched."""
    named = {name: title[:1].upper() + title[1:] for name, title in found.titles.items()}
    return [f"{named[name]}: {said}." if name in named else said for name, said in found.notes.items()]


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson 1934); (0, 1) without a trial."""
    from scipy.stats import binomtest

    if not trials:
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(method="exact")
    return float(found.low), float(found.high)


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
