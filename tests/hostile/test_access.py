"""Where the program may look, and what a read-only server shows."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from streamlit.testing.v1 import AppTest

from helpers import samples, tiny_text
from helpers.page_names import PAGES
from helpers.places import APP
from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.commands.program import main
from ks_core.errors import AccessError, CorpusError, KSLotteryError, SettingsError
from ks_core.jobs import queue
from ks_core.store import access, prepared
from ks_core.translation import corpora
from ks_core.tuning import memory, trainings


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


@pytest.mark.parametrize("kind", ["file", "nothing"])
def test_files_of_a_flores_folder_are_inside_too(roots, tmp_path, kind):
    """A language that is a link out, or a folder that is one, shows neither text nor whether there is any."""
    (tmp_path / "dev").mkdir()
    lines = "\n".join(f"one two three {i}" for i in range(200))
    for folder in (roots, tmp_path / "dev") if kind == "file" else (roots,):
        (folder / "eng.dev").write_text(lines)
    (roots / "fra.dev").symlink_to(tmp_path / "dev" / "eng.dev")
    with pytest.raises(AccessError, match=r"fra\.dev is outside the folders"):
        corpora.load(f"flores:{roots}#eng,fra", source_language="A", target_language="B")
    (roots / "fra.dev").unlink()
    (roots / "dev").symlink_to(tmp_path / "dev")
    if kind == "file":
        (tmp_path / "dev" / "fra.dev").write_text(lines)
    with pytest.raises(CorpusError, match="holds no file for fra"):
        corpora.load(f"flores:{roots}#eng,fra", source_language="A", target_language="B")
    (roots / "in").mkdir()
    (roots / "in" / "fra.dev").write_text(lines.replace("one", "un"))
    assert corpora.load(f"flores:{roots}#eng,fra", source_language="A", target_language="B").train


CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "vocab_size": 64,
}


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_a_config_that_is_a_link_out_is_not_read(tmp_path, monkeypatch, bounded, there):
    model = samples.write(tmp_path / "open" / "model", samples.folder(config__json=json.dumps(CONFIG).encode()))
    if bounded:
        monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))
    assert memory.shape_of(str(model)).layers == 2
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(tmp_path / ("config.json" if there else "nothing"))
    assert memory.shape_of(str(model)) is None


def test_notes_of_a_training_are_inside_too(roots, tmp_path, tiny_plan):
    """A run in the roots says how its arm was trained; not if its plan is a link out, or if the run is outside."""
    signature = "base:tiny@0123456789ab|corpus:pairs@0123456789ab"
    for run in (roots / "run", tmp_path / "run"):
        (run / "arms" / "00-embed" / "adapter").mkdir(parents=True)
        (run / "plan.json").write_text(json.dumps(tiny_plan(["embed"]).as_dict()))
        (run / "arms" / "00-embed" / "result.json").write_text(json.dumps({"signature": signature}))
    assert trainings.of(str(roots / "run" / "arms" / "00-embed" / "adapter")).kind == "embed"
    assert trainings.of(str(tmp_path / "run" / "arms" / "00-embed" / "adapter")) is None
    (roots / "run" / "plan.json").unlink()
    (roots / "run" / "plan.json").symlink_to(tmp_path / "run" / "plan.json")
    assert trainings.of(str(roots / "run" / "arms" / "00-embed" / "adapter")) is None
    assert trainings.of("~nobody-of-this-name/x") is None


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


def test_read_only_opens_what_was_prepared_whatever_leads_there(tiny_folder, tmp_path, monkeypatch):
    """An adapter's base was opened when the study was prepared; one that it comes to name later is not opened."""
    base, other, rows = tmp_path / "base", tmp_path / "other", tmp_path / "rows"
    for folder in (base, other):
        shutil.copytree(tiny_folder, folder)
    monkeypatch.chdir(tmp_path)
    write_trainable_tokens(rows, [3, 5], np.ones((2, 16), np.float32), base="./base")  # not as the study names it
    assert main(["prepare", "Rows", str(tiny_folder), str(rows)]) == 0
    assert [s.under for s in prepared.studies()] == [("./base", str(base))]
    monkeypatch.setenv(access.READ_ONLY, "1")
    assert open_checkpoint(str(rows)).base.path.resolve() == base
    settings = json.loads((rows / "adapter_config.json").read_text())
    for name in ("./other", str(other), str(tmp_path / "nothing"), "./base/../other", "org/name", f"demo:{other}"):
        (rows / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": name}))
        with pytest.raises(KSLotteryError, match=r"not among the studies|The demo has no run"):
            open_checkpoint(str(rows))
    with pytest.raises(AccessError, match="not among the studies"):
        open_checkpoint(str(rows), base=str(other))
    (rows / "adapter_config.json").write_text(json.dumps(settings))
    samples.write(tmp_path / "cwd" / "base", samples.folder())
    monkeypatch.chdir(tmp_path / "cwd")  # where the same name means another folder
    with pytest.raises(AccessError, match="not among the studies"):
        open_checkpoint(str(rows))


def test_read_only_follows_no_link_out_of_a_prepared_study(tiny_folder, tuned, tmp_path, monkeypatch):
    other = tmp_path / "elsewhere"
    shutil.copytree(tiny_folder, other)
    assert main(["prepare", "Mine", str(tiny_folder), str(tuned / "model.safetensors")]) == 0
    monkeypatch.setenv(access.READ_ONLY, "1")
    assert open_checkpoint(str(tuned / "model.safetensors")).vocabulary is not None
    (tuned / "model.safetensors").unlink()
    (tuned / "model.safetensors").symlink_to(other / "model.safetensors")
    with pytest.raises(AccessError, match="not among the studies"):
        open_checkpoint(str(tuned / "model.safetensors"))


def test_read_only_reads_no_notes_but_those_of_the_workspace(tmp_path, tiny_plan, monkeypatch):
    run = tmp_path / "run"
    (run / "arms" / "00-embed" / "adapter").mkdir(parents=True)
    (run / "plan.json").write_text(json.dumps(tiny_plan(["embed"]).as_dict()))
    (run / "arms" / "00-embed" / "result.json").write_text('{"signature": "base:a@0123456789ab|corpus:b@0123456789ab"}')
    assert trainings.of(str(run / "arms" / "00-embed" / "adapter")) is not None
    monkeypatch.setenv(access.READ_ONLY, "1")
    assert trainings.of(str(run / "arms" / "00-embed" / "adapter")) is None


@pytest.mark.parametrize(
    "name", ["hub:org/name#a,b", "file:{here}/pairs.tsv", "flores:{here}#eng,fra", "file:pairs.tsv"]
)
@pytest.mark.parametrize("there", [True, False])
def test_read_only_reads_packs_alone(tmp_path, monkeypatch, name, there):
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "pairs.tsv").write_text(tiny_text.pairs(200))
    monkeypatch.setenv(access.READ_ONLY, "1")
    with pytest.raises(AccessError, match="is not read here: this server is read-only"):
        corpora.load(name.format(here=tmp_path), source_language="A", target_language="B")
    assert corpora.load("pack:fr-FR").train


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
