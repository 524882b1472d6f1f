"""Stability: overlaps counted by hand, pairs in the right group, and published ids only where they mean something."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ks_core.checkpoints import demo
from ks_core.checkpoints.vocabulary import Content, Vocabulary
from ks_core.errors import SettingsError, TicketError
from ks_core.ks.statistic import pvalue_table
from ks_core.signature import Signature
from ks_core.study.scan import Scan, Study
from ks_core.tickets import figures as audit_figures
from ks_core.tickets.appendix import published
from ks_core.tickets.null import Null
from ks_core.tickets.overlaps import shared_top, shared_with_trained
from ks_core.tickets.selection import select
from ks_core.tickets.stability import LLAMA, Run, beside_noise, compare, is_llama, published_runs
from ks_core.tuning import trainings


def run(name, ranked, ticket=2, vocabulary=20, **facets):
    """A run whose changed rows are ``ranked``, the largest D first; its ticket the first of them."""
    statistic = np.zeros(vocabulary)
    statistic[ranked] = np.linspace(0.9, 0.1, len(ranked))
    ids = np.arange(vocabulary)
    return Run(name, tuple(ranked[:ticket]), ids, statistic, statistic, statistic > 0, facets, "base")


def test_two_runs_by_hand():
    found = compare([run("a", [3, 4, 5, 6], 3, seed=0), run("b", [4, 3, 7, 5], 2, seed=1)], ks=6)
    (o,) = found.overlaps
    # Tickets {3, 4, 5} and {4, 3}; the tops share nothing, then 3 and 4, then 5 as well.
    assert (o.shared, o.share, o.jaccard, o.both, o.group) == (2, 1.0, pytest.approx(2 / 3), 3, "seed")
    np.testing.assert_allclose(o.curve, [0, 1, 2 / 3, 3 / 4, np.nan, np.nan])
    np.testing.assert_allclose(o.chance[:4], np.array([1, 2, 3, 4]) * 3 / 16)
    # Of the rows 3, 4, 5: first, second, third against second, first, third.
    assert o.rho == pytest.approx(1 - 6 * 2 / (3 * 8)) and found.common == (3, 4)
    np.testing.assert_array_equal(found.matrix("shared"), [[3, 2], [2, 2]])
    np.testing.assert_allclose(found.matrix("jaccard"), [[1, 2 / 3], [2 / 3, 1]])


@given(st.lists(st.integers(0, 40), unique=True, max_size=30), st.lists(st.integers(0, 40), unique=True, max_size=30))
def test_the_shared_top_is_the_size_of_the_intersection(first, second):
    found = shared_top(np.array(first, np.int64), np.array(second, np.int64), 35)
    assert found.tolist() == [len(set(first[:k]) & set(second[:k])) for k in range(1, 36)]


def test_chance_is_what_random_choices_share():
    generator = np.random.default_rng(0)
    pool_a, pool_b, k = np.arange(30), np.arange(10, 50), 12
    shared = [
        len(set(generator.choice(pool_a, k, replace=False)) & set(generator.choice(pool_b, k, replace=False)))
        for _ in range(4000)
    ]
    found = compare(
        [run("a", pool_a.tolist(), vocabulary=60, seed=0), run("b", pool_b.tolist(), vocabulary=60, seed=1)]
    )
    assert found.overlaps[0].chance[k - 1] == pytest.approx(np.mean(shared) / k, abs=0.01)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_runs_does_not_matter(seed):
    generator = np.random.default_rng(seed)
    a, b = (
        replace(
            run(name, generator.permutation(20)[:12].tolist(), 5, seed=name),
            trained=dict(enumerate(generator.integers(1, 9, 20))),
        )
        for name in "ab"
    )
    one, two = compare([a, b]).overlaps[0], compare([b, a]).overlaps[0]
    for name in ("shared", "share", "jaccard", "rho", "curve", "chance", "by_training"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name))
    assert 0 <= one.jaccard <= one.share <= 1 and -1 <= one.rho <= 1


def test_ids_are_matched_not_positions():
    a = run("a", [3, 4, 5, 6], seed=0)
    b = run("b", [3, 4, 5, 6], seed=1)
    order = np.random.default_rng(0).permutation(20)
    shuffled = replace(b, token_ids=b.token_ids[order], statistic=b.statistic[order], shift=b.shift[order],
                       changed=b.changed[order])  # fmt: skip
    (o,) = compare([a, shuffled], ks=4).overlaps
    assert o.rho == pytest.approx(1) and o.curve.tolist() == [1, 1, 1, 1]


def test_equal_d_goes_by_the_shift():
    a = replace(run("a", [1, 2]), statistic=np.full(20, 0.5), shift=np.arange(20.0), changed=np.ones(20, bool))
    assert a.top.tolist() == list(range(19, -1, -1))


def test_a_run_from_a_scan():
    counts = np.array([0, 5, 9, 2], np.int32)
    ids = np.array([10, 11, 12, 13])
    scan = Scan(ids, ids, counts, pvalue_table(10)[counts], counts.astype(float), np.ones(4), 10,
                Signature({"base": "x@1"}), "cpu", 0.0)  # fmt: skip
    made = Run.from_scan("a", scan, select(scan, rule="count", k=2), {"seed": 0})
    assert made.ticket == (12, 11) and made.top.tolist() == [12, 11, 13] and made.base == "x@1"


def test_pairs_are_grouped_by_the_one_thing_that_differs():
    common = {"prompt": "short", "language": "fr", "optimizer": "row"}
    runs = [
        run("s0", [1, 2, 3, 4], seed=0, **common),
        run("s1", [1, 2, 3, 5], seed=1, **common),
        run("p", [1, 9, 3, 8], seed=0, **{**common, "prompt": "long"}),
        run("l", [1, 7, 6, 8], seed=0, **{**common, "language": "de"}),
        run("o", [9, 7, 6, 8], seed=0, **{**common, "optimizer": "adam"}),
        run("o again", [9, 7, 6, 8], seed=0, **{**common, "optimizer": "adam"}),
    ]
    found = compare(runs, ks=4)
    groups = {(found.names[o.first], found.names[o.second]): o.group for o in found.overlaps}
    assert groups["s0", "s1"] == "seed" and groups["s0", "p"] == "prompt" and groups["s0", "l"] == "language"
    assert groups["s0", "o"] == "optimizer" and groups["s1", "p"] == groups["p", "l"] == "other"
    assert groups["o", "o again"] == "other"  # nothing known differs: that is no evidence about seeds
    assert [(g.name, g.pairs) for g in found.groups] == [
        ("seed", 1), ("prompt", 1), ("language", 1), ("optimizer", 2), ("other", 10)
    ]  # fmt: skip
    assert found.sentence == (
        "Of the 4 rows of largest D, 3 stay across seeds (one pair; 3 by a uniform draw), 2 across prompts (one pair; 2 by a "
        "uniform draw), 1 across languages (one pair; 1 by a uniform draw), 0 across optimizers (2 pairs, 0 to 0; 0 by a uniform "
        "draw). One pair of seeds is no ceiling for the others. 10 pairs differ in several things or in nothing known, and "
        "count nowhere."
    )


def seeds(*ranked, **more):
    """Runs that differ in the seed, and one of another prompt for each list in ``more``."""
    runs = [run(f"s{n}", ids, seed=n, prompt="a") for n, ids in enumerate(ranked)]
    return runs + [run(name, ids, seed=0, prompt=name) for name, ids in more.items()]


def test_one_pair_of_seeds_is_no_ceiling():
    found = compare(seeds([1, 2, 3, 4], [1, 2, 5, 6], other=[1, 2, 3, 7]), ks=4)
    assert found.across_seeds == (2.0, 4) and not found.has_ceiling
    assert "2 stay across seeds (one pair;" in found.sentence and "3 across prompts (one pair;" in found.sentence
    assert "no ceiling for the others" in found.sentence and "%" not in found.sentence


def test_several_pairs_of_seeds_are_the_ceiling_with_their_spread():
    found = compare(seeds([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 7], other=[1, 8, 9, 10]), ks=4)
    assert found.has_ceiling and "(3 pairs, 2 to 3;" in found.sentence
    assert "The pairs of seeds are the ceiling for the others." in found.sentence
    above = compare(seeds([1, 2, 3, 4], [1, 2, 5, 6], [1, 7, 8, 9], other=[1, 2, 3, 4]), ks=4)
    assert not above.has_ceiling
    assert "The pairs of seeds are no ceiling: across prompts more rows stay than in any of them." in above.sentence
    alone = compare(seeds([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 7]), ks=4)
    assert "ceiling" not in alone.sentence and "Nothing else was varied alone" in alone.sentence


def test_a_list_by_steps_alone_stands_beside_the_overlap():
    """Both runs have their own D and their own steps; each is compared with the other's steps, and the mean is given."""
    a = replace(run("a", [3, 4, 5, 6], seed=0), trained={3: 9, 4: 8, 9: 7, 5: 1})
    b = replace(run("b", [4, 9, 3, 7], seed=1), trained={4: 9, 3: 9, 5: 5, 6: 4})
    (o,) = compare([a, b], ks=4).overlaps
    # a's top against 4 and 3 (equal), then 5, 6; b's top against 3, 4, 9, 5.
    np.testing.assert_allclose(o.by_training * [1, 2, 3, 4], [(0.5 + 0) / 2, (2 + 1) / 2, (3 + 3) / 2, (4 + 3) / 2])
    found = compare([a, b], ks=4)
    assert "2 stay across seeds (one pair; 3.5 by training steps alone, 2 by a uniform draw)" in found.sentence
    counted = compare([replace(a, measure="count in the text"), b], ks=4)
    assert "3.5 by count in the text alone" in counted.sentence
    unknown = compare([a, replace(b, trained=None)], ks=4)
    assert np.isnan(unknown.overlaps[0].by_training).all() and "steps alone" not in unknown.sentence


