"""Rows over a frozen embedding: only they act, only they learn, and they come off again."""

import copy

import pytest
import torch
from torch import nn

from ks_core.errors import TicketError
from ks_core.tuning.rows import RowEmbedding, lay_over, lift_off


@pytest.fixture
def model(tiny_model):
    return copy.deepcopy(tiny_model)


IDS = torch.tensor([[1, 5, 7, 9, 5], [3, 3, 8, 9, 2]])


def test_untouched_rows_change_nothing_to_the_bit(model):
    before = model(input_ids=IDS).logits
    lay_over(model, [5, 9])
    assert torch.equal(model(input_ids=IDS).logits, before)


def test_a_tied_model_keeps_its_output_layer(model):
    rows = lay_over(model, [5])
    head = model.get_output_embeddings().weight.clone()
    with torch.no_grad():
        rows.rows += 1
    assert torch.equal(model.get_output_embeddings().weight, head)
    assert not model.config.tie_word_embeddings
    assert torch.equal(rows.full_matrix()[5], head[5] + 1)


def test_only_rows_in_the_batch_have_a_gradient(model):
    rows = lay_over(model, [5, 9, 40, 41])
    model.train()
    model(input_ids=IDS).logits.square().sum().backward()
    used = rows.rows.grad.abs().amax(dim=1) > 0
    assert used.tolist() == [True, True, False, False]
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["model.embed_tokens.rows"]


def test_same_gradient_as_the_whole_matrix(model):
    whole = copy.deepcopy(model)
    weight = whole.get_input_embeddings().weight
    whole.lm_head.weight = nn.Parameter(weight.detach().clone())
    whole(input_ids=IDS).logits.square().sum().backward()
    rows = lay_over(model, [5, 9])
    model(input_ids=IDS).logits.square().sum().backward()
    torch.testing.assert_close(rows.rows.grad, weight.grad[[5, 9]])


def test_gate_and_strength_end_points_are_exact(model):
    base = model(input_ids=IDS).logits
    rows = lay_over(model, [3, 5, 9])
    with torch.no_grad():
        rows.rows += torch.randn(rows.rows.shape, generator=torch.Generator().manual_seed(1))
    tuned = model(input_ids=IDS).logits
    assert not torch.equal(base, tuned)
    rows.gate = torch.ones_like(IDS, dtype=torch.bool)
    assert torch.equal(model(input_ids=IDS).logits, tuned)
    rows.gate = torch.zeros_like(IDS, dtype=torch.bool)
    assert torch.equal(model(input_ids=IDS).logits, base)
    rows.gate, rows.strength = None, 0.0
    assert torch.equal(model(input_ids=IDS).logits, base)


def test_rows_come_off_again(model):
    before = model(input_ids=IDS).logits
    with torch.no_grad():
        lay_over(model, [5]).rows.zero_()
    lift_off(model)
    assert torch.equal(model(input_ids=IDS).logits, before)


@pytest.mark.parametrize(("ids", "says"), [([], "empty"), ([1, 1], "twice"), ([64], "0 to 63"), ([-1], "another tok")])
def test_lists_that_cannot_be(ids, says):
    with pytest.raises(TicketError, match=says):
        RowEmbedding(nn.Embedding(64, 4), ids)
