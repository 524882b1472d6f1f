"""The benchmark of training: every way trains the same, and the tables say what was measured."""

from __future__ import annotations

import copy

import pytest
import torch

from ks_core.commands.benches import training
from ks_core.commands.benches.training import MIXED, OURS, PADDING_FREE, PARTS, PEER, Round, breakdown, compare, table
from ks_core.errors import SettingsError
from ks_core.likelihood.examples import encode
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.tuning.recipes import Recipe

CORPUS = Corpus(
    "test",
    "A",
    "B",
    tuple(SentencePair(" ".join(f"w{i + n}" for n in range(1 + i % 4)), f"w{i + 20} w{i + 21}") for i in range(5, 25)),
    (SentencePair("w40 w41", "w42"),),
)
RECIPE = Recipe(steps=12, batch_size=4, learning_rate=0.05, optimizer="adam")
IDS = [2, 3, 4, 5, 9, 12, 27, 31]


@pytest.fixture
def examples(tiny_tokenizer):
    return encode(CORPUS, tiny_tokenizer, "w3 w30 {source} w4", 128)


def test_every_way_trains_the_same(tiny_model, tiny_tokenizer, examples):
    model, told = copy.deepcopy(tiny_model), []
    found = compare(model, tiny_tokenizer, examples, IDS, RECIPE, 1, told.append)
    assert told == found and [r.way for r in found] == [PEER, PADDING_FREE, MIXED, OURS]
    peer = found[0].losses
    assert len(peer) == RECIPE.steps
    for other in found[1:]:
        assert training.largest_difference(other.losses, peer) < 1e-4, other.way
    for done in found:
        assert set(done.parts) == set(PARTS) and all(seconds > 0 for seconds in done.parts.values())
        assert sum(done.parts.values()) <= done.seconds + 1e-3
    # The model that was lent is as it was: its weights and what they may learn, its modules, its tie.
    assert model.config.tie_word_embeddings and type(model.get_input_embeddings()) is torch.nn.Embedding
    for (name, now), (_, before) in zip(model.named_parameters(), tiny_model.named_parameters(), strict=True):
        assert torch.equal(now, before) and now.requires_grad, name


def test_a_training_that_differs_shows(tiny_model, tiny_tokenizer, examples, monkeypatch):
    honest = training.lay_over
    monkeypatch.setattr(training, "lay_over", lambda model, ids: honest(model, [i for i in ids if i != 3]))
    peer, *_, ours = compare(tiny_model, tiny_tokenizer, examples, IDS, RECIPE)
    assert training.largest_difference(ours.losses, peer.losses) > training.TOLERANCE


def test_tables_take_medians_and_measure_against_the_peer():
    found = [
        Round(way, [3.0, 2.0], seconds, dict.fromkeys(PARTS, seconds / 10), 2 * seconds)
        for way, several in ((PEER, (4.0, 2.0, 9.0)), (OURS, (2.0, 1.0, 2.5)))
        for seconds in several
    ]
    assert table(found, 400)[2:] == [
        f"| {PEER} | 100 | 1.00 | 50 | 1.00 | 2.00000 |",
        f"| {OURS} | 200 | 2.00 | 100 | 2.00 | 2.00000 |",
    ]
    assert breakdown(found)[-1] == f"| {OURS} | 100.0 | 100.0 | 100.0 | 100.0 | 600.0 |"


def test_what_cannot_be_compared(tiny_model, tiny_tokenizer, examples):
    with pytest.raises(SettingsError, match="--rounds is 0"):
        compare(tiny_model, tiny_tokenizer, examples, IDS, RECIPE, 0)
    with pytest.raises(SettingsError, match="Expected adam"):
        compare(tiny_model, tiny_tokenizer, examples, IDS, Recipe(steps=1))
    with pytest.raises(ValueError):
        training.largest_difference([1.0, 2.0], [1.0])
