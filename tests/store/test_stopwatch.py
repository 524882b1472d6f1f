"""The stopwatch: its parts add up, and other threads are not counted."""

import subprocess
import sys
import threading
import time

import pytest

from ks_core.store import stopwatch


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(stopwatch, "_spent", {})


def test_a_part_inside_another_is_taken_out_of_it(monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 10.0, 20.0, 21.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    with stopwatch.part("outer"), stopwatch.part("inner"):
        pass
    with stopwatch.part("inner"):
        pass
    assert stopwatch.parts() == {"inner": 3.0 + 1.0, "outer": 7.0}


def test_what_ends_in_an_error_is_counted_too():
    with pytest.raises(ValueError), stopwatch.part("failing"):
        raise ValueError
    assert "failing" in stopwatch.parts() and not stopwatch._inner


def test_another_thread_counts_nothing():
    def work():
        with stopwatch.part("aside"):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert stopwatch.parts() == {}


def test_the_start_of_the_process_is_where_the_system_says():
    code = "import time; time.sleep(0.5); from ks_core.store import stopwatch; print(stopwatch.since_start())"
    began = time.monotonic()
    said = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0.5 <= said <= time.monotonic() - began + 0.05
