"""How long a run takes: measured on the model at hand, and added up."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ks_core import estimates
from ks_core.arms import Arm, parse_arm
from ks_core.estimates import Rates
from ks_core.plans import CorpusChoice, Plan

RATES = Rates(train=0.001, generate=0.1, load=3.0, characters=4.0, when=0.0)


@pytest.fixture
def plan(tmp_path, tiny_folder):
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(f"w{5 + i % 30} w{5 + i // 30} w{5 + i % 7}\tw{20 + i % 40}" for i in range(120)))
    return Plan(
        base=str(tiny_folder), tuned="", prompt="w3 {source} w4", sentences=8, max_new_tokens=6,
        corpus=CorpusChoice(f"file:{path}", source_language="A", target_language="B"), arms=(Arm("base"),),
    )  # fmt: skip


def test_the_sum_by_hand(plan):
    corpus = plan.corpus.load()
    made = replace(plan, arms=(Arm("base"), parse_arm("frequent:k=2:steps=10:batch_size=2")))
    found = dict(estimates.seconds(made, corpus, RATES))
    translating = 6 * 0.1  # one batch of eight sentences, six tokens
    characters = sum(len(f"w3 {p.source} w4") + len(p.target) for p in corpus.train) / len(corpus.train)
    assert found["loading"] == 3 and found["Base"] == pytest.approx(translating)
    assert found["Most frequent rows"] == pytest.approx(translating + 20 * characters / 4 * 0.001)
    longer = replace(made, sentences=0, arms=(parse_arm("frequent:k=2:steps=20:batch_size=2"),))
    assert dict(estimates.seconds(longer, corpus, RATES))["Most frequent rows"] > found["Most frequent rows"]


def test_measuring_gives_rates_that_are_found_again(plan):
    assert estimates.known(plan) is None
    seen = []
    running = SimpleNamespace(progress=lambda *a, **k: seen.append(a), should_stop=lambda: False)
    rates = estimates.measure(plan, running)
    assert rates.train > 0 and rates.generate > 0 and 1 < rates.characters < 10 and seen
    assert estimates.known(plan) == rates
    assert estimates.known(replace(plan, base="other")) is None
    summary = {"arms": [{"kind": "partial", "training_tokens": 1000, "training_seconds": 5.0}]}
    estimates.learn(plan, summary)
    assert estimates.known(plan).train == 0.005
