"""Many visitors for ten minutes: nobody sees an error, and the server's memory does not grow.

``KS_LOTTERY_SOAK_SESSIONS`` and ``KS_LOTTERY_SOAK_SECONDS`` make it more or fewer, longer or shorter.
"""

import asyncio
import os
import random
import statistics
import time
from urllib.parse import urlencode

import psutil
import pytest

from ks_core.store import workspace

pytestmark = pytest.mark.soak
SESSIONS = int(os.environ.get("KS_LOTTERY_SOAK_SESSIONS", "20"))
SECONDS = float(os.environ.get("KS_LOTTERY_SOAK_SECONDS", "600"))
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
