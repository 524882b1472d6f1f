"""Bringing two checkpoints in line: which row of one is to be compared with which row of the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import GatheredMatrix, Matrix
from ks_core.checkpoints.storage import rounding
from ks_core.errors import CheckpointError, PairError

#: The share of the smaller vocabulary that the other has to have. Tokens may be added, cut away and numbered otherwise: then all
#: that is left of the smaller one is in the larger. Two tokenizers that were made apart share less, and rows that share a
#: string alone say nothing of a tuning.
LEAST_SHARED = 0.5
#: The most tokens that may have another name at their position, as a share of those that have the same. Llama 3 has 248 reserved
#: ones of 128,256. Where it is more, a part of the vocabulary was exchanged, and its rows are others.
MOST_RENAMED = 0.1


@dataclass(frozen=True)
class Pair:
    """Two matrices with the same rows in the same order.

    ``base_ids`` and ``tuned_ids`` int64 (n,): the ids of the matched rows in either vocabulary;
    ``base_only`` and ``tuned_only``: ids without a partner, which are not tested; ``placed``: ids of rows that were matched by
    their position, though their token has a name on one side only or another on either; ``by``: ``id`` or ``string``;
    ``notes``: what a person should know; ``rounded``: what is rounded before the test, in a few words, empty where both
    sides are stored alike. ``before`` and ``after``: the matched rows as they are to be compared, (n, dim); ``tuned_rows``:
    those of the tuned side as they are stored, for whoever copies them.
    """

    base_ids: np.ndarray
    tuned_ids: np.ndarray
    base_only: np.ndarray
    tuned_only: np.ndarray
    placed: np.ndarray
    by: str
    notes: list[str]
    rounded: str
    before: Matrix = field(repr=False)
    after: Matrix = field(repr=False)
    tuned_rows: Matrix = field(repr=False)

    @property
    def dim(self) -> int:
        return self.before.shape[1]

    @property
    def untested(self) -> int:
        """How many rows of both sides have no partner."""
        return len(self.base_only) + len(self.tuned_only)

    @property
    def alike(self) -> str:
        """What is said of the two when no row differs: no more than was tested."""
        what = "All rows that were tested are identical" if self.untested else "The two are identical"
        return f"{what} but for rounding" if self.rounded else what


def match(base: Checkpoint, tuned: Checkpoint) -> Pair:
    """Match rows by token string; by id where the vocabularies are the same or one is not known.

    Equal files are equal vocabularies, so a pair that shares its tokenizer (an adapter and its base do) is
    matched without parsing it. Rows that stand for no token on either side are matched by position, and so are spare and
    renamed ones where all around them agrees. Where the sides are stored otherwise, what rounding alone changes is taken away
    (``storage.rounding``).

    Raises ``PairError`` when the widths differ, when of the smaller vocabulary less than ``LEAST_SHARED`` is in the other, and
    when the two are stored in ways that cannot be brought together.
    """
    if base.shape[1] != tuned.shape[1]:
        raise PairError(
            f"The rows are of different width: {base.shape[1]:,} in {base.label}, {tuned.shape[1]:,} in "
            f"{tuned.label}. Expected a checkpoint and its own fine-tuning."
        )
    notes = list(dict.fromkeys([*_said(base), *_said(tuned)]))
    rows_base, rows_tuned = base.shape[0], tuned.shape[0]
    by = "id"
    both = min(rows_base, rows_tuned)
    ids_base = ids_tuned = np.arange(both)
    placed = np.zeros(0, np.int64)
    words_base: list[str] = []
    words_tuned: list[str] = []
    missing = [c.label for c in (base, tuned) if c.vocabulary is None]
    for checkpoint in (base, tuned):
        if checkpoint.vocabulary is not None and checkpoint.vocabulary.is_small:
            _tokens(checkpoint)  # an empty vocabulary is found here, without parsing real ones
    if missing:
        notes.append(f"No tokenizer was found with {' and '.join(missing)}: rows are matched by their position.")
    elif not _same_vocabulary(base, tuned):
        by = "string"
        words_base, words_tuned = _tokens(base)[:rows_base], _tokens(tuned)[:rows_tuned]
        ids_base, ids_tuned, placed = _matched(base, tuned, words_base, words_tuned, notes)
    base_only, tuned_only = _without(rows_base, ids_base), _without(rows_tuned, ids_tuned)
    for one, other, lonely, words in ((base, tuned, base_only, words_base), (tuned, base, tuned_only, words_tuned)):
        if len(lonely):
            why = _why_alone(lonely, words, other.label) if by == "string" else _beyond(other)
            notes.append(f"{len(lonely):,} rows of {one.label} have no partner and are not tested: {why}.")
    before, after = _rows(base.matrix, ids_base), _rows(tuned.matrix, ids_tuned)
    rounded = rounding.described(before, after)
    if rounded:
        notes.append(
            f"{base.label} is stored as {rounding.name(before)}, {tuned.label} as {rounding.name(after)}. {rounding.said(rounded)}"
        )
    compared = rounding.common(before, after)
    return Pair(ids_base, ids_tuned, base_only, tuned_only, placed, by, notes, rounded, *compared, after)


def _without(rows: int, ids: np.ndarray) -> np.ndarray:
    """The ids of so many rows that are not among some, int64, ascending."""
    alone = np.ones(rows, bool)
    alone[ids] = False
    return np.flatnonzero(alone)


def _matched(
    base: Checkpoint, tuned: Checkpoint, words_base: list[str], words_tuned: list[str], notes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``base_ids``, ``tuned_ids`` and ``placed`` of two vocabularies that differ; what there is to know is added to ``notes``."""
    rows_base, rows_tuned = base.shape[0], tuned.shape[0]
    both = min(rows_base, rows_tuned)
    ids_base, ids_tuned = _by_string(words_base, words_tuned)
    _refuse_strangers(base.label, tuned.label, words_base, words_tuned, len(ids_base))
    if not np.array_equal(ids_base, ids_tuned):
        notes.append("The two vocabularies number their tokens differently: rows are matched by token string.")
    unnamed = _unnamed(words_base, rows_base)[:both], _unnamed(words_tuned, rows_tuned)[:both]
    padding = unnamed[0] & unnamed[1]
    if padding.any():
        notes.append(f"{padding.sum():,} rows that stand for no token on either side are matched by their position.")
    placed = _in_place(ids_base, ids_tuned, padding)
    spare = (unnamed[0] | unnamed[1])[placed]
    if (~spare).sum() > MOST_RENAMED * len(ids_base):
        placed = placed[spare]
    if len(placed):
        notes.append(_renamed(placed, words_base, words_tuned))
    further = np.concatenate([np.nonzero(padding)[0], placed])
    ids_base, ids_tuned = np.concatenate([ids_base, further]), np.concatenate([ids_tuned, further])
    order = np.argsort(ids_base)
    return ids_base[order], ids_tuned[order], placed


