"""A read-only server: whatever a visitor does, nothing in the workspace changes."""

import hashlib
import time

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from helpers.going_on import going_on
from helpers.page_names import PAGES
from helpers.places import APP
from helpers.serving import Visitor, serving
from ks_core.checkpoints import demo
from ks_core.commands.program import main
from ks_core.errors import AccessError
from ks_core.jobs import queue
from ks_core.store import access, cache
from ks_core.store.cache import Cache
from ks_core.study.scan import Study
from ks_core.tuning import trainings

#: Drawn by a browser on the server, outside the workspace, for seconds each.
DRAWN = ("PNG", "SVG", "PDF")


def everything(folder):
    """All there is below a folder, but the server's own log: size, time of writing and content by name. A folder's time
    of writing tells of a file that came and went."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] != "logs":
            told = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
            found[name] = (told.st_size, told.st_mtime_ns, content)
    models = (folder / "models").resolve()
    return found | {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in models.rglob("*")}


def everything_in(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in folder.rglob("*")}


def log_of(folder):
    return {p.name: p.read_text() for p in (folder / "logs").glob("*")}


@pytest.fixture
def finished(tiny_plan):
    """A run of Fine-tune that is done."""
    job = queue.submit("tune", tiny_plan(["base", "frequent:k=8"]).as_dict())
    assert job.wait(240) == "done", job.log_tail()
    return job


@pytest.fixture
def running(tiny_plan):
    """A run that goes on, and that no visitor ends."""
    with going_on("tune", tiny_plan(["base"]).as_dict()) as (job, process):
        yield job
        assert process.poll() is None, "a visitor has ended it"


def buttons_of_a_server_that_starts_things(pair, *runs):
    """What can be pressed on the same pages of a server that is not read-only, by page: the ids of its buttons."""
    found = {}
    more = [
        ("drift_map", {"map": "UMAP"}),
        ("fine_tune", {"view": "New run"}),
        *(("fine_tune", {"run": r.id}) for r in runs),
    ]
    for page, values in [*((page, {}) for page in PAGES), *more]:
        at = AppTest.from_file(APP, default_timeout=120)
        for name, value in {"base": pair[0], "tuned": pair[1], **values}.items():
            at.query_params[name] = value
        at = at.run().switch_page(f"pages/{page}.py").run()
        assert not at.exception and "did not expect" not in str([e.value for e in at.error]), page
        found.setdefault(page, {}).update({b.proto.id: b.label for b in at.button})
    return found


@pytest.mark.whole
def test_nothing_changes(demo_home, tiny_pair, finished, running, tmp_path):
    """Every page by links and query values; what can be pressed and chosen there; what could be pressed elsewhere; downloads."""
    pair = tiny_pair[:2]
    for base, tuned in ((demo.BASE, demo.TUNED), pair):
        Study(base, tuned).scan()
    assert main(["prepare", "Mine", *pair]) == 0
    forged = buttons_of_a_server_that_starts_things(pair, finished, running)
    labels = {label for buttons in forged.values() for label in buttons.values()}
    assert {"Start the run", "Run the controls", "Cancel", "Make the UMAP"} <= labels, sorted(labels)
    (running.folder / "cancel").write_text(str(time.time() - 1000))  # whoever looks at it now would end it
    mine = {"base": pair[0], "tuned": pair[1]}
    views = [(page, query) for page in PAGES for query in ({}, mine)]
    views += [
        (page, {"tuned": "demo:en-de", "alpha": "0.3"}) for page in ("overview", "audit")
    ]  # which was not tested before
    views += [("drift_map", {**mine, "map": "UMAP"}), ("fine_tune", {**mine, "view": "New run"}), ("learn", {"step": "Ties"}),
              ("fine_tune", {**mine, "run": finished.id}), ("fine_tune", {"run": running.id}), ("overview", {"base": "/etc", "tuned": "/"}),
              ("audit", {**mine, "tune_corpus": "file", "tune_where": "/etc/passwd"}), ("compare", {**mine, "compared": "demo:en-de"}),
              ("winning_tokens", {**mine, "search": "w9", "show": "changed"}), ("ks_test", {**mine, "token": "7", "p_axis": "log"})]  # fmt: skip
    jobs = {job.id for job in queue.all_jobs()}
    before, log = everything(demo_home), log_of(demo_home)
    with serving(tmp_path / "server.log", KS_LOTTERY_READ_ONLY="1") as address, Visitor(address) as visitor:
        pressed, made = set(), 0
        for page, query in views:
            place = (page if page != "overview" else "", query)
            visitor.open(*place)
            assert not [said for said in visitor.errors() if "did not expect" in said], (place, log_of(demo_home))
            (study,) = [w.options[w.default] for w in visitor.widgets("selectbox") if w.label == "Study"]
            meant = {pair[1]: "Mine", "demo:en-de": "demo:en-de"}.get(query.get("tuned"), demo.TUNED)
            assert study == meant, "a link leads to its study, whatever was looked at before"
            others = [(w.id, "bool_value", not w.default) for w in visitor.widgets("checkbox")]
            others += [(w.id, "double_value", w.default + 1) for w in visitor.widgets("number_input") if not w.disabled]
            files = [w.deferred_file_id for w in visitor.widgets("download_button") if w.label not in DRAWN]
            for file in filter(None, files):
                assert not visitor.operate("deferred_file", file_id=file).error_msg, (place, file)
                made += 1
            for button in [w.id for w in visitor.widgets("button") if not w.disabled] + list(forged[page]):
                if (page, button) not in pressed:
                    pressed.add((page, button))
                    visitor.open(*place, [(button, "trigger_value", True)])
            if others:
                visitor.open(*place, others)
        assert len(pressed) > 12 and made > 20, "there was something to press, and to take away"
        for name in ("install_skills", "dismiss_skills_nudge"):
            assert "not available" in visitor.operate(name).error_msg, "Streamlit's own files beside the program"
        visitor.ask(clear_cache=True)
        visitor.open("ks_test", mine)
        assert visitor.widgets("plotly_chart"), "it still shows what it is there for"
    after = everything(demo_home)
    assert after == before, sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    assert {job.id for job in queue.all_jobs()} == jobs
    assert log_of(demo_home) == log, "what is expected of visitors is not written into the log either"
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_the_cache_of_a_read_only_process(workspace_folder, monkeypatch):
    key, arrays = {"of": "a test"}, {"numbers": np.arange(5)}
    Cache().store("scan", key, arrays, {})
    damaged = Cache().path("scan", {"of": "another"})
    damaged.write_bytes(b"damaged")
    before = everything_in(workspace_folder)
    monkeypatch.setenv(access.READ_ONLY, "1")
    assert Cache().load("scan", key).arrays["numbers"].tolist() == [0, 1, 2, 3, 4]
    assert Cache().load("scan", {"of": "another"}) is None and damaged.exists()
    assert Cache().store("drift", {"of": "mine"}, {"numbers": np.arange(3)}, {"note": 1})
    found = Cache().load("drift", {"of": "mine"})
    found.arrays["numbers"][:] = 7  # one visitor's numbers are not another's
    assert Cache().load("drift", {"of": "mine"}).arrays["numbers"].tolist() == [0, 1, 2] and found.note == {"note": 1}
    assert everything_in(workspace_folder) == before
    monkeypatch.delenv(access.READ_ONLY)
    assert Cache().load("drift", {"of": "mine"}) is None, "it lives as long as the read-only process, and there alone"


def test_what_a_read_only_process_keeps_in_memory_is_bounded(workspace_folder, monkeypatch):
    monkeypatch.setenv(access.READ_ONLY, "1")
    monkeypatch.setattr(cache, "MEMORY", 10_000)
    for number in range(20):
        assert Cache().store("drift", {"of": number}, {"numbers": np.zeros(100)}, {})
        assert Cache().load("drift", {"of": 0}) is not None, "what is read stays"
    kept = [number for number in range(20) if Cache().load("drift", {"of": number}) is not None]
    assert 2 < len(kept) < 12 and kept[-1] == 19 and sum(map(len, cache._memory.values())) <= 10_000
    assert not Cache().store("drift", {"of": "much"}, {"numbers": np.zeros(5000)}, {})
    assert not (workspace_folder / "cache").exists()


def test_what_is_known_of_a_training_is_computed_once(demo_home, monkeypatch):
    """It takes seconds, and was written into the cache by the first visitor who looked."""
    monkeypatch.setenv(access.READ_ONLY, "1")
    rebuilt = []
    real = trainings._rebuilt
    monkeypatch.setattr(trainings, "_rebuilt", lambda **told: rebuilt.append(1) or real(**told))
    assert trainings.steps(demo.TUNED) == trainings.steps(demo.TUNED) and rebuilt == [1]
    assert not (demo_home / "cache").exists() and not (demo_home / "hashes").exists()


def test_a_job_is_not_stopped(running, monkeypatch):
    monkeypatch.setenv(access.READ_ONLY, "1")
    before = everything_in(running.folder)
    with pytest.raises(AccessError):
        running.cancel()
    monkeypatch.delenv(access.READ_ONLY)
    assert everything_in(running.folder) == before
    (running.folder / "cancel").write_text(str(time.time() - 1000))
    before = everything_in(running.folder)
    monkeypatch.setenv(access.READ_ONLY, "1")
    running.insist()
    assert everything_in(running.folder) == before


def test_serve_makes_the_demo_ready_for_visitors(demo_home, tmp_path):
    """The one who starts a read-only server is no visitor: the demo's test is kept."""
    command = ("-m", "ks_core", "serve", "--port")
    with serving(tmp_path / "server.log", command, KS_LOTTERY_READ_ONLY="1") as address, Visitor(address) as visitor:
        visitor.open("ks_test")
        assert visitor.widgets("plotly_chart") and not visitor.errors()
        assert any(w.label == "Study" for w in visitor.widgets("selectbox")), "and it is read-only"
    assert Study(demo.BASE, demo.TUNED).cached_scan() is not None
