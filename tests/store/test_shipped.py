"""What comes with the program: found below the workspace, with where it comes from; for looking alone, and of unchanged checkpoints alone."""

import gzip
import json
import os

import numpy as np
import pytest

from ks_core.errors import SettingsError
from ks_core.jobs import queue
from ks_core.store import shipped, workspace
from ks_core.store.cache import Cache, noted
from ks_core.store.shipped import Provenance

KEY = {"base": "ab", "tuned": "cd"}
MADE = {"made": 86400.0 * 20000, "seconds": 150.0}
FROM = Provenance(MADE["made"], 150.0, 2, "9.9")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of shipped results: an entry of the cache, a panel, a job; shown."""
    home = tmp_path / "evidence"
    inside = Cache(tmp_path / "made")
    inside.store("drift", KEY, {"xy": np.ones((2, 2))}, {"seconds": 3.0})
    path = inside.path("drift", KEY)
    part = shipped.cache_part("drift", path.name)
    (home / part).parent.mkdir(parents=True)
    (home / part).write_bytes(gzip.compress(path.read_bytes()))
    workspace.write_json(home / "audits" / "k" / "gating.json", {"gates": 1})
    for name, made in (("20250101-000000-layers-aaaaaa", 1.0), ("20250102-000000-layers-bbbbbb", 2.0)):
        workspace.write_json(
            home / "jobs" / name / "request.json", {"kind": "layers", "parameters": {"a": 1}, "created": made}
        )
        workspace.write_json(home / "jobs" / name / "status.json", {"state": "done", "started": 1, "finished": 2})
        workspace.write_json(home / "jobs" / name / "result.json", {"tensors": 3})
    parts = {
        f"jobs/{p.name}": {"made": float(n), "seconds": 60.0} for n, p in enumerate(sorted((home / "jobs").iterdir()))
    }
    workspace.write_json(home / shipped.MANIFEST, {
        "program": "9.9", "cores": 2, "contents": {"demo:base": "ab"}, "parts": {part: MADE, "audits/k": MADE, **parts},
    })  # fmt: skip
    monkeypatch.setattr(shipped, "FOLDER", home)
    monkeypatch.setenv("KS_LOTTERY_SHIPPED", "1")
    monkeypatch.setattr(shipped, "_check", None)
    return home


def test_nothing_is_found_until_it_is_shown(folder):
    assert (
        Cache().load("drift", KEY) is None
        and queue.all_jobs() == []
        and shipped.read_json("audits", "k", "gating.json") is None
    )
    shipped.show(lambda contents: True)
    found = Cache().load("drift", KEY)
    np.testing.assert_array_equal(found.arrays["xy"], np.ones((2, 2)))
    assert found.note == {"seconds": 3.0} and found.shipped == FROM
    assert shipped.read_json("audits", "k", "gating.json") == ({"gates": 1}, FROM)


def test_another_key_finds_nothing_and_neither_does_a_cache_of_its_own(folder, tmp_path):
    shipped.show(lambda contents: True)
    assert Cache().load("drift", {**KEY, "tuned": "ce"}) is None
    assert Cache(tmp_path / "other").load("drift", KEY) is None


def test_what_was_made_here_goes_before_it(folder):
    shipped.show(lambda contents: True)
    Cache().store("drift", KEY, {"xy": np.zeros((2, 2))}, {})
    found = Cache().load("drift", KEY)
    assert found.shipped is None and not found.arrays["xy"].any()


def test_it_can_be_looked_away_from(folder, monkeypatch):
    shipped.show(lambda contents: True)
    with shipped.hidden():
        assert Cache().load("drift", KEY) is None and queue.all_jobs() == []
    assert Cache().load("drift", KEY) is not None and len(queue.all_jobs()) == 2
    monkeypatch.setenv("KS_LOTTERY_SHIPPED", "0")
    assert Cache().load("drift", KEY) is None and queue.all_jobs() == []


@pytest.mark.parametrize("damage", [lambda data: data[:20], lambda data: b"", lambda data: gzip.compress(b"{}" * 40)])
def test_a_damaged_entry_counts_as_absent(folder, damage):
    shipped.show(lambda contents: True)
    path = next((folder / "cache").rglob("*.gz"))
    path.write_bytes(damage(path.read_bytes()))
    assert Cache().load("drift", KEY) is None
    assert path.exists(), "what comes with the program is not touched"


def test_jobs_come_after_the_workspace_and_stay_out_of_its_numbers(folder):
    shipped.show(lambda contents: contents == {"demo:base": "ab"})
    own = workspace.home() / "jobs" / "20200101-000000-layers-cccccc"
    workspace.write_json(own / "request.json", {"kind": "layers", "parameters": {"a": 1}, "number": 7, "created": 0.0})
    workspace.write_json(own / "status.json", {"state": "done"})
    found = queue.all_jobs("layers")
    assert [job.id[-6:] for job in found] == ["cccccc", "bbbbbb", "aaaaaa"]
    assert [job.shipped is None for job in found] == [True, False, False]
    assert found[1].state == "done" and found[1].result == {"tensors": 3}
    assert found[1].shipped == Provenance(1.0, 60.0, 2, "9.9")
    assert queue.all_jobs("drift") == [] and queue._next_number() == 8


def test_jobs_of_changed_checkpoints_are_not_shown(folder):
    shipped.show(lambda contents: contents != {"demo:base": "ab"})
    assert queue.all_jobs() == []


def test_a_manifest_that_was_written_anew_is_read_anew(folder):
    shipped.show(lambda contents: True)
    assert Cache().load("drift", KEY).shipped.program == "9.9"
    told = json.loads((folder / shipped.MANIFEST).read_text()) | {"program": "10"}
    workspace.write_json(folder / shipped.MANIFEST, told)
    os.utime(folder / shipped.MANIFEST, (1e9, 1e9))
    assert Cache().load("drift", KEY).shipped.program == "10"


def test_what_is_found_can_be_noted(tmp_path):
    Cache().store("drift", KEY, {}, {"seconds": 2})
    with noted() as read:
        Cache().load("drift", KEY)
        Cache().load("drift", {**KEY, "tuned": "other"})
    assert [(path.parent.name, note) for path, note in read] == [("drift", {"seconds": 2})]
    Cache().load("drift", KEY)
    assert len(read) == 1


def test_the_sentence_says_what_when_how_long_and_on_what():
    later = Provenance(FROM.made, 700.0, 2, "9.9")
    other = Provenance(FROM.made + 86400, None, 1, "9.9")
    assert FROM.sentence == (
        "Shipped with the demo, not computed here: made on 4 October 2024 in 2 minutes on 2 cores of CPU, by version 9.9."
    )
    assert shipped.sentence({"ledger": None}) == ""
    assert shipped.sentence({"ledger": FROM, "controls": None, "gating": later, "prompts": later}) == (
        "Shipped with the demo, not computed here: ledger (in 2 minutes); gating, prompts (in 12 minutes). "
        "Made on 4 October 2024 on 2 cores of CPU, by version 9.9."
    )
    said = shipped.sentence({"ledger": FROM, "calibration": other})
    assert "calibration, made on 5 October 2024 on 1 core of CPU" in said


def test_a_text_that_names_this_machine_is_not_shipped(tmp_path):
    from ks_core.commands.demos import evidence as demo_evidence

    with pytest.raises(SettingsError, match="a place of this machine"):
        demo_evidence._write(tmp_path / "a.json", {"folder": f"{workspace.home()}/jobs/1"})
    assert not (tmp_path / "a.json").exists()
    demo_evidence._write(tmp_path / "a.json", {"folder": "00-base"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"folder": "00-base"}
