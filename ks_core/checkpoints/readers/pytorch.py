"""PyTorch: a file that ``torch.save`` wrote, or what transformers saved before safetensors."""

from __future__ import annotations

from ks_core.checkpoints import folders
from ks_core.checkpoints.readers.reader import Reader
from ks_core.checkpoints.readers.weights import Weights

WEIGHTS = Weights("PyTorch", (".bin", ".pt", ".pth", ".ckpt"), *folders.PYTORCH)

READER = Reader(
    "pytorch", "PyTorch", "A .bin, .pt, .pth or .ckpt file of tensors, or a folder that transformers saved so.",
    is_mine=WEIGHTS.is_mine, read=WEIGHTS.read,
)  # fmt: skip
