"""What goes wrong around the program: a full disk, a folder that goes, two servers, a clock, a port, no memory.

After each: the true state, nothing finished lost, one clear sentence.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from helpers import tiny_text
from helpers.kinds import with_kind
from helpers.places import APP, ROOT
from helpers.samples import NAME, ROWS, folder, safetensors, write
from helpers.waiting import until
from ks_core.commands.program import main
from ks_core.jobs import processes, queue, worker
from ks_core.jobs.handle import Job, update
from ks_core.store import workspace
from ks_core.store.cache import Cache
from ks_core.study.scan import Study
from ks_core.tuning.arms import parse_arm
from ks_core.tuning.plans import Plan

pytestmark = pytest.mark.real_start


@pytest.fixture
def pair(tmp_path):
    """A sound pair of twelve rows."""
    return str(write(tmp_path / "base", folder())), str(
        write(tmp_path / "tuned", folder(model__safetensors=safetensors({NAME: ROWS + 1})))
    )


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk of half a megabyte with the workspace on it."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a disk of its own needs the right to mount ({made.stderr.strip()})")
    monkeypatch.setenv("KS_LOTTERY_HOME", str(place / "home"))
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk):
    """Take all that is left of a disk."""
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))


def page(base, tuned):
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"], at.query_params["tuned"] = base, tuned
    return at.run()


def plan_of(tiny_folder, tmp_path, *arms):
    return Plan(
        base=str(tiny_folder), tuned="", arms=tuple(map(parse_arm, arms)), prompt="w3 {source} w4",
        corpus=tiny_text.corpus(tmp_path),
        sentences=4, max_new_tokens=4, device="cpu",
    )  # fmt: skip


def test_a_full_disk_and_a_scan(small_disk, pair, capsys):
    (small_disk / "home").mkdir()
    fill(small_disk)
    scan = Study(*pair).scan()
    assert scan.winners(0.05).any() and not Cache().entries(), "the result is had, and not kept"
    assert main(["scan", *pair]) == 0
    assert "12 of 12 rows changed" in capsys.readouterr().out
    at = page(*pair)
    assert not at.exception and "Free some disk" in at.error[0].value
    (small_disk / "filler").unlink()
    at.run()
    until(lambda: queue.all_jobs("scan") and queue.all_jobs("scan")[0].state == "done")
    at.run()
    assert not at.error and at.metric[0].value == "12"


@pytest.mark.whole
def test_a_disk_that_fills_during_a_run(small_disk, tiny_folder, tmp_path):
    """The run fails in a sentence, keeps what it had finished, and goes on from there when there is room."""
    plan = plan_of(tiny_folder, tmp_path, "base", "prompt:steps=3:batch_size=2", "frequent:k=8:steps=400:batch_size=2")
    job = queue.submit("tune", plan.as_dict())
    until(lambda: sum("step" in e and e["arm"] == 2 for e in job.events()) > 30)
    fill(small_disk)
    until(lambda: not job.is_alive())
    assert job.state == "failed" and "disk" in job.error and "finished" in job.error
    (small_disk / "filler").unlink()
    kept = {p.parent.name: p.read_bytes() for p in job.folder.glob("arms/*/result.json")}
    assert set(kept) == {"00-base", "01-prompt"}
    assert queue.resume(job).wait(200) == "done", job.log_tail()
    assert len(job.result["arms"]) == 3 and not any(arm["error"] for arm in job.result["arms"])
    assert all((job.folder / "arms" / name / "result.json").read_bytes() == data for name, data in kept.items())
    assert not list(job.folder.rglob("*.tmp"))


def test_a_cache_that_goes_while_it_is_used(workspace_folder, pair):
    study = Study(*pair)
    first = study.scan()
    shutil.rmtree(workspace_folder / "cache")
    assert study.cached_scan() is None
    np.testing.assert_array_equal(study.scan().counts, first.counts)
    assert study.cached_scan() is not None, "the folder was made again"


def test_a_cache_that_takes_nothing(workspace_folder, pair):
    """As after a remount that is read-only. The page says so, and does not compute for ever."""
    (workspace_folder / "cache").write_text("a file stands where the folder was")
    at = page(*pair)
    until(lambda: queue.all_jobs("scan") and queue.all_jobs("scan")[0].state == "done")
    at.run()
    assert not at.exception and "does not hold the result" in at.error[0].value
    at.run()
    assert len(queue.all_jobs("scan")) == 1
    (workspace_folder / "cache").unlink()
    next(b for b in at.button if b.label == "Start it again").click().run()
    until(lambda: queue.all_jobs("scan")[0].state == "done")
    at.run()
    assert not at.error and at.metric[0].value == "12"


@pytest.mark.whole
def test_the_whole_workspace_goes_under_a_run(workspace_folder, tiny_folder, tmp_path):
    plan = plan_of(tiny_folder, tmp_path, "base", "frequent:k=8:steps=20000:batch_size=2")
    job = queue.submit("tune", plan.as_dict())
    until(lambda: any("step" in e for e in job.events()))
    pid = json.loads((job.folder / "process.json").read_text())["pid"]
    shutil.rmtree(workspace_folder / "jobs", ignore_errors=True)
    until(lambda: processes.identity(pid) is None)
    assert queue.all_jobs() == []


SUBMIT = """
import json, sys, time
from ks_core.jobs import queue
while time.time() < float(sys.argv[1]):
    pass
