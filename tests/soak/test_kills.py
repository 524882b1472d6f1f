"""Processes that are killed again and again. ``KS_LOTTERY_SOAK_ROUNDS`` says how often: 30 times unless told otherwise."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.places import ROOT
from helpers.tiny_text import PROMPT
from ks_core.audit.inquiry import Audit
from ks_core.audit.panels import PANELS
from ks_core.checkpoints import demo
from ks_core.jobs import queue
from ks_core.store.cache import Cache
from ks_core.study.scan import Study
from ks_core.tuning.arms import parse_arm
from ks_core.tuning.plans import Plan

pytestmark = pytest.mark.soak
ROUNDS = int(os.environ.get("KS_LOTTERY_SOAK_ROUNDS", "30"))

#: A server, as far as a job can tell: it starts the job and lives on.
SERVER = """
import json, sys, time
from ks_core.jobs import queue
print(queue.submit(sys.argv[1], json.loads(sys.argv[2])).id, flush=True)
time.sleep(3600)
"""


@pytest.fixture
def requests(tiny_pair, demo_home):
    """What is killed, by kind: scan and drift on the demo, a run of three arms and an audit on a tiny pair."""
    base, tuned, corpus = tiny_pair
    common = {
        "base": base,
        "tuned": tuned,
        "alpha": 0.2,
        "corpus": corpus,
        "device": "cpu",
        "prompt": PROMPT,
        "max_new_tokens": 6,
    }
    arms = ("base", "partial:steps=150:batch_size=4", "frequent:k=8:steps=150:batch_size=4")
    plan = Plan(**common, arms=tuple(map(parse_arm, arms)), sentences=8)
    study = {"base": demo.BASE, "tuned": demo.TUNED}
    settings = {"method": "umap", "background": 800, "changed": 200, "seed": 0}
    return {
        "scan": study,
        "drift": {**study, "settings": settings},
        "tune": plan.as_dict(),
        "audit": Audit(**common, budget="small").as_dict(),
    }


def outcome(kind, parameters):
    """What a finished job of this kind leaves, as one hash: times and places left out."""
    if kind == "scan":
        scan = Study(parameters["base"], parameters["tuned"]).cached_scan()
        return digest(scan.counts, scan.pvalue)
    if kind == "drift":
        entry = next(e for e in Cache().entries() if e.kind == "drift")
        return digest(*(array for _, array in sorted(load_file(entry.path).items())))
    if kind == "tune":
        arms = queue.all_jobs("tune")[0].result["arms"]
        return digest(*(np.array([[loss for _, loss in arm.get("losses") or [[0, 0]]]]) for arm in arms),
                      json.dumps([arm["evaluation"]["scores"] for arm in arms], sort_keys=True))  # fmt: skip
    audit = Audit.from_dict(parameters)
    return digest(*(json.dumps(without_times(audit.panel(name)), sort_keys=True) for name in PANELS))


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if "second" not in k and k != "time"}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def digest(*parts):
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes())
    return made.hexdigest()


def forget(kind, parameters):
    """Remove what a kind has made, so that the next round makes it anew."""
    import shutil

    if kind in ("scan", "drift"):
        Cache().clear(kind)
    if kind == "audit":
        shutil.rmtree(Audit.from_dict(parameters).folder(), ignore_errors=True)


def files_of(folder):
    """Every finished thing of the workspace, by content; what a living job may still write is left out."""
    kept = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and inside[0] in ("jobs", "audits", "cache") and not path.name.startswith("."):
            kept[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return kept


def test_thirty_kills(requests, demo_home):
    """At random moments, every third time with the process that had started it."""
    picked = random.Random(0)
    kinds = list(requests)
    expected, takes = {}, {}
    Study(demo.BASE, demo.TUNED).scan()
    for kind in kinds:
        forget(kind, requests[kind])
        began = time.monotonic()
        job = queue.submit(kind, requests[kind])
        assert job.wait(600) == "done", job.log_tail()
        takes[kind] = time.monotonic() - began
        expected[kind] = outcome(kind, requests[kind])
    hit, missed, number = dict.fromkeys(kinds, 0), 0, 0
    while sum(hit.values()) < ROUNDS:
        assert missed <= 2 * ROUNDS, "the jobs are over too soon to be killed"
        kind = kinds[number % len(kinds)]
        forget(kind, requests[kind])
        with_server = number % 3 == 2
        before = files_of(demo_home)
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, kind, json.dumps(requests[kind])],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        job = queue.find(server.stdout.readline().strip())
        time.sleep(picked.uniform(0, takes[kind]))
        if with_server:
            server.kill()
        # Its process note may not be written yet: then it is killed as soon as it is.
        end = time.monotonic() + 10
        while not (job.folder / "process.json").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process = json.loads((job.folder / "process.json").read_text())["pid"]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        end = time.monotonic() + 10
        while job.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        server.kill()
        server.wait()
        state = job.state
        assert state in ("failed", "done"), (number, kind, state)
        after = files_of(demo_home)
        lost = [p for p in before if after.get(p) != before[p]]
        assert not lost, (number, kind, lost)
        number += 1
        if state == "done":  # it was over first: the next kill of this kind comes sooner
            missed += 1
            takes[kind] *= 0.8
        else:
            hit[kind] += 1
            assert "killed" in job.error, (number, kind, job.error)
            assert queue.resume(job).wait(600) == "done", (number, kind, job.error, job.log_tail())
        assert outcome(kind, requests[kind]) == expected[kind], (number, kind)
    assert not [j for j in queue.all_jobs() if j.state in ("queued", "running")]
    print(f"\n{sum(hit.values())} jobs were killed ({hit}), {missed} were over before")
