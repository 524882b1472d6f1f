"""Scores, intervals and p-values: against sacrebleu's own, one draw at a time, and against cases done by hand."""

import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER

from ks_core.translation import bootstrap
from ks_core.translation.bootstrap import RESAMPLES, Bootstrap, holm, pvalue
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.generation import Generation
from ks_core.translation.scores import compare, correct, evaluate

WORDS = st.lists(st.sampled_from(["le", "chat", "noir", "dort", "ici", "Où", ".", "l'eau", "été"]), max_size=9).map(
    " ".join
)
SACREBLEU = {"bleu": BLEU, "chrf": CHRF, "ter": TER}


def answered(texts):
    return [Generation("English: x\nFrench:", text, True, 3) for text in texts]


@given(st.lists(st.tuples(WORDS, WORDS.filter(bool)), min_size=1, max_size=6))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_scores_are_sacrebleus_on_every_draw(pairs):
    answers, references = map(list, zip(*pairs, strict=True))
    made = Bootstrap(references, "French", 12)
    for name, kind in SACREBLEU.items():
        found = made.scores(name, answers)
        assert found[0] == pytest.approx(kind().corpus_score(answers, [references]).score, abs=1e-9)
        for draw, score in zip(made.weights, found, strict=True):
            drawn = np.repeat(np.arange(len(pairs)), draw)
            own = kind().corpus_score([answers[n] for n in drawn], [[references[n] for n in drawn]])
            assert score == pytest.approx(own.score, abs=1e-9), (name, draw)
        assert found.min() >= 0 and (name == "ter" or found.max() <= 100)


def test_the_draws_are_of_as_many_sentences_as_there_are():
    made = Bootstrap(["a b"] * 7, "French", 2500)
    assert made.weights.shape == (2501, 7) and (made.weights.sum(axis=1) == 7).all() and (made.weights[0] == 1).all()
    assert made.weights[1:].mean() == pytest.approx(1, abs=0.03)
    again = Bootstrap(["a b"] * 7, "French", 2500)
    assert (again.weights == made.weights).all(), "one seed"


def test_an_interval_of_a_small_bleu_is_not_negative():
    """One translation of 24 that has 4-grams: the mean and half the spread gave [-0.09, 0.87] here."""
    references = [f"le fichier numéro {n} est ouvert ici" for n in range(24)]
    rest = [" ".join(f"mot{n}x{m}" for m in range(80)) for n in range(24)]
    answers = [f"{references[n]} {rest[n]}" if n == 0 else f"{rest[n]} est" for n in range(24)]
    scores = evaluate(answered(answers), references, "French").scores["raw"]
    assert scores["bleu"].value == pytest.approx(0.4047, abs=1e-4)
    assert 0 < scores["bleu"].low < scores["bleu"].value < scores["bleu"].high < 1.01
    assert scores["ter"].low > 100, "TER is in percent of the reference's words"
    for score in scores.values():
        assert "bs:10000|seed:12345|" in score.signature and "interval:percentiles" in score.signature


def test_an_interval_does_not_pass_the_end_of_its_scale():
    references = [f"le mot {n} est là" for n in range(30)]
    perfect = evaluate(answered(references), references, "French").scores["raw"]
    assert [(s.low, s.high) for s in perfect.values()] == [(100, 100), (100, 100), (0, 0)]
    nearly = evaluate(answered([*references[:-1], "rien"]), references, "French").scores["raw"]
    assert nearly["bleu"].high == 100 > nearly["bleu"].value and nearly["ter"].low == 0
    nothing = evaluate(answered([""] * 30), references, "French").scores["raw"]
    assert [(s.value, s.low, s.high) for s in nothing.values()] == [(0, 0, 0), (0, 0, 0), (100, 100, 100)]


def test_an_interval_of_three_sentences_stays_on_its_scale():
    """One answer is empty: the mean and half the spread gave 9.7 to 109.7 BLEU and -16.6 to 83.4 TER here."""
    answers = ["", "le chat est noir ici", "la maison est grande ici"]
    found = evaluate(answered(answers), ["le chien dort bien ici", *answers[1:]], "French").scores["raw"]
    assert all(0 <= score.low <= score.value <= score.high for score in found.values())
    assert found["bleu"].high == found["chrf"].high == 100 and found["ter"].low == 0


