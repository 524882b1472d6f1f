"""The smallest ticket: rows whose worth is known, found on development and claimed on test."""

import numpy as np
import pytest

from helpers.referenced import IDS, laid, references
from ks_core.errors import SettingsError, TicketError
from ks_core.ledger.smallest import fewest
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.scorer import Scorer


class Ledger:
    """A scorer of rows that are worth so many nats each, but for some that are worth nothing beside another."""

    def __init__(self, worth, beside=(), sentences=6):
        self.worth, self.beside, self.changed = worth, dict(beside), frozenset(worth)
        self.references, self.asked = range(sentences), 0

    def score(self, sets, report=lambda *_: None, message=""):
        report(1, 1, message)
        self.asked += len(sets)
        return [self.one(set(rows)) for rows in sets]

    def one(self, rows):
        gain = sum(w for row, w in self.worth.items() if row in rows and self.beside.get(row) not in rows)
        tokens = np.full(len(self.references), 4)
        nats = np.full(len(self.references), (1000 - gain) / len(self.references))
        return Likelihood(0.8 * nats, 0.2 * nats, tokens, tokens)


def test_it_is_as_few_as_there_can_be():
    """The ranking begins with rows that are worth little; and w3 is worth nothing once w2 is in."""
    worth = {1: 5, 2: 40, 3: 39, 4: 30, 5: 20, 6: 5}
    made = Ledger(worth, {3: 2})
    found = fewest(made, Ledger(worth, {3: 2}, sentences=9), [1, 3, 6, 2, 4, 5], 0.7, resamples=50)
    whole = 5 + 40 + 30 + 20 + 5
    assert set(found.token_ids) == {2, 4} and found.development == pytest.approx(70 / whole)
    assert found.test.value == pytest.approx(70 / whole) and found.prefix == 5
    assert [row for row, _ in found.curve] == [2, 4] and found.curve[-1][1] == pytest.approx(found.development)
    assert "2 rows keep 70%" in found.sentence and "needs 5" in found.sentence


def test_rows_are_taken_out_again():
    """w1 gains most at first, less beside one of the two that follow, and nothing beside both."""

    class Covered(Ledger):
        def one(self, rows):
            self.worth = {**worth, 1: (50, 20, 0)[len(rows & {2, 3})]}
            return super().one(rows)

    worth = {1: 50, 2: 45, 3: 45, 4: 1}
    found = fewest(Covered(worth), Covered(worth), [1, 2, 3, 4], 0.98, resamples=50)
    assert [row for row, _ in found.curve] == [1, 2, 3]
    assert found.dropped == (1,) and set(found.token_ids) == {2, 3}


def test_of_a_model_it_keeps_what_was_asked_with_rows_that_gain(tiny_model, tiny_tokenizer):
    model = laid(tiny_model, seed=10)
    development, test = (Scorer(model, references(model, tiny_tokenizer, part)) for part in ("development", "test"))
    base, tuned = (s.summed().sum() for s in development.score([(), development.changed]))
    assert base > tuned, "or there would be nothing to keep"
    found = fewest(development, test, sorted(IDS), 0.6, resamples=100)
    own = development.score([found.token_ids])[0].summed().sum()
    assert found.development == pytest.approx((base - own) / (base - tuned)) and found.development >= 0.6
    assert len(found.token_ids) < len(IDS) and set(found.token_ids) <= set(IDS)
    none, every, mine = test.score([(), test.changed, found.token_ids])
    gain = none.summed().sum() - mine.summed().sum()
    assert found.test.value == pytest.approx(gain / (none.summed().sum() - every.summed().sum()))
    for row in found.token_ids:  # each is needed
        rest = development.score([set(found.token_ids) - {row}])[0].summed().sum()
        assert (base - rest) / (base - tuned) < 0.6


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_shares_that_cannot_be(share):
    with pytest.raises(SettingsError, match="above 0 and at most 1"):
        fewest(Ledger({1: 1}), Ledger({1: 1}), [1], share)


def test_without_a_gain_there_is_none():
    with pytest.raises(TicketError, match="gain nothing"):
        fewest(Ledger({1: -1, 2: 0}), Ledger({1: 1}), [1, 2], 0.5)
