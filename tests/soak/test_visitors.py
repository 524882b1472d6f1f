"""Many visitors for ten minutes: nobody sees an error, and the server's memory does not grow.

And again with some among them who send whatever might take the server down: it answers in half a second all the while.

``KS_LOTTERY_SOAK_SESSIONS``, ``KS_LOTTERY_SOAK_HOSTILE`` and ``KS_LOTTERY_SOAK_SECONDS`` make it more or fewer, longer or
shorter.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from urllib.parse import urlencode

import psutil
import pytest

from helpers import bombs, visiting
from helpers.serving import Visitor, serving
from ks_core.checkpoints import demo
from ks_core.store import workspace
from ks_core.study.scan import Study

pytestmark = pytest.mark.soak
SESSIONS = int(os.environ.get("KS_LOTTERY_SOAK_SESSIONS", "20"))
HOSTILE = int(os.environ.get("KS_LOTTERY_SOAK_HOSTILE", "10"))
SECONDS = float(os.environ.get("KS_LOTTERY_SOAK_SECONDS", "600"))
PAGES = {"": {}, "checkpoints": {}, "ks_test": {"token": "198"}, "winning_tokens": {"search": " the"}, "drift_map": {},
         "layers": {}, "compare": {}, "fine_tune": {}, "audit": {}, "certificate": {},
         "learn": {"step": "Ties"}, "glossary": {}}  # fmt: skip


async def visit(address, number, until, told):
    """One visitor: opens pages with other alphas and pairs, one after the other, and reads all that is sent."""
    picked = random.Random(number)
    while time.monotonic() < until:
        async with visiting.arrive(address) as socket:
            for _ in range(picked.randint(3, 12)):  # then the tab is closed, and another one opened
                name = picked.choice(list(PAGES))
                query = {"alpha": f"{picked.choice([0.05, 0.01, 0.2, 1e-4]):g}", **PAGES[name]}
                query["tuned"] = picked.choice(["demo:en-fr"] * 7 + ["demo:en-de", "demo:en-fr-seed1", "/nothing/here"])
                found = await visiting.open_page(socket, name, query)
                told["exceptions"] += [(name, query, said) for said in found.exceptions]
                told["seconds"].append(found.seconds)
                told["pages"][name] = told["pages"].get(name, 0) + 1
                wanted = query.get("tuned") == "/nothing/here"
                for said in found.errors:
                    if not (wanted and "does not exist" in said):
                        told["errors"].append((name, query, said))
                await asyncio.sleep(picked.uniform(0.2, 2))
                if time.monotonic() > until:
                    break


async def harm(address, number, until, told, links):
    """One who means harm: links to files that take memory or time, links and widgets of wild values, messages that are none.

    Whatever the server answers, or whether it hangs up, is no matter.
    """
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    picked = random.Random(-1 - number)
    place = address.replace("http", "ws") + "/_stcore/stream"
    while time.monotonic() < until:
        with contextlib.suppress(WebSocketException, OSError, TimeoutError):
            async with connect(place, subprotocols=["streamlit"], origin=address, max_size=None) as socket:
                for _ in range(picked.randint(1, 6)):
                    asked = BackMsg()
                    asked.rerun_script.page_name, query = picked.choice(links)
                    asked.rerun_script.query_string = urlencode(query)
                    for wild in picked.sample(WILD, 2):
                        widget = asked.rerun_script.widget_states.widgets.add(id=f"$$ID-{wild[:9]}-tune_{wild[:9]}")
                        widget.string_value = wild
                    whole = asked.SerializeToString()
                    sent = picked.choice(
                        [whole] * 6 + [whole[: len(whole) // 2], os.urandom(1 << 20), b"\xff" * (9 << 20), wild]
                    )
                    await socket.send(sent)
                    told["harm"] += 1
                    with contextlib.suppress(TimeoutError):  # most do not wait for the answer, and ask again at once
                        async with asyncio.timeout(picked.choice([0.1, 1, 5, 30])):
                            while True:
                                await socket.recv()
        await asyncio.sleep(picked.uniform(0.05, 1))


#: Values for links and widgets.
WILD = ["x" * 100_000, "\u202e" * 500, "![](http://127.0.0.1:1/x.png)" * 50, "`" * 5000, "[" * 50_000, "../" * 3000, "demo:" + "../" * 50,
        "-1", "1e999", "nan", "9" * 5000, "\0", "/dev/zero", "/proc/self/mem", "~" * 300, "a/b@" + "../" * 99, "file:/dev/stdin"]  # fmt: skip


def hostile_links(place):
    """Pages and queries: every file of ``bombs`` where a page would open it, and wild values in each part of a link."""
    kinds = {"file": "A TSV or JSONL file", "flores": "A folder in Flores layout"}
    found = []
    for number, (make, _) in enumerate(bombs.CHECKPOINTS.values()):
        source = str(make(place / f"checkpoint {number}"))
        found += [
            ("checkpoints", {"base": source, "tuned": source}),
            ("", {"tuned": source}),
            ("compare", {"compared": source}),
        ]
    for number, (make, _) in enumerate(bombs.TEXTS.values()):
        kind, _, where = make(place / f"text {number}").partition(":")
        about = {"tune_corpus": kinds[kind], "tune_where": where, "tune_from": "English", "tune_to": "French"}
        found += [("fine_tune", about)] * 2 + [("audit", about)]
    for name in PAGES:
        for wild in WILD:
            found.append(
                (name, dict.fromkeys(("base", "tuned", "alpha", "token", "search", "step", "compared", "term"), wild))
            )
    return found


#: Asks for the server's health all the time, in a process of its own: what it says is the longest of each second.
HEALTH = """
import json, sys, time, urllib.request
told, until = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    longest, second = 0.0, time.monotonic() + 1
    while time.monotonic() < second:
        began = time.monotonic()
        urllib.request.urlopen(sys.argv[1] + "/_stcore/health", timeout=120).read()
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    told.append(longest)
print(json.dumps(told))
"""


def memory(process):
    return process.memory_info().rss / 1e6


def memory_of_all(process):
    """What the server and all that it started hold for themselves, in megabytes: files that are mapped are not counted.

    Of the few numbers that the system keeps anyway. To have it walk through all pages instead would stop the server each time.
    """
    whole = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            held = one.memory_info()
            whole += (held.rss - held.shared) / 1e6
    return whole


async def crowd(address, measure, told, links=()):
    """Visitors, and with ``links`` those who mean harm, for a while."""
    until = time.monotonic() + SECONDS

    async def watch():
        while time.monotonic() < until:
            told["memory"].append(measure())
            await asyncio.sleep(1)

    harming = [harm(address, n, until, told, links) for n in range(HOSTILE)] if links else []
    await asyncio.gather(watch(), *harming, *(visit(address, n, until, told) for n in range(SESSIONS)))


def nothing_told():
    return {"pages": {}, "seconds": [], "errors": [], "exceptions": [], "memory": [], "harm": 0}


def test_twenty_visitors_for_ten_minutes(server):
    process = visiting.server_process(server)
    told = nothing_told()
    start = memory(process)
    asyncio.run(crowd(server, lambda: memory(process), told))
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


def test_visitors_who_mean_harm_hold_nobody_up(demo_home, tmp_path):
    Study(demo.BASE, demo.TUNED).scan()
    links = hostile_links(tmp_path)
    told = nothing_told()
    with serving(tmp_path / "server.log") as server:
        process = visiting.server_process(server)
        with Visitor(server) as visitor:  # what the pages need is loaded then, and so the quiet state is told
            for name, query in PAGES.items():
                visitor.open(name, query)
        quiet = memory_of_all(process)
        command = [sys.executable, "-c", HEALTH, server, str(SECONDS)]
        health = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        asyncio.run(crowd(server, lambda: memory_of_all(process), told, links))
        seconds = sorted(json.loads(health.communicate(timeout=300)[0]))
    pages = sorted(told["seconds"])
    print(
        f"\n{SESSIONS} visitors and {HOSTILE} who mean harm, {SECONDS:.0f} s: {told['harm']} harmful messages; {len(pages)} pages, "
        f"a page in {statistics.median(pages):.2f} s (median), {pages[-1]:.2f} s (longest); health, the longest of each second, in "
        f"{statistics.median(seconds):.2f} s (median), {seconds[int(len(seconds) * 0.95)]:.2f} s (95 of 100), {seconds[-1]:.2f} s "
        f"(longest); memory of the server and what it started {quiet:.0f} MB when quiet, {max(told['memory']):.0f} MB at the most"
    )
    assert not told["exceptions"] and not told["errors"], (told["exceptions"][:3], told["errors"][:3])
    assert max(told["memory"]) < quiet + 2000
    assert seconds[-1] < 0.5
    # Streamlit puts what it made of a message that is none into the log; what went wrong in the program's own would be here too.
    log = workspace.home() / "logs" / "ks-lottery.log"
    assert not log.is_file() or not re.search(r" ERROR \d+ ks_core", log.read_text())
