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
    """The app on a free port, on the demo, as `make app` leaves it."""
    from helpers.serving import serving
    from ks_core.checkpoints import demo
    from ks_core.study.scan import Study

    Study(demo.BASE, demo.TUNED).scan()
    with serving(demo_home / "server.log") as address:
        yield address
        assert "Traceback" not in (demo_home / "server.log").read_text()


@pytest.fixture
def browser():
    """A Chromium that draws WebGL in software."""
    from playwright.sync_api import sync_playwright

    from helpers.browsing import ARGUMENTS, CHROMIUM

    assert CHROMIUM, "Chromium is needed here and was not found: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def keep(request):
    """Whether pictures are to be kept."""
    return request.config.getoption("--keep-screenshots")


def pytest_addoption(parser):
    parser.addoption("--keep-screenshots", action="store_true", help="take the README's pictures anew")
