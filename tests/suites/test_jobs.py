"""A suite carried out on the tiny model: its table, what is kept, and that being stopped or killed changes nothing of it."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from helpers.waiting import until
from ks_core.errors import Cancelled, ModelError
from ks_core.jobs import queue
from ks_core.jobs.running import Running
from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.suites import kept, texts
from ks_core.suites.jobs import parts_of, run_one, run_suite
from ks_core.suites.suite import Text
from ks_core.suites.tables import ALL_PAIRS
from ks_core.translation.evaluation import held_out
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import CorpusChoice


class Killed(BaseException):
    """What nothing catches."""


class Counting(Running):
    """A job that is ended at a moment: the ``at``-th time that anything is told, it is killed, or asked to stop."""

    def __init__(self, folder, at=None, how=Killed):
        super().__init__(folder)
        self.at, self.how, self.told, self.seen = at, how, 0, []

    def progress(self, done, total, message="", *, unit="", stage=""):
        assert 0 <= done <= total
        self.seen.append((done, message))
        self.told += 1
        if self.told == self.at and self.how is Killed:
            raise Killed
        if self.told == self.at:
            (self.folder / "cancel").touch()
        super().progress(done, total, message, unit=unit, stage=stage)


@pytest.fixture
def counted(running):
    def made(name, **settings):
        return Counting(running(name).folder, **settings)

    return made


@pytest.mark.whole
def test_the_table_of_two_pairs_and_two_seeds(tiny_suite, counted):
    job = counted("job")
    result = run_suite(tiny_suite.as_dict(), job)
    rows = result["rows"]
    assert not result["left"] and [r["label"] for r in result["runs"]] == [run.label for run in tiny_suite.runs]
    names = [arm.name for arm in tiny_suite.arms]
    assert [(r["pair"], r["arm"]) for r in rows] == [(p, n) for p in ("aa-bb", "aa-cc", ALL_PAIRS) for n in names]
    assert {r["seeds"] for r in rows if r["kind"] != "base"} == {2} and {r["sentences"] for r in rows[:10]} == {4}
    # By hand: the mean gain of two trainings over the base, from the likelihoods that the runs wrote.
    summaries = [json.loads((kept.folder_of(r["key"]) / "summary.json").read_text()) for r in result["runs"]]
    found = {(n, a["kind"]): Likelihood.from_dict(a["likelihood"]) for n, s in enumerate(summaries) for a in s["arms"]}
    base, gains = found[0, "base"], {}
    for kind in ("embed", "partial"):
        each = [(base.summed() - found[n, kind].summed()).sum() / base.counted().sum() for n in (0, 2)]
        gains[kind] = float(np.mean(each))
    told = {r["kind"]: r for r in rows if r["pair"] == "aa-bb"}
    for kind, value in gains.items():
        gain = told[kind]["gain"]
        assert gain["value"] == pytest.approx(value) and gain["low"] < value < gain["high"]
        assert 0 < gain["pvalue"] <= gain["holm"] <= 1
        # Wider than by sentences alone: seeds are drawn too.
        alone = np.mean([Draws(4, 200).gain(base, found[n, kind]) for n in (0, 2)], axis=0)
        assert gain["high"] - gain["low"] > 0.5 * np.ptp(np.percentile(alone[1:], (2.5, 97.5)))
    assert told["partial"]["of_whole"]["value"] == pytest.approx(gains["partial"] / gains["embed"])
    both = {(r["pair"], r["kind"]): r["gain"]["value"] for r in rows if r["gain"]}
    assert both[ALL_PAIRS, "partial"] == pytest.approx((both["aa-bb", "partial"] + both["aa-cc", "partial"]) / 2)
    assert (told["partial"]["rows"], told["transfer"]["steps"], told["embed"]["steps"]) == ([3, 3], None, 6)
    # Answers are the first seed's alone, under every rule of the protocol.
    scores = told["partial"]["scores"]
    assert set(scores) == {"raw", "first_line"} and scores["raw"]["chrf"]["seeds"] == 1
    answers = summaries[0]["arms"][0]["evaluation"]["scores"]["raw"]["chrf"]["value"]
    assert told["base"]["scores"]["raw"]["chrf"]["value"] == pytest.approx(answers)
    assert all(s["arms"][0]["evaluation"] is None for s in summaries[2:])
    # One progress over all arms, which never goes back.
    done = [d for d, _ in job.seen]
    assert done == sorted(done) and done[-1] == sum(len(run.plan.arms) for run in tiny_suite.runs)
    text = "\n".join(texts.lines(result))
    assert "Embed Tuning" in text and "all pairs" in text and result["signature"] in text
    assert texts.file(result, ".csv").splitlines()[0].startswith("pair,protocol,arm") and len(texts.frame(result)) == 15
    # Everything is found again: nothing is trained, and the table is the same.
    again = counted("again")
    assert run_suite(tiny_suite.as_dict(), again)["rows"] == rows
    assert not any("training" in message for _, message in again.seen)
    # Another suite takes the runs that it shares; p is corrected over its own table.
    more = replace(tiny_suite, name="more", texts=tiny_suite.texts[1:])
    other = counted("more")
    shared = run_suite(more.as_dict(), other)["rows"]
    assert not any("training" in message for _, message in other.seen)
    same = [row for row in rows if row["pair"] == "aa-cc"]
    assert [without_holm(row) for row in shared] == [without_holm(row) for row in same]


def without_holm(row):
    return {**row, "gain": row["gain"] and {**row["gain"], "holm": None}}


@pytest.fixture(scope="module")
def undisturbed():
    """The rows of suites that nobody disturbed, by what was asked, and how often these told anything."""
    return {}


WHOLE = pytest.mark.whole


@pytest.mark.whole
@pytest.mark.parametrize(
    ("how", "part"),
    [
        (Killed, 0.4), (Killed, 0.8), (Cancelled, 0.3), pytest.param(Killed, 0.15, marks=WHOLE), pytest.param(Killed, 0.55, marks=WHOLE),
        pytest.param(Killed, 0.97, marks=WHOLE), pytest.param(Cancelled, 0.7, marks=WHOLE),
    ],
)  # fmt: skip
def test_a_suite_that_is_ended_at_any_point_goes_on_to_the_same_table(
    tiny_suite, counted, monkeypatch, tmp_path, undisturbed, how, part
):
    suite = replace(tiny_suite, texts=tiny_suite.texts[:1], written=0)
    if not undisturbed:
        monkeypatch.setenv("KS_LOTTERY_HOME", str(tmp_path / "elsewhere"))
        whole = counted("whole")
        undisturbed |= {"rows": run_suite(suite.as_dict(), whole)["rows"], "told": whole.told}
        monkeypatch.undo()
        monkeypatch.setenv("KS_LOTTERY_HOME", str(tmp_path / "here"))
    ended = counted("ended", at=max(1, round(part * undisturbed["told"])), how=how)
    with pytest.raises(how):
        run_suite(suite.as_dict(), ended)
    assert run_suite(suite.as_dict(), counted("resumed"))["rows"] == undisturbed["rows"]


@WHOLE
def test_a_process_that_is_killed_is_resumed_by_the_queue(smallest, workspace_folder):
    job = queue.submit("suite", smallest.as_dict(), label="tiny")

    def under_way():
        return list((workspace_folder / "suite-runs").glob("*/arms/*/result.json")) or job.state != "running"

    until(lambda: job.state == "running", 120)
    until(under_way, 120)
    os.kill(json.loads((job.folder / "process.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: job.state in ("failed", "done"), 30)
    if job.state == "failed":
        assert queue.resume(job).wait(240) == "done", job.error + job.log_tail()
    assert job.result["rows"] == run_suite(smallest.as_dict(), queue_free(workspace_folder))["rows"]


def queue_free(workspace_folder):
    folder = workspace_folder / "beside"
    folder.mkdir()
    (folder / "request.json").write_text("{}")
    return Running(folder)


@pytest.mark.whole
def test_an_array_is_the_runs_of_a_suite_and_leads_to_the_same_table(tiny_suite, running, monkeypatch, tmp_path):
    suite = replace(tiny_suite, written=0)
    parts = parts_of(suite.as_dict())
    assert [(n, label, kind) for n, (label, kind, _) in parts.items()] == [
        (r.number, r.label, "suite-run") for r in suite.runs
    ]
    for number in (3, 0, 2, 1):  # as a cluster may have them
        assert run_one({**parts[number][2], "run": "elsewhere"}, running(f"part{number}"))["error"] == ""
    last = Counting(running("last").folder)
    side_by_side = run_suite(suite.as_dict(), last)["rows"]
    assert not any("training" in message for _, message in last.seen), "the last job only writes the table"
    monkeypatch.setenv("KS_LOTTERY_HOME", str(tmp_path / "alone"))
    assert run_suite(suite.as_dict(), running("alone"))["rows"] == side_by_side
    assert parts_of(replace(suite, texts=suite.texts[:1], seeds=(0,)).as_dict()) == {}, "one run needs no array"


def test_a_run_that_fails_is_left_out_and_the_others_go_on(smallest, running):
    lost = Text("aa-dd", CorpusChoice("file:/nowhere.tsv", source_language="A", target_language="D"), 3)
    result = run_suite(replace(smallest, texts=(lost, *smallest.texts)).as_dict(), running())
    assert {r["pair"] for r in result["rows"]} == {"aa-bb"}
    assert "nowhere" in result["left"]["aa-dd, demo, seed 0"]
    with pytest.raises(ModelError, match="No run of the suite"):
        run_suite(replace(smallest, texts=(lost,)).as_dict(), running("other"))


def test_an_arm_that_fails_is_named_and_tried_again(smallest, running):
    suite = replace(
        smallest, texts=(replace(smallest.texts[0], k=60),)
    )  # more rows than the text has: no other is left for random ones
    suite = replace(suite, arms=(*suite.arms, Arm("random", k=60)))
    result = run_suite(suite.as_dict(), running())
    assert [name for name in result["left"] if name.endswith("Random rows")] and "Random rows" not in {
        r["arm"] for r in result["rows"]
    }
    (folder,) = {kept.folder_of(r["key"]) for r in result["runs"]}
    assert kept.finished(folder) is None


def test_the_key_is_of_the_content(smallest, tmp_path, tiny_folder):
    run = smallest.runs[0]
    corpus = run.plan.corpus.load()
    key = kept.key_of(run.plan, corpus)
    moved = tmp_path / "elsewhere.tsv"
    moved.write_bytes((tmp_path / "aa-bb" / "pairs.tsv").read_bytes())
    other = replace(run.plan.corpus, name=f"file:{moved}")
    assert kept.key_of(replace(run.plan, corpus=other), other.load()) == key, "the same text at another place"
    with moved.open("a") as file:
        file.write("w9 w10 w11 w12\tw20\n")
    assert kept.key_of(replace(run.plan, corpus=other), other.load()) != key
    for change in ({"sentences": 5}, {"k": 4}, {"prompt": "w3 {source} w4"}, {"generate": True}):
        assert kept.key_of(replace(run.plan, **change), corpus) != key, change
    os.utime(tiny_folder / "model.safetensors", (1, 1))
    assert kept.key_of(run.plan, corpus) != key, "a model that was written again may be another"


def test_a_text_of_its_own_to_test_on(tmp_path):
    """All of it is tested on, none of it is trained on, and of the other text so many pairs are."""
    lines = [f"w{5 + i % 30} w{5 + i // 30} w{5 + i % 7}\tw{20 + i % 40}" for i in range(120)]
    (tmp_path / "train.tsv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "test.tsv").write_text("\n".join([*lines[:9], "w40 w41\tw42"]), encoding="utf-8")
    choice = CorpusChoice(
        f"file:{tmp_path}/train.tsv",
        source_language="A",
        target_language="B",
        test=f"file:{tmp_path}/test.tsv",
        most=50,
    )
    corpus = choice.load()
    assert {p.source for p in corpus.test} == {line.partition("\t")[0] for line in [*lines[:9], "w40 w41\tw42"]}
    assert len(corpus.train) == 50 and not {p.source for p in corpus.train} & {p.source for p in corpus.test}
    assert corpus.dropped["in the test"] == 9 and not corpus.halved
    whole = replace(choice, test="", most=0).load()
    assert set(corpus.development) <= set(whole.held_out) and set(corpus.train) <= set(whole.train)
    assert len(held_out(corpus, "w3 {source} w4")) == 10
    assert "test" not in replace(choice, test="", most=0).as_dict() and choice.as_dict()["most"] == 50
