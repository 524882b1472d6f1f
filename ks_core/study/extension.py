"""A vocabulary that was extended: how many of the old rows, and of the new ones, shifted.

LLaMAX (Lu et al., Findings of EMNLP 2024, arXiv 2407.05975) reads the test as a sign of how an extension disturbs training: with no new token
112 rows of LLaMA-2 shifted, with 12,800 new ones hardly any. Which rows are new is known where the tuned side has tokens that the base
has not; a row that is not in the base has nothing to be tested against, so of these it is told how they stand to the old ones.
Where both sides have all rows, somebody says at which id the new ones begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ks_core.checkpoints.matrices import take, to_floats
from ks_core.errors import SettingsError
from ks_core.study.scan import Scan, Study

#: How many rows are looked at for a mean: enough for its length to be known to a percent.
SAMPLE = 8192


@dataclass(frozen=True)
class Extension:
    """Numbers of rows: ``old`` and ``new``, how many of each ``changed`` and ``won`` (p < alpha).

    Of new rows that the base lacks, ``tested`` is false, nothing is known to have changed, and ``still`` are those that lie where an
    extension usually begins: within 5% of the old rows' mean length from the old rows' mean.
    """

    old: int
    old_changed: int
    old_won: int
    new: int
    new_changed: int
    new_won: int
    tested: bool
    still: int
    alpha: float

    @property
    def sentence(self) -> str:
        """What it comes to, in a sentence or two."""
        said = (
            f"The vocabulary was extended by {self.new:,} rows. Of the {self.old:,} old rows {self.old_changed:,} changed and {self.old_won:,} "
            f"have p < {self.alpha:g}."
        )
        if self.tested:
            return f"{said} Of the new ones {self.new_changed:,} changed and {self.new_won:,} have p < {self.alpha:g}."
        return (
            f"{said} The new ones are not in the base, so there is nothing to test them against; {self.still:,} of them still lie at the "
            "old rows' mean, where an extension usually begins."
        )


def extension_of(study: Study, scan: Scan, alpha: float, first_new: int | None = None) -> Extension | None:
    """The old and the new rows of a pair; ``None`` where no row is known to be new.

    ``first_new``: the id at which the new rows begin, where both sides have them. Raises ``SettingsError`` for an id that no
    tested row has.
    """
    won = scan.winners(alpha)
    if first_new is not None:
        if not 0 < first_new <= int(scan.token_ids.max(initial=0)):
            raise SettingsError(
                f"The new rows are said to begin at id {first_new}. Expected an id from 1 to {int(scan.token_ids.max(initial=0)):,}."
            )
        new = scan.token_ids >= first_new
        return Extension(
            int((~new).sum()), int((scan.changed & ~new).sum()), int((won & ~new).sum()), int(new.sum()), int((scan.changed & new).sum()),
            int((won & new).sum()), True, 0, alpha,
        )  # fmt: skip
    alone = study.pair.tuned_only
    if not len(alone):
        return None
    matrix = study.tuned.matrix
    some = (
        np.linspace(0, len(scan.tuned_ids) - 1, min(SAMPLE, len(scan.tuned_ids))).astype(int)
        if len(scan.tuned_ids)
        else np.zeros(0, int)
    )
    old = to_floats(take(matrix, scan.tuned_ids[some]), matrix.dtype, "float64")
    mean, length = old.mean(0), float(np.linalg.norm(old, axis=1).mean())
    still = 0
    for start in range(0, len(alone), SAMPLE):
        rows = to_floats(take(matrix, alone[start : start + SAMPLE]), matrix.dtype, "float64")
        still += int((np.linalg.norm(rows - mean, axis=1) <= 0.05 * length).sum())
    return Extension(
        len(scan.token_ids), int(scan.changed.sum()), int(won.sum()), len(alone), 0, 0, False, still, alpha
    )  # fmt: skip
