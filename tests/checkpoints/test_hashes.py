"""What is remembered of a hash never outlives the content it was made of."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from ks_core.checkpoints import hashes
from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError
from ks_core.store import workspace

NAME = "model.embed_tokens.weight"


def save(path, value):
    save_file({NAME: np.full((40, 4), value, np.float32)}, path)
    return str(path)


def rewrite_last_byte(path):
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_a_hash_is_computed_once_and_read_from_the_workspace_after(tmp_path, monkeypatch):
    source = save(tmp_path / "m.safetensors", 1)
    first = open_checkpoint(source).content_hash
    assert len(list((workspace.home() / "hashes").iterdir())) == 1
    monkeypatch.setattr(hashes, "blocks", lambda *_: pytest.fail("hashed again"))
    assert open_checkpoint(source).content_hash == first


def test_a_file_replaced_between_opening_and_hashing(tmp_path):
    """The map still shows the old content: its hash must not be remembered as the new file's."""
    path = tmp_path / "m.safetensors"
    opened = open_checkpoint(save(path, 1))
    save(tmp_path / "new.safetensors", 2)
    os.replace(tmp_path / "new.safetensors", path)
    with pytest.raises(CheckpointError, match="changed"):
        _ = opened.content_hash
    expected = open_checkpoint(save(tmp_path / "same.safetensors", 2)).content_hash
    assert open_checkpoint(str(path)).content_hash == expected


def test_content_changed_with_its_time_put_back(tmp_path):
    path = tmp_path / "m.safetensors"
    before = open_checkpoint(save(path, 1)).content_hash
    kept = path.stat()
    rewrite_last_byte(path)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (kept.st_size, kept.st_mtime_ns)
    assert open_checkpoint(str(path)).content_hash != before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"hash": 3}', b'{"stamp": "x", "hash": "0"}'])
def test_a_spoiled_memory_is_not_believed(tmp_path, content):
    source = save(tmp_path / "m.safetensors", 1)
    first = open_checkpoint(source).content_hash
    (kept,) = (workspace.home() / "hashes").iterdir()
    kept.write_bytes(content)
    assert open_checkpoint(source).content_hash == first


def test_a_workspace_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "no-folder").write_text("a file where the workspace should be")
    monkeypatch.setenv("KS_LOTTERY_HOME", str(tmp_path / "no-folder"))
    assert len(open_checkpoint(save(tmp_path / "m.safetensors", 1)).content_hash) == 64


def test_dtype_and_shape_are_part_of_the_content():
    zeros = np.zeros((4, 6), np.float32)
    found = {
        hashes.of_matrix(m)
        for m in (
            ArrayMatrix(zeros),
            ArrayMatrix(zeros.reshape(6, 4)),
            ArrayMatrix(zeros.view(np.float16)),
            ArrayMatrix(zeros.view(np.uint16), "bfloat16"),
        )
    }
    assert len(found) == 4


def test_the_hash_does_not_depend_on_how_many_stretches_are_hashed_at_a_time(monkeypatch):
    rows = ArrayMatrix(np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float32))
    monkeypatch.setattr(hashes, "STRETCH", 4096)
    found = set()
    for count in (1, 7):
        monkeypatch.setattr(hashes.os, "cpu_count", lambda count=count: count)
        found.add(hashes.of_matrix(rows))
    assert len(found) == 1
