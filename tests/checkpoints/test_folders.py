"""A folder with weights in several places: what transformers loads is read, and what else is there is said."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from ks_core.checkpoints.adapters import WEIGHTS, write_trainable_tokens
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.pairs import match
from ks_core.errors import CheckpointError
from ks_core.study.layers import scan_layers

NAME = "model.embed_tokens.weight"
SINGLE = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}


def write(folder, name, tensors):
    tensors = {key: value.detach().clone() for key, value in tensors.items()}
    if name.endswith(".bin"):
        torch.save(tensors, folder / name)
    else:
        save_file(tensors, folder / name, metadata={"format": "pt"})


def rows_of(checkpoint):
    return checkpoint.matrix.block(0, checkpoint.shape[0])


@pytest.fixture
def tuned(tiny_model):
    """The model with two rows that were moved."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.get_input_embeddings().weight[[3, 50]] += 0.5
    return model


@pytest.fixture
def save(tmp_path, tiny_model, tuned):
    """A folder in which an older saving, the tiny model's in shards, was followed by one of the tuned model in a file."""

    def saved(ending, shards=True):
        folder = tmp_path / f"{ending}-{shards}"
        tuned.config.save_pretrained(folder)
        state, names = dict(tiny_model.state_dict()), [f"model-0000{n}-of-00002.{ending}" for n in (1, 2)]
        if shards:
            write(folder, names[0], {NAME: state.pop(NAME)})
            write(folder, names[1], state)
        index = {"metadata": {}, "weight_map": {key: names[key != NAME] for key in tiny_model.state_dict()}}
        (folder / f"{SINGLE[ending]}.index.json").write_text(json.dumps(index))
        write(folder, SINGLE[ending], tuned.state_dict())
        return folder

    return saved


@pytest.mark.parametrize("ending", SINGLE)
@pytest.mark.parametrize("shards", [True, False], ids=["its shards too", "the index alone"])
def test_an_index_that_was_left_behind_counts_for_nothing(save, tuned, ending, shards):
    folder = save(ending, shards)
    loaded = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight.detach().numpy()
    found = open_checkpoint(str(folder))
    np.testing.assert_array_equal(rows_of(found), loaded)
    np.testing.assert_array_equal(loaded, tuned.get_input_embeddings().weight.detach().numpy())
    index = f"{SINGLE[ending]}.index.json"
    assert found.notes == (
        f"{folder.name} holds {SINGLE[ending]} and also {index}: {SINGLE[ending]} was read, as transformers does.",
    )


def test_the_layers_are_read_from_where_the_embedding_is(save, tiny_folder):
    folder = save("safetensors")
    assert open_checkpoint(str(folder)).weight_files() == [folder / "model.safetensors"]
    changed = [t.name for t in scan_layers(str(tiny_folder), str(folder)).tensors if t.changed() > 0]
    assert NAME in changed, "and in a tied model the output layer, which is the same matrix"


def test_of_two_formats_safetensors_is_read_and_the_pair_says_so(save, tiny_folder, tiny_model):
    folder = save("safetensors")
    write(folder, "pytorch_model.bin", tiny_model.state_dict())
    (folder / "old-Q8_0.gguf").write_bytes(b"GGUF")
    pair = match(open_checkpoint(str(tiny_folder)), open_checkpoint(str(folder)))
    assert np.nonzero((pair.before.block(0, 64) != pair.after.block(0, 64)).any(axis=1))[0].tolist() == [3, 50]
    said = next(note for note in pair.notes if "was read" in note)
    assert "also model.safetensors.index.json, pytorch_model.bin, old-Q8_0.gguf: model.safetensors was read" in said


def test_a_folder_with_one_kind_of_weights_says_nothing(tiny_folder, tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    assert open_checkpoint(str(tiny_folder)).notes == open_checkpoint(str(tmp_path / "shards")).notes == ()


def test_an_adapter_says_what_else_lies_beside_it_and_its_base_too(save, tmp_path):
    folder = save("safetensors")
    write_trainable_tokens(tmp_path / "adapter", [7], np.ones((1, 16), np.float32), base=str(folder))
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"older")
    found = open_checkpoint(str(tmp_path / "adapter"))
    assert found.notes == (
        f"adapter holds {WEIGHTS} and also adapter_model.bin: {WEIGHTS} was read, as transformers does.",
    )
    notes = match(open_checkpoint(str(folder)), found).notes
    assert [note.partition(" ")[0] for note in notes if "was read" in note] == [folder.name, "adapter"]


def test_shards_that_are_gone_are_named_with_what_is_there_instead(save):
    folder = save("safetensors", shards=False)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the shard model-00001-of-00002.safetensors .* again\.$"):
        open_checkpoint(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"old")
    with pytest.raises(CheckpointError, match=r"Download it again, or open pytorch_model.bin by its own path\.$"):
        open_checkpoint(str(folder))


def test_of_a_hub_model_the_single_file_is_taken_too(save, tuned, tmp_path, monkeypatch):
    """A cache as the hub's library lays it out, of a repository to which a later saving added the single file."""
    from huggingface_hub import constants

    root = tmp_path / "models--org--tiny"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("a" * 40)
    save("safetensors").rename(tmp_path / "saved")
    (root / "snapshots").mkdir()
    (tmp_path / "saved").rename(root / "snapshots" / ("a" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    np.testing.assert_array_equal(
        rows_of(open_checkpoint("org/tiny")), tuned.get_input_embeddings().weight.detach().numpy()
    )