def _said(checkpoint: Checkpoint) -> list[str]:
    """The notes of a checkpoint, after those of what it lies on."""
    below = _said(checkpoint.base) if checkpoint.base is not None else []
    return [*below, *checkpoint.notes]


def _refuse_strangers(base: str, tuned: str, words_base: list[str], words_tuned: list[str], shared: int) -> None:
    """Raise ``PairError`` where too little of the smaller vocabulary is in the other."""
    sizes = [sum(map(bool, words)) for words in (words_base, words_tuned)]
    if shared == 0 or shared < LEAST_SHARED * min(sizes):
        tokens = f"only {shared:,} tokens" if shared > 1 else "only 1 token" if shared else "no token"
        raise PairError(
            f"The tokenizers of {base} and {tuned} share {tokens}, of {sizes[0]:,} and {sizes[1]:,}. Expected a checkpoint and its "
            f"own fine-tuning, which share at least {LEAST_SHARED:.0%} of the smaller vocabulary."
        )


def _in_place(ids_base: np.ndarray, ids_tuned: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Ids of rows without a partner that are the same row all the same: spare ones that got a token, and renamed ones.

    ``padding`` bool (n,) are the rows that have a position on both sides and a name on neither. A run of rows that are free on
    both sides counts where the rows before and after it are matched in place; the end of a matrix counts as such.

    >>> _in_place(np.array([0, 1, 4]), np.array([0, 1, 4]), np.array([False] * 5 + [True, False])).tolist()
    [2, 3, 6]
    >>> _in_place(np.array([0, 1]), np.array([0, 3]), np.array([False] * 4)).tolist()
    []
    """
    both = len(padding)
    same, free = np.zeros(both, bool), np.ones(both, bool)
    same[ids_base[(ids_base == ids_tuned) & (ids_base < both)]] = True
    for ids in (ids_base, ids_tuned):
        free[ids[ids < both]] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(np.int8)))
    found = np.zeros(both, bool)
    for start, stop in edges.reshape(-1, 2):
        found[start:stop] = (start == 0 or same[start - 1]) and (stop == both or same[stop])
    return np.flatnonzero(found & ~padding)


def _renamed(placed: np.ndarray, words_base: list[str], words_tuned: list[str]) -> str:
    """A sentence on rows that were matched in place, with an example."""
    first = int(placed[0])
    names = [repr(words[first][:40]) if first < len(words) and words[first] else "no token"
             for words in (words_base, words_tuned)]  # fmt: skip
    return (
        f"{len(placed):,} rows have another token on either side, or one on one side only (row {first}: {names[0]} before, "
        f"{names[1]} after). All around them agrees, so they are matched by their position."
    )


def _why_alone(lonely: np.ndarray, words: list[str], other: str) -> str:
    """Why rows have no partner where tokens are matched by string."""
    named = [words[i] for i in lonely if i < len(words) and words[i]]
    rest = len(lonely) - len(named)
    reasons = [f"{len(named):,} stand for a token that {other} lacks (such as {named[0][:40]!r})"] if named else []
    return " and ".join([*reasons, f"{rest:,} for no token"] if rest else reasons)


def _beyond(other: Checkpoint) -> str:
    return f"{other.label} has only {other.shape[0]:,}"


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
