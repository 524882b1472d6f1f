"""Where a checkpoint lies: parts of one model joined or missed by name, one level below or above what was named, and no further."""

import json

import numpy as np
import pytest
import torch

from helpers import samples
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError
from ks_core.store import access

ROWS = torch.from_numpy(samples.ROWS)


def parts(place, axis, count, settings=None, **tensors):
    """Meta's parts of the rows, with further tensors in each."""
    for n, part in enumerate(ROWS.chunk(count, axis)):
        files = {f"consolidated.{n:02}.pth": samples.torch_file({"tok_embeddings.weight": part.clone(), **tensors})}
        samples.write(place, files | ({"params.json": json.dumps(settings).encode()} if settings else {}))
    return place


@pytest.mark.parametrize(("axis", "about"), [
    (1, {"settings": {"dim": 32}}), (0, {"settings": {"dim": 32}}), (1, {"norm.weight": ROWS[0].clone()}),
    (0, {"layers.0.attention_norm.weight": ROWS[0].clone()}), (1, {"output.weight": torch.zeros(6, 32)}),
    (0, {"output.weight": torch.zeros(6, 32)}),
], ids=lambda value: str(value)[:40])  # fmt: skip
def test_parts_are_joined_as_the_width_says(tmp_path, axis, about):
    parts(tmp_path, axis, 2, **about)
    for source in (tmp_path, tmp_path / "consolidated.00.pth", tmp_path / "consolidated.01.pth"):
        found = open_checkpoint(str(source))
        np.testing.assert_array_equal(found.matrix.block(0, 12), samples.ROWS)
        assert found.kind == "original folder, 2 parts"


@pytest.mark.parametrize(("axis", "count", "gone", "about", "says"), [
    (1, 2, (1,), {"settings": {"dim": 32}}, r"1 of 2 .*consolidated\.01\.pth"),
    (1, 4, (2, 3), {"norm.weight": ROWS[0].clone()}, r"2 of 4 .*consolidated\.02\.pth, consolidated\.03\.pth"),
    (1, 4, (1,), {"norm.weight": ROWS[0].clone()}, r"3 of 4 .*consolidated\.01\.pth"),
    (1, 2, (0,), {}, r"1 of 2 .*consolidated\.00\.pth"),
    (0, 2, (1,), {"settings": {"dim": 32, "vocab_size": 12}}, r"1 of 2 .*consolidated\.01\.pth"),
    (0, 2, (1,), {"settings": {"dim": 32}, "layers.0.attention.wq.weight": torch.zeros(16, 32)}, r"1 of 2 .*consolidated\.01\.pth"),
    (1, 2, (), {"settings": {"dim": 40}}, "different models"),
], ids=lambda value: str(value)[:30])  # fmt: skip
def test_a_part_is_never_opened_as_the_whole(tmp_path, axis, count, gone, about, says):
    parts(tmp_path, axis, count, **about)
    for n in gone:
        (tmp_path / f"consolidated.{n:02}.pth").unlink()
    for source in (tmp_path, *tmp_path.glob("*.pth")):
        with pytest.raises(CheckpointError, match=says):
            open_checkpoint(str(source))


def test_parts_that_differ_are_of_no_one_model(tmp_path):
    parts(tmp_path, 1, 2, {"dim": 32})
    samples.write(
        tmp_path, {"consolidated.01.pth": samples.torch_file({"tok_embeddings.weight": ROWS[:8, :16].clone()})}
    )
    with pytest.raises(CheckpointError, match="Expected equal parts of one model"):
        open_checkpoint(str(tmp_path))


def test_heads_that_are_narrower_than_a_row_are_no_missing_part(tmp_path):
    settings = {"dim": 32, "n_heads": 2, "head_dim": 8}
    parts(tmp_path, 1, 1, settings, **{"layers.0.attention.wq.weight": torch.zeros(16, 32)})
    assert open_checkpoint(str(tmp_path)).shape == (12, 32)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "adapter_config.json"])
def test_a_file_that_stands_for_its_folder(tmp_path, name):
    files = samples.folder()
    if name == "adapter_config.json":
        samples.write(tmp_path / "base", files)
        files = samples.ticket(str(tmp_path / "base"))
    elif name != "config.json":
        files |= {name: samples.index({samples.NAME: "model.safetensors"})}
    place = samples.write(tmp_path / "m", files)
    found = open_checkpoint(str(place / name))
    assert (found.path, found.label, found.shape) == (place, "m", (12, 32))


def test_one_below_is_found_and_two_are_named(tmp_path):
    samples.write(tmp_path / "out" / "checkpoint-5", samples.folder())
    samples.write(tmp_path / "out", {"training_args.bin": b"x", "optimizer.pt": b"x", "rng_state.pth": b"x"})
    found = open_checkpoint(str(tmp_path / "out"))
    assert (found.label, found.path) == ("out/checkpoint-5", tmp_path / "out" / "checkpoint-5")
    samples.write(tmp_path / "out" / "checkpoint-9", samples.folder())
    with pytest.raises(CheckpointError, match=r"checkpoint-5, checkpoint-9\)\. .* such as .*out/checkpoint-9"):
        open_checkpoint(str(tmp_path / "out"))


def test_a_checkpoint_hides_what_lies_below_it(tmp_path):
    samples.write(tmp_path, samples.folder())
    samples.write(tmp_path / "checkpoint-5", samples.folder())
    assert open_checkpoint(str(tmp_path)).path == tmp_path


def test_what_is_below_by_a_link_out_is_not_looked_at(tmp_path):
    samples.write(tmp_path / "elsewhere", samples.folder())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint-5").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        open_checkpoint(str(tmp_path / "out"))


def test_what_is_above_is_not_named_outside_the_roots(tmp_path, monkeypatch):
    samples.write(tmp_path / "m", samples.folder())
    (tmp_path / "m" / "runs").mkdir()
    with pytest.raises(CheckpointError, match="The folder above it holds one"):
        open_checkpoint(str(tmp_path / "m" / "runs"))
    monkeypatch.setenv(access.ROOTS, str(tmp_path / "m" / "runs"))
    with pytest.raises(CheckpointError) as told:
        open_checkpoint(str(tmp_path / "m" / "runs"))
    assert "folder above it" not in str(told.value)


def test_one_gguf_beside_the_part_of_a_model_that_sees(tmp_path):
    samples.write(tmp_path, {"m.gguf": samples.gguf(), "mmproj-m.gguf": b"GGUF"})
    assert open_checkpoint(str(tmp_path)).shape == (12, 32)


def test_a_lone_file_is_refused_beside_another(tmp_path):
    files = {"a.gguf": samples.gguf(), "b.gguf": samples.gguf()}
    samples.write(tmp_path, files)
    with pytest.raises(CheckpointError, match=r"holds 2 files of weights .* such as .*/a\.gguf"):
        open_checkpoint(str(tmp_path))
