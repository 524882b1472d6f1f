"""A loss by part: content and end token against each target's own nats; the whole and its gradient as they are without."""

import copy

import pytest
import torch
from torch.nn import functional as F

from ks_core.likelihood.batches import Collator, LossParts, target_loss
from ks_core.likelihood.examples import IGNORED
from ks_core.likelihood.packing import Packer
from ks_core.likelihood.rows import lay_over

END = 2
EXAMPLES = [
    {"input_ids": [3, 5, 6, 4, 25, END], "labels": [IGNORED] * 4 + [25, END]},
    {"input_ids": [3, 5, 7, 8, 9, 4, 25, 26, END], "labels": [IGNORED] * 6 + [25, 26, END]},
    {"input_ids": [3, 9, 4, 30, 31], "labels": [IGNORED] * 3 + [30, 31]},  # without an end
]


def by_hand(model, examples):
    """Nats of each target, an example at a time and without padding: content, and ends."""
    content, ends = [], []
    for example in examples:
        ids, labels = (torch.tensor([example[name]]) for name in ("input_ids", "labels"))
        nats = F.cross_entropy(
            model(input_ids=ids).logits[0, :-1], labels[0, 1:], reduction="none", ignore_index=IGNORED
        )
        for label, value in zip(labels[0, 1:].tolist(), nats.tolist(), strict=True):
            if label != IGNORED:
                (ends if label == END else content).append(value)
    return content, ends


@pytest.fixture
def model(tiny_model):
    made = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for parameter in made.model.layers.parameters():
            parameter *= 3  # fresh as it is, all tokens are about as likely
    return made


@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_the_parts_are_the_nats_of_their_tokens_and_change_nothing(kind, model):
    packer = Packer(Collator(0), 16)
    batch = packer.padded(EXAMPLES) if kind == "padded" else packer.pack(EXAMPLES)
    rows = lay_over(model, [3, 4, 5, 9, 25])
    found = []
    for parts in (None, LossParts(END)):
        rows.rows.grad = None
        loss = target_loss(model, batch, parts=parts)
        loss.backward()
        found.append((loss.detach(), rows.rows.grad.clone()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    content, ends = by_hand(model, EXAMPLES)
    taken = parts.take()
    assert len(ends) == 2 and taken.keys() == {"content", "end"}
    assert taken["content"] == pytest.approx(sum(content) / len(content), rel=1e-4)
    assert taken["end"] == pytest.approx(sum(ends) / 2, rel=1e-4) and taken["end"] != pytest.approx(
        taken["content"], rel=1e-3
    )
    assert parts.take() == {}, "what was taken is gone"


def test_batches_are_added_up_and_a_part_without_tokens_is_absent(model):
    padded, parts = Collator(0), LossParts(END)
    target_loss(model, padded(EXAMPLES[2:]), parts=parts)
    content, _ = by_hand(model, EXAMPLES[2:])
    assert parts.take() == {"content": pytest.approx(sum(content) / 2, rel=1e-4)}
    for example in EXAMPLES:  # as gradients are accumulated: an example with more tokens weighs more
        target_loss(model, padded([example]), parts=parts)
    content, ends = by_hand(model, EXAMPLES)
    expected = {
        "content": pytest.approx(sum(content) / len(content), rel=1e-4),
        "end": pytest.approx(sum(ends) / 2, rel=1e-4),
    }
    assert parts.take() == expected
    for example in EXAMPLES[:2]:  # two processes, each with one: their sums are added
        target_loss(model, padded([example]), parts=parts)
    one = parts._sums
    target_loss(model, padded(EXAMPLES[2:]), parts=parts)
    parts._sums = parts._sums - one
    assert parts.take(lambda sums: sums + one) == expected


def test_a_loss_that_is_no_number_has_no_number_as_a_part():
    parts = LossParts(END)
    parts.add(torch.full((2, 4), torch.nan), torch.tensor([END, 1]), torch.tensor(torch.nan))
    taken = parts.take()
    assert taken["content"] != taken["content"] and taken["end"] != taken["end"]
