"""What is scored in a run and in an exam beside answers: the likelihood of the references, and a base that is asked otherwise."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.commands.program import main
from ks_core.commands.tune import table_lines
from ks_core.errors import SettingsError
from ks_core.jobs import queue
from ks_core.likelihood.nats import Likelihood
from ks_core.tuning import comparison, notes, runnable
from ks_core.tuning.arms import parse_arm
from ks_core.tuning.exam import Exam
from ks_core.tuning.models import load_model
from ks_core.tuning.plans import CorpusChoice
from ks_core.tuning.runs import run

CHAT = "{% for m in messages %}w10 {{ m.content }} w11{% endfor %}{% if add_generation_prompt %} w10{% endif %}"


def silent(done, total, message="", *, unit="", stage=""):
    assert 0 <= done <= total


@pytest.fixture
def chatting(tiny_folder):
    """The tiny model's folder, its tokenizer with a chat template."""
    (tiny_folder / "chat_template.jinja").write_text(CHAT)
    return tiny_folder


def by_kind(summary):
    return {arm["kind"]: arm for arm in summary["arms"]}


def test_an_arm_s_likelihood_is_transformers_own_loss(tiny_plan, tmp_path):
    plan = tiny_plan(["base", "rows"])
    arms = run(plan, tmp_path / "run", silent)["arms"]
    corpus = plan.corpus.load()
    for arm, source in zip(arms, (plan.base, tmp_path / "run" / "arms" / "01-rows" / "adapter"), strict=True):
        model, tokenizer = load_model(str(source))
        found = Likelihood.from_dict(arm["likelihood"])
        assert len(found) == arm["evaluation"]["sentences"] == 35
        for n, pair in enumerate(corpus.test[:35]):
            prompt = tokenizer(f"w3 {pair.source} w4")["input_ids"]
            ids = torch.tensor(
                [[*tokenizer(f"w3 {pair.source} w4 {pair.target}")["input_ids"], tokenizer.eos_token_id]]
            )
            labels = ids.clone()
            labels[0, : len(prompt)] = -100
            with torch.no_grad():
                loss = float(model(ids, labels=labels).loss)
            assert found.summed()[n] / found.counted()[n] == pytest.approx(loss, rel=1e-4)
    assert arms[0]["likelihood"]["end"] != arms[1]["likelihood"]["end"]


def test_an_arm_that_only_teaches_the_end_is_found_out(tiny_plan, tmp_path):
    """Every reference ends with w50, and its row alone is trained: what follows it is the end."""
    lines = "\n".join(f"w{5 + n % 30} w{5 + n // 30} w{6 + n % 7}\tw{20 + n % 20} w50" for n in range(600))
    (tmp_path / "ends.tsv").write_text(lines)
    choice = CorpusChoice(f"file:{tmp_path / 'ends.tsv'}", source_language="A", target_language="B")
    arms = tuple(parse_arm(a, rows, steps=40, batch_size=8, learning_rate=0.2) for a, rows in
                 (("base", ()), ("rows:label=end", (50,)), ("rows:label=both", (4, 50))))  # fmt: skip
    frame = comparison.table(run(replace(tiny_plan(["base"]), corpus=choice, arms=arms), tmp_path / "run", silent))
    frame = frame.set_index("arm")
    assert frame.gain_low["end"] > 0 and frame.end_share["end"] == pytest.approx(1, abs=0.05)
    assert abs(frame.gain_content["end"]) <= 0.05 * frame.gain["end"] and frame.end_share_low["end"] >= 0.95
    assert frame.end_share["both"] < 0.95, "the prompt's last word is read before the content too"


def test_baselines_that_cost_no_training(tiny_plan, chatting, tmp_path, monkeypatch):
    asked = []
    plan = tiny_plan(["base", "stop", "examples:seed=1", "chat", "partial", "embed"])
    plan = replace(plan, base=str(chatting))
    from ks_core.tuning import scoring

    own = scoring.evaluate_model
    monkeypatch.setattr(scoring, "evaluate_model", lambda *a, **k: asked.append(a[2].template) or own(*a, **k))
    summary = run(plan, tmp_path / "run", silent)
    arms = by_kind(summary)
    assert not [a["error"] for a in summary["arms"] if a["error"]]
    assert len(asked) == 5 and len(set(asked)) == 3, "what the base with a stop writes is known from the base"
    assert {k: a["asked"]["prompt"] for k, a in arms.items() if "asked" in a} == {
        "stop": "w3 {source} w4", "examples": next(t for t in asked if "\n\n" in t), "chat": "w10 w3 {source} w4 w11w10"
    }  # fmt: skip
    likely = comparison.likelihoods(summary["arms"])
    base, stop = likely["Base"], likely["Base, stopped at a line break"]
    np.testing.assert_allclose(stop.content, base.content, rtol=1e-5)
    np.testing.assert_allclose(
        stop.end, base.end, rtol=1e-5, err_msg="no token of these words begins with a line break"
    )
    for name in ("Base, three examples, seed 1", "Base, chat template"):
        assert not np.allclose(likely[name].content, base.content), "each is read under its own prompt"
    assert "Base, stopped at a line break" in summary["likelihood"]["gains"] and len(summary["significance"]) == 3
    said = notes.notes(summary)
    assert any(
        s.startswith("Base, three examples, seed 1: 3 pairs of the training part stand in the prompt") for s in said
    )
    assert any(s.startswith("Base, stopped at a line break: an answer is cut at its first line break") for s in said)


