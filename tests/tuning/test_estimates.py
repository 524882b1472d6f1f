"""How long a run takes: measured on the model at hand, and added up."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from helpers import tiny_text
from ks_core.commands.program import main
from ks_core.jobs import queue
from ks_core.jobs.cluster import Allocation
from ks_core.tuning import estimates
from ks_core.tuning.arms import Arm, parse_arm
from ks_core.tuning.estimates import Rates
from ks_core.tuning.plans import Plan

RATES = Rates(train=0.001, generate=0.1, load=3.0, characters=4.0, when=0.0)


@pytest.fixture
def plan(tmp_path, tiny_folder):
    return Plan(
        base=str(tiny_folder), tuned="", prompt="w3 {source} w4", sentences=8, max_new_tokens=6,
        corpus=tiny_text.corpus(tmp_path), arms=(Arm("base"),),
    )  # fmt: skip


def test_the_sum_by_hand(plan):
    corpus = plan.corpus.load()
    made = replace(plan, arms=(Arm("base"), parse_arm("frequent:k=2:steps=10:batch_size=2")))
    found = dict(estimates.seconds(made, corpus, RATES))
    translating = 6 * 0.1  # one batch of eight sentences, six tokens
    characters = sum(len(f"w3 {p.source} w4") + len(p.target) for p in corpus.train) / len(corpus.train)
    reading = min(8, len(corpus.test)) * characters / 4 * 0.001  # at most as long as if the references were trained on
    assert found["loading"] == 3 and found["Base"] == pytest.approx(translating + reading)
    assert found["Most frequent rows"] == pytest.approx(translating + reading + 20 * characters / 4 * 0.001)
    free = replace(made, arms=(Arm("base"), Arm("stop"), Arm("examples")))
    found_free = dict(estimates.seconds(free, corpus, RATES))
    assert found_free["Base, stopped at a line break"] == pytest.approx(reading), "the base has written them"
    assert found_free["Base, three examples"] == pytest.approx(translating + 4 * reading)
    silent = dict(estimates.seconds(replace(free, generate=False), corpus, RATES))
    assert silent["Base"] == pytest.approx(reading)
    longer = replace(made, sentences=0, arms=(parse_arm("frequent:k=2:steps=20:batch_size=2"),))
    assert dict(estimates.seconds(longer, corpus, RATES))["Most frequent rows"] > found["Most frequent rows"]


def test_measuring_gives_rates_that_are_found_again(plan):
    assert estimates.known(plan) is None
    seen = []
    running = SimpleNamespace(progress=lambda *a, **k: seen.append(a), should_stop=lambda: False, allocation=None)
    rates = estimates.measure(plan, running)
    assert rates.train > 0 and rates.generate > 0 and seen
    pairs = plan.corpus.load().train
    texts = [(f"w3 {p.source} w4", p.target) for p in pairs]
    # A token is a word here.
    characters, tokens = (
        sum(sum(map(count, text)) for text in texts) for count in (len, lambda words: len(words.split()))
    )
    assert rates.characters == pytest.approx(characters / tokens, rel=0.02)
    assert all(done <= total for done, total, *_ in seen)
    assert estimates.known(plan) == rates
    assert estimates.known(replace(plan, base="other")) is None
    slow = {"kind": "base", "error": "", "evaluation": {"sentences": 40}, "translating_seconds": 6.0}
    fast = {**slow, "kind": "partial", "training_tokens": 1000, "training_seconds": 5.0, "translating_seconds": 2.0}
    estimates.learn(plan, {"arms": [slow, fast, {"kind": "rows", "error": "no such row", "evaluation": None}]})
    learned = estimates.known(plan)
    assert learned.train == 0.005 and learned.generate == 6.0 / (2 * 6), "two batches of six tokens, by the slowest arm"
    assert (learned.load, learned.characters) == (rates.load, rates.characters)
    estimates.learn(plan, {"arms": [{**slow, "evaluation": {"sentences": 31}}]})
    assert estimates.known(plan).generate == learned.generate, "a part of a batch is faster than a whole one"


def test_a_node_is_another_machine(plan):
    here, node = replace(RATES, train=1.0), Allocation("main", gpus=1, minutes=60, cpus=4)
    estimates.keep(plan, here)
    assert estimates.known(plan, node) is None
    estimates.keep(plan, RATES, node)
    summary = {"arms": [{"kind": "partial", "training_tokens": 1000, "training_seconds": 5.0}]}
    estimates.learn(plan, summary, node)
    assert estimates.known(plan, node) == replace(RATES, train=0.005, when=estimates.known(plan, node).when)
    assert estimates.known(plan) == here, "what ran on a node says nothing of this machine"
    assert estimates.known(plan, replace(node, minutes=5, memory=9)) is not None, "neither changes how fast it is"
    for other in ({"partition": "fast"}, {"gpus": 2}, {"cpus": 8}):
        assert estimates.known(plan, replace(node, **other)) is None
    estimates.learn(plan, summary, replace(node, gpus=2))
    assert estimates.known(plan, replace(node, gpus=2)) is None, "without a measurement there is no rate of translating"


def test_the_words_for_a_machine_a_node_and_an_array(plan):
    corpus, rates = plan.corpus.load(), replace(RATES, generate=10.0)
    alone = replace(plan, arms=(Arm("base"),))
    assert estimates.sentence(alone, corpus, rates).startswith("About 1 min 3 s on this machine")
    node = Allocation("main")
    assert estimates.sentence(alone, corpus, rates, node) == (
        "About 1 min 3 s once it runs, as partition main was measured for this model."
    )
    two = replace(plan, arms=(Arm("base"), Arm("noise", k=2)), tuned="other")
    said = estimates.sentence(two, corpus, rates, node)
    # Each task loads the model: 3 s and 60 s of translating, side by side or one after the other.
    assert said.startswith("About 1 min 3 s if all 2 arms of the array run at once") and said.endswith("2 min 6 s.")
    assert "once it runs, as the cluster was" in estimates.sentence(two, corpus, rates, Allocation(array=False))


def test_the_command_measures_once_and_starts_nothing(plan, capsys):
    asked = [
        "tune", plan.base, "--corpus", plan.corpus.name, "--languages", "A,B", "--prompt", plan.prompt, "--device", "cpu",
        "--arms", "base,frequent:k=2:steps=10", "--sentences", "8", "--max-new-tokens", "6", "--measure",
    ]  # fmt: skip
    for _ in range(2):
        assert main(asked) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in said[:-1]] == ["loading", "Base", "Most frequent rows"]
        assert said[-1].startswith("About ") and said[-1].endswith(
            "on this machine, which was measured for this model."
        )
    assert [job.request["kind"] for job in queue.all_jobs()] == ["estimate"]
