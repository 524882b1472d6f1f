"""What takes long: ``make soak``. Processes that are killed again and again, and many visitors for ten minutes.

``KS_LOTTERY_SOAK_ROUNDS``, ``KS_LOTTERY_SOAK_SESSIONS`` and ``KS_LOTTERY_SOAK_SECONDS`` make it longer or shorter.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from ks_core import jobs
from ks_core.audit.inquiry import PANELS, Audit
from ks_core.checkpoints import demo
from ks_core.store import workspace
from ks_core.store.cache import Cache
from ks_core.study.scan import Study
from ks_core.tuning.arms import parse_arm
from ks_core.tuning.plans import CorpusChoice, Plan

pytestmark = pytest.mark.soak
ROOT = Path(__file__).parent.parent
ROUNDS = int(os.environ.get("KS_LOTTERY_SOAK_ROUNDS", "30"))
SESSIONS = int(os.environ.get("KS_LOTTERY_SOAK_SESSIONS", "20"))
SECONDS = float(os.environ.get("KS_LOTTERY_SOAK_SECONDS", "600"))

#: A server, as far as a job can tell: it starts the job and lives on.
SERVER = """
import json, sys, time
from ks_core import jobs
print(jobs.submit(sys.argv[1], json.loads(sys.argv[2])).id, flush=True)
time.sleep(3600)
"""


@pytest.fixture
def requests(tmp_path, tiny_folder, demo_home):
    """What is killed, by kind: scan and drift on the demo, a run of three arms and an audit on a tiny pair."""
    import shutil

    tuned = tmp_path / "tuned"
    shutil.copytree(tiny_folder, tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.embed_tokens.weight"][3:13] += np.random.default_rng(0).normal(0, 3, (10, 16)).astype(np.float32)
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    text = tmp_path / "pairs.tsv"
    text.write_text(
        "\n".join(f"w{5 + i % 30} w{5 + i // 30} w{5 + i % 7}\tw{20 + i % 40} w{7 + i % 9}" for i in range(150))
    )
    corpus = CorpusChoice(f"file:{text}", source_language="A", target_language="B")
    common = {"base": str(tiny_folder), "tuned": str(tuned), "alpha": 0.2, "corpus": corpus, "device": "cpu",
              "prompt": "w3 w4\nw5 {source}\nw6", "max_new_tokens": 6}  # fmt: skip
    arms = ("base", "partial:steps=150:batch_size=4", "frequent:k=8:steps=150:batch_size=4")
    plan = Plan(**common, arms=tuple(map(parse_arm, arms)), sentences=8)
    pair = {"base": demo.BASE, "tuned": demo.TUNED}
    settings = {"method": "umap", "background": 800, "changed": 200, "seed": 0}
    return {
        "scan": pair,
        "drift": {**pair, "settings": settings},
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
        arms = jobs.all_jobs("tune")[0].result["arms"]
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
        job = jobs.submit(kind, requests[kind])
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
        job = jobs.find(server.stdout.readline().strip())
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
            assert jobs.resume(job).wait(600) == "done", (number, kind, job.error, job.log_tail())
        assert outcome(kind, requests[kind]) == expected[kind], (number, kind)
    assert not [j for j in jobs.all_jobs() if j.state in ("queued", "running")]
    print(f"\n{sum(hit.values())} jobs were killed ({hit}), {missed} were over before")


PAGES = {"": {}, "checkpoints": {}, "ks_test": {"token": "198"}, "winning_tokens": {"search": " the"}, "drift_map": {},
         "layers": {}, "compare": {}, "fine_tune": {}, "audit": {}, "certificate": {},
         "learn": {"step": "Ties"}, "glossary": {}}  # fmt: skip


async def visit(address, number, until, told):
    """One visitor: opens pages with other alphas and pairs, one after the other, and reads all that is sent."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import connect

    picked = random.Random(number)
    place = address.replace("http", "ws") + "/_stcore/stream"
    while time.monotonic() < until:
        async with connect(place, subprotocols=["streamlit"], origin=address, max_size=None) as socket:
            for _ in range(picked.randint(3, 12)):  # then the tab is closed, and another one opened
                name = picked.choice(list(PAGES))
                query = {"alpha": f"{picked.choice([0.05, 0.01, 0.2, 1e-4]):g}", **PAGES[name]}
                query["tuned"] = picked.choice(["demo:en-fr"] * 7 + ["demo:en-de", "demo:en-fr-seed1", "/nothing/here"])
                asked = BackMsg()
                asked.rerun_script.query_string = urlencode(query)
                asked.rerun_script.page_name = name
                began = time.monotonic()
                await socket.send(asked.SerializeToString())
                errors = []
                while True:
                    message = ForwardMsg.FromString(await asyncio.wait_for(socket.recv(), 120))
                    element = message.delta.new_element
                    if element.HasField("exception"):
                        told["exceptions"].append((name, query, element.exception.message[:300]))
                    if element.HasField("alert") and element.alert.format == element.alert.ERROR:
                        errors.append(element.alert.body)
                    if message.WhichOneof("type") == "script_finished":
                        if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                            break
                        if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                            told["exceptions"].append((name, query, "compile error"))
                            break
                told["seconds"].append(time.monotonic() - began)
                told["pages"][name] = told["pages"].get(name, 0) + 1
                wanted = query.get("tuned") == "/nothing/here"
                for said in errors:
                    if not (wanted and "does not exist" in said):
                        told["errors"].append((name, query, said[:300]))
                await asyncio.sleep(picked.uniform(0.2, 2))
                if time.monotonic() > until:
                    break


def memory(process):
    return process.memory_info().rss / 1e6


async def crowd(address, process, told):
    until = time.monotonic() + SECONDS

    async def watch():
        while time.monotonic() < until:
            told["memory"].append(memory(process))
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *(visit(address, n, until, told) for n in range(SESSIONS)))


def test_twenty_visitors_for_ten_minutes(server):
    port = int(server.rpartition(":")[2])
    process = next(
        psutil.Process(c.pid) for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid
    )  # fmt: skip
    told = {"pages": {}, "seconds": [], "errors": [], "exceptions": [], "memory": []}
    start = memory(process)
    asyncio.run(crowd(server, process, told))
    # Streamlit keeps the session of a closed tab for two minutes, and lets go of it when the next one comes.
    time.sleep(150)
    asyncio.run(visit(server, 0, time.monotonic() + 5, told))
    end = memory(process)
    seconds = sorted(told["seconds"])
    print(
        f"\n{SESSIONS} visitors, {SECONDS:.0f} s: {len(seconds)} pages ({told['pages']}), a page in {statistics.median(seconds):.2f} s "
        f"(median), {seconds[int(len(seconds) * 0.95)]:.2f} s (95 of 100), {seconds[-1]:.2f} s (longest); memory of the server "
        f"{start:.0f} MB at the start, {max(told['memory']):.0f} MB at the most, {end:.0f} MB at the end"
    )
    assert not told["exceptions"] and not told["errors"], (told["exceptions"][:3], told["errors"][:3])
    assert set(told["pages"]) == set(PAGES), "every page was opened"
    third = len(told["memory"]) // 3
    early, late = (statistics.median(part) for part in (told["memory"][third : 2 * third], told["memory"][2 * third :]))
    assert end < max(told["memory"]) or end < 1000, "what closed tabs held is released"
    assert late < early * 1.15 + 50, f"it grows: {early:.0f} MB in the second third, {late:.0f} MB in the last"
    log = workspace.home() / "logs" / "ks-lottery.log"
    assert not log.is_file() or "Traceback" not in log.read_text()
