"""Opening a trajectory: a recorded file, checkpoints of one training, or the folder that a Trainer fills with them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints import demo
from ks_core.checkpoints.matrices import take, to_floats
from ks_core.errors import CheckpointError, KSLotteryError, TrajectoryError
from ks_core.jobs import bounded
from ks_core.signature import Signature, versions
from ks_core.store import door
from ks_core.study.scan import Scan, Study
from ks_core.trajectory import recording
from ks_core.trajectory.history import MOST_CELLS, Trajectory, carried_on
from ks_core.trajectory.layout import FOLLOWED

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: The step that a checkpoint's name ends with.
_STEP = re.compile(r"(?:checkpoint|step|global_step)[-_]?(\d{1,9})/*$")
#: Checkpoints that are compared at most.
MOST = 500
#: Recordings that are kept in memory as they were read, and the most values of a column of one that is.
KEPT, KEPT_CELLS = 4, 2_000_000
_kept: dict[tuple[Any, ...], Trajectory] = {}
#: ``report(done, total, message)``; what it raises ends the work.
Report = Callable[[int, int, str], None]


def open_trajectory(
    base: str, sources: Sequence[str], report: Report = lambda done, total, message: None
) -> Trajectory:
    """The trajectory that ``sources`` tell: one recorded file, one folder with ``checkpoint-*`` (or a recording) in it, or checkpoints.

    ``base`` is what checkpoints are compared with; for a recording it may be empty, and otherwise has to have its shape. Checkpoints
    go by the step in their names, or by what their Trainer wrote beside them; where one has neither, by the order in which they
    are named.

    Raises ``TrajectoryError`` for what is none, ``AccessError`` for what is not to be opened, and what ``Study.scan`` raises.
    """
    named = [source.strip() for source in sources if source.strip()]
    if not named:
        raise TrajectoryError(
            "No checkpoint is named. Expected checkpoints, a folder with checkpoint-* in it, or a recorded file."
        )
    file = _recording(named)
    if file is not None:
        return _recorded(file, base)
    named = _meant(named)
    if not base:
        raise TrajectoryError("Checkpoints are compared with a base, and none is named. Name it before them.")
    if len(named) > MOST:
        raise TrajectoryError(f"{len(named):,} checkpoints are named. Expected at most {MOST}: leave some out.")
    return _compared(base, named, report)


def is_ready(base: str, sources: Sequence[str]) -> bool:
    """Whether it is opened at once: a recording, or checkpoints that were all tested before. Raises what ``Study`` raises."""
    return _recording(sources) is not None or all(
        Study(base, source).cached_scan() is not None for source in _meant(sources)[:MOST]
    )


def run_trajectory(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``trajectory``: test what was not tested before, so that a page finds it in the cache."""
    found = open_trajectory(
        parameters["base"],
        parameters["sources"],
        lambda done, total, message: running.progress(done, total, message, unit="checkpoints"),
    )
    return {"points": len(found.steps), "rows": len(found.token_ids), "signature": str(found.signature)}


def known(tuned: str) -> str | None:
    """Where the trajectory of a tuned checkpoint lies, if one lies beside it: with the demo's rows, with an arm of Fine-tune, in the folder,
    or its Trainer's ``checkpoint-*`` around it. ``None`` where there is none, or nothing is to be looked at."""
    try:
        if demo.is_name(tuned):
            place = demo.ASSETS / (demo.TUNED if tuned == "demo" else tuned).partition(":")[2]
            return str(place / recording.FILE) if (place / recording.FILE).is_file() else None
        path = Path(tuned).expanduser()
        near = [folder for folder in (path, path.parent) if door.allows(folder)]
        recorded = (folder / recording.FILE for folder in near)
        if found := next((file for file in recorded if door.allows(file) and file.is_file()), None):
            return str(found)
        return next((str(folder) for folder in near if len(_checkpoints_in(folder)) > 1), None)
    except (KSLotteryError, OSError, RuntimeError, ValueError):
        return None


