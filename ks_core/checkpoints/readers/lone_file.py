"""A folder with one file of weights in it under a name of its own: ``gptq_model-4bit-128g.safetensors``, ``last.ckpt``."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ks_core.checkpoints import folders
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers import pytorch, safetensors
from ks_core.checkpoints.readers.reader import Onward, Reader, Source
from ks_core.errors import CheckpointError

#: What may hold weights, the first ending counts that any file has; and what of it holds the state of a training, or no weights
#: of a model by themselves.
ENDINGS = (safetensors.WEIGHTS.endings, pytorch.WEIGHTS.endings, (".gguf",))
NO_WEIGHTS = re.compile(
    r"(training_args|optimizer|optim|scheduler|scaler|sampler|rng_state|random_states|trainer_state|adapter_model|mmproj)"
    r".*|.*_(model|optim)_states\.pt"
)


def is_mine(source: Source) -> bool:
    """Whether it is a folder with files of weights, under no name that another reader knows."""
    return source.path.is_dir() and not folders.lost_link(source.path) and bool(_files(source.path))


def read(source: Source, onward: Onward) -> Checkpoint:
    """The one file, opened. Raises ``CheckpointError`` for several, which it names: without an index nobody knows what they are to
    each other."""
    found = _files(source.path)
    if len(found) > 1:
        raise CheckpointError(
            f"{source.path} holds {len(found)} files of weights and no index ({folders.listed([f.name for f in found])}). Expected one: "
            f"name the file that is meant, such as {found[0]}."
        )
    return onward(replace(source, path=folders.inside(source.path, found[0])))


def _files(folder: Path) -> list[Path]:
    """The files of weights in a folder: those with the first of the endings that any has."""
    there = sorted(
        file for file in folder.iterdir() if not NO_WEIGHTS.fullmatch(file.name) and folders.has(folder, file.name)
    )
    return next((found for ends in ENDINGS if (found := [f for f in there if f.suffix in ends])), [])


READER = Reader("lone", "One file", "A folder with one file of weights, under any name.", is_mine=is_mine, read=read)
