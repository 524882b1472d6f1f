"""What a training keeps on disk: the values that it trains, and the Trainer's checkpoints around them.

A training may be killed at any moment, also while it writes. So the newest checkpoint is taken that is whole, and
nothing in one is run: values are safetensors, the rest torch reads as weights only.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers.trainer_utils import get_last_checkpoint

from ks_core.errors import AccessError, ModelError
from ks_core.jobs import bounded
from ks_core.likelihood.rows import RowEmbedding
from ks_core.store import door

TRAINED_FILE = "trained.safetensors"


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What an arm trains, by name: every parameter that takes a gradient."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fingerprint(model: nn.Module) -> str:
    """What tells one arm's checkpoint from another's: names and shapes, and which rows they are."""
    parts = [f"{name} {tuple(p.shape)}" for name, p in trained_parameters(model).items()]
    parts += [str(m.ids.tolist()) for m in model.modules() if isinstance(m, RowEmbedding)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def save_trained(model: nn.Module, folder: Path) -> None:
    """Write what is trained, and nothing else, to a file in ``folder``."""
    values = {name: p.detach().cpu().contiguous() for name, p in trained_parameters(model).items()}
    save_file(values, folder / TRAINED_FILE, metadata={"fingerprint": fingerprint(model)})


def load_trained(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's values into a model that trains the same. Raises ``ModelError`` when it trains others."""
    try:
        with _values(folder) as file:
            if (file.metadata() or {}).get("fingerprint") != fingerprint(model):
                raise ModelError(f"{folder} holds other rows or weights than this run trains. Start the run anew.")
            with torch.no_grad():
                for name, parameter in trained_parameters(model).items():
                    parameter.copy_(file.get_tensor(name).to(parameter.device))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(
            f"{folder / TRAINED_FILE} cannot be read ({type(error).__name__}). Start the run anew."
        ) from None


@contextlib.contextmanager
def _values(folder: Path) -> Iterator[Any]:
    """The file of what is trained, opened by safetensors."""
    path = folder / TRAINED_FILE
    with door.open_file(path) as opened, safe_open(door.name_of(opened, path), "pt") as file:
        yield file


def last_whole(folder: Path, steps: int) -> str | None:
    """The newest checkpoint below ``folder`` that was written to its end; ``None`` without one. Damaged ones are removed."""
    while folder.is_dir() and (newest := get_last_checkpoint(str(folder))):
        if _is_whole(Path(newest), steps):
            return newest
        shutil.rmtree(newest)
    return None


def _is_whole(checkpoint: Path, steps: int) -> bool:
    """Whether the Trainer wrote all of it, which it does in an order, its state last."""
    try:
        state = bounded.read_json(checkpoint / "trainer_state.json", ModelError)
        if not isinstance(state["global_step"], int) or not 0 < state["global_step"] <= steps:
            return False
        with _values(checkpoint):
            pass
        archives = [p for p in checkpoint.iterdir() if p.suffix in (".pt", ".pth")]
        return len(archives) >= 2 and all(_is_intact(p) for p in archives)
    except AccessError:
        raise  # it is not damaged, and not ours to remove
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False


def _is_intact(file: Path) -> bool:
    """Whether an archive of torch has all its bytes, by the sums in it."""
    try:
        with door.open_file(file) as opened, zipfile.ZipFile(opened) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError):
        return False
