"""Several processes at one run: the same losses, rows and answers as one, and a true end when one is killed."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import psutil
import pytest

from helpers.outcomes import outcome
from helpers.tiny_text import PROMPT
from helpers.waiting import until
from ks_core.audit.inquiry import Audit
from ks_core.audit.panels import PANELS
from ks_core.errors import SettingsError
from ks_core.jobs import queue, world
from ks_core.jobs.resources import Resources
from ks_core.store import workspace
from ks_core.trajectory import FILE, open_trajectory
from ks_core.tuning.trainer import _shares

#: Processes that work together begin threads of their own, and are not forked from one that has some.
pytestmark = pytest.mark.real_start

#: A step's gradient is a sum over its examples. Two processes sum two halves and then those, so in float32 it differs by
#: a few of its last bits (6e-8 each). Adam divides by the gradient's own size, so an element whose terms cancel keeps
#: less of them, and the steps pass the difference on. Steps move an element by at most the learning rate.
LOSS, ROWS = 1e-4, 2e-3


def tune(made):
    return queue.submit("tune", made.as_dict())


def same(alone, together, answering=True):
    """An arm of one process and of several: losses and rows within the tolerance, and the very same answers."""
    (arm, answers, rows), (other, said, moved) = alone, together
    losses, others = np.array(arm.get("losses", [])), np.array(other.get("losses", []))
    assert losses.shape == others.shape
    np.testing.assert_allclose(others, losses, rtol=LOSS)
    if answering:
        assert said == answers and other["evaluation"] == arm["evaluation"], arm["name"]
    if rows is not None:
        assert other["rows"] == arm["rows"]
        np.testing.assert_allclose(moved[1], rows[1], atol=ROWS)


FEW = ["base", "embed:learning_rate=0.2:steps=40", "transfer", "rows"]
ARMS = [*FEW, "partial", "lora:rank=2", "full"]


def both(made):
    """A run by one process and by two, compared: what came out of the one, and both jobs."""
    one, two = tune(made), tune(replace(made, resources=Resources(processes=2)))
    alone, together = outcome(one), outcome(two)
    for name, (arm, answers, _) in alone.items():
        said = [a["prompt"] for a in together[name][1]]
        assert len(said) == 35 and said == [a["prompt"] for a in answers], "none lost, none twice"
        same(alone[name], together[name], answering=arm["kind"] in ("base", "rows", "lora", "transfer"))
    # What the two recorded is of both: as a process by itself records it, losses by part too.
    recorded = [open_trajectory("", [str(job.folder / "arms" / "01-embed" / FILE)]) for job in (one, two)]
    for part, pairs in recorded[0].every_loss.items():
        assert part in ("all", "content", "end") and [s for s, _ in pairs] == list(range(1, 41))
        np.testing.assert_allclose([x for _, x in recorded[1].every_loss[part]], [x for _, x in pairs], rtol=LOSS)
    assert len(recorded[0].every_loss) == 3
    assert "|processes:2|" in two.result["signature"] and "|processes:" not in one.result["signature"]
    rows = [arm["kind"] for arm in one.result["arms"]].index("rows")
    assert [e["step"] for e in two.events() if e.get("arm") == rows and "step" in e] == list(range(1, 13))
    return alone


@pytest.mark.whole
def test_two_processes_give_what_one_gives(tiny_plan):
    both(tiny_plan(FEW, alpha=0.2))


@pytest.mark.whole
def test_two_processes_give_what_one_gives_sharded_or_not(tiny_plan):
    alone = both(tiny_plan(ARMS, alpha=0.2, sweep=(0.2, 0.5)))
    spread = outcome(tune(replace(tiny_plan(["base", "rows"]), resources=Resources(processes=2, sharded=True))))
    assert set(spread) == {"Base", "Chosen rows"}
    for name, found in spread.items():
        same(alone[name], found)


@pytest.mark.whole
def test_an_audit_of_two_processes_gives_the_panels_of_one(tiny_pair):
    base, tuned, corpus = tiny_pair
    asked = Audit(
        base, tuned, alpha=0.2, budget="small", corpus=corpus, prompt=PROMPT, max_new_tokens=5, device="cpu", generate=True
    )  # fmt: skip
    panels = []
    for resources in (Resources(), Resources(processes=2), Resources(processes=2, sharded=True)):
        audit = replace(asked, resources=resources)
        for name in PANELS:  # they are kept by content, whoever made them
            (audit.folder() / f"{name}.json").unlink(missing_ok=True)
        job = queue.submit("audit", audit.as_dict())
        assert job.wait(240) == "done", job.error + job.log_tail(40)
        assert [e["panel"] for e in job.events()] == list(PANELS)
        panels.append({name: audit.panel(name) for name in PANELS})
    alone = panels[0]
    gates = alone["gating"]
    assert gates["written"]["runs"][0]["texts"] != gates["written"]["runs"][-1]["texts"], "the ticket does something"
    assert gates["runs"][0]["likelihood"] != gates["runs"][-1]["likelihood"]
    for together in panels[1:]:
        assert_alike(together, alone)


def assert_alike(one, other, where=""):
    """The same names, words and whole numbers; numbers with a fraction within what the order of a sum decides."""
    if isinstance(other, dict):
        assert one.keys() == other.keys(), where
        for name in other:
            assert_alike(one[name], other[name], f"{where}/{name}")
    elif isinstance(other, list):
        assert len(one) == len(other), where
        for n, pair in enumerate(zip(one, other, strict=True)):
            assert_alike(*pair, f"{where}/{n}")
    else:
        assert one == (pytest.approx(other, rel=1e-4, abs=1e-5, nan_ok=True) if isinstance(other, float) else other), (
            where
        )


@pytest.mark.whole
def test_one_process_reads_a_sharded_model_and_each_holds_its_share(tiny_folder, tiny_model, tmp_path):
    found = world.launch("helpers.reading:reads", {"source": str(tiny_folder)}, tmp_path, 2, "cpu")
    whole = sum(p.numel() for p in tiny_model.model.layers.parameters())
    assert found["readers"] == [0] and sum(found["held"]) == whole and max(found["held"]) <= whole / 2 + 16
    assert found["tied"] == [True, True]


def helpers(job):
    """The processes that a job has started for the work, in the order in which they began (pids start over at some time)."""
    pid = json.loads((job.folder / "process.json").read_text())["pid"]
    found = [p for p in psutil.Process(pid).children() if "spawn_main" in " ".join(p.cmdline())]
    return sorted(found, key=lambda p: (p.create_time(), p.pid))


@pytest.mark.parametrize(
    ("count", "lost", "codes", "who"),
    [
        (2, [], {1: -9}, "Process 2 of 2 was"),  # the other was ended before it could say a word
        (2, [], {0: -9}, "Process 1 of 2 was"),
        (2, [0], {0: 1}, "Process 2 of 2 was"),  # the other noticed, and ended first
        (3, [1], {1: 1, 0: -15}, "One of 3 processes was"),  # any of the two that said nothing
        (3, [0, 1], {0: 1}, "Process 3 of 3 was"),
        (3, [], {2: -9, 0: -15, 1: -15}, "Process 3 of 3 was"),
    ],
)
def test_who_was_killed(tmp_path, count, lost, codes, who):
    for number in lost:
        workspace.write_json(tmp_path / f"{number}.json", {"error": "connection reset", "lost": True})
    assert str(world._why(tmp_path, codes, count)).startswith(who)


@pytest.mark.whole
@pytest.mark.parametrize("victim", [0, 1])
def test_one_process_killed_ends_the_job_and_it_goes_on_later(tiny_plan, victim):
    made = replace(tiny_plan(["rows:steps=400"]), resources=Resources(processes=2))
    job = tune(made)
    until(lambda: any((job.folder / "arms").glob("*/checkpoints/checkpoint-*/trainer_state.json")))
    everyone = helpers(job)
    assert len(everyone) == 2
    everyone[victim].send_signal(signal.SIGKILL)
    assert job.wait(60) == "failed"
    assert f"Process {victim + 1} of 2 was killed" in job.error and "goes on from what is kept" in job.error
    psutil.wait_procs(everyone, 20)
    assert not [p for p in everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    queue.resume(job)
    arm, answers, _ = outcome(job)["Chosen rows"]
    assert len(arm["losses"]) == 400 and len(answers) == 35
    resumed = [e["step"] for e in job.events() if "step" in e]
    assert resumed.count(1) == 1, "it did not begin anew"


@pytest.mark.whole
def test_the_others_go_when_the_job_process_is_killed(tiny_plan):
    job = tune(replace(tiny_plan(["rows:steps=4000"]), resources=Resources(processes=2)))
    until(lambda: job.progress.done > 3)
    everyone = helpers(job)
    os.kill(json.loads((job.folder / "process.json").read_text())["pid"], signal.SIGKILL)
    psutil.wait_procs(everyone, 20)
    assert not [p for p in everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert job.state == "failed"


@pytest.mark.whole
def test_it_can_be_cancelled_in_training_and_goes_on(tiny_plan):
    job = tune(replace(tiny_plan(["rows:steps=600"]), resources=Resources(processes=2)))
    until(lambda: job.progress.done > 3)
    job.cancel()
    assert job.wait(60) == "cancelled"
    assert list((job.folder / "arms").glob("*/checkpoints/checkpoint-*")), "it saved before it stopped"


@pytest.mark.whole
def test_an_error_is_said_in_the_words_of_the_work(tiny_plan, tmp_path):
    made = tiny_plan(["base"])
    wrong = replace(made, corpus=replace(made.corpus, name=f"file:{tmp_path / 'none.tsv'}"))
    job = tune(replace(wrong, resources=Resources(processes=2)))
    assert job.wait(60) == "failed"
    assert "none.tsv" in job.error and "Process" not in job.error


def test_shares_are_every_batch_once():
    for processes in (1, 2, 3, 5):
        found = _shares(list(range(40)), 5, processes)
        assert len(found) == 8 * processes and [i for share in found for i in share] == list(range(40))
        assert all(found)


def test_what_cannot_be_is_said(tiny_plan, monkeypatch):
    monkeypatch.setattr(world.devices, "count", lambda device: 2)
    with pytest.raises(SettingsError, match="this machine has 2"):
        world.check(3, "cuda")
    with pytest.raises(SettingsError, match="cuda:1 is one"):
        world.check(2, "cuda:1")
    world.check(2, "cuda")
    with pytest.raises(SettingsError, match="steps of 5 pairs"):
        tiny_plan(["rows"], resources=Resources(processes=6))
    with pytest.raises(SettingsError, match="sharded"):
        tiny_plan(["lora"], resources=Resources(processes=2, sharded=True))
    with pytest.raises(SettingsError, match="at least 2"):
        Resources(sharded=True)
    with pytest.raises(SettingsError, match="no precision"):
        Resources(precision="int3")
