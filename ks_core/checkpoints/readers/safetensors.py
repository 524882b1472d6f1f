"""safetensors: a file, or what transformers saves since 2023."""

from __future__ import annotations

from ks_core.checkpoints import folders
from ks_core.checkpoints.readers.reader import Reader
from ks_core.checkpoints.readers.weights import Weights

WEIGHTS = Weights("safetensors", (".safetensors",), *folders.SAFETENSORS)

READER = Reader(
    "safetensors", "safetensors", "A .safetensors file, or a folder that transformers saved.",
    is_mine=WEIGHTS.is_mine, read=WEIGHTS.read,
)  # fmt: skip
