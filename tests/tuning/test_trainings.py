"""What is known of how a checkpoint was trained: the demo's runs and the arms of Fine-tune's, by the same way."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from helpers import tiny_text
from ks_core.audit.inquiry import Audit, ranking, second_seed, stability
from ks_core.checkpoints import demo
from ks_core.jobs.running import Running
from ks_core.likelihood.examples import count_tokens, encode
from ks_core.store import workspace
from ks_core.store.cache import Cache
from ks_core.study.scan import Study
from ks_core.tickets.ranking import spearman
from ks_core.tuning import trainings
from ks_core.tuning.arms import Arm
from ks_core.tuning.jobs import run_tune
from ks_core.tuning.models import load_tokenizer
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.trainings import met_in


def test_what_the_demo_knows_of_its_runs(demo_home):
    training = trainings.of(demo.TUNED)
    assert training == trainings.of("demo") and trainings.of(demo.BASE) is None and trainings.of("demo:none") is None
    met = trainings.seen(training)
    steps = training.recipe.steps
    assert set(met.first) == set(met.last) == set(met.draws) == set(met.steps) == set(met.counts), "every pair was met"
    assert all(1 <= met.first[i] <= met.last[i] <= steps for i in met.first)
    assert met.first[42] == 1 and met.last[42] == steps and 42 in met.prompt_ids, "the colon stands in every prompt"
    assert met.counts == trainings.counts(demo.TUNED), "what is rebuilt is what the recipe kept"
    assert met.steps == trainings.steps(demo.TUNED) and trainings.steps(demo.BASE) is None
    assert trainings.seen(training) == met
    assert trainings.second_seed(training).source == "demo:en-fr-seed1"
    assert trainings.second_seed(trainings.of("demo:en-de")) is None
    assert trainings.of("demo:en-fr-adam").facets["optimizer"] == "adam"
    assert {t.name for t in trainings.others(training)} == {"en-de", "en-fr-paper", "en-fr-seed1"}


def test_how_often_a_row_of_the_demo_was_trained_is_three_numbers(demo_home):
    """Of 1,684 pairs 2,400 were drawn in 300 steps. D goes with the steps closest."""
    met, scan = trainings.seen(trainings.of(demo.TUNED)), Study(demo.BASE, demo.TUNED).scan()
    ids, statistic = scan.token_ids[scan.changed].tolist(), scan.statistic[scan.changed]
    assert len(ids) == 3174 and set(ids) == set(met.steps), "what was read changed, and nothing else"
    rho = {
        name: round(spearman(np.array([counted[i] for i in ids], float), statistic)[0], 3)
        for name, counted in (("steps", met.steps), ("draws", met.draws), ("text", met.counts))
    }
    assert rho == {"steps": 0.883, "draws": 0.866, "text": 0.858}
    assert max(met.steps.values()) == 300 and sum(n == 1 for n in met.steps.values()) == 682
    assert all(n <= met.draws[i] and met.first[i] <= met.last[i] for i, n in met.steps.items())
    assert met.steps[42] == 300 and met.draws[42] >= 2400 and met.counts[42] >= 1684, "the colon stands in every prompt"


def test_the_end_token_of_the_demo_is_counted_nowhere(demo_home):
    """It is predicted and never read, so its row cannot move."""
    end = load_tokenizer(demo.BASE).eos_token_id
    for run in ("en-fr", "en-fr-seed1", "en-fr-paper", "en-de", "en-fr-adam"):
        kept = demo.recipe(run)
        assert str(end) not in kept["training_counts"]
        assert len(kept["training_counts"]) == kept["rows_changed"], run
    met = trainings.seen(trainings.of(demo.TUNED))
    assert all(end not in found for found in (met.counts, met.draws, met.steps, met.prompt_ids))


def test_where_the_text_is_not_there_the_count_is_what_is_known(demo_home, monkeypatch):
    found, measure = trainings.how_often("demo:en-de")
    assert (found, measure) == (trainings.steps("demo:en-de"), "steps")
    monkeypatch.setattr(trainings, "seen", lambda training: None)
    assert trainings.how_often("demo:en-de") == (trainings.counts("demo:en-de"), "count in the text")
    assert trainings.how_often(demo.BASE)[0] is None


def test_batches_by_hand():
    met = met_in([[5, 6, 5], [6], [7, 5]], order=[1, 0, 2, 1, 1], batch_size=2)
    assert met.draws == {6: 4, 5: 3, 7: 1} and met.steps == {6: 3, 5: 2, 7: 1}
    assert met.first == {6: 1, 5: 1, 7: 2} and met.last == {6: 3, 5: 2, 7: 2}


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=6), st.data())
def test_steps_are_no_more_than_draws_and_within_first_and_last(examples, data):
    order = data.draw(st.lists(st.integers(0, len(examples) - 1), min_size=1, max_size=12))
    size = data.draw(st.integers(1, 4))
    met = met_in(examples, order, size)
    assert sum(met.draws.values()) == sum(len(examples[n]) for n in order)
    batches = [{i for n in order[at : at + size] for i in examples[n]} for at in range(0, len(order), size)]
    for token, steps in met.steps.items():
        holding = [step for step, batch in enumerate(batches, 1) if token in batch]
        assert (steps, met.first[token], met.last[token]) == (len(holding), holding[0], holding[-1])


def test_numbers_of_an_older_way_of_counting_are_not_taken(demo_home):
    training = trainings.of("demo:en-de")
    key = {"corpus": training.corpus_hash, "prompt": training.prompt, "recipe": asdict(training.recipe),
           "choice": asdict(training.corpus), "base": training.base}  # fmt: skip
    one = np.array([1])
    Cache().store("steps", key, {"ids": one, "counts": one, "first": one, "last": one, "prompt_ids": one}, {})
    assert len(trainings.seen(training).counts) == 1364


def test_of_many_who_ask_one_rebuilds(demo_home, monkeypatch):
    """As when several sessions open the audit at once: tokenizing the text is done once, and all have it."""
    import threading

    done = []
    real = trainings._rebuilt
    monkeypatch.setattr(trainings, "_rebuilt", lambda told: done.append(told) or real(told))
    training, found = trainings.of("demo:en-de"), []
    asking = [threading.Thread(target=lambda: found.append(trainings.seen(training))) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(done) == 1 and len(found) == 6 and all(met == found[0] and met.counts for met in found)


TEXT = tiny_text.pairs(150, two_words=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model, tiny_tokenizer):
    """A folder with the tiny model and a text, and two runs of Fine-tune on them that differ in the seed of Embed Tuning,
    and one with another rate. They are made once, as they take seconds."""
    place = tmp_path_factory.mktemp("trainings")
    tiny_model.save_pretrained(place / "tiny")
    tiny_tokenizer.save_pretrained(place / "tiny")
    (place / "pairs.tsv").write_text(TEXT)
    corpus = CorpusChoice(f"file:{place / 'pairs.tsv'}", source_language="A", target_language="B")
    for number, (seed, rate) in enumerate([(0, 0.2), (1, 0.2), (0, 0.3)]):
        recipe = Recipe(steps=5, batch_size=4, learning_rate=rate, seed=seed)
        plan = Plan(str(place / "tiny"), "", corpus=corpus, prompt="w3 w4 {source} w6", sentences=4, max_new_tokens=4,
                    arms=(Arm("base"), Arm("embed", recipe=recipe), Arm("random", k=3, recipe=recipe)))  # fmt: skip
        folder = place / "jobs" / f"20260101-00000{number}-tune-abcdef"
        request = {"kind": "tune", "parameters": plan.as_dict(), "device": "cpu", "created": float(number)}
        workspace.write_json(folder / "request.json", request)
        workspace.write_json(folder / "result.json", run_tune(plan.as_dict(), Running(folder)))
        workspace.write_json(folder / "status.json", {"state": "done"})
    return place


@pytest.fixture
def runs(place, workspace_folder):
    """The text, and where the rows of Embed Tuning are in each run: copies in this test's workspace."""
    (place / "pairs.tsv").write_text(TEXT)
    shutil.copytree(place / "jobs", workspace_folder / "jobs")
    corpus = CorpusChoice(f"file:{place / 'pairs.tsv'}", source_language="A", target_language="B")
    return corpus, [str(f / "arms" / "01-embed" / "adapter") for f in sorted((workspace_folder / "jobs").iterdir())]


