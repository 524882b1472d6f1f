"""A model's likelihood of references, with any of its changed rows acting: what every question of the ledger is answered by.

Which rows act matters to a sentence only where they are read. So a sentence is run once for each set of acting rows that it
reads, whoever asks for it: one row more or less costs those sentences alone that hold its token, and rows at random hardly
anything. Sentences under different rows stand in one batch, each with its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ks_core.errors import TicketError
from ks_core.jobs import sharding
from ks_core.likelihood.batches import Collator, PairCollator, target_logits
from ks_core.likelihood.examples import IGNORED, fed
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.references import References
from ks_core.likelihood.rows import each_acting, rows_of
from ks_core.translation.encoder_decoder import is_encoder_decoder

#: ``report(done, total, message)``, in sentences; what it raises (``Cancelled``) ends the work.
Report = Callable[[int, int, str], None]
#: Sentences in a batch. With ever the same number the last bits of a result do not depend on who asked before.
BATCH = 16


def silent(done: int, total: int, message: str) -> None:
    """A report that nobody reads."""


def collated(model: Any, references: References, places: Sequence[int]) -> dict[str, torch.Tensor]:
    """Some references as a batch on the model's device."""
    collate = PairCollator(references.pad) if is_encoder_decoder(model) else Collator(references.pad)
    batch = collate([references.examples[i] for i in places])
    return {name: values.to(model.device) for name, values in batch.items()}


def target_nats(
    model: Any, batch: dict[str, torch.Tensor], ended: bool, ends: Sequence[int] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nats of each sentence of a batch, (content, end), float32 (B,) each; those of an end that is not there are 0.

    The last token that a sentence has to predict is its end token, where it is ``ended``; with ``ends`` any of these ids is
    taken for it, so that its probability is theirs together.
    """
    labels = batch["labels"][:, 1:]
    asked = labels != IGNORED
    rows, columns = asked.nonzero(as_tuple=True)
    logits = target_logits(model, batch)[rows, columns].float()
    nats = F.cross_entropy(logits, labels[rows, columns], reduction="none")
    last = columns == (asked * torch.arange(1, labels.shape[1] + 1, device=labels.device)).argmax(1)[rows]
    at_end = last if ended else torch.zeros_like(last)
    if ends:
        any_end = logits[at_end][:, list(ends)].logsumexp(-1)
        nats[at_end] = logits[at_end].logsumexp(-1) - any_end
    zeros = nats.new_zeros(len(labels))
    return zeros.index_add(0, rows, nats * ~at_end), zeros.index_add(0, rows, nats * at_end)


def likelihood_of(model: Any, references: References, report: Report = silent) -> Likelihood:
    """A model's likelihood of references, as it is: any checkpoint, or an arm with whatever is laid over it."""
    found = np.zeros((len(references), 2))
    model.eval()
    for places in batches(references, range(len(references))):
        report(int((found[:, 0] > 0).sum()), len(references), "reading the references")
        with sharding.inference(model):
            nats = target_nats(model, collated(model, references, places), references.ended, references.ends)
            found[places] = torch.stack(nats, 1).cpu().numpy()
    report(len(references), len(references), "reading the references")
    return made(references, found)


def made(references: References, nats: np.ndarray) -> Likelihood:
    """The likelihood behind nats, float64 (n, 2): content and end of each reference."""
    return Likelihood(nats[:, 0], nats[:, 1] if references.ended else None, references.tokens, references.characters)


class Scorer:
    """References under a model with every changed row of a pair laid over it, with any of these rows acting.

    Raises ``ModelError`` for a model that has no rows laid over it.
    """

    def __init__(self, model: Any, references: References) -> None:
        self.model, self.references, self.rows = model, references, rows_of(model)
        changed = frozenset(self.rows.ids.tolist())
        #: The changed rows that each sentence reads.
        self.read = [changed.intersection(fed(example)) for example in references.examples]
        self.changed = changed
        #: Content and end of a sentence, by its place and the acting rows that it reads.
        self._known: dict[tuple[int, frozenset[int]], tuple[float, float]] = {}

    def base(self) -> Likelihood:
        """No row acting: the base."""
        return self.score([()])[0]

    def tuned(self) -> Likelihood:
        """Every changed row acting: the tuned model, as far as its rows make it."""
        return self.score([self.changed])[0]

    def score(
        self, sets: Sequence[Collection[int]], report: Report = silent, message: str = "reading the references"
    ) -> list[Likelihood]:
        """The likelihood with each of some sets of rows acting, in their order; the others are the base's.

        Raises ``TicketError`` for a row that did not change.
        """
        wanted: list[list[tuple[int, frozenset[int]]]] = []
        for chosen in sets:
            acting = frozenset(int(i) for i in chosen)
            if missing := acting - self.changed:
                raise TicketError(
                    f"Token {min(missing)} was not changed by this tuning, so there is no row of it to act. Expected changed rows."
                )
            wanted.append([(place, acting & read) for place, read in enumerate(self.read)])
        left = [key for key in dict.fromkeys(key for keys in wanted for key in keys) if key not in self._known]
        done = 0
        report(done, len(left), message)
        for places in batches(self.references, [place for place, _ in left]):
            self._run([left[n] for n in places])
            done += len(places)
            report(done, len(left), message)
        return [made(self.references, np.array([self._known[key] for key in keys])) for keys in wanted]

    def _run(self, keys: Sequence[tuple[int, frozenset[int]]]) -> None:
        acts = torch.zeros((len(keys), len(self.rows.slots)), dtype=torch.bool, device=self.rows.slots.device)
        for n, (_, acting) in enumerate(keys):
            acts[n, sorted(acting)] = True
        self.model.eval()
        batch = collated(self.model, self.references, [place for place, _ in keys])
        with sharding.inference(self.model), each_acting(self.rows, acts):
            content, end = target_nats(self.model, batch, self.references.ended, self.references.ends)
        for key, *found in zip(keys, content.tolist(), end.tolist(), strict=True):
            self._known[key] = (found[0], found[1])


def batches(references: References, places: Sequence[int]) -> Iterator[list[int]]:
    """Positions in ``places`` in batches of references of about the same length: less of a batch is padding."""
    order = sorted(range(len(places)), key=lambda n: (len(fed(references.examples[places[n]])), n))
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]
