"""Strength: every set of rows at every strength, the base and the tuned model among them."""

import json

import pytest

from helpers.deltas import asked, changed
from ks_core.audit.delta import acting
from ks_core.audit.writing.strength import claim, sweep
from ks_core.errors import Cancelled, SettingsError, TicketError
from ks_core.likelihood.rows import lift_off, rows_of
from ks_core.translation.generation import generate

PROMPTS = ["w10 w11 w20", "w10 w11 w21 w22 w23 w24", "w10 w25"]
ASKED = asked("{source}", PROMPTS, ["w40 w41", "w42 w43 w44", "w45"])
IDS = list(range(3, 64, 2))


@pytest.fixture
def model(tiny_model):
    return changed(tiny_model, IDS, seed=5)


def test_sweep(model, tiny_tokenizer):
    seen = []
    found = sweep(
        model, tiny_tokenizer, ASKED, strengths=(0, 0.5, 1, 1.5), rows={"all": None, "ticket": [3, 5, 11, 21]}, resamples=20,
        report=lambda *step: seen.append(step),
    )  # fmt: skip
    points = {(p.rows, p.strength): p for p in found.points}
    assert list(points) == [(rows, a) for rows in ("all", "ticket") for a in (0, 0.5, 1, 1.5)]
    assert [points["all", 1].count, points["ticket", 1].count] == [len(IDS), 4]
    # Strength 0 is the same whatever the rows, so it is written once: seven runs of three sentences.
    assert seen[0][:2] == (0, 21) and seen[-1][:2] == (21, 21) and "ticket" in seen[-1][2]
    assert points["all", 0].evaluation == points["ticket", 0].evaluation
    tuned = [a.text for a in generate(model, tiny_tokenizer, PROMPTS, max_new_tokens=8)]
    lift_off(model)
    base = [a.text for a in generate(model, tiny_tokenizer, PROMPTS, max_new_tokens=8)]
    assert list(points["all", 1].texts) == tuned != base == list(points["all", 0].texts)
    assert len({p.texts for p in points.values()}) >= 5
    assert len(json.loads(json.dumps(found.as_dict()))["points"]) == 8


def test_the_best_strength_is_scored_on_other_sentences(model, tiny_tokenizer):
    other = asked("{source}", [p.replace("w2", "w3") for p in PROMPTS], ["w40", "w42 w43 w44 w41", "w45"])
    swept = sweep(model, tiny_tokenizer, ASKED, strengths=(0, 0.5, 1, 1.5), rows={"all": None}, resamples=20)
    found = claim(model, tiny_tokenizer, other, swept, name="all", ids=None, resamples=20)
    best = max(found.points, key=lambda p: p.evaluation.scores["first_line"]["chrf"].value)
    assert found.points == swept.points and found.chosen == best.strength
    claimed = {p.strength: p for p in found.claimed}
    assert set(claimed) == {0, 1, found.chosen} and found.claim_settings["part"] == "test"
    with acting(model, strength=found.chosen):
        texts = [a.text for a in generate(model, tiny_tokenizer, other.prompts, max_new_tokens=8)]
    assert list(claimed[found.chosen].texts) == texts
    scores = {a: p.evaluation.scores["first_line"]["chrf"].value for a, p in claimed.items()}
    over = found.over_one["first_line"]["chrf"]
    assert over.gain == pytest.approx(scores[found.chosen] - scores[1]) and over.whole == pytest.approx(
        scores[1] - scores[0]
    )
    json.dumps(found.as_dict())


def test_a_sweep_can_be_cancelled(model, tiny_tokenizer):
    def report(done, total, message):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        sweep(model, tiny_tokenizer, ASKED, report=report)
    assert rows_of(model).strength == 1 and rows_of(model).gate is None


@pytest.mark.parametrize(("settings", "error", "says"), [
    ({"strengths": ()}, SettingsError, "at least one"),
    ({"strengths": (1, 1)}, SettingsError, "none twice"),
    ({"strengths": (float("nan"),)}, SettingsError, "strength is nan"),
    ({"rows": {}}, SettingsError, "0 sets"),
    ({"rows": {"ticket": []}}, TicketError, "'ticket' is empty"),
    ({"rows": {"ticket": [3, 4]}}, TicketError, "1 of 2 chosen rows .* token 4"),
])  # fmt: skip
def test_sweeps_that_cannot_be(model, tiny_tokenizer, settings, error, says):
    with pytest.raises(error, match=says):
        sweep(model, tiny_tokenizer, ASKED, **settings)
