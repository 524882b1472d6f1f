"""What the tests share: a workspace of their own, and tiny models built on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Before any test imports a library that reads these: nothing may ask a network, and two cores are few.
os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"})
# A server opens its pages once by itself after its first answer: none that is tried for something else needs it.
os.environ["KS_LOTTERY_WARM_UP"] = "0"

#: The demo's base is prepared once and kept between runs of the tests: making it takes half a minute.
DEMO_HOME = Path(os.environ.get("KS_LOTTERY_TEST_HOME", Path.home() / ".cache" / "ks-lottery-tests"))


@pytest.fixture(autouse=True)
def workspace_folder(tmp_path_factory, monkeypatch):
    """Every test has an empty workspace, so none finds what another left."""
    folder = tmp_path_factory.mktemp("workspace")
    monkeypatch.setenv("KS_LOTTERY_HOME", str(folder))
    # Nor what comes with the program: pages are tried as for a pair of which nothing is known. ``evidence`` has it shown.
    monkeypatch.setenv("KS_LOTTERY_SHIPPED", "0")
    yield folder
    # A page turns an error that nobody expected into a sentence, and a test of the page might pass over it.
    written = folder / "logs" / "ks-lottery.log"
    assert not written.is_file() or "Traceback" not in written.read_text(encoding="utf-8"), written.read_text()


@pytest.fixture(scope="session")
def forked():
    """The process that jobs of the tests are forked from."""
    from helpers.forked import Forked

    source = Forked()
    yield source
    source.end()


@pytest.fixture(autouse=True)
def jobs_are_forked(request, forked, monkeypatch):
    """A job of a test need not load torch anew (``helpers.forked``), but where its start is what is tried."""
    if not any(request.node.get_closest_marker(name) for name in ("real_start", "soak", "slurm")):
        monkeypatch.setattr("ks_core.jobs.processes.start", forked.start)


@pytest.fixture(scope="session")
def demo_models():
    """The folder of prepared demo models, outside any test's workspace."""
    from ks_core.checkpoints import demo

    previous = os.environ.get("KS_LOTTERY_HOME")
    os.environ["KS_LOTTERY_HOME"] = str(DEMO_HOME)
    try:
        demo.prepare_base()
    finally:
        if previous is None:
            del os.environ["KS_LOTTERY_HOME"]
        else:
            os.environ["KS_LOTTERY_HOME"] = previous
    return DEMO_HOME / "models"


@pytest.fixture
def demo_home(workspace_folder, demo_models):
    """This test's workspace, with the demo's base in it."""
    (workspace_folder / "models").symlink_to(demo_models)
    return workspace_folder


@pytest.fixture
def evidence(demo_home, monkeypatch):
    """The shipped results, shown over this test's workspace, in which nothing was made but the demo's base."""
    from ks_core.checkpoints import demo_files
    from ks_core.store import shipped

    monkeypatch.setenv("KS_LOTTERY_SHIPPED", "1")
    monkeypatch.setattr(shipped, "_check", None)
    demo_files.show_evidence()
    return shipped.FOLDER


@pytest.fixture(scope="session")
def tiny_model():
    """A two-layer Llama with a 64-token vocabulary and rows of 16, tied, always the same."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A word-level tokenizer over 64 entries: three special ones, then w3 to w63."""
    from helpers import tiny_text

    return tiny_text.tokenizer()


