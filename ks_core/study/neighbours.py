"""Nearest neighbours of rows, exact: of every row that is drawn on a map, and of a token before and after its tuning.

No index that may miss one: every distance is computed. Products of matrices in float32 find who may be near, a block of rows at a
time, so that a vocabulary needs to be in memory nowhere; the distances of these are then taken in float64 from the rows
themselves, so the order does not hang on rounding. Where the first round cannot be sure of a row's neighbours, all its
distances are taken so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ks_core.errors import SettingsError

METRICS = ("cosine", "euclidean")
#: Rows that are read at a time, and queries that are compared with them: a block of distances is 64 MiB in float32.
ROWS, QUERIES = 8192, 2048
#: How many more than asked for the first round keeps, and how many distances are taken exactly at a time.
SPARE, EXACT = 16, 1024

#: ``read(places)``: rows of these places (ascending), any float (n, d).
Read = Callable[[np.ndarray], np.ndarray]
#: ``report(done, total, message)``, in comparisons with a row; what it raises (``Cancelled``) ends the search.
Report = Callable[[float, float, str], None]


def nearest(
    queries: np.ndarray,
    rows: np.ndarray | Read,
    k: int,
    *,
    many: int | None = None,
    metric: str = "euclidean",
    own: np.ndarray | None = None,
    report: Report = lambda *_: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest ``rows`` (n, d) of each of the ``queries`` (q, d): their places int64 (q, k) and distances float64 (q, k),
    the nearest first, equally near ones by their place.

    ``rows`` are an array, or a function that reads some of ``many``. ``metric``: ``euclidean``, or ``cosine``, which is 1 minus
    the cosine; a row of zeros has the cosine 0 with every row. ``own`` int64 (q,) is the place of each query among the rows,
    which is then left out of its neighbours (-1: it is not among them). With fewer rows than k, what is missing has the place
    -1 and the distance infinity. Raises ``SettingsError`` for a metric or a k that cannot be.
    """
    if metric not in METRICS:
        raise SettingsError(f"{str(metric)[:40]!r} is no metric. Expected one of: {', '.join(METRICS)}.")
    if k < 1:
        raise SettingsError(f"{k} neighbours were asked for. Expected at least 1.")
    read, n = (rows, many or 0) if callable(rows) else (rows.__getitem__, len(rows))
    queries = np.atleast_2d(queries).astype(np.float64, copy=False)
    own = np.full(len(queries), -1) if own is None else np.asarray(own)
    places, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf)
    for start in range(0, len(queries) if n else 0, QUERIES):
        here = slice(start, start + QUERIES)
        block, total = queries[here], n * len(queries)

        def told(done: int, start: int = start, size: int = len(block), total: int = total) -> None:
            report(n * start + done * size, total, "finding neighbours")

        shortlist, others = _shortlist(block, read, n, min(n, k + 1 + SPARE), metric, told)
        found, far = _in_order(block, read, shortlist, own[here], metric)
        kept = min(k, found.shape[1])
        places[here, :kept], distances[here, :kept] = found[:, :kept], far[:, :kept]
        # Whose neighbours the first round cannot be sure of: one that it left out may be as near as the last of them.
        unsure = distances[here, k - 1] >= others if shortlist.shape[1] < n else np.zeros(len(block), bool)
        for i in np.nonzero(unsure)[0] + start:
            found, far = _in_order(queries[i : i + 1], read, np.arange(n)[None], own[i : i + 1], metric)
            kept = min(k, found.shape[1])
            places[i, :kept], distances[i, :kept] = found[0, :kept], far[0, :kept]
    report(1, 1, "finding neighbours")
    return places, np.sqrt(distances) if metric == "euclidean" else distances


