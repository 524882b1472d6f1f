"""The bake-off: shares by copying, paired tests, and the one sentence, on likelihoods whose answer is known."""

import json

import numpy as np
import pytest

from helpers.referenced import IDS, laid, references
from ks_core.errors import SettingsError
from ks_core.ledger import figures, tables
from ks_core.ledger.bakeoff import SIZES, BakeOff, bake_off, sizes_of, together
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.scorer import Scorer
from ks_core.translation.bootstrap import holm

SENTENCES = 40


def likelihood(nats, seed=0, noise=0.05):
    """References of four tokens and an end, at so many nats a token, give or take."""
    drawn = np.random.default_rng(seed).normal(0, noise, SENTENCES)
    tokens = np.full(SENTENCES, 4)
    return Likelihood(4 * (nats + drawn), nats + drawn, tokens, 5 * tokens)


def compared(kept, sizes=(5, 18)):
    """A bake-off in which a rule keeps a known share of a gain of 2 nats; ``kept`` by rule, a number or one for each size."""
    base, tuned = likelihood(4.0, 0), likelihood(2.0, 1)
    scored, rankings = {}, {}
    for n, (rule, shares) in enumerate(kept.items()):
        rankings[rule] = np.roll(np.arange(100), 3 * n)[: max(sizes)]
        for k, share in zip(sizes, shares if isinstance(shares, tuple) else (shares,) * len(sizes), strict=True):
            scored[rule, k] = likelihood(4.0 - 2.0 * share, 2 + n)
    return BakeOff(base, tuned, tuple(sizes), rankings, scored, resamples=1000)


def test_shares_are_those_that_were_put_in():
    found = compared({"d": (0.2, 0.6), "l2": 0.7, "random": 0.0})
    assert found.share("d", 18).value == pytest.approx(0.6, abs=0.02)
    assert found.share("d", 18).low < 0.6 < found.share("d", 18).high
    assert found.part("d", 18, "end").value == pytest.approx(0.2, abs=0.02), "one token of five is the end"
    assert found.part("d", 18, "end").value + found.part("d", 18, "content").value == pytest.approx(1)


def test_differences_are_paired_and_corrected_together():
    found = compared({"d": (0.2, 0.6), "l2": (0.7, 0.6), "random": 0.0})
    by = {(d.second, d.k): d for d in found.differences}
    assert set(by) == {(rule, k) for rule in ("l2", "random") for k in (5, 18)}
    assert by["l2", 5].value == pytest.approx(-0.5, abs=0.03) and by["l2", 5].is_clear and by["l2", 5].high < 0
    assert not by["l2", 18].is_clear and by["random", 18].is_clear
    assert [d.holm for d in found.differences] == holm([d.pvalue for d in found.differences])
    same = compared({"d": 0.5, "l2": 0.5})
    same.scored["l2", 5] = same.scored["d", 5]
    assert {d.second: d.pvalue for d in same.differences if d.k == 5}["l2"] == 1, "equal rows are no difference"


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"d": (0.2, 0.6), "l2": (0.7, 0.6), "random": 0.0}, "KS is not the reason: with 5 rows"),
        ({"d": (0.2, 0.9), "l2": (0.7, 0.5), "random": 0.0}, "D keeps more than all of them with 18"),
        ({"d": 0.8, "l2": 0.4, "steps": 0.5, "random": 0.0}, "KS does better than every simpler rule at every size"),
        ({"d": 0.5, "l2": 0.5, "random": 0.0}, "KS is not shown to be the reason: at no size"),
        ({"d": (0.5, 0.8), "l2": (0.5, 0.4), "random": 0.0}, "with 18 rows, and none of them keeps clearly more"),
        ({"d": 0.1, "l2": 0.5, "random": 0.1}, "Nor is D clearly better than rows at random"),
        ({"d": 0.5, "attribution": 0.9}, "not compared with another rule"),
        ({"l2": 0.5, "steps": 0.9}, "not compared with another rule"),
    ],
)
def test_the_sentence_follows(kept, says):
    assert says in compared(kept).sentence


def test_trainings_are_taken_together():
    """Three trainings of which D keeps 20%, 50% and 80%: its share is their mean, and so unsure that L2's is not clear of it."""
    apart = [compared({"d": kept, "l2": 0.9, "random": 0.0}) for kept in (0.2, 0.5, 0.8)]
    found = together(apart)
    own = found.share("d", 5)
    assert own.value == pytest.approx(0.5, abs=0.02) and found.shares("d", 5) == pytest.approx(
        [0.2, 0.5, 0.8], abs=0.02
    )
    assert own.low < 0.2 < 0.8 < own.high, "the trainings lie as far apart"
    assert found.share("l2", 5).high - found.share("l2", 5).low < 0.1, "of L2 they do not"
    by = {d.second: d for d in found.differences if d.k == 5}
    assert (
        by["l2"].value == pytest.approx(-0.4, abs=0.02) and not by["l2"].is_clear and apart[1].differences[0].is_clear
    )
    assert "not shown to be the reason" in found.sentence and "is not the reason" in apart[0].sentence
    alike = together([compared({"d": 0.5, "l2": 0.8, "random": 0.0})] * 3)
    assert {d.second: d.is_clear for d in alike.differences if d.k == 5}["l2"]
    result = answer(found)
    row = next(row for row in result["rules"] if row["rule"] == "d" and row["k"] == 5)
    assert row["seeds"] == pytest.approx([0.2, 0.5, 0.8], abs=0.02) and len(result["gains"]) == 3
    result["trainings"] = [
        {"source": f"t{n}", "changed": 100, "winners": 9, "gain": gain} for n, gain in enumerate(result["gains"])
    ]
    text = "\n".join(tables.lines(result))
    assert "(20, 50, 80)" in text and "means of 3 trainings" in text
    assert tables.frame(result).seed_1.dropna().iloc[0] == row["seeds"][1]


