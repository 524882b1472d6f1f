"""Strength: both ends exact, a line in between, and a model that is left as it was."""

import json

import pytest
import torch
from deltas import changed

from ks_core.audit.strength import acting, rows_of, sweep, translate_at
from ks_core.errors import Cancelled, ModelError, SettingsError, TicketError
from ks_core.translation.generation import generate
from ks_core.tuning.rows import lift_off

PROMPTS = ["w10 w11 w20", "w10 w11 w21 w22 w23 w24", "w10 w25"]
REFERENCES = ["w40 w41", "w42 w43 w44", "w45"]
IDS = list(range(3, 64, 2))
TENSOR = torch.tensor([[3, 4, 5, 6, 7], [9, 8, 3, 2, 11]])


@pytest.fixture
def model(tiny_model):
    return changed(tiny_model, IDS, seed=5)


def logits(model):
    with torch.inference_mode():
        return model(input_ids=TENSOR).logits


@pytest.mark.parametrize("ids", [None, [3, 5, 11]])
def test_the_ends_are_base_and_tuned_to_the_bit(model, ids):
    rows = rows_of(model)
    with acting(model, ids, 0):
        zero = logits(model)
    with acting(model, ids, 1):
        one = logits(model)
    tuned, chosen = rows.full_matrix(), IDS if ids is None else ids
    lift_off(model)
    assert torch.equal(zero, logits(model))
    with torch.no_grad():  # the same model with the rows written into its matrix, its output layer untied
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        model.get_input_embeddings().weight[chosen] = tuned[chosen]
    assert torch.equal(one, logits(model))
    assert not torch.equal(zero, one)


def test_zero_keeps_even_the_sign_of_a_zero(model):
    rows = rows_of(model)
    with torch.no_grad():
        rows.base.weight[3] = -0.0
    with acting(model, strength=0):
        assert torch.signbit(rows(torch.tensor([3]))).all()


@pytest.mark.parametrize("strength", [-0.5, 0.25, 1.5])
def test_in_between_lies_a_line(model, strength):
    rows = rows_of(model)
    base, tuned = rows.base.weight.detach(), rows.full_matrix()
    with acting(model, [3, 5], strength) as inside:
        found = inside(TENSOR)
    want = base[TENSOR].clone()
    for token in (3, 5):
        want[token == TENSOR] = base[token] + strength * (tuned[token] - base[token])
    torch.testing.assert_close(found, want)


def test_afterwards_all_is_as_before(model):
    rows = rows_of(model)
    before, slots = logits(model), rows.slots
    rows.gate = gate = torch.ones_like(TENSOR, dtype=torch.bool)
    with pytest.raises(Cancelled), acting(model, [3], 0.5):
        assert rows.gate is None and (rows.slots >= 0).sum() == 1
        raise Cancelled
    assert rows.slots is slots and rows.gate is gate and rows.strength == 1
    assert torch.equal(logits(model), before)


def test_sweep(model, tiny_tokenizer):
    seen = []
    found = sweep(
        model, tiny_tokenizer, PROMPTS, REFERENCES, target_language="French", strengths=(0, 0.5, 1, 1.5),
        rows={"all": None, "ticket": [3, 5, 11, 21]}, max_new_tokens=8, resamples=20,
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


def test_a_few_sentences_at_one_strength(model, tiny_tokenizer):
    some = translate_at(model, tiny_tokenizer, PROMPTS[:2], 1.5, max_new_tokens=8)
    with acting(model, strength=1.5):
        assert some == generate(model, tiny_tokenizer, PROMPTS[:2], max_new_tokens=8)
    assert some != translate_at(model, tiny_tokenizer, PROMPTS[:2], 0, ids=[3], max_new_tokens=8)


def test_a_sweep_can_be_cancelled(model, tiny_tokenizer):
    def report(done, total, message):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        sweep(model, tiny_tokenizer, PROMPTS, REFERENCES, target_language="French", max_new_tokens=4, report=report)
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
        sweep(model, tiny_tokenizer, PROMPTS, REFERENCES, target_language="French", **settings)


def test_a_base_has_no_delta(tiny_model):
    with pytest.raises(ModelError, match="no trained rows"), acting(tiny_model):
        pass
