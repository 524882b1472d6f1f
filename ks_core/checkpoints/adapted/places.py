"""Which weight of the base each part of an adapter changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ks_core.checkpoints import folders
from ks_core.checkpoints.adapted import names, settings as said
from ks_core.checkpoints.adapted.changes import Change, flat, is_turned
from ks_core.checkpoints.matrices import ArrayMatrix, Matrix
from ks_core.checkpoints.safetensors_file import Tensor
from ks_core.errors import CheckpointError


@dataclass(frozen=True)
class Place:
    """A weight that an adapter changes: the tensor that it is or is laid over, in its file, and what changes it."""

    file: Path
    tensor: Tensor
    change: Change
    parameter: str

    @property
    def below(self) -> ArrayMatrix:
        """The weight without the change, laid flat."""
        return flat(self.file, self.tensor)

    def matrix(self) -> Matrix:
        """The weight as it becomes. Raises ``CheckpointError``."""
        return self.change.over(self.below, self.parameter)


def places(
    changes: Mapping[str, Change], stored: Mapping[str, tuple[Path, Tensor]], embedding: str, tied: bool
) -> dict[str, Place]:
    """What an adapter changes, by the name that the weight has in the base, whose tensors are ``stored``.

    A whole weight that the base lacks keeps the name that it has in the adapter. ``embedding`` is the input embedding's name; it
    is the output layer too where the model is ``tied``. Raises ``CheckpointError`` for a kind that is not computed here, for what the
    base lacks, and for what does not fit it.
    """
    found: dict[str, Place] = {}
    wanted = {f"{module}.{parameter}": (c, parameter) for module, c in changes.items() for parameter in c.parameters}
    known = names.partners(wanted, stored)
    for name, (change, parameter) in wanted.items():
        said.refuse_other_kinds(change.folder, change.settings)
        if "lora_" in name:
            raise CheckpointError(
                f"{change.folder} holds {folders.listed([name])}, a part of a LoRA that is not known here. {said.REMEDY}"
            )
        target = known.get(name)
        if target is None and parameter == "weight" and names.is_embedding(change.module, embedding):
            target = embedding
        below = change.below(parameter)
        if below is not None:
            place = Place(change.file, below, change, parameter)
        elif target is not None:
            place = Place(*stored[target], change, parameter)
        elif tied and name.endswith(folders.HEADS) and embedding in stored:
            place = Place(*stored[embedding], change, parameter)
        else:
            raise CheckpointError(
                f"{change.folder} changes {folders.listed([name])}, which its base lacks (there is: {folders.listed(list(stored))}). "
                "It was made for another model, or for its weights under other names."
            )
        target = target or name
        if target in found:
            raise CheckpointError(f"{change.folder} changes {folders.listed([target])} more than once. {said.REMEDY}")
        found[target] = place
        place.matrix()  # what does not fit is said before anything is compared
    _check_turned(found)
    return found


def _check_turned(found: Mapping[str, Place]) -> None:
    """Raise ``CheckpointError`` where it cannot be told how a square weight lies: one setting stands for all modules of an adapter,
    peft leaves there what the last one needed, and another one contradicts it."""
    linear = {name: place for name, place in found.items() if "A" in place.change.parts and place.parameter == "weight"}
    square = [name for name, place in linear.items() if place.below.shape[0] == place.below.shape[1]]
    for name, place in linear.items():
        stated = bool(place.change.settings.get("fan_in_fan_out"))
        if square and name not in square and is_turned(place.change, place.below.shape) != stated:
            raise CheckpointError(
                f"{place.change.folder} says fan_in_fan_out = {stated}, which does not hold for {folders.listed([name])}: how "
                f"{folders.listed(square)} lies cannot be told. {said.REMEDY}"
            )
