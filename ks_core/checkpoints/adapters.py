"""peft adapters that change embedding rows: reading them over a base, and writing one.

Four ways lead to changed rows: TrainableTokens (new values for listed ids), the same inside a LoRA
(``trainable_token_indices``), LoRA on the embedding itself (a low-rank sum on every row), and
``modules_to_save`` (a whole new matrix). What is written is TrainableTokens, as peft 0.21 writes it.
What an adapter does to other weights: ``adapted``, and ``tensors`` for all of them.
"""

from __future__ import annotations

import contextlib
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import folders, hub
from ks_core.checkpoints.adapted import names, settings as said
from ks_core.checkpoints.adapted.changes import WAYS, Change, changes, flat, small_array
from ks_core.checkpoints.matrices import Matrix, OverlaidMatrix, check_shape
from ks_core.errors import CheckpointError, TicketError
from ks_core.store import workspace

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a peft adapter."""
    return folders.has(folder, CONFIG)


def config(folder: Path) -> dict[str, Any]:
    """The adapter's configuration. Raises ``CheckpointError`` when it is no JSON object."""
    found = folders.read_json(folder, CONFIG)
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / CONFIG} is no table of settings. Expected a peft adapter; save it again.")
    return found


def read(folder: Path) -> dict[str, Change]:
    """What an adapter does to each module, by its path in the model. Raises ``CheckpointError``."""
    return changes(folder, _weights(folder), config(folder))


def changes_more(folder: Path) -> bool:
    """Whether an adapter changes other weights than one embedding's, as far as names tell."""
    rows = {*WAYS, "rows B", "magnitude", "below", "left as it was"} - {"A"}
    found = read(folder)
    return len(found) != 1 or any(
        module.rpartition(".")[2] not in names.EMBEDDINGS or change.parts.keys() - rows
        for module, change in found.items()
    )


def lay_over(folder: Path, base: Matrix, tensor: str) -> tuple[Matrix, np.ndarray]:
    """The base's matrix as the adapter changes it, and the ids of the rows it touches (int64): none where it changes other
    weights alone. ``tensor`` is the embedding's name in the base.

    A model whose vocabulary was resized before training has more rows than its base. peft then saves the
    whole matrix, or the one that the change is laid over (``base_layer``), and that one counts.

    Raises ``CheckpointError`` when the adapter changes no weight, does not fit the base, or cannot be computed.
    """
    every = read(folder)
    found = [change for module, change in every.items() if names.is_embedding(module, tensor) and change.ways]
    exact = [change for change in found if names.bare(change.module) == names.bare(tensor.removesuffix(".weight"))]
    found = exact or found
    if len(found) > 1 or any(len(change.ways) > 1 for change in found):
        ways = [f"{change.module} by {WAYS[way]}" for change in found for way in change.ways]
        raise CheckpointError(
            f"{folder} changes embeddings more than once ({folders.listed(ways)}). Merge it with peft and open the merged checkpoint."
        )
    if not found:
        _refuse_nothing(folder, every)
        return base, np.arange(0)
    (change,) = found
    if below := change.below("weight"):
        under: Matrix = flat(change.file, below)
        check_shape(change.file, *under.shape)
        if under.shape[1] != base.shape[1]:
            raise CheckpointError(
                f"{folder} brings an embedding of {under.shape[0]:,} x {under.shape[1]:,}, its base has "
                f"{base.shape[0]:,} x {base.shape[1]:,}. It was made for another model."
            )
        base = under
    laid = change.over(base)
    return laid, laid.ids if isinstance(laid, OverlaidMatrix) else np.arange(laid.shape[0])


def is_computed(folder: Path) -> bool:
    """Whether an adapter is of a kind of which every weight is computed here."""
    return said.kind(config(folder)) in said.READ


def elsewhere(folder: Path) -> str:
    """What an adapter tunes, in a few words: the modules' last names."""
    last = {module.rpartition(".")[2]: None for module in read(folder)}
    return folders.listed(list(last), 8)


def _refuse_nothing(folder: Path, every: dict[str, Change]) -> None:
    """Raise ``CheckpointError`` where an adapter changes no weight at all, as far as its file tells."""
    settings = config(folder)
    if said.kind(settings) in said.READ:
        if any({"weight", "bias"} & set(change.parameters) for change in every.values()):
            return
    elif said.kind(settings) not in said.BEFORE_THE_TEXT and every:
        return
    else:
        said.refuse_other_kinds(folder, settings)
    raise CheckpointError(
        f"{folder} changes no weight (its tensors: {folders.listed(list(every)) or 'none'}). Expected "
        "TrainableTokens, a LoRA, or modules_to_save."
    )


def _weights(folder: Path) -> Path:
    if not folders.has(folder, WEIGHTS):
        raise CheckpointError(f"{folder} has no {WEIGHTS}. Expected a peft adapter saved as safetensors.")
    return folders.inside(folder, folder / WEIGHTS)


def read_trainable_tokens(folder: Path) -> tuple[list[int], np.ndarray]:
    """Ids and float32 rows (k, d) of a TrainableTokens adapter, in the order in which it lists them."""
    found = next((change for change in read(folder).values() if "rows" in change.parts), None)
    if found is None:
        raise TicketError(f"{folder} holds no trained token rows. Expected a TrainableTokens adapter.")
    ids, rows = found.indices(), small_array(found.file, found.parts["rows"]).astype(np.float32, copy=False)
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


def base_of(folder: Path) -> str:
    """The name of the adapter's base model, with the revision that it was trained on where it says one; empty where it names
    none. Raises ``CheckpointError``.
    """
    settings = config(folder)
    found, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(found, str) or not found:
        return ""
    if isinstance(revision, str) and revision and "@" not in found and hub.is_id(found):
        return f"{found}@{revision}"
    return found


def base_hash(folder: Path) -> str:
    """The beginning of the content hash of the base that a ticket was made on, by its signature; empty where nothing says it."""
    told = folders.read_json(folder, "ticket.json")
    signature = told.get("signature") if isinstance(told, dict) else None
    found = re.match(r"base:[^|]*@([0-9a-f]{12})(?:\||$)", signature) if isinstance(signature, str) else None
    return found[1] if found else ""
