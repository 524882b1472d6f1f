"""What a suite takes and lacks, said before it is started."""

import time
from dataclasses import replace

import pytest

from ks_core.suites import costs
from ks_core.suites.jobs import run_suite
from ks_core.suites.presets import PRESETS, suite_of
from ks_core.tuning import estimates
from ks_core.tuning.estimates import Rates
from ks_core.tuning.memory import LLAMA_7B


def test_by_arithmetic_a_7b_takes_fifty_times_what_the_demo_takes(monkeypatch):
    """Of the same suite, by the number of their weights."""
    monkeypatch.setattr(costs, "speed", lambda: 1e11)
    demo, llama = (costs.assumed(shape) for shape in (costs.DEMO, LLAMA_7B))
    assert llama.train / demo.train == pytest.approx(LLAMA_7B.parameters / costs.DEMO.parameters)
    assert llama.train == pytest.approx(4 * 6.738e9 / 1e11, rel=0.01)
    found = costs.of(suite_of(PRESETS["en-ca"], base="meta-llama/Llama-2-7b-hf"))
    assert not found.measured and "by arithmetic" in found.sentence and "days" in found.about
    # Five trainings of 10,000 pairs, three or five times each, are most of it.
    rates = costs.assumed(LLAMA_7B)
    corpus, real = costs.corpus_of(suite_of(PRESETS["en-ca"]).texts[0])
    assert not real and (len(corpus.train), len(corpus.test)) == (10_000, 1012)
    epochs = 3 + 5 + 5 + 5 + 3
    least = epochs * 10_000 * estimates.reading("alpaca", corpus, rates)
    assert least < found.seconds < 20 * least


def test_a_measure_of_the_model_comes_before_arithmetic(smallest):
    plan = smallest.runs[0].plan
    estimates.keep(plan, Rates(0.5, 0.25, 1.0, 3.0, time.time()))
    found = costs.of(smallest)
    corpus = plan.corpus.load()
    assert found.measured and found.seconds == sum(
        s for _, s in estimates.seconds(plan, corpus, Rates(0.5, 0.25, 1.0, 3.0, 0.0))
    )
    assert "was measured for this model" in found.sentence


def test_what_is_kept_costs_nothing(tiny_suite, smallest, running):
    run_suite(smallest.as_dict(), running())
    wider = replace(smallest, seeds=(0, 1))
    found, whole = costs.of(wider), costs.of(replace(wider, sentences=3))
    assert (found.kept, found.runs) == (1, 2) and "1 of its 2 runs" in found.sentence
    assert 0 < found.seconds < whole.seconds and costs.of(smallest).seconds == 0


def test_what_is_missing_is_said_with_what_to_do(tiny_suite, tmp_path):
    lacking = costs.missing(suite_of(PRESETS["four"], base="meta-llama/Llama-2-7b-hf"))
    assert len(lacking) == 2
    assert (
        "hf download meta-llama/Llama-2-7b-hf" in lacking[0]
        and "--corpus" in lacking[1]
        and "en-ro, en-es" in lacking[1]
    )
    assert costs.missing(tiny_suite) == []
    gone = costs.missing(replace(tiny_suite, base=str(tmp_path / "gone")))
    assert len(gone) == 1 and "gone" in gone[0]
    named = suite_of(PRESETS["en-ca"], base="demo:base", corpus=f"file:{tmp_path}/{{pair}}.tsv")
    (text,) = costs.missing(named)
    assert text.startswith("en-ca: ") and "en-ca.tsv" in text
    assert any("--test" in note for note in costs.notes(named))


def test_a_model_whose_size_nobody_knows_has_no_cost():
    assert costs.of(suite_of(PRESETS["en-ca"], base="org/unheard-of")) is None
    assert costs.shape_of("org/model-7b-chat") == LLAMA_7B and costs.shape_of("org/some2.7bx") is None
    assert costs.speed() > 0
