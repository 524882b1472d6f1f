"""What the documents tell people to type is run: every command is parsed, every one that takes seconds is run, all code is run."""

import json
import re
import shlex

import pytest

from helpers.places import ROOT
from ks_core.commands.program import main, parser
from ks_core.tickets import SELECTION_RULES

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Commands that train, translate, measure or stay: parsed here, run by tests of their own on tiny models.
SLOW = ("tune", "audit", "evaluate", "rules", "reproduce", "ask", "bench", "serve")


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.S)


def commands(document):
    lines = [line for block in blocks(document, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[3:] for line in lines if line.startswith("python -m ks_core ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_command_is_one(document):
    for words in commands(document):
        assert parser().parse_args(words)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if commands(d)], ids=lambda d: d.name)
def test_commands_that_take_seconds_run(document, demo_home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in commands(document):
        if words[0] not in SLOW:
            assert main(words) == 0, (words, capsys.readouterr().err)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d, "python")], ids=lambda d: d.name)
def test_code_runs(document, demo_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A document adds a rule of its own: it is off the list again afterwards.
    monkeypatch.setattr(SELECTION_RULES, "_entries", dict(SELECTION_RULES._entries))
    for code in blocks(document, "python"):
        exec(compile(code, str(document), "exec"), {"__name__": "__main__"})


@pytest.mark.whole
def test_the_notebook_runs(demo_home, tmp_path, monkeypatch, capsys):
    """Its cells, one after the other: they print what the text says that they do."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict = {"__name__": "__main__"}
    for number, source in enumerate(code):
        exec(compile(source, f"tutorial.ipynb, code {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "3174 rows changed, 112 have p < 0.05" in said and "112 rows in the ticket" in said
    nats = [float(n) for n in re.findall(r"^[\w ]+: (\d\.\d{3}), of the end", said, re.M)]
    assert len(nats) == 4 and nats[0] > max(nats[1:3]) > nats[3], said


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_what_it_links_to_is_there(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_files_that_it_names_are_there(document):
    for path in re.findall(r"`((?:ks_core|pages|tests|docs|assets)/[\w/.-]+)`", document.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


def promises():
    """Every promise of serving.md: an item of the lists before what is not protected."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    promised = text.partition("## What is promised")[2].partition("Not protected:")[0]
    return [" ".join(item.split()) for item in re.split(r"^- ", promised, flags=re.M)[1:]]


def test_every_promise_names_a_test_that_is_there():
    assert len(promises()) > 12
    for promise in promises():
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", promise)
        assert named, f"no test keeps this: {promise}"
        for file, test in named:
            assert (ROOT / file).is_file(), f"{file} of: {promise}"
            wanted = rf"^def {test}\(" if test else r"^def test_"
            assert re.search(wanted, (ROOT / file).read_text(encoding="utf-8"), re.M), f"{file}::{test} of: {promise}"


def test_the_house_lists_every_file_of_every_room():
    sections = re.split(r"^## ", (ROOT / "docs" / "house.md").read_text(encoding="utf-8"), flags=re.M)
    told = {section.partition("\n")[0]: set(re.findall(r"`([\w/]+\.py)`", section)) for section in sections}
    rooms = {folder.parent.name: folder.parent for folder in (ROOT / "ks_core").glob("*/__init__.py")}
    for name, folder in rooms.items():
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*.py") if p.name != "__init__.py"}
        assert told[name] == there, f"docs/house.md on {name}: {sorted(told[name] ^ there)}"
    assert told["Beside the rooms"] == {p.name for p in (ROOT / "ks_core").glob("*.py")} - {"__init__.py"}


def test_every_variable_is_documented():
    code = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "ks_core").rglob("*.py"))
    named = set(re.findall(r"\bKS_LOTTERY_[A-Z_]+\b", code))
    described = "\n".join(d.read_text(encoding="utf-8") for d in DOCUMENTS)
    assert named <= set(re.findall(r"\bKS_LOTTERY_[A-Z_]+\b", described))


def planning_rows():
    """The planning table of larger-models.md, as the arithmetic has it."""
    from ks_core.jobs.resources import Resources
    from ks_core.tuning.memory import LLAMA_1B, LLAMA_7B, LLAMA_70B, Work, need

    half, spread = {"precision": "bfloat16"}, {"processes": 8, "sharded": True}
    columns = [{}, half, {**half, "checkpointing": True}, {**half, **spread}, {**half, **spread, "checkpointing": True}]
    for name, shape in (("1B", LLAMA_1B), ("7B", LLAMA_7B), ("70B", LLAMA_70B)):
        for pairs, work in (("8 of 60", Work(1000, 8, 60, 24)), ("32 of 256", Work(1000, 32, 256, 100))):
            cells = [f"{need(shape, Resources(**c), work).total / 1e9:,.1f}" for c in columns]
            yield f"| {name} | {pairs} | {' | '.join(cells)} |"


def test_the_planning_table_is_the_arithmetic():
    document = (ROOT / "docs" / "larger-models.md").read_text(encoding="utf-8")
    for row in planning_rows():
        assert row in document, row
