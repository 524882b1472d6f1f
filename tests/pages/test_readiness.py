"""What the server does once: here for real, in a process of its own, as it changes how Python collects."""

import subprocess
import sys

from helpers.places import ROOT

SCRIPT = """
import gc, sys, threading, time
from pages.parts import readiness

readiness.APART = 0.1
readiness.begin()

def until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    assert true()

until(lambda: any(t.name == "looking through" for t in threading.enumerate()))
assert gc.get_freeze_count() > 50_000, "what was loaded is set aside"
found = []
gc.callbacks.append(lambda phase, info: phase == "stop" and info["generation"] == 2 and found.append((info["collected"], threading.current_thread().name)))

class Ring:
    gone = 0
    def __init__(self):
        self.own = self
    def __del__(self):
        Ring.gone += 1

kept = []  # rings live on through some collections of young ones, as what a visitor's page holds does
for _ in range(60_000):
    kept.append(Ring())
kept.clear()
for _ in range(40):
    kept.append([[] for _ in range(1_000)])
    time.sleep(0.01)
until(lambda: Ring.gone == 60_000)
assert {name for _, name in found} == {"looking through"}, found

for n in range(5):  # what is loaded later is set aside as well, so and so often
    sys.modules[f"later{n}"] = sys
    before = len(found)
    kept.append([[] for _ in range(40_000)])
    until(lambda: len(found) > before)
    time.sleep(0.2)
frozen = gc.get_freeze_count()
kept.append([[] for _ in range(40_000)])
before = len(found)
until(lambda: len(found) > before)
time.sleep(0.4)
assert gc.get_freeze_count() <= frozen, "but not for ever"
print("well")
"""


def test_all_objects_are_looked_through_soon_and_by_nobody_else():
    """Rings are collected by the thread that does so, before Python would; nothing is set aside without end."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0 and done.stdout.strip() == "well", done.stderr[-3000:]
