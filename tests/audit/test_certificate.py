"""The certificate: hand-computed conditions, and predictions that are the models' own."""

import copy

import numpy as np
import pytest
import torch

from ks_core.audit.certificate import Predictions, by_margin, clopper_pearson, outcome, predict
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.tuning.batches import IGNORED, encode
from ks_core.tuning.models import put_rows
from ks_core.tuning.rows import lay_over

BY_HAND = Predictions(
    sentence=[0, 0, 1, 1], place=[3, 4, 3, 4], reference=[9, 2, 9, 2], tuned=[9, 2, 5, 2], ticket=[9, 3, 5, 4],
    p_first=[0.9, 0.8, 0.5, 0.6], p_second=[0.1, 0.1, 0.4, 0.1], context=[0.1, 0.3, 0.0, 0.3], left_out=0.3, sentences=2,
)  # fmt: skip


def test_the_condition_by_hand():
    found = outcome(BY_HAND, "vocabulary")  # margins .4, .35, .05, .25 against .3
    assert (found.tokens, found.certified, found.agreeing_certified, found.agreeing) == (4, 2, 1, 2)
    assert found.violations == (1,) and found.coverage == 0.5 and "1 certified cases disagree" in found.sentence
    found = outcome(BY_HAND, "context")  # against .1, .3, .0, .3
    assert (found.certified, found.agreeing_certified, found.violations) == (3, 2, (1,))
    nothing = outcome(Predictions(**{**BY_HAND.as_dict(), "left_out": 0.6}), "vocabulary")
    assert nothing.certified == 0 and nothing.interval() == (0, 1) and "none of them" in nothing.sentence


def test_clopper_pearson_by_hand():
    low, high = clopper_pearson(10, 10)
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 10))
    assert clopper_pearson(0, 0) == (0, 1)


def test_margins_fall_into_bins():
    bins = by_margin(BY_HAND, bins=5)
    assert [n for *_, n, _ in bins] == [1, 0, 1, 1, 1] and sum(k for *_, k in bins) == 2


def test_predictions_are_the_models_own(tiny_model, tiny_tokenizer):
    pairs = tuple(
        SentencePair(" ".join(f"w{i + n}" for n in range(1 + i % 3)), f"w{i + 20} w{i + 21}") for i in range(5, 16)
    )
    examples = encode(Corpus("t", "A", "B", pairs, pairs[:1]), tiny_tokenizer, "w3 {source} w4", 128)
    model, ids, ticket = copy.deepcopy(tiny_model), [3, 4, 6, 9, 27], [3, 6]
    values = np.random.default_rng(0).normal(0, 1, (5, 16)).astype(np.float32)
    put_rows(lay_over(model, ids), values)
    statistic = {3: 0.9, 4: 0.25, 6: 0.8, 9: 0.5, 27: 0.75}
    found = predict(model, examples, pad=2, ticket=ticket, statistic=statistic, batch_size=4)
    assert found.left_out == 0.75 and found.sentences == len(examples)
    assert len(found.place) == sum(label != IGNORED for e in examples for label in e["labels"])
    # One at a time, with nothing shared: the tuned model, and the base with the ticket's rows.
    for chosen, guesses in ((ids, found.tuned), (ticket, found.ticket)):
        alone = copy.deepcopy(tiny_model)
        put_rows(lay_over(alone, chosen), values[[ids.index(i) for i in chosen]])
        for n, (sentence, place) in enumerate(zip(found.sentence, found.place, strict=True)):
            text = examples[sentence]["input_ids"]
            with torch.no_grad():
                probabilities = alone(torch.tensor([text[:place]])).logits[0, -1].softmax(-1)
            assert int(probabilities.argmax()) == guesses[n] and found.reference[n] == text[place]
            if chosen is ids:
                assert probabilities.topk(2).values.tolist() == pytest.approx(
                    [found.p_first[n], found.p_second[n]], abs=1e-5
                )
                read = [statistic[i] for i in text[:place] if i in statistic and i not in ticket]
                assert found.context[n] == max(read, default=0)
