"""Which rows carry a gain in likelihood, and where they stand: integrated gradients along the line from base to tuned.

For each changed row the gradient of the references' log-likelihood at points of that line, times the row's change, adds up to
what the row contributes (Sundararajan, Taly and Yan 2017, arXiv 1703.01365, with the base as the baseline). The contributions
of all rows add up to the true difference between tuned and base, but for the error of the sum that stands for the integral;
``complete`` says how nearly. The points are Gauss and Legendre's, of which few are needed.

The gradient is taken at the looked-up vectors, position by position, so that each contribution is parted by where in the
sequence the row was read (``spans``), and by whether it is of the end token or of the content.

It is an answer along one line, in which rows act all at once. What a row gives by itself, or takes with it when it alone is
left out, is measured exactly by ``alone`` and ``left_out``: a run of the model each, over the sentences that read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ks_core.errors import SettingsError
from ks_core.likelihood.examples import fed
from ks_core.likelihood.rows import RowEmbedding
from ks_core.likelihood.scorer import Report, Scorer, batches, collated, silent, target_nats
from ks_core.likelihood.spans import SPANS, TARGET

#: Points of the line. On the demo (50 references) 6 add up to 99.8% of the difference.
POINTS = 8


@dataclass(frozen=True)
class Attribution:
    """What each changed row contributes to the gain of tuned over base, in nats summed over the references.

    ``token_ids`` int64 (m,), ascending; ``content`` and ``end`` float64 (m, 5), by the parts of the sequence in ``SPANS``
    (``end`` is 0 where the tokenizer has no end token); ``gain`` the true difference of either, from two runs of the model.
    """

    token_ids: np.ndarray
    content: np.ndarray
    end: np.ndarray
    gain: dict[str, float]
    points: int
    sentences: int

    @property
    def total(self) -> np.ndarray:
        """Of each row, over all parts, float64 (m,)."""
        return (self.content + self.end).sum(axis=1)

    def complete(self, part: str = "all") -> float:
        """What the contributions add up to, as a share of the true difference (1 is complete); NaN where there is none."""
        parts = {"all": self.content + self.end, "content": self.content, "end": self.end}
        true = self.gain["content"] + self.gain["end"] if part == "all" else self.gain[part]
        return float(parts[part].sum()) / true if true else math.nan

    @property
    def sentence(self) -> str:
        """How nearly it adds up, for a person."""
        return (
            f"Integrated gradients with {self.points} points over {self.sentences} references add up to {self.complete():.1%} of the "
            f"true difference (end token {self.complete('end'):.1%}, content {self.complete('content'):.1%})."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "token_ids": self.token_ids.tolist(), "content": self.content.tolist(), "end": self.end.tolist(),
            "gain": self.gain, "points": self.points, "sentences": self.sentences, "spans": list(SPANS),
            "complete": {part: self.complete(part) for part in ("all", "content", "end")},
        }  # fmt: skip


@dataclass(frozen=True)
class Slopes:
    """First-order answers at the base, per changed row, float64 (m,): ``token_ids`` int64 (m,), ascending.

    ``first`` the length of the gradient of all sentences together, which is what a first step of descent would have;
    ``summed`` the lengths of each sentence's gradient, added up; ``fisher`` their squares, added up; ``movement`` the
    gradient times the row's change: the gain that a straight line from the base would promise.
    """

    token_ids: np.ndarray
    first: np.ndarray
    summed: np.ndarray
    fisher: np.ndarray
    movement: np.ndarray
    sentences: int


def attribute(scorer: Scorer, *, points: int = POINTS, report: Report = silent) -> Attribution:
    """The attribution of a scorer's references; twice or thrice as many seconds as reading them ``points`` times.

    Raises ``SettingsError`` for a number of points that cannot be. The model's rows are as before afterwards.
    """
    if not 1 <= points <= 256:
        raise SettingsError(f"The number of points is {points}. Expected 1 to 256.")
    places, weights = np.polynomial.legendre.leggauss(points)
    found = {part: np.zeros((len(scorer.rows.ids), len(SPANS))) for part in ("content", "end")}
    total = points * len(scorer.references)
    for n, (place, weight) in enumerate(zip((places + 1) / 2, weights / 2, strict=True)):
        for done, batch in _gradients(scorer, float(place)):
            report(n * len(scorer.references) + done, total, "attributing the gain to rows")
            for part, gradients in batch.by_part.items():
                given = (gradients * batch.change).sum(1).double().cpu().numpy()
                np.add.at(found[part], (batch.slots, batch.spans), -weight * given)
    base, tuned = scorer.base(), scorer.tuned()
    parted = ("content", "end") if scorer.references.ended else ("all",)
    true = [float((base.summed(part) - tuned.summed(part)).sum()) for part in parted]
    gain = {"content": true[0], "end": true[1] if len(true) > 1 else 0.0}
    return Attribution(
        scorer.rows.ids.cpu().numpy(), found["content"], found["end"], gain, points, len(scorer.references)
    )


def slopes(scorer: Scorer, report: Report = silent) -> Slopes:
    """The first-order answers of a scorer's references at the base: one pass, forth and back."""
    rows, sentences = scorer.rows, len(scorer.references)
    first = torch.zeros_like(rows.rows.detach())
    summed, fisher, movement = (np.zeros(len(rows.ids)) for _ in range(3))
    for done, batch in _gradients(scorer, 0.0, parted=False):
        report(done, sentences, "taking the gradient at the base")
        gradients = batch.by_part["all"]
        slots = torch.from_numpy(batch.slots).to(first.device)
        first.index_add_(0, slots, gradients)
        # A row's gradient of a sentence is the sum over its positions there.
        pairs, place = np.unique(batch.sentences * len(rows.ids) + batch.slots, return_inverse=True)
        each = torch.zeros((len(pairs), first.shape[1]), device=first.device)
        each.index_add_(0, torch.from_numpy(place).to(first.device), gradients)
        length = each.norm(dim=1).double().cpu().numpy()
        np.add.at(summed, pairs % len(rows.ids), length)
        np.add.at(fisher, pairs % len(rows.ids), length**2)
        np.add.at(movement, batch.slots, -(gradients * batch.change).sum(1).double().cpu().numpy())
    ids = rows.ids.cpu().numpy()
    return Slopes(ids, first.norm(dim=1).double().cpu().numpy(), summed, fisher, movement, sentences)


