"""The rows of a model's embedding that a training moves: which they are, where each began, where it is now.

Five ways of training rows are known: the whole matrix, rows that lie over it (``ks_core.likelihood.rows``), peft's
TrainableTokens, peft's ``modules_to_save``, and a LoRA on the embedding. Of each is compared what its file would hold, so that
a point of a recording is what a scan of the saved checkpoint says. A whole matrix may be split over processes by rows (``split``); in any
other way it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ks_core.checkpoints.adapted.sums import LowRankMatrix
from ks_core.checkpoints.matrices import Matrix, to_floats
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import SettingsError
from ks_core.ks.statistic import KSResult, as_matrix, ks_test
from ks_core.likelihood.rows import RowEmbedding, reading
from ks_core.trajectory.rows import Held, Rows, halves, row_lengths
from ks_core.trajectory.split import SplitRows, all_rows, is_by_rows

#: What a training of the whole matrix is called: the one whose start nothing in the model holds.
WHOLE = "the embedding"
#: What is said of an embedding that no process holds.
SPLIT = (
    "The embedding is split over several processes (FSDP of the first version, ZeRO-3 or tensor parallelism), and no process has all of a row. "
    "Expected one that each process holds whole, as with DDP, or that is split by rows, as by fully_shard (fsdp_version 2). Save checkpoints, and follow them with: python -m ks_core trajectory BASE FOLDER"
)
#: Dtypes in which a checkpoint may be saved, by name.
STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class LowRank(Held):
    """A LoRA on the embedding: every row is its start plus ``scaling`` times a combination of r directions.

    ``left`` (r, V) and ``right`` (d, r) are peft's two parameters. The gradient of a row is that of its r numbers in ``left``.
    """

    kind: str
    left: torch.Tensor
    right: torch.Tensor
    scaling: float
    start: Matrix
    tied: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.start.shape

    @property
    def trained(self) -> torch.Tensor:
        return self.left

    def token_ids(self) -> np.ndarray:
        return np.arange(self.shape[0])

    def moved(self) -> np.ndarray:
        """Rows whose numbers in ``left`` are not all 0; without ``right`` none of them has moved."""
        if not bool(self.right.detach().any()):
            return np.zeros(0, np.int64)
        return self.left.detach().any(dim=0).nonzero()[:, 0].cpu().numpy()

    def tested(self, places: np.ndarray) -> KSResult:
        """The test of these rows. The sums are made of the whole matrix, in the blocks in which a reader of the adapter makes
        them: sums of other blocks may differ in the last bit."""
        left, right = (x.detach().float().cpu().numpy().T for x in (self.left, self.right))
        after = LowRankMatrix(self.start, np.ascontiguousarray(left), np.ascontiguousarray(right), self.scaling)
        found = ks_test(self.start, after, with_shift=True)
        assert found.l2 is not None and found.cosine is not None
        return KSResult(
            found.counts[places], found.dim, found.device, found.note, found.l2[places], found.cosine[places]
        )

    def shifts(self, places: np.ndarray) -> np.ndarray:
        """These rows less their starts, float16 (k, d)."""
        left, right = self.left.detach().float(), self.right.detach().float()
        return halves(self.scaling * (left[:, torch.from_numpy(places).to(left.device)].T @ right.T))

    def gradient(self) -> torch.Tensor | None:
        return None if self.left.grad is None else row_lengths(self.left.grad, 0)


def find(model: Any, start: Any = None, stored: str | None = None) -> Rows | LowRank:
    """The rows of ``model``'s input embedding that are trained, before the first step.

    ``model`` is a model of transformers or peft (within DistributedDataParallel too) or an embedding by itself. ``start`` is what the rows
    began with where the model itself does not hold it any more: a source as ``open_checkpoint`` takes it, or a tensor (V, d). ``stored`` names
    a dtype of ``STORED`` in which the checkpoints are saved where that is not the one that is trained.

    Raises ``SettingsError`` for an embedding of which nothing is trained, which is split over processes, or which is adapted in
    a way that is not known here, and for a start of another shape.
    """
    if stored is not None and stored not in STORED:
        raise SettingsError(f"stored is {stored!r}. Expected one of: {', '.join(STORED)}.")
    whole = _unwrapped(model)
    if _is_spread(whole):
        raise SettingsError(SPLIT)
    module = reading(whole) if hasattr(whole, "get_input_embeddings") else whole
    as_saved = STORED[stored] if stored else None
    if isinstance(module, RowEmbedding):
        return Rows("rows over the embedding", module.ids, module.rows, module.base.weight, as_saved or torch.float32)
    inner = getattr(module, "token_adapter", module)
    adapter = str((getattr(inner, "active_adapters", None) or ["default"])[0])
    if hasattr(inner, "trainable_tokens_delta"):
        values, start_of = inner.trainable_tokens_delta[adapter], inner.get_base_layer().weight
        ids = torch.tensor(inner.token_indices[adapter], device=values.device)
        return Rows("TrainableTokens", ids, _own(values), _own(start_of), as_saved or torch.float32)
    if hasattr(inner, "lora_embedding_A"):
        return _low_rank(inner, adapter, stored)
    tied = _is_tied(whole, module)
    if hasattr(inner, "modules_to_save"):
        values, began = inner.modules_to_save[adapter].weight, inner.original_module.weight
        return Rows("modules_to_save", None, _own(values), _own(began), as_saved, tied)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise SettingsError(
            f"{type(module).__name__} has no weight with a row for each token, so there are no rows to follow."
        )
    if is_by_rows(weight) and weight.ndim == 2:
        _trainable(weight)
        full = all_rows(weight)
        return SplitRows(WHOLE, None, full, _began(full, start), as_saved, tied, param=weight)
    _trainable(_own(weight))
    return Rows(WHOLE, None, weight, _began(weight, start), as_saved, tied)


def _low_rank(module: Any, adapter: str, stored: str | None) -> LowRank:
    """What ``find`` gives for a LoRA on the embedding."""
    if module.use_dora.get(adapter) or stored:
        why = (
            "with DoRA its rows have lengths of their own"
            if module.use_dora.get(adapter)
            else "stored is for rows with values of their own"
        )
        raise SettingsError(
            f"A LoRA on the embedding is followed as it is: {why}. Leave that out, or record by checkpoints."
        )
    left, right = module.lora_embedding_A[adapter], module.lora_embedding_B[adapter]
    base = as_matrix(_own(module.get_base_layer().weight), "before")
    return LowRank("LoRA", _own(left), _own(right), float(module.scaling[adapter]), base)


def _unwrapped(model: Any) -> Any:
    """The model within what spreads or compiles it."""
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
        model = model.module
    return getattr(model, "_orig_mod", model)


def _own(weight: torch.Tensor) -> torch.Tensor:
    """A weight that this process holds all of. Raises ``SettingsError`` for a part of one."""
    if hasattr(weight, "full_tensor") or hasattr(weight, "ds_id") or weight.ndim != 2 or not weight.numel():
        raise SettingsError(SPLIT)
    return weight


def is_split_by_rows(model: Any) -> bool:
    """Whether a model's input embedding is split over processes by rows, as ``find`` can follow it."""
    whole = _unwrapped(model)
    module = reading(whole) if hasattr(whole, "get_input_embeddings") else whole
    return is_by_rows(getattr(module, "weight", None))


