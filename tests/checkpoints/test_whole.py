"""Weights alone can be tested and not run: said before a run is begun. And a model of the hub is fetched whole to be run."""

from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from helpers.samples import folder, safetensors, write
from ks_core.checkpoints import whole
from ks_core.commands.program import main
from ks_core.errors import CheckpointError, ModelError
from ks_core.jobs import queue
from ks_core.study.scan import Study
from ks_core.tuning.models import load_model, load_tokenizer


@pytest.fixture
def weights(tmp_path):
    """A folder with weights and nothing else."""
    return str(write(tmp_path / "weights", {"model.safetensors": safetensors(), "README.md": b""}))


def test_what_is_missing_is_named(tmp_path, weights, tiny_folder):
    with pytest.raises(ModelError, match=r"lacks config\.json and a tokenizer"):
        whole.check(weights)
    with pytest.raises(ModelError, match=r"model\.safetensors lacks config"):
        load_model(f"{weights}/model.safetensors")
    (Path(weights) / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="lacks a tokenizer"):
        whole.check(weights)
    whole.check(str(tiny_folder))
    whole.check(str(write(tmp_path / "sample", folder())))


def test_no_run_is_begun_with_weights_alone(weights, capsys):
    for words in (["tune", weights, weights, "--arms", "base"], ["evaluate", weights], ["audit", weights, weights]):
        assert main(words) == 2
        assert "need the whole model" in capsys.readouterr().err
    assert not queue.all_jobs("tune")


def test_pages_say_so_instead_of_offering_a_run(weights):
    Study(weights, weights).scan()
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"] = at.query_params["tuned"] = weights
    at = at.run().switch_page("pages/fine_tune.py").run()
    assert not at.exception and "need the whole model" in at.error[0].value
    assert not [b for b in at.button if b.label == "Start the run"]


def test_a_model_of_the_hub_is_loaded_with_all_its_shards(tmp_path, monkeypatch, tiny_model, tiny_tokenizer):
    """From the hub's cache as its library lays it out; a shard that is not there and cannot be fetched is said."""
    from huggingface_hub import constants

    commit = "a" * 40
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / commit
    (tmp_path / "models--org--tiny" / "refs").mkdir(parents=True)
    (tmp_path / "models--org--tiny" / "refs" / "main").write_text(commit)
    tiny_model.save_pretrained(snapshot, max_shard_size="5KB")
    tiny_tokenizer.save_pretrained(snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model, _ = load_model("org/tiny")
    assert torch.equal(model.get_input_embeddings().weight, tiny_model.get_input_embeddings().weight)
    assert torch.equal(model.lm_head.weight, tiny_model.lm_head.weight)
    assert load_tokenizer("org/tiny").vocab_size == 64
    last = sorted(snapshot.glob("*.safetensors"))[-1]
    last.unlink()
    with pytest.raises(CheckpointError, match="could not be had from the hub"):
        load_model("org/tiny")
