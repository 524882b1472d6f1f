"""Files that would take a machine's memory or time: by the library, in the process that reads for a server, by the app's links."""

import contextlib
import os
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from helpers import bombs, calls
from helpers.places import ROOT
from helpers.samples import corpus, every_source, folder, write
from helpers.serving import Visitor
from helpers.waiting import until
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError, CorpusError, KSLotteryError
from ks_core.jobs import bounded
from ks_core.study.scan import Study
from ks_core.translation import corpora

#: Megabytes. Before there were bounds these files took from 800 to 8,600.
MOST = 450
#: How the page Fine-tune calls the kinds of text.
KINDS = {"file": "A TSV or JSONL file", "flores": "A folder in Flores layout"}


def open_all(source):
    study = Study(source, source)
    return study.pair, study.token_strings()


def load(source):
    return corpora.load(source, source_language="English", target_language="French")


@contextlib.contextmanager
def highest(pid="self"):
    """The most memory that a process takes meanwhile, in megabytes above what it takes now; empty where the system does not say."""
    told = []
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = _status(pid, "VmRSS")
    except OSError:
        yield told
        return
    yield told
    told.append(_status(pid, "VmHWM") - before)


def _status(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


@pytest.mark.parametrize("name", bombs.CHECKPOINTS)
def test_a_checkpoint_is_refused_before_it_takes_much(tmp_path, name):
    make, says = bombs.CHECKPOINTS[name]
    source = str(make(tmp_path / "a"))
    with highest() as most, pytest.raises(KSLotteryError, match=says):
        open_all(source)
    assert all(taken < MOST for taken in most), most


@pytest.mark.parametrize("name", bombs.TEXTS)
def test_text_is_refused_before_it_takes_much(tmp_path, name):
    make, says = bombs.TEXTS[name]
    source = make(tmp_path / "a")
    with highest() as most, pytest.raises(CorpusError, match=says):
        load(source)
    assert all(taken < MOST for taken in most), most


@pytest.fixture
def reader(monkeypatch):
    """A process that reads, as a server has one; it finds the tests' helpers too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    bounded.begin()
    yield bounded.process
    bounded.end()


def limit(monkeypatch, **changes):
    """From now on the process has other limits."""
    reader = bounded._READING.reader
    monkeypatch.setattr(reader, "limits", replace(reader.limits, **changes))


def ask(function, size=1 << 20, **arguments):
    with open(__file__, "rb") as file:
        return bounded.call(function, [file], size=size, what="The file", error=CheckpointError, **arguments)


def test_what_is_read_elsewhere_is_the_same(reader):
    assert ask(calls.beginning, length=3) == (reader(), b'"""')
    assert ask(calls.beginning, length=3, size=10) == (os.getpid(), b'"""'), "what is small is read on the spot"
    assert ask(calls.numbers) == [[], [1], [2, 2], [3, 3, 3]] == ask(calls.numbers, size=10)
    for size in (10, 1 << 20):
        with pytest.raises(CorpusError, match=r"^It is no text\.$"):
            ask(calls.refused, size=size)
    assert reader() is not None and ask(calls.beginning, length=1)[0] == reader()


@pytest.mark.parametrize(
    ("function", "says"),
    [(calls.forever, "seconds of computing"), (calls.asleep, "1 seconds"), (calls.endless, "MB of memory"), (calls.gone, "the machine has"), (calls.much, "holds more than a page")],
)  # fmt: skip
def test_at_a_bound_the_process_is_ended_and_the_next_call_finds_another(monkeypatch, reader, function, says):
    limit(monkeypatch, seconds=1, patience=1 if function is calls.asleep else 100)
    first = ask(calls.beginning, length=1)[0]
    with highest() as most, pytest.raises(CheckpointError, match=f"^The file .*{says}"):
        ask(function)
    limit(monkeypatch, seconds=60)
    second = ask(calls.beginning, length=1)[0]
    assert second == reader() != first and not psutil.pid_exists(first)
    assert all(taken < MOST for taken in most), most


def test_the_memory_of_the_process_is_bounded(monkeypatch, reader):
    limit(monkeypatch, memory=64 << 20)
    bounded._READING.reader._renew()
    with pytest.raises(CheckpointError, match="more than 64 MB of memory"):
        ask(calls.endless)


def test_what_works_for_long_holds_up_nobody_who_reads(monkeypatch, reader):
    """It has a process of its own, with what it loads, and within its own bounds."""
    bounded._WORKING.reader = bounded.Reader(replace(bounded.WORKING, seconds=3))
    told = []

    def go():
        with pytest.raises(CheckpointError, match="It takes more than 3 seconds") as error:
            bounded.work(calls.forever, what="It", error=CheckpointError, file=None)
        told.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    until(lambda: bounded._WORKING.busy)
    assert ask(calls.beginning, length=1)[0] == reader() and not told
    thread.join()
    assert told and bounded.work(calls.product, what="It", error=CheckpointError, left=6, right=7) == 42


def test_a_process_that_holds_much_is_not_kept(reader):
    first = ask(calls.beginning, length=1)[0]
    ask(calls.held)
    assert ask(calls.beginning, length=1)[0] != first


def test_what_failed_in_the_program_is_in_the_log_and_not_shown(reader, caplog):
    with pytest.raises(CheckpointError, match="the server's log") as told:
        ask(calls.wrong)
    assert "no_such_thing" not in str(told.value) and "no_such_thing" in caplog.text


def test_the_least_goes_first_and_nobody_waits_for_ever(monkeypatch, reader):
    """While one is read, a large and a small one wait: the small one is next, though it came last."""
    order, threads, line = [], [], bounded._READING
    turn = line.turn

    @contextlib.contextmanager
    def noted(size, *arguments):
        with turn(size, *arguments):
            order.append(names[size])
            yield

    def go(function, size, **arguments):
        with contextlib.suppress(CheckpointError):
            ask(function, size=size, **arguments)

    names = {1 << 20: "first", 9 << 20: "large", 1 << 16: "small"}
    monkeypatch.setattr(line, "turn", noted)
    limit(monkeypatch, seconds=2)
    for size, name in names.items():
        function, arguments = (calls.forever, {}) if name == "first" else (calls.beginning, {"length": 1})
        threads.append(threading.Thread(target=go, args=(function, size), kwargs=arguments))
        threads[-1].start()
        until(lambda: line.busy and len(line.waiting) == len(threads) - 1)
    for thread in threads:
        thread.join()
    assert order == ["first", "small", "large"]
    monkeypatch.setattr(line, "turn", turn)
    monkeypatch.setattr(bounded, "LONGEST_WAIT", 0.01)
    with line.turn(0), pytest.raises(CheckpointError, match="Try again"):
        ask(calls.beginning, length=1)
    assert ask(calls.beginning, length=1)


def test_the_process_ends_with_its_server(tmp_path):
    """However that ends: here by a signal that no program sees."""
    code = "from ks_core.jobs import bounded; import time; bounded.begin(); print(bounded.process(), flush=True); time.sleep(600)"
    server = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid = int(server.stdout.readline())
    process = psutil.Process(pid)
    server.kill()
    server.wait()
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()


def test_a_sound_pair_is_the_same_when_another_process_reads_it(reader, tmp_path, monkeypatch):
    """Every kind of source, and text, read here and read there."""
    monkeypatch.setattr(bounded, "SMALL", -1)
    write(tmp_path / "base", folder())
    (tmp_path / "a.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in corpus()))
    sources = {name: write(tmp_path / name, files) for name, files in every_source(str(tmp_path / "base")).items()}

    def look():
        found = {}
        for name, source in sources.items():
            one = open_checkpoint(str(source))
            rows = np.asarray(one.matrix.block(0, one.shape[0]))
            found[name] = (
                one.tensor,
                one.stored,
                one.tied,
                one.content_hash,
                rows.tobytes(),
                one.vocabulary and one.vocabulary.content,
            )
        return found, load(f"file:{tmp_path / 'a.tsv'}")

    there = look()
    bounded.end()
    assert there == look()


#: What is opened by a link: of each kind of file what took longest or most.
BY_LINK = ["room for 8 GB, in 500 bytes", "a tokenizer of 99 MB of tables", "a tokenizer of tables within the bound",
           "a header of a million tables", "settings of 1.9 million strings", "an adapter of 20 GB"]  # fmt: skip


@pytest.mark.whole
def test_a_server_that_is_sent_all_of_them_answers_and_stays_small(server, tmp_path):
    port = int(server.rpartition(":")[2])
    own = next(
        c.pid
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid
    )
    with Visitor(server) as visitor:
        assert not visitor.open("fine_tune", {}) or not visitor.errors()  # everything that a page needs is loaded
    over, longest = threading.Event(), [0.0]

    def watch():
        while not over.is_set():
            began = time.monotonic()
            urllib.request.urlopen(f"{server}/_stcore/health", timeout=120).read()
            longest[0] = max(longest[0], time.monotonic() - began)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with highest(own) as most:
            for number, name in enumerate(BY_LINK):
                make, says = bombs.CHECKPOINTS[name]
                source = str(make(tmp_path / f"{number}"))
                with Visitor(server) as visitor:
                    visitor.open("checkpoints", {"base": source, "tuned": source})
                    assert any(says in error for error in visitor.errors()), (name, visitor.errors())
            for number, (name, (make, says)) in enumerate(bombs.TEXTS.items()):
                kind, _, where = make(tmp_path / f"text{number}").partition(":")
                query = {"tune_corpus": KINDS[kind], "tune_where": where, "tune_from": "English", "tune_to": "French"}
                with Visitor(server) as visitor:
                    visitor.open("fine_tune", query)
                    assert any(says in error for error in visitor.errors()), (name, visitor.errors())
    finally:
        over.set()
        watcher.join()
    assert all(taken < MOST for taken in most), most
    assert longest[0] < 5, (
        f"nobody was answered for {longest[0]:.1f} s"
    )  # nine and more before; a busy machine takes its time
