"""The body in bfloat16, and no activations kept: what is trained stays float32 and learns the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ks_core.errors import SettingsError
from ks_core.jobs.resources import Resources
from ks_core.likelihood.rows import lay_over
from ks_core.tuning.models import load_model
from ks_core.tuning.runs import run


def silent(done, total, message="", *, unit="", stage=""):
    pass


def carried_out(made, folder):
    found = run(made, folder, silent)
    assert not [a["error"] for a in found["arms"] if a["error"]]
    return {a["kind"]: a for a in found["arms"]}, found


def test_the_body_is_bfloat16_and_the_rows_are_not(tiny_plan, tmp_path, tiny_folder):
    made = tiny_plan(["base", "rows", "lora:rank=2", "full"])
    plain, _ = carried_out(made, tmp_path / "plain")
    half, found = carried_out(replace(made, resources=Resources(precision="bfloat16")), tmp_path / "half")
    model, _ = load_model(str(tiny_folder), resources=Resources(precision="bfloat16"))
    assert model.dtype == torch.bfloat16 and lay_over(model, [3]).rows.dtype == torch.float32
    saved = load_file(tmp_path / "half" / "arms" / "01-rows" / "adapter" / "adapter_model.safetensors")
    assert {values.dtype for values in saved.values()} == {torch.float32}
    for kind in ("rows", "lora"):  # bfloat16 has 8 bits: a loss of 4 is within a hundredth or so
        np.testing.assert_allclose(np.array(half[kind]["losses"])[:4], np.array(plain[kind]["losses"])[:4], rtol=0.02)
    assert half["full"]["losses"] == plain["full"]["losses"], "what trains every weight holds them in float32"
    assert "|precision:bfloat16|" in found["signature"]


def test_checkpointing_learns_the_very_same(tiny_plan, tmp_path):
    made = tiny_plan(["rows", "base"])
    plain, _ = carried_out(made, tmp_path / "plain")
    other, _ = carried_out(replace(made, resources=Resources(checkpointing=True)), tmp_path / "other")
    np.testing.assert_allclose(np.array(other["rows"]["losses"]), np.array(plain["rows"]["losses"]), rtol=1e-6)
    assert other["base"]["evaluation"] == plain["base"]["evaluation"], "it is off again after the training"


def test_a_gpu_without_bfloat16_is_said(tiny_plan, tmp_path, monkeypatch):
    from ks_core.jobs import devices

    monkeypatch.setattr(devices, "has_bfloat16", lambda device: False)
    with pytest.raises(SettingsError, match="Choose float32"):
        run(tiny_plan(["base"], resources=Resources(precision="bfloat16")), tmp_path / "run", silent)