print(queue.submit("scan", json.loads(sys.argv[2])).id)
"""


def test_two_servers_on_one_workspace(pair):
    """Many processes ask for the same at the same moment: it is done once."""
    asked = json.dumps({"base": pair[0], "tuned": pair[1]})
    moment = str(time.time() + 3)
    several = [
        subprocess.Popen([sys.executable, "-c", SUBMIT, moment, asked], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    ids = {process.communicate(timeout=60)[0].strip() for process in several}
    assert len(ids) == 1 and len(queue.all_jobs()) == 1
    assert queue.all_jobs()[0].wait(60) == "done"
    assert len(Cache().entries()) == 1


@pytest.mark.whole
def test_a_clock_that_is_set_back(tmp_path, monkeypatch, tiny_folder):
    """By a day, while one job runs and another had ended."""
    plan = plan_of(tiny_folder, tmp_path, "base", "frequent:k=8:steps=20000:batch_size=2")
    old = queue.submit("scan", {"base": "/nowhere", "tuned": "/nowhere"})
    assert old.wait(60) == "failed"
    running = queue.submit("tune", plan.as_dict())
    until(lambda: any("step" in e for e in running.events()))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    assert running.state == "running" and running.progress.total
    new = queue.submit("scan", {"base": "/nowhere", "tuned": "/nowhere"})
    assert [j.id for j in queue.all_jobs("scan")] == [new.id, old.id], "the newest is first, whatever its date says"
    assert new.wait(60) == "failed"
    (running.folder / "cancel").write_text(str(real()))
    running.insist()
    assert float((running.folder / "cancel").read_text()) < real() - 80000, "the patience begins anew"
    assert running.wait(60) == "cancelled"
    left = workspace.folder("jobs") / "20990101-000000-scan-abcdef"
    workspace.write_json(left / "request.json", {"kind": "scan", "parameters": {}, "created": real() + 1000})
    assert Job(left).state == "failed", "it does not wait for its date to come"


@pytest.mark.whole
def test_a_damaged_file_of_a_finished_run(tiny_folder, tmp_path, workspace_folder):
    """Each of its files by itself, missing, half there and of other content: the pages stand, and nothing is unexpected."""
    plan = plan_of(tiny_folder, tmp_path, "base", "frequent:k=8:steps=2:batch_size=2")
    job = queue.submit("tune", plan.as_dict())
    assert job.wait(120) == "done", job.log_tail()
    tuned = str(job.folder / "arms" / "01-frequent" / "adapter")
    Study(str(tiny_folder), tuned).scan()
    at = page(str(tiny_folder), tuned).switch_page("pages/fine_tune.py")
    at.query_params["run"] = job.id
    at.session_state["view"] = "Results"
    for path in sorted(p for p in job.folder.rglob("*.json*") if "adapter" not in p.parts):
        whole = path.read_bytes()
        for damaged in (None, whole[: len(whole) // 2], b"[]", b"{}", b'"text"'):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            for name in ("fine_tune", "audit", "compare"):
                at = at.switch_page(f"pages/{name}.py").run()
                assert not at.exception, (path, damaged, name)
                log = workspace_folder / "logs" / "ks-lottery.log"
                assert "Traceback" not in log.read_text(), (path, damaged, name)
        path.write_bytes(whole)
    at = at.switch_page("pages/fine_tune.py").run()
    assert not at.error and "Most frequent" in str(at.dataframe[0].value)


def test_a_server_that_is_killed_as_it_starts_a_job(monkeypatch, pair):
    """Before it could write down which process it was: the process itself does."""
    monkeypatch.setattr(queue, "note_process", lambda folder, pid: None)
    job = queue.submit("scan", {"base": pair[0], "tuned": pair[1]})
    until(lambda: (job.folder / "process.json").exists())
    assert job.wait(60) == "done"


def test_a_job_that_is_killed_between_its_result_and_its_last_word(pair):
    job = queue.submit("scan", {"base": pair[0], "tuned": pair[1]})
    assert job.wait(60) == "done"
    until(lambda: not job.is_alive())
    update(job.folder, state="running")
    assert job.state == "done" and job.result["rows"] == 12


def test_no_memory(pair, tmp_path, monkeypatch):
    """A job whose process gets no more memory says so."""
    (tmp_path / "hungry.py").write_text(
        "import resource, sys\nimport numpy, torch\n\n\ndef run(parameters, running):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "    make = numpy.ones if parameters['library'] == 'numpy' else torch.ones\n"
        "    return {'made': len(make(8 << 30))}\n"
    )  # fmt: skip
    with_kind(tmp_path, monkeypatch, "hungry", "hungry:run")
    for library in ("numpy", "torch"):
        job = queue.submit("hungry", {"library": library})
        assert job.wait(60) == "failed" and "ran out of memory" in job.error, job.log_tail()


def test_a_port_that_is_taken(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"Port {port} cannot be had" in said and f"PORT={port % 65535 + 1}" in said and said.count("\n") == 1
    assert main(["serve", "--port", "70000"]) == 2


def test_serve_opens_the_app(demo_home):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "ks_core", "serve", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=ROOT,
    )  # fmt: skip
    try:

        def answers():
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).read() == b"ok"

        until(answers, 120)
    finally:
        server.terminate()
        said = server.communicate(timeout=20)[0]
    assert (
        f"Open http://127.0.0.1:{port}" in said
        and "The demo is ready: 112 of 49,152" in said
        and "Traceback" not in said
    )


def test_the_demo_is_prepared_by_one_at_a_time(workspace_folder, monkeypatch):
    """The second finds what the first has made, and what a killed one had left is gone."""
    import threading

    from ks_core.checkpoints import demo

    left = workspace.folder("models") / ".making-abc"
    left.mkdir()
    made = []

    def make(report):
        made.append(1)
        time.sleep(0.5)

    monkeypatch.setattr(demo, "_make_base", make)
    monkeypatch.setattr(demo, "is_ready", lambda: bool(made))
    several = [threading.Thread(target=demo.prepare_base) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert made == [1] and not left.exists()


def test_a_last_word_that_the_disk_takes_later(monkeypatch, pair):
    job = queue.submit("scan", {"base": pair[0], "tuned": pair[1]})
    job.wait(60)
    tried = []

    def refused(folder, **change):
        tried.append(change)
        if len(tried) < 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker, "PAUSE", 0.0)
    monkeypatch.setattr(worker, "update", refused)
    worker._last_word(job.folder, state="failed", error="The disk is full.")
    assert len(tried) == 3 and tried[-1]["state"] == "failed"
