"""The embedding of a PyTorch file, read so that nothing in the file is run.

Such a file is a pickle, which is a program. ``weights_only=True`` lets it make tensors and plain tables and
nothing else. A tensor it makes may still claim any shape over few bytes, so shapes are held against the file.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints.folders import embedding_name
from ks_core.checkpoints.matrices import MappedMatrix, Matrix
from ks_core.checkpoints.safetensors_file import DTYPES
from ks_core.errors import CheckpointError

#: The format before 2020 cannot be memory-mapped; a larger one is not read into memory.
LARGEST_OLD_FILE = 4 << 30
#: Where training scripts put the state dict inside another table.
WRAPPERS = ("state_dict", "model", "module")
#: How safetensors calls the formats of values that are read.
FORMATS = {dtype: stored for stored, dtype in DTYPES.items()}


def embedding(path: Path, name: str = "") -> tuple[str, Matrix, str, list[str]]:
    """Name, matrix and stored format of the file's embedding, and the names of the tensors in the file.

    The format is named as safetensors does. An output layer that is the embedding itself under a second name is left
    out: it is the same tensor. ``name`` is the tensor's name where an index says it. Raises ``CheckpointError``.
    """
    import torch

    state = _load(path)
    for _ in range(3):
        inner = next((state[w] for w in WRAPPERS if isinstance(state, dict) and isinstance(state.get(w), dict)), None)
        state = inner if inner is not None else state
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no table of tensors. Expected a state dict; save it as safetensors.")
    names = [n for n, value in state.items() if isinstance(n, str) and isinstance(value, torch.Tensor)]
    name = name or embedding_name(path, names)
    tensor = state.get(name)
    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(f"{path} lacks {name}, which the index places there. Download it again.")
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_nested:
        raise CheckpointError(f"{name} in {path} holds no plain values ({tensor.layout}). Save it as safetensors.")
    if tensor.ndim != 2:
        raise CheckpointError(
            f"{name} in {path} has the shape {list(tensor.shape)}. An embedding has two dimensions, (tokens, values)."
        )
    stored = str(tensor.dtype).removeprefix("torch.")
    if stored not in FORMATS:
        raise CheckpointError(
            f"{name} in {path} is stored as {stored}. Expected bfloat16, float16, float32 or float64: "
            "convert the checkpoint first."
        )
    if tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise CheckpointError(
            f"{path} is damaged: {name} claims the shape {list(tensor.shape)}, more than the file holds. "
            "Download or save it again."
        )
    shared = tensor.data_ptr()
    names = [n for n in names if n == name or state[n].device.type != "cpu" or _address(state[n]) != shared]
    tensor = tensor.detach().resolve_neg().contiguous()
    if stored == "bfloat16":
        bits = tensor.view(torch.int16).numpy().view(np.uint16)
        return name, MappedMatrix(bits, "bfloat16", path), FORMATS[stored], names
    return name, MappedMatrix(tensor.numpy(), "", path), FORMATS[stored], names


def _address(tensor: Any) -> int:
    """Where a tensor's values begin; 0 for one that has none of its own (a sparse one)."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _load(path: Path) -> Any:
    import torch

    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with zipfile.ZipFile(path) as archive:
                # torch stores; a compressed member could unpack to any size.
                if any(e.compress_type or e.file_size > path.stat().st_size for e in archive.infolist()):
                    raise CheckpointError(f"{path} is packed in a way that torch does not write. Do not use it.")
        elif _begins_as_zip(path):  # torch would look for what zipfile did not find
            raise CheckpointError(f"{path} is cut short: its table of contents is missing. Download it again.")
        elif path.stat().st_size > LARGEST_OLD_FILE:
            raise CheckpointError(f"{path} is in PyTorch's old format and too large for it. Save it as safetensors.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other programs, in words for programmers
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except OSError:
        raise  # the caller says it with the system's reason
    except Exception as error:  # torch raises many kinds here, and each means that the file is not to be read
        if "nsupported" in str(error) or "Weights only" in str(error):
            raise CheckpointError(
                f"{path} contains more than weights, and loading it could run code. Expected a file "
                "of tensors only; save it as safetensors."
            ) from None
        raise CheckpointError(
            f"{path} is no PyTorch file that can be read ({type(error).__name__}). Save it as safetensors."
        ) from None
