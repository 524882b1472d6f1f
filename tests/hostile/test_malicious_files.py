"""Files made to deceive or to exhaust: each is refused in a sentence, and soon."""

import json
import os
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError

NAME = "model.embed_tokens.weight"
ROWS = np.arange(32, dtype=np.float32).reshape(8, 4)


def told(source):
    """The message for a source that is refused. It is one line without anything that a terminal would act upon."""
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(str(source)).matrix.block(0, 1)
    message = str(raised.value)
    assert message.isprintable() and 20 < len(message) < 2100
    return message


def safetensors(path, text, data=bytes(16)):
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_shape_of_a_million_huge_dimensions(tmp_path):
    """Multiplying them out would take hours."""
    entry = {NAME: {"dtype": "F32", "shape": [2**47] * 1_000_000, "data_offsets": [0, 16]}}
    assert "cannot be" in told(safetensors(tmp_path / "m.safetensors", json.dumps(entry).encode()))


@pytest.mark.parametrize("name", ["emb\\ud800\\u001b[2J", "emb\\u202e", "emb" + "x" * 1_000_000])
def test_names_that_would_spoil_a_terminal(tmp_path, name):
    text = b'{"%s":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}' % name.encode()
    assert "no input embedding" in told(safetensors(tmp_path / "m.safetensors", text))


@pytest.mark.parametrize("file", ["\\ud800.safetensors", "a\\u0000b", "..\\\\x", "../x", "/etc/passwd", ".", ""])
def test_shards_that_are_no_file_names(tmp_path, file):
    text = f'{{"weight_map": {{"{NAME}": "{file}"}}}}'
    (tmp_path / "model.safetensors.index.json").write_text(text)
    assert "outside its folder" in told(tmp_path)


@pytest.mark.parametrize("source", ["a\0b", "~no-such-user-here/x", "x" * 5000, "/dev/null", "a/b\ud800"])
def test_sources_that_are_no_paths(source):
    told(source)


def test_a_pipe_in_the_place_of_a_file_does_not_make_it_wait(tmp_path):
    save_file({NAME: ROWS}, tmp_path / "model.safetensors")
    os.mkfifo(tmp_path / "config.json")
    os.mkfifo(tmp_path / "tokenizer.json")
    found = open_checkpoint(str(tmp_path))
    assert found.vocabulary is None and found.shape == (8, 4)


def bin_file(path, value, **options):
    torch.save(value, path, **options)
    return path


def holding_itself():
    table = {}
    table["state_dict"] = table
    return table


@pytest.mark.parametrize(("value", "says"), [
    ({NAME: torch.ones(1).as_strided((1 << 20, 1 << 18), (0, 0))}, "claims the shape"),
    ({NAME: torch.eye(4).to_sparse()}, "no plain values"),
    ({NAME: torch.ones(4, 2, device="meta")}, "no plain values"),
    ({NAME: torch.ones(4, 2).to(torch.float8_e4m3fn)}, "float8_e4m3fn"),
    ({NAME: torch.ones(4, 2, dtype=torch.int8)}, "int8"),
    ({NAME: torch.ones(4)}, "two dimensions"),
    (holding_itself(), "no input embedding"),
    ([torch.ones(2, 2)], "no table"),
], ids=["stride 0", "sparse", "meta", "fp8", "int8", "vector", "itself", "list"])  # fmt: skip
def test_pytorch_files_that_are_no_plain_embedding(tmp_path, value, says):
    assert says in told(bin_file(tmp_path / "m.bin", value))


def test_a_compressed_pytorch_file_is_not_unpacked(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    assert "torch does not write" in told(tmp_path / "m.bin")


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["new", "old format"])
def test_pytorch_files_as_people_have_them(tmp_path, options):
    rows = torch.from_numpy(ROWS.copy())
    for value in ({NAME: torch.nn.Parameter(rows)}, {NAME: rows.T.contiguous().T}, {"model": {NAME: rows}}):
        found = open_checkpoint(str(bin_file(tmp_path / "m.bin", value, **options)))
        np.testing.assert_array_equal(found.matrix.block(0, 8), ROWS)


def test_one_tensor_under_two_names_is_tied(tmp_path):
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    rows = torch.from_numpy(ROWS.copy())
    bin_file(tmp_path / "pytorch_model.bin", {NAME: rows, "lm_head.weight": rows})
    assert open_checkpoint(str(tmp_path)).tied is True
    bin_file(tmp_path / "pytorch_model.bin", {NAME: rows, "lm_head.weight": rows + 1})
    assert open_checkpoint(str(tmp_path)).tied is False


@pytest.mark.parametrize("sharded", [True, False])
def test_a_hub_id_in_the_cache_needs_no_network_and_one_shard(tmp_path, monkeypatch, sharded):
    """A cache as the hub's library lays it out: links from a snapshot to blobs, and only the embedding's shard."""
    from huggingface_hub import constants

    root, commit = tmp_path / "models--org--tiny", "a" * 40
    snapshot = root / "snapshots" / commit
    for folder in (snapshot, root / "refs", root / "blobs"):
        folder.mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    name = "one.safetensors" if sharded else "model.safetensors"
    save_file({NAME: ROWS}, root / "blobs" / "f00")
    (snapshot / name).symlink_to("../../blobs/f00")
    if sharded:
        index = {"weight_map": {NAME: name, "lm_head.weight": "never-fetched.safetensors"}}
        (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = open_checkpoint("org/tiny")
    assert found.shape == (8, 4) and found.label == "org/tiny"
    np.testing.assert_array_equal(found.matrix.block(0, 8), ROWS)
