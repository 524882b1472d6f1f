"""Slurm's side without a Slurm: what is said where it is missing, and that nothing else changes. ``soak/test_slurm`` has the rest."""

import importlib.util
import json
import time

import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP, ROOT
from ks_core.commands.program import main
from ks_core.errors import JobError, SettingsError
from ks_core.jobs import cluster, queue
from ks_core.jobs.cluster import Allocation, Place
from ks_core.jobs.handle import Job, queue_words
from ks_core.tuning.plans import Plan


@pytest.fixture
def without_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        cluster.importlib.util, "find_spec", lambda name, *rest: None if name == "submitit" else find(name, *rest)
    )


def test_without_the_extra_the_page_says_how_to_install_it(without_extra, demo_home):
    at = AppTest.from_file(APP, default_timeout=60).run()
    queue.all_jobs("scan")[0].wait(60)
    at = at.switch_page("pages/fine_tune.py").run()
    assert at.toggle(key="tune_slurm").disabled
    assert any("Not available here" in c.value and cluster.INSTALL in c.value for c in at.caption)
    assert ROOT.joinpath(cluster.INSTALL.split()[-1]).is_file()
    assert any("of memory" in c.value and "are free" in c.value for c in at.caption)


def test_without_the_extra_the_command_line_says_it_too(without_extra, tiny_folder, capsys):
    words = ["tune", str(tiny_folder), "--arms", "base", "--slurm", "--corpus", "pack:fr-FR"]
    assert main(words) == 2
    assert cluster.INSTALL in capsys.readouterr().err
    assert not queue.all_jobs()


def test_without_slurm_the_reason_is_another(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name, *rest: object())
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    assert "sbatch was not found" in cluster.why_not()


@pytest.mark.parametrize(
    "given",
    [
        {"partition": "a b"}, {"partition": "--uid=0"}, {"partition": "x\n#SBATCH --x"}, {"gpus": -1}, {"minutes": 0},
        {"cpus": 0}, {"memory": -1}, {"array": "yes"}, {"partition": 3}, {"gpus": 1.5}, {"colour": 1},
    ],
)  # fmt: skip
def test_what_slurm_cannot_be_asked(given):
    with pytest.raises(SettingsError):
        Allocation.from_dict(given)


def noted(workspace_folder, **status):
    """A job as one that was handed to Slurm."""
    folder = workspace_folder / "jobs" / "20260101-000000-tune-abcdef"
    folder.mkdir(parents=True)
    request = {"kind": "tune", "parameters": {}, "device": "slurm", "number": 1, "created": time.time()}
    for name, content in (("request", request), ("queue", {"id": "7", "array": []}), ("status", status)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return Job(folder)


def test_the_queue_and_the_job_make_one_state(workspace_folder, monkeypatch):
    job = noted(workspace_folder, state="running")
    told = {"7": Place("7", "RUNNING", "node3")}
    monkeypatch.setattr(cluster, "_queue", lambda moment: told)
    assert job.state == "running" and job.place.words == "Slurm 7: running on node3"
    told["7"] = Place("7", "PENDING", "", "BeginTime")  # requeued: what the job wrote last is of before
    assert (
        job.state == "queued" and queue_words(job) == "Slurm 7: pending (BeginTime: Slurm starts it again in a while)"
    )
    told.clear()
    monkeypatch.setattr(cluster, "_last", lambda number: "OUT_OF_MEMORY")
    assert job.state == "failed" and "it took more memory than it had asked for" in job.error
    monkeypatch.setattr(cluster, "_last", lambda number: "")
    assert "more memory" in job.error, "Slurm forgets after minutes, the folder does not"
    (job.folder / "result.json").write_text('{"arms": []}')
    assert job.state == "done"


def test_a_cancelled_job_that_slurm_has_ended_is_cancelled(workspace_folder, monkeypatch):
    job = noted(workspace_folder, state="running")
    (job.folder / "cancel").touch()
    monkeypatch.setattr(cluster, "_queue", lambda moment: {})
    monkeypatch.setattr(cluster, "_last", lambda number: "CANCELLED")
    assert job.state == "cancelled"
    with pytest.raises(JobError, match="Only a running job"):
        queue.requeue(job)


def test_arms_that_need_nothing_of_the_others():
    arms = [{"kind": k} for k in ("base", "embed", "transfer", "partial", "frequent", "lora")]
    assert Plan.from_dict({"arms": arms}).independent == [0, 1, 2, 3, 4, 5]
    assert Plan.from_dict({"arms": arms, "tuned": ""}).independent == [0, 1, 5]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("1:00:00", 60),
        ("2-12:00:00", 3600),
        ("30:00", 30),
        ("infinite", None),
        ("UNLIMITED", None),
        ("", None),
        ("1-", None),
    ],
)
def test_time_limits_as_sinfo_writes_them(limit, expected):
    assert cluster.minutes(limit) == expected


def test_the_progress_of_an_array_is_that_of_its_tasks(workspace_folder, monkeypatch):
    job = noted(workspace_folder, state="queued")
    now = time.time()
    shares = [("done", 10, 10), ("running", 5, 10), ("queued", 0, 10)]
    for n, (state, done, total) in enumerate(shares):
        part = job.folder / "parts" / f"{n:02d}"
        part.mkdir(parents=True)
        (part / "request.json").write_text(json.dumps({"kind": "arm", "label": f"arm {n}", "created": now}))
        status = {
            "state": state,
            "done": done,
            "total": total,
            "updated": now,
            "stage_started": now - 5,
            "stage_done": 0,
        }
        (part / "status.json").write_text(json.dumps(status))
    assert (job.progress.done, job.progress.total, job.progress.unit) == (1.5, 3, "arms")
    assert job.progress.seconds_left is None, "one of them has not begun"
    (job.folder / "parts" / "02" / "status.json").write_text(json.dumps({"state": "done"}))
    assert job.progress.seconds_left == pytest.approx(5)
    monkeypatch.setattr(cluster, "_queue", lambda moment: {"7": Place("7", "PENDING", "", "Dependency")})
    assert "3 arms as an array: 2 done" in queue_words(job)
    assert job.state == "queued"
    (job.folder / "parts" / "01" / "queue.json").write_text('{"id": "6_1"}')
    monkeypatch.setattr(
        cluster, "_queue",
        lambda moment: {"7": Place("7", "PENDING", "", "Dependency"), "6_1": Place("6_1", "RUNNING", "node4")},
    )  # fmt: skip
    assert job.state == "running", "its arms are, though what sums them up waits"
    assert [one.id for one in queue.on_nodes(job)] == ["01"] and "1 running on node4" in queue_words(job)
    asked = []
    monkeypatch.setattr(cluster, "_ask", lambda *words: asked.append(words) or "")
    monkeypatch.setattr(cluster._queue, "cache_clear", lambda: None, raising=False)
    queue.requeue(job)
    assert asked == [("scontrol", "requeue", "6_1")]


def test_the_command_jobs_lists_and_cancels(workspace_folder, monkeypatch, capsys):
    assert main(["jobs"]) == 0 and "no job" in capsys.readouterr().out
    job = noted(workspace_folder, state="running", message="training", done=5, total=10)
    monkeypatch.setattr(cluster, "_queue", lambda moment: {"7": Place("7", "RUNNING", "node3")})
    assert main(["jobs"]) == 0
    assert "running, 50% training  [Slurm 7: running on node3]" in capsys.readouterr().out
    assert main(["jobs", "--cancel", job.id]) == 0 and "stops at its next step" in capsys.readouterr().out
    assert (job.folder / "cancel").exists()
    assert main(["jobs", "--resume", job.id]) == 2
