"""Models as Meta and Mistral gave them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.ways.table import NAME, ORIGINAL, save_tensors, save_torch, way


def _meta(place: Path, model: Any, axis: int, count: int, **params: int) -> Path:
    """Meta's parts: what each of ``count`` GPUs held of the embedding, split along an axis, and of the norm, whole."""
    weight = model.state_dict()[NAME]
    for n, part in enumerate(weight.chunk(count, axis)):
        named = {"tok_embeddings.weight": part.clone(), "norm.weight": weight[0].clone()}
        save_torch(named, place / f"consolidated.{n:02}.pth")
    (place / "params.json").write_text(json.dumps(params))
    return place


@way(ORIGINAL, "Meta's `consolidated.00.pth`", "torch, with Meta's names")
def meta(place: Path, model: Any) -> Path:
    return _meta(place, model, 1, 1)


@way(ORIGINAL, "its parts by columns (Llama 1 and 2): any of them, or their folder", "torch, with Meta's names")
def meta_columns(place: Path, model: Any) -> Path:
    return _meta(place, model, 1, 2, dim=16) / "consolidated.00.pth"


@way(ORIGINAL, "its parts by rows (Llama 3)", "torch, with Meta's names")
def meta_rows(place: Path, model: Any) -> Path:
    return _meta(place, model, 0, 4, vocab_size=64)


@way(ORIGINAL, "one part of several", "torch, with Meta's names", refused=r"there is no consolidated\.01\.pth")
def meta_half(place: Path, model: Any) -> Path:
    (_meta(place, model, 1, 2) / "consolidated.01.pth").unlink()
    return place / "consolidated.00.pth"


@way(ORIGINAL, "some of the parts by rows", "torch, with Meta's names", refused=r"there is no consolidated\.01\.pth")
def meta_rows_half(place: Path, model: Any) -> Path:
    (_meta(place, model, 0, 2, vocab_size=64) / "consolidated.01.pth").unlink()
    return place


@way(ORIGINAL, "parts of which nothing says how they fit", "torch, with Meta's names", refused=r"Put the params\.json")
def meta_unsaid(place: Path, model: Any) -> Path:
    for n, half in enumerate(model.state_dict()[NAME].chunk(2, 1)):
        save_torch({"tok_embeddings.weight": half.clone()}, place / f"consolidated.0{n}.pth")
    return place


@way(ORIGINAL, "Mistral's `consolidated.safetensors`", "safetensors, with Mistral's names")
def mistral(place: Path, model: Any) -> Path:
    return save_tensors(place / "consolidated.safetensors", {"tok_embeddings.weight": model.state_dict()[NAME]}).parent
