"""The ways in which people save a model, each carried out by the library that they use for it where it is installed here.

A way writes into a folder and says what is opened then. It is opened with the right rows, or refused with the words that stand in
``refused``. Each file beside this one has some; ``document`` makes ``docs/what-can-be-opened.md`` of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAME = "model.embed_tokens.weight"
#: The chapters of the document, in their order.
CHAPTERS = LIBRARIES, PARTS, NESTED, ADAPTERS, ORIGINAL, QUANTIZED, NAMES = (
    "Whole models",
    "Files in parts, and folders one level off",
    "PyTorch files",
    "peft",
    "Original releases",
    "Quantized",
    "Embeddings by their names",
)
#: What a way writes: the folder, the tiny model -> the source to open.
Write = Callable[[Path, Any], Path | str]


@dataclass(frozen=True)
class Way:
    """A way of saving: what people call it, in which chapter; by what it is written; with which words it is refused, or the
    largest difference in a value where the way rounds."""

    chapter: str
    title: str
    by: str
    write: Write
    refused: str = ""
    atol: float = 0.0


WAYS: list[Way] = []


def way(chapter: str, title: str, by: str, **about: Any) -> Callable[[Write], Write]:
    """Put a function on the list."""

    def listed(write: Write) -> Write:
        WAYS.append(Way(chapter, title, by, write, **about))
        return write

    return listed


def rows(model: Any) -> np.ndarray:
    """The input embedding of a model as float32, (V, d)."""
    return model.get_input_embeddings().weight.detach().float().numpy()


def state_of(model: Any) -> dict[str, Any]:
    """A model's state dict in which every tensor has values of its own."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def save_torch(value: Any, path: Path) -> Path:
    """``torch.save`` into a folder that is made for it."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def save_tensors(path: Path, tensors: dict[str, Any]) -> Path:
    """A safetensors file in a folder that is made for it."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


#: The rows of ways that change some, by their folder.
expected: dict[Path, np.ndarray] = {}
