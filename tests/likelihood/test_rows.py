"""Rows over a frozen embedding: only they act, only they learn, and they come off again."""

import copy

import pytest
import torch
from torch import nn

from helpers import architectures
from ks_core.errors import ModelError, TicketError
from ks_core.likelihood.rows import RowEmbedding, lay_over, lift_off, rows_over


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
    assert model.config.tie_word_embeddings, "some models scale their output by it"
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


class Scaled(nn.Embedding):
    """What Gemma's embedding is: a factor on what was looked up; and as T5Gemma 2 has it, one id that has a vector of its own."""

    def forward(self, input_ids):
        vectors = super().forward(input_ids) * 8.0
        vectors[input_ids == 9] = 0.5
        return vectors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_an_embedding_does_besides_it_goes_on_doing(dtype):
    torch.manual_seed(0)
    base = Scaled(64, 16).to(dtype)
    before = base(IDS)
    rows = RowEmbedding(base, [3, 5, 9])
    assert torch.equal(rows(IDS), before)
    with torch.no_grad():
        rows.rows += 0.1
    changed = rows(IDS)
    written = Scaled.from_pretrained(rows.full_matrix().to(dtype))
    assert torch.equal(changed, written(IDS)) and changed.dtype == dtype
    assert torch.equal(changed[0, 3], torch.full((16,), 0.5, dtype=dtype)), (
        "id 9 has a vector of its own, whatever its row"
    )
    rows.strength = 0.5
    halfway = (0.5 * (base.weight.float() + rows.full_matrix())).to(dtype)
    torch.testing.assert_close(rows(IDS), Scaled.from_pretrained(halfway)(IDS))


def test_a_row_has_the_gradient_that_it_would_have_in_the_matrix():
    """A factor counts in it, the padding has none, and rows that are too long are cut before they count."""
    torch.manual_seed(0)
    for kind, options in (
        (Scaled, {"padding_idx": 5}),
        (nn.Embedding, {"padding_idx": 5}),
        (nn.Embedding, {"max_norm": 1.0}),
    ):
        matrix = kind(64, 16, **options)
        with torch.no_grad():
            matrix.weight[[3, 5, 8]] += 0.5
        rows = RowEmbedding(copy.deepcopy(matrix), [3, 5, 40])
        ours, theirs = rows(IDS), matrix(IDS)
        assert torch.equal(ours, theirs)
        for vectors in (ours, theirs):
            vectors.square().sum().backward()
        torch.testing.assert_close(rows.rows.grad, matrix.weight.grad[[3, 5, 40]])
        assert rows.rows.grad[0].abs().min() > 0 and (rows.rows.grad[2] == 0).all()
        assert (rows.rows.grad[1] == 0).all() == ("padding_idx" in options)


def test_a_module_that_looks_nothing_up_is_refused():
    class Product(nn.Embedding):
        def forward(self, input_ids):
            return nn.functional.one_hot(input_ids, len(self.weight)).to(self.weight.dtype) @ self.weight

    rows = RowEmbedding(Product(64, 16), [5])
    with pytest.raises(ModelError, match="Product does not look its rows up"):
        rows(IDS)


@torch.no_grad()
def test_encoder_and_decoder_of_one_matrix_read_the_same_rows():
    """T5's two stacks have a module each over one weight. The output layer is tied to it, and stays."""
    model = architectures.model("t5", "SEQ_TO_SEQ_CAUSAL_LM", tie_word_embeddings=True)
    before = model(input_ids=IDS, decoder_input_ids=IDS).logits
    rows = lay_over(model, [5, 9])
    assert rows_over(model) is rows and [n for n, p in model.named_parameters() if p.requires_grad] == [
        "encoder.embed_tokens.rows"
    ]
    assert torch.equal(model(input_ids=IDS, decoder_input_ids=IDS).logits, before)
    with torch.no_grad():
        rows.rows += 1
    other = torch.tensor([[1, 3, 8, 7, 4], [3, 3, 8, 4, 2]])  # without a trained token
    for inputs in ({"input_ids": IDS, "decoder_input_ids": other}, {"input_ids": other, "decoder_input_ids": IDS}):
        changed = model(**inputs).logits
        lift_off(model)
        assert rows_over(model) is None and not torch.equal(model(**inputs).logits, changed)
        rows = lay_over(model, [5, 9])
        with torch.no_grad():
            rows.rows += 1
    assert copy.deepcopy(model)(**inputs).logits.equal(changed), "a copy has rows of its own"
