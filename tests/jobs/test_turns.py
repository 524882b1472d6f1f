"""Turns: few compute at once, whoever waits for another process lets others go on, and nobody waits for ever."""

import os
import threading

import pytest

from helpers.waiting import until
from ks_core.errors import KSLotteryError
from ks_core.jobs import bounded, turns
from ks_core.jobs.reading import Reader


@pytest.fixture
def crowd():
    """Start threads that each have a turn until they are let go."""
    go, inside, threads = threading.Event(), [], []

    def one(number):
        with turns.turn():
            inside.append(number)
            go.wait(60)

    def start(count):
        for _ in range(count):
            threads.append(threading.Thread(target=one, args=(len(threads),)))
            threads[-1].start()
        return inside, go

    yield start
    go.set()
    for thread in threads:
        thread.join(60)
    # Every turn came back.
    free = [turns._free.acquire(blocking=False) for _ in range(turns.AT_ONCE + 1)]
    assert free == [True] * turns.AT_ONCE + [False]
    turns._free.release(turns.AT_ONCE)


def test_so_many_at_once_and_the_others_wait(crowd):
    inside, go = crowd(turns.AT_ONCE)
    until(lambda: len(inside) == turns.AT_ONCE)
    crowd(3)
    assert inside == list(range(turns.AT_ONCE))
    go.set()
    until(lambda: len(inside) == turns.AT_ONCE + 3)


def test_one_that_waits_for_something_else_lets_another_go_on(crowd):
    inside, _ = crowd(turns.AT_ONCE - 1)
    until(lambda: len(inside) == turns.AT_ONCE - 1)
    with turns.turn(), turns.turn():
        crowd(1)
        with turns.aside():
            until(lambda: len(inside) == turns.AT_ONCE)
        assert not turns._own.counted, "goes on at once, for another may wait for what this one holds locked"
    with turns.aside():
        pass  # without a turn there is nothing to give


def test_an_error_gives_the_turn_back(crowd):
    crowd(0)
    with pytest.raises(ZeroDivisionError), turns.turn():
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), turns.turn(), turns.aside():
        1 / 0  # noqa: B018


def test_nobody_waits_for_ever(crowd, monkeypatch):
    inside, _ = crowd(turns.AT_ONCE)
    until(lambda: len(inside) == turns.AT_ONCE)
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    with turns.turn():
        assert not turns._own.counted


def test_work_in_another_process_takes_no_turn(crowd, monkeypatch):
    """The process has it, and the thread that waits for it has none."""
    crowd(0)
    held, own = [], Reader.ask
    monkeypatch.setattr(Reader, "ask", lambda *a: held.append(turns._held()) or own(*a))
    bounded.begin()
    try:
        with turns.turn():
            assert bounded.work(os.getpid, what="a test", error=KSLotteryError) != os.getpid()
            assert held == [False] and turns._held()
    finally:
        bounded.end()