def test_which_baselines_can_be_had_is_told_from_files(tiny_folder, tmp_path):
    assert runnable.usual_baselines(str(tiny_folder)) == ("stop", "examples")
    settings = json.loads((tiny_folder / "tokenizer_config.json").read_text())
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": CHAT}))
    assert runnable.usual_baselines(str(tiny_folder)) == ("stop", "examples", "chat")
    assert not runnable.has_chat_template(str(tmp_path / "none"))
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (tiny_folder / "chat_template.jinja").write_text(CHAT)
    assert runnable.has_chat_template(str(tiny_folder))


def test_a_chat_without_a_template_is_an_arm_s_error(tiny_plan, tmp_path):
    base, chat = run(tiny_plan(["base", "chat"]), tmp_path / "run", silent)["arms"]
    assert not base["error"] and "has no chat template" in chat["error"]


def test_a_reference_that_cannot_be_read_leaves_the_answers(tiny_plan, tmp_path):
    """Its own context is too short for a prompt with its reference, though not for one with the answer asked for."""
    long = "\n".join(f"w{5 + n % 50} w{6 + n % 47} w9\t" + " ".join(["w20"] * 30) for n in range(400))
    (tmp_path / "long.tsv").write_text(long)
    plan = tiny_plan(["base", "stop"])
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    (tmp_path / "tiny" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 20}))
    choice = CorpusChoice(f"file:{tmp_path / 'long.tsv'}", source_language="A", target_language="B", longest=60)
    summary = run(replace(plan, corpus=choice), tmp_path / "run", silent)
    base, _ = summary["arms"]
    assert not base["error"] and base["evaluation"] and "likelihood" not in base
    assert "the model reads 20" in base["no_likelihood"] and summary["likelihood"] == {}
    assert any(
        n.startswith("No likelihood of Base and Base, stopped at a line break: A pair takes")
        for n in notes.notes(summary)
    )
    frame = comparison.table(summary)
    assert "nats" not in frame and frame.bleu_raw.notna().all()
    silent_plan = replace(plan, corpus=choice, generate=False)
    with pytest.raises(Exception, match="likelihood is all that is asked for"):
        run(silent_plan, tmp_path / "silent", silent)


def test_a_run_that_writes_no_answers(tiny_plan, tmp_path):
    plan = tiny_plan(["base", "stop", "embed", "partial"], generate=False, sweep=(0.5,))
    summary = run(plan, tmp_path / "run", silent)
    assert not list((tmp_path / "run").rglob("answers.json")) and summary["significance"] == {}
    assert all(a["evaluation"] is None and a["likelihood"] and not a["error"] for a in summary["arms"])
    frame = comparison.table(summary)
    assert "bleu_raw" not in frame and frame.nats.notna().all() and comparison.rules_of(frame) == []
    lines = table_lines(summary)
    assert any("No answers were written" in line for line in lines) and any(
        line.startswith("alpha 0.5") for line in lines
    )


def test_an_exam_compares_likelihoods_and_asks_the_first_otherwise(tiny_pair, chatting, capsys, tmp_path):
    base, tuned, corpus = tiny_pair
    words = ["evaluate", base, tuned, "--corpus", corpus.name, "--languages", "A,B", "--prompt", "w3 {source} w4",
             "--sentences", "5", "--max-new-tokens", "4", "--output", str(tmp_path / "exam.json")]  # fmt: skip
    assert main(words) == 0
    result = json.loads((tmp_path / "exam.json").read_text())
    assert [a["kind"] for a in result["arms"]] == ["checkpoint", "stop", "examples", "chat", "checkpoint"]
    likely = comparison.likelihoods(result["arms"])
    gain = result["likelihood"]["gains"][base][tuned]["all"]["value"]
    own = (likely[base].summed().sum() - likely[tuned].summed().sum()) / likely[base].counted().sum()
    assert gain == pytest.approx(own) != 0
    said = capsys.readouterr().out
    assert "nats a target token" in said and f"likelihood, {tuned} against {base}" in said
    assert main([*words, "--baselines", ""]) == 0
    assert [a["kind"] for a in json.loads((tmp_path / "exam.json").read_text())["arms"]] == ["checkpoint"] * 2
    assert (
        main([*words, "--baselines", "partial"]) == 2
        and "Expected some of: stop, examples, chat" in capsys.readouterr().err
    )
    made = Exam((base,), corpus, baselines=("stop",))
    assert Exam.from_dict(json.loads(json.dumps(made.as_dict()))) == made
    with pytest.raises(SettingsError):
        Exam((base,), corpus, baselines=("none",))


def test_a_run_of_before_there_were_likelihoods_still_shows(tiny_plan, tiny_folder, tmp_path):
    plan = tiny_plan(["base", "rows"])
    job = queue.submit("tune", plan.as_dict(), label="older")
    assert job.wait(240) == "done", job.error
    older = job.result
    assert older["likelihood"]["arms"]
    del older["likelihood"]
    for arm in older["arms"]:
        del arm["likelihood"]
        path = job.folder / "arms" / arm["folder"] / "result.json"
        path.write_text(json.dumps(arm))
    (job.folder / "result.json").write_text(json.dumps(older))
    frame = comparison.table(job.result)
    assert "nats" not in frame and list(frame.arm) == ["Base", "Chosen rows"]
    assert table_lines(job.result)[0].startswith("| arm | rows |")
    at = AppTest.from_file(APP, default_timeout=120)
    at.query_params.update({"base": str(tiny_folder), "tuned": str(tiny_folder), "run": job.id, "view": "Results"})
    at = at.run().switch_page("pages/fine_tune.py").run()
    assert not at.exception and not at.error and len(at.dataframe) >= 1
    assert not any("How likely each arm" in c.value for c in at.caption)
