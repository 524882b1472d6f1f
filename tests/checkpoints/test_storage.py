"""A model against its own rounding has no row that changed, and rows that were trained are found all the same."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type, quants
from safetensors.torch import save_file

from ks_core.checkpoints.gguf_file import QuantizedMatrix
from ks_core.checkpoints.matrices import ArrayMatrix, GatheredMatrix, MappedMatrix, OverlaidMatrix, take, to_floats
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.storage import ggml, grids, rounding
from ks_core.errors import PairError
from ks_core.ks.statistic import ks_test

ROWS = (np.random.default_rng(0).standard_normal((24, 1024)) * 0.02).astype(np.float32)
MOVED = [3, 11, 20]
#: What the gguf package can write. The others are only read.
WRITTEN = ["Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "TQ1_0", "TQ2_0", "MXFP4"]
READ = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "NVFP4"]


@pytest.fixture
def generator():
    return np.random.default_rng(1)


@pytest.fixture
def stored(tmp_path):
    """Rows as a matrix of some storage, by the library that people use for it."""

    def made(rows, kind):
        if kind in ("float32", "float64"):
            return ArrayMatrix(rows.astype(kind))
        if kind in ("float16", "bfloat16"):
            held = torch.from_numpy(rows).to(getattr(torch, kind))
            return ArrayMatrix(
                held.view(torch.int16).numpy().view(np.uint16 if kind == "bfloat16" else np.float16), kind
            )
        return of_bytes(quants.quantize(rows, Type[kind]), kind, rows.shape)

    def of_bytes(raw, kind, shape):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.raw"
        path.write_bytes(raw.tobytes())
        return QuantizedMatrix(MappedMatrix(np.memmap(path, np.uint8, "r", 0, raw.shape), "", path), shape, Type[kind])

    made.of_bytes = of_bytes
    return made


def differing(before, after):
    """Which rows differ in a value once both are on the values that both can hold."""
    one, other = rounding.common(before, after)
    count = before.shape[0]
    return np.nonzero(
        (to_floats(one.block(0, count), one.dtype) != to_floats(other.block(0, count), other.dtype)).any(axis=1)
    )[0]


@pytest.mark.parametrize("size", [1.0, 0.01], ids=["usual", "small"])  # scales of small values are float16's smallest
@pytest.mark.parametrize("kind", ["float16", "bfloat16", *WRITTEN])
@pytest.mark.parametrize("fine", ["float32", "bfloat16", "float16"])
def test_a_model_against_its_own_rounding_has_no_changed_row(stored, fine, kind, size):
    before = stored(ROWS * np.float32(size), fine)
    held = to_floats(before.block(0, 24), before.dtype)
    after = stored(held, kind)
    if fine != kind:
        assert (held != to_floats(after.block(0, 24), after.dtype)).any(), "rounding changes something"
    assert differing(before, after).tolist() == []
    assert differing(after, before).tolist() == []


@pytest.mark.parametrize(("first", "second"), [
    ("bfloat16", "float16"), ("bfloat16", "Q8_0"), ("float16", "Q8_0"), ("bfloat16", "Q4_0"), ("Q8_0", "Q4_0"), ("Q8_0", "Q5_1"),
    ("Q8_0", "MXFP4"), ("float64", "float32")])  # fmt: skip
def test_two_roundings_of_one_model_have_no_changed_row(stored, first, second):
    assert differing(stored(ROWS, first), stored(ROWS, second)).tolist() == []


@pytest.mark.parametrize("kind", ["bfloat16", "float16", *WRITTEN])
def test_rows_that_were_trained_win_and_no_other_row_changed(stored, kind):
    trained = ROWS.copy()
    trained[MOVED] += 0.4
    one, other = rounding.common(stored(ROWS, "float32"), stored(trained, kind))
    found = ks_test(one, other, "cpu", with_shift=True)
    assert np.nonzero(found.pvalue < 0.05)[0].tolist() == MOVED == np.nonzero(found.l2)[0].tolist()


def in_eight_bits(folder, kind):
    """The rows with scales beside them, as torch makes them, and as this program opens them."""
    folder.mkdir()
    rows = torch.from_numpy(ROWS)
    largest = rows.abs().amax(1, keepdim=True)
    name = "model.embed_tokens."
    if kind == "I8":
        named = {name + "weight": (rows / largest * 127).round().to(torch.int8), name + "SCB": largest[:, 0]}
    elif kind == "MLX":
        groups = rows.reshape(24, -1, 64)
        low, high = groups.amin(2), groups.amax(2)
        scale = ((high - low) / 15).bfloat16().float()
        codes = (
            ((groups - low.bfloat16().float()[..., None]) / scale[..., None]).round().clamp(0, 15).reshape(24, -1, 8)
        )
        packed = (codes.long() << (4 * torch.arange(8))).sum(2).numpy().astype(np.uint32)
        named = {
            name + "weight": torch.from_numpy(packed),
            name + "scales": scale.bfloat16(),
            name + "biases": low.bfloat16(),
        }
    else:
        scale = largest.max() / 448 if kind == "F8_E4M3" else largest / 57344
        dtype = torch.float8_e4m3fn if kind == "F8_E4M3" else torch.float8_e5m2
        named = {name + "weight": (rows / scale).to(dtype), name + "weight_scale": scale.reshape(-1)}
    save_file(named, folder / "model.safetensors")
    return open_checkpoint(str(folder)).matrix


@pytest.mark.parametrize("fine", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "I8", "MLX"])
def test_numbers_with_scales_beside_them_are_roundings_too(stored, tmp_path, kind, fine):
    after = in_eight_bits(tmp_path / "saved", kind)
    assert (after.block(0, 24) != ROWS).any(axis=1).all()
    before = stored(ROWS, fine)
    assert differing(before, after).tolist() == []
    trained = ROWS.copy()
    trained[MOVED] += 0.4
    order = np.arange(24)[::-1]
    assert differing(GatheredMatrix(ArrayMatrix(trained), order), GatheredMatrix(after, order)).tolist() == [
        23 - i for i in reversed(MOVED)
    ]


def test_a_shift_of_a_third_of_a_step_is_seen(generator):
    """Values of one block are not called equal for lying within half a step of each other: then a whole row could move."""
    step = np.float32(1 / 64)
    before = np.sort(generator.standard_normal((1, 4096)).astype(np.float32) / 8)
    grid = grids.EvenSteps(np.full((1, 4096), -1, np.float32), np.full((1, 4096), -1 + 127 * step, np.float32), 128)
    tuned = grid.value(grid.index(before + step / 3))
    moved = (grid.value(grid.index(before)) != tuned).mean()
    assert 0.28 < moved < 0.38


@pytest.mark.parametrize("kind", [*WRITTEN, *READ])
def test_the_grid_of_a_block_is_what_dequantizing_can_give(stored, generator, kind):
    """Rows with the same scales and random codes: at each place they take the grid's values, and take them all."""
    codes = ggml.EVEN.get(kind) or ggml.TABLED[kind][0]
    block = 256 if kind in ("TQ1_0", "TQ2_0", "IQ4_XS") or kind.endswith("_K") else 64 if kind == "NVFP4" else 32
    per_block = {"NVFP4": 36}.get(kind) or quants.quant_shape_to_byte_shape((block,), Type[kind])[-1]
    scales = generator.integers(1, 120, per_block, dtype=np.uint8)  # as float16: of either size, finite
    raw = np.broadcast_to(scales, (3000, per_block)).copy()
    raw[:, codes.start : codes.stop] = generator.integers(0, 256, (3000, codes.stop - codes.start), dtype=np.uint8)
    if kind == "Q8_0":  # quantizing leaves out the lowest
        raw[raw == 0x80] = 0
    if kind == "TQ1_0":  # of 256 bytes five threes make 243
        trits = generator.integers(0, 243, (3000, codes.stop - codes.start))
        raw[:, codes.start : codes.stop] = (trits * 256 + 242) // 243
    if kind == "TQ2_0":  # the fourth of two bits is none
        pairs = generator.integers(0, 3, (3000, codes.stop - codes.start, 4), dtype=np.uint8)
        raw[:, codes.start : codes.stop] = (pairs << np.array([0, 2, 4, 6], np.uint8)).sum(axis=-1)
    matrix = stored.of_bytes(raw, kind, (3000, block))
    values = matrix.block(0, 3000)
    steps = ggml.grid(matrix).steps(0, 3000)
    index = steps.index(values)
    np.testing.assert_allclose(steps.value(index), values, rtol=1e-5, atol=1e-6 * np.abs(values).max())
    distinct = np.array([len(np.unique(values[:, place])) for place in range(block)])
    table = ggml.grid(matrix).table
    expected = range(codes.count - (kind == "Q8_0")) if table is None else table
    varying = np.ptp(values, axis=0) > 0  # a sub-block's scale may be 0
    assert varying.any() and (distinct[varying] == len(expected)).all()
    assert all(len(np.unique(index[:, place])) == distinct[place] for place in np.nonzero(varying)[0][:8])


