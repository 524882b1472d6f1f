"""peft adapters that change embedding rows: reading them over a base, and writing one.

Four ways lead to changed rows: TrainableTokens (new values for listed ids), the same inside a LoRA
(``trainable_token_indices``), LoRA on the embedding itself (a low-rank sum on every row), and
``modules_to_save`` (a whole new matrix). What is written is TrainableTokens, as peft 0.21 writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ks_core import safetensors_file, workspace
from ks_core.errors import CheckpointError, TicketError
from ks_core.matrices import Matrix, OverlaidMatrix, to_floats

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class LowRankMatrix:
    """A base with ``scaling * left @ right`` added: what a LoRA makes of a weight.

    ``left`` (V, r) and ``right`` (r, d) float32. The sum is made block by block, in float32.
    """

    base: Matrix
    left: np.ndarray
    right: np.ndarray
    scaling: float
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        found = to_floats(self.base.block(start, stop), self.base.dtype)
        return found + self.scaling * (self.left[start:stop] @ self.right)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a peft adapter."""
    return (folder / CONFIG).is_file()


def config(folder: Path) -> dict[str, Any]:
    """The adapter's configuration. Raises ``CheckpointError`` when it is no JSON object."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / CONFIG} cannot be read as JSON. Expected a peft adapter; save it again.")
    return found


def lay_over(folder: Path, base: Matrix) -> tuple[Matrix, np.ndarray]:
    """The base's matrix as the adapter changes it, and the ids of the rows it touches (int64).

    Raises ``CheckpointError`` when the adapter changes no embedding rows or does not fit the base.
    """
    settings = config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}. Expected a peft adapter saved as safetensors.")
    tensors = safetensors_file.tensors(path)

    def array(name: str) -> np.ndarray:
        found = safetensors_file.matrix(path, tensors[name])
        return np.array(to_floats(found.block(0, found.shape[0]), found.dtype))

    rows, width = base.shape
    replaced = [n for n in tensors if n.endswith("trainable_tokens_delta") and _is_input(n)]
    whole = [n for n in tensors if n.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight"))]
    low = [n for n in tensors if n.endswith("lora_embedding_A")]
    if replaced:
        ids = np.array(_indices(folder, settings), np.int64)
        values = array(replaced[0])
        if len(ids) != len(values):
            raise CheckpointError(
                f"{folder} lists {len(ids)} token ids and {len(values)} rows. Save the adapter again."
            )
        if values.shape[1] != width:
            raise CheckpointError(
                f"{folder} has rows of {values.shape[1]} values, its base rows of {width}. "
                "It was made for another model."
            )
        if len(ids) and (ids.min() < 0 or ids.max() >= rows or len(np.unique(ids)) != len(ids)):
            raise CheckpointError(
                f"{folder} names ids from {ids.min()} to {ids.max()}, its base has {rows} rows "
                "(each id may occur once). It was made for another model."
            )
        order = np.argsort(ids)
        return OverlaidMatrix(base, ids[order], values[order]), ids[order]
    if low:
        a, b = array(low[0]), array(low[0].removesuffix("A") + "B")
        if a.shape[1] != rows or b.shape[0] != width:
            raise CheckpointError(
                f"{folder} adapts an embedding of {a.shape[1]} x {b.shape[0]}, its base has "
                f"{rows} x {width}. It was made for another model."
            )
        return LowRankMatrix(base, a.T, b.T, scaling(settings, a.shape[0])), np.arange(rows)
    if whole:
        found = safetensors_file.matrix(path, tensors[whole[0]])
        if found.shape != base.shape:
            raise CheckpointError(
                f"{folder} brings an embedding of {found.shape[0]} x {found.shape[1]}, its base has "
                f"{rows} x {width}. It was made for another model."
            )
        return found, np.arange(rows)
    raise CheckpointError(
        f"{folder} changes no embedding rows (its tensors: {', '.join(list(tensors)[:3])} …). Expected "
        "TrainableTokens, LoRA on the embedding, or modules_to_save with the embedding."
    )


def scaling(settings: dict[str, Any], rank: int) -> float:
    """By how much a LoRA's product is multiplied: alpha / r, or alpha / sqrt(r) with rank-stabilised scaling."""
    rank = int(settings.get("r") or rank)
    alpha = float(settings.get("lora_alpha") or 1)
    return alpha / rank**0.5 if settings.get("use_rslora") else alpha / rank


