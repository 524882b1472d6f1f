"""A visitor who is nobody: after the first answer of a server it opens the other pages, and before that it does nothing."""

import asyncio

import pytest

from helpers.serving import Visitor, serving
from helpers.waiting import until
from ks_core.checkpoints import demo
from ks_core.store import workspace
from ks_core.study.scan import Study
from pages.parts import warm_up


@pytest.mark.whole
def test_all_pages_are_opened_after_the_first_answer(demo_home):
    Study(demo.BASE, demo.TUNED).scan()
    log = workspace.home() / "logs" / "ks-lottery.log"

    def opened():
        return [line for line in log.read_text().splitlines() if "opened beforehand: " in line] if log.is_file() else []

    with serving(demo_home / "server.log", KS_LOTTERY_WARM_UP="1", KS_LOTTERY_LOG="DEBUG") as address:
        with Visitor(address) as visitor:
            visitor.open("glossary", {"alpha": "0.01"})
            until(opened, 500)
            assert not visitor.errors()
        pages = set(opened()[0].partition("opened beforehand: ")[2].split(", "))
        assert {"", "ks_test", "audit", "learn", "ask"} <= pages and "glossary" not in pages, (
            "all others, the first of them without a name"
        )
    assert "Traceback" not in (demo_home / "server.log").read_text()


def test_it_can_be_left_out(monkeypatch):
    """Nothing is opened, not even waited for: there is no first answer here."""
    monkeypatch.setattr(warm_up, "_first", None)
    monkeypatch.setenv(warm_up.SETTING, "0")
    asyncio.run(asyncio.wait_for(warm_up.after_first_answer(None, ""), 10))
