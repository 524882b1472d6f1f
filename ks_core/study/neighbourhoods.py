"""Neighbourhoods: which tokens stand nearest to a token in the base's space, and which in the tuned one.

A shift says how far a row went, and not whether it went anywhere: among tokens that moved with it, it may have the same
neighbours as before. The tokens whose neighbours were replaced are the farthest movers in meaning.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints.matrices import Matrix, take, to_floats
from ks_core.errors import SettingsError
from ks_core.signature import Signature, versions
from ks_core.store.shipped import Provenance
from ks_core.study import neighbours
from ks_core.study.scan import Scan, Study

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.jobs.running import Running

#: How many neighbours a token has, unless somebody asks for others.
K = 10
#: Of how many changed rows, those of the largest D, the neighbours are found.
MOST = 5000
#: Raised by one whenever the same study could have other neighbourhoods than before.
VERSION = 1


@dataclass(frozen=True)
class Neighbourhoods:
    """The neighbours of the changed rows with the largest D, m of them.

    ``positions`` int64 (m,) in the scan's arrays, the largest D first; ``before`` and ``after`` int64 (m, k) positions of the
    nearest rows in either space, the nearest first (-1: there are not so many), with distances ``before_far`` and ``after_far``
    float64 (m, k); ``change`` float64 (m,): Jaccard's distance of the two lists (``neighbours.change``).
    """

    positions: np.ndarray
    before: np.ndarray
    before_far: np.ndarray
    after: np.ndarray
    after_far: np.ndarray
    metric: str
    seconds: float
    signature: Signature
    #: Where they come from, if they were not found here but came with the program.
    shipped: Provenance | None = None

    @property
    def change(self) -> np.ndarray:
        return neighbours.change(self.before, self.after)

    def by_position(self, rows: int) -> np.ndarray:
        """The change of each of so many rows of a scan, float64 (rows,); NaN where it was not found."""
        found = np.full(rows, np.nan)
        found[self.positions] = self.change
        return found


def cached(study: Study, metric: str = "cosine", k: int = K) -> Neighbourhoods | None:
    """What the cache has of them; ``None`` where it has not. Nothing is computed."""
    entry = study.cache.load("neighbourhoods", _key(study, metric, k))
    if entry is None:
        return None
    fields: dict[str, Any] = {**entry.arrays, **entry.note}
    return Neighbourhoods(**fields, metric=metric, signature=_signature(study, metric, k), shipped=entry.shipped)


def find(
    study: Study, scan: Scan, metric: str = "cosine", k: int = K, report: neighbours.Report = lambda *_: None
) -> Neighbourhoods:
    """The neighbourhoods, from the cache or found now and kept. ``report`` may raise ``Cancelled``; then nothing is kept."""
    found = cached(study, metric, k)
    if found is not None:
        return found
    started = time.perf_counter()
    order = scan.order()
    positions = order[scan.changed[order]][:MOST]
    arrays: dict[str, Any] = {"positions": positions}
    for number, (side, matrix) in enumerate((("before", study.pair.before), ("after", study.pair.after))):

        def told(done: float, total: float, message: str, number: int = number) -> None:
            report(number + done / total, 2, message)

        arrays[side], arrays[f"{side}_far"] = _nearest(matrix, len(scan.token_ids), positions, metric, k, told)
    note = {"seconds": time.perf_counter() - started}
    study.cache.store("neighbourhoods", _key(study, metric, k), arrays, note)
    return Neighbourhoods(**arrays, **note, metric=metric, signature=_signature(study, metric, k))  # type: ignore[arg-type]


def of_token(study: Study, scan: Scan, position: int, metric: str = "cosine", k: int = K) -> pd.DataFrame:
    """The nearest tokens of one token in either space, whichever it is.

    A row per token that is near in one of them, those of the base's space first. Columns: ``position`` in the scan's arrays,
    ``token_id``, ``rank_before`` and ``rank_after`` (from 1; missing where it is not among the k), ``far_before`` and
    ``far_after`` (its distance in either space), ``stays`` (``stayed``, ``left`` or ``came``). Raises ``SettingsError`` for a
    position that there is not.
    """
    import pandas as pd

    rows = len(scan.token_ids)
    if not 0 <= position < rows:
        raise SettingsError(f"Row {position} was asked for, and the pair has {rows:,}. Expected 0 to {rows - 1}.")
    sides, at = (study.pair.before, study.pair.after), np.array([position])
    lists = [[int(i) for i in _nearest(side, rows, at, metric, k)[0][0] if i >= 0] for side in sides]
    near = list(dict.fromkeys(lists[0] + lists[1]))
    far = (
        [neighbours.nearest(_read(side, at), _read(side, np.array(near)), len(near), metric=metric) for side in sides]
        if near
        else []
    )
    distances = [dict(zip((near[i] for i in places[0]), away[0], strict=True)) for places, away in far]
    return pd.DataFrame([
        {
            "position": i, "token_id": int(scan.token_ids[i]),
            "rank_before": lists[0].index(i) + 1 if i in lists[0] else None,
            "rank_after": lists[1].index(i) + 1 if i in lists[1] else None,
            "far_before": distances[0][i], "far_after": distances[1][i],
            "stays": "stayed" if i in lists[0] and i in lists[1] else "left" if i in lists[0] else "came",
        }
        for i in near
    ], columns=["position", "token_id", "rank_before", "rank_after", "far_before", "far_after", "stays"]).astype(
        {"rank_before": "Int64", "rank_after": "Int64"}
    )  # fmt: skip


def run_neighbourhoods(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``neighbourhoods``: find them, so that the page has them in the cache.

    ``parameters``: ``base``, ``tuned`` and, if wanted, ``metric``, ``k`` and ``device``.
    """
    study = Study(parameters["base"], parameters["tuned"], parameters.get("device", "auto"))
    scan = study.scan(lambda done, total: running.progress(done, total, "rows tested", stage="scan"))
    found = find(
        study, scan, parameters.get("metric", "cosine"), int(parameters.get("k", K)),
        lambda done, total, message: running.progress(done, total, message, stage="neighbours"),
    )  # fmt: skip
    return {"rows": len(found.positions), "seconds": found.seconds, "signature": str(found.signature)}


def _nearest(
    matrix: Matrix, rows: int, positions: np.ndarray, metric: str, k: int, report: neighbours.Report = lambda *_: None
) -> tuple[np.ndarray, np.ndarray]:
    def read(places: np.ndarray) -> np.ndarray:
        return _read(matrix, places)

    return neighbours.nearest(_read(matrix, positions), read, k, many=rows, metric=metric, own=positions, report=report)


def _read(matrix: Matrix, positions: np.ndarray) -> np.ndarray:
    """Rows of these positions, in their order, float32 (n, d); read in ascending order, as on disk."""
    ascending, back = np.unique(positions, return_inverse=True)
    return to_floats(take(matrix, ascending), matrix.dtype, "float32")[back]


def _key(study: Study, metric: str, k: int) -> dict[str, Any]:
    return {**study.key, "metric": metric, "k": k, "most": MOST, "neighbourhoods": VERSION}


def _signature(study: Study, metric: str, k: int) -> Signature:
    return study.signature.with_fields(neighbours=k, metric=metric, **versions("numpy"))
