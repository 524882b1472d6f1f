"""PyTorch files: nested, of Lightning, and the parts of distributed trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.ways.table import NAME, NESTED, Write, save_tensors, save_torch, state_of, way


def _nested(*keys: str) -> Write:
    def write(place: Path, model: Any) -> Path:
        value: Any = state_of(model)
        for key in reversed(keys):
            value = {
                "step": 7,
                key: value,
                "optimizer": {"state": {0: {"exp_avg": value.get(NAME, 0)}}},
            }
        return save_torch(value, place / "m.pt")

    return write


for keys in (("model_state_dict",), ("state",), ("ema",), ("net",), ("state_dict",), ("model", "module")):
    way(NESTED, f"a state dict under `{'` and `'.join(keys)}`", "torch")(_nested(*keys))


@way(NESTED, "a state dict by itself", "torch")
def plain(place: Path, model: Any) -> Path:
    return save_torch(model.state_dict(), place / "m.pth")


@way(NESTED, "several state dicts: that of `model`, or another behind two colons", "torch")
def chosen_state(place: Path, model: Any) -> str:
    other = {name: tensor + 1 for name, tensor in state_of(model).items()}
    return f"{save_torch({'model': other, 'ema': state_of(model)}, place / 'm.pt')}::ema"


@way(NESTED, "a checkpoint of Lightning (`.ckpt`)", "torch, with Lightning's keys")
def lightning(place: Path, model: Any) -> Path:
    state = {f"model.{name}": tensor for name, tensor in state_of(model).items()}
    about = {
        "epoch": 1,
        "global_step": 8,
        "pytorch-lightning_version": "2.5.0",
        "loops": {},
        "callbacks": {},
        "lr_schedulers": [],
    }
    return save_torch({**about, "state_dict": state, "hyper_parameters": {"lr": 1e-4}}, place / "last.ckpt")


@way(
    NESTED,
    "a whole module (`torch.save(model)`), which only its own code can load",
    "torch",
    refused="contains more than weights",
)
def module(place: Path, model: Any) -> Path:
    return save_torch(model, place / "m.pt")


@way(NESTED, "a folder of `torch.distributed.checkpoint`", "torch", refused="format_utils dcp_to_torch")
def distributed(place: Path, model: Any) -> Path:
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": state_of(model)}, checkpoint_id=str(place), no_dist=True)
    return place


@way(NESTED, "the same, put together as the refusal says", "torch")
def distributed_joined(place: Path, model: Any) -> Path:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(distributed(place / "parts", model), place / "model.pt")
    return place / "model.pt"


@way(NESTED, "DeepSpeed ZeRO-3, saved without gathering: empty tensors", "safetensors", refused="zero_to_fp32.py")
def zero3(place: Path, model: Any) -> Path:
    import torch

    return save_tensors(place / "model.safetensors", {NAME: torch.zeros(0)}).parent


@way(NESTED, "the same as a PyTorch file", "torch", refused="zero_to_fp32.py")
def zero3_torch(place: Path, model: Any) -> Path:
    import torch

    return save_torch({"module": {NAME: torch.zeros(0)}}, place / "zero_pp_rank_0_mp_rank_00_model_states.pt")


@way(NESTED, "a folder of DeepSpeed's parts", "torch, with DeepSpeed's names", refused="zero_to_fp32.py")
def deepspeed(place: Path, model: Any) -> Path:
    save_torch({}, place / "global_step5" / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    save_torch({}, place / "global_step5" / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    return place


@way(NESTED, "one of several parts of tensor parallelism", "torch, with Megatron's names", refused="splits every row")
def megatron(place: Path, model: Any) -> Path:
    for n, half in enumerate(model.state_dict()[NAME].chunk(2, 1)):
        save_torch({"model": {NAME: half.clone()}}, place / f"mp_rank_0{n}" / "model_optim_rng.pt")
    return place / "mp_rank_00" / "model_optim_rng.pt"
