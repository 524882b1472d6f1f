"""peft: adapters, and state dicts of models with an adapter that is not merged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from helpers.ways.table import ADAPTERS, NAME, Write, expected, save_torch, way


def _adapter(kind: str) -> Write:
    def write(place: Path, model: Any) -> Path:
        changed = _with_adapter(kind, model)
        with_base = place / "base"
        model.save_pretrained(with_base)
        changed.peft_config["default"].base_model_name_or_path = str(with_base)
        changed.save_pretrained(place / "adapter")
        expected[place] = rows_by_use(changed)
        return place / "adapter"

    return write


def rows_by_use(model: Any) -> np.ndarray:
    """The rows that a model looks up, whatever lies over them."""
    import torch

    with torch.no_grad():
        return model.get_input_embeddings()(torch.arange(64)[None])[0].numpy().copy()


def _with_adapter(kind: str, model: Any) -> Any:
    import torch
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model

    made = {
        "tokens": TrainableTokensConfig(token_indices=[9, 5], target_modules=["embed_tokens"]),
        "lora": LoraConfig(r=4, lora_alpha=7, target_modules=["embed_tokens"]),
        "attention": LoraConfig(r=2, target_modules=["q_proj"]),
        "saved": LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    }[kind]
    changed = get_peft_model(copy.deepcopy(model), made)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if parameter.requires_grad and "embed" in name:
                parameter += torch.randn(parameter.shape, generator=generator)
    return changed


for kind, title in (
    ("tokens", "TrainableTokens"),
    ("lora", "LoRA on the embedding"),
    ("saved", "`modules_to_save` with the embedding"),
):
    way(ADAPTERS, f"an adapter: {title}", "peft", atol=1e-6)(_adapter(kind))


def _unmerged(kind: str) -> Write:
    def write(place: Path, model: Any) -> Path:
        changed = _with_adapter(kind, model)
        expected[place] = rows_by_use(changed)
        return save_torch(changed.state_dict(), place / "m.bin")

    return write


way(ADAPTERS, "the state dict of a model with an adapter that is not merged: LoRA on the attention", "peft")(
    _unmerged("attention")
)
way(ADAPTERS, "the same: `modules_to_save` with the embedding", "peft")(_unmerged("saved"))
way(
    ADAPTERS,
    "the same: LoRA on the embedding, of which the file does not say how much",
    "peft",
    refused="merge_and_unload",
)(_unmerged("lora"))
way(
    ADAPTERS, "the same: TrainableTokens, of which it does not say for which tokens", "peft", refused="merge_and_unload"
)(_unmerged("tokens"))


@way(ADAPTERS, "weights under names with `.base_layer.`, without the adapter", "torch")
def base_layer(place: Path, model: Any) -> Path:
    return save_torch({NAME.replace(".weight", ".base_layer.weight"): model.state_dict()[NAME]}, place / "m.bin")
