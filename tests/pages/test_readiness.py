"""What the server does once: what it holds is looked through seldom, and what only holds itself is let go all the same."""

import gc
import threading
import weakref

import pytest

from ks_core.jobs import turns
from pages.parts import readiness


class Ring:
    """An object that holds itself."""

    def __init__(self):
        self.me = self


@pytest.fixture
def left_alone():
    gc.callbacks.append(readiness._leave_alone)
    yield
    gc.callbacks.remove(readiness._leave_alone)
    gc.unfreeze()


def test_what_lived_through_one_look_is_left_alone_until_all_is_looked_through(left_alone):
    old = Ring()
    gc.collect()
    assert gc.get_freeze_count() > 10_000 and not any(o is old for o in gc.get_objects())
    young, gone = Ring(), weakref.ref(old)
    seen = weakref.ref(young)
    del old, young
    gc.collect()
    assert seen() is None, "what came since is let go"
    assert gone() is not None
    gc.unfreeze()
    gc.collect()
    assert gone() is None, "and what was left alone, when all is looked through"


def test_all_is_looked_through_when_nobody_computes_or_after_a_while_in_any_case(monkeypatch):
    monkeypatch.setattr(readiness, "OFTEN", 0.0)
    monkeypatch.setattr(readiness, "AT_LAST", 600.0)
    with turns.turn():
        assert turns.busy()
        waiting = threading.Thread(target=readiness._when_nobody_waits, daemon=True)
        waiting.start()
        waiting.join(1.5)
        assert waiting.is_alive()
    assert not turns.busy()
    waiting.join(30)
    assert not waiting.is_alive()
    monkeypatch.setattr(readiness, "AT_LAST", 0.0)
    with turns.turn():
        readiness._when_nobody_waits()
