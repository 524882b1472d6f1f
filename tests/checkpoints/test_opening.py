"""Opening checkpoints: every source gives the same matrix, and what is broken or hostile is explained."""

import contextlib
import json
import pickle
import shutil
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.numpy import save_file

from ks_core.checkpoints import safetensors_file
from ks_core.checkpoints.gguf_file import open_gguf
from ks_core.checkpoints.matrices import to_floats
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.pairs import match
from ks_core.errors import CheckpointError, PairError

NAME = "model.embed_tokens.weight"


def rows_of(checkpoint):
    m = checkpoint.matrix
    return to_floats(m.block(0, m.shape[0]), m.dtype)


@pytest.fixture
def rows(tiny_model):
    return tiny_model.get_input_embeddings().weight.detach().numpy()


def write_gguf(path, rows, tokens):
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t.startswith("<") else 1 for t in tokens])
    writer.add_tensor("token_embd.weight", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sources(tmp_path, tiny_folder, tiny_model, rows):
    """The same embedding in every form a user may bring it in."""
    yield "folder", tiny_folder
    sharded = tmp_path / "sharded"
    tiny_model.save_pretrained(sharded, max_shard_size="5KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    yield "shards", sharded
    yield "file", tiny_folder / "model.safetensors"
    torch.save(dict(tiny_model.state_dict()), tmp_path / "model.bin")
    yield "bin", tmp_path / "model.bin"
    folder = tmp_path / "torch"
    folder.mkdir()
    torch.save({"state_dict": dict(tiny_model.state_dict())}, folder / "pytorch_model.bin")
    yield "bin folder", folder
    write_gguf(tmp_path / "model.gguf", rows, [f"w{i}" for i in range(64)])
    yield "gguf", tmp_path / "model.gguf"


def test_every_source_gives_the_same_matrix_and_hash(tmp_path, tiny_folder, tiny_model, rows):
    hashes = set()
    for kind, path in sources(tmp_path, tiny_folder, tiny_model, rows):
        found = open_checkpoint(str(path))
        np.testing.assert_array_equal(rows_of(found), rows, err_msg=kind)
        assert found.shape == (64, 16) and found.dtype == "float32"
        hashes.add(found.content_hash)
    assert len(hashes) == 1


def test_tied_or_not(tmp_path, tiny_folder, tiny_model):
    assert open_checkpoint(str(tiny_folder)).tied is True
    save_file(
        {NAME: np.ones((4, 2), np.float32), "lm_head.weight": np.ones((4, 2), np.float32)},
        tmp_path / "model.safetensors",
    )
    assert open_checkpoint(str(tmp_path)).tied is False


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_kept(tmp_path, rows, dtype):
    from safetensors.torch import save_file as save_torch

    tensor = torch.from_numpy(rows.copy()).to(dtype)
    save_torch({NAME: tensor}, tmp_path / "m.safetensors")
    found = open_checkpoint(str(tmp_path / "m.safetensors"))
    assert found.dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_array_equal(rows_of(found), tensor.float().numpy())
    torch.save({NAME: tensor}, tmp_path / "m.bin")
    np.testing.assert_array_equal(rows_of(open_checkpoint(str(tmp_path / "m.bin"))), tensor.float().numpy())


def test_the_hash_follows_the_content_and_not_the_place(tmp_path, tiny_folder):
    first = open_checkpoint(str(tiny_folder)).content_hash
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    assert open_checkpoint(str(copy)).content_hash == first
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    at = safetensors_file.tensors(copy / "model.safetensors")[NAME].start
    data[at] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert open_checkpoint(str(copy)).content_hash != first


def test_adapters_that_peft_saves(tmp_path, tiny_folder, tiny_model):
    """Each kind, saved by peft itself, gives the rows that peft computes with."""
    import copy

    from peft import LoraConfig, TrainableTokensConfig, get_peft_model

    kinds = {
        "tokens": TrainableTokensConfig(token_indices=[9, 5], target_modules=["embed_tokens"]),
        "lora": LoraConfig(r=4, lora_alpha=7, target_modules=["embed_tokens"]),
        "rslora": LoraConfig(r=4, lora_alpha=7, use_rslora=True, target_modules=["embed_tokens"]),
        "inside": LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3, 40]}),
        "saved": LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    }
    ids = torch.arange(64)[None]
    for kind, config in kinds.items():
        model = get_peft_model(copy.deepcopy(tiny_model), config)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and "embed" in name:
                    parameter += torch.randn(parameter.shape, generator=generator)
            expected = model.get_input_embeddings()(ids)[0].numpy()
        folder = tmp_path / kind
        model.save_pretrained(folder)
        settings = json.loads((folder / "adapter_config.json").read_text())
        settings["base_model_name_or_path"] = str(tiny_folder)
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        found = open_checkpoint(str(folder))
        np.testing.assert_allclose(rows_of(found), expected, atol=1e-6, err_msg=kind)
        assert found.base is not None and "adapter on tiny" in found.kind
        if kind in ("tokens", "inside"):
            assert len(found.changed_ids) == 2
            pair = match(found.base, found)
            changed = (rows_of(found.base) != pair.after.block(0, 64)).any(axis=1)
            np.testing.assert_array_equal(np.nonzero(changed)[0], found.changed_ids)


