"""Points of a UMAP: rows placed in two dimensions, with exact neighbours, progress by epochs, and little compiled anew."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ks_core.errors import SettingsError
from ks_core.study import neighbours


def place(
    rows: np.ndarray, report: Callable[[float, float, str], None], *, neighbors: int, min_dist: float, seed: int
) -> np.ndarray:
    """UMAP of rows (n, k) float64: (n, 2) float32. One thread and a fixed seed, because only that is repeatable.

    ``neighbors``, ``min_dist`` and ``seed`` as umap-learn has them; ``report(done, total, message)`` may raise ``Cancelled``.
    Raises ``SettingsError`` for fewer than five rows.
    """
    if len(rows) < 5:
        raise SettingsError(f"A UMAP needs 5 points or more, and here are {len(rows)}. Choose PCA instead.")
    rows = rows.astype(np.float32)
    many = min(neighbors, len(rows) - 1)
    # Exact ones: UMAP's own search is approximate above 4,096 points, and compiling it takes longer than this does.
    own = np.arange(len(rows))
    near, far = neighbours.nearest(rows, rows, many - 1, own=own, report=report)
    known = (np.column_stack([own, near]), np.column_stack([np.zeros(len(rows)), far]).astype(np.float32), None)
    report(0, 1, "loading UMAP")
    import numba
    import tqdm

    _without_search()
    import umap
    import umap.layouts

    class Epochs(tqdm.tqdm):
        """UMAP reports its epochs to a tqdm bar and to nothing else; this one passes them on."""

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            report(self.n, self.total or 1, "placing the points (epochs)")
            return shown

    report(0, 1, "preparing the map (its first points)")
    _keep_compiled(umap.umap_, umap.layouts, umap.utils, umap.spectral)
    plain, threads = umap.layouts.tqdm, numba.get_num_threads()
    umap.layouts.tqdm = Epochs
    try:
        model = umap.UMAP(
            n_neighbors=many,
            precomputed_knn=known,
            min_dist=min_dist,
            random_state=seed,
            n_jobs=1,
            # Every epoch, not every tenth of a second: a small map would be done before it could be stopped.
            tqdm_kwds={"disable": False, "file": io.StringIO(), "miniters": 1, "mininterval": 0},
        )
        with warnings.catch_warnings():
            # No other point is placed on the map later, which is what an index of UMAP's own would be for.
            warnings.filterwarnings("ignore", message="precomputed_knn")
            return model.fit_transform(rows)
    finally:
        umap.layouts.tqdm = plain
        numba.set_num_threads(threads)  # a fit that is cancelled leaves one


def _without_search() -> None:
    """Import the library that UMAP searches neighbours with, but compile nothing of it: the neighbours are known. It compiles over a
    hundred functions as it is imported, which took 19 of the 35 seconds of a machine's first map."""
    import numba

    settings: Any = numba.config
    disabled, settings.DISABLE_JIT = settings.DISABLE_JIT, 1
    try:
        import pynndescent  # noqa: F401
    finally:
        settings.DISABLE_JIT = disabled


def _keep_compiled(*modules: Any) -> None:
    """Have numba keep what it compiles of these modules, as it does where a library asks for it: the next process need not.

    Not what is compiled for several threads: numba keeps a function under its name, and UMAP has the same one both ways.
    """
    from numba.core.caching import NullCache
    from numba.core.dispatcher import Dispatcher

    for module in modules:
        for found in vars(module).values():
            if (
                isinstance(found, Dispatcher)
                and isinstance(getattr(found, "_cache", None), NullCache)
                and not found.targetoptions.get("parallel")
            ):
                with contextlib.suppress(RuntimeError):  # no folder that can be written to
                    found.enable_caching()
