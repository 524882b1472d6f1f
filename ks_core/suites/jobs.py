"""The jobs ``suite``, all runs of a suite and their table, and ``suite-run``, one of them: a task of an array."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core.checkpoints import demo
from ks_core.errors import CorpusError, ModelError, SettingsError, TicketError
from ks_core.jobs import processes, world
from ks_core.signature import versions
from ks_core.suites import kept, tables
from ks_core.suites.cell import Done
from ks_core.suites.suite import Run, Suite
from ks_core.tuning import estimates, runs

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: The share of an arm's time that its training takes, about; the rest is scoring.
TRAINING = 0.7


@dataclass
class Far:
    """How far a suite is, in arms: told to its job by all of its runs together, so that there is one progress and one time left."""

    running: Running
    total: int
    done: int = 0
    label: str = ""
    place: int = 0
    reached: float = 0.0

    def report(self, done: float, total: float, message: str = "", *, unit: str = "", stage: str = "") -> None:
        """What a run tells of one of its stages. Raises ``Cancelled`` when the job is to stop."""
        share = TRAINING * done / total if total and stage.endswith("training") else 0.0
        said = f"{self.label}: {message}" if message else self.label
        self.reached = max(self.reached, self.done + share)  # scoring, which follows training, begins at 0 again
        self.running.progress(self.reached, self.total, said, unit="arms", stage="suite")

    def event(self, **fields: Any) -> None:
        """What happened in a run, with its place in the suite; a finished arm is counted."""
        self.running.event(run=self.place, **fields)
        self.done += bool(fields.get("finished"))


def run_suite(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``suite``: every run that is not kept, one after the other, then the table of all.

    A run that fails is left out with its reason, and the others go on. Raises ``ModelError`` where all of them failed.
    """
    suite = Suite.from_dict(parameters)
    demo.prepare_for((suite.base,), running)
    far = Far(running, sum(len(run.plan.arms) for run in suite.runs))
    found: dict[int, Done] = {}
    left: dict[int, str] = {}
    for run in suite.runs:
        try:
            found[run.number] = _carried_out(run, far)
        except (ModelError, TicketError, CorpusError, SettingsError) as error:
            left[run.number] = str(error)
        far.done = sum(len(one.plan.arms) for one in suite.runs[: run.number + 1])
    if not found:
        raise ModelError(f"No run of the suite was carried out. {suite.runs[0].label}: {left[0]}")
    far.label = "the table"
    far.report(1, 1)
    return {
        "suite": suite.name,
        "rows": tables.rows(suite, found) if world.is_main() else [],
        "left": tables.left_out(suite, found) | {suite.runs[number].label: why for number, why in left.items()},
        "runs": [
            {"label": suite.runs[n].label, "key": done.folder.name, "seconds": done.seconds}
            for n, done in found.items()
        ],
        "notes": list(dict.fromkeys(note for done in found.values() for note in done.summary["notes"])),
        "signature": str(
            tables.signature(suite, found).with_fields(**versions("torch", "transformers", "peft", "sacrebleu"))
        ),
    }


def run_one(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``suite-run``, a task of an array: the run of a suite with this ``number``."""
    suite = Suite.from_dict({name: value for name, value in parameters.items() if name not in ("number", "run")})
    demo.prepare_for((suite.base,), running)
    run = suite.runs[parameters["number"]]
    done = _carried_out(run, Far(running, len(run.plan.arms)))
    return {"error": "; ".join(arm["error"] for arm in done.summary["arms"] if arm["error"])}


def parts_of(parameters: dict[str, Any]) -> dict[int, tuple[str, str, dict[str, Any]]]:
    """A suite as an array: its runs by number, each as (name, kind of job, parameters). Empty for fewer than two."""
    suite = Suite.from_dict(parameters)
    if len(suite.runs) < 2:
        return {}
    return {run.number: (run.label, "suite-run", {**parameters, "number": run.number}) for run in suite.runs}


def _carried_out(run: Run, far: Far) -> Done:
    """A run that is kept, or one that is carried out now, in the folder of its key."""
    far.label, far.place = run.label, run.number
    far.report(0, 1, "looking for it")
    corpus = run.plan.corpus.load()
    folder = kept.folder_of(world.agree(kept.key_of(run.plan, corpus)))
    with _alone(folder):
        summary = world.agree(kept.finished(folder))
        if summary is None:
            if world.is_main():  # one of which an arm failed is none
                (folder / "summary.json").unlink(missing_ok=True)
            summary = runs.run(run.plan, folder, far.report, event=far.event, should_stop=far.running.should_stop)
            if world.is_main():
                estimates.learn(run.plan, summary, far.running.allocation)
    return Done(run, summary, folder, corpus)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a run's folder, so that two jobs with the same run do it once: the second waits and finds it. Of several processes of a job
    the first holds it, and the others wait for what that one says."""
    if not world.is_main():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with processes.locked(folder / ".lock"):
        yield
