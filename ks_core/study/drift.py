"""Drift maps: where the changed rows were, and where they went, in two dimensions.

One projection is fitted on base rows (the changed tokens' and a random sample of the others) together with
the tuned rows of the changed tokens. So a token that did not change is one point and stays where it is; a
changed one has two. Fitting before and after apart, or placing the tuned rows afterwards
(``UMAP.transform``), would throw points across the map that hardly moved.

PCA is linear, so its arrows are shadows of the true shifts. In a UMAP (McInnes, Healy and Melville, 2018) the
length of an arrow is not the drift. ``EXPLANATION`` says so for the page.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints.matrices import Matrix, take, to_floats
from ks_core.errors import SettingsError
from ks_core.signature import Signature, versions
from ks_core.store.shipped import Provenance
from ks_core.study import umap_points
from ks_core.study.scan import Scan, Study

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

METHODS = ("pca", "umap")
#: Raised by one whenever a map of the same study and settings could come out differently than before.
VERSION = {"pca": 2, "umap": 3}
#: UMAP works on this many principal components: it saves most of the time and hardly changes the map.
COMPONENTS = 50

EXPLANATION = {
    "pca": (
        "PCA is linear: an arrow is the true shift, seen from the side that shows the most variance. What it "
        "cannot show is the part of a shift that points elsewhere, so a short arrow need not be a small "
        "shift; the axes say what share of the variance they carry."
    ),
    "umap": (
        "UMAP keeps neighbours together and nothing else. The length of an arrow is not the size of the "
        "shift, and the distance between two clusters means little. Judge a shift by its colour: D, p, or "
        "the distance in the original space."
    ),
}

#: Called with (done, total, message); may raise ``Cancelled``.
Report = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Settings:
    """What decides a map. ``background`` and ``changed`` bound how many tokens are drawn.

    Raises ``SettingsError`` for a value that cannot be.
    """

    method: str = "pca"
    seed: int = 0
    neighbors: int = 15
    min_dist: float = 0.1
    background: int = 6000
    changed: int = 2000

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"{self.method!r} is no projection. Expected one of: {', '.join(METHODS)}.")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed is {self.seed}. Expected 0 to {2**32 - 1}.")
        if not 2 <= self.neighbors <= 200 or not 0 <= self.min_dist < 1:
            raise SettingsError(
                f"neighbors is {self.neighbors} and min_dist {self.min_dist}. Expected 2 to 200, and 0 to below 1."
            )
        if self.background < 0 or self.changed < 0 or self.background + self.changed < 3:
            raise SettingsError(
                f"A map of {self.background} background and {self.changed} changed tokens was asked for. "
                "Expected three or more together, and neither below 0."
            )

    def decisive(self) -> dict[str, Any]:
        """The settings that this method heeds, by name: a PCA has no neighbours."""
        named = asdict(self)
        if self.method == "pca":
            del named["neighbors"], named["min_dist"]
        return named


@dataclass(frozen=True)
class DriftMap:
    """A map. Positions are indices into the scan's arrays, so that its D, p and ids belong to them.

    ``background`` int64 (b,) ascending, ``background_xy`` float32 (b, 2); ``changed`` int64 (c,), the
    largest D first, ``before_xy`` and ``after_xy`` float32 (c, 2). ``explained`` is the share of variance
    of either axis, for PCA, and ``None`` for UMAP. ``seconds`` is what making it took.
    """

    background: np.ndarray
    background_xy: np.ndarray
    changed: np.ndarray
    before_xy: np.ndarray
    after_xy: np.ndarray
    explained: list[float] | None
    seconds: float
    settings: Settings
    signature: Signature
    #: Where it comes from, if it was not made here but came with the program.
    shipped: Provenance | None = None


def cached(study: Study, settings: Settings) -> DriftMap | None:
    """The map when the cache has it; ``None`` otherwise. Nothing is computed."""
    entry = study.cache.load("drift", _key(study, settings))
    if entry is None:
        return None
    fields: dict[str, Any] = {**entry.arrays, **entry.note}
    return DriftMap(**fields, settings=settings, signature=_signature(study, settings), shipped=entry.shipped)


def project(study: Study, scan: Scan, settings: Settings, report: Report = lambda *_: None) -> DriftMap:
    """The map, from the cache or made now and kept.

    ``report(done, total, message)`` is told how far it is and may raise ``Cancelled``; then nothing is
    kept. PCA takes a fraction of a second; UMAP of 8,000 points some 17 seconds on a quiet machine, and is repeatable under its
    seed.
    """
    found = cached(study, settings)
    if found is not None:
        return found
    started = time.perf_counter()
    background, changed = choose(scan, settings)
    before, after = study.pair.before, study.pair.after
    rows = np.concatenate([_rows(before, background), _rows(before, changed), _rows(after, changed)])
    b, c = len(background), len(changed)
    report(0, 1, "principal components")
    rows -= rows[: b + c].mean(axis=0)  # of the base: tuning must not move the origin
    xy, explained = _pca(rows, 2 if settings.method == "pca" else COMPONENTS)
    note: dict[str, Any] = {"explained": explained}
    if settings.method == "umap":
        xy = umap_points.place(xy, report, neighbors=settings.neighbors, min_dist=settings.min_dist, seed=settings.seed)
        note["explained"] = None
    xy = np.ascontiguousarray(xy, np.float32)
    arrays: dict[str, Any] = {
        "background": background,
        "background_xy": xy[:b],
        "changed": changed,
        "before_xy": xy[b : b + c],
        "after_xy": xy[b + c :],
    }
    note["seconds"] = time.perf_counter() - started
    study.cache.store("drift", _key(study, settings), arrays, note)
    report(1, 1, "done")
    return DriftMap(**arrays, **note, settings=settings, signature=_signature(study, settings))


def choose(scan: Scan, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows that a map shows: the background, ascending, and the changed, largest D first.

    The background is a random sample of rows that did not change. Where too few stayed (a dense optimizer
    moves them all), changed rows that are not drawn as such fill it up: a map needs something to stand on.
    """
    order = scan.order()
    changed = order[scan.changed[order]][: settings.changed]
    generator = np.random.default_rng(settings.seed)
    left = np.ones(len(scan.token_ids), bool)
    left[changed] = False
    still, moved = np.nonzero(left & ~scan.changed)[0], np.nonzero(left & scan.changed)[0]
    chosen = generator.choice(still, min(settings.background, len(still)), replace=False)
    more = generator.choice(moved, min(settings.background - len(chosen), len(moved)), replace=False)
    return np.sort(np.concatenate([chosen, more])), changed


