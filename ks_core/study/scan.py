"""A study: one base, one tuned checkpoint, and the KS test between them.

The study is what pages, the command line and the audit share. It hands out results from the cache
when they are there, computes them when not, and knows the signature that every number carries.

    >>> study = Study("demo:base", "demo:en-fr")
    >>> scan = study.scan()
    >>> int(scan.winners(alpha=0.05).sum())
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import widest
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.pairs import Pair, match
from ks_core.checkpoints.storage import rounding
from ks_core.checkpoints.vocabulary import Vocabulary
from ks_core.errors import SettingsError
from ks_core.signature import Signature, versions
from ks_core.store import access, stopwatch
from ks_core.store.cache import Cache
from ks_core.store.shipped import Provenance

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.jobs.running import Running

log = logging.getLogger(__name__)

#: Raised by one whenever a scan of the same matrices could come out differently than before.
SCAN_VERSION = 1
#: The same for which rows are matched, where the two vocabularies are not one file. Other scans are not made again for it.
MATCHING = 2


def check_alpha(alpha: float) -> float:
    """``alpha`` itself when it is a number inside (0, 1); ``SettingsError`` otherwise."""
    try:
        value = float(alpha)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 < value < 1:
        raise SettingsError(f"alpha is {alpha}. Expected a number above 0 and below 1, such as 0.05.")
    return value


@dataclass(frozen=True)
class Scan:
    """The KS test of every matched row. All arrays are (n,), one entry per row, by base token id.

    ``token_ids`` and ``tuned_ids`` int64; ``counts`` int32 with D = counts / dim; ``pvalue`` float64,
    exact and two-sided; ``l2`` float64, the length of the shift; ``cosine`` float64 between the two rows.
    """

    token_ids: np.ndarray
    tuned_ids: np.ndarray
    counts: np.ndarray
    pvalue: np.ndarray
    l2: np.ndarray
    cosine: np.ndarray
    dim: int
    signature: Signature
    #: Which kernel ran, how long it took, and what a person should know about it.
    device: str
    seconds: float
    note: str = ""
    from_cache: bool = False
    #: Where it comes from, if it was not made here but came with the program.
    shipped: Provenance | None = None

    @property
    def statistic(self) -> np.ndarray:
        """D, float64 (n,)."""
        return self.counts / self.dim

    @property
    def changed(self) -> np.ndarray:
        """Rows that are not the same before and after, bool (n,)."""
        return self.l2 > 0

    def winners(self, alpha: float) -> np.ndarray:
        """Rows with p < alpha, bool (n,)."""
        return self.pvalue < check_alpha(alpha)

    def order(self) -> np.ndarray:
        """Row positions from the largest D to the smallest; equal D by shift, then by id."""
        return np.lexsort((self.token_ids, -self.l2, -self.counts))


class Study:
    """A pair of checkpoints and what is known of it.

    ``base`` and ``tuned`` are sources as ``open_checkpoint`` takes them; an adapter whose own base is not here lies on ``base``.
    Opening happens on first use and raises ``CheckpointError`` or ``PairError``.
    """

    def __init__(self, base: str, tuned: str, device: str = "auto", cache: Cache | None = None) -> None:
        self.base_source, self.tuned_source, self.device = base, tuned, device
        self.cache = cache or Cache()

    @cached_property
    def base(self) -> Checkpoint:
        return open_checkpoint(self.base_source)

    @cached_property
    def tuned(self) -> Checkpoint:
        return open_checkpoint(self.tuned_source, beside=self.base_source)

    @cached_property
    def pair(self) -> Pair:
        return match(self.base, self.tuned)

    @cached_property
    def key(self) -> dict[str, Any]:
        """What decides a scan: the content of both matrices and vocabularies, how they are compared, and the code."""
        vocabularies = [c.vocabulary.content_hash if c.vocabulary else None for c in (self.base, self.tuned)]
        rounded = rounding.described(self.base.matrix, self.tuned.matrix)
        return {
            "base": self.base.content_hash,
            "tuned": self.tuned.content_hash,
            "base_vocabulary": vocabularies[0],
            "tuned_vocabulary": vocabularies[1],
            "version": SCAN_VERSION,
            **({"rounded": rounded} if rounded else {}),
            **({"matching": MATCHING} if vocabularies[0] != vocabularies[1] and all(vocabularies) else {}),
        }

    @property
    def signature(self) -> Signature:
        """The signature of the scan: checkpoints by content, what of them is compared and how, test, versions."""
        pair = self.pair
        return Signature({
            "base": f"{self.base.label}@{self.base.content_hash[:12]}",
            "tuned": f"{self.tuned.label}@{self.tuned.content_hash[:12]}",
            "test": "ks_2samp two-sided exact",
            "d": self.base.shape[1],
            **({"rounded": pair.rounded} if pair.rounded else {}),
            **({"untested": f"{len(pair.base_only)} of base, {len(pair.tuned_only)} of tuned"} if pair.untested else {}),
            **self.tuned.facts,
            **versions("numpy"),
        })  # fmt: skip

    @property
    def alike(self) -> str:
        """What is said of the pair where no row differs, in sentences."""
        if self.tuned.elsewhere:
            return (
                f"{self.tuned.label} changes no embedding row: it tunes {self.tuned.elsewhere} alone, so no token has a shift to show. "
                "What it changes is tested tensor by tensor, by scan --layers and on the page Layers."
            )
        return f"{self.pair.alike}: every D is 0, every p is 1, and the ticket is empty."

    def cached_scan(self) -> Scan | None:
        """The scan when the cache has it; ``None`` otherwise. Nothing is computed."""
        entry = self.cache.load("scan", self.key)
        if entry is None:
            return None
        a, note = entry.arrays, entry.note
        return Scan(
            a["token_ids"],
            a["tuned_ids"],
            a["counts"],
            a["pvalue"],
            a["l2"],
            a["cosine"],
            note["dim"],
            self.signature,
            note["device"],
            note["seconds"],
            note["note"],
            from_cache=True,
            shipped=entry.shipped,
        )

    def scan(self, progress: Callable[[int, int], None] | None = None) -> Scan:
        """The KS test of every matched row, from the cache or computed now and kept.

        ``progress(rows_done, rows)`` is called on the way and may raise ``Cancelled``. A row that holds
        NaN or Inf raises ``CheckpointError`` and nothing is kept.
        """
        if not (self.base.is_hashed and self.tuned.is_hashed):
            self._load_kernel()  # beside the hashing, which comes first
        found = self.cached_scan()
        if found is not None:
            return found
        with stopwatch.part("start and imports"):
            from ks_core.ks.statistic import ks_test

        started = time.perf_counter()
        pair = self.pair
        result = ks_test(pair.before, pair.after, device=self.device, with_shift=True, progress=progress)
        seconds = time.perf_counter() - started
        assert result.l2 is not None and result.cosine is not None  # they were asked for
        arrays: dict[str, Any] = {
            "token_ids": pair.base_ids,
            "tuned_ids": pair.tuned_ids,
            "counts": result.counts,
            "pvalue": result.pvalue,
            "l2": result.l2,
            "cosine": result.cosine,
        }
        note: dict[str, Any] = {
            "dim": result.dim, "device": result.device, "seconds": seconds, "note": result.note or ""
        }  # fmt: skip
        with stopwatch.part("writing"):
            self.cache.store("scan", self.key, arrays, note)
        if not access.read_only():  # of which nothing is kept, and so no word either: visitors write nothing
            log.info("tested %s against %s: %d rows in %.2f s on %s", self.tuned.label, self.base.label,
                     len(pair.base_ids), seconds, result.device)  # fmt: skip
        return Scan(**arrays, **note, signature=self.signature)

    def _load_kernel(self) -> None:
        """Begin to load what will count the rows, in a thread. What goes wrong there the scan will meet itself."""
        before, after = self.pair.before, self.pair.after

        def load() -> None:
            from ks_core.ks.kernels.kernel import fastest, kernel_of

            with contextlib.suppress(Exception):
                kernel_of(fastest(self.device), widest(before.dtype, after.dtype), before.shape[1])

        threading.Thread(target=load, name="kernel").start()

    def token_string(self, token_id: int) -> str:
        """One base token's readable string, without making those of the whole vocabulary."""
        vocabulary = self.base.vocabulary or self.tuned.vocabulary
        if token_id in self._renamed:
            return self._renamed[token_id]
        return vocabulary.readable(token_id) if vocabulary else f"(id {token_id})"

    def token_strings(self) -> list[str] | None:
        """A readable string for every base token id; ``None`` when no tokenizer was found."""
        vocabulary = self.base.vocabulary or self.tuned.vocabulary
        found = vocabulary.readable_list() if vocabulary else None
        if found is None or not self._renamed:
            return found
        found = [*found, *(f"(id {i})" for i in range(len(found), max(self._renamed) + 1))]
        for token_id, string in self._renamed.items():
            found[token_id] = string
        return found

    @cached_property
    def _renamed(self) -> dict[int, str]:
        """Rows that another token has on either side, or one on one side only: id -> what both call it."""
        base, tuned = self.base.vocabulary, self.tuned.vocabulary
        if base is None or tuned is None:
            return {}
        names = {int(i): [v.readable(int(i)) for v in (base, tuned) if _has(v, int(i))] for i in self.pair.placed}
        return {token_id: " → ".join(said) for token_id, said in names.items()}


