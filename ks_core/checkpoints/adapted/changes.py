"""What an adapter holds for each module of its base, and the weight that comes of it.

peft saves a module's parts side by side: a LoRA's two factors, DoRA's magnitude, trained rows, a whole weight of
``modules_to_save``, or the weight that the change is laid over, where the vocabulary was resized before training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import folders, safetensors_file
from ks_core.checkpoints.adapted import settings as said, sums
from ks_core.checkpoints.matrices import ArrayMatrix, Matrix, OverlaidMatrix, to_floats
from ks_core.checkpoints.safetensors_file import Tensor
from ks_core.errors import CheckpointError

#: How peft's names end, and what each is here. Whatever else a module has is a whole parameter of the model.
_ENDINGS = {
    "lora_A.weight": "A", "lora_B.weight": "B", "lora_B.bias": "B bias", "lora_embedding_A": "rows A", "lora_embedding_B": "rows B",
    "lora_magnitude_vector": "magnitude", "lora_magnitude_vector.weight": "magnitude",
    "token_adapter.trainable_tokens_delta": "rows", "trainable_tokens_delta": "rows",
    "token_adapter.base_layer.weight": "below", "base_layer.weight": "below", "base_layer.bias": "bias",
    "modules_to_save.weight": "weight", "modules_to_save.bias": "bias",
    "original_module.weight": "left as it was", "original_module.bias": "left as it was",
}  # fmt: skip
#: The parts of which each is a way to change a weight.
WAYS = {"A": "a LoRA", "rows A": "a LoRA", "rows": "trained rows", "weight": "a whole weight"}


@dataclass(frozen=True)
class Change:
    """What an adapter does to one module: its parts by what they are (the values of ``_ENDINGS``, and names of parameters)."""

    folder: Path
    file: Path
    module: str
    settings: Mapping[str, Any] = field(repr=False)
    parts: dict[str, Tensor] = field(default_factory=dict)

    @property
    def ways(self) -> list[str]:
        """In which ways it changes the module's weight."""
        return [part for part in WAYS if part in self.parts]

    @property
    def parameters(self) -> list[str]:
        """The parameters of the module that it changes: ``weight``, ``bias``, or whatever the module calls its own."""
        known = {*_ENDINGS.values(), "weight", "bias"}
        found = ["weight"] if self.ways else []
        found += ["bias"] if {"bias", "B bias"} & self.parts.keys() else []
        return found + [part for part in self.parts if part not in known]

    def below(self, parameter: str) -> Tensor | None:
        """The tensor of the adapter's own file that the parameter is, or that it is laid over; ``None`` where that is the base's."""
        return self.parts.get(parameter) or (self.parts.get("below") if parameter == "weight" else None)

    def over(self, base: Matrix, parameter: str = "weight") -> Matrix:
        """A parameter as it becomes. ``base``: that of ``below`` where there is one, else the base's, each laid flat.

        Raises ``CheckpointError`` for what does not fit, is not whole, or cannot be computed.
        """
        if parameter == "bias" and "B bias" in self.parts:
            added = self._array("B bias").reshape(1, -1)
            self._check_shape("bias", added.shape, base.shape)
            scale = said.scaling(self.settings, self._array("B").shape[1], self.module)
            return sums.LowRankMatrix(base, np.ones((1, 1), np.float32), added, scale)
        if parameter in self.parts:
            return base
        return self._rows(base) if "rows" in self.parts else self._sum(base)

    def indices(self) -> list[int]:
        """The ids of the trained rows, in the order in which they are stored. Raises ``CheckpointError``."""
        found = self.settings.get("token_indices") or self.settings.get("trainable_token_indices")
        if isinstance(found, dict):
            found = next((v for k, v in found.items() if self.module == k or self.module.endswith(f".{k}")), None)
        if not isinstance(found, list) or not all(type(i) is int for i in found):
            raise CheckpointError(
                f"{self.folder / 'adapter_config.json'} lists no token ids. Expected token_indices, a list of whole numbers."
            )
        return found

    def _rows(self, base: Matrix) -> Matrix:
        """The base with single rows exchanged."""
        ids, values = self.indices(), self._array("rows")
        rows, width = base.shape
        if len(ids) != len(values):
            raise CheckpointError(
                f"{self.folder} lists {len(ids)} token ids and {len(values)} rows. Save the adapter again."
            )
        if values.shape[1] != width:
            raise CheckpointError(
                f"{self.folder} has rows of {values.shape[1]:,} values, its base rows of {width:,}. It was made for another model."
            )
        if ids and (min(ids) < 0 or max(ids) >= rows or len(set(ids)) != len(ids)):
            raise CheckpointError(
                f"{self.folder} names ids from {min(ids)} to {max(ids)}, its base has {rows:,} rows "
                "(each id may occur once). It was made for another model."
            )
        order = np.argsort(np.array(ids, np.int64))
        return OverlaidMatrix(base, np.array(ids, np.int64)[order], values[order])

    def _sum(self, base: Matrix) -> Matrix:
        """The base with a product added, and with DoRA brought to another length."""
        said.refuse_other_sums(self.folder, self.settings)
        embedding = "rows A" in self.parts
        one, other = ("rows A", "rows B") if embedding else ("A", "B")
        if other not in self.parts:
            raise CheckpointError(
                f"{self.folder} has a LoRA on {self.module} without its lora_{'embedding_' * embedding}B. Save the adapter again."
            )
        a, b = self._array(one), self._array(other)
        if a.shape[0] != b.shape[1]:
            raise CheckpointError(
                f"{self.folder} has a LoRA on {self.module} of the ranks {a.shape[0]} and {b.shape[1]}. Expected one rank; save the adapter again."
            )
        scale = said.scaling(self.settings, a.shape[0], self.module)
        turned = embedding or is_turned(self, base.shape)
        left, right = (a.T, b.T) if turned else (b, a)
        self._check_shape("weight", (left.shape[0], right.shape[1]), base.shape)
        linear = not embedding and len(self.parts["A"].shape) == 2
        start = (
            said.start(self.folder, self.settings)
            if linear or self.settings.get("init_lora_weights") == "loftq"
            else ""
        )
        if start and scale <= 0:
            raise CheckpointError(
                f"{self.folder} began as {start} and is scaled by {scale:g}. Expected a scaling above 0. {said.REMEDY}"
            )
        magnitude = self._magnitude(right.shape[1] if turned else left.shape[0])
        return sums.LowRankMatrix(
            base,
            left,
            right,
            scale,
            start=start,
            magnitude=magnitude,
            by_column=turned,
            turned=turned and not embedding,
        )

    def _magnitude(self, length: int) -> np.ndarray | None:
        """DoRA's lengths, float32 (length,); ``None`` for a plain LoRA."""
        if "magnitude" not in self.parts:
            if self.settings.get("use_dora"):
                raise CheckpointError(
                    f"{self.folder} is a DoRA adapter without the magnitudes of {self.module}. Save the adapter again."
                )
            return None
        found = self._array("magnitude").reshape(-1)
        if len(found) != length:
            raise CheckpointError(
                f"{self.folder} is a DoRA adapter with {len(found):,} magnitudes for {self.module}. Expected {length:,}: it was made for "
                "another model."
            )
        return found

    def _check_shape(self, parameter: str, found: tuple[int, ...], base: tuple[int, int]) -> None:
        if found != base:
            raise CheckpointError(
                f"{self.folder} adapts a {parameter} of {found[0]:,} x {found[1]:,} ({self.module}), its base has {base[0]:,} x "
                f"{base[1]:,}. It was made for another model."
            )

    def _array(self, part: str) -> np.ndarray:
        return small_array(self.file, self.parts[part])


