"""peft adapters that change embedding rows: reading them over a base, and writing one.

Four ways lead to changed rows: TrainableTokens (new values for listed ids), the same inside a LoRA
(``trainable_token_indices``), LoRA on the embedding itself (a low-rank sum on every row), and
``modules_to_save`` (a whole new matrix). What is written is TrainableTokens, as peft 0.21 writes it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import folders, hub, safetensors_file
from ks_core.checkpoints.matrices import Matrix, OverlaidMatrix, check_shape, to_floats
from ks_core.errors import CheckpointError, TicketError
from ks_core.store import workspace

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: Bytes of the largest tensor that is held in memory: the rows of a vocabulary of 64,000 with 4,096 values each.
LARGEST_ARRAY = 1 << 30
#: How a whole embedding is called that ``modules_to_save`` brings.
WHOLE = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight", "shared.weight")


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

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """What is added to the base, as arrays: for a hash."""
        return self.left, self.right, np.array([self.scaling])

    def block(self, start: int, stop: int) -> np.ndarray:
        found = to_floats(self.base.block(start, stop), self.base.dtype)
        with np.errstate(all="ignore"):  # what is no number is found, and said with its row, by the test
            return found + self.scaling * (self.left[start:stop] @ self.right)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a peft adapter."""
    return folders.has(folder, CONFIG)


def config(folder: Path) -> dict[str, Any]:
    """The adapter's configuration. Raises ``CheckpointError`` when it is no JSON object."""
    found = folders.read_json(folder, CONFIG)
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / CONFIG} is no table of settings. Expected a peft adapter; save it again.")
    return found


def changes_more(folder: Path) -> bool:
    """Whether an adapter changes other weights than the input embedding's."""
    rows = ("trainable_tokens_delta", "lora_embedding_A", "lora_embedding_B", "base_layer.weight", *WHOLE)
    return any(not (n.endswith(rows) and _is_input(n)) for n in safetensors_file.tensors(_weights(folder)))


def lay_over(folder: Path, base: Matrix) -> tuple[Matrix, np.ndarray]:
    """The base's matrix as the adapter changes it, and the ids of the rows it touches (int64).

    A model whose vocabulary was resized before training has more rows than its base. peft then saves the
    whole matrix, or the one that the change is laid over (``base_layer``), and that one counts.

    Raises ``CheckpointError`` when the adapter changes no embedding rows or does not fit the base.
    """
    settings = config(folder)
    path = _weights(folder)
    tensors = safetensors_file.tensors(path)
    base = _resized(path, tensors, base)
    rows, width = base.shape
    replaced = [n for n in tensors if n.endswith("trainable_tokens_delta") and _is_input(n)]
    low = [n for n in tensors if n.endswith("lora_embedding_A")]
    whole = [n for n in tensors if n.endswith(WHOLE) and _is_input(n)]  # not a base_layer
    ways = [names for names in (replaced, low, whole) if names]
    if not ways:
        raise CheckpointError(
            f"{folder} changes no embedding rows (its tensors: {folders.listed(list(tensors)) or 'none'}). Expected "
            "TrainableTokens, LoRA on the embedding, or modules_to_save with the embedding."
        )
    if len(ways) > 1 or len(ways[0]) > 1:
        raise CheckpointError(
            f"{folder} changes embeddings more than once ({folders.listed([n for names in ways for n in names])}). "
            "Merge it with peft and open the merged checkpoint."
        )
    if replaced:
        ids, values = _indices(folder, settings), _array(path, tensors[replaced[0]])
        if len(ids) != len(values):
            raise CheckpointError(
                f"{folder} lists {len(ids)} token ids and {len(values)} rows. Save the adapter again."
            )
        if values.shape[1] != width:
            raise CheckpointError(
                f"{folder} has rows of {values.shape[1]} values, its base rows of {width}. "
                "It was made for another model."
            )
        if ids and (min(ids) < 0 or max(ids) >= rows or len(set(ids)) != len(ids)):
            raise CheckpointError(
                f"{folder} names ids from {min(ids)} to {max(ids)}, its base has {rows} rows "
                "(each id may occur once). It was made for another model."
            )
        order = np.argsort(np.array(ids, np.int64))
        ascending = np.array(ids, np.int64)[order]
        return OverlaidMatrix(base, ascending, values[order]), ascending
    if low:
        _refuse_dora(folder, settings)
        partner = low[0].removesuffix("A") + "B"
        if partner not in tensors:
            raise CheckpointError(f"{folder} has {low[0]} without its lora_embedding_B. Save the adapter again.")
        a, b = _array(path, tensors[low[0]]), _array(path, tensors[partner])
        if a.shape[1] != rows or b.shape[0] != width or a.shape[0] != b.shape[1]:
            raise CheckpointError(
                f"{folder} adapts an embedding of {a.shape[1]} x {b.shape[0]} (ranks {a.shape[0]} and {b.shape[1]}), "
                f"its base has {rows} x {width}. It was made for another model."
            )
        return LowRankMatrix(base, a.T, b.T, scaling(settings, a.shape[0])), np.arange(rows)
    found = safetensors_file.matrix(path, tensors[whole[0]])
    check_shape(path, *found.shape)
    if found.shape[1] != width:
        raise CheckpointError(
            f"{folder} brings an embedding of {found.shape[0]} x {found.shape[1]}, its base has "
            f"{rows} x {width}. It was made for another model."
        )
    return found, np.arange(found.shape[0])