def low_rank_weights(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """What a LoRA adds to linear weights: name of the weight in the base -> (left, right, scaling).

    Raises ``CheckpointError`` for kinds that are not a plain sum of this form (DoRA).
    """
    settings = config(folder)
    if settings.get("use_dora"):
        raise CheckpointError(
            f"{folder} is a DoRA adapter, which is no sum of a base and a product. Merge it with peft "
            "and open the merged checkpoint."
        )
    tensors = safetensors_file.tensors(folder / WEIGHTS)
    found = {}
    for name, tensor in tensors.items():
        if not name.endswith("lora_A.weight"):
            continue
        partner = tensors.get(name.removesuffix("lora_A.weight") + "lora_B.weight")
        if partner is None:
            raise CheckpointError(f"{folder} has {name} without its lora_B. Save the adapter again.")
        a, b = (safetensors_file.matrix(folder / WEIGHTS, t) for t in (tensor, partner))
        left, right = (np.array(to_floats(m.block(0, m.shape[0]), m.dtype)) for m in (b, a))
        if settings.get("fan_in_fan_out"):
            left, right = right.T, left.T
        weight = name.removeprefix("base_model.model.").removesuffix("lora_A.weight") + "weight"
        found[weight] = (left, right, scaling(settings, a.shape[0]))
    return found


def read_trainable_tokens(folder: Path) -> tuple[list[int], np.ndarray]:
    """Ids and float32 rows (k, d) of a TrainableTokens adapter, in the order in which it lists them."""
    ids = _indices(folder, config(folder))
    path = folder / WEIGHTS
    found = [t for n, t in safetensors_file.tensors(path).items() if n.endswith("trainable_tokens_delta")]
    if not found:
        raise TicketError(f"{folder} holds no trained token rows. Expected a TrainableTokens adapter.")
    matrix = safetensors_file.matrix(path, found[0])
    rows = np.array(to_floats(matrix.block(0, matrix.shape[0]), matrix.dtype))
    if len(rows) != len(ids):
        raise TicketError(f"{folder} lists {len(ids)} token ids and {len(rows)} rows. Save the ticket again.")
    return ids, rows


def write_trainable_tokens(
    folder: Path, ids: list[int], rows: np.ndarray, *, base: str, module: str = "model.embed_tokens"
) -> None:
    """Write rows as a peft TrainableTokens adapter that ``PeftModel.from_pretrained`` loads.

    ``rows`` (k, d), kept in float32; ``base`` goes into the adapter as the name of its base model;
    ``module`` is the path of the input embedding in the model.
    """
    from safetensors.numpy import save

    if len(ids) != len(rows):
        raise TicketError(f"{len(ids)} token ids and {len(rows)} rows. Expected a row for each id.")
    settings = {
        "base_model_name_or_path": base, "peft_type": "TRAINABLE_TOKENS", "task_type": "CAUSAL_LM",
        "inference_mode": True, "init_weights": True, "revision": None, "auto_mapping": None,
        "target_modules": [module.rpartition(".")[2]], "token_indices": [int(i) for i in ids],
    }  # fmt: skip
    values = np.ascontiguousarray(rows, np.float32)
    name = f"base_model.model.{module}.trainable_tokens_delta"
    workspace.write_atomically(folder / WEIGHTS, save({name: values}, metadata={"format": "pt"}))
    workspace.write_json(folder / CONFIG, settings)


def _indices(folder: Path, settings: dict[str, Any]) -> list[int]:
    """Token ids of an adapter: a list, or inside a LoRA a list per module."""
    found = settings.get("token_indices") or settings.get("trainable_token_indices")
    if isinstance(found, dict):
        found = next((v for k, v in found.items() if _is_input(k)), None)
    if not isinstance(found, list) or not all(type(i) is int for i in found):
        raise CheckpointError(f"{folder / CONFIG} lists no token ids. Expected token_indices, a list of whole numbers.")
    return found


def _is_input(name: str) -> bool:
    return "lm_head" not in name


def base_of(folder: Path) -> str:
    """The name of the adapter's base model. Raises ``CheckpointError`` when it names none."""
    found = config(folder).get("base_model_name_or_path")
    if not isinstance(found, str) or not found:
        raise CheckpointError(f"{folder} does not name its base model. Add base_model_name_or_path to {CONFIG}.")
    return found