def test_one_sentence_has_no_interval():
    (score, *_) = evaluate(answered(["un chat"]), ["un chat noir"], "French").scores["raw"].values()
    assert np.isnan([score.low, score.high]).all() and "bs:" not in score.signature
    with pytest.raises(ValueError, match="0 answers and 1 references"):
        evaluate([], ["a"], "French")


def test_an_evaluation_is_the_same_as_the_bootstrap_of_shares():
    references = ["le chat noir dort", "un mot ici", "rien du tout", "ouvrir le fichier"]
    answers = answered(["le chat dort\nEnglish: y", "un mot", "tout", "French: ouvrir fichier"])
    found, draws = evaluate(answers, references, "French"), Bootstrap(references, "French").all_scores(answers)
    for rule in EXTRACTION_RULES:
        for metric in ("bleu", "chrf"):
            score = found.scores[rule][metric]
            assert score.value == draws[rule][metric][0]
            assert [score.low, score.high] == np.percentile(draws[rule][metric][1:], (2.5, 97.5)).tolist()
    json.dumps(found.as_dict())


def test_a_pvalue_by_hand():
    draws = np.array([1.0, 3.0, -1.0, 1.0, 1.0])  # around their mean of 1: 2, -2, 0, 0
    assert pvalue(np.array([1.0, *draws[1:]])) == (2 + 1) / (4 + 1)
    assert pvalue(np.array([3.0, *draws[1:]])) == 1 / 5
    assert pvalue(np.array([-3.0, *draws[1:]])) == 1 / 5, "two-sided"
    assert pvalue(np.array([0.0, *draws[1:]])) == 1 and pvalue(np.array([2.0])) == 1


def test_small_pvalues_are_as_frequent_as_they_say():
    """Two systems that differ by chance alone: sacrebleu's own p is below 0.05 in one case of eight."""
    generator = np.random.default_rng(0)
    found, own = [], []
    for _ in range(2000):
        sample = generator.normal(size=40)
        draws = generator.choice(sample, (400, 40)).mean(axis=1)
        found.append(pvalue(np.array([sample.mean(), *draws])))
        spread = np.abs(draws) - np.abs(draws).mean()
        own.append(((spread > abs(sample.mean())).sum() + 1) / 401)
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(np.array(own) < 0.05) > 0.1


@pytest.mark.parametrize(("given", "corrected"), [
    ([], []), ([0.5], [0.5]), ([0.01, 0.02, 0.04], [0.03, 0.04, 0.04]), ([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]),
    ([0.4, 0.5, 0.9], [1, 1, 1]), ([0.01, 0.01], [0.02, 0.02]),
])  # fmt: skip
def test_holm_by_hand(given, corrected):
    assert holm(given) == pytest.approx(corrected)


def test_a_comparison_is_corrected_for_all_that_is_compared():
    references = [f"le mot {n} est là dans la phrase" for n in range(40)]
    worse = [r if n % 2 else "rien" for n, r in enumerate(references)]
    answers = {"Base": answered(worse), "Same": answered(worse), "Better": answered(references)}
    found = compare(answers, references, "French", "Base")
    assert list(found) == list(EXTRACTION_RULES) and list(found["raw"]) == ["Same", "Better"]
    assert found["raw"]["Same"]["bleu"] == {"difference": 0.0, "pvalue": 1.0, "holm": 1.0}
    better = found["first_line"]["Better"]["chrf"]
    assert better["difference"] > 10 and better["pvalue"] == 1 / (RESAMPLES + 1)
    compared = len(EXTRACTION_RULES) * 2 * 2
    assert better["holm"] == pytest.approx(compared * better["pvalue"]) and better["holm"] < 0.05
    correct([found, compare(answers, references, "French", "Same")])
    assert better["holm"] == pytest.approx(2 * compared * better["pvalue"]), "a run's comparisons are one family"
    assert 132 / (RESAMPLES + 1) < 0.05 < 132 / 1001, "so many need more draws than a thousand"
    assert compare({"Base": answered(worse)}, references, "French", "Base") == {}


def test_doctests():
    assert doctest.testmod(bootstrap).failed == 0