def _resized(path: Path, tensors: dict[str, safetensors_file.Tensor], base: Matrix) -> Matrix:
    """The matrix that the adapter's change is laid over: the base's, or the one that is saved with the change."""
    modules = [n.removesuffix(end) for n in tensors if _is_input(n)
               for end in ("trainable_tokens_delta", "lora_embedding_A") if n.endswith(end)]  # fmt: skip
    saved = [tensors[m + "base_layer.weight"] for m in modules if m + "base_layer.weight" in tensors]
    if len(saved) != 1:
        return base
    found = safetensors_file.matrix(path, saved[0])
    return found if found.shape[1] == base.shape[1] else base


def _weights(folder: Path) -> Path:
    if not folders.has(folder, WEIGHTS):
        raise CheckpointError(f"{folder} has no {WEIGHTS}. Expected a peft adapter saved as safetensors.")
    return folders.inside(folder, folder / WEIGHTS)


def _array(path: Path, tensor: safetensors_file.Tensor) -> np.ndarray:
    """A small tensor in memory, float32 or float64. Raises ``CheckpointError`` for one that is not small."""
    found = safetensors_file.matrix(path, tensor)
    size = found.shape[0] * found.shape[1] * max(4, found.storage.itemsize)
    if size > LARGEST_ARRAY:
        raise CheckpointError(
            f"{path} changes rows by {folders.listed([tensor.name])} of {size:,} bytes. Expected at most {LARGEST_ARRAY:,}: merge "
            "it with peft and open the merged checkpoint."
        )
    return np.array(to_floats(found.block(0, found.shape[0]), found.dtype))


def _refuse_dora(folder: Path, settings: dict[str, Any]) -> None:
    if settings.get("use_dora"):
        raise CheckpointError(
            f"{folder} is a DoRA adapter, which is no sum of a base and a product. Merge it with peft "
            "and open the merged checkpoint."
        )


def scaling(settings: dict[str, Any], rank: int) -> float:
    """By how much a LoRA's product is multiplied: alpha / r, or alpha / sqrt(r) with rank-stabilised scaling.

    >>> scaling({"r": 4, "lora_alpha": 8}, 4), scaling({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4)
    (2.0, 4.0)

    ``rank`` is that of the tensors, which holds where the settings give another one for a single module.
    Raises ``CheckpointError`` for an alpha that is no finite number, or one that differs by module.
    """
    alpha = settings.get("lora_alpha", 8)  # peft's own default
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e30:
        raise CheckpointError(f"The adapter's lora_alpha is {str(alpha)[:40]!r}. Expected a finite number.")
    if settings.get("alpha_pattern"):
        raise CheckpointError(
            "The adapter has an alpha_pattern: another scaling for some modules. Merge it with peft and open "
            "the merged checkpoint."
        )
    if rank < 1:
        raise CheckpointError("The adapter's LoRA has rank 0. Expected at least 1; save it again.")
    return float(alpha) / rank**0.5 if settings.get("use_rslora") else float(alpha) / rank


def low_rank_weights(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """What a LoRA adds to linear weights: name of the weight in the base -> (left, right, scaling).

    Raises ``CheckpointError`` for kinds that are not a plain sum of this form (DoRA).
    """
    settings = config(folder)
    _refuse_dora(folder, settings)
    path = _weights(folder)
    tensors = safetensors_file.tensors(path)
    found = {}
    for name, tensor in tensors.items():
        if not name.endswith("lora_A.weight"):
            continue
        partner = tensors.get(name.removesuffix("lora_A.weight") + "lora_B.weight")
        if partner is None:
            raise CheckpointError(f"{folder} has {name} without its lora_B. Save the adapter again.")
        left, right = _array(path, partner), _array(path, tensor)
        rank = right.shape[0]
        if left.shape[1] != rank:
            raise CheckpointError(f"{folder} has {name} of another rank than its lora_B. Save the adapter again.")
        if settings.get("fan_in_fan_out"):
            left, right = right.T, left.T
        weight = name.removeprefix("base_model.model.").removesuffix("lora_A.weight") + "weight"
        found[weight] = (left, right, scaling(settings, rank))
    return found


def read_trainable_tokens(folder: Path) -> tuple[list[int], np.ndarray]:
    """Ids and float32 rows (k, d) of a TrainableTokens adapter, in the order in which it lists them."""
    ids = _indices(folder, config(folder))
    path = _weights(folder)
    found = [t for n, t in safetensors_file.tensors(path).items() if n.endswith("trainable_tokens_delta")]
    if not found:
        raise TicketError(f"{folder} holds no trained token rows. Expected a TrainableTokens adapter.")
    rows = _array(path, found[0]).astype(np.float32, copy=False)
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

    if np.ndim(rows) != 2:
        raise TicketError(f"The rows have the shape {np.shape(rows)}. Expected two dimensions, (tokens, values).")
    if len(ids) != len(rows):
        raise TicketError(f"{len(ids)} token ids and {len(rows)} rows. Expected a row for each id.")
    settings: dict[str, Any] = {
        "base_model_name_or_path": base, "peft_type": "TRAINABLE_TOKENS", "task_type": "CAUSAL_LM",
        "inference_mode": True, "init_weights": True, "revision": None, "auto_mapping": None,
        "target_modules": [module.rpartition(".")[2]], "token_indices": [int(i) for i in ids],
    }  # fmt: skip
    with contextlib.suppress(PackageNotFoundError):
        settings["peft_version"] = version("peft")
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
    """The name of the adapter's base model, with the revision that it was trained on where it says one.

    Raises ``CheckpointError`` when it names none.
    """
    settings = config(folder)
    found, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(found, str) or not found:
        raise CheckpointError(f"{folder} does not name its base model. Add base_model_name_or_path to {CONFIG}.")
    if isinstance(revision, str) and revision and "@" not in found and hub.is_id(found):
        return f"{found}@{revision}"
    return found
