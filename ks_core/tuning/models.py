"""Whole models, for what needs more than the embedding: tuning, translation, the audit."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import hub, whole
from ks_core.checkpoints.adapters import changes_more
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import ModelError
from ks_core.jobs import sharding, world
from ks_core.jobs.resources import Resources
from ks_core.tuning.rows import RowEmbedding, lay_over


def load_model(source: str, device: str = "cpu", resources: Resources | None = None) -> tuple[Any, Any]:
    """A causal LM with its tokenizer, from a source as ``open_checkpoint`` takes it.

    It is in float32 and on ``device``, unless ``resources`` name another precision or spread it over the processes
    that work together (``ks_core.jobs.world``).

    A ticket, or any adapter that changes embedding rows alone, is laid over its base as rows
    (``ks_core.tuning.rows``); one that changes more is merged into it by peft. Code that a checkpoint brings
    is never run. Raises ``ModelError`` when there is no whole model or no tokenizer at the source.
    """
    import torch
    from transformers import AutoModelForCausalLM

    whole.check(source)
    asked = resources or Resources()
    checkpoint = open_checkpoint(source)
    laid, root = whole.adapters_of(checkpoint), whole.root(checkpoint)
    where, extra = _location(root.path)
    if whole.is_on_hub(root):
        where = str(hub.download_whole(root.source))
    try:
        tokenizer = _tokenizer(where, extra)
        model: Any = None
        if world.is_main() or not asked.sharded:
            model = AutoModelForCausalLM.from_pretrained(
                where, dtype=getattr(torch, asked.precision), trust_remote_code=False, **extra
            )
    except MemoryError:
        raise
    except Exception as error:  # the libraries raise many kinds for a damaged file, some of them nothing but Exception
        raise ModelError(
            f"{source} could not be loaded as a whole model ({_reason(error)}). Expected a folder with "
            "config.json, weights and tokenizer of a causal language model."
        ) from None
    tokenizer.padding_side = "left"
    merges = any(changes_more(folder) for folder in laid)
    if merges and model is not None:
        model = _merged(model, laid)
    model = sharding.spread(model, device) if asked.sharded else model.to(device)
    if not merges:
        lay_rows_of(checkpoint, model)
    return model, tokenizer


def lay_rows_of(checkpoint: Checkpoint, base: Any) -> None:
    """Lay the rows that a checkpoint's adapters change over the model of its base; ``rows.lift_off`` takes them off."""
    changed = checkpoint.changed_ids
    if changed is not None and len(changed):
        rows = np.concatenate([checkpoint.matrix.block(int(i), int(i) + 1) for i in changed])
        put_rows(lay_over(base, [int(i) for i in changed]), rows)


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a source's root, as ``load_model`` gives it. Raises ``ModelError`` where there is none."""
    root = whole.root(open_checkpoint(source))
    try:
        return _tokenizer(*_location(root.path))
    except Exception as error:
        raise ModelError(f"{source} has no tokenizer that could be loaded ({_reason(error)}).") from None


def _reason(error: Exception) -> str:
    """The first line of what a library said, or the kind of its error."""
    if isinstance(error, pickle.UnpicklingError):
        return "a file holds more than weights, and loading it could run code"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _tokenizer(where: str, extra: dict[str, str]) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **extra)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _merged(model: Any, laid: list[Path]) -> Any:
    """The model with adapters merged into it by peft, the innermost first."""
    from peft import PeftModel

    for folder in laid:
        try:
            model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
        except Exception as error:
            raise ModelError(
                f"peft could not lay the adapter {folder.name} over its base ({_reason(error)}). Merge it where it was "
                "trained and open the merged checkpoint."
            ) from None
    return model


def put_rows(embedding: RowEmbedding, rows: np.ndarray) -> None:
    """Write values (k, d) into laid-over rows, in the order of their ids."""
    import torch

    with torch.no_grad():
        embedding.rows.copy_(
            torch.from_numpy(np.array(rows, dtype=np.float32))
        )  # a copy: a view of a file is read-only


def _location(path: Path) -> tuple[str, dict[str, str]]:
    """What transformers' ``from_pretrained`` is to be given for a checkpoint's path."""
    if path.suffix == ".gguf":
        return str(path.parent), {"gguf_file": path.name}
    return str(path if path.is_dir() else path.parent), {}


@contextlib.contextmanager
def with_lora(model: Any, rank: int, seed: int) -> Iterator[Any]:
    """``model`` with a fresh LoRA on what peft takes for its architecture; without it again afterwards.

    The usual setting: alpha twice the rank, no dropout, B zero, so that the model starts as the base.
    Hu et al. (2021), arXiv 2106.09685. Raises ``ModelError`` for an architecture peft has no targets for.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(seed)  # A is drawn at random
    tied = model.config.tie_word_embeddings
    try:
        wrapped: Any = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM"))
    except ValueError as error:
        raise ModelError(
            f"peft knows no usual place for a LoRA in a model of this kind ({str(error).splitlines()[0][:120]}). "
            "Leave the arm LoRA out."
        ) from None
    try:
        yield wrapped
    finally:
        wrapped.unload()
        model.config.tie_word_embeddings = tied