@pytest.mark.parametrize("kind", READ)
def test_a_model_from_before_it_was_quantized_has_no_changed_row(stored, generator, kind):
    """The gguf package cannot write these, so the other way round: values that lie a little off their step, which quantizing
    would have put there."""
    codes = ggml.EVEN.get(kind) or ggml.TABLED[kind][0]
    block = 256 if kind == "IQ4_XS" or kind.endswith("_K") else 64 if kind == "NVFP4" else 32
    raw = generator.integers(1, 60, (40, quants.quant_shape_to_byte_shape((block,), Type[kind])[-1]), dtype=np.uint8)
    raw[:, codes.start : codes.stop] = generator.integers(0, 256, (40, codes.stop - codes.start), dtype=np.uint8)
    after = stored.of_bytes(raw, kind, (40, block))
    values = after.block(0, 40)
    nearest = [np.diff(np.unique(values[row])) for row in range(40)]
    off = np.array([gaps.min() if len(gaps) else 0 for gaps in nearest], np.float32)[:, None] * 0.2
    before = ArrayMatrix(values + off * generator.uniform(-1, 1, values.shape).astype(np.float32))
    assert (before.storage != values).any()
    assert differing(before, after).tolist() == []


def test_rounding_is_torchs(stored):
    values = np.concatenate([ROWS.ravel(), [0, -0.0, 1.00390625, 1.01171875, 65504, 6e-8, 3e-8]]).astype(np.float32)[
        None
    ]
    for kind in ("bfloat16", "float16"):
        held = stored(values, kind)
        np.testing.assert_array_equal(grids.FloatGrid((kind,)).index(values), to_floats(held.block(0, 1), held.dtype))


