"""A workspace made before ``ks_core`` had rooms: what was computed then is found, and what was stopped goes on.

``workspace_before`` was written by the program as it was then (commit 620a96f), on a pair of 64 rows of 16 and text of
made-up words; in its files ``@HERE@`` stands for the folder that it lay in.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ks_core.audit.inquiry import Audit
from ks_core.jobs import queue
from ks_core.store import prepared
from ks_core.store.cache import Cache
from ks_core.study import drift
from ks_core.study.layers import scan_layers
from ks_core.study.scan import Study
from ks_core.tickets.ticket import Ticket
from ks_core.tuning import comparison
from ks_core.tuning.plans import CorpusChoice

KEPT = Path(__file__).parent / "workspace_before"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder as it was, with its workspace in use. The names of text are relative to it."""
    folder = tmp_path / "here"
    shutil.copytree(KEPT, folder)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md"):
            path.write_text(path.read_text(encoding="utf-8").replace("@HERE@", str(folder)), encoding="utf-8")
    monkeypatch.setenv("KS_LOTTERY_HOME", str(folder / "workspace"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def study(here):
    return Study(str(here / "base"), str(here / "tuned"))


def jobs_by_label():
    return {job.request["label"]: job for job in queue.all_jobs()}


def test_a_scan_and_layers_and_a_map_are_found(study, here):
    scan = study.scan()
    assert scan.from_cache and int(scan.changed.sum()) == 20
    layers = scan_layers(str(here / "base"), str(here / "tuned"), device="cpu")
    assert layers.reused == len(layers.tensors), "nothing is tested a second time"
    assert drift.cached(study, drift.Settings(method="pca")) is not None
    assert {entry.kind for entry in Cache().entries()} == {"scan", "layer", "drift"}


def test_a_run_and_the_audit_of_its_ticket_are_found(study):
    audit = Audit.of(
        study, rule="count", k=6, prompt="w3 {source} w4", budget="small", max_new_tokens=3, device="cpu",
        corpus=CorpusChoice("file:pairs.tsv", source_language="A", target_language="B", shortest=1),
    )  # fmt: skip
    run = audit.run()
    assert run is not None and run.id == jobs_by_label()["kept run"].id and run.state == "done"
    table = comparison.table(run.result)
    assert list(table.kind) == ["base", "tuned", "transfer", "partial", "rows"]
    ticket = Ticket.load(run.folder / "arms" / "03-partial" / "adapter")
    positions = audit.positions(study.scan())
    assert ticket.token_ids == study.scan().token_ids[positions].tolist()
    for name in ("gating", "transfer", "strength", "certificate"):
        panel = audit.panel(name)
        assert panel is not None and panel["signature"].startswith("base:base@"), name


def test_jobs_and_prepared_studies_are_listed(here):
    states = {label: job.state for label, job in jobs_by_label().items()}
    assert states == {"kept run": "done", "layers": "done", "map": "done", "stopped run": "cancelled"}
    assert [(s.name, s.base) for s in prepared.studies()] == [("Kept study", str(here / "base"))]


def test_a_run_that_was_stopped_goes_on_where_it_was(here):
    job = jobs_by_label()["stopped run"]
    answers = (job.folder / "arms" / "00-base" / "answers.json").read_bytes()
    before = max(event["step"] for event in job.events() if "step" in event)
    assert 0 < before < 600
    assert queue.resume(job).wait(300) == "done", job.error
    assert (job.folder / "arms" / "00-base" / "answers.json").read_bytes() == answers, "the first arm is not done anew"
    steps = [event["step"] for event in job.events() if "step" in event]
    resumed = steps[steps.index(before) + 1]
    assert resumed > 1 and steps[-1] == 600, "the second goes on from its checkpoint"
    trained = json.loads((job.folder / "result.json").read_text())["arms"][1]
    assert trained["rows"] and np.isfinite(trained["losses"][-1][1])
