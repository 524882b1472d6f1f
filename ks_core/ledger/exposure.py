"""How the rows of a pair were exposed to training: what a ticket's rules ask for by name (``ks_core.tickets.changed.NEEDS``).

Each function gives the changed rows with what it knows of them, or the reason why it knows nothing, as the end of a sentence.
A training counts as known where it is written down (``ks_core.tuning.trainings``) and began at this very base; a recording of a
training (``ks_core.trajectory``) that lies beside its checkpoint tells the steps and the gradients of each row too, and what noise needs
(``recorded``). It counts where one of its points has the D of every row of the pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np

from ks_core.errors import KSLotteryError
from ks_core.ledger import recorded
from ks_core.signature import versions
from ks_core.store import shelf
from ks_core.study.scan import Scan, Study
from ks_core.tickets.calibration import Calibration
from ks_core.tickets.changed import NEEDS, Changed
from ks_core.tickets.null import Null
from ks_core.tickets.stability import Run, Stability, beside_noise
from ks_core.trajectory.history import Trajectory
from ks_core.tuning import trainings
from ks_core.tuning.recipes import Recipe

#: ``report(done, total, message)``; what it raises ends the work.
Report = Callable[[int, int, str], None]
#: Trainings on noise behind the p-values of a ticket: 99 allow p-values down to 0.01.
DRAWS = 99
#: What is said where the training is known and nobody had it done on noise.
NOT_DONE = "no training on noise was done yet"
#: Raised by one whenever the same training on noise could come out differently than before.
VERSION = 1

C = TypeVar("C", bound=Changed)


@dataclass(frozen=True)
class Exposure:
    """What a training on noise needs of a real one: its ``name``, its ``recipe``, what tells it from others in a cache, and a function that
    gives the token ids that each step touched, or why it cannot, as the end of a sentence."""

    name: str
    recipe: Recipe
    key: dict[str, Any]
    steps: Callable[[], list[list[int]] | str]


def exposure_of(study: Study, scan: Scan) -> Exposure | str:
    """How the rows of a pair were exposed: from the training's notes, else from a recording of it; else why nobody knows, as the end
    of a sentence."""
    training = training_of(study)
    if training is not None:

        def rebuilt() -> list[list[int]] | str:
            return trainings.by_step(training) or _gone(training)

        key = {"text": training.corpus_hash, "prompt": training.prompt, "recipe": training.recipe.as_dict()}
        return Exposure(training.name, training.recipe, key, rebuilt)
    found = recorded.recording_of(study)
    if found is None:
        return NEEDS["training"].about
    moved = scan.changed
    point = recorded.point_of(found, scan.token_ids[moved], np.rint(scan.statistic[moved] * scan.dim).astype(np.int64))
    if point is None:
        return "the recording beside it has no point with the D of these rows, so it is of another checkpoint"
    recipe = recorded.recipe_of(found, point)
    if isinstance(recipe, str):
        return recipe
    assert found.touched is not None
    told = blake2b(found.touched[: point + 1].tobytes() + found.steps[: point + 1].tobytes(), digest_size=16)
    key = {"recording": told.hexdigest(), "recipe": recipe.as_dict()}
    return Exposure("its recording", recipe, key, lambda: recorded.touches(found, point))


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
        return _gone(training)
    return changed.with_training(met.steps, met.counts, met.prompt_ids)


def with_steps(changed: C, report: Report) -> C | str:
    """The rows with their optimizer steps: from the training's notes, or from a recording of it."""
    found = with_training(changed, report)
    if not isinstance(found, str):
        return found
    told = _told(changed)
    if told is None:
        return found
    recording, point = told
    assert recording.touched is not None
    return replace(changed, steps=_column(changed, recording, recording.touched[point]))


def with_gradients(changed: C, report: Report) -> C | str:
    """The rows with the gradients that were recorded: ``summed``, the root mean square of a row's gradient times the steps
    that touched it, and ``first``, the same of the first record that has the row, which is of a few steps."""
    told = _told(changed)
    if told is None:
        return NEEDS["gradients"].about
    recording, point = told
    assert recording.touched is not None and recording.gradient is not None
    early = np.argmax(recording.touched > 0, axis=0)
    first = np.take_along_axis(recording.gradient, early[None, :], axis=0)[0]
    summed = recording.gradient[point].astype(float) * recording.touched[point]
    return replace(
        changed, gradients={"summed": _column(changed, recording, summed), "first": _column(changed, recording, first)}
    )


