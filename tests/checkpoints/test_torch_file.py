"""PyTorch files, read without torch: the same values as torch loads, and from the file itself."""

import collections
import subprocess
import sys

import numpy as np
import pytest
import torch

from helpers.places import ROOT
from helpers.samples import NAME, torch_file
from ks_core.checkpoints import torch_file as reader
from ks_core.checkpoints.matrices import MappedMatrix, to_floats
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError

FORMATS = pytest.mark.parametrize("new", [True, False], ids=["new format", "old format"])
ROWS = torch.randn(12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
#: How the rows may lie in their storage: name -> a view of them.
VIEWS = {
    "plain": lambda rows: rows,
    "transposed": lambda rows: rows.T,
    "from the middle": lambda rows: rows[5:9],
    "every second row": lambda rows: rows[1::2],
    "some columns": lambda rows: rows[:, 2:5],
    "one row": lambda rows: rows[3:4],
    "a parameter": torch.nn.Parameter,
    "a parameter with a note": lambda rows: _noted(torch.nn.Parameter(rows)),
    "a tensor with a note": lambda rows: _noted(rows.clone()),
}


def _noted(tensor):
    tensor.said = "a note"
    return tensor


def opened(path, value, new=True):
    path.write_bytes(torch_file(value, _use_new_zipfile_serialization=new))
    return open_checkpoint(str(path))


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("view", VIEWS)
def test_the_values_are_those_that_torch_loads(tmp_path, view, dtype, new):
    path = tmp_path / "m.bin"
    found = opened(path, {"first": torch.ones(3), NAME: VIEWS[view](ROWS.to(dtype)), "step": 7}, new)
    wanted = torch.load(path, weights_only=True)[NAME].detach()
    assert found.shape == tuple(wanted.shape) and found.stored == {8: "F64", 4: "F32"}.get(dtype.itemsize, found.stored)
    block = to_floats(np.asarray(found.matrix.block(0, found.shape[0])), found.matrix.dtype, "float64")
    np.testing.assert_array_equal(block, wanted.double().numpy())
    assert isinstance(found.matrix, MappedMatrix), "it stays in the file"


@FORMATS
def test_a_module_as_it_is_saved(tmp_path, new):
    """With the notes of its state dict, buffers of other kinds, two names for one tensor, and a table around it."""
    model = torch.nn.ModuleDict({"embed_tokens": torch.nn.Embedding(12, 8), "norm": torch.nn.BatchNorm1d(8)})
    model["lm_head"] = torch.nn.Linear(8, 12, bias=False)
    model["lm_head"].weight = model["embed_tokens"].weight
    state = model.state_dict()
    assert isinstance(state, collections.OrderedDict) and state._metadata
    for value in (state, {"epoch": 3, "loss": 0.5, "state_dict": state, "done": [True, None, (1, 2)]}):
        path = tmp_path / "m.bin"
        found = opened(path, value, new)
        np.testing.assert_array_equal(found.matrix.block(0, 12), model["embed_tokens"].weight.detach().numpy())
        name, _, _, names = reader.embedding(path)
        assert name == "embed_tokens.weight" and "lm_head.weight" not in names and "norm.num_batches_tracked" in names


@FORMATS
def test_two_tensors_of_one_storage_are_two(tmp_path, new):
    both = torch.arange(64.0).reshape(16, 4)
    path = tmp_path / "m.bin"
    found = opened(path, {NAME: both[8:], "lm_head.weight": both[:8]}, new)
    np.testing.assert_array_equal(found.matrix.block(0, 8), both[8:].numpy())
    assert "lm_head.weight" in reader.embedding(path)[3]


@FORMATS
@pytest.mark.parametrize("value", [
    torch.zeros(4, 2, dtype=torch.complex64), torch.zeros(4, 2, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.int64),
    torch.zeros(4, 2, dtype=torch.float8_e5m2), torch.zeros(4, 2, dtype=torch.uint16), torch.eye(4).to_sparse_csr(),
    torch.quantize_per_tensor(torch.ones(4, 2), 0.1, 0, torch.qint8), torch.ones(4, 2, dtype=torch.complex64).conj().imag,
    torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
], ids=lambda value: f"{value.dtype} {value.layout}")  # fmt: skip
def test_beside_an_embedding_there_may_be_any_tensor(tmp_path, value, new):
    """They are no embedding, and nothing that is refused either."""
    found = opened(tmp_path / "m.bin", {"other": value, NAME: ROWS, "last": value}, new)
    np.testing.assert_array_equal(found.matrix.block(0, 12), ROWS.numpy())


@FORMATS
def test_a_file_that_is_cut_short_anywhere_is_said_to_be(tmp_path, new):
    path = tmp_path / "m.bin"
    whole = torch_file({NAME: ROWS, "b": ROWS.float()}, _use_new_zipfile_serialization=new)
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            open_checkpoint(str(path))


def test_torch_is_not_loaded_for_it(tmp_path):
    path = tmp_path / "m.bin"
    opened(path, {NAME: ROWS})
    code = f"import sys; from ks_core.checkpoints import open_checkpoint as o; print(o({str(path)!r}).shape, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "(12, 8) False"


def test_the_weights_that_were_trained_come_before_their_mean_and_an_optimizer_is_no_state(tmp_path):
    mean, optimizer = {NAME: ROWS + 1}, {"state": {0: {"exp_avg": ROWS + 2}}, "param_groups": [{"lr": 0.1}]}
    path = tmp_path / "m.pt"
    for value in (
        {"ema": mean, "state": optimizer["state"], "model": {NAME: ROWS}},
        {**optimizer, NAME: ROWS},
        {"net": {"module": {NAME: ROWS}}},
    ):
        np.testing.assert_array_equal(opened(path, value).matrix.block(0, 12), ROWS.numpy())
    path.write_bytes(torch_file({"model": {NAME: ROWS}, "ema": mean, "before": {NAME: ROWS - 1}}))
    for choice, plus in (("ema", 1), ("before", -1), (NAME, 0)):
        np.testing.assert_array_equal(open_checkpoint(f"{path}::{choice}").matrix.block(0, 12), (ROWS + plus).numpy())


def test_a_table_that_holds_itself_or_nothing_is_refused(tmp_path):
    looped = {"step": 3}
    looped["model"] = looped["state"] = looped
    for value in (looped, {"model": {"model": {}}}, {"state": {0: ROWS}}, [ROWS]):
        with pytest.raises(CheckpointError, match="holds no"):
            opened(tmp_path / "m.pt", value)