def _recording(sources: Sequence[str]) -> Path | None:
    """The recorded file that is meant, if one is."""
    alone = _path(sources[0].strip()) if len(sources) == 1 else None
    if alone is None:
        return None
    if alone.is_dir() and door.allows(alone / recording.FILE) and (alone / recording.FILE).is_file():
        return alone / recording.FILE
    named_so = alone.suffix == Path(recording.FILE).suffix
    return alone if alone.is_file() and (named_so or recording.is_one(alone)) else None


def _meant(sources: Sequence[str]) -> list[str]:
    """The checkpoints that are meant: those in a folder of a Trainer, or those that are named."""
    alone = _path(sources[0].strip()) if len(sources) == 1 else None
    return (_checkpoints_in(alone) if alone is not None else []) or list(sources)


def _path(source: str) -> Path | None:
    """A source as a path that may be looked at; ``None`` for one that may not, or is none: ``open_checkpoint`` says which."""
    if demo.is_name(source):
        found = known(source)
        return Path(found) if found else None
    try:
        path = Path(source).expanduser()
        return path if door.allows(path) else None
    except (RuntimeError, ValueError):  # ~name, and there is no such user
        return None


def _checkpoints_in(folder: Path) -> list[str]:
    """The checkpoints that a Trainer left in a folder, by step."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.glob("checkpoint-*") if _STEP.search(p.name) and p.is_dir() and door.allows(p)]
    return [str(p) for p in sorted(found, key=lambda p: int(p.name.rpartition("-")[2]))]


def _recorded(path: Path, base: str) -> Trajectory:
    found = _told(path)
    if base:
        shape = Study(base, base).base.shape
        if shape != (found.size, found.dim):
            raise TrajectoryError(
                f"{path} was recorded of an embedding of {found.size:,} x {found.dim:,}; {base} has {shape[0]:,} x {shape[1]:,}. "
                "Name the base that the training began with."
            )
    return found


def _told(path: Path) -> Trajectory:
    """What a recording says. It is kept while its file stays as it is: a page asks for it again at every click."""
    try:
        with door.open_file(path) as file:  # whoever asks has to be allowed to open it, each time
            seen = os.fstat(file.fileno())
    except OSError as error:
        raise TrajectoryError(
            f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from None
    key = (str(path), seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    found = _kept.get(key)
    if found is None:
        found = _made(path)
        gone = [known for known in list(_kept) if known[0] == key[0]] + list(_kept)[: 1 - KEPT]
        for known in gone:  # what the file was before, and the oldest
            _kept.pop(known, None)
        if found.counts.size <= KEPT_CELLS:
            _kept[key] = found
    return found


def _made(path: Path) -> Trajectory:
    facts, records, ends = recording.read(path)
    if not records:
        raise TrajectoryError(f"{path} has no whole record: the training ended before its first. Record it again.")
    notes = []
    if not ends:
        notes.append("The file ends within a record, as when a training is killed: it is read to its last whole one.")
    if any(record.diverged for record in records):
        notes.append("The training diverged: from some step on the loss, or a row, was no number.")
    if facts["tied"]:
        notes.append(
            "Output and input are one matrix here: every row has a gradient from the output in every step, and moves for that as well."
        )
    if facts["began"]:
        notes.append(
            f"The recording begins at step {facts['began']:,}: steps and gradients from before are not counted."
        )
    content = hashlib.sha256()
    for record in records:
        for column in (*record.columns.values(), *record.shifts):
            content.update(column.tobytes())
        content.update(repr((record.losses, record.parts)).encode())
    signature = Signature({
        "trajectory": content.hexdigest()[:12], "rows": facts["rows"], "d": facts["width"], "training": facts["kind"], "points": len(records),
        "test": "ks_2samp two-sided exact", **versions("numpy"),
    })  # fmt: skip
    return carried_on(facts, records, signature, notes)


def _compared(base: str, sources: Sequence[str], report: Report) -> Trajectory:
    """Each checkpoint against the base, from the cache where it was tested before."""
    steps, notes = _steps(sources)
    order = np.argsort(steps, kind="stable")
    ordered = [sources[place] for place in order]
    scans: list[Scan] = []
    for n, source in enumerate(ordered):
        report(n, len(order), f"testing {Path(source).name}")
        scans.append(Study(base, source).scan())
    report(len(order), len(order), "testing")
    ids = scans[0].token_ids
    for scan in scans[1:]:
        ids = np.intersect1d(ids, scan.token_ids)
    if any(len(scan.token_ids) > len(ids) for scan in scans):
        notes.append("Rows that some checkpoint does not have are left out.")
    places = [np.searchsorted(scan.token_ids, ids) for scan in scans]
    moved = np.any([scan.l2[at] > 0 for scan, at in zip(scans, places, strict=True)], axis=0)
    if len(scans) * int(moved.sum()) > MOST_CELLS:
        raise TrajectoryError(
            f"{len(scans)} checkpoints of {int(moved.sum()):,} rows are more than is held at once. Name every other one of them."
        )
    at_start = [] if steps[order[0]] == 0 else [0]

    def column(name: str, start: float) -> np.ndarray:
        found = np.array([getattr(scan, name)[at][moved] for scan, at in zip(scans, places, strict=True)])
        return np.concatenate([np.full((len(at_start), found.shape[1]), start, found.dtype), found])

    signature = Signature({
        "base": scans[0].signature.fields["base"], "checkpoints": hashlib.sha256("".join(str(s.signature) for s in scans).encode()).hexdigest()[:12],
        "points": len(scans), "d": scans[0].dim, "test": "ks_2samp two-sided exact", **versions("numpy"),
    })  # fmt: skip
    return Trajectory(
        steps=np.array([*at_start, *(steps[n] for n in order)], np.int64), token_ids=ids[moved], counts=column("counts", 0),
        l2=column("l2", 0), cosine=column("cosine", 1), dim=scans[0].dim, size=Study(base, base).base.shape[0], signature=signature,
        shifts=_shifts(base, ordered, scans, [steps[n] for n in order], ids[moved]), notes=tuple(notes),
    )  # fmt: skip


def _shifts(
    base: str, sources: Sequence[str], scans: Sequence[Scan], steps: Sequence[int], moved: np.ndarray
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """What ``Trajectory.shifts`` has of checkpoints: the rows of the largest D at the end, at each of them."""
    last = scans[-1]
    first = last.token_ids[last.order()]
    chosen = first[np.isin(first, moved)][:FOLLOWED]
    whole = []
    for source, scan in zip(sources, scans, strict=True):
        study, at = Study(base, source), np.searchsorted(scan.token_ids, chosen)
        after, before = (to_floats(take(side, at), side.dtype) for side in (study.pair.after, study.pair.before))
        whole.append((after - before).astype(np.float16))
    return {int(row): (np.array(steps, np.int64), np.stack([w[n] for w in whole])) for n, row in enumerate(chosen)}


def _steps(sources: Sequence[str]) -> tuple[list[int], list[str]]:
    """The step of each checkpoint, and what is to be said of that. Raises ``TrajectoryError`` for two of one step."""
    found = [_step(source) for source in sources]
    if any(step is None for step in found):
        return list(range(1, len(sources) + 1)), [
            "No step is known of some checkpoint, so they are numbered as they were named."
        ]
    steps = [int(step) for step in found if step is not None]
    twice = next((n for n, step in enumerate(steps) if step in steps[:n]), None)
    if twice is not None:
        raise TrajectoryError(
            f"{sources[steps.index(steps[twice])]} and {sources[twice]} are both of step {steps[twice]:,}. Name one checkpoint for each step."
        )
    return steps, []


def _step(source: str) -> int | None:
    if match := _STEP.search(source):
        return int(match[1])
    try:
        told = bounded.read_json(Path(source).expanduser() / "trainer_state.json", CheckpointError)
        step = told["global_step"]
    except (KSLotteryError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    return step if isinstance(step, int) and 0 <= step < 1 << 31 else None
