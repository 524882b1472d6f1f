"""The command ``reproduce``: the list, what is missing, and a suite of a tiny model to its end."""

import json

import pytest

from helpers import tiny_text
from ks_core.commands.program import main
from ks_core.jobs import queue
from ks_core.suites.presets import PRESETS


def test_the_list_has_every_suite_and_starts_nothing(capsys):
    assert main(["reproduce", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{said}" for name in PRESETS)
    assert "Missing: The model" in said and queue.all_jobs() == []


def test_what_is_missing_is_said_and_ends_with_2(capsys):
    words = ["reproduce", "en-ca", "--model", "meta-llama/Llama-2-7b-hf", "--protocol", "sibling"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "missing 1: The model meta-llama/Llama-2-7b-hf is not on this machine" in said.out
    assert "missing 2: No text is named" in said.out and "by arithmetic" in said.out and "of memory" in said.out
    assert said.err.count("\n") == 1 and "2 of what it needs are missing" in said.err
    assert queue.all_jobs() == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--seeds", "a"], "--seeds"), (["--output", "table.txt"], "none of .md"), (["--arms", "base,nothing"], "no arm"),
        (["--arms", "embed,partial"], "no arm base"), (["--protocol", "mine"], "no protocol"), (["--pairs", "fr"], "no language pair"),
        (["--arms", "base,embed:epochs=x"], "epochs"), (["--corpus", "file:{what}.tsv"], "places"), (["--written", "9"], "written"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(capsys, more, words):
    assert main(["reproduce", "demo", *more]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and queue.all_jobs() == []


def test_a_suite_from_the_command_line(tiny_folder, tmp_path, capsys, monkeypatch):
    """Two pairs in one run, twice: the second time everything is there."""
    for name, two in (("aa-bb", False), ("aa-cc", True)):
        (tmp_path / f"{name}.tsv").write_text(tiny_text.pairs(two_words=two), encoding="utf-8")
    words = [
        "reproduce", "demo", "--model", str(tiny_folder), "--pairs", "aa-bb,aa-cc", "--corpus", f"file:{tmp_path}/{{pair}}.tsv", "--seeds", "0",
        "--arms", "base,embed:learning_rate=0.05,transfer", "--steps", "4", "--sentences", "3", "--k", "3", "--written", "0",
    ]  # fmt: skip
    assert main([*words, "--output", str(tmp_path / "table.md")]) == 0
    said = capsys.readouterr().out
    assert "2 runs: 2 language pairs (aa-bb, aa-cc)" in said and "| all pairs | Embed Tuning |" in said
    assert (tmp_path / "table.md").read_text(encoding="utf-8").strip() in said
    assert main([*words, "--output", str(tmp_path / "table.json")]) == 0
    assert "2 of its 2 runs are there already" in capsys.readouterr().out
    first, second = (job.result for job in queue.all_jobs("suite"))
    assert first["rows"] == second["rows"] == json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["rows"]