@given(st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=10), st.integers(0, 2**32 - 1))
def test_equal_steps_count_as_the_mean_over_their_orders(ranked, seed):
    generator = np.random.default_rng(seed)
    trained = {i: int(generator.integers(0, 3)) for i in range(13)}
    known = [i for i, n in trained.items() if n]
    found = shared_with_trained(np.array(ranked), trained, 10)
    orders = []
    for _ in range(400):
        shuffled = generator.permutation(known)
        by_steps = np.array(sorted(shuffled.tolist(), key=lambda i: -trained[i]), np.int64)
        orders.append(shared_top(np.array(ranked), by_steps, 10))
    reachable = min(len(known), 10)
    np.testing.assert_allclose(found[:reachable], np.mean(orders, axis=0)[:reachable], atol=0.35)
    assert np.isnan(found[reachable:]).all()


def test_what_the_demo_shares_with_a_list_by_steps(demo_home):
    """Of its 18 rows of largest D 7 stay with the other seed, and a list by steps alone has 8 of them."""
    steps = {run: trainings.steps(f"demo:{run}") for run in ("en-fr", "en-fr-seed1")}
    runs = []
    for n, (name, trained) in enumerate(steps.items()):
        scan = Study(demo.BASE, f"demo:{name}").scan()
        runs.append(Run.from_scan(name, scan, select(scan), {"seed": n}, trained))
    own = shared_with_trained(runs[0].top, steps["en-fr"], 112)
    assert own[17] == 8 and own[111] == 66
    found = compare(runs)
    assert found.across_seeds == (7.0, 18)
    assert "7 stay across seeds (one pair; 8.5 by training steps alone, 0.1 by a uniform draw)" in found.sentence


