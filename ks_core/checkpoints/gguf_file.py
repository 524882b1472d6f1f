"""Reading the embedding and the vocabulary of a GGUF file, block by block.

The layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts, key-value
pairs, tensor descriptions, data. The header is parsed here, with every count checked against the bytes
that are left, because a file may claim anything; dequantizing is the gguf package's.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ks_core.checkpoints import pieces
from ks_core.checkpoints.matrices import ArrayMatrix, MappedMatrix, Matrix, check_shape
from ks_core.checkpoints.vocabulary import Content, Vocabulary
from ks_core.errors import CheckpointError, KSLotteryError
from ks_core.jobs import bounded
from ks_core.store import door

EMBEDDING = "token_embd.weight"
#: Keys that are kept; the others are skipped over.
WANTED = (
    "general.alignment",
    "general.name",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
)
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
#: Token types, as llama.cpp numbers them.
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
#: Bounds on what a header may claim, several times what real files have: bytes of all of it and of a value, strings in an
#: array, tensors and keys.
LONGEST_HEADER, LARGEST_VALUE = 128 << 20, 64 << 20
MOST_ENTRIES = 2_000_000
MOST_TENSORS = 100_000


#: What a header says of a tensor: shape, type, offset into the file.
Description = tuple[tuple[int, ...], int, int]
#: The vocabulary in a header: what tells it from others, and its content.
Tokens = tuple[str, pieces.Found]


@dataclass(frozen=True)
class GGUFFile:
    """What a GGUF header says of each tensor, and the vocabulary that it holds."""

    path: Path
    tensors: dict[str, Description]
    tokens: Tokens | None


class _Reader:
    """Reads the header in order. Not through a memory map: a file that is cut short meanwhile would end the process."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.at = file, os.fstat(file.fileno()).st_size, 0

    def _move(self, size: int) -> None:
        if size > self.size - self.at:
            raise ValueError("a length passes the end of the file")
        if self.at + size > LONGEST_HEADER:
            raise ValueError(f"its metadata have more than {LONGEST_HEADER:,} bytes")
        self.at += size

    def skip(self, size: int) -> None:
        self._move(size)
        self.file.seek(self.at)

    def take(self, size: int) -> bytes:
        if size > LARGEST_VALUE:
            raise ValueError(f"a value claims {size:,} bytes")
        self._move(size)
        found = self.file.read(size)
        if len(found) < size:
            raise ValueError("it was cut short while it was read")
        return found

    def number(self, kind: int) -> Any:
        if kind not in SIZES:
            raise ValueError(f"a value is of type {kind}")
        return struct.unpack("<" + FORMATS[kind], self.take(SIZES[kind]))[0]

    def string(self, keep: bool = True) -> str:
        size = self.number(10)
        if keep:
            return self.take(size).decode("utf-8", errors="replace")
        self.skip(size)
        return ""

    def value(self, kind: int, keep: bool) -> Any:
        """A value of a key; what is not to be kept is passed over without reading it into memory."""
        if kind == STRING:
            return self.string(keep)
        if kind != ARRAY:
            return self.number(kind)
        inner, count = self.number(4), self.number(10)
        if inner == STRING:
            if count > MOST_ENTRIES:
                raise ValueError(f"an array claims {count:,} strings")
            found = [self.string(keep) for _ in range(count)]
            return found if keep else None
        if inner not in SIZES:
            raise ValueError(f"an array has entries of type {inner}")
        if not keep:
            return self.skip(count * SIZES[inner])
        return np.frombuffer(self.take(count * SIZES[inner]), "<" + FORMATS[inner]).tolist()


def open_gguf(path: Path) -> GGUFFile:
    """Read the header. Raises ``CheckpointError`` for a file that is none."""
    try:
        with door.open_file(path) as file:
            size = min(door.size(file), LONGEST_HEADER)
            tensors, tokens = bounded.call(
                described, [file], path=str(path), size=size, what=path, error=CheckpointError
            )
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    return GGUFFile(path, tensors, tokens)


def described(file: BinaryIO, path: str) -> tuple[dict[str, Description], Tokens | None]:
    """What the header of an open file says, as ``GGUFFile`` has it; ``path`` is what a person calls the file.

    Raises ``CheckpointError``.
    """
    try:
        keys, tensors = _parse(_Reader(file))
        return tensors, _tokens(keys)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (OSError, ValueError, KeyError, struct.error, OverflowError) as error:
        raise CheckpointError(
            f"{path} is no GGUF file that can be read ({error}). Expected GGUF version 2 or 3; download it again."
        ) from None


