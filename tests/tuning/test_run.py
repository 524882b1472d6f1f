"""Runs on a tiny model: every arm, what is kept, and what happens when one is interrupted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from helpers import architectures, tiny_text
from helpers.places import APP
from ks_core.checkpoints.adapters import read_trainable_tokens
from ks_core.commands.program import main
from ks_core.errors import Cancelled, CheckpointError, CorpusError, KSLotteryError, ModelError, SettingsError
from ks_core.jobs.queue import all_jobs
from ks_core.study.scan import Study
from ks_core.tickets.ticket import Ticket
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.tuning import memory
from ks_core.tuning.arm_models import random_delta
from ks_core.tuning.arms import Arm, parse_arm
from ks_core.tuning.models import load_model
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.runs import run

STEPS = {"steps": 12, "batch_size": 4, "learning_rate": 0.05}


@pytest.fixture
def corpus(tmp_path):
    return tiny_text.corpus(tmp_path)


@pytest.fixture
def plan(tiny_folder, corpus):
    def make(arms, **changes):
        settings = {"tuned": "", "sentences": 5, "max_new_tokens": 4, "prompt": "w3 {source} w4", **changes}
        return Plan(
            base=str(tiny_folder), corpus=corpus, arms=tuple(parse_arm(a, [7, 9], **STEPS) for a in arms), **settings
        )

    return make


def silent(done, total, message="", *, unit="", stage=""):
    assert 0 <= done <= total


ALL = [
    "base", "embed:learning_rate=0.2:steps=40", "partial", "transfer", "rows", "frequent:k=3", "matched:k=1", "random:seed=1:k=1",
    "prompt", "noise", "lora:rank=2", "full",
]  # fmt: skip


def test_every_arm_in_one_run(plan, tmp_path, tiny_folder):
    events = []
    # At this alpha the ticket has 2 of the 57 rows that the model reads; at 0.2 all, and no other is left for a control.
    made = plan(ALL, alpha=0.001, sweep=(0.0001, 0.001, 0.5))
    summary = run(made, tmp_path / "run", silent, event=lambda **fields: events.append(fields))
    arms = {a["kind"]: a for a in summary["arms"]}
    assert len(arms) == len(ALL) and not [a["error"] for a in summary["arms"] if a["error"]]
    for arm in summary["arms"]:
        assert set(arm["evaluation"]["scores"]) == set(EXTRACTION_RULES)
        assert arm["signature"].startswith("base:tiny@")
        assert not (tmp_path / "run" / "arms" / arm["folder"] / "checkpoints").exists(), "optimizer states are not kept"
    assert arms["rows"]["rows"] == [7, 9] and arms["rows"]["trainable"] == 2 * 16
    assert arms["transfer"]["rows"] == arms["partial"]["rows"] and arms["transfer"]["trainable"] == 0
    assert arms["full"]["trainable"] > arms["lora"]["trainable"] > 0
    # The ticket is the one that the app finds between the base and this run's Embed Tuning.
    adapter = tmp_path / "run" / "arms" / "01-embed" / "adapter"
    scan = Study(str(tiny_folder), str(adapter)).scan()
    assert set(scan.token_ids[scan.winners(0.001)]) == set(arms["partial"]["rows"])
    # A sweep at the plan's own alpha is the arm Partial Transfer.
    at = {p["alpha"]: p for p in summary["sweep"]}
    assert at[0.001]["likelihood"] == arms["transfer"]["likelihood"]
    gains = summary["likelihood"]["gains"]
    assert list(gains) == ["Base", "Embed Tuning"] and summary["likelihood"]["whole"] == "Embed Tuning"
    assert set(gains["Base"]) == {a["name"] for a in summary["arms"]} - {"Base"}
    assert gains["Base"]["Partial Tuning"]["of_whole"]["gain"] == gains["Base"]["Partial Tuning"]["all"]["value"]
    assert at[0.001]["evaluation"] == arms["transfer"]["evaluation"] and at[0.5]["rows"] >= at[0.001]["rows"]
    # Every training's losses are told as they come, and the tied base is said to be untied.
    assert [e["step"] for e in events if e.get("arm") == 2 and "step" in e] == list(range(1, 13))
    assert any("untied" in note for note in summary["notes"])
    assert summary["significance"]["Base"]["first_line"]["Embed Tuning"]["bleu"]["pvalue"] > 0


def test_the_base_is_the_base_again_after_every_arm(plan, tmp_path):
    arms = ["embed:learning_rate=0.2:steps=40", "partial", "lora:rank=2", "full", "rows", "base"]
    summary = run(plan(arms, alpha=0.2), tmp_path / "run", silent)
    alone = run(plan(["base"]), tmp_path / "alone", silent)
    last = next(a for a in summary["arms"] if a["kind"] == "base")
    assert last["evaluation"] == alone["arms"][0]["evaluation"]


def test_a_ticket_folder_loads_with_peft_alone_and_in_the_app(plan, tmp_path, tiny_folder):
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    run(plan(["embed:learning_rate=0.2:steps=40", "partial"], alpha=0.2), tmp_path / "run", silent)
    folder = tmp_path / "run" / "arms" / "01-partial" / "adapter"
    ticket = Ticket.load(folder)
    assert ticket.rule == "alpha" and ticket.alpha == 0.2 and len(ticket.statistic) == len(ticket)
    assert {"corpus", "prompt", "recipe", "base_hash", "tokenizer_hash", "versions"} <= set(ticket.about)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "PeftModel.from_pretrained" in card and ticket.tokens[0] in card
    base = LlamaForCausalLM.from_pretrained(tiny_folder, tie_word_embeddings=False)
    base.lm_head.weight.data = base.get_input_embeddings().weight.data.clone()
    ids = torch.tensor([[3, 5, 7, 9, 20, 4]])
    ours, _ = load_model(str(folder))
    with torch.no_grad():
        expected = PeftModel.from_pretrained(base, folder)(ids).logits
        torch.testing.assert_close(ours(ids).logits, expected, rtol=0, atol=1e-5)


def test_a_run_that_is_stopped_goes_on_where_it_was(plan, tmp_path):
    made = plan(["base", "rows", "prompt:steps=30"])
    whole = run(made, tmp_path / "whole", silent)
    steps, started = [], []

    def event(**fields):
        steps.append(fields.get("step"))

    with pytest.raises(Cancelled):  # in the middle of the second arm
        run(made, tmp_path / "cut", silent, event=event, should_stop=lambda: steps.count(5) == 1)
    assert (tmp_path / "cut" / "arms" / "00-base" / "result.json").is_file()
    assert not (tmp_path / "cut" / "arms" / "01-rows" / "result.json").exists()
    assert list((tmp_path / "cut" / "arms" / "01-rows" / "checkpoints").glob("checkpoint-*"))
    steps.clear()

    def stop_at_translation(done, total, message="", *, unit="", stage=""):
        started.append(stage)
        if stage == "02-prompt translating":
            raise Cancelled

    with pytest.raises(Cancelled):
        run(made, tmp_path / "cut", stop_at_translation, event=event)
    assert not [s for s in started if s.startswith("00-base")] and 6 in steps and 1 in steps
    steps.clear()
    again = run(made, tmp_path / "cut", silent, event=event)
    assert not [s for s in steps if s], "what was trained is not trained again"
    for a, b in zip(whole["arms"], again["arms"], strict=True):
        assert a["evaluation"] == b["evaluation"] and a.get("losses") == b.get("losses")


def test_an_arm_that_fails_leaves_the_others(plan, tmp_path):
    made = plan(["base", "rows:learning_rate=3e38", "prompt", "frequent:k=5000"])
    summary = run(made, tmp_path / "run", silent)
    errors = [a["error"] for a in summary["arms"]]
    assert not errors[0] and not errors[2]
    assert "learning rate" in errors[1] and "5,000 rows are wanted" in errors[3]
    assert list((tmp_path / "run" / "arms" / "01-rows" / "checkpoints").parent.iterdir())


@pytest.fixture
def other(tmp_path):
    """A function that saves a tiny model of another architecture with the tiny words."""

    def make(kind, **settings):
        architectures.model(kind, **settings).save_pretrained(tmp_path / kind)
        tiny_text.tokenizer().save_pretrained(tmp_path / kind)
        return str(tmp_path / kind)

    return make


def test_whatever_goes_wrong_in_an_arm_leaves_the_others(plan, other, tmp_path, monkeypatch):
    """DeepSeek V4 has a projection that its attention cuts into groups, so that a LoRA on it fails in the middle of a step.
    The arms after it have the model as it was."""
    made = replace(plan(["base", "lora:rank=2", "rows"]), base=other("deepseek_v4"))
    summary = run(made, tmp_path / "run", silent)
    base, lora, rows = summary["arms"]
    assert "did not expect (RuntimeError: " in lora["error"] and "Leave it out" in lora["error"]
    alone = run(replace(made, arms=(made.arms[2],)), tmp_path / "alone", silent)["arms"][0]
    assert not base["error"] and (rows["evaluation"], rows["losses"]) == (alone["evaluation"], alone["losses"])
    monkeypatch.setattr("ks_core.tuning.scoring.evaluate_model", _full_disk)
    with pytest.raises(OSError, match="no room"):  # which would fail every arm, and a resumed run has what was finished
        run(made, tmp_path / "full", silent)


def _full_disk(*_, **__):
    raise OSError(28, "no room")


def test_full_tuning_unties_an_output_layer_of_any_name(plan, other, tmp_path):
    made = replace(plan(["base", "full"]), base=other("biogpt", tie_word_embeddings=True))
    arms = run(made, tmp_path / "run", silent)["arms"]
    assert not [a["error"] for a in arms if a["error"]]
    saved, _ = load_model(str(tmp_path / "run" / "arms" / "01-full" / "model"))
    inside, outside = saved.get_input_embeddings().weight, saved.get_output_embeddings().weight
    assert inside is not outside and not torch.equal(inside, outside)


@pytest.mark.whole
def test_a_run_in_which_every_arm_failed_has_failed(plan, tmp_path, capsys, tiny_folder, corpus):
    made = plan(["frequent:k=5000", "frequent:k=4000"])
    with pytest.raises(
        ModelError,
        match=r"No arm of the run was carried out\. Most frequent rows: 5,000 rows are wanted.*for 1 other reason",
    ):
        run(made, tmp_path / "run", silent)
    assert (tmp_path / "run" / "arms" / "00-frequent" / "result.json").is_file()
    words = [
        "tune",
        str(tiny_folder),
        "--arms",
        "frequent:k=5000",
        "--corpus",
        corpus.name,
        "--languages",
        "A,B",
        "--prompt",
        "w3 {source}",
    ]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "No arm of the run was carried out" in said.err and "| arm |" not in said.out
    job = all_jobs("tune")[0]
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params.update({"base": str(tiny_folder), "tuned": str(tiny_folder), "run": job.id, "view": "Results"})
    at = at.run().switch_page("pages/fine_tune.py").run()
    assert not at.exception and any("No arm of the run was carried out" in e.value for e in at.error)


def test_full_tuning_is_refused_where_memory_is_short(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("ks_core.jobs.devices.free_memory", lambda device: 1000)
    summary = run(plan(["base", "full"]), tmp_path / "run", silent)
    assert "takes about" in summary["arms"][1]["error"] and not summary["arms"][0]["error"]


@pytest.mark.parametrize(
    ("arms", "changes", "words"),
    [
        ([], {}, "no arm"),
        (["partial"], {}, "needs a ticket"),
        (["tuned"], {}, "needs a ticket|none is named"),
        (["base"], {"sweep": (0.1,)}, "needs a ticket"),
        (["base"], {"alpha": 0}, "alpha"),
        (["base"], {"prompt": "{sauce}"}, "prompt"),
    ],
)
def test_plans_that_cannot_be(plan, arms, changes, words):
    with pytest.raises(SettingsError, match=words):
        plan(arms, **changes)


def test_input_that_cannot_be(plan, tmp_path, tiny_folder):
    for changes, error in (
        ({"tuned": str(tmp_path / "none")}, CheckpointError),
        ({"sentences": -1}, SettingsError),
        ({"max_new_tokens": 500}, SettingsError),
    ):
        with pytest.raises(KSLotteryError) as caught:
            summary = run(plan(["base", "transfer"], **{"tuned": str(tiny_folder), **changes}), tmp_path / "x", silent)
            raise SettingsError(" ".join(a["error"] for a in summary["arms"]))
        assert isinstance(caught.value, error) or caught.value
    (tmp_path / "one.tsv").write_text("w3 w4 w5\tw6\n")
    one = Plan(base=str(tiny_folder), tuned="", arms=(Arm("base"),),
               corpus=CorpusChoice(f"file:{tmp_path / 'one.tsv'}", source_language="A", target_language="B"))  # fmt: skip
    with pytest.raises(CorpusError, match="at least two and one"):
        run(one, tmp_path / "y", silent)


def test_an_empty_ticket_is_said(plan, tmp_path, tiny_folder):
    summary = run(plan(["base", "partial", "tuned"], tuned=str(tiny_folder)), tmp_path / "run", silent)
    assert "ticket is empty" in summary["arms"][1]["error"] and not summary["arms"][2]["error"]


def test_a_random_delta_is_as_long_and_another_direction():
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((2, 6, 32)).astype(np.float32)
    made = random_delta(before, after, 3)
    np.testing.assert_allclose(np.linalg.norm(made - before, axis=1), np.linalg.norm(after - before, axis=1), rtol=1e-5)
    cosine = ((made - before) * (after - before)).sum(1) / (np.linalg.norm(after - before, axis=1) ** 2)
    assert np.abs(cosine).max() < 0.6
    np.testing.assert_array_equal(made, random_delta(before, after, 3))


def test_a_plan_goes_through_json(plan):
    made = plan(ALL, alpha=0.1, sweep=(0.1, 0.2))
    assert Plan.from_dict(json.loads(json.dumps(made.as_dict()))) == made
    with pytest.raises(SettingsError, match="no field speed"):
        Plan.from_dict({"speed": 1})


def test_only_the_rows_that_moved_are_saved(plan, tmp_path):
    run(plan(["embed:steps=1:batch_size=1"]), tmp_path / "run", silent)
    ids, _ = read_trainable_tokens(tmp_path / "run" / "arms" / "00-embed" / "adapter")
    assert 3 <= len(ids) < 8


def test_a_tuned_model_that_is_rows_over_the_base_needs_no_second_one(plan, tmp_path, tiny_folder, monkeypatch):
    run(plan(["embed:learning_rate=0.2:steps=40"]), tmp_path / "first", silent)
    adapter = tmp_path / "first" / "arms" / "00-embed" / "adapter"
    merged, tokenizer = load_model(str(adapter))
    rows = merged.get_input_embeddings()
    whole = tmp_path / "whole"
    merged.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows.full_matrix()))
    merged.config.tie_word_embeddings = False
    merged.save_pretrained(whole)
    tokenizer.save_pretrained(whole)

    loaded = []
    monkeypatch.setattr("ks_core.tuning.models.load_model", lambda *a, **k: loaded.append(a[0]) or load_model(*a, **k))
    found = {}
    for name, tuned in (("rows", adapter), ("whole", whole)):
        loaded.clear()
        made = plan(["base", "tuned", "rows"], tuned=str(tuned))
        arms = run(made, tmp_path / name, silent)["arms"]
        assert not [a["error"] for a in arms if a["error"]]
        found[name] = [a["evaluation"] for a in arms]
        assert loaded == [made.base, *([str(whole)] if name == "whole" else [])]
        assert memory.work_of(made, made.corpus.load(), memory.LLAMA_1B).second == (name == "whole")
    assert found["rows"] == found["whole"]
    assert found["rows"][0] != found["rows"][1], (
        "and the rows are off again after that arm, or the next would have them"
    )
    assert found["rows"][2] == run(plan(["rows"]), tmp_path / "alone", silent)["arms"][0]["evaluation"]
