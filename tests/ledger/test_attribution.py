"""Attribution adds up to the true difference, lies where the rows are read, and its check is exact."""

import json

import numpy as np
import pytest
import torch

from helpers import architectures
from helpers.referenced import IDS, laid, references
from ks_core.errors import Cancelled, SettingsError
from ks_core.ledger.attribution import POINTS, alone, attribute, left_out, of_rows, slopes
from ks_core.likelihood.rows import lay_over
from ks_core.likelihood.scorer import Scorer, likelihood_of
from ks_core.likelihood.spans import HEAD, PREFILL, SOURCE, SPANS, TAIL, TARGET


@pytest.fixture
def scorer(tiny_model, tiny_tokenizer):
    model = laid(tiny_model)
    return Scorer(model, references(model, tiny_tokenizer))


def nats(scorer):
    """Of content and of the end, summed, with the rows as they are now."""
    found = likelihood_of(scorer.model, scorer.references)
    return float(found.content.sum()), float(found.end.sum())


def test_it_adds_up_to_the_true_difference(scorer):
    before = scorer.rows.rows.detach().clone()
    found = attribute(scorer)
    tuned = nats(scorer)
    with torch.no_grad():
        scorer.rows.rows.copy_(scorer.rows.base.weight[scorer.rows.ids])
    base = nats(scorer)
    for part, own, true in zip(("content", "end"), (found.content, found.end), np.subtract(base, tuned), strict=True):
        assert found.gain[part] == pytest.approx(true, rel=1e-5)
        assert own.sum() == pytest.approx(true, rel=0.02), f"{POINTS} points are enough for {part}"
        assert abs(true) > 0.3, "or it would be of nothing"
    assert abs(found.complete() - 1) < 0.02 and f"{found.complete():.1%}" in found.sentence
    coarse = attribute(Scorer(laid_again(scorer, before), scorer.references), points=1)
    assert abs(coarse.complete() - 1) > abs(found.complete() - 1)


def laid_again(scorer, values):
    with torch.no_grad():
        scorer.rows.rows.copy_(values)
    return scorer.model


def test_the_rows_are_as_before(scorer):
    before = scorer.rows.rows.detach().clone()
    needed = scorer.rows.rows.requires_grad

    def stop(done, total, message):
        if done > len(scorer.references):
            raise Cancelled

    attribute(scorer, points=2)
    with pytest.raises(Cancelled):
        attribute(scorer, points=2, report=stop)
    assert torch.equal(scorer.rows.rows, before) and scorer.rows.watch is None
    assert scorer.rows.rows.requires_grad == needed and scorer.rows.rows.grad is None


def test_it_lies_where_the_row_is_read(scorer):
    """w3, w4 and w6 are words of the prompt; w9 stands in sources, w20 to w30 in references alone."""
    found = attribute(scorer, points=2)
    place = {int(i): n for n, i in enumerate(found.token_ids)}
    assert found.token_ids.tolist() == sorted(IDS)
    for token, spans in ((3, {HEAD}), (4, {HEAD}), (6, {PREFILL}), (9, {SOURCE}), (28, {TARGET})):
        both = found.content[place[token]] + found.end[place[token]]
        assert set(np.nonzero(both)[0]) == spans, (token, [SPANS[s] for s in np.nonzero(both)[0]])
    assert not found.content[:, TAIL].any()
    # What stands last in every reference is read for the end alone, and what stands in none for nothing.
    assert not found.content[place[50]].any() and not found.total[place[50]]
    json.dumps(found.as_dict())
    some = of_rows(found, [28, 3])
    np.testing.assert_array_equal(some.total, found.total[[place[28], place[3]]])


def test_leaving_one_out_is_two_evaluations(scorer):
    rows, chosen = scorer.rows, [3, 20, 25, 50]
    lost, given = left_out(scorer, chosen), alone(scorer, chosen)
    tuned = rows.rows.detach().clone()
    start = rows.base.weight[rows.ids].detach().float()
    whole = sum(nats(scorer))
    for n, token in enumerate(chosen):
        slot = rows.ids.tolist().index(token)
        with torch.no_grad():
            rows.rows[slot] = start[slot]
        assert lost[n] == pytest.approx(sum(nats(scorer)) - whole, abs=2e-3)
        with torch.no_grad():
            rows.rows.copy_(start)
            base = sum(nats(scorer))
            rows.rows[slot] = tuned[slot]
        assert given[n] == pytest.approx(base - sum(nats(scorer)), abs=2e-3)
        with torch.no_grad():
            rows.rows.copy_(tuned)
    assert abs(lost[0]) > 0.1 and abs(given[0]) > 0.1 and lost[3] == given[3] == 0, "w50 is read nowhere"


def test_slopes_are_autograds(scorer):
    found, rows = slopes(scorer), scorer.rows
    assert found.token_ids.tolist() == rows.ids.tolist()
    tuned = rows.rows.detach().clone()
    change = tuned - rows.base.weight[rows.ids].detach()
    with torch.no_grad():
        rows.rows.copy_(rows.base.weight[rows.ids])
    each = []
    for example in scorer.references.examples:
        rows.rows.grad = None
        ids, labels = (torch.tensor([example[name]]) for name in ("input_ids", "labels"))
        loss = scorer.model(ids, labels=labels).loss * (labels != -100).sum()
        loss.backward()
        each.append(rows.rows.grad.clone())
    gradients = torch.stack(each)
    np.testing.assert_allclose(found.first, gradients.sum(0).norm(dim=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.summed, gradients.norm(dim=2).sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.fisher, gradients.norm(dim=2).square().sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.movement, -(gradients.sum(0) * change).sum(1), rtol=1e-4, atol=1e-4)
    assert found.summed.sum() > 2 * found.first.sum() > 0


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_adds_up_too(kind, tiny_tokenizer):
    model = architectures.model(kind, "SEQ_TO_SEQ_CAUSAL_LM")
    rows = lay_over(model, [7, 8, 9, 20, 21, 23])
    with torch.no_grad():
        rows.rows += torch.randn(rows.rows.shape, generator=torch.Generator().manual_seed(2))
    scorer = Scorer(model, references(model, tiny_tokenizer, prompt="{source}"))
    found = attribute(scorer, points=48)
    assert found.complete() == pytest.approx(1, abs=0.02) and abs(sum(found.gain.values())) > 0.1
    both = found.content + found.end
    assert set(np.nonzero(both.any(axis=0))[0]) == {SOURCE, TARGET}
    assert set(np.nonzero(both[3:].any(axis=0))[0]) == {TARGET}, "w20 to w23 stand in answers alone"


@pytest.mark.parametrize("points", [0, 257])
def test_points_that_cannot_be(scorer, points):
    with pytest.raises(SettingsError, match="number of points"):
        attribute(scorer, points=points)
