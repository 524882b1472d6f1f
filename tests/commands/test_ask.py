"""The command ``ask``, on the tiny model: what it prints and writes, and what it refuses."""

import json

import pytest

from ks_core.commands.program import main


def test_it_prints_three_answers_and_writes_them(tiny_pair, tmp_path, capsys):
    base, tuned, _ = tiny_pair
    words = [
        "ask",
        "w5 w7 w30",
        base,
        tuned,
        "--prompt",
        "w3 {source} w4",
        "--rule",
        "count",
        "--k",
        "5",
        "--max-new-tokens",
        "4",
    ]
    assert main([*words, "--output", str(tmp_path / "a.json")]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{title}" in said for title in ("Base", "Ticket", "Tuned")) and "rows of the ticket" in said
    assert "part most at token" in said and ("ran to the limit" in said or "ended by itself" in said)
    kept = json.loads((tmp_path / "a.json").read_text())
    assert (
        set(kept["answers"]) == {"base", "ticket", "tuned"} == set(kept["along"])
        and len(kept["question"]["ticket"]) == 5
    )
    off = str(kept["question"]["ticket"][0])
    assert main([*words, "--off", off, "--strength", "0.5", "--output", str(tmp_path / "b.json")]) == 0
    other = json.loads((tmp_path / "b.json").read_text())
    assert other["question"]["off"] == [int(off)] and other["answers"]["base"] == kept["answers"]["base"]


@pytest.mark.parametrize(("words", "says"), [
    ([" "], "Nothing was typed"), (["w5", "--off", "a"], "Expected token ids"), (["w5", "--off", "60"], "not in the ticket"),
    (["w5", "--strength", "-1"], "from 0, the base"), (["w5 " * 300], "its context"), (["w5", "--prompt", "{source} {"], "brace"),
    (["w5", "--output", "a.txt"], "Name a .json file"), (["w5", "--languages", "A"], "two names"),
])  # fmt: skip
def test_what_it_refuses(tiny_pair, words, says, capsys):
    text, *options = words
    assert main(["ask", text, *tiny_pair[:2], "--rule", "count", "--k", "5", *options]) == 2
    assert says in capsys.readouterr().err
