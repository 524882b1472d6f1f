"""How an arm is trained: steps, rate, optimizer. A module by itself, so that choosing does not load torch.

Which optimizer decides what a KS test of the result can mean. Dense Adam keeps a running mean of the
gradient and goes on moving a row by it long after the row's token was last seen; with a wide
vocabulary most rows are such rows. Measured on SmolLM2-135M with 150 steps at learning rate 1e-2:
with dense Adam the median D of rows seen once or twice (0.092) is nearly that of rows seen over a
hundred times (0.106), so D says little about use; with an Adam that steps only the rows in the batch
D follows the count in the text (Spearman 0.80). ``adam`` is therefore a labelled choice.

Of the two that step the batch's rows alone, ``rowwise_adam`` corrects the moments' bias by the step
count of the whole training, as torch's SparseAdam does, and ``adam_per_row`` by the row's own. A row
that n of t steps touched is thereby moved up to sqrt((1 - beta2^t) / (1 - beta2^n)) times as far a
step under the former: 3 times for n = 30 at t = 300. Measured on the demo's en-fr (300 steps at 1e-2,
linear decay; five seeds of each, on an H100; likelihood in nats a target token on the 77 pairs of the test part, base 3.679;
``tests/gpu/seeds.py``, docs/demo-results.md). Means, with the smallest and the largest:

====================================================  ====================  ====================
                                                      rowwise_adam          adam_per_row
====================================================  ====================  ====================
likelihood, all rows trained                          1.500 (1.487, 1.512)  1.562 (1.541, 1.591)
rows with p < 0.05                                    106 (101, 109)        28 (24, 35)
the same where every gradient is noise                128 (121, 134)        41 (34, 48)
of the 18 rows of largest D, the same in two seeds    8.3 (6, 11)           13.8 (13, 16)
share of the gain kept by the 18 rows of largest D    38% (15%, 58%)        60% (58%, 62%)
the same, 112 rows                                    64% (62%, 66%)        67% (64%, 70%)
kept by the 18 rows of most steps instead             60% (59%, 61%)        62% (61%, 64%)
Spearman of D and steps                               0.87 (0.87, 0.88)     0.78 (0.78, 0.79)
====================================================  ====================  ====================

``rowwise_adam`` trains a little better: in each of the five seeds, by 0.062 nats in the mean, 3% of the gain. And under neither
does D find more than counting steps does. But under ``adam_per_row`` the rows of largest D are nearly the same with another seed and
carry what a list by steps carries, where those of ``rowwise_adam`` are half others and carry less: rows of the middle pass
there by the correction's factor. So it is the default for new trainings, whose rows are to be read and not only used.
A row that is touched once is stepped by its gradient's sign under either, as far as the learning rate of that step goes (of 682
such rows 63 moved alike in every value, to 1%, under ``rowwise_adam``, 563 under ``adam_per_row``; one seed); of these rows D says nothing.

``rowwise_adam`` keeps its name and its meaning: it is what the demo and every run saved before
``adam_per_row`` were trained with, and what they resume with.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from ks_core import values
from ks_core.errors import SettingsError

#: Those that step the batch's rows alone, and all.
ROWWISE = ("adam_per_row", "rowwise_adam")
OPTIMIZERS = (*ROWWISE, "adam")
SCHEDULES = ("constant", "linear", "cosine")
#: Fields that stand in a saved recipe only where they were chosen, so that what older recipes made is found again.
LATER = ("accumulate", "epochs", "warmup_share")


@dataclass(frozen=True)
class Recipe:
    """How rows are trained. Every field is part of a result's signature.

    ``optimizer``: ``adam_per_row`` and ``rowwise_adam`` step only the rows in the batch and correct bias by the row's
    own count of steps, or by the training's (``trainer.AdamPerRow``, ``RowwiseAdam``); ``adam`` is dense Adam without
    weight decay. ``schedule`` and ``warmup`` (steps) are transformers'.

    ``accumulate``: a step's pairs are read in so many parts, one after the other, which takes less memory and is the same step but for
    rounding. ``epochs`` above 0 say how often the text is gone through, in the place of ``steps``, and ``warmup_share`` which share of
    the steps warms up, in the place of ``warmup``: what these are of a text says ``in_steps``.
    """

    steps: int = 150
    batch_size: int = 8
    learning_rate: float = 1e-2
    optimizer: str = "adam_per_row"
    beta1: float = 0.9
    beta2: float = 0.999
    schedule: str = "constant"
    warmup: int = 0
    seed: int = 0
    accumulate: int = 1
    epochs: float = 0.0
    warmup_share: float = 0.0

    def __post_init__(self) -> None:
        values.whole("steps", self.steps, 1, 10_000_000)
        values.whole("batch_size", self.batch_size, 1, 65_536)
        values.whole("warmup", self.warmup, 0, 10_000_000)
        values.whole("seed", self.seed, 0, values.LARGEST_SEED)
        values.whole("accumulate", self.accumulate, 1, self.batch_size)
        if not 0 <= values.number("epochs", self.epochs) <= 10_000:
            raise SettingsError(
                f"epochs is {self.epochs}. Expected a number from 0, which leaves it to steps, to 10,000."
            )
        if not 0 <= values.number("warmup_share", self.warmup_share) < 1:
            raise SettingsError(f"warmup_share is {self.warmup_share}. Expected a number from 0 to below 1.")
        if values.number("The learning rate", self.learning_rate) <= 0:
            raise SettingsError(f"The learning rate is {self.learning_rate}. Expected a number above 0, such as 0.01.")
        for name, value, valid in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if value not in valid:
                raise SettingsError(f"{value!r} is no {name}. Expected one of: {', '.join(valid)}.")
        if not (0 <= values.number("beta1", self.beta1) < 1 and 0 <= values.number("beta2", self.beta2) < 1):
            raise SettingsError(f"The betas are {self.beta1} and {self.beta2}. Expected numbers from 0 to below 1.")

    def in_steps(self, pairs: int) -> Recipe:
        """The same with its epochs, and its share of warm-up, as steps over a text of so many pairs: an epoch is as
        many steps as go through the text once, the last one counted whole.

        >>> Recipe(batch_size=128, epochs=3, warmup_share=0.03).in_steps(10_000).steps
        237
        """
        steps = max(1, math.ceil(self.epochs * math.ceil(pairs / self.batch_size))) if self.epochs else self.steps
        warmup = math.ceil(self.warmup_share * steps) if self.warmup_share else self.warmup
        return replace(self, steps=steps, warmup=warmup, epochs=0.0, warmup_share=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, signatures and keys."""
        return {
            name: value for name, value in asdict(self).items() if name not in LATER or value != getattr(Recipe, name)
        }