@pytest.fixture
def tiny_folder(tmp_path, tiny_model, tiny_tokenizer):
    """The tiny model as transformers saves it, tokenizer included."""
    folder = tmp_path / "tiny"
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_pair(tmp_path, tiny_folder):
    """The tiny model, and the same with ten rows moved; parallel text for it."""
    import shutil

    import numpy as np
    from safetensors.numpy import load_file, save_file

    from helpers import tiny_text

    tuned = tmp_path / "tuned"
    shutil.copytree(tiny_folder, tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.embed_tokens.weight"][3:13] += np.random.default_rng(0).normal(0, 3, (10, 16)).astype(np.float32)
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    return str(tiny_folder), str(tuned), tiny_text.corpus(tmp_path, 150, two_words=True)


@pytest.fixture
def tiny_plan(tiny_folder, tmp_path):
    """A function that plans a short run of these arms on the tiny model; other settings by name."""
    from helpers import tiny_text
    from ks_core.tuning.arms import parse_arm
    from ks_core.tuning.plans import Plan

    corpus = tiny_text.corpus(tmp_path, 800)

    def make(arms, **changes):
        recipe = {"steps": 12, "batch_size": 5, "learning_rate": 0.05}
        settings = {"sentences": 35, "max_new_tokens": 4, "prompt": "w3 {source} w4", "tuned": "", **changes}
        return Plan(
            base=str(tiny_folder), corpus=corpus, device="cpu",
            arms=tuple(parse_arm(a, [7, 9], **recipe) for a in arms), **settings,
        )  # fmt: skip

    return make


@pytest.fixture
def server(demo_home):
    """The app on a free port, on the demo, as `make app` leaves it: for tests that change what is in its workspace."""
    from helpers.serving import serving
    from ks_core.checkpoints import demo
    from ks_core.study.scan import Study

    Study(demo.BASE, demo.TUNED).scan()
    with serving(demo_home / "server.log") as address:
        yield address
        assert "Traceback" not in (demo_home / "server.log").read_text()


def _showroom(home, demo_models, shipped):
    """The app on a free port, on the demo, once for all who only look: its address and its workspace."""
    from helpers.serving import serving
    from ks_core.checkpoints import demo
    from ks_core.study.scan import Study

    (home / "models").symlink_to(demo_models)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KS_LOTTERY_HOME", str(home))
        patch.setenv(
            "KS_LOTTERY_SHIPPED", "0"
        )  # set for a test only later; with what ships there would be nothing to make
        Study(demo.BASE, demo.TUNED).scan()
    with serving(home / "server.log", KS_LOTTERY_HOME=str(home), KS_LOTTERY_SHIPPED=shipped) as address:
        yield address, home


def _visited(address, home, monkeypatch):
    """The address, for one test; afterwards what was logged meanwhile is looked at."""
    monkeypatch.setenv("KS_LOTTERY_HOME", str(home))
    logs = [home / "server.log", home / "logs" / "ks-lottery.log"]
    before = [log.stat().st_size if log.is_file() else 0 for log in logs]
    yield address
    for log, size in zip(logs, before, strict=True):
        said = log.read_bytes()[size:].decode() if log.is_file() else ""
        assert "Traceback" not in said, said


@pytest.fixture(scope="session")
def showroom(tmp_path_factory, demo_models):
    """An app that many look at, with the results that ship with the demo."""
    yield from _showroom(tmp_path_factory.mktemp("showroom"), demo_models, "1")


@pytest.fixture
def shown(showroom, monkeypatch):
    """The address of an app with the results that ship with the demo, for a test that leaves nothing in its workspace."""
    yield from _visited(*showroom, monkeypatch)


@pytest.fixture(scope="session")
def bare_room(tmp_path_factory, demo_models):
    """An app that many look at, in whose workspace nothing but the demo's scan was made, and which shows nothing that ships."""
    yield from _showroom(tmp_path_factory.mktemp("bare"), demo_models, "0")


@pytest.fixture
def bare(bare_room, monkeypatch):
    """The address of an app that shows the demo's scan alone, for a test that leaves nothing in its workspace."""
    yield from _visited(*bare_room, monkeypatch)


@pytest.fixture(scope="module")
def chromium():
    """A Chromium that draws WebGL in software, once for a file."""
    from playwright.sync_api import sync_playwright

    from helpers.browsing import ARGUMENTS, CHROMIUM

    assert CHROMIUM, "Chromium is needed here and was not found: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def browser(chromium):
    """A browser in which nothing is open or kept of another test."""
    yield chromium
    for context in chromium.contexts:
        context.close()


@pytest.fixture
def keep(request):
    """Whether pictures are to be kept."""
    return request.config.getoption("--keep-screenshots")


#: Files that take long, about the longest first: they begin, so that no process is left alone with one at the end.
LONGEST = (
    "browser/test_every_page.py", "jobs/test_world.py", "browser/test_main_way.py", "hostile/test_read_only.py", "browser/test_first_visit.py",
    "hostile/test_text_drawn.py", "tuning/test_run.py", "tuning/test_trainer.py", "hostile/test_faults.py", "jobs/test_interruptions.py",
    "hostile/test_bounded.py", "hostile/test_bad_inputs.py", "ledger/test_jobs.py", "pages/test_every_page.py", "trajectory/test_recorder.py",
    "tuning/test_architectures.py", "pages/test_first_visit.py", "teaching/test_lessons.py", "audit/test_whole.py", "audit/test_inquiry.py",
    "test_package.py", "test_documents.py", "hostile/test_door.py", "hostile/test_pickles.py", "tuning/test_scoring.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """``LONGEST`` first; within a file everything stays in its order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: places.get(item.path.relative_to(here).as_posix(), len(places)))


def pytest_addoption(parser):
    parser.addoption("--keep-screenshots", action="store_true", help="take the README's pictures anew")
