"""Several models judged by one text: gains by hand, their parts, p-values, and what is not compared."""

import json

import numpy as np
import pytest

from ks_core.likelihood.judgement import judge
from ks_core.likelihood.nats import Draws, Likelihood

N = 30


def made(content, end, tokens=4):
    """A likelihood whose sentences differ a little, by so many nats of content and of the end a sentence."""
    turn = np.arange(N) % 3 / 10
    ends = None if end is None else np.full(N, float(end)) + turn
    return Likelihood(np.full(N, float(content)) + turn, ends, np.full(N, tokens), np.full(N, 20))


BASE, STOPS, TUNED = made(12, 8), made(12, 1), made(4, 1)


def test_gains_and_shares_by_hand():
    found = judge({"base": BASE, "stops": STOPS, "tuned": TUNED}, ["base", "tuned", "none"], "tuned", 500)
    assert json.loads(json.dumps(found)) == found and found["whole"] == "tuned"
    assert list(found["gains"]) == ["base", "tuned"], "what is not there is not compared with"
    own = found["arms"]["base"]
    assert own["all"]["value"] == pytest.approx(20.2 / 5) and own["end"]["value"] == pytest.approx(8.1)
    assert own["of_all"] == pytest.approx({"end": 8.1 / 5, "content": 12.1 / 5})
    stops, tuned = found["gains"]["base"]["stops"], found["gains"]["base"]["tuned"]
    assert stops["all"]["value"] == stops["end"]["value"] == pytest.approx(7 / 5) and stops["content"]["value"] == 0
    assert stops["shares"]["end"]["value"] == 1 and stops["shares"]["content"]["value"] == 0
    assert stops["of_whole"]["value"] == pytest.approx(7 / 15) and "of_whole" not in tuned
    assert tuned["shares"]["end"]["value"] == pytest.approx(7 / 15)
    assert found["gains"]["tuned"]["stops"]["all"]["value"] == pytest.approx(-8 / 5)
    leaves = [gain for gains in found["gains"].values() for gain in gains.values()]
    assert len(leaves) == 4 and all(leaf["pvalue"] == pytest.approx(1 / 501) for leaf in leaves)
    assert [leaf["holm"] for leaf in leaves] == pytest.approx([4 / 501] * 4), "four are corrected together"


def test_intervals_are_those_of_the_draws():
    uneven = Likelihood(BASE.content + np.arange(N), BASE.end, BASE.tokens, BASE.characters)
    found = judge({"base": BASE, "uneven": uneven}, ["base"], resamples=400)
    draws = Draws(N, 400)
    gain = found["gains"]["base"]["uneven"]["all"]
    assert (gain["low"], gain["high"]) == draws.interval(draws.gain(BASE, uneven)) and gain["low"] < gain[
        "value"
    ] < gain["high"]
    nats = found["arms"]["uneven"]["all"]
    assert (nats["low"], nats["high"]) == draws.interval(draws.nats(uneven))


def test_a_reference_in_other_pieces_is_compared_and_another_one_is_not():
    pieces = made(6, 1, tokens=9)
    found = judge({"base": BASE, "pieces": pieces}, ["base"], resamples=50)
    assert found["gains"]["base"]["pieces"]["all"]["value"] == pytest.approx(13 / 5), "by the base's tokens"
    short = Likelihood(*(part[:-1] for part in (TUNED.content, TUNED.end, TUNED.tokens, TUNED.characters)))
    found = judge({"base": BASE, "short": short, "endless": made(4, None)}, ["base"], resamples=50)
    assert found["gains"] == {"base": {}} and set(found["arms"]) == {"base", "short", "endless"}
    assert "end" not in found["arms"]["endless"] and found["arms"]["endless"]["of_all"] == {}


def test_without_an_end_there_are_no_parts_and_of_one_sentence_no_interval():
    found = judge({"base": made(6, None), "own": made(4, None)}, ["base"], resamples=50)["gains"]["base"]["own"]
    assert found["all"]["value"] == pytest.approx(0.5) and found["shares"] == {} and "end" not in found
    one = {name: Likelihood(*(part[:1] for part in (m.content, m.end, m.tokens, m.characters)))
           for name, m in (("base", BASE), ("own", TUNED))}  # fmt: skip
    found = judge(one, ["base"])["gains"]["base"]["own"]
    assert found["all"]["low"] is None and found["pvalue"] == 1 and found["all"]["value"] == pytest.approx(3)
    assert judge({}) == {}
