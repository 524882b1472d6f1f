"""Matrices read by blocks and by ids: whatever is behind them, the rows are the same."""

import os

import numpy as np
import pytest

from ks_core.checkpoints.matrices import (
    ArrayMatrix,
    GatheredMatrix,
    MappedMatrix,
    OverlaidMatrix,
    StackedMatrix,
    blocks,
    take,
    to_floats,
    widest,
)
from ks_core.errors import CheckpointError

ROWS = np.random.default_rng(0).standard_normal((6000, 4)).astype(np.float32)
CHANGED = ROWS.copy()
CHANGED[[2, 7]] = 1
ORDER = np.random.default_rng(1).permutation(6000)[:3000]
KINDS = {
    "array": (ArrayMatrix(ROWS), ROWS),
    "overlaid": (OverlaidMatrix(ArrayMatrix(ROWS), np.array([2, 7]), np.ones((2, 4), np.float32)), CHANGED),
    "gathered": (GatheredMatrix(ArrayMatrix(ROWS), ORDER), ROWS[ORDER]),
    "stacked": (StackedMatrix((ArrayMatrix(ROWS[:11]), ArrayMatrix(ROWS[11:]))), ROWS),
}
KINDS["gathered from overlaid"] = (GatheredMatrix(KINDS["overlaid"][0], ORDER), CHANGED[ORDER])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [
    [], [5], [5, 6, 7, 8], [8, 7, 5], [3, 3, 1, 2999, 0, 3], list(range(3000)), list(ORDER % 3000), [0, 20, 2990]],
    ids=["none", "one", "run", "backwards", "repeated", "all", "scattered", "far apart"])  # fmt: skip
def test_take_gives_the_rows_of_the_ids(kind, ids):
    matrix, expected = KINDS[kind]
    ids = np.array(ids, np.int64)
    found = take(matrix, ids)
    np.testing.assert_array_equal(found, expected[ids])
    assert found.shape == (len(ids), 4)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_put_together_are_the_matrix(kind):
    matrix, expected = KINDS[kind]
    found = [matrix.block(*bounds) for bounds in blocks(matrix.shape[0], 16, budget=16 * 700)]
    assert max(map(len, found)) == 700
    np.testing.assert_array_equal(np.concatenate(found), expected)
    assert matrix.block(3, 3).shape == (0, 4)


def test_bfloat16_is_exact_and_laid_rows_widen_it():
    bits = (ROWS[:9].view(np.uint32) >> 16).astype(np.uint16)
    floats = to_floats(bits, "bfloat16")
    np.testing.assert_array_equal((floats.view(np.uint32) >> 16).astype(np.uint16), bits)
    laid = OverlaidMatrix(ArrayMatrix(bits, "bfloat16"), np.array([1]), ROWS[:1])
    assert laid.dtype == widest("bfloat16", "float32") == "float32"
    np.testing.assert_array_equal(laid.block(0, 2), np.stack([floats[0], ROWS[0]]))


def mapped(path):
    path.write_bytes(ROWS.tobytes())
    return MappedMatrix(np.memmap(path, np.float32, "r", 0, ROWS.shape), "", path)


def test_a_file_that_is_cut_short_while_mapped_is_noticed(tmp_path):
    """Without the check the system ends the whole process (SIGBUS) at the first read beyond the end."""
    matrix = mapped(tmp_path / "m")
    os.truncate(tmp_path / "m", 4096)
    with pytest.raises(CheckpointError, match="written into"):
        matrix.block(0, 6000)
    with pytest.raises(CheckpointError, match="written into"):
        take(matrix, np.array([5999, 0]))


def test_a_file_that_was_replaced_or_removed_is_read_on(tmp_path):
    matrix = mapped(tmp_path / "m")
    (tmp_path / "new").write_bytes(b"other")
    os.replace(tmp_path / "new", tmp_path / "m")
    np.testing.assert_array_equal(matrix.block(0, 6000), ROWS)
    os.remove(tmp_path / "m")
    np.testing.assert_array_equal(matrix.block(0, 6000), ROWS)
