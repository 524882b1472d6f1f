"""Bringing two checkpoints in line: which row of one is to be compared with which row of the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import GatheredMatrix, Matrix
from ks_core.errors import CheckpointError, PairError


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
    """Match rows by token string; by id where the vocabularies are the same or one is not known.

    Equal files are equal vocabularies, so a pair that shares its tokenizer (an adapter and its base do) is
    matched without parsing it. Rows that stand for no token on either side are matched by position.

    Raises ``PairError`` when the widths differ or nothing can be matched.
    """
    if base.shape[1] != tuned.shape[1]:
        raise PairError(
            f"The rows are of different width: {base.shape[1]:,} in {base.label}, {tuned.shape[1]:,} in "
            f"{tuned.label}. Expected a checkpoint and its own fine-tuning."
        )
    notes: list[str] = []
    rows_base, rows_tuned = base.shape[0], tuned.shape[0]
    by = "id"
    both = min(rows_base, rows_tuned)
    ids_base = ids_tuned = np.arange(both)
    missing = [c.label for c in (base, tuned) if c.vocabulary is None]
    for checkpoint in (base, tuned):
        if checkpoint.vocabulary is not None and checkpoint.vocabulary.is_small:
            _tokens(checkpoint)  # an empty vocabulary is found here, without parsing real ones
    if missing:
        notes.append(f"No tokenizer was found with {' and '.join(missing)}: rows are matched by their position.")
    elif not _same_vocabulary(base, tuned):
        by = "string"
        words_base, words_tuned = _tokens(base)[:rows_base], _tokens(tuned)[:rows_tuned]
        ids_base, ids_tuned = _by_string(words_base, words_tuned)
        if not len(ids_base):
            raise PairError(
                f"The tokenizers of {base.label} and {tuned.label} share no token. Expected a checkpoint "
                "and its own fine-tuning."
            )
        if not np.array_equal(ids_base, ids_tuned):
            notes.append("The two vocabularies number their tokens differently: rows are matched by token string.")
        padding = np.nonzero(_unnamed(words_base, rows_base)[:both] & _unnamed(words_tuned, rows_tuned)[:both])[0]
        if len(padding):
            notes.append(f"{len(padding):,} rows that stand for no token on either side are matched by their position.")
            ids_base, ids_tuned = np.concatenate([ids_base, padding]), np.concatenate([ids_tuned, padding])
            order = np.argsort(ids_base)
            ids_base, ids_tuned = ids_base[order], ids_tuned[order]
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


def _same_vocabulary(base: Checkpoint, tuned: Checkpoint) -> bool:
    """Whether equal ids are equal tokens: told by the files' hashes, and by the pieces only where those differ."""
    assert base.vocabulary is not None and tuned.vocabulary is not None
    # Saving a tokenizer again can rewrite its file; what counts is the pieces.
    return base.vocabulary.content_hash == tuned.vocabulary.content_hash or _tokens(base) == _tokens(tuned)


def _tokens(checkpoint: Checkpoint) -> list[str]:
    assert checkpoint.vocabulary is not None
    try:
        tokens = checkpoint.vocabulary.tokens
    except CheckpointError as error:
        raise PairError(f"The vocabulary of {checkpoint.label} cannot be used. {error}") from None
    if not any(tokens):
        raise PairError(f"The vocabulary of {checkpoint.label} is empty. Save its tokenizer again.")
    return tokens


def _unnamed(words: list[str], rows: int) -> np.ndarray:
    """Rows that no token names, bool (rows,): holes, and padding beyond the tokenizer."""
    named = np.zeros(rows, bool)
    named[: len(words)] = [bool(w) for w in words]
    return ~named


def _by_string(base: list[str], tuned: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of equal pieces, int64. Of a piece that occurs twice the first is matched with the first, and so on.

    >>> [ids.tolist() for ids in _by_string(["a", "b", "b"], ["b", "c", "a", "b"])]
    [[0, 1, 2], [2, 0, 3]]
    """
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
