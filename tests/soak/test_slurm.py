"""Slurm for real: one node, started for these tests. ``make slurm`` runs them, where slurm-wlm and munge are installed."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from helpers.outcomes import outcome
from helpers.places import APP, ROOT
from helpers.slurm_node import SlurmNode, missing
from helpers.tiny_text import PROMPT
from helpers.waiting import until
from ks_core.audit.panels import PANELS
from ks_core.commands.program import main
from ks_core.errors import JobError
from ks_core.jobs import cluster, processes, queue
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import queue_words
from ks_core.jobs.resources import Resources

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=f"Slurm is not installed: {', '.join(missing())}"),
]
ONE = Allocation(minutes=30, cpus=1, memory=2, array=False)


@pytest.fixture(scope="module")
def node():
    made = SlurmNode()
    before = os.environ.get("SLURM_CONF")
    os.environ.update(made.environment)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        if before is None:
            del os.environ["SLURM_CONF"]


@pytest.fixture(autouse=True)
def nothing_left(node):
    """The next test finds an empty queue."""
    yield
    node.run("scancel", "--full", "--me")
    until(lambda: not node.run("squeue", "-h").strip())


def tune(made, allocation=ONE):
    return queue.submit("tune", made.as_dict(), label="a run", allocation=allocation)


def running(job):
    until(lambda: job.state == "running" and job.progress.unit == "steps" and job.progress.done > 30)


def test_a_run_gives_what_it_gives_here(tiny_plan, node):
    made = tiny_plan(["base", "rows"])
    here = outcome(queue.submit("tune", made.as_dict()))
    job = tune(made)
    assert job.place.id and job.state in ("queued", "running")
    there = outcome(job)
    for name, (arm, answers, rows) in here.items():
        other, said, moved = there[name]
        assert said == answers and other["evaluation"] == arm["evaluation"]
        assert other.get("losses") == arm.get("losses") and (rows is None or (moved[1] == rows[1]).all())
    until(lambda: job.place.state == "COMPLETED")


def test_two_processes_on_a_node(tiny_plan, node):
    made = tiny_plan(["rows"])
    alone = outcome(queue.submit("tune", made.as_dict()))["Chosen rows"]
    job = tune(replace(made, resources=Resources(processes=2)), replace(ONE, cpus=2))
    assert outcome(job)["Chosen rows"][1] == alone[1]


def test_it_waits_in_the_queue_and_can_be_cancelled_there_and_while_it_runs(tiny_plan, node):
    first = tune(tiny_plan(["rows:steps=20000"]), replace(ONE, cpus=2))
    running(first)
    assert node.run("squeue", "-h", "-o", "%T").strip() == "RUNNING" and " on " in first.place.words
    second = tune(tiny_plan(["rows:steps=20001"]), replace(ONE, cpus=2))
    until(lambda: second.place.state == "PENDING" and second.place.reason in ("Resources", "Priority"))
    assert second.state == "queued" and "pending (" in second.place.words
    second.cancel()
    assert second.state == "cancelled" and second.id != first.id
    until(lambda: len(node.run("squeue", "-h").split("\n")) == 2)
    first.cancel()
    assert first.wait(60) == "cancelled"
    assert list((first.folder / "arms").glob("*/checkpoints/checkpoint-*")), "it saved before it stopped"


def start_now(node, job):
    """Slurm holds a requeued job back for two minutes, so that what ran of it is gone; a test waits for just that."""
    own = f"[{job.place.id}."

    def is_watched():
        processes_there = psutil.process_iter(["name", "cmdline"])
        return any(p.info["name"] == "slurmstepd" and own in " ".join(p.info["cmdline"] or []) for p in processes_there)

    until(lambda: not is_watched())
    time.sleep(2)  # the controller is told of it

    def is_running():
        node.run("scontrol", "update", f"jobid={job.place.id}", "StartTime=now")
        time.sleep(2)  # the controller needs some quiet to start it
        return job.place.state == "RUNNING" or job.state == "done"

    try:
        until(is_running)
    except AssertionError:
        raise AssertionError(node.run("scontrol", "show", "job", job.place.id)) from None


def begun(job):
    return [e["step"] for e in job.events() if "step" in e]


def test_the_node_daemon_dies_and_comes_back_then_a_requeue_goes_on(tiny_plan, node):
    job = tune(tiny_plan(["rows:steps=1500"]), replace(ONE, cpus=2))
    running(job)
    node.kill_node()
    done = job.progress.done
    until(lambda: job.progress.done > done + 50)
    assert job.state == "running", "the work does not need the daemon"
    node.start_node()
    until(lambda: job.place.state == "RUNNING")
    queue.requeue(job)
    until(lambda: job.state == "queued")
    until(lambda: job.place.state == "PENDING")
    with pytest.raises(JobError, match="Only a running job"):
        queue.requeue(job)
    start_now(node, job)
    arm, answers, _ = outcome(job)["Chosen rows"]
    assert len(arm["losses"]) == 1500 and len(answers) == 35
    assert begun(job) == list(range(1, 1501)), "it saved and went on: no step was lost, none was done twice"
    assert "Restarts=1" in node.run("scontrol", "show", "job", job.place.id, "--oneliner")


def test_a_node_that_slurm_has_given_up_does_not_run_it_twice(tiny_plan, node):
    job = tune(tiny_plan(["rows:steps=40000"]), replace(ONE, cpus=2))
    running(job)
    first = json.loads((job.folder / "process.json").read_text())
    node.kill_node()
    # The node does not answer: Slurm takes it for dead and requeues the job.
    until(lambda: job.place.state != "RUNNING")
    assert job.state == "queued" and processes.identity(first["pid"]) == first["identity"], "the process lives on"
    node.start_node()
    until(lambda: processes.identity(first["pid"]) is None)  # Slurm ends it when the node is back
    before = len(begun(job))
    start_now(node, job)
    until(lambda: len(begun(job)) > before + 50)
    steps = begun(job)
    assert steps[:before] == list(range(1, before + 1)), "the first went on by itself"
    assert 1 < steps[before] <= before + 1, "the second begins where the first had saved last"
    job.cancel()
    assert job.wait(60) == "cancelled"


def test_it_saves_when_its_time_runs_out_and_goes_on(tiny_plan, node):
    job = tune(tiny_plan(["rows:steps=1500"]), replace(ONE, cpus=2))
    running(job)
    node.run("scancel", "--signal=USR2", job.place.id)  # what Slurm sends two minutes before the end
    until(lambda: job.state == "queued" and "interrupted" in job.progress.message)
    saved = begun(job)[-1]
    until(lambda: job.place.state == "PENDING")
    start_now(node, job)
    arm, _, _ = outcome(job)["Chosen rows"]
    assert len(arm["losses"]) == 1500
    assert begun(job).count(saved) == 1 and begun(job).count(saved + 1) == 1, "no step was lost and none done twice"


def test_a_process_that_is_killed_on_the_node_is_a_failed_job_that_can_be_resumed(tiny_plan, node):
    job = tune(tiny_plan(["rows:steps=1500"]), replace(ONE, cpus=2))
    running(job)
    process = json.loads((job.folder / "process.json").read_text())
    os.kill(process["pid"], 9)
    assert job.wait(60) == "failed" and "Slurm ended job" in job.error
    first = job.place.id
    queue.resume(job)
    assert job.place.id != first
    assert len(outcome(job)["Chosen rows"][0]["losses"]) == 1500
    assert begun(job).count(1) == 1


def test_another_job_takes_its_place_and_it_goes_on_afterwards(tiny_plan, node):
    job = tune(tiny_plan(["rows:steps=1500"]), replace(ONE, cpus=2, partition="main"))
    running(job)
    urgent = tune(tiny_plan(["rows"]), replace(ONE, cpus=2, partition="urgent"))
    until(lambda: job.state == "queued")
    assert urgent.wait(120) == "done"
    until(lambda: job.place.state == "PENDING")
    start_now(node, job)
    assert len(outcome(job)["Chosen rows"][0]["losses"]) == 1500 and begun(job).count(1) == 1


def test_arms_as_an_array(tiny_plan, node):
    made = tiny_plan(["base", "rows", "prompt", "embed:learning_rate=0.2:steps=40", "partial"], alpha=0.2)
    here = outcome(queue.submit("tune", made.as_dict()))
    job = tune(made, replace(ONE, array=True))
    assert [p.request["label"] for p in job.parts] == ["Base", "Embed Tuning", "Chosen rows"]
    assert "3 arms as an array" in queue_words(job)
    there = outcome(job)
    assert list(there) == list(here)
    for name, (arm, answers, _) in here.items():
        assert there[name][1] == answers and there[name][0]["evaluation"] == arm["evaluation"]
    assert {p.state for p in job.parts} == {"done"}
    assert job.result["significance"] == queue.all_jobs("tune")[1].result["significance"]


def test_cancelling_an_array_leaves_nothing_in_the_queue(tiny_plan, node):
    job = tune(tiny_plan(["rows:steps=20000", "prompt:steps=20000", "base"]), replace(ONE, array=True))
    until(lambda: any(p.state == "running" for p in job.parts))
    job.cancel()
    assert job.state == "cancelled"
    until(lambda: not node.run("squeue", "-h").strip())


def test_from_the_command_line(tiny_plan, node, tmp_path):
    made = tiny_plan(["base"])
    words = [
        sys.executable, "-m", "ks_core", "tune", made.base, "--arms", "base,rows", "--rows", "w7", "--steps", "8", "--corpus",
        made.corpus.name, "--languages", "A,B", "--prompt", "w3 {source} w4", "--sentences", "5", "--max-new-tokens", "4",
        "--slurm", "--cpus", "1", "--memory", "2", "--minutes", "20",
    ]  # fmt: skip
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert found.returncode == 0, found.stderr
    assert "| Chosen rows | 1 |" in found.stdout and "Slurm" in found.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "ks_core", "jobs"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "done" in listed.stdout and "Slurm" in listed.stdout


def test_an_audit_from_the_command_line(tiny_pair, node, capsys):
    base, tuned, corpus = tiny_pair
    words = ["audit", base, tuned, "--alpha", "0.2", "--budget", "small", "--corpus", corpus.name, "--languages", "A,B",
             "--prompt", PROMPT, "--max-new-tokens", "4", "--slurm", "--cpus", "1", "--memory", "2", "--minutes", "20"]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "in short" in printed.out and "of the node's memory" in printed.err
    controls, panels = queue.all_jobs("tune")[0], queue.all_jobs("audit")[0]
    assert len(controls.parts) > 5 and {part.state for part in controls.parts} == {"done"}, "every arm is a task"
    assert panels.place.state == "COMPLETED" and [e["panel"] for e in panels.events()] == list(PANELS)


def test_from_the_page(node, demo_home):
    from streamlit.testing.v1 import AppTest

    from ks_core.study.scan import Study

    Study("demo:base", "demo:en-fr").scan()
    at = AppTest.from_file(APP, default_timeout=60).run().switch_page("pages/fine_tune.py").run()
    at.toggle(key="tune_slurm").set_value(True).run()
    assert not at.exception and at.selectbox(key="tune_partition").options == ["main", "urgent"]
    for key, value in (("tune_cpus", 2), ("tune_memory", 6), ("tune_minutes_main", 30), ("tune_sentences", 2)):
        at.number_input(key=key).set_value(value)
    at.multiselect(key="tune_arms_True").set_value(["base", "transfer"]).run()
    next(b for b in at.button if b.label == "Measure how long this takes there").click().run()
    assert not at.exception and not at.error
    measured = queue.all_jobs("estimate")[0]
    assert measured.place.id and measured.wait(240) == "done", measured.error
    at.run()
    assert any("as partition main was measured for this model" in m.value for m in at.markdown)
    next(b for b in at.button if b.label == "Start the run").click().run()
    assert not at.exception and not at.error
    job = queue.all_jobs("tune")[0]
    assert job.request["allocation"]["minutes"] == 30 and job.place.id
    at.run()
    assert any("Slurm" in c.value and "2 arms as an array" in c.value for c in at.caption)
    assert job.wait(240) == "done", job.error
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["view"] = "Results"
    at = at.run().switch_page("pages/fine_tune.py").run()
    assert not at.exception and any("base" in str(table.value).lower() for table in at.dataframe)


def test_what_slurm_refuses_is_said_and_leaves_no_job(tiny_plan, node):
    with pytest.raises(JobError, match=r"Slurm did not take the job .*partition"):
        tune(tiny_plan(["base"]), replace(ONE, partition="nowhere"))
    assert not queue.all_jobs()
    assert cluster.partitions() == {"main": 60, "urgent": 60}


def test_a_controller_that_does_not_answer_is_no_failure(tiny_plan, node, monkeypatch):
    job = tune(tiny_plan(["rows:steps=20000"]))
    running(job)
    monkeypatch.setattr(cluster, "_queue", lambda moment: None)
    assert job.state == "running" and "unknown" in job.place.words
    monkeypatch.undo()
    time.sleep(0.1)
    job.cancel()
    assert job.wait(60) == "cancelled"