def with_null(changed: C, report: Report) -> C | str:
    """The rows with ``DRAWS`` trainings on noise, from the cache or made now and kept."""
    study = _study(changed)
    found = exposure_of(study, study.scan())
    if isinstance(found, str):
        return found
    key = _key(study, found)
    entry = study.cache.load("null", key)
    if entry is not None:
        return replace(changed, null=Null(entry.arrays["token_ids"], entry.arrays["counts"], **entry.note))
    from ks_core.ledger.noise import null  # loads torch, which a kept answer does not need

    touched = found.steps()
    if isinstance(touched, str):
        return touched
    try:
        made = null(changed.before, changed.token_ids, touched, found.recipe, draws=DRAWS, report=report)
    except KSLotteryError as error:  # the rows are others than the notes say
        return f"the training on noise cannot be made. {error}"
    small = made.counts.astype(np.uint16 if made.dim < 1 << 16 else np.int32)
    note = {"dim": made.dim, "persistence": made.persistence, "seed": made.seed}
    study.cache.store("null", key, {"token_ids": made.token_ids, "counts": small}, note)
    return replace(changed, null=made)


def is_null_kept(study: Study) -> bool:
    """Whether ``with_null`` answers at once: it was made before, or it cannot be."""
    scan = study.cached_scan()
    if scan is None:
        return False
    found = exposure_of(study, scan)
    return isinstance(found, str) or study.cache.load("null", _key(study, found)) is not None


def beside(
    study: Study, scan: Scan, ticket: np.ndarray, calibrated: Calibration | None, stable: Stability | None
) -> tuple[Calibration | None, Stability | None, str]:
    """What calibration and stability say, with what a training on noise gives where it was done; and why it is not there.

    ``ticket`` are positions in the scan. Nothing is trained here.
    """
    known = exposure_of(study, scan) if scan.changed.any() else NEEDS["training"].about
    if isinstance(known, str):
        return calibrated, stable, known
    found = Changed.of_pair(study, scan).known("null") if is_null_kept(study) else NOT_DONE
    if isinstance(found, str):
        return calibrated, stable, found
    assert found.null is not None
    if calibrated:
        chosen = np.isin(found.token_ids, scan.token_ids[ticket])
        calibrated = shelf.kept(Calibration.with_null, calibrated, found.null, found.statistic, chosen)
    if stable:
        stable = shelf.kept(beside_noise, stable, Run.from_scan(known.name, scan, ticket, {}), found.null)
    return calibrated, stable, ""


def _key(study: Study, found: Exposure) -> dict[str, Any]:
    return {**study.key, **found.key, "draws": DRAWS, "null": VERSION, "versions": versions("torch")}


def _gone(training: trainings.Training) -> str:
    return f"its text {training.corpus.name} or its base's tokenizer is not here as it was when it was trained"


def _study(changed: Changed) -> Study:
    assert changed.study is not None  # or nobody would be asked
    return changed.study


def _told(changed: Changed) -> tuple[Trajectory, int] | None:
    """The recording beside the tuned checkpoint and its point at which the rows are these, if there is one."""
    study = _study(changed)
    found = recorded.recording_of(study)
    if found is None:
        return None
    counts = np.rint(changed.statistic * study.base.shape[1]).astype(np.int64)
    point = recorded.point_of(found, changed.token_ids, counts)
    return None if point is None else (found, point)


def _column(changed: Changed, recording: Trajectory, values: np.ndarray) -> np.ndarray:
    """What a recording says of each changed row, float64 (m,); 0 of a row that is not in it."""
    told = dict(zip(recording.token_ids.tolist(), np.asarray(values, float).tolist(), strict=True))
    return np.array([told.get(int(i), 0.0) for i in changed.token_ids], float)
