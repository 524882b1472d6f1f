"""Jobs: real processes, followed, cancelled, killed and resumed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from helpers.kinds import with_kind
from helpers.samples import NAME, ROWS, folder, safetensors, write
from helpers.waiting import until
from ks_core.errors import JobError
from ks_core.jobs import queue
from ks_core.jobs.handle import Job

pytestmark = pytest.mark.real_start

#: Work for the tests: a module that the job's process can import by name.
WORKER = """
import time

from ks_core.errors import SettingsError


def run(parameters, running):
    if parameters["do"] == "fail":
        raise SettingsError("alpha is 2. Expected less.")
    if parameters["do"] == "crash":
        raise ZeroDivisionError
    kept = running.folder / "kept"
    start = int(kept.read_text()) if kept.exists() else 0
    running.event(started_at=start)
    for step in range(start, parameters["steps"]):
        running.progress(step, parameters["steps"], "stepping", stage="steps")
        half = kept.with_suffix(".half")  # a kill may come at any moment
        half.write_text(str(step))
        half.replace(kept)
        time.sleep(parameters.get("pause", 0.01))
    return {"from": start}
"""


@pytest.fixture(autouse=True)
def worker(tmp_path, monkeypatch):
    (tmp_path / "job_worker.py").write_text(WORKER)
    with_kind(tmp_path, monkeypatch, "test", "job_worker:run")


def submit(**parameters):
    return queue.submit("test", {"do": "work", "steps": 5, **parameters})


def test_a_job_runs_to_its_end():
    job = submit()
    assert job.wait(30) == "done"
    assert job.result == {"from": 0}
    assert job.events()[0]["started_at"] == 0
    assert [j.id for j in queue.all_jobs("test")] == [job.id]
    assert queue.find(job.id).state == "done"


def test_an_error_for_people_is_kept_as_it_is():
    job = submit(do="fail")
    assert job.wait(30) == "failed"
    assert job.error == "alpha is 2. Expected less."
    with pytest.raises(JobError, match="failed"):
        _ = job.result


def test_an_unexpected_error_is_in_the_log_and_not_in_the_sentence():
    job = submit(do="crash")
    assert job.wait(30) == "failed"
    assert "Traceback" in job.log_tail(50) and "ZeroDivisionError" in job.log_tail()
    assert "Traceback" not in job.error and "log" in job.error


def test_the_same_request_is_one_job():
    first = submit(steps=100, pause=0.05)
    assert submit(steps=100, pause=0.05).id == first.id
    first.cancel()
    assert first.wait(30) == "cancelled"
    assert submit(steps=100, pause=0.05).id != first.id
    queue.all_jobs("test")[0].cancel()


def test_jobs_of_one_device_run_one_after_the_other():
    first, second = submit(steps=1000, pause=0.05), submit(steps=1)
    until(lambda: first.state == "running")
    until(lambda: "waiting" in second.progress.message)
    assert second.state == "queued"
    first.cancel()
    assert second.wait(30) == "done"
    assert first.state == "cancelled"


def test_a_killed_job_has_failed_and_resumes_where_it_was():
    job = submit(steps=40, pause=0.1)
    until(lambda: job.progress.done >= 3)
    os.killpg(json.loads((job.folder / "process.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: job.state == "failed")
    assert "without a word" in job.error
    queue.resume(job)
    assert job.wait(60) == "done", job.log_tail()
    assert job.result["from"] >= 2


def test_a_pid_that_belongs_to_another_is_not_the_job(tmp_path):
    job = submit(steps=1000, pause=0.05)
    until(lambda: job.state == "running")
    path = job.folder / "process.json"
    real = json.loads(path.read_text())
    path.write_text(json.dumps({**real, "pid": os.getpid()}))
    assert job.state == "failed"
    path.write_text(json.dumps(real))
    assert job.state == "running"
    job.cancel()
    assert job.wait(30) == "cancelled"


def test_half_written_files_are_no_error():
    job = submit()
    job.wait(30)
    until(lambda: not job.is_alive())  # it writes no more
    (job.folder / "status.json").write_text('{"state": "do')
    with (job.folder / "events.jsonl").open("a") as file:
        file.write('{"half')
    assert job.state == "done", "its result is there, which is written last"
    assert len(job.events()) == 1
    (job.folder / "result.json").write_text('{"fro')
    assert job.state == "failed" and "without a word" in job.error


def test_a_process_whose_job_slurm_has_given_to_another_leaves_without_a_word(tmp_path):
    folder = tmp_path / "20260101-000000-test-abcdef"
    folder.mkdir()
    request = {"kind": "test", "parameters": {"do": "work", "steps": 10_000}, "device": "slurm"}
    (folder / "request.json").write_text(json.dumps(request))
    process = subprocess.Popen([sys.executable, "-m", "ks_core.jobs.worker", str(folder)])
    job = Job(folder)
    until(lambda: job.progress.done > 3)
    other = json.dumps({"pid": 1, "identity": "on another node"})
    (folder / "process.json").write_text(other)
    assert process.wait(20) == 0
    assert job.status["state"] == "running", "the other one goes on"
    assert (folder / "process.json").read_text() == other and not (folder / "result.json").exists()


def test_unknown_kinds_and_jobs_are_said():
    with pytest.raises(JobError, match="no kind of job"):
        queue.submit("dance", {})
    with pytest.raises(JobError, match="no job"):
        queue.find("../../etc")


def test_the_process_is_of_its_own_session():
    job = submit(steps=200, pause=0.05)
    until(lambda: job.state == "running")
    pid = json.loads((job.folder / "process.json").read_text())["pid"]
    assert os.getsid(pid) == pid != os.getsid(0)
    assert sys.executable
    job.cancel()
    assert job.wait(30) == "cancelled"


def test_relative_names_mean_in_the_job_what_they_meant_where_it_was_asked_for(tmp_path, monkeypatch):
    """Of the workspace and of checkpoints; and nothing that lies there is taken for a module of the program's."""
    here = tmp_path / "here"
    write(here / "base", folder())
    write(here / "tuned", folder(model__safetensors=safetensors({NAME: ROWS + 1})))
    (here / "numpy.py").write_text("raise SystemExit('this is not NumPy')")
    monkeypatch.chdir(here)
    monkeypatch.setenv("KS_LOTTERY_HOME", "own-workspace")
    job = queue.submit("scan", {"base": "base", "tuned": "tuned"})
    assert job.wait(60) == "done", job.log_tail()
    assert job.result["rows"] == 12 and (here / "own-workspace" / "jobs" / job.id).is_dir()
