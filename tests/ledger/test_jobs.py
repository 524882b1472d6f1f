"""The job and the command ``rules``, on a tiny model that was really trained on a tiny text."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from helpers import tiny_text
from ks_core.commands.program import main
from ks_core.errors import Cancelled, PairError, SettingsError, TicketError
from ks_core.jobs.running import Running
from ks_core.ledger import figures, tables
from ks_core.ledger.inquiry import Inquiry
from ks_core.ledger.jobs import FEW, run_rules
from ks_core.ledger.newest import attributed
from ks_core.ledger.rules import RULES
from ks_core.store import workspace
from ks_core.store.cache import Cache
from ks_core.tickets.orders import SCORED
from ks_core.tickets.selection import select
from ks_core.tickets.ticket import Ticket
from ks_core.tuning.arms import Arm
from ks_core.tuning.jobs import run_tune
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe

PROMPT = "w3 w4 {source} w6"
TEXT = tiny_text.pairs(300, two_words=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model, tiny_tokenizer):
    """A folder with the tiny model, a text, and a run of Fine-tune whose Embed Tuning lowers the loss on it, by two seeds. Made once."""
    place = tmp_path_factory.mktemp("ledger")
    tiny_model.save_pretrained(place / "tiny")
    tiny_tokenizer.save_pretrained(place / "tiny")
    (place / "pairs.tsv").write_text(TEXT)
    corpus = CorpusChoice(f"file:{place / 'pairs.tsv'}", source_language="A", target_language="B")
    recipe = Recipe(steps=40, batch_size=8, learning_rate=0.1, schedule="linear")
    plan = Plan(str(place / "tiny"), "", corpus=corpus, prompt=PROMPT, sentences=2, max_new_tokens=2, device="cpu",
                arms=(Arm("embed", recipe=recipe), Arm("embed", recipe=replace(recipe, seed=1), label="second")))  # fmt: skip
    folder = place / "jobs" / "20260101-000000-tune-abcdef"
    workspace.write_json(
        folder / "request.json", {"kind": "tune", "parameters": plan.as_dict(), "device": "cpu", "created": 0.0}
    )
    workspace.write_json(folder / "result.json", run_tune(plan.as_dict(), Running(folder)))
    return place


@pytest.fixture
def asked(place, workspace_folder):
    """An inquiry of that pair, in this test's workspace; other settings by name."""
    shutil.copytree(place / "jobs", workspace_folder / "jobs")
    tuned = next((workspace_folder / "jobs").glob("*/arms/00-embed/adapter"))

    def make(**changes):
        corpus = CorpusChoice(f"file:{place / 'pairs.tsv'}", source_language="A", target_language="B")
        settings = {
            "sizes": (1, 3, 10),
            "training": 20,
            "singles": 4,
            "draws": 3,
            "resamples": 200,
            "device": "cpu",
            **changes,
        }
        return Inquiry(str(place / "tiny"), str(tuned), corpus, PROMPT, **settings)

    return make


def answered(inquiry, folder):
    workspace.write_json(folder / "request.json", {"kind": "rules", "parameters": inquiry.as_dict()})
    return json.loads(json.dumps(run_rules(inquiry.as_dict(), Running(folder))))


