"""What a run may take of a machine: processes, how the model is laid over them, and in which precision it is held.

None of it changes what is learned but for rounding, and each is part of a result's signature where it is not the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ks_core import values
from ks_core.errors import SettingsError

#: Bytes a value, by the precision in which the frozen body is held. Trained rows are float32 in every case.
PRECISIONS = {"float32": 4, "bfloat16": 2}
MOST_PROCESSES = 1024


@dataclass(frozen=True)
class Resources:
    """``processes`` share a step's batch and the sentences to translate, a device each (or the CPU's cores).

    ``sharded`` spreads the frozen body over them (FSDP), so that a model may be larger than one device: rows and the
    embedding are then whole in each process. ``precision`` is the body's, one of ``PRECISIONS``; trained rows and their
    moments stay float32. ``checkpointing`` keeps no activations inside layers and computes them again, which takes a
    third to a half more time. Raises ``SettingsError`` for what cannot be.
    """

    processes: int = 1
    sharded: bool = False
    precision: str = "float32"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        values.whole("The number of processes", self.processes, 1, MOST_PROCESSES)
        for name in ("sharded", "checkpointing"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} is {str(getattr(self, name))[:80]!r}. Expected true or false.")
        if values.text("The precision", self.precision) not in PRECISIONS:
            raise SettingsError(
                f"{self.precision[:80]!r} is no precision of a model. Expected one of: {', '.join(PRECISIONS)}."
            )
        if self.sharded and self.processes == 1:
            raise SettingsError(
                "The model is to be sharded over one process. Sharding spreads it over several: name at least 2 processes."
            )

    def facts(self) -> dict[str, Any]:
        """What a signature says of it: what is not the default."""
        plain = asdict(Resources())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Resources:
        """From plain values. Raises ``SettingsError`` for a field that is not known."""
        return cls(**values.of_fields(cls, given))
