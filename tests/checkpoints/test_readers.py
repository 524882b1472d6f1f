"""Readers: each says what it is, the first that knows a source opens it, and a new format is one more on the list."""

import subprocess
import sys

import numpy as np
import pytest

from helpers import samples
from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.readers.reader import Reader
from ks_core.checkpoints.readers.registry import READERS
from ks_core.errors import AccessError, CheckpointError
from ks_core.store import access


def is_toy(source):
    return source.path.suffix == ".npy"


def read_toy(source, onward):
    rows = np.load(source.path)
    return Checkpoint(
        source.name, source.label, "NumPy file", source.path, "rows", "F32", ArrayMatrix(rows), file=source.path
    )


@pytest.fixture
def toy():
    yield READERS.add(Reader("npy", "NumPy", "An array of rows.", is_mine=is_toy, read=read_toy))
    READERS.drop("npy")


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "m.npy", samples.ROWS)
    return tmp_path / "m.npy"


def test_every_reader_says_what_it_is():
    assert list(READERS) == ["demo", "hub", "path", "adapter", "original", "safetensors", "pytorch", "gguf", "lone"]
    for name, reader in READERS.items():
        assert reader.name == name and reader.title and reader.about.endswith("."), name


def test_a_new_format_is_one_entry(file, toy, tmp_path):
    found = open_checkpoint(str(file))
    assert (found.kind, found.label, found.shape) == ("NumPy file", "m.npy", (12, 32))
    same = open_checkpoint(str(samples.write(tmp_path / "same", {"m.safetensors": samples.safetensors()})))
    assert found.content_hash == same.content_hash
    write_trainable_tokens(tmp_path / "adapter", [3, 5], np.ones((2, 32), np.float32), base=str(file))
    over = open_checkpoint(str(tmp_path / "adapter"))
    assert over.kind == "peft adapter on m.npy" and over.base is not None and over.base.kind == "NumPy file"


def test_without_its_entry_the_format_is_unknown(file):
    assert "npy" not in READERS
    with pytest.raises(CheckpointError, match=r"ends in \.npy"):
        open_checkpoint(str(file))


def test_no_format_is_asked_before_the_roots_are(file, toy, tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))
    with pytest.raises(AccessError, match="outside the folders"):
        open_checkpoint(str(file))


def test_a_checkpoint_of_any_format_has_rows(toy, tmp_path):
    np.save(tmp_path / "empty.npy", samples.ROWS[:0])
    with pytest.raises(CheckpointError, match="the vocabulary is empty"):
        open_checkpoint(str(tmp_path / "empty.npy"))


@pytest.mark.parametrize(("files", "kind"), [
    (("adapter_config.json", "model.safetensors", "pytorch_model.bin", "m.gguf"), None),
    (("model.safetensors", "pytorch_model.bin", "m.gguf"), "transformers folder"),
    (("pytorch_model.bin", "m.gguf"), "transformers folder"),
    (("m.gguf",), "GGUF file"),
])  # fmt: skip
def test_of_several_in_a_folder_the_first_reader_counts(tmp_path, files, kind):
    content = {
        "model.safetensors": samples.safetensors(),
        "pytorch_model.bin": samples.torch_file(),
        "m.gguf": samples.gguf(),
        "adapter_config.json": b"{}",
    }
    samples.write(tmp_path, {name: content[name] for name in files})
    if kind is None:
        with pytest.raises(CheckpointError, match="does not name its base"):
            open_checkpoint(str(tmp_path))
    else:
        found = open_checkpoint(str(tmp_path))
        assert found.kind == kind and found.file is not None and found.file.name == files[0]


def test_a_folder_whose_weights_are_a_lost_link_is_not_opened_as_gguf(tmp_path):
    samples.write(tmp_path, {"m.gguf": samples.gguf(), "config.json": b"{}"})
    (tmp_path / "model.safetensors").symlink_to("gone")
    with pytest.raises(CheckpointError, match="link to nothing"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["~\0", "~\ud800", "~no-such-user-here"])
def test_homes_of_users_that_cannot_be(name):
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(name)


def test_readers_import_nothing_heavy():
    code = (
        "import sys, ks_core.checkpoints.opening; "
        "print({'torch', 'gguf', 'huggingface_hub', 'transformers', 'safetensors'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
