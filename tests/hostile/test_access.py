"""Where the program may look, and what a read-only server shows."""

import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from streamlit.testing.v1 import AppTest

from helpers.page_names import PAGES
from helpers.places import APP
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.commands.program import main
from ks_core.errors import AccessError, KSLotteryError, SettingsError
from ks_core.jobs import queue
from ks_core.store import access, prepared
from ks_core.translation import corpora


@pytest.fixture
def tuned(tmp_path, tiny_folder):
    folder = tmp_path / "tuned"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][3:13] += np.float32(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Only ``open`` beside the checkpoints may be looked into."""
    folder = tmp_path / "open"
    folder.mkdir()
    monkeypatch.setenv(access.ROOTS, str(folder))
    return folder


def test_without_a_bound_everything_is_opened(tiny_folder):
    assert access.roots() is None and open_checkpoint(str(tiny_folder)).shape == (64, 16)


def test_inside_a_root(roots, tiny_folder):
    shutil.copytree(tiny_folder, roots / "model")
    assert open_checkpoint(str(roots / "model")).shape == (64, 16)
    assert open_checkpoint(str(roots / "model" / "model.safetensors")).shape == (64, 16)
    assert open_checkpoint(str(roots / ".." / "open" / "model")).shape == (64, 16)


def test_outside_a_root_nothing_is_said_of_what_is_there(roots, tiny_folder, tmp_path):
    """A file that is there and one that is not give the same words."""
    words = set()
    for source in (tiny_folder, tiny_folder / "model.safetensors", tmp_path / "nothing", "/etc/passwd",
                   roots / ".." / "tiny"):  # fmt: skip
        with pytest.raises(AccessError) as caught:
            open_checkpoint(str(source))
        words.add(str(caught.value).replace(str(source), "X"))
    assert len(words) == 1 and str(roots) in words.pop()


def test_a_link_does_not_lead_out(roots, tiny_folder):
    (roots / "link").symlink_to(tiny_folder)
    with pytest.raises(AccessError, match="outside the folders"):
        open_checkpoint(str(roots / "link"))
    (roots / "model").mkdir()
    for file in tiny_folder.iterdir():
        (roots / "model" / file.name).symlink_to(file)
    with pytest.raises(KSLotteryError):
        open_checkpoint(str(roots / "model"))


def test_an_adapter_does_not_lead_out_by_its_base(roots, tiny_folder, tmp_path):
    from ks_core.checkpoints.adapters import write_trainable_tokens

    write_trainable_tokens(roots / "adapter", [3, 5], np.ones((2, 16), np.float32), base=str(tiny_folder))
    with pytest.raises(AccessError, match="outside the folders"):
        open_checkpoint(str(roots / "adapter"))


def test_text_comes_from_inside_too(roots, tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("\n".join(f"one two three {i}\tun deux trois {i}" for i in range(200)))
    with pytest.raises(AccessError):
        corpora.load(f"file:{pairs}", source_language="A", target_language="B")
    with pytest.raises(AccessError):
        corpora.load(f"flores:{tmp_path}#eng,fra")
    shutil.move(pairs, roots / "pairs.tsv")
    assert corpora.load(f"file:{roots / 'pairs.tsv'}", source_language="A", target_language="B").train


@pytest.mark.parametrize("value", ["/no/such/folder", "relative", os.pathsep.join(["/", "nowhere"])])
def test_a_slip_in_the_roots_opens_nothing(monkeypatch, tiny_folder, value):
    monkeypatch.setenv(access.ROOTS, value)
    with pytest.raises(SettingsError, match=access.ROOTS):
        open_checkpoint(str(tiny_folder))


def test_read_only_says_yes_or_no(monkeypatch):
    for value, expected in {"1": True, "true": True, "0": False, "": False, "off": False}.items():
        monkeypatch.setenv(access.READ_ONLY, value)
        assert access.read_only() is expected
    monkeypatch.setenv(access.READ_ONLY, "maybe")
    with pytest.raises(SettingsError, match="Expected 1 or 0"):
        access.read_only()


def test_prepared_studies_are_kept_tested_and_forgotten(tiny_folder, tuned, capsys):
    assert main(["prepare", "Mine", str(tiny_folder), str(tuned)]) == 0
    assert main(["prepare", "Mine", str(tiny_folder), str(tuned)]) == 0
    mine = [s for s in prepared.studies() if s.name == "Mine"]
    assert len(mine) == 1 and mine[0].tuned == str(tuned)
    from ks_core.study.scan import Study

    assert Study(mine[0].base, mine[0].tuned).cached_scan() is not None
    capsys.readouterr()
    assert main(["prepare"]) == 0 and "Mine: " in capsys.readouterr().out
    assert main(["prepare", "Mine", "--forget"]) == 0 and "Mine" not in capsys.readouterr().out
    assert main(["prepare", "Mine", "--forget"]) == 2 and "no prepared study" in capsys.readouterr().err
    assert main(["prepare", "Mine"]) == 2 and main(["prepare", "demo:x", str(tiny_folder), str(tuned)]) == 2
    assert main(["prepare", "Bad", str(tiny_folder), "/nowhere"]) == 2
    assert not [s for s in prepared.studies() if s.name == "Bad"]


def test_read_only_shows_what_was_prepared_and_starts_nothing(tiny_folder, tuned, monkeypatch, tmp_path):
    assert main(["prepare", "Mine", str(tiny_folder), str(tuned)]) == 0
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    monkeypatch.setenv(access.READ_ONLY, "1")
    assert open_checkpoint(str(tuned)).shape == (64, 16)
    with pytest.raises(AccessError, match="not among the studies"):
        open_checkpoint(str(other))
    with pytest.raises(AccessError, match="nothing is started"):
        queue.submit("scan", {"base": str(tiny_folder), "tuned": str(tuned)})
    with pytest.raises(AccessError, match="read-only"):
        corpora.load(f"file:{tmp_path}/x.tsv")
    assert not queue.all_jobs()


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_a_read_only_server(page, tiny_folder, tuned, monkeypatch):
    assert main(["prepare", "Mine", str(tiny_folder), str(tuned)]) == 0
    monkeypatch.setenv(access.READ_ONLY, "1")
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"], at.query_params["tuned"] = str(tiny_folder), str(tuned)
    at = at.run()
    assert not at.exception and not at.error
    assert at.sidebar.selectbox(key="study").value == "Mine" and not at.sidebar.text_input
    at.session_state["alpha"] = 0.05
    at = at.switch_page(f"pages/{page}.py").run()
    assert not at.exception and not at.error
    starts = ("Start", "Run", "Make", "Test every", "Cancel", "Go on", "Open")
    assert not [b.label for b in at.button if b.label.startswith(starts)]
    assert not queue.all_jobs()


def test_a_link_to_a_pair_that_is_not_shown(tiny_folder, tuned, monkeypatch, demo_home):
    monkeypatch.setenv(access.READ_ONLY, "1")
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"], at.query_params["tuned"] = "/etc", str(tuned)
    at = at.run()
    assert not at.exception and "not shown on this server" in at.warning[0].value