def left_out(scorer: Scorer, ids: Sequence[int], report: Report = silent) -> np.ndarray:
    """What of the tuned model's log-likelihood is lost when one row alone is the base's again, float64 (len(ids),): nats
    summed over the references, for each of ``ids``."""
    everything = scorer.changed
    return _differences(
        scorer, everything, [everything - {int(i)} for i in ids], report, "leaving rows out one by one", -1
    )


def alone(scorer: Scorer, ids: Sequence[int], report: Report = silent) -> np.ndarray:
    """What the base gains when one row alone is the tuned model's, float64 (len(ids),), in the same unit."""
    return _differences(scorer, (), [(int(i),) for i in ids], report, "putting rows in one by one", 1)


def _differences(
    scorer: Scorer, start: Any, sets: Sequence[Any], report: Report, message: str, sign: int
) -> np.ndarray:
    first, *others = (found.summed().sum() for found in scorer.score([start, *sets], report, message))
    return sign * (first - np.array(others, float))


@dataclass(frozen=True)
class _Gradients:
    """Gradients of a batch's nats at p positions that hold a changed row: ``by_part`` (p, d) each; ``change`` (p, d) of their
    rows; ``slots``, ``spans`` and ``sentences`` int64 (p,): which row, where, and whose in the batch."""

    by_part: dict[str, torch.Tensor]
    change: torch.Tensor
    slots: np.ndarray
    spans: np.ndarray
    sentences: np.ndarray


