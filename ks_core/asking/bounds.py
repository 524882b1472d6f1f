"""What asking takes of a machine, before anything is loaded: whether the models fit, in which precision, and what they may take.

Weights, the rows over them, what is kept of each token that was read (by three who answer at once), and the libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

from ks_core.asking.question import MOST_NEW, MOST_PROMPT, VOICES
from ks_core.errors import KSLotteryError, ModelError
from ks_core.jobs import devices
from ks_core.jobs.resources import PRECISIONS, Resources
from ks_core.ledger.changed_rows import is_all
from ks_core.study.scan import Scan, Study
from ks_core.tuning import memory, runnable

#: Of the memory that is free now, how much the process may take; the rest is the server's, and everybody else's.
SHARE = 0.8


@dataclass(frozen=True)
class Bounds:
    """``memory`` bytes that a process with the models may take, in ``precision``. ``own``: the tuned checkpoint is loaded beside
    the base, as it changes more than rows; ``lacking``: why it is not, where it had to be."""

    memory: int
    precision: str = "float32"
    own: bool = False
    lacking: str = ""


def bounds_of(study: Study, scan: Scan, free: int | None = None) -> Bounds:
    """What the pair takes, in float32 where that fits and else in bfloat16; without the tuned checkpoint where both do not fit.

    ``free`` are the bytes of memory that are free, asked for when not given. Raises ``ModelError`` where not even the base fits,
    and what ``runnable.check`` raises for a base that writes no text.
    """
    runnable.check(study.base_source)
    free = devices.free_memory() if free is None else free
    own, lacking = not is_all(study), ""
    if own:
        try:
            runnable.check(study.base_source, study.tuned_source)
        except KSLotteryError as error:
            own, lacking = False, str(error)
    shape = memory.shape_of(study.base_source)
    if shape is None:  # GGUF, or a config.json that does not say: the system ends what takes too much
        return Bounds(int(free * SHARE), own=own, lacking=lacking)
    rows = int(scan.changed.sum())
    taken = {
        (precision, second): need(shape, precision, rows, second)
        for second in ((True, False) if own else (False,))
        for precision in PRECISIONS
    }
    for (precision, second), needed in taken.items():
        if needed <= free * SHARE:
            if own and not second:
                lacking = (
                    f"{study.tuned.label} changes more than embedding rows, so it would be loaded beside the base. Both take about "
                    f"{taken['bfloat16', True] / 1e9:,.1f} GB in bfloat16, and {free / 1e9:,.1f} GB are free."
                )
            # Twice: what is read from files is there a second time for a moment.
            return Bounds(int(min(2 * needed, free * SHARE)), precision, second, lacking)
    raise ModelError(
        f"{study.base.label} takes about {min(taken.values()) / 1e9:,.1f} GB to be asked, and {free / 1e9:,.1f} GB of memory are free. "
        "Close other programs, or ask on a machine with more memory."
    )


def need(shape: memory.Shape, precision: str, rows: int, second: bool) -> int:
    """Bytes that asking takes: a model, or two (``second``), ``rows`` over it, and what is kept of the longest question."""
    size = PRECISIONS[precision]
    weights = memory.need(shape, Resources(precision=precision), memory.Work(second=second)).weights
    tokens = len(VOICES) * (MOST_PROMPT + MOST_NEW)
    kept = tokens * size * (shape.layers * 2 * shape.kv_heads * shape.head + 8 * shape.hidden + 3 * shape.intermediate)
    logits = 2 * 4 * MOST_NEW * shape.vocabulary
    return int(weights + 8.0 * rows * shape.hidden + kept + logits + memory.OVERHEAD)