def test_an_arm_of_a_run_knows_its_training(runs, place, tiny_tokenizer):
    corpus, sources = runs
    training = trainings.of(sources[0])
    assert training.facets == {"seed": 0, "prompt": "w3 w4 {source} w6", "language": corpus.name,
                               "optimizer": "adam_per_row"}  # fmt: skip
    met = trainings.seen(training)
    examples = encode(corpus.load(), tiny_tokenizer, "w3 w4 {source} w6", 128)
    everything = count_tokens(examples)
    assert met.counts == everything and set(met.steps) <= set(everything) and {3, 4, 6} <= set(met.prompt_ids)
    assert sum(met.draws.values()) < sum(everything.values()), "20 of the pairs were met in five steps"
    assert met.steps[3] == 5 and met.draws[3] >= 20 and tiny_tokenizer.eos_token_id not in met.steps
    assert min(met.first.values()) == 1 and max(met.last.values()) == 5
    assert trainings.second_seed(training).source == sources[1], "the third differs in its rate too"
    assert {t.source for t in trainings.others(training)} == set(sources[1:])
    assert trainings.counts(sources[0]) == met.counts and trainings.counts(str(place / "tiny")) is None


def test_the_audit_compares_runs_of_fine_tune(runs, place):
    corpus, sources = runs
    audit = Audit(str(place / "tiny"), sources[0], rule="count", k=5, corpus=corpus, prompt="w3 w4 {source} w6")
    scan = audit.study.scan()
    found = stability(audit, scan)
    assert len(found.names) == 3 and found.group("seed").pairs >= 1 and found.across_seeds is not None
    assert second_seed(audit).tuned_source == sources[1]
    explained = ranking(audit, scan)
    assert explained is not None and len(explained.token_ids) >= 20


def test_what_changed_since_is_not_taken_for_what_was(runs, place):
    _, sources = runs
    training = trainings.of(sources[0])
    with (place / "pairs.tsv").open("a") as file:
        file.write("\nw9 w9 w9 w9\tw10")
    assert trainings.seen(training) is None and trainings.counts(sources[0]) is None


@pytest.mark.parametrize("damage", ["no plan", "plan", "result", "number", "signature"])
def test_a_damaged_run_is_no_training(runs, damage):
    arm = Path(runs[1][0]).parent
    if damage == "no plan":
        (arm.parents[1] / "plan.json").unlink()
    elif damage == "plan":
        (arm.parents[1] / "plan.json").write_text('{"arms": 3}')
    elif damage == "result":
        (arm / "result.json").write_text("[")
    elif damage == "signature":
        told = json.loads((arm / "result.json").read_text())
        (arm / "result.json").write_text(json.dumps({**told, "signature": "none"}))
    else:
        arm = arm.rename(arm.with_name("99-embed"))
    assert trainings.of(str(arm / "adapter")) is None