def changes(folder: Path, file: Path, settings: Mapping[str, Any]) -> dict[str, Change]:
    """What an adapter's file holds, by the path of the module in the model (without peft's own prefix)."""
    found: dict[str, Change] = {}
    for name, tensor in safetensors_file.tensors(file).items():
        path = name.removeprefix("base_model.model.")
        ending = next((e for e in _ENDINGS if path.endswith(f".{e}")), "")
        module = path.removesuffix(f".{ending}") if ending else path.rpartition(".")[0]
        part = _ENDINGS[ending] if ending else path.rpartition(".")[2]
        found.setdefault(module, Change(folder, file, module, settings)).parts.setdefault(part, tensor)
    return found


def is_turned(change: Change, base: tuple[int, int]) -> bool:
    """Whether a LoRA's weight lies as (inputs, outputs): told by its shape, and where it is square by the settings."""
    _, inputs = flat(change.file, change.parts["A"]).shape
    outputs, _ = flat(change.file, change.parts["B"]).shape
    if inputs == outputs:
        return bool(change.settings.get("fan_in_fan_out"))
    return base == (inputs, outputs)


def small_array(file: Path, tensor: Tensor) -> np.ndarray:
    """A small tensor in memory, float32 (rows, values). Raises ``CheckpointError`` for one that is not small."""
    found = flat(file, tensor)
    size = found.shape[0] * found.shape[1] * max(4, found.storage.itemsize)
    if size > sums.LARGEST_ARRAY:
        raise CheckpointError(
            f"{file} changes rows by {folders.listed([tensor.name])} of {size:,} bytes. Expected at most {sums.LARGEST_ARRAY:,}: merge "
            "it with peft and open the merged checkpoint."
        )
    return np.array(to_floats(found.block(0, found.shape[0]), found.dtype))


def flat(file: Path, tensor: Tensor) -> ArrayMatrix:
    """Any tensor as a matrix: a vector is one row, further dimensions are laid flat."""
    shape = tensor.shape
    rows = 1 if len(shape) < 2 else shape[0]
    count = int(np.prod(shape, dtype=np.int64))
    return safetensors_file.matrix(
        file, Tensor(tensor.name, tensor.stored, (rows, count // rows if rows else 0), tensor.start, tensor.stop)
    )
