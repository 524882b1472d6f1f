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
linear decay; one seed; likelihood in nats a target token on 48 held-out pairs, base 3.620):

====================================================  ============  ============
                                                      rowwise_adam  adam_per_row
====================================================  ============  ============
rows with p < 0.05                                             112            28
of them touched by 20 to 99 of the 300 steps                    73             5
largest D                                                    0.153         0.134
Spearman of D and steps                                      0.883         0.782
likelihood, all rows trained                                 1.699         1.734
share of that gain kept by the 18 rows of largest D            38%           62%
the same, 28 rows                                              43%           63%
the same, 112 rows                                             67%           71%
kept by the 18 rows of most steps instead                      57%           60%
of the 18 rows of most steps, among the 18 by D                  8            14
rows touched once that moved alike (to 1%) everywhere    63 of 682    563 of 682
====================================================  ============  ============

All 28 are among the 112. The likelihoods differ by 0.035 [-0.032, 0.099] (bootstrap over sentences),
less than those of the demo's two seeds (0.052), so neither trains better. But the rows that move most
under ``adam_per_row`` carry more of what was learned, about what a list by steps carries, where those
of ``rowwise_adam`` carry less than such a list; and rows of the middle do not pass by the correction's
factor. So it is the default for new trainings. Against it: the top of its list is nearer to a list by
steps, and a row that is touched once is still stepped by the gradient's sign, as far as the learning
rate of that step goes, which decay spreads from 0.0030 to 0.0100 (0.0035 to 0.0074 with the whole
training's count). Neither repairs that; of these rows D says nothing, and none has p < 0.05.

``rowwise_adam`` keeps its name and its meaning: it is what the demo and every run saved before
``adam_per_row`` were trained with, and what they resume with.
"""

from __future__ import annotations

from dataclasses import dataclass

from ks_core import values
from ks_core.errors import SettingsError

#: Those that step the batch's rows alone, and all.
ROWWISE = ("adam_per_row", "rowwise_adam")
OPTIMIZERS = (*ROWWISE, "adam")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Recipe:
    """How rows are trained. Every field is part of a result's signature.

    ``optimizer``: ``adam_per_row`` and ``rowwise_adam`` step only the rows in the batch and correct bias by the row's
    own count of steps, or by the training's (``trainer.AdamPerRow``, ``RowwiseAdam``); ``adam`` is dense Adam without
    weight decay. ``schedule`` and ``warmup`` (steps) are transformers'.
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

    def __post_init__(self) -> None:
        values.whole("steps", self.steps, 1, 10_000_000)
        values.whole("batch_size", self.batch_size, 1, 65_536)
        values.whole("warmup", self.warmup, 0, 10_000_000)
        values.whole("seed", self.seed, 0, values.LARGEST_SEED)
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
