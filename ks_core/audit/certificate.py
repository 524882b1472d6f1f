"""The certificate: where the margin condition holds, and whether the ticket model then really agrees.

The paper's Theorem 2 certifies that the model with only the ticket's rows tuned predicts as the embed-tuned model
does. Its exact statement could not be had; what follows is this program's reading of it, a margin condition: with
p_A and p_B the probabilities of the embed-tuned model's first and second next token, the KS distance of the rows
left out has to stay below (p_A - p_B) / 2. Two readings of "the rows left out" are offered:

    vocabulary   the largest D of any row outside the ticket
    context      the largest D of the rows outside the ticket that the model has read up to this token

Beside the condition stands what was measured on held-out pairs: whether the two models' first tokens are the same.
It says nothing about translation quality: two models can agree on nonsense.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ks_core.audit.material import Material
from ks_core.audit.trials import Report, silent
from ks_core.jobs import sharding, world

READINGS = {
    "vocabulary": "the largest D of any row outside the ticket",
    "context": "the largest D of the rows outside the ticket that were read so far",
}


@dataclass(frozen=True)
class Predictions:
    """One entry per predicted token of the references, in order: the model reads the reference so far (teacher forcing).

    ``sentence`` and ``place`` say which; ``reference``, ``tuned`` and ``ticket`` are token ids (the reference's, and
    the first of either model); ``p_first`` and ``p_second`` are the embed-tuned model's two largest probabilities;
    ``context`` is the largest D among left-out rows read so far, ``left_out`` the largest of the vocabulary.
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, panel: Mapping[str, Any]) -> Predictions:
        """From the panel as it is kept: what ``as_dict`` gave, and a signature."""
        return cls(**{name: value for name, value in panel.items() if name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Outcome:
    """A reading of the condition against what was measured. Counts of predicted tokens; intervals are 95% Clopper-Pearson.

    ``violations`` are positions (into the predictions) that were certified and on which the models disagree.
    """

    reading: str
    tokens: int
    certified: int
    agreeing_certified: int
    agreeing: int
    violations: tuple[int, ...]

    @property
    def coverage(self) -> float:
        """Share of tokens for which the condition holds."""
        return self.certified / self.tokens

    def interval(self) -> tuple[float, float]:
        """Of the agreement among certified tokens; (0, 1) when there is none."""
        return clopper_pearson(self.agreeing_certified, self.certified)

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        whole = (
            f"On all {self.tokens:,} predicted tokens the two models agree in {self.agreeing / self.tokens:.1%} of cases, "
            "certified or not."
        )
        if not self.certified:
            return (
                f"The condition holds for none of them under this reading ({READINGS[self.reading]}), so nothing is "
                f"certified. {whole}"
            )
        low, high = self.interval()
        wrong = len(self.violations)
        cases = "no case was certified wrongly" if not wrong else f"{wrong:,} certified cases disagree"
        return (
            f"The condition holds for {self.coverage:.1%} of the predicted tokens. Among those the models agree in "
            f"{self.agreeing_certified / self.certified:.1%} [{low:.1%}, {high:.1%}]: {cases}. {whole}"
        )


def predict(
    model: Any,
    examples: Sequence[Mapping[str, list[int]]],
    *,
    pad: int,
    ticket: Sequence[int],
    statistic: Mapping[int, float],
    batch_size: int = 8,
    report: Report = silent,
) -> Predictions:
    """What both models predict along the references.

    ``model`` has every changed row laid over it (``ks_core.tuning.rows``); ``examples`` are ``batches.encode``'s; ``statistic``
    maps token id to D (ids that are not in it have D = 0). ``report(done, total, message)`` may raise to cancel.
    """
    from ks_core.audit.delta import acting
    from ks_core.tuning.batches import IGNORED, Collator

    inside = set(map(int, ticket))
    left_out = {token: d for token, d in statistic.items() if token not in inside}
    names = [name for name in Predictions.__dataclass_fields__ if name not in ("left_out", "sentences")]
    collate = Collator(pad)
    batches = [range(start, min(start + batch_size, len(examples))) for start in range(0, len(examples), batch_size)]
    pieces: list[tuple[int, dict[str, list[Any]]]] = []  # by the first example of each
    model.eval()
    report(0, len(examples), "comparing the two models' predictions")
    for chosen, counts, taken in world.deal(batches, sharding.is_spread(model)):
        start = chosen[0]
        found: dict[str, list[Any]] = {name: [] for name in names}
        part = [dict(examples[i]) for i in chosen]
        batch = {name: values.to(model.device) for name, values in collate(part).items()}
        labels = batch.pop("labels")[:, 1:]  # of the last columns: what each is to predict
        rows, columns = (labels != IGNORED).nonzero(as_tuple=True)
        guesses = {}
        with sharding.inference(model):
            for name, ids in (("tuned", None), ("ticket", sorted(inside))):
                with acting(model, ids):
                    logits = model(**batch, use_cache=False, logits_to_keep=labels.shape[1]).logits
                logits = logits[rows, columns].float()
                guesses[name] = logits.argmax(-1).tolist()
                if name == "tuned":
                    top = logits.softmax(-1).topk(2).values.tolist()
        for n, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            place = len(part[row]["input_ids"]) - labels.shape[1] + column  # both end together
            read = part[row]["input_ids"][:place]
            found["sentence"].append(start + row)
            found["place"].append(place)
            found["reference"].append(part[row]["input_ids"][place])
            found["tuned"].append(guesses["tuned"][n])
            found["ticket"].append(guesses["ticket"][n])
            found["p_first"].append(top[n][0])
            found["p_second"].append(top[n][1])
            found["context"].append(max((left_out.get(i, 0.0) for i in read), default=0.0))
        if counts:
            pieces.append((start, found))
        report(min(taken * batch_size, len(examples)), len(examples), "comparing the two models' predictions")
    in_order = sorted(world.gather(pieces), key=lambda piece: piece[0])
    lists = {name: [value for _, piece in in_order for value in piece[name]] for name in names}
    return Predictions(**lists, left_out=max(left_out.values(), default=0.0), sentences=len(examples))


def panel(material: Material, report: Report) -> Predictions:
    """The panel ``certificate``: both models along the references of the sentences that are asked."""
    from ks_core.tuning.batches import encode

    model, tokenizer, scan, audit = material.model, material.tokenizer, material.scan, material.audit
    pairs = replace(material.corpus, train=material.corpus.part(material.asked.part)[: audit.sentences])
    examples = encode(pairs, tokenizer, audit.prompt, getattr(model.config, "max_position_embeddings", 1 << 30))
    statistic = dict(zip(scan.token_ids[scan.changed].tolist(), scan.statistic[scan.changed].tolist(), strict=True))
    return predict(
        model, examples, pad=tokenizer.pad_token_id, ticket=material.ticket, statistic=statistic, report=report
    )  # fmt: skip


def outcome(found: Predictions, reading: str) -> Outcome:
    """The condition under one reading, against the agreement that was measured."""
    margin = (np.array(found.p_first) - np.array(found.p_second)) / 2
    distance = np.array(found.context) if reading == "context" else np.full(len(margin), found.left_out)
    certified = distance < margin
    agree = np.array(found.tuned) == np.array(found.ticket)
    return Outcome(
        reading, len(margin), int(certified.sum()), int((certified & agree).sum()), int(agree.sum()),
        tuple(np.nonzero(certified & ~agree)[0].tolist()),
    )  # fmt: skip


def table(panel: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The panel as rows, one a reading, and their caption."""
    rows = []
    for reading, words in READINGS.items():
        said = outcome(Predictions.of(panel), reading)
        low, high = said.interval()
        rows.append({
            "Rows left out": words, "Tokens": said.tokens, "Certified": said.certified,
            "Certified and agreeing": said.agreeing_certified, "Clopper-Pearson, 95%": f"{low:.1%} to {high:.1%}",
            "Agreeing, all": said.agreeing,
        })  # fmt: skip
    return rows, "The margin condition, under two readings, against what was measured"


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson 1934); (0, 1) without a trial."""
    from scipy.stats import binomtest

    if not trials:
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def by_margin(found: Predictions, bins: int = 8) -> list[tuple[float, float, int, int]]:
    """Agreement against the margin (p_A - p_B) / 2: (low, high, tokens, agreeing) for bins of equal width over [0, 0.5]."""
    margin = (np.array(found.p_first) - np.array(found.p_second)) / 2
    agree = np.array(found.tuned) == np.array(found.ticket)
    edges = np.linspace(0, 0.5, bins + 1)
    place = np.clip(np.digitize(margin, edges) - 1, 0, bins - 1)
    return [
        (float(edges[b]), float(edges[b + 1]), int((place == b).sum()), int(agree[place == b].sum()))
        for b in range(bins)
    ]