def test_a_group_is_the_mean_of_its_pairs():
    runs = [run(str(i), ranked, seed=i) for i, ranked in enumerate(([1, 2, 3], [1, 2, 3], [3, 2, 1, 4]))]
    group = compare(runs, ks=4).group("seed")
    assert group.pairs == 3 and group.shared == pytest.approx((2 + 1 + 1) / 3)
    np.testing.assert_allclose(group.curve, [1 / 3, (1 + 0.5 + 0.5) / 3, 1, np.nan])
    np.testing.assert_allclose(group.lowest[:3], [0, 0.5, 1])
    np.testing.assert_allclose(group.highest[:3], [1, 1, 1])


def test_noise_stands_beside_the_runs_by_hand():
    """The ticket of three rows: one draw has two of them first, the other all three."""
    own = run("a", [3, 4, 5, 6], 3, seed=0)
    found = compare([own, run("b", [4, 3, 7, 5], 2, seed=1)], ks=6)
    null = Null(np.array([3, 4, 5, 6]), np.array([[9, 5, 1, 7], [4, 8, 6, 2]]), 10)
    noisy = beside_noise(found, own, null)
    assert noisy.noise.pairs == 2 and noisy.noise.shared == 2.5 and noisy.noise.share == pytest.approx(2.5 / 3)
    np.testing.assert_allclose(noisy.noise.curve, [1 / 2, 1 / 2, (2 / 3 + 1) / 2, 1, np.nan, np.nan])
    np.testing.assert_allclose(noisy.noise.lowest[:3], [0, 1 / 2, 2 / 3])
    assert noisy.noise.chance[1] == 2 / 4 and noisy.groups == found.groups and noisy.sentence == found.sentence
    said = noisy.noise_sentence
    assert (
        "Of the 4 rows of largest D of a, 4 are the same in a training on noise" in said
        and "of its ticket 2.5 rows" in said
    )
    assert found.noise_sentence == "" and "noise:2" in str(noisy.signature)
    assert "trained on noise (2 draws)" in [trace.name for trace in audit_figures.top_curves(noisy).data]
    with pytest.raises(SettingsError, match="Of paper no test is known"):
        beside_noise(found, Run("paper", (1, 2)), null)


