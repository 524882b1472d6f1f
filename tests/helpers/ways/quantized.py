"""Small numbers with scales beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from helpers.ways.table import NAME, QUANTIZED, expected, save_tensors, way


@way(
    QUANTIZED,
    "8-bit floats with a scale for the matrix, as compressed-tensors names it",
    "torch and safetensors",
    atol=0.05,
)
def fp8(place: Path, model: Any) -> Path:
    import torch

    weight = model.state_dict()[NAME]
    scale = weight.abs().max() / 448
    named = {NAME: (weight / scale).to(torch.float8_e4m3fn), NAME + "_scale": scale.reshape(1)}
    return save_tensors(place / "model.safetensors", named).parent


@way(QUANTIZED, "8-bit floats with a scale for each row", "torch and safetensors", atol=0.05)
def fp8_by_row(place: Path, model: Any) -> Path:
    import torch

    weight = model.state_dict()[NAME]
    scale = weight.abs().amax(1, keepdim=True) / 57344
    named = {NAME: (weight / scale).to(torch.float8_e5m2), NAME + "_scale": scale}
    expected[place] = (named[NAME].float() * scale).numpy()
    return save_tensors(place / "model.safetensors", named).parent


@way(QUANTIZED, "8-bit floats without their scale", "torch and safetensors", refused="F8_E4M3")
def fp8_alone(place: Path, model: Any) -> Path:
    import torch

    return save_tensors(place / "model.safetensors", {NAME: model.state_dict()[NAME].to(torch.float8_e4m3fn)}).parent


@way(QUANTIZED, "bitsandbytes, 8 bits (`SCB`)", "torch, by its formula", atol=0.01)
def bitsandbytes(place: Path, model: Any) -> Path:
    import torch

    weight = model.state_dict()[NAME]
    largest = weight.abs().amax(1)
    named = {NAME: (weight / largest[:, None] * 127).round().to(torch.int8), NAME.replace("weight", "SCB"): largest}
    return save_tensors(place / "model.safetensors", named).parent


@way(QUANTIZED, "bitsandbytes, 4 bits", "torch, with its names", refused="stored as U8")
def bitsandbytes_4(place: Path, model: Any) -> Path:
    import torch

    named = {NAME: torch.zeros(512, 1, dtype=torch.uint8), NAME + ".absmax": torch.ones(16)}
    return save_tensors(place / "model.safetensors", named).parent


@way(QUANTIZED, "MLX, 2 to 8 bits", "torch, by its formula", atol=0.15)
def mlx(place: Path, model: Any) -> Path:
    import torch

    weight, group, bits = model.state_dict()[NAME].float(), 8, 4
    groups = weight.reshape(64, -1, group)
    low, high = groups.amin(2), groups.amax(2)
    scales = ((high - low) / (2**bits - 1)).clamp(min=1e-6)
    values = ((groups - low[..., None]) / scales[..., None]).round().reshape(64, 16).numpy().astype(np.uint32)
    packed = np.zeros((64, 2), np.uint32)
    for column in range(16):
        packed[:, column // 8] |= values[:, column] << np.uint32(4 * (column % 8))
    (place).mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps({"quantization": {"group_size": group, "bits": bits}}))
    stem = NAME.removesuffix("weight")
    named = {NAME: torch.from_numpy(packed), stem + "scales": scales, stem + "biases": low}
    return save_tensors(place / "model.safetensors", named).parent