def test_an_adapters_base_can_be_named(tmp_path, tiny_folder):
    from ks_core.checkpoints.adapters import write_trainable_tokens

    write_trainable_tokens(tmp_path / "a", [3], np.ones((1, 16), np.float32), base="/nowhere/at/all")
    with pytest.raises(CheckpointError, match="adapter on /nowhere/at/all"):
        open_checkpoint(str(tmp_path / "a"))
    assert open_checkpoint(str(tmp_path / "a"), base=str(tiny_folder)).shape == (64, 16)


@pytest.mark.parametrize(
    ("ids", "width", "says"), [([64], 16, "0 to 63|64 rows"), ([3, 3], 16, "once"), ([3], 8, "rows of 8")]
)
def test_adapters_that_do_not_fit(tmp_path, tiny_folder, ids, width, says):
    from ks_core.checkpoints.adapters import write_trainable_tokens

    write_trainable_tokens(tmp_path / "a", ids, np.ones((len(ids), width), np.float32), base=str(tiny_folder))
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(str(tmp_path / "a"))


def header(**tensors):
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def tensor(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(("data", "says"), [
    (b"", "0 bytes"),
    (b"\x00" * 4, "no header"),
    (struct.pack("<Q", 10**12), "no header"),
    (struct.pack("<Q", 500) + b"{}", "cut short"),
    (struct.pack("<Q", 4) + b"nope", "not JSON"),
    (struct.pack("<Q", 2) + b"[]", "no table"),
    (struct.pack("<Q", 20000) + b"[" * 20000, "not JSON"),
    (header(**{NAME: tensor()}), "cut short"),
    (header(**{NAME: tensor(offsets=(0, 10**15))}), "cut short"),
    (header(**{NAME: tensor(offsets=(-16, 0))}) + bytes(16), "cannot be"),
    (header(**{NAME: tensor(offsets=(16, 0))}) + bytes(16), "cannot be"),
    (header(**{NAME: tensor(shape=(2, 3))}) + bytes(16), "cannot be"),
    (header(**{NAME: tensor(shape=(-2, -2))}) + bytes(16), "cannot be"),
    (header(**{NAME: tensor(shape=(2, "x"))}) + bytes(16), "cannot be"),
    (header(**{NAME: 3}) + bytes(16), "cannot be"),
    (header(**{NAME: tensor(), "b": tensor(offsets=(8, 24))}) + bytes(24), "overlap"),
    (header(**{NAME: tensor("F8_E4M3", offsets=(0, 4))}) + bytes(4), "F8_E4M3"),
    (header(**{NAME: tensor("I32")}) + bytes(16), "I32"),
    (header(**{NAME: tensor(shape=(4,))}) + bytes(16), "two dimensions"),
    (header(**{"something.else": tensor()}) + bytes(16), "something.else"),
    (header(**{"a." + NAME: tensor(), "b." + NAME: tensor(offsets=(16, 32))}) + bytes(32), "several embeddings"),
    (struct.pack("<Q", 130) + (b'{"%s":{"dtype":"F32"},"%s":{"dtype":"F32"}}' % (NAME.encode(), NAME.encode())).ljust(130), "twice"),
])  # fmt: skip
def test_safetensors_that_cannot_be(tmp_path, data, says):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(str(path))


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_no_bytes_break_the_readers(tmp_path_factory, noise, at, byte):
    folder = tmp_path_factory.mktemp("fuzz")
    good = header(**{NAME: tensor()}) + bytes(16)
    spoiled = bytearray(good)
    spoiled[at % len(good)] = byte
    for name, data in (
        ("a.safetensors", noise),
        ("b.safetensors", bytes(spoiled)),
        ("c.gguf", noise),
        ("d.gguf", b"GGUF" + noise),
    ):
        (folder / name).write_bytes(data)
        with contextlib.suppress(CheckpointError):
            open_checkpoint(str(folder / name)).matrix.block(0, 1)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "folder/pytorch_model.bin"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, name):
    """The file that loading it would create is never created."""
    mark = tmp_path / "created"
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    torch.save({NAME: torch.ones(2, 2), "x": Bomb(mark)}, path)
    with pytest.raises(CheckpointError, match="more than weights"):
        open_checkpoint(str(path.parent if "/" in name else path))
    path.write_bytes(pickle.dumps(Bomb(mark)))
    mark.unlink(missing_ok=True)
    with pytest.raises(CheckpointError):
        open_checkpoint(str(path))
    assert not mark.exists()


