"""What the three voices write and think, on the tiny model, against one voice at a time and against transformers' own numbers."""

import numpy as np
import pytest
import torch

from helpers import deltas
from ks_core.asking.answers import Answer, Asked, Place, frame, parting, touched
from ks_core.asking.bounds import Bounds, bounds_of, need
from ks_core.asking.models import Models, load
from ks_core.asking.question import MOST_PROMPT, Question
from ks_core.asking.writing import answers
from ks_core.errors import Cancelled, ModelError, SettingsError
from ks_core.likelihood.rows import each_acting
from ks_core.study.scan import Study
from ks_core.translation.generation import generate
from ks_core.tuning import memory

CHANGED = list(range(3, 13))


@pytest.fixture
def models(tiny_model, tiny_tokenizer):
    """The tiny model with ten rows changed so that greedy answers change."""
    return Models(deltas.changed(tiny_model, CHANGED, 3), tiny_tokenizer, tuple(CHANGED), True, None, "")


def question(**changes):
    given = {
        "base": "b",
        "tuned": "t",
        "text": "w5 w7 w30",
        "prompt": "w3 {source} w4",
        "ticket": (3, 5, 7),
        "max_new_tokens": 6,
    }
    return Question(**{**given, **changes})


def heard(models, asked):
    found = Asked(asked)
    for piece in answers(models, asked):
        found.hear(piece)
    return found


def alone(models, asked, ids, strength=1.0):
    """What the model writes with these rows acting and no other, one at a time."""
    rows = models.model.get_input_embeddings()
    acts = torch.zeros((1, 64), dtype=torch.bool)
    acts[0, list(ids)] = True
    with each_acting(rows, acts, [strength]):
        (found,) = generate(models.model, models.tokenizer, [asked.whole], max_new_tokens=asked.max_new_tokens)
    return found


@pytest.mark.parametrize(("strength", "off"), [(1.0, ()), (0.5, ()), (1.0, (5, 7)), (0.0, ())])
def test_three_answer_at_once_as_each_would_alone(models, strength, off):
    asked = question(strength=strength, off=off)
    found = heard(models, asked)
    acting = [i for i in asked.ticket if i not in off]
    wanted = {
        "base": alone(models, asked, ()),
        "ticket": alone(models, asked, acting, strength),
        "tuned": alone(models, asked, CHANGED),
    }
    for voice, one in wanted.items():
        answer = found.answers[voice]
        assert (answer.text, answer.stopped, answer.tokens) == (one.text, one.stopped, one.tokens), voice
        assert found.written[voice] == answer.text
    if strength == 0:
        assert found.answers["ticket"] == found.answers["base"]
    assert len({a.ids for a in found.answers.values()}) > 1, "the change shows in what is written"
    rows = models.model.get_input_embeddings()
    assert rows.gate is None and rows.strength == 1.0, "nothing stays turned"


def test_what_each_thinks_is_the_models_own_probability(models):
    asked = question()
    found = heard(models, asked)
    prompt, own = list(found.read), list(found.answers["tuned"].ids)
    with torch.inference_mode():  # every row acts: the tuned model
        logits = models.model(torch.tensor([prompt + own])).logits[0, len(prompt) - 1 : -1].float()
    nats = logits.log_softmax(-1)
    places = found.along["tuned"]
    assert [p.token_id for p in places] == own
    np.testing.assert_allclose([p.nats["tuned"] for p in places], nats[range(len(own)), own], atol=1e-4)
    for n, place in enumerate(places):
        best, (first, chance) = nats[n].exp().sort(descending=True), place.top["tuned"][0]
        assert first == int(best.indices[0]) == place.token_id, "it wrote its likeliest token"
        assert chance == pytest.approx(float(best.values[0]), abs=1e-4) and len(place.top["tuned"]) == 5
    assert set(places[0].nats) == {"base", "ticket", "tuned"}


def test_it_is_stopped_between_two_tokens(models):
    asked, told = question(max_new_tokens=60), []
    with pytest.raises(Cancelled):
        for piece in answers(models, asked, stop=lambda: len(told) > 3):
            told.append(piece)
    assert models.model.get_input_embeddings().gate is None
    assert not any("answers" in piece for piece in told)


@pytest.mark.parametrize(("changes", "says"), [
    ({"text": "w9 " * 200}, r"203|202|reads 128 tokens together \(its context\)"),
    ({"text": "w9 " * (MOST_PROMPT + 1)}, "its context"),
    ({"max_new_tokens": 125}, "its context"),
])  # fmt: skip
def test_a_prompt_that_is_too_long_is_refused_with_the_context(models, changes, says):
    with pytest.raises(SettingsError, match=says):
        list(answers(models, question(**changes)))


