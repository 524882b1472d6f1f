"""Stability: overlaps counted by hand, pairs in the right group, and published ids only where they mean something."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ks_core import tickets
from ks_core.checkpoints.vocabulary import Content, Vocabulary
from ks_core.errors import SettingsError, TicketError
from ks_core.ks.statistic import pvalue_table
from ks_core.signature import Signature
from ks_core.study.scan import Scan
from ks_core.tickets.stability import LLAMA, Run, compare, is_llama, published_runs, shared_top


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
    a, b = (run(name, generator.permutation(20)[:12].tolist(), 5, seed=name) for name in "ab")
    one, two = compare([a, b]).overlaps[0], compare([b, a]).overlaps[0]
    for name in ("shared", "share", "jaccard", "rho", "curve", "chance"):
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
    made = Run.from_scan("a", scan, tickets.select(scan, rule="count", k=2), {"seed": 0})
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
        "Of the 4 rows of largest D, 3 stay across seeds (by chance 3), 2 across prompts (67% of that), 1 across "
        "languages (33% of that), 0 across optimizers (0% of that). 10 pairs differ in several things or in nothing "
        "known, and count nowhere."
    )


def test_a_group_is_the_mean_of_its_pairs():
    runs = [run(str(i), ranked, seed=i) for i, ranked in enumerate(([1, 2, 3], [1, 2, 3], [3, 2, 1, 4]))]
    group = compare(runs, ks=4).group("seed")
    assert group.pairs == 3 and group.shared == pytest.approx((2 + 1 + 1) / 3)
    np.testing.assert_allclose(group.curve, [1 / 3, (1 + 0.5 + 0.5) / 3, 1, np.nan])
    np.testing.assert_allclose(group.lowest[:3], [0, 0.5, 1])
    np.testing.assert_allclose(group.highest[:3], [1, 1, 1])


def test_without_a_ceiling_nothing_is_judged():
    found = compare([run("a", [1, 2, 3], prompt="x"), run("b", [1, 2, 3], prompt="y")])
    assert found.group("seed") is None and "No two tested runs differ in the seed alone" in found.sentence
    alone = compare([run("a", [1, 2, 3], seed=0), run("b", [1, 2, 3], seed=1)])
    assert "nothing else was varied alone" in alone.sentence and "3 stay across seeds" in alone.sentence


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
    assert [r.name for r in runs] == [f"paper: {pair}" for pair in tickets.published()] and len(runs) == 6
    found = compare(runs)
    assert len(found.common) == 10 and {o.group for o in found.overlaps} == {"published"}
    names = list(found.names)
    first, second = sorted((names.index("paper: en-ca"), names.index("paper: en-da")))
    a, b = (set(tickets.published()[pair]) for pair in ("en-ca", "en-da"))
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
