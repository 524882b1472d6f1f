"""Bringing two checkpoints in line: which row of one is to be compared with which row of the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ks_core.checkpoints import Checkpoint
from ks_core.errors import PairError
from ks_core.matrices import GatheredMatrix, Matrix


@dataclass(frozen=True)
class Pair:
    """Two matrices with the same rows in the same order.

    ``base_ids`` and ``tuned_ids`` int64 (n,): the ids of the matched rows in either vocabulary;
    ``base_only`` and ``tuned_only``: ids without a partner; ``by``: ``id`` or ``string``; ``notes``:
    what a person should know; ``before`` and ``after``: the matched rows, (n, dim).
    """

    base_ids: np.ndarray
    tuned_ids: np.ndarray
    base_only: np.ndarray
    tuned_only: np.ndarray
    by: str
    notes: list[str]
    before: Matrix = field(repr=False)
    after: Matrix = field(repr=False)

    @property
    def dim(self) -> int:
        return self.before.shape[1]


def match(base: Checkpoint, tuned: Checkpoint) -> Pair:
    """Match rows by token string; by id where the vocabularies are the same or unknown.

    Raises ``PairError`` when the widths differ or nothing can be matched.
    """
    if base.shape[1] != tuned.shape[1]:
        raise PairError(
            f"The rows are of different width: {base.shape[1]:,} in {base.label}, {tuned.shape[1]:,} in "
            f"{tuned.label}. Expected a checkpoint and its own fine-tuning."
        )
    notes: list[str] = []
    rows_base, rows_tuned = base.shape[0], tuned.shape[0]
    words_base, words_tuned = base.vocabulary, tuned.vocabulary
    known = words_base is not None and words_tuned is not None
    same = words_base is not None and words_tuned is not None and words_base.content_hash == words_tuned.content_hash
    if not same and words_base is not None and words_tuned is not None:
        # Saving a tokenizer again can rewrite its file; what counts is the pieces.
        same = words_base.tokens == words_tuned.tokens
    if same or not known:
        if not known:
            missing = [c.label for c in (base, tuned) if c.vocabulary is None]
            notes.append(f"No tokenizer was found with {' and '.join(missing)}: rows are matched by their position.")
        shared = min(rows_base, rows_tuned)
        ids_base = ids_tuned = np.arange(shared)
        by = "id"
    else:
        assert words_base is not None and words_tuned is not None
        ids_base, ids_tuned = _by_string(words_base.tokens[:rows_base], words_tuned.tokens[:rows_tuned])
        if not len(ids_base):
            raise PairError(
                f"The tokenizers of {base.label} and {tuned.label} share no token. Expected a checkpoint "
                "and its own fine-tuning."
            )
        by = "string"
        if not np.array_equal(ids_base, ids_tuned):
            notes.append("The two vocabularies number their tokens differently: rows are matched by token string.")
    base_only = np.setdiff1d(np.arange(rows_base), ids_base)
    tuned_only = np.setdiff1d(np.arange(rows_tuned), ids_tuned)
    for label, lonely in ((base.label, base_only), (tuned.label, tuned_only)):
        if len(lonely):
            notes.append(f"{len(lonely):,} rows of {label} have no partner and are not tested.")
    return Pair(
        ids_base,
        ids_tuned,
        base_only,
        tuned_only,
        by,
        notes,
        _rows(base.matrix, ids_base),
        _rows(tuned.matrix, ids_tuned),
    )


def _by_string(base: list[str], tuned: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of equal pieces. Of a piece that occurs twice the first is matched with the first, and so on."""
    places: dict[tuple[str, int], int] = {}
    seen: dict[str, int] = {}
    for token_id, piece in enumerate(tuned):
        if piece:
            seen[piece] = seen.get(piece, -1) + 1
            places[piece, seen[piece]] = token_id
    seen = {}
    found_base, found_tuned = [], []
    for token_id, piece in enumerate(base):
        if piece:
            seen[piece] = seen.get(piece, -1) + 1
            partner = places.get((piece, seen[piece]))
            if partner is not None:
                found_base.append(token_id)
                found_tuned.append(partner)
    return np.array(found_base, np.int64), np.array(found_tuned, np.int64)


def _rows(matrix: Matrix, ids: np.ndarray) -> Matrix:
    if len(ids) == matrix.shape[0] and (not len(ids) or (ids[0] == 0 and np.all(np.diff(ids) == 1))):
        return matrix
    return GatheredMatrix(matrix, ids)
