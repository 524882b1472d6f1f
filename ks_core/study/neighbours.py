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
#: How many more than asked for the first round keeps.
SPARE = 16

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
        for i, query in enumerate(block):
            found, far = _in_order(query, read, shortlist[i], own[start + i], metric)
            if len(shortlist[i]) < n and (len(found) < k or far[k - 1] >= others[i]):
                found, far = _in_order(query, read, np.arange(n), own[start + i], metric)
            places[start + i, : len(found)], distances[start + i, : len(found)] = found[:k], far[:k]
    report(1, 1, "finding neighbours")
    return places, np.sqrt(distances) if metric == "euclidean" else distances


def change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far the neighbourhoods of rows changed, float64 (q,): 1 minus the share that two lists of neighbours (places (q, k),
    as ``nearest`` gives them) have in common among all that are in either (Jaccard's distance). 0: the same ones; 1: no one stayed."""
    same = np.array([len(np.intersect1d(b[b >= 0], a[a >= 0])) for b, a in zip(before, after, strict=True)], float)
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
        least = squares * (1 - wrong) - left @ np.column_stack([rows, np.sqrt(squares)]).T
        here = np.broadcast_to(np.arange(start, start + len(rows)), least.shape)
        both, whose = np.concatenate([best, least], axis=1), np.concatenate([places, here], axis=1)
        chosen = np.argpartition(both, kept - 1, axis=1)[:, :kept]
        best, places = np.take_along_axis(both, chosen, axis=1), np.take_along_axis(whose, chosen, axis=1)
    own = np.ones(len(queries)) if metric == "cosine" else lengths**2
    return places, (best.max(axis=1).astype(np.float64) + own * (1 - wrong)) / (2 if metric == "cosine" else 1)


def _in_order(
    query: np.ndarray, read: Read, places: np.ndarray, own: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Some places by their distance from a query (squared, if Euclidean), and these; without the query's own."""
    places = np.sort(places[places != own])
    parts = [places[i : i + ROWS] for i in range(0, len(places), ROWS)]
    far = np.concatenate([_far(query, np.asarray(read(part), np.float64), metric) for part in parts] or [np.zeros(0)])
    order = np.lexsort((places, far))
    return places[order], far[order]


def _far(query: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    if metric == "euclidean":
        return np.square(rows - query).sum(axis=1)
    ones, one = _of_length_one(rows), _of_length_one(query[None])[0]
    # Half the square of the distance between two of length 1; by the difference, which tells apart what is nearly the same.
    lacking = (2 - np.rint(np.square(ones).sum(axis=1)) - round(float(one @ one))) / 2
    return np.square(ones - one).sum(axis=1) / 2 + lacking


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
