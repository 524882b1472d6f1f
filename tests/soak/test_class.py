"""A small class, as ``make class`` plays a whole one: nobody sees an error, and nobody waits long."""

import runpy

import pytest

from helpers.places import ROOT
from ks_core.checkpoints import demo
from ks_core.study.scan import Study

pytestmark = pytest.mark.soak


def test_three_students(evidence, tmp_path, monkeypatch):
    monkeypatch.delenv("KS_LOTTERY_WARM_UP")
    Study(demo.BASE, demo.TUNED).scan()
    played = runpy.run_path(str(ROOT / "tests" / "soak" / "a_class.py"))
    told, most = played["whole_class"](tmp_path / "server.log", students=3, seconds=40, think=2)
    every = [one for opened in told.values() for one in opened]
    assert set(told) == set(played["WAY"]) and len(every) >= 12
    assert not [said for one in every for said in (*one.errors, *one.exceptions)]
    assert played["percentile"]([one.seconds for one in every], 0.95) < 15 and most < 2000
