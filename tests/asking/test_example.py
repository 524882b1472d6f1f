"""The question that the page opens with: its answers are kept whole, are of these very checkpoints, and are what is answered here."""

import json
import math

import pytest

from ks_core.asking import example
from ks_core.asking.answers import DONE
from ks_core.checkpoints import demo
from ks_core.store import shipped
from ks_core.study.scan import Study


@pytest.fixture
def pair(tiny_pair):
    base, tuned, _ = tiny_pair
    study = Study(base, tuned)
    return study, study.scan()


@pytest.fixture
def asked(pair, monkeypatch):
    """Asked on the tiny pair, which knows of no text of its training."""
    study, scan = pair
    known = example.usual(study.base_source, study.tuned_source)
    monkeypatch.setattr(example, "usual", lambda *a, **k: type(known)("w3 {source} w4", sentences=("w5 w7 w30",)))
    return example.ask(study, scan)


def test_what_is_kept_is_what_was_answered(pair, asked, tmp_path, monkeypatch):
    study, _ = pair
    home = tmp_path / "evidence"
    (home / example.FOLDER).mkdir(parents=True)
    kept = json.loads(json.dumps(example.kept(asked)))
    (home / example.FOLDER / f"{example.content_of(study)}.json").write_text(json.dumps(kept))
    parts = {example.FOLDER: {"made": 0.0, "seconds": 5.0}}
    (home / shipped.MANIFEST).write_text(json.dumps({"program": "1", "cores": 2, "contents": {}, "parts": parts}))
    monkeypatch.setattr(shipped, "FOLDER", home)
    monkeypatch.setattr(shipped, "_check", lambda contents: True)
    assert example.example_of(study) is None, "nothing is shown here"
    monkeypatch.setenv(shipped.SETTING, "1")
    found = example.example_of(study)
    assert found and found.shipped.seconds == 5.0 and found.asked.state == DONE and found.asked.over
    again = found.asked
    assert again.question == asked.question and again.answers == asked.answers and again.read == asked.read
    assert again.written == {voice: answer.text for voice, answer in asked.answers.items()}
    assert again.along.keys() == asked.along.keys() and asked.along
    for voice, places in asked.along.items():
        for mine, theirs in zip(places, again.along[voice], strict=True):
            assert mine.token_id == theirs.token_id
            assert all(math.isclose(theirs.nats[v], x, abs_tol=1e-6) for v, x in mine.nats.items())
    swapped = Study(study.tuned_source, study.base_source)
    assert example.example_of(swapped) is None, "of other checkpoints there is none"


def test_a_ticket_of_all_rows_below_alpha_is_asked(pair, asked):
    study, scan = pair
    assert asked.question.ticket == tuple(scan.token_ids[scan.winners(0.05)].tolist())
    assert asked.first_token <= asked.seconds and asked.question.content == example.content_of(study)


@pytest.mark.whole
def test_the_shipped_answers_are_those_given_here(evidence):
    """Loads the demo's models and asks again."""
    study = Study(demo.BASE, demo.TUNED)
    theirs = example.example_of(study)
    assert theirs is not None
    own = example.ask(study, study.scan())
    assert own.question == theirs.asked.question and own.answers.keys() == theirs.asked.answers.keys()
    for voice, answer in own.answers.items():
        assert answer == theirs.asked.answers[voice], voice
        for mine, other in zip(own.along[voice], theirs.asked.along[voice], strict=True):
            assert mine.nats == pytest.approx(other.nats, abs=1e-3)
