"""A workspace made before ``ks_core`` had rooms: what was computed then is found, and what was stopped goes on.

``workspace_before`` was written by the program as it was then (commit 620a96f), on a pair of 64 rows of 16 and text of
made-up words; in its files ``@HERE@`` stands for the folder that it lay in.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ks_core.audit import controls, inquiry
from ks_core.audit.evidence import gather
from ks_core.audit.gains import gains
from ks_core.audit.inquiry import Audit
from ks_core.jobs import queue
from ks_core.store import prepared
from ks_core.store.cache import Cache
from ks_core.study import drift
from ks_core.study.layers import scan_layers
from ks_core.study.scan import Study
from ks_core.tickets.ticket import Ticket
from ks_core.translation.evaluation import part_of, read_answers
from ks_core.tuning import comparison
from ks_core.tuning.plans import CorpusChoice, Plan

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


def test_a_run_and_the_panels_of_its_ticket_are_read_and_not_taken_for_todays(study, monkeypatch):
    """The run is listed and read as ever. It is not taken for the controls of an audit any more: its signature names no part
    of the held-out text, and it has other arms, recipes and limits than the audit asks for. The panels lie where they lay, and
    today's audit, which scores other sentences, looks elsewhere."""
    audit = Audit.of(
        study, rule="count", k=6, prompt="w3 {source} w4", budget="small", max_new_tokens=3, device="cpu",
        corpus=CorpusChoice("file:pairs.tsv", source_language="A", target_language="B", shortest=1),
    )  # fmt: skip
    run = jobs_by_label()["kept run"]
    assert run.state == "done" and audit.run() is None
    found = controls.find(study, audit.controls(()))
    assert found.run is None and found.passed_over == run.id
    assert "scored on held-out pairs that were not parted yet, asked the test part" in found.differs
    assert any(
        words.startswith("without ") and "Ticket rows with a partner, copied, Their partners, copied" in words
        for words in found.differs
    )
    assert (
        "Partial Tuning: steps 4, asked 20, batch size 4, asked 8, learning rate 0.05, asked 0.01, optimizer rowwise_adam, asked "
        "adam_per_row"
    ) in found.differs
    assert run.id in found.sentence and gather(audit, study.scan()).not_taken == found.sentence
    table = comparison.table(run.result)
    assert list(table.kind) == ["base", "tuned", "transfer", "partial", "rows"]
    ticket = Ticket.load(run.folder / "arms" / "03-partial" / "adapter")
    positions = audit.positions(study.scan())
    assert ticket.token_ids == study.scan().token_ids[positions].tolist()
    names = ("gating", "transfer", "strength", "certificate")
    assert [audit.panel(name) for name in names] == [None] * 4
    monkeypatch.setattr(inquiry, "VERSION", 1)
    for name in names:
        panel = audit.panel(name)
        assert panel is not None and panel["signature"].startswith("base:base@"), name


def test_the_sentences_of_a_run_are_those_that_it_scored(study):
    """Before what is held out had parts, a run scored the first of all of it."""
    run = jobs_by_label()["kept run"]
    pairs = Plan.from_dict(run.request["parameters"]).corpus.load().part(part_of(run.result["signature"]))
    for arm in run.result["arms"]:
        answers = read_answers(run.folder, arm)
        assert [a.prompt for a in answers] == [f"w3 {p.source} w4" for p in pairs[: len(answers)]]
        assert {a.answer("response") for a in answers} == {a.answer("raw") for a in answers}, "a rule of today"
    assert [gain.kind for gain in gains(run)] == ["tuned", "transfer", "partial", "rows"]


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
    result = json.loads((job.folder / "result.json").read_text())
    first, trained = result["arms"]
    asked = [[a.prompt for a in read_answers(job.folder, arm)] for arm in (first, trained)]
    assert asked[0] == asked[1] and part_of(result["signature"]) == "", "both arms answer what the first was asked"
    assert trained["rows"] and np.isfinite(trained["losses"][-1][1])
