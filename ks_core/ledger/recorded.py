"""What a recording of a training (``ks_core.trajectory``) tells a training on noise: which rows were touched when, and by what optimizer.

A recording says of each row how many steps had touched it by each of its points, and not which steps these were. So between two points
that many steps are drawn, the same in every draw of noise; with a record every tenth step a row is met at most nine steps early or late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ks_core.errors import KSLotteryError
from ks_core.study.scan import Study
from ks_core.trajectory import opening
from ks_core.trajectory.history import Trajectory
from ks_core.tuning.recipes import SCHEDULES, Recipe

#: The optimizers of which noise can be made, by the name of their class.
OPTIMIZERS = {"RowwiseAdam": "rowwise_adam", "AdamPerRow": "adam_per_row", "Adam": "adam", "AdamW": "adam"}
#: Values that one draw may move: rows touched, times their width. Of the demo's training it is 18 million, half a second.
MOST_VALUES = 400_000_000


def recording_of(study: Study) -> Trajectory | None:
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


def point_of(recorded: Trajectory, token_ids: np.ndarray, counts: np.ndarray) -> int | None:
    """The point of a recording at which its rows are those of a pair, the last one of such; ``None`` where there is none.

    ``token_ids`` int64 (m,) are the changed rows of the pair, ``counts`` int (m,) its D in whole steps of 1 / d. A recording has to the
    bit what a scan has, so any row that differs shows that it is of another checkpoint, or began elsewhere.
    """
    own = dict(zip(token_ids.tolist(), np.asarray(counts).tolist(), strict=True))
    wanted = np.array([own.pop(int(i), 0) for i in recorded.token_ids])
    if any(own.values()):  # rows moved that it has not
        return None
    same = np.flatnonzero((recorded.counts == wanted).all(axis=1))
    return int(same[-1]) if len(same) else None


def recipe_of(recorded: Trajectory, point: int) -> Recipe | str:
    """The training up to a point as a recipe, or why none can be told, as the end of a sentence."""
    about: Mapping[str, Any] = recorded.about
    name, schedule = str(about.get("optimizer", "")), str(about.get("schedule", ""))
    if name not in OPTIMIZERS:
        return f"noise cannot be put through its optimizer, {name or 'of which the recording says nothing'}"
    if schedule not in SCHEDULES:
        return f"noise cannot follow its schedule, {schedule or 'of which the recording says nothing'}"
    if about.get("weight_decay"):
        return f"it had a weight decay of {about['weight_decay']}, which moves rows without a gradient"
    beta1, beta2 = about.get("betas") or (0.9, 0.999)
    try:
        steps = max(int(about["steps"]), int(recorded.steps[point]))
        return Recipe(
            steps, learning_rate=float(about["learning_rate"]), optimizer=OPTIMIZERS[name], schedule=schedule, beta1=float(beta1),
            beta2=float(beta2), warmup=int(about.get("warmup", 0)),
        )  # fmt: skip
    except (KSLotteryError, KeyError, TypeError, ValueError):
        return "the recording does not say how the rows were stepped"


def touches(recorded: Trajectory, point: int, seed: int = 0) -> list[list[int]] | str:
    """Token ids of each step up to a point, ascending; or why they cannot be told, as the end of a sentence."""
    assert recorded.touched is not None
    if recorded.steps[0] != 0:
        return "its recording began in the middle of the training"
    total = int(recorded.touched[point].sum()) * recorded.dim
    if total > MOST_VALUES:
        return (
            f"so many rows were touched so often ({total:,} values) that one training on noise alone would take long; "
            f"at most {MOST_VALUES:,} are tried"
        )
    drawn, found = np.random.default_rng([1_000_033, seed]), []
    for n in range(point):
        span = int(recorded.steps[n + 1] - recorded.steps[n])
        more = recorded.touched[n + 1] - recorded.touched[n]
        if (more < 0).any() or (more > span).any():
            return "the steps in its recording do not go together"
        met = np.flatnonzero(more)
        turn = drawn.random((len(met), span)).argsort(axis=1).argsort(axis=1)  # each row's steps in a random order
        hit = turn < more[met, None]
        found += [recorded.token_ids[met[column]].tolist() for column in hit.T]
    return found