def test_without_seeds_nothing_is_judged():
    found = compare([run("a", [1, 2, 3], prompt="x"), run("b", [1, 2, 3], prompt="y")])
    assert found.group("seed") is None and "No two tested runs differ in the seed alone" in found.sentence
    alone = compare([run("a", [1, 2, 3], seed=0), run("b", [1, 2, 3], seed=1)])
    assert "Nothing else was varied alone" in alone.sentence and "3 stay across seeds" in alone.sentence


def test_tickets_without_a_test_are_counted_and_no_more():
    found = compare([Run("a", (1, 2), facets={"seed": 0}), Run("b", (2, 3, 4), facets={"seed": 1})])
    (o,) = found.overlaps
    assert (o.shared, o.share, o.jaccard) == (1, 0.5, 0.25) and np.isnan(o.rho) and np.isnan(o.curve).all()
    assert "No two tested runs" in found.sentence
    (empty,) = compare([Run("a", ()), Run("b", ())]).overlaps
    assert np.isnan(empty.jaccard) and np.isnan(empty.share)


def test_what_cannot_be_compared_is_said():
    a = run("a", [1, 2])
    for runs in ([a], [a, a]):
        with pytest.raises(SettingsError, match="two or more"):
            compare(runs)
    with pytest.raises(SettingsError):
        compare([a, run("b", [1])], ks=0)
    with pytest.raises(TicketError, match="different bases: another, base"):
        compare([a, replace(run("b", [1]), base="another")])
    assert len(compare([a, replace(run("b", [1]), base="")]).overlaps) == 1


def llama(**changes):
    """LLaMA's vocabulary as far as it is looked at; ``changes`` replaces pieces by id, as ``i13="x"``."""
    pieces = [f"piece{i}" for i in range(32_000)]
    for token_id, piece in {**LLAMA, **{int(k[1:]): v for k, v in changes.items()}}.items():
        pieces[token_id] = piece
    return Vocabulary(Path("x"), "0", Content(pieces, "sentencepiece"))


def test_llama_is_told_from_its_relatives():
    assert is_llama(llama()) and not is_llama(None)
    assert not is_llama(llama(i29871="字")) and not is_llama(llama(i13="a"))  # as in Mistral's
    short = Content(llama().tokens[:31_000], "sentencepiece")
    assert not is_llama(Vocabulary(Path("x"), "0", short))
    assert not is_llama(Vocabulary(Path("x"), "0", Content(llama().tokens, "byte-level")))
    added = Content([*llama().tokens, "[PAD]"], "sentencepiece")
    assert is_llama(Vocabulary(Path("x"), "0", added))


def test_the_published_tickets_stand_apart():
    assert published_runs(None) == [] and published_runs(llama(i13="a")) == []
    runs = published_runs(llama())
    assert [r.name for r in runs] == [f"paper: {pair}" for pair in published()] and len(runs) == 6
    found = compare(runs)
    assert len(found.common) == 10 and {o.group for o in found.overlaps} == {"published"}
    names = list(found.names)
    first, second = sorted((names.index("paper: en-ca"), names.index("paper: en-da")))
    a, b = (set(published()[pair]) for pair in ("en-ca", "en-da"))
    assert found.matrix("jaccard")[first, second] == pytest.approx(len(a & b) / len(a | b))
    mine = run("mine", [13, 278], vocabulary=32_000, language="fr")
    both = compare([mine, *runs])
    assert {o.group for o in both.overlaps} == {"published"} and both.matrix("shared")[0, 1:].tolist() == [2] * 6


def test_no_published_ticket_for_the_demo(demo_home):
    from ks_core.checkpoints.opening import open_checkpoint

    assert published_runs(open_checkpoint("demo:base").vocabulary) == []


def test_the_signature_names_the_runs():
    text = str(compare([run("a", [1, 2]), run("b", [1, 2, 3], 3)]).signature)
    assert "audit:stability|base:base|ks:200|runs:a(2) b(3)" in text
