"""Adapters whose base is not where they say: the base of the pair is taken, if it fits, and it is said."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from helpers import samples
from ks_core.__main__ import main
from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.readers import adapter as reader
from ks_core.checkpoints.tensors import open_pair
from ks_core.errors import CheckpointError
from ks_core.store import access
from ks_core.study.scan import Study

ROWS = np.full((2, 16), 0.5, np.float32)
#: What training machines leave behind as the name of the base; the adapter's own folder stands for itself.
NAMES = ["meta-llama/Llama-2-7b-hf", "/content/base", "./base", "a\0b", None, "", 7, "{itself}"]


def tokens(folder, base, ids=(3, 5), rows=ROWS):
    """Changed rows of an adapter that names its base so."""
    write_trainable_tokens(folder, list(ids), rows, base="x")
    path = folder / "adapter_config.json"
    named = str(folder) if base == "{itself}" else base
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": named}))
    return folder


@pytest.mark.parametrize("named", NAMES)
def test_the_base_that_was_given_is_used_and_said(tmp_path, tiny_folder, named):
    folder = tokens(tmp_path / "a", named)
    study = Study(str(tiny_folder), str(folder))
    scan = study.scan()
    assert scan.token_ids[scan.changed].tolist() == [3, 5]
    (note,) = (n for n in study.pair.notes if "the base that was given" in n)
    assert (
        note.startswith("a names ")
        and "64 rows of 16" in note
        and ("names no base" in note) == (named in (None, "", 7))
    )
    assert "laid_on:the given base, instead of" in str(scan.signature)
    with pytest.raises(CheckpointError):
        open_checkpoint(str(folder))


def test_the_command_says_it(tmp_path, tiny_folder, capsys):
    folder = tokens(tmp_path / "a", "/content/base")
    for more in ([], ["--layers"]):
        assert main(["scan", str(tiny_folder), str(folder), *more]) == 0
        said = capsys.readouterr().out
        assert "a names /content/base as its base, which is not here. It is laid on tiny" in said and "laid_on:" in said


def test_a_base_that_is_here_is_not_exchanged(tmp_path, tiny_folder):
    other = samples.write(tmp_path / "other", samples.folder())
    folder = tokens(tmp_path / "a", str(tiny_folder))
    found = open_checkpoint(str(folder), beside=str(other))
    assert found.base.path == tiny_folder and not found.instead_of and not found.facts


def test_a_base_that_does_not_fit_is_refused_with_both_figures(tmp_path, tiny_folder):
    wide = tokens(tmp_path / "wide", "/content/base", rows=np.ones((2, 24), np.float32))
    with pytest.raises(
        CheckpointError, match=r"names /content/base .* does not fit tiny.* rows of 24 values, its base rows of 16"
    ):
        _ = Study(str(tiny_folder), str(wide)).pair
    beyond = tokens(tmp_path / "beyond", "/content/base", ids=(3, 500))
    with pytest.raises(CheckpointError, match=r"does not fit tiny.* ids from 3 to 500, its base has 64 rows"):
        _ = Study(str(tiny_folder), str(beyond)).pair


def test_a_lora_elsewhere_has_to_fit_the_weights_that_it_changes(tmp_path, tiny_folder):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "base_model_name_or_path": "/content/base"})
    )
    where = "base_model.model.model.layers.0.self_attn.q_proj."
    for width, message in ((24, r"does not fit tiny.*16 x 24 .*its base has 16 x 16"), (16, None)):
        low = {"lora_A.weight": np.ones((2, width), np.float32), "lora_B.weight": np.ones((16, 2), np.float32)}
        save_file({where + name: array for name, array in low.items()}, folder / "adapter_model.safetensors")
        if message is None:
            assert open_checkpoint(str(folder), beside=str(tiny_folder)).elsewhere == "q_proj"
            continue
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(str(folder), beside=str(tiny_folder))


def test_a_ticket_knows_its_base_by_the_hash(tmp_path, tiny_folder):
    folder = tokens(tmp_path / "a", "/content/base")
    right = open_checkpoint(str(tiny_folder)).content_hash[:12]
    for known in (right, "0123456789ab"):
        (folder / "ticket.json").write_text(json.dumps({"signature": f"base:tiny@{known}|tuned:x@{'9' * 12}"}))
        if known == right:
            assert open_checkpoint(str(folder), beside=str(tiny_folder)).instead_of == "/content/base"
            continue
        with pytest.raises(CheckpointError, match=rf"begins with 0123456789ab; that of tiny begins with {right}"):
            open_checkpoint(str(folder), beside=str(tiny_folder))


def test_an_id_is_not_fetched_where_a_base_is_given(tmp_path, tiny_folder, monkeypatch):
    asked = []
    monkeypatch.setattr(reader.hub, "download", lambda *a: asked.append(a))
    open_checkpoint(str(tokens(tmp_path / "a", "org/large")), beside=str(tiny_folder))
    assert not asked


def test_an_adapter_over_one_whose_base_is_elsewhere(tmp_path, tiny_folder):
    lower = tokens(tmp_path / "lower", "/content/base")
    upper = tokens(tmp_path / "upper", str(lower), ids=(7, 9))
    study = Study(str(tiny_folder), str(upper))
    scan = study.scan()
    assert scan.token_ids[scan.changed].tolist() == [3, 5, 7, 9]
    assert any("lower names /content/base" in note for note in study.pair.notes)


def test_a_base_outside_the_roots_is_as_good_as_none(tmp_path, tiny_folder, monkeypatch):
    """Whether there is anything is not told: the given base is taken either way."""
    (tmp_path / "outside").mkdir()
    samples.write(tmp_path / "outside" / "base", samples.folder())
    monkeypatch.setenv(access.ROOTS, str(tiny_folder) + ":" + str(tmp_path / "in"))
    for name in ("base", "nothing"):
        folder = tokens(tmp_path / "in" / name, str(tmp_path / "outside" / name))
        assert open_checkpoint(str(folder), beside=str(tiny_folder)).base.path == tiny_folder


def test_a_read_only_server_shows_it_as_it_was_prepared(tmp_path, tiny_folder, monkeypatch):
    """What the adapter names is opened by nobody there, whatever lies under that name by now."""
    other = samples.write(tmp_path / "other", samples.folder())
    folder = tokens(tmp_path / "a", "/content/base")
    assert main(["prepare", "Rows", str(tiny_folder), str(folder)]) == 0
    for named in ("/content/base", str(other), "org/large"):
        tokens(folder, named)
        monkeypatch.setenv(access.READ_ONLY, "1")
        study = Study(str(tiny_folder), str(folder))
        assert study.cached_scan() is not None and study.tuned.base.path == tiny_folder
        monkeypatch.delenv(access.READ_ONLY)


def test_layers_and_runs_use_it_too(tmp_path, tiny_folder):
    import torch

    from ks_core.tuning import runnable
    from ks_core.tuning.models import load_model

    folder = tokens(tmp_path / "a", "/content/base")
    before, after = open_pair(str(tiny_folder), str(folder))
    assert before.content_hash("model.embed_tokens.weight") != after.content_hash("model.embed_tokens.weight")
    runnable.check(str(tiny_folder), str(folder))
    with pytest.raises(CheckpointError):
        runnable.check(str(folder))
    model, _ = load_model(str(folder), beside=str(tiny_folder))
    np.testing.assert_array_equal(model.get_input_embeddings()(torch.tensor([3, 5])).detach().numpy(), ROWS)


def test_a_run_scores_it_on_the_runs_base(tmp_path, tiny_folder, tiny_plan):
    from ks_core.tuning.runs import run

    plan = tiny_plan(
        ["base", "tuned"], tuned=str(tokens(tmp_path / "a", "/content/base", ids=range(3, 60), rows=np.ones((57, 16))))
    )
    arms = run(plan, tmp_path / "run", lambda *a, **k: None)["arms"]
    assert [arm["error"] for arm in arms] == ["", ""]
    assert arms[0]["evaluation"] != arms[1]["evaluation"]
