"""A run whose processes are killed: its state is true afterwards, and it goes on from its last checkpoint."""

import json
import os
import signal
import subprocess
import sys

import pytest

from helpers import tiny_text
from helpers.places import ROOT
from helpers.waiting import until
from ks_core.jobs import queue, running
from ks_core.tuning.arms import parse_arm
from ks_core.tuning.plans import Plan

pytestmark = pytest.mark.real_start


@pytest.fixture
def plan(tmp_path, tiny_folder):
    arms = ("base", "prompt:steps=20:batch_size=2", "frequent:k=8:steps=700:batch_size=2")
    return Plan(
        base=str(tiny_folder), tuned="", arms=tuple(map(parse_arm, arms)), corpus=tiny_text.corpus(tmp_path), prompt="w3 {source} w4",
        sentences=4, max_new_tokens=4, device="cpu",
    )  # fmt: skip


def steps(job, arm=2):
    return [e["step"] for e in job.events() if e.get("arm") == arm and "step" in e]


@pytest.mark.whole
def test_a_killed_training_goes_on_from_its_last_checkpoint(plan):
    job = queue.submit("tune", plan.as_dict())
    until(lambda: len(steps(job)) >= 60)
    os.killpg(json.loads((job.folder / "process.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: not job.is_alive())
    assert job.state == "failed" and "killed" in job.error
    kept = {p.parent.name: p.read_text() for p in job.folder.glob("arms/*/result.json")}
    assert set(kept) == {"00-base", "01-prompt"}
    before = len(job.events())
    assert queue.resume(job).wait(300) == "done", job.log_tail()
    after = [e["step"] for e in job.events()[before:] if e.get("arm") == 2 and "step" in e]
    assert after[0] > 25 and after[-1] == 700, "it began at its last checkpoint, not anew"
    for name, text in kept.items():
        assert (job.folder / "arms" / name / "result.json").read_text() == text
    result = job.result["arms"][2]
    assert [s for s, _ in result["losses"]] == list(range(1, 701)) and not result["error"]


@pytest.mark.whole
def test_the_end_of_the_program_that_started_it_does_not_touch_a_run(plan):
    program = (
        "import json, sys, time\nfrom ks_core.jobs import queue\n"
        "print(queue.submit('tune', json.loads(sys.argv[1])).id, flush=True)\ntime.sleep(600)"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(plan.as_dict())], stdout=subprocess.PIPE, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert server.stdout is not None
    job = queue.find(server.stdout.readline().strip())
    until(lambda: len(steps(job, 1)) >= 2)
    server.kill()
    server.wait()
    assert job.state == "running"
    job.cancel()
    assert job.wait(120) == "cancelled"
    until(lambda: not job.is_alive())


@pytest.mark.whole
def test_both_killed_at_once(plan):
    job = queue.submit("tune", plan.as_dict())
    until(lambda: len(steps(job)) >= 5)
    os.killpg(json.loads((job.folder / "process.json").read_text())["pid"], signal.SIGKILL)
    # A new program finds the folder and nothing else.
    code = "import sys\nfrom ks_core.jobs import queue\nj = queue.find(sys.argv[1])\nprint(j.state, '|', j.error)"
    until(lambda: not job.is_alive())
    said = subprocess.run(
        [sys.executable, "-c", code, job.id], capture_output=True, text=True, cwd=ROOT
    ).stdout  # fmt: skip
    assert said.startswith("failed | ") and "go" in said


def test_a_loss_that_is_no_number_and_a_full_disk_are_said(plan, tmp_path):
    from dataclasses import replace

    wild = replace(plan, arms=(parse_arm("base"), parse_arm("prompt:steps=5:learning_rate=3e38")))
    job = queue.submit("tune", wild.as_dict())
    assert job.wait(120) == "done"
    assert "Lower the learning rate" in job.result["arms"][1]["error"] and not job.result["arms"][0]["error"]
    assert "disk is full" in running.sentence(OSError(28, "No space left on device"))
    for text in ("CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory: you tried"):
        assert "ran out of memory" in running.sentence(RuntimeError(text))
