"""The weight that a LoRA makes of a base's, block by block: a sum, with DoRA a sum of another length."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ks_core.checkpoints.matrices import Matrix, blocks, to_bfloat16, to_floats
from ks_core.errors import CheckpointError

#: Bytes of the largest tensor that is held in memory: the rows of a vocabulary of 64,000 with 4,096 values each.
LARGEST_ARRAY = 1 << 30


@dataclass(frozen=True)
class LowRankMatrix:
    """A base with ``scaling * left @ right`` added: what a LoRA makes of a weight.

    ``left`` (V, r) and ``right`` (r, d) float32. The sum is made block by block, in float32.

    ``start`` is what the LoRA began with (``settings.KNOWN_STARTS``): that part of the base is taken out first, and what is left is
    rounded as the base is stored, as peft does it. ``magnitude`` is DoRA's: the length of each row of the sum, (V,), or with
    ``by_column`` that of each column, (d,). ``turned``: the weight lies as (inputs, outputs).
    """

    base: Matrix
    left: np.ndarray
    right: np.ndarray
    scaling: float
    dtype: str = "float32"
    start: str = ""
    magnitude: np.ndarray | None = None
    by_column: bool = False
    turned: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """What is done to the base, as arrays: for a hash."""
        found = [self.left, self.right, np.array([self.scaling])]
        if self.start or self.magnitude is not None:
            words = f"{self.start} {self.turned} {self.by_column}"
            found += [
                np.frombuffer(words.encode(), np.uint8),
                np.zeros(0) if self.magnitude is None else self.magnitude,
            ]
        return tuple(found)

    def block(self, start: int, stop: int) -> np.ndarray:
        with np.errstate(all="ignore"):  # what is no number is found, and said with its row, by the test
            found = self._sum(start, stop)
            if self.magnitude is None:
                return found
            if self.by_column:
                return found * (self.magnitude / self._columns)
            return found * (self.magnitude[start:stop] / np.linalg.norm(found, axis=1))[:, None]

    def _sum(self, start: int, stop: int) -> np.ndarray:
        found = to_floats(self.base.block(start, stop), self.base.dtype)
        if self.start:
            left, right = self._taken
            found = _stored(found - left[start:stop] @ right, self.base.dtype)
        return found + self.scaling * (self.left[start:stop] @ self.right)

    @cached_property
    def _columns(self) -> np.ndarray:
        """The length of each column of the sum, (d,) float32."""
        squares = np.zeros(self.shape[1])
        for bounds in blocks(self.shape[0], 4 * self.shape[1]):
            squares += np.square(self._sum(*bounds), dtype=np.float64).sum(0)
        return np.sqrt(squares).astype(np.float32)

    @cached_property
    def _taken(self) -> tuple[np.ndarray, np.ndarray]:
        """What the beginning took out of the base, as factors (V, r) and (r, d) float32.

        PiSSA: its r largest singular parts (Meng et al. 2024, arXiv 2404.02948). OLoRA: r columns of Q times r rows of R, scaled
        (Büyükakyüz 2024, arXiv 2406.01775). Raises ``CheckpointError`` for a weight that is too large, or holds no numbers.
        """
        from scipy.linalg import LinAlgError, eigh, qr

        rows, width = self.shape
        if 4 * rows * width > LARGEST_ARRAY:
            raise CheckpointError(
                f"A weight of {rows:,} x {width:,} began as {self.start}, which is computed from all of it. Expected at most "
                f"{LARGEST_ARRAY:,} bytes. Merge the adapter with peft and open the merged checkpoint."
            )
        whole = to_floats(self.base.block(0, rows), self.base.dtype)
        whole = whole.T if self.turned else whole
        rank = min(self.left.shape[1], *whole.shape)
        try:
            if self.start == "olora":
                q, r = qr(whole, mode="economic")
                left, right = self.scaling * q[:, :rank], r[:rank]
            else:  # the largest parts lie in the span of the Gram matrix's largest eigenvectors, on the shorter side
                wide = whole.shape[0] < whole.shape[1]
                exact = whole.astype(np.float64)
                gram = exact @ exact.T if wide else exact.T @ exact
                _, span = eigh(gram, subset_by_index=[len(gram) - rank, len(gram) - 1])
                left, right = (span, span.T @ exact) if wide else (exact @ span, span.T)
        except (ValueError, LinAlgError):
            raise CheckpointError(
                "The weight holds NaN or Inf, so what the LoRA began with cannot be computed. Save it again."
            ) from None
        left, right = left.astype(np.float32), right.astype(np.float32)
        return (right.T, left.T) if self.turned else (left, right)


def _stored(block: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 values as they are when they are stored in another dtype, float32 again."""
    if dtype == "bfloat16":
        return to_bfloat16(block)
    return block.astype(np.float16).astype(np.float32) if dtype == "float16" else block