def _rows(matrix: Matrix, positions: np.ndarray) -> np.ndarray:
    """Rows of these positions, in their order, float64 (n, d); read in ascending order, as on disk."""
    ascending, back = np.unique(positions, return_inverse=True)
    return to_floats(take(matrix, ascending), matrix.dtype, "float64")[back]


def _pca(rows: np.ndarray, components: int) -> tuple[np.ndarray, list[float]]:
    """Rows (n, d) on their first principal components, and the share of variance of the first two.

    From the d x d second moments, so that n does not matter; rows that are narrower than ``components``
    keep all they have, and a second axis of zeros is added where d is 1. The sign is fixed, so that a map
    does not flip.
    """
    values, vectors = np.linalg.eigh(rows.T @ rows)
    values, chosen = np.maximum(values[::-1], 0.0), vectors[:, ::-1][:, :components]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
    xy = rows @ chosen
    xy = np.pad(xy, ((0, 0), (0, max(0, 2 - xy.shape[1]))))
    total = float(values.sum()) or 1.0
    return xy, [float(v) / total for v in np.pad(values, (0, 1))[:2]]


def _libraries(settings: Settings) -> dict[str, str]:
    more = ("umap-learn", "pynndescent", "numba") if settings.method == "umap" else ()
    return versions("numpy", *more)


def _key(study: Study, settings: Settings) -> dict[str, Any]:
    return {**study.key, **settings.decisive(), "drift": VERSION[settings.method], "versions": _libraries(settings)}


def _signature(study: Study, settings: Settings) -> Signature:
    return study.signature.with_fields(map="drift", **settings.decisive(), **_libraries(settings))


def run_drift(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``drift``: make a map, so that the page finds it in the cache.

    ``parameters``: ``base``, ``tuned``, ``settings`` (the fields of ``Settings``) and, if wanted, ``device``.
    """
    study = Study(parameters["base"], parameters["tuned"], parameters.get("device", "auto"))
    settings = Settings(**parameters["settings"])
    scan = study.scan(lambda done, total: running.progress(done, total, "rows tested", stage="scan"))

    def report(done: float, total: float, message: str) -> None:
        running.progress(done, total, message, stage=message)

    made = project(study, scan, settings, report)
    return {
        "method": settings.method,
        "points": len(made.background) + 2 * len(made.changed),
        "seconds": made.seconds,
        "signature": str(made.signature),
    }