def _parse(reader: _Reader) -> tuple[dict[str, Any], dict[str, Description]]:
    if reader.take(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = reader.number(4)
    if version not in (2, 3):
        raise ValueError(f"it is of version {version}")
    tensor_count, key_count = reader.number(10), reader.number(10)
    if max(tensor_count, key_count) > MOST_TENSORS:
        raise ValueError(
            f"it claims {tensor_count:,} tensors and {key_count:,} keys, at most {MOST_TENSORS:,} are expected"
        )
    keys: dict[str, Any] = {}
    for _ in range(key_count):
        name, kind = reader.string(), reader.number(4)
        value = reader.value(kind, name in WANTED)
        if name in WANTED:
            keys[name] = value
    tensors = {}
    for _ in range(tensor_count):
        name = reader.string()
        shape = tuple(reader.number(10) for _ in range(_small(reader.number(4))))
        kind, offset = reader.number(4), reader.number(10)
        if name in tensors:
            raise ValueError(f"it names {name} twice")
        tensors[name] = (shape[::-1], kind, offset)
    alignment = keys.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise ValueError(f"its alignment is {alignment}")
    start = -(-reader.at // alignment) * alignment
    return keys, {n: (s, k, start + o) for n, (s, k, o) in tensors.items()}


def _small(dimensions: int) -> int:
    if dimensions > 8:
        raise ValueError(f"a tensor has {dimensions} dimensions")
    return dimensions


@dataclass(frozen=True)
class QuantizedMatrix:
    """Rows of a quantized tensor, dequantized to float32 as they are asked for."""

    raw: MappedMatrix  # (V, bytes per row) uint8
    shape: tuple[int, int]
    quantization: Any
    dtype: str = "float32"

    def block(self, start: int, stop: int) -> np.ndarray:
        from gguf.quants import dequantize

        # A scale may be anything, NaN too; the test says which row is no number.
        with np.errstate(all="ignore"):
            return dequantize(np.ascontiguousarray(self.raw.block(start, stop)), self.quantization)


def embedding(file: GGUFFile) -> tuple[Matrix, str]:
    """The embedding matrix and the name of how it is stored. Raises ``CheckpointError`` when there is none."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if EMBEDDING not in file.tensors:
        raise CheckpointError(f"{file.path} holds no tensor {EMBEDDING}. Expected a language model in GGUF.")
    shape, kind, offset = file.tensors[EMBEDDING]
    try:
        quantization = GGMLQuantizationType(kind)
        per_block, block_bytes = GGML_QUANT_SIZES[quantization]
    except (ValueError, KeyError):
        raise CheckpointError(
            f"{file.path} stores its embedding as GGUF type {kind}, which is not known here. Convert it to F16 or Q8_0."
        ) from None
    if len(shape) != 2 or shape[1] % per_block:
        raise CheckpointError(
            f"{file.path} has an embedding of shape {list(shape)}, which {quantization.name} "
            "cannot hold. The file is damaged."
        )
    rows, width = shape
    check_shape(file.path, rows, width)
    row_bytes = width // per_block * block_bytes
    if not rows or not width:
        return ArrayMatrix(np.zeros((0, 0), np.float32)), quantization.name
    try:
        with door.open_file(file.path) as opened:
            if offset + rows * row_bytes > door.size(opened):
                raise CheckpointError(
                    f"{file.path} is cut short: its embedding passes the end of the file. Download it again."
                )
            raw = np.memmap(opened, np.uint8, "r", offset, (rows, row_bytes))
    except KSLotteryError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file.path} cannot be read: {error}. It may have changed meanwhile; try again."
        ) from None
    if quantization.name in ("F32", "F16", "BF16", "F64"):
        dtype = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}[quantization.name]
        named = "bfloat16" if quantization.name == "BF16" else ""
        return MappedMatrix(raw.view(dtype), named, file.path), quantization.name
    matrix = QuantizedMatrix(MappedMatrix(raw, "", file.path), (rows, width), quantization)
    try:
        matrix.block(0, 1)
    except NotImplementedError:
        raise CheckpointError(
            f"{file.path} stores its embedding as {quantization.name}, which cannot be "
            "dequantized here. Convert it to F16 or Q8_0."
        ) from None
    return matrix, quantization.name


def _tokens(keys: dict[str, Any]) -> Tokens | None:
    """The vocabulary that the metadata hold; ``None`` when they name no tokens. Raises ``CheckpointError``."""
    found, kinds = keys.get("tokenizer.ggml.tokens"), keys.get("tokenizer.ggml.token_type")
    if not isinstance(found, list) or not all(isinstance(p, str) for p in found):
        return None
    pieces.check(found)
    kinds = kinds if isinstance(kinds, list) else []
    special = frozenset(i for i, kind in enumerate(kinds[: len(found)]) if kind in (UNKNOWN, CONTROL))
    added = frozenset(i for i, kind in enumerate(kinds[: len(found)]) if kind == USER_DEFINED)
    name = str(keys.get("tokenizer.ggml.model"))
    style = {"gpt2": "byte-level", "llama": "sentencepiece", "bert": "wordpiece"}.get(name, "plain")
    digest = hashlib.sha256(json.dumps([style, found, kinds]).encode()).hexdigest()
    return digest, (found, style, special, special | added)


def vocabulary(file: GGUFFile) -> Vocabulary | None:
    """The vocabulary that the file's metadata hold; ``None`` when they name no tokens."""
    if file.tokens is None:
        return None
    digest, found = file.tokens
    return Vocabulary(file.path, digest, Content(*found))
