"""The one door: no code opens a file by another way, and whatever names a path outside the roots, nobody learns what is there."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from helpers import samples, tiny_text
from helpers.places import APP, ROOT
from helpers.readings import readings
from ks_core.checkpoints import demo, whole
from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.commands.program import main
from ks_core.errors import AccessError, KSLotteryError
from ks_core.store import access, door
from ks_core.study.scan import Study
from ks_core.tickets.ticket import Ticket
from ks_core.trajectory import known, open_trajectory
from ks_core.translation import corpora
from ks_core.tuning import memory, trainings
from ks_core.tuning.models import load_model, load_tokenizer
from pages.parts.tuning_text import OWN

#: Where files are opened by another way than the door, by module or module::function, and why. None is a visitor's.
EXEMPT = {
    "ks_core/asking/answerer.py::_answer": "both ends of a pipe of its own",
    "ks_core/audit/inquiry.py": "answers of panels, which its jobs wrote into the workspace",
    "ks_core/checkpoints/demo.py": "the demo's files: the program's own, or an installed package's, checked by their sum",
    "ks_core/checkpoints/demo_files.py": "the demo's files and their sums",
    "ks_core/checkpoints/hashes.py": "hashes that it wrote into the workspace itself",
    "ks_core/commands/bench.py": "what /proc says of the processor",
    "ks_core/commands/benches/process.py::_kept": "a scan of the benchmark's own, in a folder that it made",
    "ks_core/commands/doctor.py": "the program's log and its list of requirements",
    "ks_core/commands/tune.py": "a finished run, copied to where its owner wants it",
    "ks_core/jobs/cluster.py": "the state of jobs",
    "ks_core/jobs/devices.py": "what /sys says of memory",
    "ks_core/jobs/handle.py": "the state of jobs",
    "ks_core/jobs/processes.py": "what /proc says of processes",
    "ks_core/jobs/reading.py::_taken": "what /proc says of the process itself",
    "ks_core/jobs/running.py": "the events of the job itself",
    "ks_core/jobs/world.py": "what processes of one job tell each other",
    "ks_core/ks/kernels/machine_code.py": "what it compiled itself, looked at before it is used",
    "ks_core/store/cache.py": "results that it wrote itself",
    "ks_core/store/door.py": "the door",
    "ks_core/commands/demos/evidence.py": "results of its own jobs, which it collects for the program's assets",
    "ks_core/store/shipped.py": "results that come with the program",
    "ks_core/store/prepared.py": "the list of studies, which it wrote itself",
    "ks_core/store/stopwatch.py": "what /proc says of when the process began",
    "ks_core/store/workspace.py": "read_json, for the workspace's own files; who calls it is on this list",
    "ks_core/suites/kept.py": "results of runs that its own jobs wrote into the workspace",
    "ks_core/suites/published.py": "what is known of the paper, which comes with the program",
    "ks_core/study/export.py::read_csv": "a table that its owner reads back in Python; no page and no command does",
    "ks_core/tickets/appendix.py": "the published tickets, which come with the program",
    "ks_core/translation/parallel_text.py::_catalogues": "an installed language pack",
    "ks_core/translation/parallel_text.py::hub": "a dataset by the form of its id, where nothing here is called so",
    "ks_core/tuning/arm_models.py": "notes of the run itself",
    "ks_core/tuning/demo_runs.py": "the demo's files",
    "ks_core/tuning/estimates.py": "rates that it wrote into the workspace itself",
    "ks_core/tuning/models.py": "folders that checkpoints.handover has looked through",
    "ks_core/tuning/prefix.py::laid_before": "a folder that checkpoints.handover has looked through",
    "ks_core/tuning/runnable.py::_lists": "a list in the installed transformers",
    "ks_core/tuning/runs.py": "results of the run itself",
    "ks_core/tuning/workbench.py": "results of the run itself",
    "pages/parts/downloads.py": "a ticket that was written a moment before",
    "pages/parts/gate.py": "Streamlit's own page",
    "pages/parts/tuning_results.py::_partial": "results of a run of the workspace",
}


def found_in(code, module="m.py"):
    return {f"{module}::{function}" for function, _, _ in readings(code)}


def test_no_code_opens_a_file_by_another_way():
    used = set()
    for path in [ROOT / "app.py", *sorted((ROOT / "ks_core").rglob("*.py")), *sorted((ROOT / "pages").rglob("*.py"))]:
        module = path.relative_to(ROOT).as_posix()
        for function, line, what in readings(path.read_text(encoding="utf-8")):
            exempt = {module, f"{module}::{function}"} & set(EXEMPT)
            assert exempt, f"{module} line {line} opens a file with {what}: let ks_core.store.door do it"
            used |= exempt
    assert used == set(EXEMPT), f"need not be exempt any more: {sorted(set(EXEMPT) - used)}"


@pytest.mark.parametrize("line", [
    "open(p)", "open(p, 'rb')", "open(p, mode=m)", "open(p, 'r+b')", "p.open()", "(a / b).open('rb')", "p.open('a+')", "io.open(p)",
    "p.read_text()", "[q.read_bytes() for q in p.iterdir()]", "map(Path.read_text, ps)", "list(map(open, ps))",
    "np.memmap(p, 'u1', 'r')", "np.load(p)", "np.fromfile(p)", "torch.load(p, weights_only=True)", "safe_open(p, 'pt')",
    "AutoTokenizer.from_pretrained(str(p))", "Tokenizer.from_file(str(p))", "load_file(p)", "datasets.load_dataset(p)",
    "zipfile.ZipFile(p)", "zipfile.is_zipfile(p)", "pq.read_table(p)", "pd.read_csv(p)", "workspace.read_json(p)",
    "shutil.copytree(p, q)", "from numpy import memmap as m", "with door.open_file(p) as f:\n  g(f)\nnp.memmap(f)",
    "with door.open_file(p) as f:\n  torch.load(p)", "with other.open_file(p) as f:\n  torch.load(f)", "(lambda: open(p))()",
    "def g(f: BinaryIO):\n  pass\nnp.load(f)",
])  # fmt: skip
def test_a_planted_way_is_found(line):
    assert readings(line)
    inside = "def reads(p):\n" + "\n".join(f"    {part}" for part in line.splitlines())
    assert found_in(inside) == {"m.py::reads"}


@pytest.mark.parametrize("line", [
    "open(p, 'wb')", "p.open('w', encoding='utf-8')", "zipfile.ZipFile(p, 'w')", "door.read_bytes(p)", "bounded.read_json(p, E)",
    "with door.open_file(p) as f:\n  np.memmap(f, 'u1')\n  torch.load(door.name_of(f, p), mmap=True)", "json.loads(text)",
    "if tab.open:\n  pass", "door.open_file(p).read()", "p.write_text(t)", "model.load_state_dict(s)", "def g(f: BinaryIO):\n  zipfile.is_zipfile(f)",
])  # fmt: skip
def test_what_writes_or_comes_from_the_door_is_not_taken_for_one(line):
    assert not readings(line)


@pytest.fixture
def roots(tmp_path, monkeypatch):
    folder = tmp_path / "open"
    folder.mkdir()
    monkeypatch.setenv(access.ROOTS, str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_door_opens_plain_files_inside(roots, tmp_path):
    (roots / "a.txt").write_text("inside")
    (roots / "link").symlink_to("a.txt")
    assert door.read_bytes(roots / "a.txt") == door.read_bytes(roots / "link") == b"inside"
    os.mkfifo(roots / "pipe")
    for name in ("pipe", ".", "nothing", "loop"):
        if name == "loop":
            (roots / "loop").symlink_to("loop")
        with pytest.raises(OSError) as caught:
            door.open_file(roots / name)
        assert caught.value.filename == str(roots / name)
    with pytest.raises(OSError):
        door.open_file(Path("a\0b"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system has no names for open files")
def test_a_folder_that_becomes_a_link_at_the_last_moment_opens_nothing(roots, tmp_path, monkeypatch):
    for folder in (roots / "a", tmp_path / "outside"):
        folder.mkdir()
        (folder / "secret").write_text(str(folder))
    opens = os.open

    def late(path, *rest, **more):
        if str(path).endswith("secret") and not (roots / "a").is_symlink():
            (roots / "a").rename(roots / "b")
            (roots / "a").symlink_to(tmp_path / "outside")
        return opens(path, *rest, **more)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(AccessError):
        door.open_file(roots / "a" / "secret")
    assert (roots / "a").is_symlink()  # it was exchanged in between


def test_own_places_are_not_reached_by_a_link(roots, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (own / "x").write_text("own")
    (own / "out").symlink_to("/etc/passwd")
    monkeypatch.setattr(door, "OWN", [lambda: own])
    (roots / "link").symlink_to(own / "x")
    assert door.read_bytes(own / "x") == b"own"
    for path in (roots / "link", own / "out", own / ".." / "own2"):
        assert not door.allows(path)


def thing(place, kind):
    """Put nothing there, a file, or a folder in which everything is that a namer could want; and take away what was there."""
    shutil.rmtree(place, ignore_errors=True)
    place.unlink(missing_ok=True)
    if kind == "file":
        place.write_text(tiny_text.pairs(200))
    if kind == "folder":
        samples.write(place, samples.ticket("demo:base") | samples.folder())
        for language in ("eng", "fra"):
            (place / f"{language}.dev").write_text("\n".join(f"one two three {language} {i}" for i in range(200)))
        run = place / "arms" / "00-embed" / "adapter"
        run.mkdir(parents=True)


#: The same thing, called by each of these from outside.
NAMES = {
    "absolute": "{there}", "dots": "{roots}/../elsewhere/thing.tsv", "link": "{roots}/link.tsv", "linked folder": "{roots}/way/thing.tsv",
    "as a hub id": "elsewhere/thing.tsv", "with a revision": "elsewhere/thing.tsv@main", "relative": "./elsewhere/thing.tsv",
    "at home": "~/elsewhere/thing.tsv", "in another's home": "~nobody-of-this-name/thing.tsv",
}  # fmt: skip


def by_base_of_adapter(name, folder):
    write_trainable_tokens(folder, [3, 5], np.ones((2, 32), np.float32), base=name)
    return open_checkpoint(str(folder))


def text(kind, name):
    corpus = corpora.load(f"{kind}:{name}", source_language="A", target_language="B")
    return len(corpus.train)


#: Everything by which a path can be named in Python: (name, a folder inside the roots) -> what comes out.
NAMERS = {
    "open_checkpoint": lambda name, inside: open_checkpoint(name),
    "base= of an adapter": lambda name, inside: open_checkpoint(str(inside), base=name),
    "the base that an adapter names": by_base_of_adapter,
    "whole.check": lambda name, inside: whole.check(name),
    "shape_of": lambda name, inside: memory.shape_of(name),
    "load_tokenizer": lambda name, inside: load_tokenizer(name),
    "load_model": lambda name, inside: load_model(name),
    "trainings.of": lambda name, inside: trainings.of(f"{name}/arms/00-embed/adapter"),
    "open_trajectory": lambda name, inside: open_trajectory("", [name]),
    "open_trajectory of two": lambda name, inside: open_trajectory("demo:base", [name, name]),
    "known": lambda name, inside: known(name),
    "Ticket.load": lambda name, inside: Ticket.load(Path(name).expanduser()) if name[:2] != "~n" else None,
    "file:": lambda name, inside: text("file", name),
    "flores:": lambda name, inside: text("flores", f"{name}#eng,fra"),
    "hub:": lambda name, inside: text("hub", f"{name}#a,b"),
    "demo:": lambda name, inside: open_checkpoint(f"demo:{name}"),
}
#: And on the command line: the words that end with the path.
COMMANDS = {
    "scan": ["scan", "{name}", "demo:base"], "ticket": ["ticket", "{name}", "{name}", "new"], "prepare": ["prepare", "Mine", "{name}", "{name}"],
    "tune": ["tune", "{name}", "--arms", "base", "--background"], "--rows": ["tune", "{name}", "--rows", "a", "--arms", "rows"],
    "evaluate": ["evaluate", "{name}"], "rules": ["rules", "{name}", "{name}"], "trajectory": ["trajectory", "{name}"], "trajectory of checkpoints": ["trajectory", "demo:base", "{name}"], "--corpus": ["evaluate", "demo:base", "--corpus", "file:{name}"],
    "audit": ["audit", "{name}", "{name}"], "report": ["report", "{name}", "{name}"],
}  # fmt: skip


def answer(call):
    """What comes out, or the words that say why not."""
    try:
        return repr(call())
    except KSLotteryError as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture
def ways(roots, tmp_path):
    """The names of a thing outside, and its place."""
    (tmp_path / "elsewhere").mkdir()
    there = tmp_path / "elsewhere" / "thing.tsv"
    (roots / "link.tsv").symlink_to(there)
    (roots / "way").symlink_to(there.parent)
    write_trainable_tokens(roots / "adapter", [3, 5], np.ones((2, 32), np.float32), base="demo:base")
    return {way: name.format(there=there, roots=roots) for way, name in NAMES.items()}, there


@pytest.mark.parametrize("namer", NAMERS)
def test_the_same_is_said_whether_there_is_anything_or_not(ways, roots, namer):
    names, there = ways
    for way, name in names.items():
        said = set()
        for kind in ("nothing", "file", "folder"):
            thing(there, kind)
            said.add(answer(lambda name=name: NAMERS[namer](name, roots / "adapter")))
        assert len(said) == 1, f"{namer}, {way}: {said}"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_is_said_on_the_command_line(ways, command, capsys):
    names, there = ways
    for way, name in names.items():
        said = set()
        for kind in ("nothing", "file", "folder"):
            thing(there, kind)
            code = main([word.format(name=name) for word in COMMANDS[command]])
            said.add((code, *capsys.readouterr()))
        assert len(said) == 1 and said.pop()[0] == 2, f"{command}, {way}: {said}"


def asked(page, **query):
    """What a page says for a link with these values."""
    at = AppTest.from_file(APP, default_timeout=60)
    for here in (None, f"pages/{page}.py"):  # the values of the sidebar are taken up at first, those of the page on it
        at = at.switch_page(here) if here else at
        for key, value in query.items():
            at.query_params[key] = value
        at = at.run()
    assert not at.exception
    return "\n".join(e.value for kind in ("error", "warning", "info") for e in getattr(at, kind))


@pytest.mark.parametrize(("page", "query"), [
    ("checkpoints", {"base": "{name}"}), ("checkpoints", {"tuned": "{name}"}), ("compare", {"compared": ["demo:en-fr", "{name}"]}),
    ("fine_tune", {"tune_corpus": OWN["file"], "tune_where": "{name}"}), ("fine_tune", {"tune_corpus": OWN["flores"], "tune_where": "{name}#eng,fra"}),
], ids=["base", "tuned", "compared", "file", "flores"])  # fmt: skip
def test_the_same_is_said_on_pages(ways, demo_home, page, query):
    names, there = ways
    Study(demo.BASE, demo.TUNED).scan()
    for way in ("absolute", "link", "as a hub id"):
        said = set()
        for kind in ("nothing", "file" if OWN["file"] in query.values() else "folder"):
            thing(there, kind)
            filled = {
                key: [v.format(name=names[way]) for v in value]
                if isinstance(value, list)
                else value.format(name=names[way])
                for key, value in query.items()
            }
            said.add(asked(page, **filled))
        assert len(said) == 1 and said.pop(), f"{page}, {way}: {said}"


def test_a_run_is_downloaded_without_what_its_links_lead_to(tmp_path):
    from pages.parts.tuning_results import _zip

    run = tmp_path / "run"
    (run / "arms").mkdir(parents=True)
    (run / "arms" / "result.json").write_text("{}")
    (tmp_path / "secret.txt").write_text("secret")
    (run / "arms" / "answers.json").symlink_to(tmp_path / "secret.txt")
    (run / "all").symlink_to(tmp_path)
    with zipfile.ZipFile(io.BytesIO(_zip(run, "run"))) as archive:
        assert archive.namelist() == ["run/arms/result.json"]
