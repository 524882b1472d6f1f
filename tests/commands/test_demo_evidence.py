"""The shipped results: whole, of this very demo, found by nobody else; and a part of them made anew is the same."""

import json

import numpy as np
import pytest

from helpers.places import ROOT
from ks_core.audit.inquiry import Audit
from ks_core.audit.panels import PANELS
from ks_core.checkpoints import demo, demo_files
from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.commands.demos import evidence as demo_evidence
from ks_core.commands.program import main
from ks_core.jobs import queue
from ks_core.store import shipped
from ks_core.store.cache import Cache
from ks_core.study import drift, layers
from ks_core.study.scan import Study
from ks_core.tickets import calibration


@pytest.fixture
def study(demo_home):
    return Study(demo.BASE, demo.TUNED)


def test_the_files_are_those_that_were_shipped_and_the_sums_hold_every_one():
    assert demo_files.damaged() == []
    named = {line.partition("  ")[2] for line in (demo.ASSETS / demo_files.SUMS).read_text().splitlines()}
    there = {p.relative_to(demo.ASSETS).as_posix() for p in shipped.FOLDER.rglob("*") if p.is_file()}
    assert there and there <= named
    parts = json.loads((shipped.FOLDER / shipped.MANIFEST).read_text())["parts"]
    for name in parts:
        assert (shipped.FOLDER / name).exists(), name
    told = {p for p in there if p != f"evidence/{shipped.MANIFEST}"}
    assert all(any(path.removeprefix("evidence/").startswith(part) for part in parts) for path in told)


def test_they_are_small_and_name_no_place():
    sizes = [p.stat().st_size for p in (ROOT / "assets").rglob("*") if p.is_file()]
    assert sum(sizes) < 32 << 20
    for path in shipped.FOLDER.rglob("*.json*"):
        text = path.read_text(encoding="utf-8")
        assert not any(place in text for place in ("/home/", "/root/", "/tmp/", "/work/")), path


def test_what_is_made_anew_is_what_is_shipped(study, evidence):
    """Layers, the map by principal components, another run's test: computed here, entry by entry."""
    scan = study.scan()
    looked = [
        lambda: Study(demo.BASE, "demo:en-de").scan(),
        lambda: drift.project(study, scan, demo_evidence.MAPS[0]),
    ]
    for look in looked:
        theirs = look()
        assert theirs.shipped is not None
        with shipped.hidden():
            own = look()
        assert own.shipped is None
        for name, value in vars(own).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(value, getattr(theirs, name), rtol=1e-4, atol=1e-5, err_msg=name)
        assert str(own.signature) == str(theirs.signature)
    theirs = layers.scan_layers(demo.BASE, demo.TUNED)
    assert theirs.reused == len(theirs.tensors)
    with shipped.hidden():
        own = layers.scan_layers(demo.BASE, demo.TUNED)
    assert own.reused < len(own.tensors)
    for mine, other in zip(own.tensors, theirs.tensors, strict=True):
        np.testing.assert_array_equal(mine.k, other.k)
        np.testing.assert_array_equal(mine.rows_at, other.rows_at)


def test_the_certificate_made_anew_is_the_shipped_one(study, evidence):
    """The embed-tuned model and the ticket's along the first references, read here."""
    from ks_core.audit.agreement.certificate import Predictions
    from ks_core.audit.agreement.predictions import predict
    from ks_core.audit.material import delta_model
    from ks_core.likelihood.references import references_of

    audit, scan = Audit.of(study), study.scan()
    assert audit.shipped("certificate") is not None
    theirs = Predictions.of(audit.panel("certificate"))
    model, tokenizer = delta_model(audit, scan)
    few = references_of(model, tokenizer, audit.corpus.load(), audit.prompt, part="test", sentences=2)
    own = predict(
        model, few.examples, pad=tokenizer.pad_token_id, ticket=scan.token_ids[audit.positions(scan)].tolist(),
        statistic=dict(zip(scan.token_ids.tolist(), scan.statistic.tolist(), strict=True)),
    )  # fmt: skip
    count = len(own.tuned)
    assert count and list(own.reference) == list(theirs.reference)[:count]
    assert list(own.tuned) == list(theirs.tuned)[:count] and list(own.ticket) == list(theirs.ticket)[:count]
    np.testing.assert_allclose(own.p_first, theirs.p_first[:count], rtol=1e-3, atol=1e-4)


def test_a_changed_checkpoint_has_none(study, evidence, tmp_path):
    scan = study.scan()
    settings = demo_evidence.MAPS[1]
    assert drift.cached(study, settings) is not None
    assert calibration.cached(study, calibration.Settings(), Study(demo.BASE, "demo:en-fr-seed1")) is not None
    ids = scan.token_ids[scan.changed]
    rows = study.tuned.matrix.block(0, len(scan.token_ids))[ids].copy()
    rows[0, 0] += 1e-3
    write_trainable_tokens(tmp_path / "changed", ids.tolist(), rows, base=demo.BASE)
    other = Study(demo.BASE, str(tmp_path / "changed"))
    assert other.tuned.content_hash != study.tuned.content_hash
    other.scan()
    assert drift.cached(other, settings) is None
    assert not any(Audit.of(other).panel(name) for name in PANELS)
    assert calibration.cached(other, calibration.Settings()) is None


def test_jobs_are_of_the_checkpoints_as_they_were(study, evidence, monkeypatch):
    kinds = {job.request["kind"] for job in queue.all_jobs()}
    assert kinds == {"layers", "rules", "suite", "tune"} and all(job.shipped for job in queue.all_jobs())
    held = json.loads((shipped.FOLDER / shipped.MANIFEST).read_text())["contents"]
    assert set(held) >= {demo.BASE, demo.TUNED} and demo_files.holds(held)
    assert not demo_files.holds({**held, demo.TUNED: "0" * 64}) and not demo_files.holds({})
    monkeypatch.setenv("KS_LOTTERY_HOME", "/nowhere")
    assert not demo_files.holds(held), "a base that is not prepared may become any"


def test_pages_find_what_the_command_asked_for(study, evidence):
    """What the collected jobs were asked is what pages ask before anything was chosen: otherwise nobody would find them."""
    for step in demo_evidence.steps(study, study.scan()):
        (found,) = [job for job in queue.all_jobs(step.kind) if job.request["parameters"] == step.parameters]
        assert found.shipped and found.result
    assert queue.all_jobs("tune")[0].request["parameters"] == demo_evidence.SHOWN.as_dict()


def test_commands_and_jobs_compute(study, evidence, monkeypatch):
    """Only what looks is shown it: a process that nobody told to show it has none."""
    monkeypatch.setattr(shipped, "_check", None)
    assert drift.cached(study, demo_evidence.MAPS[1]) is None and queue.all_jobs() == []
    assert Audit.of(study).panel("certificate") is None


def test_the_command_says_what_takes_the_option(demo_home, capsys):
    assert main(["demo", "prepare", "--evidence"]) == 2
    assert "demo build --evidence" in capsys.readouterr().err


def test_an_entry_is_written_alike_each_time(demo_home, tmp_path):
    Cache().store("drift", {"a": 1}, {"x": np.arange(5)}, {"seconds": 1})
    path = Cache().path("drift", {"a": 1})
    written = []
    for n in (1, 2):
        part = demo_evidence._entry(path, tmp_path / str(n))
        written.append((tmp_path / str(n) / part).read_bytes())
    assert written[0] == written[1]
