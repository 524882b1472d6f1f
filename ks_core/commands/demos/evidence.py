"""What comes with the program of the demo's results: makes what of it the workspace lacks, and collects it as ``store.shipped`` reads it.

Everything that a page shows of the demo before anybody chose anything: the standard audit with ledger, controls, panels, calibration and
noise; a bake-off of the rules; a run of Fine-tune with its losses and translations; a question with its answers; layers, maps and neighbours; the tests of the demo's
other runs; the demo's suite, where it was run. Collected are results, never rows: an arm's adapter or a model stays in the workspace.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ks_core import __version__
from ks_core.asking import example
from ks_core.audit import controls
from ks_core.audit.evidence import gather
from ks_core.audit.inquiry import Audit, structural_row
from ks_core.audit.panels import PANELS
from ks_core.audit.whole import Step, carry_out
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError
from ks_core.jobs import devices, queue
from ks_core.jobs.handle import Job, number
from ks_core.ledger import newest
from ks_core.ledger.inquiry import Inquiry
from ks_core.store import cache, shipped, workspace
from ks_core.study import drift, layers, neighbourhoods
from ks_core.study.scan import Scan, Study
from ks_core.suites.presets import PRESETS, suite_of
from ks_core.tickets.changed import Changed
from ks_core.tuning import trainings
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import Plan
from ks_core.tuning.recipes import Recipe

#: The maps, by the settings with which the page opens.
MAPS = tuple(drift.Settings(method, changed=4000) for method in drift.METHODS)
#: The run of Fine-tune: the smallest in which the ticket, copied and trained, stands clear of the base. The optimizer is the demo's.
RECIPE = Recipe(steps=40, learning_rate=1e-2, schedule="linear", optimizer="rowwise_adam")
SHOWN = Plan(
    arms=(Arm("base"), Arm("tuned"), Arm("transfer"), Arm("partial", recipe=RECIPE), Arm("random", copied=True)), sentences=24
)  # fmt: skip
#: Of a job what is read of it afterwards, beside its request and its state.
KEPT = ("result.json", "plan.json", "sweep.json", "events.jsonl", "arms/*/result.json", "arms/*/answers.json")
#: Bytes of all of it, at most.
MOST = 3 << 20

Report = Callable[[float, float, str], None]


def build(report: Report, follow: Callable[[Job], None], folder: Path = shipped.FOLDER) -> int:
    """Run what of the evidence is missing, and write all of it into ``folder``, in the place of what was there. Returns its bytes.

    ``report(done, total, message)`` is told how far that is which is made here, and ``follow`` is given each job and returns when it is done.
    From nothing it takes about 40 minutes on two cores, by what its parts took. Raises what either of them raises, and ``SettingsError`` for more bytes than ``MOST``.
    """
    demo.prepare_base(report)
    study = Study(demo.BASE, demo.TUNED)
    audit, scan = Audit.of(study), study.scan(lambda done, total: report(done, total, "testing rows"))
    found = carry_out(audit, scan, follow=follow, report=report)
    assert found.run is not None and found.account is not None  # or it had raised
    for step in steps(study, scan):
        if _done(step) is None:
            follow(queue.submit(step.kind, step.parameters, label=step.label, device=_lane(audit)))
    look(audit, scan, report)
    with cache.noted() as read:
        look(audit, scan, report)
    jobs = [found.run, queue.find(found.account.job), *filter(None, map(_done, steps(study, scan)))]
    if suite := _done(
        Step("suite", suite_of(PRESETS["demo"]).as_dict(), "Suite demo")
    ):  # of three quarters of an hour: if it was run
        jobs.insert(0, suite)
    panels = _done(Step("audit", audit.as_dict(), "Audit"))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        parts = {_job(job, made): _when(job) for job in jobs}
        layered = next((_when(job) for job in jobs if job.request["kind"] == "layers"), {})
        for path, note in dict(read).items():
            told = layered if path.parent.name == "layer" else {"seconds": note.get("seconds")}
            parts[_entry(path, made)] = {"made": path.stat().st_mtime, **told}
        parts[_panels(audit, made)] = (
            _when(panels) if panels else {"made": (audit.folder() / f"{next(iter(PANELS))}.json").stat().st_mtime, "seconds": None}
        )  # fmt: skip
        asked = example.ask(study, scan, report)
        _write(made / example.FOLDER / f"{example.content_of(study)}.json", example.kept(asked))
        parts[example.FOLDER] = {"made": time.time(), "seconds": asked.seconds}
        _write(made / shipped.MANIFEST, {
            "program": __version__, "cores": devices.count("cpu"), "contents": _contents(study), "parts": parts,
        })  # fmt: skip
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        if size > MOST:
            raise SettingsError(f"The evidence has {size:,} bytes. Expected {MOST:,} at most: ship less of it.")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return size


def steps(study: Study, scan: Scan) -> list[Step]:
    """The jobs beside the audit's, as the pages ask for them before anything was chosen; the run of Fine-tune last, which its page shows
    first."""
    pair = {"base": study.base_source, "tuned": study.tuned_source, "content": study.key}
    seeds = tuple(trainings.other_seeds(study.tuned_source))
    asked, audit = Inquiry.of(study, scan, "small", alpha=0.05, others=seeds), Audit.of(study)
    return [
        Step("layers", pair, "Testing tensors"), Step("rules", asked.as_dict(), "Comparing the rules"),
        Step.of_run(controls.beside(audit.controls(structural_row(audit))), "The ticket under another prompt"),
        Step.of_run(SHOWN, f"{len(SHOWN.arms)} arms on {SHOWN.corpus.name}"),
    ]  # fmt: skip


def look(audit: Audit, scan: Scan, report: Report = lambda *_: None) -> None:
    """Look at everything that pages find in the cache, and make what is not there: none of it takes more than two minutes."""
    study = audit.study
    for source in demo.names()[1:]:
        if source != study.tuned_source:
            Study(study.base_source, source).scan(lambda done, total: report(done, total, "testing rows"))
    for name in (*demo.names()[1:], *(f"demo:{name}" for name in demo.kept_tests())):
        trainings.how_often(name)
    layers.scan_layers(study.base_source, study.tuned_source, report=report)
    for settings in MAPS:
        drift.project(study, scan, settings, report)
    neighbourhoods.find(study, scan, report=report)
    newest.attributed(study)
    newest.with_scores(Changed.of_pair(study, scan), report)
    gather(audit, scan)


def _done(step: Step) -> Job | None:
    """The newest finished job that was asked for a step."""
    return next(
        (job for job in queue.all_jobs(step.kind) if job.state == "done" and job.request["parameters"] == step.parameters),
        None,
    )  # fmt: skip


def _lane(audit: Audit) -> str:
    return devices.select(audit.device).removeprefix("torch:")


def _when(job: Job) -> dict[str, Any]:
    started, finished = (number(job.status.get(name)) for name in ("started", "finished"))
    return {"made": finished, "seconds": finished - started}


def _contents(study: Study) -> dict[str, str]:
    """The contents of all that the jobs were made from, by source."""
    seeds = trainings.other_seeds(study.tuned_source)
    return {
        study.base_source: study.base.content_hash, study.tuned_source: study.tuned.content_hash,
        **{source: Study(study.base_source, source).tuned.content_hash for source in seeds},
    }  # fmt: skip


def _job(job: Job, made: Path) -> str:
    """Put a finished job there; returns what it is called."""
    to = made / "jobs" / job.id
    request = {name: job.request[name] for name in ("kind", "parameters", "label", "created")}
    _write(to / "request.json", request)
    _write(to / "status.json", {"state": "done", **{name: job.status[name] for name in ("started", "finished")}})
    for path in (path for pattern in KEPT for path in sorted(job.folder.glob(pattern))):
        if path.suffix == ".json":
            _write(to / path.relative_to(job.folder), workspace.read_json(path))
        else:
            _text(to / path.relative_to(job.folder), path.read_text(encoding="utf-8"))
    return f"jobs/{job.id}"


def _entry(path: Path, made: Path) -> str:
    """Put an entry of the cache there; returns what it is called. The same entry gives the same bytes."""
    part = shipped.cache_part(path.parent.name, path.name)
    (made / part).parent.mkdir(parents=True, exist_ok=True)
    (made / part).write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    return part


def _panels(audit: Audit, made: Path) -> str:
    """Put an audit's panels there; returns what they are called."""
    part = f"audits/{audit.folder().name}"
    for name in PANELS:
        _write(made / part / f"{name}.json", audit.panel(name))
    return part


def _write(path: Path, value: Any) -> None:
    _text(path, json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def _text(path: Path, text: str) -> None:
    """Write a text. Raises ``SettingsError`` for one that names a place of this machine: it would be shipped."""
    for place in _private():
        if place in text:
            raise SettingsError(
                f"{path.name} names {place}, a place of this machine. Expected none in what is shipped."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _private() -> Iterable[str]:
    return {
        str(place)
        for place in (workspace.home(), workspace.home().resolve(), Path.home(), Path.cwd())
        if len(place.parts) > 1
    }