def _has(vocabulary: Vocabulary, token_id: int) -> bool:
    return token_id < len(vocabulary) and bool(vocabulary.tokens[token_id])


def readable(strings: list[str] | None, token_id: int) -> str:
    """The readable string of an id, and ``(id 7)`` where there is no tokenizer or no such entry."""
    if strings is None or token_id >= len(strings):
        return f"(id {token_id})"
    return strings[token_id]


def table(
    study: Study, scan: Scan, alpha: float, counts: Mapping[int, int] | None = None, most: int | None = None
) -> pd.DataFrame:
    """A row per token, the largest shift first; ``most`` rows where a number is given.

    Columns: ``rank, token_id, token, statistic, pvalue, winner, l2, cosine`` and, where a corpus was
    counted, ``count`` (how often the token occurs in its training text).
    """
    import pandas as pd

    order = scan.order()[:most]
    strings = study.token_strings()
    ids = scan.token_ids[order]
    frame = pd.DataFrame({
        "rank": np.arange(1, len(order) + 1),
        "token_id": ids,
        "token": [readable(strings, int(i)) for i in ids],
        "statistic": scan.statistic[order],
        "pvalue": scan.pvalue[order],
        "winner": scan.winners(alpha)[order],
        "l2": scan.l2[order],
        "cosine": scan.cosine[order],
    })  # fmt: skip
    if counts is not None:
        frame["count"] = [counts.get(int(i), 0) for i in ids]
    return frame


def run_scan(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``scan``: compute what the cache lacks, so that a page finds it there."""
    study = Study(parameters["base"], parameters["tuned"], parameters.get("device", "auto"))
    running.progress(0, 1, "opening the checkpoints")
    rows = len(study.pair.base_ids)
    running.progress(0, rows, "comparing", unit="rows", stage="scan")
    scan = study.scan(lambda done, total: running.progress(done, total, "comparing", unit="rows", stage="scan"))
    return {"rows": rows, "seconds": scan.seconds, "device": scan.device, "signature": str(scan.signature)}