def test_what_is_no_number_stays_none(stored):
    spoiled = ROWS.copy()
    spoiled[1, 5], spoiled[2, 6], spoiled[3, 7] = np.nan, np.inf, -np.inf
    for kind in ("bfloat16", "float16", "Q8_0", "MXFP4"):
        one, _ = rounding.common(ArrayMatrix(spoiled), stored(ROWS, kind))
        found = one.block(0, 24)
        assert (
            np.isnan(found[1, 5]) and found[2, 6] == np.inf and found[3, 7] == -np.inf and np.isfinite(found[4:]).all()
        )


def test_rows_of_the_same_storage_are_left_as_they_are(stored):
    for kind in ("float32", "bfloat16", "Q4_0"):
        before, after = stored(ROWS, kind), stored(ROWS[::-1].copy(), kind)
        assert rounding.common(before, after) == (before, after) and rounding.described(before, after) == ""
    laid = OverlaidMatrix(before, np.array([2]), ROWS[:1])
    assert rounding.common(before, laid) == (before, laid), "rows over a base are of the base's storage"


def test_matched_rows_are_rounded_by_their_own_blocks(stored, generator):
    order = generator.permutation(24)[:9]
    after = stored(ROWS[::-1].copy(), "Q4_0")
    one, other = rounding.common(GatheredMatrix(ArrayMatrix(ROWS), order), GatheredMatrix(after, 23 - order))
    np.testing.assert_array_equal(one.block(2, 9), other.block(2, 9))
    np.testing.assert_array_equal(take(one, np.array([7, 0])), other.block(0, 9)[[7, 0]])
    assert one.block(4, 4).shape == (0, 1024)


def test_what_was_rounded_is_said_and_the_coarser_side_counts(stored):
    kinds = ["float64", "float32", "float16", "Q8_0", "Q5_1", "Q4_1", "Q4_0", "MXFP4", "TQ2_0", "TQ1_0"]
    names = ["F64", "F32", "F16", *kinds[3:]]
    made = [stored(ROWS[:1], kind) for kind in kinds]
    for n, fine in enumerate(made):
        for m, coarse in enumerate(made[n + 1 :], n + 1):
            assert rounding.described(fine, coarse) == rounding.described(coarse, fine) == f"{names[n]} to {names[m]}"
    assert rounding.described(stored(ROWS[:1], "bfloat16"), made[2]) == "BF16 and F16 to both"


def test_a_type_whose_rounding_cannot_be_repeated_is_refused(stored, generator):
    raw = generator.integers(1, 60, (4, 110), dtype=np.uint8)
    codebook = stored.of_bytes(raw, "IQ3_S", (4, 256))
    assert rounding.common(codebook, codebook) == (codebook, codebook)
    with pytest.raises(PairError, match=r"stored as IQ3_S.*Quantize the other side"):
        rounding.common(ArrayMatrix(ROWS[:4, :256].copy()), codebook)