def _is_spread(model: Any) -> bool:
    """Whether FSDP holds the parameters of a model, or of a part of it. Its first version shows them whole while it works with
    other tensors. By its name, as importing it takes long."""
    modules = model.modules() if hasattr(model, "modules") else ()
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in modules)


def _trainable(weight: torch.Tensor) -> None:
    if not weight.requires_grad:
        raise SettingsError(
            "No row of the embedding is trained: it takes no gradient, and no adapter lies over it. Expected a training that moves "
            "rows; LoRA inside the layers alone moves none."
        )


def _is_tied(model: Any, module: Any) -> bool:
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return output is not None and getattr(output, "weight", None) is getattr(module, "weight", module)


def _began(weight: torch.Tensor, start: Any) -> torch.Tensor:
    """Where a whole matrix began: a copy of it as it is now, unless somebody says otherwise."""
    if start is None:
        return weight.detach().clone()
    if isinstance(start, str):
        matrix = open_checkpoint(start).matrix
        start = torch.from_numpy(np.array(to_floats(matrix.block(0, matrix.shape[0]), matrix.dtype)))
    if tuple(start.shape) != tuple(weight.shape):
        raise SettingsError(
            f"The start has {start.shape[0]:,} x {start.shape[1]:,} values, the embedding {weight.shape[0]:,} x {weight.shape[1]:,}. "
            "Name the checkpoint that this training began with."
        )
    return start.detach().to(weight.device, weight.dtype)
