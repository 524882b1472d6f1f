"""How the rows of a pair were exposed to training: what a ticket's rules ask for by name (``ks_core.tickets.changed.NEEDS``).

Each function gives the changed rows with what it knows of them, or the reason why it knows nothing, as the end of a sentence.
A training counts as known where it is written down (``ks_core.tuning.trainings``) and began at this very base; a recording of a
training (``ks_core.trajectory``) that lies beside its checkpoint tells the steps and the gradients of each row too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ks_core.errors import KSLotteryError
from ks_core.signature import versions
from ks_core.study.scan import Scan, Study
from ks_core.tickets.changed import NEEDS, Changed
from ks_core.tickets.null import Null
from ks_core.tickets.stability import Run, Stability, beside_noise
from ks_core.trajectory import opening
from ks_core.trajectory.history import Trajectory
from ks_core.tuning import trainings

if TYPE_CHECKING:
    from ks_core.tickets.calibration import Calibration

#: ``report(done, total, message)``; what it raises ends the work.
Report = Callable[[int, int, str], None]
#: Trainings on noise behind the p-values of a ticket: 99 allow p-values down to 0.01.
DRAWS = 99
#: What is said where the training is known and nobody had it done on noise.
NOT_DONE = "no training on noise was done yet"
#: Raised by one whenever the same training on noise could come out differently than before.
VERSION = 1

C = TypeVar("C", bound=Changed)


def training_of(study: Study) -> trainings.Training | None:
    """The training behind the tuned checkpoint, if it began at this study's base."""
    found = trainings.of(study.tuned_source)
    if found is None or (found.base_source != study.base_source and found.base != study.base.content_hash[:12]):
        return None
    return found


def with_training(changed: C, report: Report) -> C | str:
    """The rows with their steps, their counts in the text, and the prompt's words."""
    training = training_of(_study(changed))
    if training is None:
        return NEEDS["training"].about
    met = trainings.seen(training)
    if met is None:
        return f"its text {training.corpus.name} or its base's tokenizer is not here as it was when it was trained"
    return changed.with_training(met.steps, met.counts, met.prompt_ids)


def with_steps(changed: C, report: Report) -> C | str:
    """The rows with their optimizer steps: from the training's notes, or from a recording of it."""
    found = with_training(changed, report)
    if not isinstance(found, str):
        return found
    recorded = _recorded(_study(changed))
    if recorded is None:
        return found
    assert recorded.touched is not None
    return replace(changed, steps=_column(changed, recorded, recorded.touched[-1]))


def with_gradients(changed: C, report: Report) -> C | str:
    """The rows with the gradients that were recorded: ``summed``, the root mean square of a row's gradient times the steps
    that touched it, and ``first``, the same of the first record that has the row, which is of a few steps."""
    recorded = _recorded(_study(changed))
    if recorded is None:
        return NEEDS["gradients"].about
    assert recorded.touched is not None and recorded.gradient is not None
    early = np.argmax(recorded.touched > 0, axis=0)
    first = np.take_along_axis(recorded.gradient, early[None, :], axis=0)[0]
    summed = recorded.gradient[-1].astype(float) * recorded.touched[-1]
    return replace(
        changed, gradients={"summed": _column(changed, recorded, summed), "first": _column(changed, recorded, first)}
    )


def with_null(changed: C, report: Report) -> C | str:
    """The rows with ``DRAWS`` trainings on noise, from the cache or made now and kept."""
    study = _study(changed)
    training = training_of(study)
    if training is None:
        return NEEDS["training"].about
    key = _key(study, training)
    entry = study.cache.load("null", key)
    if entry is not None:
        return replace(changed, null=Null(entry.arrays["token_ids"], entry.arrays["counts"], **entry.note))
    from ks_core.ledger.noise import null  # loads torch, which a kept answer does not need

    touched = trainings.by_step(training)
    if touched is None:
        return f"its text {training.corpus.name} or its base's tokenizer is not here as it was when it was trained"
    try:
        made = null(changed.before, changed.token_ids, touched, training.recipe, draws=DRAWS, report=report)
    except KSLotteryError as error:  # the rows are others than the notes say
        return f"the training on noise cannot be made. {error}"
    small = made.counts.astype(np.uint16 if made.dim < 1 << 16 else np.int32)
    note = {"dim": made.dim, "persistence": made.persistence, "seed": made.seed}
    study.cache.store("null", key, {"token_ids": made.token_ids, "counts": small}, note)
    return replace(changed, null=made)


def is_null_kept(study: Study) -> bool:
    """Whether ``with_null`` answers at once: it was made before, or it cannot be."""
    training = training_of(study)
    return training is None or study.cache.load("null", _key(study, training)) is not None


def beside(
    study: Study, scan: Scan, ticket: np.ndarray, calibrated: Calibration | None, stable: Stability | None
) -> tuple[Calibration | None, Stability | None, str]:
    """What calibration and stability say, with what a training on noise gives where it was done; and why it is not there.

    ``ticket`` are positions in the scan. Nothing is trained here.
    """
    training = training_of(study)
    if training is None or not scan.changed.any():
        return calibrated, stable, NEEDS["training"].about
    found = Changed.of_pair(study, scan).known("null") if is_null_kept(study) else NOT_DONE
    if isinstance(found, str):
        return calibrated, stable, found
    assert found.null is not None
    if calibrated:
        chosen = np.isin(found.token_ids, scan.token_ids[ticket])
        calibrated = calibrated.with_null(found.null, found.statistic, chosen)
    if stable:
        stable = beside_noise(stable, Run.from_scan(training.name, scan, ticket, {}), found.null)
    return calibrated, stable, ""


def _key(study: Study, training: trainings.Training) -> dict[str, Any]:
    return {
        **study.key, "text": training.corpus_hash, "prompt": training.prompt, "recipe": asdict(training.recipe), "draws": DRAWS,
        "null": VERSION, "versions": versions("torch"),
    }  # fmt: skip


def _study(changed: Changed) -> Study:
    assert changed.study is not None  # or nobody would be asked
    return changed.study


def _recorded(study: Study) -> Trajectory | None:
    """The recording that lies beside the tuned checkpoint, if there is one and it is of an embedding of this shape."""
    place = opening.known(study.tuned_source)
    if place is None or not place.endswith(opening.recording.FILE):
        return None
    try:
        found = opening.open_trajectory("", [place])
    except KSLotteryError:  # damaged, or none: what it would have told is not known
        return None
    rows, width = study.base.shape
    return found if found.touched is not None and (found.size, found.dim) == (rows, width) else None


def _column(changed: Changed, recorded: Trajectory, values: np.ndarray) -> np.ndarray:
    """What a recording says of each changed row, float64 (m,); 0 of a row that is not in it."""
    told = dict(zip(recorded.token_ids.tolist(), np.asarray(values, float).tolist(), strict=True))
    return np.array([told.get(int(i), 0.0) for i in changed.token_ids], float)
