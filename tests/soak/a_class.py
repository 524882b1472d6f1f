"""A class: students who open page after page and look at each for a while. ``python tests/soak/a_class.py``

Thirty of them by default, for five minutes, ten seconds of looking at a page in the mean, on a server of its own with the prepared
demo. Each has a session by its WebSocket and goes through Learn, KS test, Winning tokens, Drift map and Audit, in that order and
again, each time with another lesson, token or colour. A page's time runs from asking for it to the end of its script, with all that
was sent for it read. Students and server share the machine. ``--first`` looks at one visitor alone instead: each page as the first
of a new server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from helpers import visiting
from helpers.page_names import PAGES
from helpers.serving import serving
from ks_core.checkpoints import demo
from ks_core.study.scan import Study

WAY = ("learn", "ks_test", "winning_tokens", "drift_map", "audit")
#: What a student does otherwise at each visit: parts of the page's link.
OTHERWISE = {
    "learn": [{"step": step} for step in ("CDFs", "Width", "p-values", "Ties", "Alpha", "Ticket", "Methods", "Stopping")],
    "ks_test": [{}, {"token": "198"}, {"token": "284"}, {"p_axis": "log"}],
    "winning_tokens": [{}, {"search": " the"}, {"show": "changed"}],
    "drift_map": [{}, {"colour": "p-value (log10)"}, {"map": "PCA"}, {"view": "Side by side"}],
    "audit": [{}, {"audit_panel": "Ledger"}, {"audit_panel": "Calibration"}],
}  # fmt: skip


async def student(address, number, until, think, told):
    """One student, until the time is over."""
    picked = random.Random(number)
    await asyncio.sleep(picked.uniform(0, think))
    async with visiting.arrive(address) as socket:
        place = 0
        while time.monotonic() < until:
            page = WAY[place % len(WAY)]
            found = await visiting.open_page(socket, page, picked.choice(OTHERWISE[page]))
            told.setdefault(page, []).append(found)
            place += 1
            await asyncio.sleep(picked.uniform(0.5, 1.5) * think)


async def lesson(address, students, seconds, think, process):
    """All of them. Gives what was opened, by page, and the memory, in megabytes, that was seen meanwhile: RSS each second, PSS each ten."""
    until, told, seen = time.monotonic() + seconds, {}, ([], [])

    async def watch():
        last = 0.0
        while (now := time.monotonic()) < until:
            seen[0].append(await asyncio.to_thread(visiting.resident, process))
            if now - last > 10:
                seen[1].append(await asyncio.to_thread(visiting.own_share, process))
                last = now
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *(student(address, n, until, think, told) for n in range(students)))
    return told, seen


def percentile(values, share):
    """The value that this share of them does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def line(name, opened):
    """A line of the table: how many, and how long they took."""
    seconds = [one.seconds for one in opened]
    kilobytes = statistics.median(one.bytes for one in opened) / 1000
    return f"{name:<16}{len(opened):6d}{statistics.median(seconds):9.2f}{percentile(seconds, 0.95):9.2f}{max(seconds):9.2f}{kilobytes:12,.0f}"


def prepare(home):
    """The workspace of a new server: the demo's base, which was made before, and its scan."""
    demo.prepare_base()
    models = demo.base_folder().parent
    os.environ["KS_LOTTERY_HOME"] = str(home)
    (home / "models").symlink_to(models)
    Study(demo.BASE, demo.TUNED).scan()


def whole_class(log, students, seconds, think):
    """Plays the lesson and prints what it was like; gives what was opened by page, and the memory (RSS) at most, in megabytes."""
    with serving(log) as address:
        process = visiting.server_process(address)
        asyncio.run(_once(address, [(page, {}) for page in WAY]))  # the teacher has looked before
        quiet, computed = (visiting.resident(process), visiting.own_share(process)), visiting.processor_seconds(process)
        told, (resident, shares) = asyncio.run(lesson(address, students, seconds, think, process))
        computed = visiting.processor_seconds(process) - computed
        after = visiting.resident(process), visiting.own_share(process)
    every = [one for opened in told.values() for one in opened]
    print(
        f"\n{students} students, {seconds:.0f} s, {think:g} s at each page in the mean; {len(every) / seconds:.2f} pages a second"
    )
    print(f"{'page':<16}{'opened':>6}{'median':>9}{'95 of 100':>9}{'longest':>9}{'kB, median':>12}")
    for page in WAY:
        if page in told:
            print(line(page, told[page]))
    print(line("all", every))
    print(f"processor time of the server: {computed / len(every):.2f} s a page, {computed / seconds:.0%} of one core")
    most = max([*resident, after[0]])
    print(
        f"memory of the server and what it started, MB: RSS {quiet[0]:.0f} quiet, {most:.0f} at most, {after[0]:.0f} after; "
        f"PSS {quiet[1]:.0f} quiet, {max([*shares, after[1]]):.0f} at most, {after[1]:.0f} after"
    )
    wrong = [said for one in every for said in (*one.errors, *one.exceptions)]
    print(f"errors: {len(wrong)}" + "".join(f"\n  {said}" for said in wrong[:10]))
    return told, most


async def _once(address, pages):
    """One visitor opens pages one after the other in one session."""
    async with visiting.arrive(address) as socket:
        return [await visiting.open_page(socket, page, query) for page, query in pages]


async def _twice(address, page, process):
    """A page, and the same again in the same session: what was opened, and the processor time of the server for it."""
    taken, before = [], visiting.processor_seconds(process)
    async with visiting.arrive(address) as socket:
        for _ in range(2):
            found = await visiting.open_page(socket, page, {})
            taken.append((found, visiting.processor_seconds(process) - before))
            await asyncio.sleep(8)  # what is done in the background after an answer
            before = visiting.processor_seconds(process)
    return taken


def first_visits(log, pages):
    """Each page as the first that a new server is asked for, and once more; prints seconds and the server's processor time."""
    print(
        f"{'first page of a new server':<28}{'seconds':>9}{'processor':>11}{'again':>9}{'processor':>11}{'kB':>9}{'figures':>9}{'tables':>8}"
    )
    for page in pages:
        with serving(log) as address:
            process = visiting.server_process(address)
            taken = asyncio.run(_twice(address, "" if page == "overview" else page, process))
        (found, computed), (again, less) = taken
        print(
            f"{page:<28}{found.seconds:9.2f}{computed:11.2f}{again.seconds:9.2f}{less:11.2f}{again.bytes / 1000:9.0f}{again.figures:9d}{again.tables:8d}"
            + "".join(f"\n  {said}" for said in (*found.errors, *found.exceptions)),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--think", type=float, default=10, help="seconds that a student looks at a page, in the mean")
    parser.add_argument("--first", nargs="*", metavar="PAGE", help="one visitor and new servers: these pages, or all")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(home)
        if asked.first is not None:
            first_visits(home / "server.log", asked.first or PAGES)
        else:
            whole_class(home / "server.log", asked.students, asked.seconds, asked.think)


if __name__ == "__main__":
    main()