def test_everything_of_a_pair_whose_training_is_known(asked, tmp_path):
    inquiry = asked(share=0.5, points=32)  # rows that began near 0 went far: their line is bent
    study = inquiry.study
    with pytest.raises(TicketError, match="not put through the model yet"):
        select(study.scan(), rule="attribution", study=study)
    assert Inquiry.from_dict(inquiry.as_dict()) == inquiry
    found = answered(inquiry, tmp_path / "job")
    assert not found["left"] or set(found["left"]) == {"structural"}, (
        "this vocabulary has neither a line break nor a colon"
    )
    rules = {row["rule"] for row in found["rules"]}
    assert rules == set(RULES) - set(found["left"]) and len(found["rules"]) == 3 * len(rules)
    assert found["whole"]["all"]["gain"] > 0, "the training did lower the loss"
    for row in found["rules"]:
        parts = [row[f"{part}_share"]["gain"] for part in ("end", "content")]
        assert sum(parts) == pytest.approx(row["share"]["gain"], abs=1e-9)
    assert found["attribution"]["complete"]["all"] == pytest.approx(1, abs=0.02)
    assert len(found["attribution"]["rows"]) == 4 and found["correlation"]["movement"] > 0.2
    assert found["null"]["draws"] == 3 and found["null"]["rows"] == found["changed"]
    assert found["smallest"]["development"] >= 0.5 and found["smallest"]["test"]["value"] is not None
    few = [note for note in found["notes"] if "references are few" in note]
    assert len(few) == (found["sentences"] < FEW)
    others = [note for note in found["notes"] if note not in few]
    assert ("one seed" in others[0] and len(others) == 1) or "halves" in others[-1]
    assert all(part in found["signature"] for part in ("base:", "corpus:file:", "ledger:1", "points:32"))
    assert {entry.kind for entry in Cache().entries()} >= {"nats", "attribution", "slopes"}
    assert answered(inquiry, tmp_path / "again") == found, "what was kept says the same"
    newest = attributed(inquiry.study)
    top = found["attribution"]["rows"]
    assert newest.of(np.array([row["token_id"] for row in top])) == pytest.approx(
        [sum(row["content"]) + sum(row["end"]) for row in top]
    )
    assert newest.sentence.count(inquiry.corpus.name) == 1 and "32 points" in newest.sentence
    # Tickets are chosen by what the model said, too.
    scan = study.scan()
    chosen = {rule: set(scan.token_ids[select(scan, rule=rule, k=2, study=study)].tolist()) for rule in SCORED}
    assert chosen["attribution"] == {row["token_id"] for row in top[:2]}
    assert chosen["left-out"] == {row["token_id"] for row in sorted(top, key=lambda row: -row["left_out"])[:2]}
    assert all(len(rows) == 2 for rows in chosen.values())
    for draw in (figures.gain_curves, figures.overlap_map, figures.attribution_map, figures.smallest_curve):
        assert draw(found).data and draw(found).layout.meta["alt"]


def second(inquiry):
    """The same training by the other seed."""
    return inquiry.tuned.replace("00-embed", "01-embed")


def test_two_seeds_are_taken_together(asked, tmp_path):
    alone = answered(asked(rules=("d", "l2", "steps", "random"), sizes=(3,)), tmp_path / "alone")
    inquiry = asked(rules=("d", "l2", "steps", "random"), sizes=(3,))
    inquiry = replace(inquiry, others=(second(inquiry),))
    found = answered(inquiry, tmp_path / "job")
    assert [t["source"] for t in found["trainings"]] == list(inquiry.sources) and len(alone["trainings"]) == 1
    assert found["gains"][0] == alone["gains"][0] != found["gains"][1], "the first is as it was alone"
    assert found["gain"]["value"] == pytest.approx(sum(found["gains"]) / 2)
    rows = {row["rule"]: row for row in found["rules"]}
    assert rows["d"]["seeds"][0] == alone["rules"][0]["share"]["value"] and len(rows["d"]["seeds"]) == 2
    (both, one) = rows["d"]["share"], alone["rules"][0]["share"]
    assert both["gain_high"] - both["gain_low"] > one["gain_high"] - one["gain_low"], "two seeds are few"
    assert any("2 trainings" in note for note in found["notes"]) and not any(
        "one seed" in note for note in found["notes"]
    )
    assert not any("more than the seed" in note or "on trust" in note for note in found["notes"])
    assert "others:" in found["signature"]
    text = "\n".join(tables.lines(found))
    assert f"({', '.join(f'{100 * x:.0f}' for x in rows['steps']['seeds'])})" in text


def test_what_differs_in_more_than_the_seed_is_said(asked, tmp_path):
    inquiry = asked(rules=("d", "l2"), sizes=(3,))
    copy = shutil.copytree(second(inquiry), tmp_path / "elsewhere")
    found = answered(replace(inquiry, others=(str(copy),)), tmp_path / "job")
    assert any(f"How {copy} was trained is not written down" in note for note in found["notes"])
    plan = inquiry.tuned.rpartition("/arms/")[0] + "/plan.json"
    told = workspace.read_json(Path(plan))
    told["arms"][1]["recipe"]["learning_rate"] = 0.5
    workspace.write_json(Path(plan), told)
    found = answered(replace(inquiry, others=(second(inquiry),)), tmp_path / "again")
    assert any("differs from" in note and "more than the seed" in note for note in found["notes"])
    with pytest.raises(SettingsError, match="named twice"):
        replace(inquiry, others=(inquiry.tuned,))


