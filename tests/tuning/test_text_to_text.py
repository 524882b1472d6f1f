"""A general task from end to end on the tiny model: prompts and answers tuned, scored, compared and audited, by command and by page."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.audit import prompt_transfer, sentences
from ks_core.audit.controls import beside
from ks_core.audit.inquiry import Audit
from ks_core.audit.material import prepare
from ks_core.audit.writing import prompts, sentences as written_sentences
from ks_core.commands.program import main
from ks_core.errors import SettingsError
from ks_core.jobs import queue
from ks_core.jobs.running import Running
from ks_core.ledger.inquiry import Inquiry
from ks_core.likelihood.scorer import silent
from ks_core.store import workspace
from ks_core.study.scan import Study
from ks_core.translation.evaluation import read_answers
from ks_core.tuning.arms import Arm
from ks_core.tuning.exam import Exam
from ks_core.tuning.plans import CorpusChoice, Plan

#: What the browser's address says of such a text, beside where it lies.
PAGE = {"tune_task": "Text to text", "tune_prompts_in": "A TSV or JSONL file"}


@pytest.fixture
def answers(tmp_path):
    """Prompts of two lines, of which the second says which of two words is the answer."""
    lines = [
        {"prompt": f"w5 w{6 + n % 30} w{6 + n // 30}\nw{50 + n % 2}", "answer": f"w{20 + n % 2}"} for n in range(300)
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def about(answers, *more):
    return ["--corpus", f"file:{answers}", "--task", "text-to-text", "--device", "cpu", *more]


def test_it_is_tuned_judged_and_shown(answers, tiny_folder, tmp_path, capsys):
    arms = "base,embed:learning_rate=0.1:steps=80,transfer,partial,frequent:k=3,prefix:virtual_tokens=4:learning_rate=0.05,stop"
    words = ["tune", str(tiny_folder), "--arms", arms, "--steps", "30", "--batch-size", "8", "--sentences", "0", "--alpha", "0.2",
             "--sweep", "0.01,0.2", *about(answers, "--max-new-tokens", "3")]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "ROUGE-L first line" in said and "Exact match first line" in said and "chrF" in said and "BLEU" not in said
    (job,) = queue.all_jobs("tune")
    summary = job.result
    assert not [a["error"] for a in summary["arms"] if a["error"]] and summary["rule"] == "first_line"
    assert "task:text-to-text" in summary["signature"] and "target_language" not in summary["signature"]
    by_kind = {a["kind"]: a for a in summary["arms"]}
    scores = {kind: a["evaluation"]["scores"]["first_line"] for kind, a in by_kind.items()}
    assert all(set(found) == {"rouge", "chrf", "exact"} for found in scores.values())
    test = Plan.from_dict(job.request["parameters"]).corpus.load().test
    for arm in summary["arms"]:  # as one would count them by hand
        given = [one.answer("first_line") for one in read_answers(job.folder, arm)]
        same = sum(" ".join(text.split()) == pair.target for text, pair in zip(given, test, strict=True))
        assert arm["evaluation"]["scores"]["first_line"]["exact"]["value"] == pytest.approx(100 * same / len(test))
    assert set(summary["significance"]["Base"]["raw"]["Embed Tuning"]) == {"rouge", "chrf"}
    assert summary["likelihood"]["gains"]["Base"]["Embed Tuning"]["all"]["value"] > 0
    card = (job.folder / "arms" / by_kind["partial"]["folder"] / "adapter" / "README.md").read_text()
    assert "ROUGE-L" in card and "BLEU" not in card

    at = AppTest.from_file(APP, default_timeout=120)
    at.query_params.update({"base": str(tiny_folder), "tuned": str(tiny_folder), "run": job.id, "view": "Results"})
    at = at.run().switch_page("pages/fine_tune.py").run()
    assert not at.exception and not at.error, [e.value for e in at.error]
    shown = [c.value for c in at.caption] + [m.value for m in at.markdown] + [e.label for e in at.expander]
    assert "Answers side by side" in shown and any(s.startswith("**Prompt** w5 ") for s in shown)
    assert any("ROUGE-L and chrF" in s for s in shown) and not [s for s in shown if "BLEU" in s]
    frames = [set(d.value.columns) for d in at.dataframe]
    assert any({"ROUGE-L raw", "Exact match first line", "chrF raw"} <= columns for columns in frames)

    adapter = str(job.folder / "arms" / by_kind["prefix"]["folder"] / "adapter")
    code = main(
        [
            "evaluate",
            str(tiny_folder),
            adapter,
            *about(answers, "--sentences", "0", "--max-new-tokens", "3", "--baselines", ""),
        ]
    )
    assert code == 0 and "ROUGE-L first line" in capsys.readouterr().out


def test_its_ledger(answers, tiny_pair, capsys):
    """Which rows carry the gain, by the command that the audit's first step is."""
    base, tuned, _ = tiny_pair
    asked = [
        "rules",
        base,
        tuned,
        "--rules",
        "d,l2,random",
        "--alpha",
        "0.2",
        "--budget",
        "small",
        "--sizes",
        "1,3",
        "--draws",
        "1",
    ]
    assert main([*asked, *about(answers, "--prompt", "question")]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    (job,) = queue.all_jobs("rules")
    assert job.request["parameters"]["corpus"]["task"] == "text-to-text" and "translat" not in said
    assert {row["rule"] for row in job.result["rules"]} == {"d", "l2", "random"} and job.result["whole"]["all"][
        "gain"
    ] != 0


def test_its_panels_ask_under_its_own_prompts(answers, tiny_pair, workspace_folder):
    """Read and written: in its metrics, under the frames that name no language; the other protocol's is one of them too."""
    base, tuned, _ = tiny_pair
    choice = CorpusChoice(
        f"file:{answers}", shortest=1, source_field="prompt", target_field="answer", task="text-to-text"
    )
    audit = Audit(
        base,
        tuned,
        rule="count",
        k=5,
        alpha=0.2,
        corpus=choice,
        prompt="question",
        budget="small",
        max_new_tokens=3,
        device="cpu",
        generate=True,
    )
    assert beside(audit.controls(())).prompt == "instruction"
    scan = audit.study.scan()
    workspace.write_json(workspace_folder / "job" / "request.json", {"kind": "audit", "parameters": audit.as_dict()})
    found = prepare(audit, scan, Running(workspace_folder / "job"))
    read, written = prompt_transfer.panel(found, silent), prompts.panel(found, silent)
    for panel, words in ((read, sentences.transfer(read)), (written, written_sentences.transfer(written))):
        assert [r["name"] for r in panel["runs"]] == [
            "question",
            "source",
            "instruction",
        ] and "Alpaca frame, no input" in words
    assert set(written["runs"][0]["kept"]["raw"]) == {"rouge", "chrf"}


@pytest.mark.parametrize("page", ["fine_tune", "which_rule", "audit"])
def test_it_is_chosen_on_the_pages(answers, tiny_pair, page):
    base, tuned, _ = tiny_pair
    Study(base, tuned).scan()
    at = AppTest.from_file(APP, default_timeout=200)
    at.query_params.update(
        {"base": base, "tuned": tuned, "alpha": "0.2", "tune_where_text": str(answers), "tune_rows": "w9", **PAGE}
    )
    at = at.run().switch_page(f"pages/{page}.py").run()
    assert not at.exception and not at.error, [e.value for e in at.error]
    assert at.text_input(key="tune_source_field_text").value == "prompt"
    assert at.selectbox(key="tune_prompt_text").options[:3] == [
        "The prompt as it is",
        "Question and answer",
        "Alpaca frame, no input",
    ]
    assert any("pairs to train on" in m.value for m in at.markdown)


def test_what_does_not_fit_is_said(answers, tiny_folder, capsys):
    given = {
        "corpus": CorpusChoice(f"file:{answers}", source_field="prompt", target_field="answer", task="text-to-text"),
        "prompt": "short",
    }
    for make in (
        lambda: Plan(str(tiny_folder), "", arms=(Arm("base"),), **given),
        lambda: Exam((str(tiny_folder),), **given),
        lambda: Inquiry(str(tiny_folder), str(tiny_folder), **given),
    ):
        with pytest.raises(SettingsError, match="text to text has no languages"):
            make()
    for words, problem in (
        (["--task", "summary"], "no task"),
        (["--languages", "A,B"], "Leave the languages out"),
        (["--fields", "question,answer"], "no text in field 'question'"),
        (["--prompt", "chat"], "no chat template"),
    ):
        assert main(["evaluate", str(tiny_folder), *about(answers, *words)]) == 2
        said = capsys.readouterr().err
        assert problem in said and "Traceback" not in said and said.count("\n") <= 2


def test_older_plans_are_as_they_were(tiny_folder):
    """What was chosen by nobody stands in no plan, so that runs and audits from before are found."""
    plan = Plan(str(tiny_folder), "", arms=(Arm("base"),)).as_dict()
    assert not {"task", "test", "most"} & set(plan["corpus"]) and not {"virtual_tokens", "projection"} & set(
        plan["arms"][0]
    )
    chosen = CorpusChoice("file:a.jsonl", task="text-to-text")
    assert chosen.as_dict()["task"] == "text-to-text" and CorpusChoice.from_dict(chosen.as_dict()) == chosen
