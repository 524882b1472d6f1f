"""Doing as well as another: answers on made-up differences, at the boundary, and the number of sentences against a simulation."""

import math

import numpy as np
import pytest

from ks_core.errors import SettingsError
from ks_core.ledger.noninferiority import NO, OPEN, YES, judged, of_answers
from ks_core.ledger.seeds import Found, SeedDraws
from ks_core.likelihood.nats import Likelihood
from ks_core.translation.generation import Generation


def found(value, low, high, *, of_seeds=0.0, of_sentences=None):
    """A difference whose interval is this: half of the draws at either end."""
    spread = ((high - low) / 3.92) ** 2 if of_sentences is None else of_sentences
    return Found(np.array([value, *[low] * 50, *[high] * 50]), 1, of_seeds, spread)


def asked(difference, margin=0.1, sentences=50):
    return judged(difference, margin, sentences=sentences, own="the ticket", other="all rows")


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (0.05, 0.2, YES),  # better
        (-0.09, 0.02, YES),  # perhaps worse, but not by the margin
        (-0.09, -0.02, YES),  # clearly worse, and not by the margin: that is what a margin is for
        (-0.11, 0.02, OPEN),
        (-0.3, 0.4, OPEN),
        (-0.3, -0.11, NO),
        (-0.1, 0.02, OPEN),  # at the boundary it is not above it
        (-0.3, -0.1, OPEN),  # nor below it
    ],
)
def test_the_answer_is_of_the_margin(low, high, answer):
    result = asked(found((low + high) / 2, low, high))
    assert result.answer == answer and (result.low, result.high) == (low, high)
    said = {YES: "? Yes:", NO: "? No, it does worse by more than that:", OPEN: "? Not decided:"}[answer]
    assert said in result.sentence and "but for 0.1 nats" in result.sentence
    assert ("would decide it" in result.sentence) == (answer == OPEN)
    assert result.as_dict()["sentence"] == result.sentence


def test_the_number_of_sentences_by_hand():
    # A sentence's difference has a variance of 50 * 0.02**2 = 0.02; d + m = 0.04.
    needed = asked(found(-0.06, -0.1, 0.0, of_sentences=0.02**2)).needed
    assert needed == math.ceil(0.02 * (1.959964 + 0.841621) ** 2 / 0.04**2) == 99
    assert asked(found(-0.1, -0.2, 0.0)).needed is None, "exactly at the margin no number decides"
    assert "no number of references" in asked(found(-0.1, -0.2, 0.0)).sentence
    # What two trainings differ by is not made less by sentences.
    assert asked(found(-0.06, -0.1, 0.0, of_seeds=0.02**2, of_sentences=0.02**2)).needed is None
    more = asked(found(-0.06, -0.1, 0.0, of_seeds=0.01**2, of_sentences=0.02**2)).needed
    assert more is not None and more > needed


def test_so_many_sentences_do_decide_it():
    """With the number that is named, four of five draws say yes where the one is worse by half the margin."""
    noise = np.random.default_rng(1)

    def pair(count):
        tokens = np.ones(count, np.int64)
        own = Likelihood(noise.normal(2.05, 0.3, count), None, tokens, tokens)
        return own, Likelihood(np.full(count, 2.0), None, tokens, tokens)

    def answer(count):
        own, other = pair(count)
        draws = SeedDraws(count, 1, 400)
        apart = draws.mean(draws.gains([other], [own]))
        return judged(apart, 0.1, sentences=count, own="a", other="b")

    needed = math.ceil(0.3**2 * (1.959964 + 0.841621) ** 2 / 0.05**2)
    first = answer(60)
    assert first.needed is not None and needed / 3 < first.needed < 20 * needed
    rate = np.mean([answer(needed).answer == YES for _ in range(150)])
    assert 0.68 < rate < 0.92, f"said what is true in {rate:.0%}, where 80% was meant"


@pytest.mark.parametrize("margin", [0, -0.1, math.nan, math.inf])
def test_a_margin_is_above_nothing(margin):
    with pytest.raises(SettingsError, match="Expected a number above 0"):
        asked(found(0, -1, 1), margin)


def test_answers_are_compared_in_chrf():
    references = [f"le chat numéro {n} dort sur la table" for n in range(30)]
    good = [Generation("", text, True, 8) for text in references]
    worse = [Generation("", text.replace("chat", "chien"), True, 8) for text in references]
    same = of_answers(good, good, references, "French", resamples=200, names=("the ticket", "the tuned model"))
    assert same.answer == YES and same.value == 0 and same.unit == "chrF" and "2 chrF" in same.sentence
    behind = of_answers(worse, good, references, "French", 1.0, resamples=200)
    assert behind.answer == NO and behind.value < -1
    assert of_answers(good, worse, references, "French", 1.0, resamples=200).answer == YES
    with pytest.raises(SettingsError, match="29 and 30 answers"):
        of_answers(good[1:], good, references, "French")
