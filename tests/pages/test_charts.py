"""A figure on a page: what a browser gets is the figure, drawn once for all visitors; the file has its title and signature."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core import drawing
from ks_core.checkpoints import demo
from ks_core.store import shelf
from ks_core.study import figures
from ks_core.study.scan import Study
from ks_core.teaching import figures as lesson_figures
from pages.parts import charts


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(shelf, "_shelf", shelf.Shelf())


def drawn():
    """A figure with a name of an axis that is too long for its height, and a token that looks like a number that is none."""
    return figures.cdfs(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), "NaN <b>x</b>")


def test_what_is_sent_is_the_figure_without_its_title():
    whole = json.loads(drawing.fitted(drawn()).to_json(validate=False))
    found = charts.picture(partial(drawn))
    assert found.plain["data"] == whole["data"] and found.alt == whole["layout"]["meta"]["alt"]
    assert found.heading == "Values of NaN <b>x</b> before and after" and not found.plain["layout"]["title"]["text"]
    assert found.plain["layout"]["margin"]["t"] == whole["layout"]["margin"]["t"] - charts.TITLE > charts.ABOVE
    assert found.plain["layout"]["height"] == whole["layout"]["height"] - charts.TITLE


def test_the_file_is_the_figure_with_its_title_and_signature():
    data = pickle.dumps(charts.picture(partial(drawn)))
    made = pickle.loads(data).figure()
    whole = drawing.fitted(drawn())
    assert json.loads(made.to_json()) == json.loads(whole.to_json())
    saved = charts._file(data, ".html", "base:ab|tuned:cd").decode()
    assert "base:ab|tuned:cd" in saved and "Values of NaN &lt;b&gt;x" in saved


def test_a_title_that_changes_stays_in_the_figure():
    found = charts.picture(partial(lesson_figures.methods))
    assert not found.heading and any(f["layout"]["title"]["text"] for f in found.plain["frames"])
    assert found.plain["layout"]["title"]["text"]


def test_the_next_visitor_gets_what_was_drawn(demo_home, monkeypatch):
    Study(demo.BASE, demo.TUNED).scan()
    sheets = []
    own = figures.sheet
    monkeypatch.setattr(figures, "sheet", lambda *a, **k: sheets.append(a) or own(*a, **k))

    def visit(**query):
        sheets.clear()
        at = AppTest.from_file(APP, default_timeout=60)
        for name, value in query.items():
            at.query_params[name] = value
        at = at.switch_page("pages/ks_test.py").run()
        assert not at.exception and not at.error
        return [chart.proto.spec for chart in at.get("plotly_chart")], len(sheets)

    first, drawn_first = visit()
    again, drawn_again = visit()
    assert drawn_first == len(first) == 5 and drawn_again == 0 and again == first
    other, drawn_other = visit(alpha="0.001")
    assert drawn_other == 4, "all but the CDFs of a token know alpha"
    assert other[-1] == first[-1] and not set(other[:-1]) & set(first[:-1])