def test_rules_are_trained_at_equal_budget(asked, tmp_path):
    inquiry = asked(
        rules=("d", "l2", "random"), sizes=(3,), train=("d", "frequency", "random"), k=3, seeds=2, steps=12, margin=5.0
    )
    found = answered(inquiry, tmp_path / "job")
    made = found["trained"]
    rows = {row["rule"]: row for row in made["rules"]}
    assert set(rows) == {"d", "frequency", "random"} and made["seeds"] == 2 and made["against"] == "d"
    arms = sorted((tmp_path / "job" / "arms").iterdir())
    distinct = {(*sorted(row["tokens"][seed]), seed) for row in rows.values() for seed in (0, 1)}
    assert len(arms) == len(distinct), "rules of the same rows share a training"
    first = Ticket.load(arms[0] / "adapter")
    assert sorted(first.token_ids) == sorted(rows["d"]["tokens"][0]) and first.about["recipe"]["steps"] == 12
    gains = rows["frequency"]["seeds"]
    assert rows["frequency"]["gain"]["value"] == pytest.approx(sum(gains) / 2) and gains[0] != gains[1]
    assert min(gains) > 0, "rows that stand in every sentence learn something"
    base, own = found["base"]["nats_all"], rows["frequency"]["nats"]
    assert [base - nats for nats in own] == pytest.approx(gains)
    assert {d["second"] for d in made["differences"]} == {"frequency", "random"} and all(
        d["holm"] <= 1 for d in made["differences"]
    )
    (good,) = made["as_good"]
    assert (
        good["answer"] == "yes"
        and good["margin"] == 5.0
        and good["value"] == pytest.approx(rows["d"]["gain"]["value"] - rows["frequency"]["gain"]["value"])
    )
    assert "trained:" in found["signature"] and figures.trained_gains(found).data
    assert made["sentence"] in "\n".join(tables.lines(found))
    again = answered(inquiry, tmp_path / "again")
    assert again["trained"] == made and not (tmp_path / "again" / "arms").exists(), "what was trained is kept"


def test_a_job_that_was_stopped_goes_on(asked, tmp_path):
    """Stopped in the middle of the second training, and before in the middle of scoring: neither is begun anew."""
    inquiry = asked(rules=("d", "l2"), sizes=(2, 3), train=("d", "l2"), k=4, seeds=2, steps=6)

    class Stopping(Running):
        stop_at = "scoring the copied rows"

        def progress(self, done, total, message="", **more):
            if self.stop_at in message and done > 0:
                (self.folder / "cancel").touch()
            super().progress(done, total, message, **more)

    folder = tmp_path / "job"
    workspace.write_json(folder / "request.json", {"kind": "rules", "parameters": inquiry.as_dict()})
    for place in ("scoring the copied rows", "2 of"):
        running = Stopping(folder)
        running.stop_at = place
        with pytest.raises(Cancelled):
            run_rules(inquiry.as_dict(), running)
        (folder / "cancel").unlink()
    kept = {entry.kind: entry for entry in Cache().entries()}
    assert {"nats", "trained"} <= set(kept)
    assert [e.kind for e in Cache().entries()].count("trained") == 1 and len(list((folder / "arms").iterdir())) == 2
    found = answered(inquiry, folder)
    Cache().clear()
    assert answered(inquiry, tmp_path / "anew") == found


def test_the_ticket_is_asked_whether_it_does_as_well(asked, tmp_path):
    found = answered(asked(rules=("d", "frequency"), sizes=(3,), margin=0.001), tmp_path / "job")
    (all_rows, frequent) = found["as_good"]
    assert all_rows["other"] == "all changed rows" and frequent["other"] == "as many most frequent rows"
    short = found["rules"][0]["share"]["gain"] - found["whole"]["all"]["gain"]
    assert all_rows["value"] == pytest.approx(short) and short < -0.001
    assert all_rows["answer"] == ("no" if all_rows["high"] < -0.001 else "not decided")
    easy = answered(asked(rules=("d", "frequency"), sizes=(3,), margin=900.0), tmp_path / "easy")
    assert {one["answer"] for one in easy["as_good"]} == {"yes"}