def change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far the neighbourhoods of rows changed, float64 (q,): 1 minus the share that two lists of neighbours (places (q, k),
    as ``nearest`` gives them) have in common among all that are in either (Jaccard's distance). 0: the same ones; 1: no one stayed."""
    same = ((before[:, :, None] == after[:, None, :]) & (before >= 0)[:, :, None]).sum(axis=(1, 2)).astype(float)
    whole = (before >= 0).sum(axis=1) + (after >= 0).sum(axis=1) - same
    return np.where(whole > 0, 1 - same / np.maximum(whole, 1), 0.0)


def _shortlist(
    queries: np.ndarray, read: Read, n: int, kept: int, metric: str, told: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Who may be near: places (q, kept) by the least that each distance can be, and below what no other's can be (q,).

    Distances are squared for ``euclidean``, and 1 minus the cosine for ``cosine``.
    """
    scaled = _of_length_one(queries) if metric == "cosine" else queries
    lengths = np.linalg.norm(scaled, axis=1)
    # A product of d terms in float32 is wrong by this times both lengths at the most (Higham, 2002, section 3.1).
    wrong = 2 * (queries.shape[1] + 4) * np.finfo(np.float32).eps
    left = np.column_stack([2 * scaled, wrong * np.maximum(lengths, 1e-30)]).astype(np.float32)
    best = np.full((len(queries), kept), np.inf, np.float32)
    places = np.zeros((len(queries), kept), np.int64)
    for start in range(0, n, ROWS):
        told(start)
        rows: np.ndarray = np.asarray(read(np.arange(start, min(n, start + ROWS))), np.float32)
        squares = np.einsum("ij,ij->i", rows, rows)
        if metric == "cosine":
            rows = rows / np.sqrt(np.where(squares > 0, squares, 1.0))[:, None]
            squares = np.ones_like(squares)  # a row of zeros is as far from all as one at a right angle
        least = left @ np.column_stack([rows, np.sqrt(squares)]).T
        np.subtract(squares * (1 - wrong), least, out=least)
        _take_in(best, places, least, start)
    own = np.ones(len(queries)) if metric == "cosine" else lengths**2
    return places, (best.max(axis=1).astype(np.float64) + own * (1 - wrong)) / (2 if metric == "cosine" else 1)


def _take_in(best: np.ndarray, places: np.ndarray, least: np.ndarray, start: int) -> None:
    """Put what is smaller in ``least`` (q, b), whose first column is the row ``start``, into ``best`` and ``places`` (q, kept).

    After the first rows little is, so that most of a block is compared with one number and never sorted.
    """
    kept, queries = best.shape[1], np.arange(len(best))
    smaller = least < best.max(axis=1)[:, None]
    if np.count_nonzero(smaller) > 2 * best.size:
        most = min(kept, least.shape[1])
        which = np.argpartition(least, most - 1, axis=1)[:, :most].ravel()
        whose = np.repeat(queries, most)
    else:
        whose, which = np.nonzero(smaller)
    values = np.concatenate([best.ravel(), least[whose, which]])
    named = np.concatenate([places.ravel(), which + start])
    whose = np.concatenate([np.repeat(queries, kept), whose])
    order = np.lexsort((values, whose))
    first = np.searchsorted(whose[order], queries)[:, None] + np.arange(kept)
    best[:], places[:] = values[order][first], named[order][first]


def _in_order(
    queries: np.ndarray, read: Read, places: np.ndarray, own: np.ndarray, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Of each query some places (q, m) by their distance from it (squared, if Euclidean), and these: int64 and float64 (q, m).
    The query's own place is the last, as -1 and infinitely far."""
    places = np.sort(places, axis=1)
    far = np.empty(places.shape)
    width = places.shape[1]
    few, part = max(1, EXACT // max(1, width)), min(width, EXACT)
    for start in range(0, len(queries), few):
        for at in range(0, width, part):
            here = slice(start, start + few), slice(at, at + part)
            asked, back = np.unique(places[here], return_inverse=True)
            rows = np.asarray(read(asked), np.float64)
            far[here] = _far(queries[here[0]], rows, back.reshape(places[here].shape), metric)
    found = np.where(places == own[:, None], -1, places)
    far[found < 0] = np.inf
    order = np.lexsort((places, far), axis=1)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(far, order, axis=1)


def _far(queries: np.ndarray, rows: np.ndarray, whose: np.ndarray, metric: str) -> np.ndarray:
    """How far each of the queries (q, d) is from its own ones (q, m) of the rows (n, d)."""
    if metric == "euclidean":
        return np.square(rows[whose] - queries[:, None]).sum(axis=2)
    ones, one = _of_length_one(rows), _of_length_one(queries)
    # Half the square of the distance between two of length 1; by the difference, which tells apart what is nearly the same.
    lacking = (2 - np.rint(np.square(ones).sum(axis=1))[whose] - np.rint(np.square(one).sum(axis=1))[:, None]) / 2
    return np.square(ones[whose] - one[:, None]).sum(axis=2) / 2 + lacking


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
