"""Drift maps: where the changed rows were, and where they went, in two dimensions.

One projection is fitted on base rows (the changed tokens' and a random sample of the others) together with
the tuned rows of the changed tokens. So a token that did not change is one point and stays where it is; a
changed one has two. Fitting before and after apart, or placing the tuned rows afterwards
(``UMAP.transform``), would throw points across the map that hardly moved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.errors import SettingsError
from ks_core.matrices import take, to_floats
from ks_core.signature import Signature, versions
from ks_core.study import Scan, Study

if TYPE_CHECKING:
    from ks_core.jobs import Running

METHODS = ("pca", "umap")
VERSION = 1
#: UMAP works on this many principal components: it saves most of the time and hardly changes the map.
COMPONENTS = 50

EXPLANATION = {
    "pca": "PCA is linear: an arrow is the true shift, seen from the side that shows the most variance. What it "
           "cannot show is the part of a shift that points elsewhere, so a short arrow need not be a small shift.",
    "umap": "UMAP keeps neighbours together and nothing else. The length of an arrow is not the size of the shift, "
            "and the distance between two clusters means little. Judge a shift by its colour: D, p, or the distance "
            "in the original space.",
}  # fmt: skip

Report = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Settings:
    """What decides a map. ``background`` and ``changed`` bound how many tokens are drawn."""

    method: str = "pca"
    seed: int = 0
    neighbors: int = 15
    min_dist: float = 0.1
    background: int = 6000
    changed: int = 2000

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"{self.method!r} is no projection. Expected one of: {', '.join(METHODS)}.")
        if not 2 <= self.neighbors <= 200 or not 0 <= self.min_dist < 1:
            raise SettingsError(
                f"neighbors is {self.neighbors} and min_dist {self.min_dist}. Expected 2 to 200, and 0 to below 1."
            )
        if self.background < 0 or self.changed < 0 or self.background + self.changed < 3:
            raise SettingsError("A map needs at least three tokens.")


@dataclass(frozen=True)
class DriftMap:
    """A map. Positions are indices into the scan's arrays, so that its D, p and ids belong to them.

    ``background`` int64 (b,), ``background_xy`` float32 (b, 2); ``changed`` int64 (c,), the largest D
    first, ``before_xy`` and ``after_xy`` float32 (c, 2). ``explained`` is the share of variance of either
    axis, for PCA.
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


def cached(study: Study, settings: Settings) -> DriftMap | None:
    """The map when the cache has it."""
    entry = study.cache.load("drift", _key(study, settings))
    if entry is None:
        return None
    known: dict[str, Any] = {**entry.arrays, **entry.note}
    return DriftMap(**known, settings=settings, signature=_signature(study, settings))


def project(study: Study, scan: Scan, settings: Settings, report: Report = lambda *_: None) -> DriftMap:
    """The map, from the cache or made now and kept.

    ``report(done, total, message)`` is told how far it is and may raise ``Cancelled``. PCA takes a
    fraction of a second; UMAP half a minute to minutes on two cores, and is repeatable under its seed.
    """
    found = cached(study, settings)
    if found is not None:
        return found
    started = time.perf_counter()
    order = scan.order()
    changed = order[scan.changed[order]][: settings.changed]
    still = np.nonzero(~scan.changed)[0]
    generator = np.random.default_rng(settings.seed)
    background = np.sort(generator.choice(still, min(settings.background, len(still)), replace=False))
    before, after = study.pair.before, study.pair.after
    sorter = np.argsort(changed)  # rows are read in ascending order, which is how they lie on disk
    back = np.argsort(sorter)
    rows = np.concatenate([
        to_floats(take(before, background), before.dtype),
        to_floats(take(before, changed[sorter]), before.dtype)[back],
        to_floats(take(after, changed[sorter]), after.dtype)[back],
    ]).astype(np.float64)  # fmt: skip
    report(0, 1, "principal components")
    mean = rows[: len(background) + len(changed)].mean(axis=0)  # of the base: tuning must not move the origin
    xy, explained = _pca(rows - mean, 2 if settings.method == "pca" else min(COMPONENTS, rows.shape[1]))
    if settings.method == "umap":
        xy, explained = _umap(xy, settings, report), None
    xy = np.ascontiguousarray(xy, np.float32)
    b, c = len(background), len(changed)
    arrays = {
        "background": background,
        "background_xy": xy[:b],
        "changed": changed,
        "before_xy": xy[b : b + c],
        "after_xy": xy[b + c :],
    }
    note: dict[str, Any] = {"explained": explained, "seconds": time.perf_counter() - started}
    study.cache.store("drift", _key(study, settings), arrays, note)
    report(1, 1, "done")
    return DriftMap(**arrays, **note, settings=settings, signature=_signature(study, settings))


def _pca(rows: np.ndarray, components: int) -> tuple[np.ndarray, list[float] | None]:
    """Rows on their first principal components; the sign is fixed, so that a map does not flip."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    chosen = vectors[:, ::-1][:, :components]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
    xy = rows @ chosen
    if xy.shape[1] < 2:
        xy = np.pad(xy, ((0, 0), (0, 2 - xy.shape[1])))
    total = float(values.sum()) or 1.0
    return xy, [float(v) / total for v in values[::-1][:2]]


def _umap(rows: np.ndarray, settings: Settings, report: Report) -> np.ndarray:
    report(0, 1, "loading UMAP (up to 20 s)")
    import tqdm
    import umap
    import umap.layouts

    class Bar(tqdm.tqdm):
        """UMAP reports its epochs to a tqdm bar and to nothing else; this one passes them on."""

        def update(self, n: float | None = 1) -> bool | None:
            done = super().update(n)
            report(self.n, self.total or 1, "placing the points (epochs)")
            return done

    report(0, 1, "finding neighbours")
    plain = umap.layouts.tqdm
    umap.layouts.tqdm = Bar
    try:
        with open(os.devnull, "w") as nowhere:
            model = umap.UMAP(
                n_neighbors=min(settings.neighbors, len(rows) - 1),
                min_dist=settings.min_dist,
                random_state=settings.seed,
                n_jobs=1,
                tqdm_kwds={"disable": False, "file": nowhere, "mininterval": 0.2},
            )
            return model.fit_transform(rows.astype(np.float32))
    finally:
        umap.layouts.tqdm = plain


def _key(study: Study, settings: Settings) -> dict[str, Any]:
    libraries = versions("numpy", "umap-learn") if settings.method == "umap" else versions("numpy")
    return {**study.key, **asdict(settings), "drift": VERSION, "versions": libraries}


def _signature(study: Study, settings: Settings) -> Signature:
    named = asdict(settings)
    if settings.method == "pca":
        del named["neighbors"], named["min_dist"]
    return study.signature.with_fields(map="drift", **named, **versions("umap-learn"))


def run_drift(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``drift``: make a map, so that the page finds it in the cache."""
    study = Study(parameters["base"], parameters["tuned"], parameters.get("device", "auto"))
    settings = Settings(**parameters["settings"])
    scan = study.scan(lambda done, total: running.progress(done, total, "rows tested", stage="scan"))
    made = project(
        study,
        scan,
        settings,
        lambda done, total, message: running.progress(done, total, message, stage=message),
    )
    return {"points": len(made.background) + 2 * len(made.changed), "seconds": made.seconds}
