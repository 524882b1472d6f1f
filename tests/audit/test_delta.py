"""A delta that is turned: both ends exact, a line in between, and a model that is left as it was."""

import pytest
import torch

from helpers.deltas import changed
from ks_core.audit.delta import acting
from ks_core.errors import Cancelled, ModelError
from ks_core.likelihood.rows import lift_off, rows_of

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


def test_a_base_has_no_delta(tiny_model):
    with pytest.raises(ModelError, match="no changed rows laid over"), acting(tiny_model):
        pass