def test_links_out_of_the_folder_are_refused_and_the_hubs_own_followed(tmp_path, rows):
    outside = tmp_path / "outside.safetensors"
    save_file({NAME: rows}, outside)
    for folder in (tmp_path / "links", tmp_path / "hub" / "snapshots" / "abc"):
        folder.mkdir(parents=True)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {NAME: "s.safetensors"}}))
    (tmp_path / "links" / "s.safetensors").symlink_to(outside)
    with pytest.raises(CheckpointError, match="leads out"):
        open_checkpoint(str(tmp_path / "links"))
    blobs = tmp_path / "hub" / "blobs"
    blobs.mkdir()
    shutil.move(outside, blobs / "f00")
    (tmp_path / "hub" / "snapshots" / "abc" / "s.safetensors").symlink_to("../../blobs/f00")
    assert open_checkpoint(str(tmp_path / "hub" / "snapshots" / "abc")).shape == (64, 16)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": ".."}}'],
)
def test_indexes_that_cannot_be(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"no index|outside|cannot be read as JSON"):
        open_checkpoint(str(tmp_path))


def test_a_quantized_gguf_is_dequantized_block_by_block(tmp_path):
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    rows = np.random.default_rng(0).standard_normal((10, 64)).astype(np.float32)
    packed = quants.quantize(rows, GGMLQuantizationType.Q8_0)
    writer = GGUFWriter(tmp_path / "q.gguf", "llama")
    writer.add_token_list([f"t{i}" for i in range(10)])
    writer.add_tensor("token_embd.weight", packed, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = open_checkpoint(str(tmp_path / "q.gguf"))
    expected = quants.dequantize(packed, GGMLQuantizationType.Q8_0)
    np.testing.assert_array_equal(found.matrix.block(3, 7), expected[3:7])
    assert found.stored == "Q8_0" and found.shape == (10, 64)
    data = (tmp_path / "q.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:-200])
    with pytest.raises(CheckpointError, match="cut short"):
        open_checkpoint(str(tmp_path / "cut.gguf"))
    wild = bytearray(data)
    wild[8:16] = struct.pack("<Q", 1 << 60)
    (tmp_path / "wild.gguf").write_bytes(wild)
    with pytest.raises(CheckpointError, match="claims"):
        open_gguf(tmp_path / "wild.gguf")


def vocabulary_file(folder, pieces):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))


def test_vocabularies_are_matched_by_string(tmp_path):
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    vocabulary_file(base, ["a", "b", "c", "d"])
    vocabulary_file(tuned, ["b", "a", "new", "d", "c"])
    first = np.arange(8, dtype=np.float32).reshape(4, 2)
    save_file({NAME: first}, base / "model.safetensors")
    save_file({NAME: np.stack([first[1], first[0], [9, 9], first[3], first[2]])}, tuned / "model.safetensors")
    pair = match(open_checkpoint(str(base)), open_checkpoint(str(tuned)))
    assert pair.by == "string" and pair.tuned_only.tolist() == [2] and len(pair.base_only) == 0
    np.testing.assert_array_equal(pair.before.block(0, 4), pair.after.block(0, 4))
    assert any("no partner" in note for note in pair.notes)
    vocabulary_file(tuned, ["v", "w", "x", "y", "z"])
    with pytest.raises(PairError, match="share no token"):
        match(open_checkpoint(str(base)), open_checkpoint(str(tuned)))


def test_a_padded_embedding_is_matched_by_position_where_the_tokenizer_is_the_same(tmp_path):
    for name, n in (("base", 4), ("tuned", 8)):
        vocabulary_file(tmp_path / name, ["a", "b", "c"])
        save_file({NAME: np.ones((n, 2), np.float32)}, tmp_path / name / "model.safetensors")
    pair = match(open_checkpoint(str(tmp_path / "base")), open_checkpoint(str(tmp_path / "tuned")))
    assert pair.by == "id" and len(pair.base_ids) == 4 and pair.tuned_only.tolist() == [4, 5, 6, 7]


def test_a_hub_id_without_a_network_is_one_sentence():
    with pytest.raises(CheckpointError, match="could not be had from the hub"):
        open_checkpoint("no-such-org/no-such-model@main")


def test_a_tied_output_layer_stands_for_the_embedding_only_where_nothing_else_may_be_it(tmp_path):
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    head = {"lm_head.weight": np.ones((4, 2), np.float32)}
    for other, says in (
        ("decoder.embed_positions.weight", ""),
        ("decoder.my_embedder.weight", "decoder.my_embedder.weight"),
    ):
        save_file(head | {other: np.zeros((6, 2), np.float32)}, tmp_path / "model.safetensors")
        if says:
            with pytest.raises(CheckpointError, match=says):
                open_checkpoint(str(tmp_path))
        else:
            found = open_checkpoint(str(tmp_path))
            assert (found.tensor, found.tied) == ("lm_head.weight", True)
