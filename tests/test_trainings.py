"""What is known of how a checkpoint was trained: the demo's runs and the arms of Fine-tune's, by the same way."""

import json
import shutil
from pathlib import Path

import pytest

from ks_core.audit.inquiry import Audit, ranking, second_seed, stability
from ks_core.checkpoints import demo
from ks_core.jobs.running import Running
from ks_core.store import workspace
from ks_core.tuning import trainings
from ks_core.tuning.arms import Arm
from ks_core.tuning.batches import count_tokens, encode
from ks_core.tuning.jobs import run_tune
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe


def test_what_the_demo_knows_of_its_runs(demo_home):
    training = trainings.of(demo.TUNED)
    assert training == trainings.of("demo") and trainings.of(demo.BASE) is None and trainings.of("demo:none") is None
    met = trainings.seen(training)
    steps = training.recipe.steps
    assert set(met.first) == set(met.last) == set(met.counts), "every pair was met within the run"
    assert all(1 <= met.first[i] <= met.last[i] <= steps for i in met.first)
    assert met.first[42] == 1 and met.last[42] == steps and 42 in met.prompt_ids, "the colon stands in every prompt"
    assert met.counts == trainings.counts(demo.TUNED), "what is rebuilt is what the recipe kept"
    assert trainings.seen(training) == met
    assert trainings.second_seed(training).source == "demo:en-fr-seed1"
    assert trainings.second_seed(trainings.of("demo:en-de")) is None
    assert trainings.of("demo:en-fr-adam").facets["optimizer"] == "adam"
    assert {t.name for t in trainings.others(training)} == {"en-de", "en-fr-paper", "en-fr-seed1"}


def test_of_many_who_ask_one_rebuilds(demo_home, monkeypatch):
    """As when several sessions open the audit at once: tokenizing the text is done once, and all have it."""
    import threading

    done = []
    real = trainings._rebuilt
    monkeypatch.setattr(trainings, "_rebuilt", lambda training: done.append(training) or real(training))
    training, found = trainings.of("demo:en-de"), []
    asking = [threading.Thread(target=lambda: found.append(trainings.seen(training))) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(done) == 1 and len(found) == 6 and all(met == found[0] and met.counts for met in found)


TEXT = "\n".join(f"w{5 + i % 30} w{5 + i // 30} w{5 + i % 7}\tw{20 + i % 40} w{7 + i % 9}" for i in range(150))


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
                               "optimizer": "rowwise_adam"}  # fmt: skip
    met = trainings.seen(training)
    examples = encode(corpus.load(), tiny_tokenizer, "w3 w4 {source} w6", 128)
    everything = count_tokens(examples)
    assert sum(met.counts.values()) < sum(everything.values()), "20 of the pairs were met in five steps"
    assert set(met.counts) <= set(everything) and {3, 4, 6} <= set(met.prompt_ids)
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