def test_what_cannot_be_taken_together_is_said():
    some = compared({"d": 0.5, "l2": 0.5, "random": 0.0})
    without = BakeOff(
        some.base, some.tuned, some.sizes, {"d": some.rankings["d"]}, some.scored, {"l2": "nobody knows"}, resamples=100
    )
    found = together([some, without])
    assert list(found.rankings) == ["d"] and found.left == {"l2": "nobody knows"}
    with pytest.raises(SettingsError, match="other sizes"):
        together([some, compared({"d": 0.5}, sizes=(7,))])
    with pytest.raises(SettingsError, match="no rule to compare in all trainings"):
        together([some, compared({"steps": 0.5})])


def test_without_a_gain_there_is_nothing_to_ask_about():
    found = compared({"d": 0.5, "l2": 0.5})
    none = BakeOff(found.base, likelihood(4.0, 1), found.sizes, found.rankings, found.scored, resamples=1000)
    assert "nothing that is clear of chance" in none.sentence
    assert "-" in "".join(tables.lines(answer(none))), "no share is shown of no gain"


def answer(found):
    """What the job keeps, through JSON and back."""
    more = {"strings": {}, "notes": [], "changed": 100, "winners": 18, "signature": "base:b"}
    return json.loads(json.dumps({**found.as_dict(), **more}))


def test_what_is_kept_is_shown(monkeypatch):
    found = compared({"d": (0.2, 0.6), "l2": (0.7, 0.6), "random": 0.0})
    result = answer(found)
    text = "\n".join(tables.lines(result))
    assert found.sentence in text and "| D | 2" in text and text.endswith("signature  base:b")
    d = next(d for d in found.differences if d.second == "l2" and d.k == 5)
    assert "With 5 rows, of 2 other rules these keep clearly more points than D" in text
    assert f"L2 {-100 * d.value:.0f} [{-100 * d.high:.0f}, {-100 * d.low:.0f}]; clearly less: Random" in text
    frame = tables.frame(result)
    assert len(frame) == 6 and frame[frame.rule == "d"].share.tolist() == [found.share("d", k).value for k in (5, 18)]
    curves = figures.gain_curves(result, ["d", "l2", "steps"])
    assert [t.name for t in curves.data] == ["D", "L2"] and list(curves.data[0].y) == frame[
        frame.rule == "d"
    ].share.tolist()
    overlap = figures.overlap_map(result)
    names, counts = found.overlap(18)
    assert names == ["d", "l2", "random"] and counts.tolist() == np.array(overlap.data[0].z).tolist()
    assert counts[0, 0] == 18 and counts[0, 1] == 15, "a list that begins three later shares fifteen"
    for draw in (figures.attribution_map, figures.smallest_curve):
        assert draw(result).layout.annotations, "what was not asked for is said"


def test_a_bake_off_of_a_model(tiny_model, tiny_tokenizer):
    """All rows copied are the tuned model; ranks go with attribution's as scipy has it; a rule alone takes no other's rows."""
    model = laid(tiny_model)
    scorer = Scorer(model, references(model, tiny_tokenizer))
    ids = np.array(sorted(IDS))
    rankings = {"d": ids, "attribution": ids[::-1].copy(), "l2": np.roll(ids, 4), "random": ids}
    found = bake_off(scorer, rankings, (1, len(ids)), left={"steps": "nobody knows"}, resamples=200)
    for rule in rankings:
        assert found.share(rule, len(ids)).value == pytest.approx(1)
        own = scorer.score([rankings[rule][:1]])[0]
        np.testing.assert_array_equal(found.scored[rule, 1].summed(), own.summed())
    assert found.correlation["d"] == pytest.approx(-1) and found.correlation["random"] == found.correlation["d"]
    from scipy.stats import spearmanr

    places = [np.argsort(rankings[rule]) for rule in ("l2", "attribution")]
    assert found.correlation["l2"] == pytest.approx(spearmanr(*places).statistic)
    assert found.as_dict()["left"] == {"steps": "nobody knows"}
    with pytest.raises(SettingsError, match="nobody knows"):
        bake_off(scorer, {}, (1,), left={"steps": "nobody knows"})


def test_sizes_are_as_many_as_there_are_rows():
    assert sizes_of(3174, ticket=112) == SIZES and sizes_of(3174, ticket=97) == tuple(sorted({*SIZES, 97}))
    assert sizes_of(20) == (1, 2, 5, 10, 18) and sizes_of(9, (3, 3, 8)) == (3, 8)
    with pytest.raises(SettingsError, match="at least 1 row"):
        sizes_of(9, (0, 3))
    with pytest.raises(SettingsError, match="9 rows changed"):
        sizes_of(9, (10, 20))