def _gradients(scorer: Scorer, place: float, *, parted: bool = True) -> Iterator[tuple[int, _Gradients]]:
    """The gradients with every changed row at a place on its line (0: the base's, 1: the tuned model's), batch by batch, each
    with how many references are done. ``parted`` into content and end, which takes a way back for each; or of ``all``."""
    model, references, rows = scorer.model, scorer.references, scorer.rows
    model.eval()
    with _on_line(rows, place) as change:
        done = 0
        for chosen in batches(references, range(len(references))):
            looked_up: list[tuple[torch.Tensor, torch.Tensor]] = []
            rows.watch = lambda ids, vectors, found=looked_up: found.append((ids, vectors))
            try:
                with torch.enable_grad():
                    content, end = target_nats(model, collated(model, references, chosen), references.ended)
                    vectors = [v for _, v in looked_up]
                    asked = {"content": content, "end": end} if parted else {"all": content + end}
                    asked = {part: nats.sum() for part, nats in asked.items() if nats.requires_grad}
                    grads = {
                        part: torch.autograd.grad(value, vectors, retain_graph=n + 1 < len(asked))
                        for n, (part, value) in enumerate(asked.items())
                    } if vectors else {}  # fmt: skip
            finally:
                rows.watch = None
            done += len(chosen)
            if grads:
                yield done, _held(scorer, chosen, [ids for ids, _ in looked_up], grads, change)


def _held(
    scorer: Scorer,
    chosen: Sequence[int],
    looked_up: Sequence[torch.Tensor],
    grads: dict[str, Any],
    change: torch.Tensor,
) -> _Gradients:
    """Gradients (B, T, d) of every look-up, at the positions that hold a changed row; padding has none, as nobody reads it."""
    masks, slots, spans, sentences = [], [], [], []
    for place, ids in enumerate(looked_up):
        own = scorer.rows.slots[ids]
        mask = own >= 0
        masks.append(mask)
        slots.append(own[mask])
        # An encoder-decoder looks up twice: its prompt, then what its decoder reads.
        codes = _codes(scorer, chosen, ids.shape[1]) if place == 0 else np.full(tuple(ids.shape), TARGET)
        spans.append(codes[mask.cpu().numpy()])
        sentences.append(mask.nonzero()[:, 0])
    all_slots = torch.cat(slots)
    return _Gradients(
        {part: torch.cat([g[m].float() for g, m in zip(found, masks, strict=True)]) for part, found in grads.items()},
        change[all_slots], all_slots.cpu().numpy(), np.concatenate(spans), torch.cat(sentences).cpu().numpy(),
    )  # fmt: skip


def _codes(scorer: Scorer, chosen: Sequence[int], width: int) -> np.ndarray:
    """The span of each position of a batch, int64 (B, width)."""
    references, codes = scorer.references, np.zeros((len(chosen), width), np.int64)
    for n, i in enumerate(chosen):
        example = references.examples[i]
        halves = "read" in example  # an encoder's prompts are padded on the right, a decoder's texts on the left
        own = references.spans[i][: width if halves else len(fed(example))]
        start = 0 if halves else width - len(own)
        codes[n, start : start + len(own)] = own
    return codes


@contextmanager
def _on_line(rows: RowEmbedding, place: float) -> Iterator[torch.Tensor]:
    """Inside, the rows stand at a place on the line from base to tuned; what they changed by in all, (m, d)."""
    tuned = rows.rows.detach().clone()
    before = rows.base.weight[rows.ids].detach().float()
    change = tuned - before
    needed = rows.rows.requires_grad
    try:
        with torch.no_grad():
            rows.rows.copy_(before + place * change)
        rows.rows.requires_grad_(True)
        yield change
    finally:
        with torch.no_grad():
            rows.rows.copy_(tuned)
        rows.rows.requires_grad_(needed)
        rows.rows.grad = None


def of_rows(found: Attribution, ids: Sequence[int]) -> Attribution:
    """The same of some rows alone, in this order: what a figure shows of it."""
    place = {int(i): n for n, i in enumerate(found.token_ids)}
    chosen = [place[int(i)] for i in ids]
    return replace(found, token_ids=found.token_ids[chosen], content=found.content[chosen], end=found.end[chosen])
