"""Orders of rows: by hand, with what each needs, and one of one's own."""

from dataclasses import replace

import numpy as np
import pytest

from ks_core.errors import SettingsError
from ks_core.ledger.attribution import Attribution, Slopes
from ks_core.ledger.evidence import NEEDS, Evidence
from ks_core.ledger.rules import RULES, rankings
from ks_core.study import statistics
from ks_core.tickets.null import Null
from ks_core.tickets.orders import ORDERS, SIDES, Rule

IDS = np.array([4, 7, 9, 12, 30])


def evidence(**more):
    """Five rows of eight values; w9 went furthest, w7 was turned about, w30 hardly moved."""
    before = np.random.default_rng(0).normal(0, 1, (5, 8)).astype(np.float32)
    after = before + np.array([0.5, 0, 3, 0.4, 0.01], np.float32)[:, None]
    after[1] = -before[1]
    shift = np.linalg.norm(after - before, axis=1)
    cosine = np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(before, after, strict=True)])
    statistic = np.array([3, 4, 8, 3, 1]) / 8
    found = Evidence(IDS, tuple(f"w{i}" for i in IDS), statistic, 1 - statistic, shift, cosine, before, after)
    return replace(found, **more)


def known(**more):
    """The same, with all that a rule may need."""
    spans = np.zeros((5, 5))
    spans[:, 4] = [1.0, 5.0, 2.0, -3.0, 0.5]
    return evidence(
        slopes=Slopes(IDS, *(np.roll(np.arange(5.0), n) for n in range(4)), 3), left_out=np.array([np.nan, 2.0, 4.0, np.nan, np.nan]),
        attribution=Attribution(IDS, spans, np.zeros((5, 5)), {"content": 5.5, "end": 0.0}, 8, 3), structural=(12,),
        null=Null(IDS, np.tile(np.array([[1], [3]]), (1, 5)), 8),
        gradients={"summed": np.array([1.0, 9.0, 3.0, 5.0, 0.0]), "first": np.array([0.0, 1.0, 5.0, 2.0, 3.0])}, **more,
    ).with_training({4: 9, 7: 300, 9: 40, 12: 9}, {4: 50, 7: 1000, 9: 40, 12: 60}, [9, 12])  # fmt: skip


def test_orders_by_hand():
    found, left = rankings(known())
    assert not left and set(found) == set(RULES)
    assert all(sorted(ids.tolist()) == IDS.tolist() for ids in found.values()), "each has every changed row once"
    wanted = {
        "d": [9, 7, 4, 12, 30],  # w4 and w12 have the same D: the longer shift first
        "l2": sorted(IDS, key=lambda i: -evidence().l2[IDS.tolist().index(i)]),
        "cosine": [7, *sorted([4, 9, 12, 30], key=lambda i: evidence().cosine[IDS.tolist().index(i)])],
        "steps": [7, 9, 4, 12, 30],
        "frequency": [7, 12, 4, 9, 30],
        "recorded-gradient": [7, 12, 9, 4, 30],
        "recorded-first": [9, 30, 12, 7, 4],
        "prompt": [12, 9, 7, 4, 30],
        "attribution": [7, 9, 4, 30, 12],
        "left-out": [9, 7],  # the others were not measured
        "bottom": [30, 4, 12, 7, 9],
        "first-gradient": [30, 12, 9, 7, 4],
        "structural": [12],
        "d-noise": [9, 7, 4, 12, 30],
    }
    for rule, ids in wanted.items():
        assert found[rule].tolist()[: len(ids)] == list(ids), rule


def test_d_beyond_its_steps_is_what_steps_leave_of_it():
    """D rises with steps in all rows but one, which is put first; rows of as many steps are one point."""
    steps = {4: 1, 7: 1, 9: 10, 12: 100, 30: 200}
    one = evidence(statistic=np.array([0.1, 0.3, 0.25, 0.5, 0.6])).with_training(steps, {}, [])
    np.testing.assert_allclose(one.expected, [0.2, 0.2, 0.25, 0.5, 0.6])
    assert rankings(one, ["d-adjusted"])[0]["d-adjusted"][0] == 7
    falling = evidence(statistic=np.array([0.5, 0.5, 0.3, 0.1, 0.1])).with_training(steps, {}, [])
    np.testing.assert_allclose(falling.expected, np.full(5, 0.3), err_msg="nowhere does it fall")


def test_what_is_not_known_is_left_out_with_the_reason():
    found, left = rankings(evidence())
    assert set(found) == {n for n, rule in RULES.items() if not rule.needs} and set(found) | set(left) == set(RULES)
    assert left["steps"] == NEEDS["training"] and left["attribution"] == NEEDS["attribution"]
    assert set(NEEDS) >= {rule.needs for rule in RULES.values() if rule.needs}
    some, _ = rankings(evidence(), ["wasserstein", "random", "wasserstein"])
    assert list(some) == ["wasserstein", "random"]
    with pytest.raises(SettingsError, match="'luck' is no rule"):
        rankings(evidence(), ["luck"])


def test_the_orders_of_tickets_are_the_ledgers_and_stand_in_one_list():
    """A rule is written once: the ledger's are those by which tickets are chosen, and those that need the model."""
    assert all(RULES[name] is rule for name, rule in ORDERS.items())
    of_the_model = set(RULES) - set(ORDERS)
    assert {RULES[name].needs for name in of_the_model} == {"slopes", "attribution", "left out"}
    sides = [rule.side for rule in RULES.values()]
    assert sides == sorted(sides, key=list(SIDES).index), "side by side, the controls last"


def test_rows_at_random_are_those_of_a_seed():
    orders = {tuple(rankings(evidence(seed=n), ["random"])[0]["random"]) for n in range(20)}
    assert len(orders) > 10
    assert (
        rankings(evidence(seed=3), ["random"])[0]["random"] == rankings(evidence(seed=3), ["random"])[0]["random"]
    ).all()


def test_every_rule_says_from_where_it_knows_and_has_it():
    assert {rule.side for rule in RULES.values()} == set(SIDES)
    assert all(rule.source and rule.about for rule in RULES.values())
    one = evidence()
    for name in (
        "wasserstein",
        "cramer_von_mises",
        "anderson_darling",
        "energy",
        "sign_test",
        "wilcoxon",
        "mean_shift",
        "relative_l2",
    ):
        rule = {"sign_test": "sign"}.get(name, name.replace("_", "-"))
        score = getattr(statistics, name)(one.before, one.after)
        assert (RULES[rule].function(one) == score).all(), rule
        assert rankings(one, [rule])[0][rule].tolist() == IDS[one.order(score)].tolist()


def test_a_rule_of_ones_own(monkeypatch):
    monkeypatch.setattr(RULES, "_entries", dict(RULES._entries))
    RULES.add(Rule("even", "Even", "even ids first", "a test", function=lambda e: -(e.token_ids % 2).astype(float)))
    assert set(rankings(evidence(), ["even"])[0]["even"][:3]) == {4, 12, 30}
    RULES.add(Rule("wrong", "Wrong", "one score for all", "a test", function=lambda e: np.zeros(1)))
    with pytest.raises(SettingsError, match="one for each of 5"):
        rankings(evidence(), ["wrong"])
