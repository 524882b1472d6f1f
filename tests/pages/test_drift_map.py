"""Drift map on the demo: its views, a token that is looked for, tokens that are picked, the farthest movers in meaning."""

import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.checkpoints import demo
from ks_core.jobs import queue
from ks_core.study import neighbourhoods
from ks_core.study.scan import Study


@pytest.fixture
def study(demo_home):
    found = Study(demo.BASE, demo.TUNED)
    found.scan()
    return found


def opened(**query):
    at = AppTest.from_file(APP, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.switch_page("pages/drift_map.py")
    at = at.run()
    assert not at.exception and not at.error, [e.value for e in at.error]
    return at


def words(at):
    return "\n".join(str(e.value) for kind in ("markdown", "caption", "subheader", "info") for e in getattr(at, kind))


def drawn(at):
    (figure,) = (json.loads(e.proto.spec) for e in at.get("plotly_chart"))
    return figure


@pytest.mark.parametrize("view", ["Drift", "Morph", "Side by side"])
def test_every_view_draws_the_changed_rows(study, view):
    at = opened(view=view)
    figure = drawn(at)
    assert "3,174 changed tokens" in words(at) and not figure["layout"]["title"]["text"], (
        "the title is text of the page"
    )
    assert bool(figure.get("frames")) == (view == "Morph")


def test_a_umap_is_made_by_a_job_and_then_shown(study):
    at = opened(map="UMAP")
    assert "has not been made yet" in words(at)
    at.number_input(key="map_background").set_value(60).run()
    at.number_input(key="map_changed").set_value(40).run()
    next(b for b in at.button if b.label == "Make the UMAP").click().run()
    job = queue.all_jobs("drift")[0]
    assert job.wait(180) == "done", job.log_tail()
    at.run()
    assert not at.exception and "made in" in words(at)


def test_a_token_is_found_and_its_neighbours_stand_beside_it(study):
    scan = study.scan()
    at = opened(find=" the")
    assert "␣the" in [s.value for s in at.subheader]
    position = int(np.nonzero(scan.token_ids == study.base.vocabulary.ids_of(" the")[0])[0][0])
    expected = neighbourhoods.of_token(study, scan, position)
    (table,) = (d.value for d in at.dataframe if "rank_before" in d.value)
    assert table.token_id.tolist() == expected.token_id.tolist() and table.stays.tolist() == expected.stays.tolist()
    at.segmented_control(key="near").set_value("euclidean").run()
    other = neighbourhoods.of_token(study, scan, position, "euclidean")
    (table,) = (d.value for d in at.dataframe if "rank_before" in d.value)
    assert table.token_id.tolist() == other.token_id.tolist() != expected.token_id.tolist()
    at.text_input(key="find").set_value("no such token anywhere").run()
    assert "No token fits" in words(at) and not at.exception
    at.text_input(key="find").set_value("198").run()
    assert "id 198:" in words(at), "an id is a token too"


def test_the_farthest_movers_are_found_by_a_job_and_colour_the_map(tiny_pair):
    base, tuned, _ = tiny_pair
    study = Study(base, tuned)
    study.scan()
    at = opened(base=base, tuned=tuned)
    assert "neighbours replaced" not in at.selectbox(key="colour").options
    next(b for b in at.button if b.label == "Find the neighbours").click().run()
    (job,) = queue.all_jobs("neighbourhoods")
    assert job.wait(240) == "done", job.log_tail()
    at.run()
    found = neighbourhoods.cached(study)
    (table,) = (d.value for d in at.dataframe if "change" in d.value)
    assert table.change.tolist() == sorted(found.change.tolist(), reverse=True)
    at.selectbox(key="colour").set_value("neighbours replaced").run()
    assert drawn(at)["layout"]["coloraxis"]["cmax"] == pytest.approx(float(found.change.max()))


def test_picked_tokens_are_a_table_and_a_ticket(study, monkeypatch):
    from pages.parts import map_side

    scan = study.scan()
    winner, still = int(scan.token_ids[scan.order()[0]]), int(scan.token_ids[~scan.changed][0])
    points = [
        {"customdata": [winner, 0.1, 0.2, 0.3]},
        {"customdata": still},
        {"customdata": [winner, 0, 0, 0]},
        {"x": 1},
        {"customdata": []},
    ]
    plain = map_side.picked
    event = type("Event", (), {"selection": type("Selection", (), {"points": points})()})()
    monkeypatch.setattr(map_side, "picked", lambda given, *about, **more: plain(event, *about, **more))
    at = opened()
    assert "2 tokens picked" in words(at) and "The ticket takes the 1 of them" in words(at)
    (table,) = (d.value for d in at.dataframe if "winner" in d.value)
    assert table.token_id.tolist() == [winner, still] and table.winner.tolist() == [True, False]


def test_what_is_drawn_around_is_picked_in_the_picture_too(study, monkeypatch):
    """Of a background of more tokens than are points of their own, nothing but its place says where a token is."""
    from ks_core.study import drift, map_figures
    from pages.parts import map_side

    monkeypatch.setattr(map_figures, "SINGLE", 100)
    found = drift.project(study, study.scan(), drift.Settings(changed=4000))
    apart = found.background[~map_figures.singly(found)]
    x, y = (float(v) for v in found.background_xy[~map_figures.singly(found)][7])
    box = {"xref": "x", "yref": "y", "x": [x - 1e-5, x + 1e-5], "y": [y + 1e-5, y - 1e-5]}
    plain, event = (
        map_side.picked,
        type("Event", (), {"selection": type("Selection", (), {"points": [], "box": [box]})()})(),
    )
    monkeypatch.setattr(map_side, "picked", lambda given, *about, **more: plain(event, *about, **more))
    at = opened(map="PCA")
    assert "Of the tokens in grey 100 can be pointed at" in words(at) and drawn(at)["layout"]["images"]
    (table,) = (d.value for d in at.dataframe if "winner" in d.value)
    assert study.scan().token_ids[apart[7]] in table.token_id.tolist()
