"""Values with scales beside them: made the numbers that they stand for, block by block, and refused where the scales do not fit."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers import samples
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.pairs import match
from ks_core.errors import CheckpointError

NAME, STEM = samples.NAME, samples.NAME.removesuffix("weight")
DRAWN = torch.Generator().manual_seed(0)


def opened(place, tensors, **settings):
    place.mkdir(parents=True, exist_ok=True)
    save_file(tensors, place / "model.safetensors")
    if settings:
        (place / "config.json").write_text(json.dumps(settings))
    return open_checkpoint(str(place))


def whole(found):
    return found.matrix.block(0, found.shape[0])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_every_byte_is_the_float_that_torch_makes_of_it(tmp_path, dtype):
    every = torch.arange(256, dtype=torch.uint8).reshape(16, 16).view(dtype)
    found = opened(tmp_path, {NAME: every, NAME + "_scale": torch.tensor(0.5)})
    np.testing.assert_array_equal(whole(found), every.float().numpy() * np.float32(0.5))
    assert found.stored.startswith("F8_") and found.dtype == "float32"


@pytest.mark.parametrize("shape", [(300, 200), (256, 128), (5, 130)])
def test_scales_of_blocks(tmp_path, shape):
    """DeepSeek's: a scale for each block of 128 x 128, the last ones cut off."""
    raw = torch.randn(shape, generator=DRAWN).to(torch.float8_e4m3fn)
    scales = torch.rand(-(-shape[0] // 128), -(-shape[1] // 128), generator=DRAWN) + 0.5
    wanted = raw.float() * scales.repeat_interleave(128, 0)[: shape[0]].repeat_interleave(128, 1)[:, : shape[1]]
    found = opened(tmp_path, {NAME: raw, NAME + "_scale_inv": scales})
    np.testing.assert_array_equal(whole(found), wanted.numpy())
    low = max(0, shape[0] - 40)
    np.testing.assert_array_equal(found.matrix.block(low, shape[0]), wanted[low:].numpy())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_mlx_packs_from_the_lowest_bit_on(tmp_path, bits):
    """A row is one long number: the first value in its lowest bits. Written here by Python's own long numbers."""
    rows, width, group = 7, 64, 32
    values = torch.randint(0, 2**bits, (rows, width), generator=DRAWN).numpy()
    longs = [sum(int(value) << bits * place for place, value in enumerate(row)) for row in values]
    packed = np.stack([np.frombuffer(one.to_bytes(width * bits // 8, "little"), "<u4") for one in longs])
    scales, low = (torch.randn(rows, width // group, generator=DRAWN) for _ in range(2))
    tensors = {NAME: torch.from_numpy(packed.copy()), STEM + "scales": scales, STEM + "biases": low}
    found = opened(tmp_path, tensors, quantization={"group_size": group, "bits": bits})
    wanted = values.reshape(rows, -1, group) * scales[..., None].numpy() + low[..., None].numpy()
    np.testing.assert_allclose(whole(found), wanted.reshape(rows, width), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.matrix.block(3, 5), whole(found)[3:5])
    assert found.stored == f"MLX, {bits} bits"


def test_a_row_of_bitsandbytes_has_its_largest_value(tmp_path):
    tensors = {
        NAME: torch.tensor([[127, -127, 0], [0, 127, 64]], dtype=torch.int8),
        STEM + "SCB": torch.tensor([2.0, 127.0]),
    }
    np.testing.assert_allclose(whole(opened(tmp_path, tensors)), [[2, -2, 0], [0, 127, 64]], rtol=1e-6)


@pytest.mark.parametrize(("tensors", "says"), [
    ({NAME: torch.zeros(4, 8, dtype=torch.int8)}, "stored as I8"),
    ({NAME: torch.zeros(4, 8, dtype=torch.int8), STEM + "SCB": torch.ones(5)}, "no scale of"),
    ({NAME: torch.zeros(4, 8, dtype=torch.int8), STEM + "SCB": torch.ones(4, dtype=torch.int32)}, "no scale of"),
    ({NAME: torch.zeros(4, 8).to(torch.float8_e4m3fn), NAME + "_scale": torch.ones(3, 1)}, "no scale of"),
    ({NAME: torch.zeros(4, 8, dtype=torch.uint32)}, "stored as U32"),
    ({NAME: torch.zeros(4, 7, dtype=torch.uint32), STEM + "scales": torch.ones(4, 2), STEM + "biases": torch.ones(4, 2)}, "2 to 8 bits"),
    ({NAME: torch.zeros(4, 8, dtype=torch.uint32), STEM + "scales": torch.ones(4, 1), STEM + "biases": torch.ones(4, 2)}, "no scale of"),
], ids=str)  # fmt: skip
def test_without_scales_that_fit_it_is_refused_by_name(tmp_path, tensors, says):
    with pytest.raises(CheckpointError, match=says):
        opened(tmp_path, tensors)


def test_rounding_is_not_taken_for_training(tmp_path):
    """One row was moved, and that is what is found: between two of a kind, and against what was there before it was quantized."""
    quantized = samples.scaled()
    base = opened(tmp_path / "base", {n: torch.from_numpy(v) for n, v in quantized.items()})
    moved = {n: torch.from_numpy(v.copy()) for n, v in quantized.items()}
    moved[NAME][3] = -moved[NAME][3]
    tuned, plain = opened(tmp_path / "tuned", moved), opened(tmp_path / "plain", {NAME: torch.from_numpy(samples.ROWS)})
    for before in (base, plain):
        pair = match(before, tuned)
        changed = (np.asarray(pair.before.block(0, 12)) != np.asarray(pair.after.block(0, 12))).any(axis=1)
        assert np.nonzero(changed)[0].tolist() == [3], before.label
