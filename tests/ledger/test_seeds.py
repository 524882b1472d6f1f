"""Several trainings together: a case done by hand, one training as before, and how often the intervals hold."""

import numpy as np
import pytest

from ks_core.ledger.seeds import SeedDraws
from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.translation.bootstrap import interval, pvalue, weights
from ks_core.translation.shares import share


def likelihood(summed):
    """References of one token and no end, at these nats each."""
    summed = np.asarray(summed, float)
    return Likelihood(summed, None, np.ones(len(summed), np.int64), np.ones(len(summed), np.int64))


def test_one_training_is_as_it_was():
    drawn = np.random.default_rng(3)
    base, own, full = (likelihood(drawn.normal(mean, 1, 40)) for mean in (5, 4, 2))
    hierarchical, plain = SeedDraws(40, 1, 500), Draws(40, 500)
    gains = hierarchical.gains([base], [own])
    np.testing.assert_array_equal(gains[0], plain.gain(base, own))
    found = hierarchical.mean(gains)
    assert found.interval == interval(plain.gain(base, own)[1:]) and found.pvalue == pvalue(plain.gain(base, own))
    whole = hierarchical.gains([base], [full])
    assert hierarchical.share(gains, whole) == share(gains[0], whole[0])


def test_two_trainings_by_hand():
    """Two trainings on two sentences: each draw is the mean of what it took of either, and the spread is both's."""
    draws = SeedDraws(2, 2, 4000, seed=9)
    base = likelihood([0, 0])
    after = [likelihood([-1, -3]), likelihood([-5, -7])]
    gains = draws.gains([base] * 2, after)
    trainings, sentences = weights(2, 4000, 10) / 2, weights(2, 4000, 9) / 2
    by_hand = np.einsum("ds,di,si->d", trainings, sentences, np.array([[1.0, 3.0], [5.0, 7.0]]))
    found = draws.mean(gains)
    assert found.value == by_hand[0] == 4
    assert found.of_seeds == pytest.approx(8 / 2), "means of 2 and 6 vary by 8, and two of them are taken"
    assert found.of_sentences == pytest.approx(0.5, rel=0.1), "a draw of two sentences that differ by 2"
    whole = found.of_seeds + found.of_sentences
    assert found.freedom == pytest.approx(whole**2 / (found.of_seeds**2 + found.of_sentences**2))
    moved = by_hand[1:] != 4
    ratio = (found.draws[1:][moved] - 4) / (by_hand[1:][moved] - 4)
    assert ratio.std() < 1e-9 and ratio[0] > 2, "all draws are widened alike, and with two trainings by much"


def test_equal_trainings_add_nothing():
    """Trainings that came out alike say what one of them says, and a share of a share is what it is."""
    drawn = np.random.default_rng(4)
    base, own = likelihood(drawn.normal(5, 1, 60)), likelihood(drawn.normal(4, 1, 60))
    three, one = SeedDraws(60, 3, 2000), SeedDraws(60, 1, 2000)
    found, alone = three.mean(three.gains([base] * 3, [own] * 3)), one.mean(one.gains([base], [own]))
    assert found.of_seeds == 0 and found.value == pytest.approx(alone.value)
    np.testing.assert_allclose(found.interval, alone.interval, atol=0.05)
    half = three.gains([base] * 3, [own] * 3)
    assert three.share(half / 2, half).value == pytest.approx(0.5)
    assert three.share(half / 2, half).low == pytest.approx(0.5) == three.share(half / 2, half).high


def test_pairs_are_kept():
    """A difference that is the same in every training and sentence is sure, however far the trainings lie apart."""
    drawn = np.random.default_rng(5)
    draws, base = SeedDraws(30, 3, 1000), likelihood(drawn.normal(5, 1, 30))
    first = [likelihood(base.content - level - drawn.normal(0, 1, 30)) for level in (1.0, 4.0, 9.0)]
    second = [likelihood(one.content + 0.1) for one in first]
    gains = [draws.gains([base] * 3, found) for found in (first, second)]
    apart = draws.over(lambda a, b: a - b, *gains)
    assert apart.value == pytest.approx(0.1) and apart.interval == pytest.approx((0.1, 0.1))
    assert apart.pvalue == pytest.approx(1 / 1001)
    low, high = draws.mean(gains[0]).interval
    assert low < 0 < high and draws.mean(gains[0]).pvalue > 0.05, "three trainings so far apart show no gain"


def test_it_holds_where_draws_alone_do_not():
    """Three trainings whose spread is all there is: 95 of 100 intervals hold the true value, of draws that are not widened 75."""
    noise, held, narrow = np.random.default_rng(6), 0, 0
    draws, base = SeedDraws(20, 3, 200), likelihood(np.zeros(20))
    for _ in range(300):
        levels = noise.normal(1.0, 0.5, (3, 1)) + noise.normal(0, 0.1, (3, 20))
        found = draws.mean(draws.gains([base] * 3, [likelihood(-own) for own in levels]))
        low, high = found.interval
        held += low <= 1.0 <= high
        bare = (draws.gains([base] * 3, [likelihood(-own) for own in levels]) * draws.taken).sum(axis=0)
        low, high = interval(bare[1:])
        narrow += low <= 1.0 <= high
    assert held >= 0.9 * 300 > 0.85 * 300 > narrow
