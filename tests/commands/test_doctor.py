"""The doctor: well where all is well, and what to do where it is not."""

import shutil

import pytest

from ks_core.checkpoints import demo_files
from ks_core.commands import doctor
from ks_core.commands.doctor import BAD, GOOD, WARN
from ks_core.commands.program import main
from ks_core.jobs import queue
from ks_core.store import workspace


def checks():
    return {c.name: c for c in doctor.examine()}


def test_a_healthy_workspace(demo_home, capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "program",
        "packages",
        "device",
        "memory",
        "disk",
        "workspace",
        "cache",
        "jobs",
        "demo",
        "access",
        "log",
    ):
        assert f" {name} " in printed.replace("ok  ", " ").replace("warn", " ") or name in printed
    found = checks()
    assert not [c for c in found.values() if c.state == BAD]
    assert found["demo's base"].state == GOOD and found["demo"].found.startswith("4 tuned runs")


def test_what_is_not_well_is_named_with_what_to_do(workspace_folder, monkeypatch):
    assert checks()["demo's base"].state == WARN and "ks_core demo" in checks()["demo's base"].advice
    monkeypatch.setenv("KS_LOTTERY_READ_ONLY", "perhaps")
    assert checks()["access"].state == BAD
    monkeypatch.setenv("KS_LOTTERY_HOSTS", "lottery.example.org:8443, [::2]")
    assert checks()["names"].found.endswith("localhost, [::1], [::2], lottery.example.org:8443")
    monkeypatch.setenv("KS_LOTTERY_HOSTS", "https://lottery.example.org")
    assert checks()["names"].state == BAD
    monkeypatch.setattr(doctor, "MEMORY", 1 << 60)
    monkeypatch.setattr(doctor, "DISK", 1 << 60)
    found = checks()
    assert found["memory"].state == found["disk"].state == WARN
    blocked = workspace_folder / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("KS_LOTTERY_HOME", str(blocked / "home"))
    assert checks()["workspace"].state == BAD and "KS_LOTTERY_HOME" in checks()["workspace"].advice
    assert doctor.run(show=lambda line: None) == 1


def test_a_failed_job_is_shown(workspace_folder):
    folder = workspace_folder / "jobs" / "20260101-000000-scan-abcdef"
    workspace.write_json(folder / "request.json", {"kind": "scan", "parameters": {}, "created": 1.0})
    workspace.write_json(folder / "status.json", {"state": "failed", "error": "It was too large."})
    assert queue.all_jobs()[0].state == "failed"
    assert checks()["jobs"].state == WARN and "too large" in checks()["jobs"].advice


@pytest.mark.parametrize("change", ["alter", "remove", "no sums"])
def test_a_changed_demo_is_noticed(tmp_path, change):
    folder = tmp_path / "demo"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "a.bin").write_bytes(b"abc")
    (folder / "b.json").write_text("{}")
    demo_files.write_sums(folder)
    assert demo_files.damaged(folder) == []
    if change == "alter":
        (folder / "run" / "a.bin").write_bytes(b"abd")
    elif change == "remove":
        shutil.rmtree(folder / "run")
    else:
        (folder / demo_files.SUMS).unlink()
    assert demo_files.damaged(folder) == ([demo_files.SUMS] if change == "no sums" else ["run/a.bin"])


def test_the_shipped_sums_are_those_of_the_shipped_files():
    assert demo_files.damaged() == []
    listed = (demo_files.ASSETS / demo_files.SUMS).read_text().splitlines()
    assert len(listed) == len(demo_files._files(demo_files.ASSETS))