@pytest.mark.parametrize(("changes", "says"), [
    ({"text": "  \n"}, "Nothing was typed"), ({"text": "a\ud800"}, "Expected text"), ({"text": "x" * 200_000}, "200,000 characters"),
    ({"prompt": "{source} {"}, "brace"), ({"prompt": "no field"}, "Expected {source}"), ({"prompt": "{source!r}"}, "laid out"),
    ({"off": (9,)}, "not in the ticket"), ({"ticket": (-1,)}, "token id"), ({"ticket": (1 << 70,)}, "token id"),
    ({"strength": float("nan")}, "number"), ({"strength": 9.0}, "from 0, the base"), ({"max_new_tokens": 100_000}, "limit of new tokens"),
    ({"base": 7}, "Expected text"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said(changes, says):
    with pytest.raises(SettingsError, match=says):
        question(**changes)


def test_a_question_is_itself_again_and_another_one_is_not():
    asked = question(off=(5,))
    assert Question.from_dict(asked.as_dict()) == asked and Question.from_dict(asked.as_dict()).key == asked.key
    assert question().key != asked.key and asked.acting == (3, 7)
    assert question(prompt="", text="w3 w4").whole == "w3 w4"


def test_where_voices_part_by_hand():
    places = [
        Place(7, {"base": -1.0, "ticket": -1.5}, {"base": [(7, 0.4)], "ticket": [(7, 0.2)]}),
        Place(2, {"base": -6.0, "ticket": -0.5}, {"base": [(9, 0.5)], "ticket": [(2, 0.6)]}),
    ]
    ratios, words = parting(places, "base", "ticket", lambda i: f"<{i}>", stopped=True)
    assert ratios == [-0.5, 5.5]
    assert "at token 2 of 2, <2>: probability 0.61 against 0.0025" in words
    assert "+5.00 nats more" in words and "+5.50 of them at the end token" in words
    assert "end token" not in parting(places, "base", "ticket", str, stopped=False)[1]
    table = frame(places, str)
    assert list(table.ticket_nats) == [-1.5, -0.5] and table.base_likeliest[1] == "9 0.50"
    assert Answer("a", (5, 2), True).ending == "ended by itself after 1 token"
    assert Answer("a", (5, 6), False).ending == "ran to the limit of 2 tokens"
    assert touched([5, 7, 7, 9], [9, 7, 3]) == {7: 2, 9: 1}


def test_a_tuned_checkpoint_that_may_have_changed_more_answers_itself(tiny_pair):
    base, tuned, _ = tiny_pair
    study = Study(base, tuned)
    scan = study.scan()
    bounds = bounds_of(study, scan)
    assert bounds.own and not bounds.lacking
    models = load(base, tuned, bounds)
    assert models.changed == tuple(CHANGED) and models.own is not None
    found = heard(models, question(base=base, tuned=tuned))
    (whole,) = generate(*models.own, [question().whole], max_new_tokens=6)
    assert found.answers["tuned"].text == whole.text and set(found.along["tuned"][0].nats) == {
        "base",
        "ticket",
        "tuned",
    }
    without = load(base, tuned, Bounds(bounds.memory, lacking="It does not fit."))
    found = heard(without, question(base=base, tuned=tuned))
    assert found.lacking == {"tuned": "It does not fit."} and set(found.answers) == {"base", "ticket"}
    # Rows that did not change are the base's, whatever the ticket says; and without a ticket there is none.
    found = heard(without, question(base=base, tuned=tuned, ticket=(40, 41)))
    assert found.answers["ticket"] == found.answers["base"]
    found = heard(without, question(base=base, tuned=tuned, ticket=()))
    assert "empty" in found.lacking["ticket"]
    assert found.answers["base"] == heard(without, question(base=base, tuned=tuned)).answers["base"], (
        "no row acts in the base"
    )


def test_what_does_not_fit_is_left_out_or_refused(tiny_pair):
    study = Study(*tiny_pair[:2])
    scan, shape = study.scan(), memory.shape_of(tiny_pair[0])
    rows = int(scan.changed.sum())
    one, both = need(shape, "bfloat16", rows, False), need(shape, "bfloat16", rows, True)
    assert one < both
    bounds = bounds_of(study, scan, free=int((one + both) / 2 / 0.8))
    assert not bounds.own and "changes more than embedding rows" in bounds.lacking
    with pytest.raises(ModelError, match="of memory are free"):
        bounds_of(study, scan, free=int(one * 0.5))


def test_a_pair_in_which_nothing_changed(tiny_folder):
    study = Study(str(tiny_folder), str(tiny_folder))
    models = load(str(tiny_folder), str(tiny_folder), Bounds(1 << 30))
    found = heard(models, question(base=str(tiny_folder), tuned=str(tiny_folder), ticket=()))
    assert (
        set(found.answers) == {"base"}
        and "No row differs" in found.lacking["ticket"]
        and "No row differs" in found.lacking["tuned"]
    )
    assert study.scan().changed.sum() == 0