def test_an_attribution_that_does_not_add_up_is_told(asked, tmp_path):
    found = answered(asked(points=1, rules=("attribution",), sizes=(3,)), tmp_path / "job")
    assert abs(found["attribution"]["complete"]["all"] - 1) > 0.02
    assert any("take more points" in note for note in found["notes"])


def test_a_pair_whose_training_is_not_known_has_the_rest(asked, tmp_path):
    known = asked()
    copy = shutil.copytree(known.tuned, tmp_path / "elsewhere")
    found = answered(
        Inquiry(
            known.base,
            str(copy),
            known.corpus,
            PROMPT,
            rules=("d", "steps", "d-noise", "movement", "l2"),
            sizes=(3,),
            training=10,
        ),
        tmp_path / "job",
    )
    assert set(found["left"]) == {"steps", "d-noise"} and "not written down" in found["left"]["steps"]
    assert {row["rule"] for row in found["rules"]} == {"d", "movement", "l2"}
    assert "null" not in found and "attribution" not in found, "what no rule asks for is not made"


def test_a_whole_model_is_said_to_be_more_than_rows(asked, tmp_path, place):
    tuned = tmp_path / "whole"
    shutil.copytree(place / "tiny", tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.embed_tokens.weight"][3:9] += 0.05
    weights["model.layers.0.mlp.up_proj.weight"] *= 1.1
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    known = asked()
    found = answered(
        Inquiry(known.base, str(tuned), known.corpus, PROMPT, rules=("d", "l2"), sizes=(2, 6)), tmp_path / "job"
    )
    assert any("may change more than rows" in note for note in found["notes"])
    by = {(row["rule"], row["k"]): row["share"]["gain"] for row in found["rules"]}
    assert by["d", 6] == by["l2", 6] == found["whole"]["all"]["gain"], "all six rows are all that was copied"


def test_equal_rows_are_nothing_to_ask_about(asked, tmp_path):
    known = asked()
    with pytest.raises(PairError, match="All rows are equal"):
        answered(Inquiry(known.base, known.base, known.corpus, PROMPT), tmp_path / "job")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"sizes": (10_000,)}, "rows changed"), ({"alpha": 0}, "alpha"), ({"points": 0}, "points"), ({"rules": ("luck",)}, "luck"),
     ({"share": -0.1}, "share"), ({"train": ("luck",)}, "luck"), ({"seeds": 0}, "seeds"), ({"margin": 0}, "margin"), ({"others": [""]}, "Name both"),
     ({"rules": ["d"], "train": ["d"], "k": 10_000}, "Choose a smaller k"), ({"persistence": 2.0}, "persistence"), ({"prompt": "no sentence"}, "source"), ({"sentences": -1}, "sentences")],
)  # fmt: skip
def test_what_cannot_be_is_named(asked, tmp_path, changes, words):
    with pytest.raises(SettingsError, match=words):
        plain = {**asked().as_dict(), **changes}
        answered(Inquiry.from_dict(plain), tmp_path / "job")


def test_the_command_prints_and_writes_it(asked, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = asked()
    words = ["rules", known.base, known.tuned, "--corpus", known.corpus.name, "--languages", "A,B", "--prompt", PROMPT, "--rules",
             "d,l2,steps,attribution,random", "--sizes", "1,5", "--device", "cpu", "--singles", "2"]  # fmt: skip
    assert main([*words, "--smallest", "0.4", "--ticket", "few", "--output", "answer.json"]) == 0, (
        capsys.readouterr().err
    )
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "answer.json").read_text())
    assert result["sentence"] in printed and f"signature  {result['signature']}" in printed and "| Steps | " in printed
    ticket = Ticket.load(tmp_path / "few")
    assert ticket.token_ids == result["smallest"]["token_ids"] and ticket.rule == "smallest"
    assert main([*words, "--output", "answer.csv"]) == 0
    frame = pd.read_csv(tmp_path / "answer.csv")
    assert len(frame) == 10 and frame.signature[0].startswith("base:") and set(frame.rows) == {1, 5}
    shares = {(row["rule"], row["k"]): row["share"]["value"] for row in result["rules"]}
    assert frame.share.tolist() == pytest.approx(list(shares.values()))
    capsys.readouterr()
    assert (
        main([*words, "--smallest", "0.4", "--ticket", "few"]) == 2 and "not an empty folder" in capsys.readouterr().err
    )
