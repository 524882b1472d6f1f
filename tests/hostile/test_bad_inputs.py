"""Input that cannot be used, through each way in: the library, the command line and the page.

Every way says the same thing in one line. None shows a traceback; none leaves a cache entry, a temporary file,
or anything in the folder that it was given.
"""

import tempfile

import pytest
from streamlit.testing.v1 import AppTest

from helpers.bad_inputs import BASE, CHECKPOINTS, SETTINGS, TEXTS
from helpers.markup import text_of
from helpers.places import APP
from helpers.samples import NAME, ROWS, folder, safetensors, write
from ks_core.commands.program import main
from ks_core.errors import CorpusError, KSLotteryError
from ks_core.jobs import queue
from ks_core.store.cache import Cache
from ks_core.study.scan import Study
from ks_core.tuning.plans import CorpusChoice


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A sound base, a place for the other side, and a folder for temporary files that must stay empty."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (tmp_path / "tuned").mkdir()
    write(tmp_path / "base", folder())
    return tmp_path


def everything(place):
    return sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in place.rglob("*"))


def from_library(base, tuned):
    with pytest.raises(KSLotteryError) as raised:
        Study(base, tuned).scan()
    return str(raised.value)


def from_command_line(base, tuned, capsys):
    assert main(["scan", base, tuned]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("ks_core: ") and err.count("\n") == 1
    return err.removeprefix("ks_core: ").strip()


def opened(base, tuned):
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"], at.query_params["tuned"] = base, tuned
    return at.run()


def from_page(base, tuned):
    at = opened(base, tuned)
    if not at.error:  # it opened, and the test itself found what is wrong
        assert queue.all_jobs("scan")[0].wait(60) == "failed"
        at.run()
    assert not at.exception and len(at.error) == 1
    return text_of(at.error[0].value)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used(bench, workspace_folder, capsys, name):
    files, says = CHECKPOINTS[name]
    base, place = str(bench / "base"), bench / "tuned"
    if callable(files):
        tuned = str(files(place))
    else:
        put = {n: data.replace(BASE.encode(), base.encode()) for n, data in files.items()}
        tuned = str(write(place, put))
    before = everything(bench)
    message = from_library(base, tuned)
    assert says in message and message.isprintable() and 20 < len(message) <= 2001
    assert message[0] != " " and "Traceback" not in message and message.endswith(".")
    assert from_command_line(base, tuned, capsys) == message
    assert from_page(base, tuned) == message
    assert everything(bench) == before, "the folder that was opened is as it was"
    assert not Cache(workspace_folder / "cache").entries()
    assert not list(workspace_folder.rglob("*.tmp"))


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_cannot_be_used(bench, workspace_folder, capsys, name):
    """The text, by the library, ``evaluate``, and the page Fine-tune."""
    named, files, says = TEXTS[name]
    write(bench / "text", files)
    corpus = named.replace("@", str(bench / "text"))
    languages = ("English", "French")
    before = everything(bench)
    with pytest.raises(CorpusError) as raised:
        CorpusChoice(corpus, source_language=languages[0], target_language=languages[1]).load()
    message = str(raised.value)
    assert says in message and message.isprintable() and 20 < len(message) <= 2001
    assert main(["evaluate", str(bench / "base"), "--corpus", corpus, "--languages", ",".join(languages)]) == 2
    assert capsys.readouterr().err == f"ks_core: {message}\n"
    kind, _, where = corpus.partition(":")
    chosen = {"tune_corpus": kind, "tune_where": where, "tune_from": languages[0], "tune_to": languages[1]}
    sound = str(bench / "base")
    Study(sound, sound).scan()
    at = opened(sound, sound).switch_page("pages/fine_tune.py")
    for key, value in chosen.items():
        at.session_state[key] = value
    at.run()
    assert not at.exception and [text_of(e.value) for e in at.error] == [message]
    assert everything(bench) == before and not queue.all_jobs()


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be(bench, workspace_folder, capsys, monkeypatch, name):
    arguments, says = SETTINGS[name]
    write(bench / "changed", folder(model__safetensors=safetensors({NAME: ROWS + 1})))
    monkeypatch.chdir(bench)
    before = everything(bench)
    sides = {"BASE": str(bench / "base"), "TUNED": str(bench / "changed")}
    try:
        code = main([sides.get(a, a) for a in arguments])
    except SystemExit as ended:  # argparse says what it expected, and how the command is used
        code = ended.code
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert code == 2 and says in last and "Traceback" not in out + err and len(last) < 2100
    assert everything(bench) == before and not list(workspace_folder.rglob("*.tmp")) and not queue.all_jobs("tune")


def test_there_are_enough():
    assert len(CHECKPOINTS) + len(TEXTS) >= 60
