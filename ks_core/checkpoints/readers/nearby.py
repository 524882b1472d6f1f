"""What to make of a place that is no checkpoint: one lies below it or above it, or it holds parts that no reader joins.

What people name is often one level off: the folder of a training with ``checkpoint-500`` in it, the hub's cache of a model, a
folder of sentence-transformers. And some ways of saving leave parts that have to be put together by the library that wrote
them, of which it is said how. Nothing is opened here; ``registry`` asks its readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ks_core.checkpoints import folders
from ks_core.errors import CheckpointError
from ks_core.store import door

#: Whether a reader knows a folder.
Knows = Callable[[Path], bool]
#: How the hub's cache calls the folder of a model; how sentence-transformers calls that of the model among other modules.
CACHED, MODULE = re.compile(r"models--([\w.-]+?)--([\w.-]+)"), re.compile(r"\d+_Transformer")
#: Parts of a matrix, by the beginning of a file's or a folder's name, that tensor parallelism leaves.
RANK = re.compile(r"mp_rank_(\d+)(.*)")


def below(folder: Path, knows: Knows) -> list[Path]:
    """The checkpoints in a folder, or where there is none in the folders in it."""
    first = folders.folders_in(folder)
    found = [f for f in first if knows(f)] or [
        f for inner in first[:50] for f in folders.folders_in(inner, 50) if knows(f)
    ]
    return [f for f in found if MODULE.fullmatch(f.name)] or found


def label(folder: Path, found: Path) -> str:
    """What people call a checkpoint that was found below a folder.

    >>> label(Path("/models--org--name"), Path("/models--org--name/snapshots/abc")), label(Path("/out"), Path("/out/checkpoint-5"))
    ('org/name', 'out/checkpoint-5')
    """
    cached = CACHED.fullmatch(folder.name)
    return f"{cached[1]}/{cached[2]}" if cached else f"{folder.name}/{found.relative_to(folder)}"


def several(folder: Path, found: list[Path]) -> CheckpointError:
    """What is said of a folder with several checkpoints in it."""
    return CheckpointError(
        f"{folder} holds {len(found)} checkpoints ({folders.listed([str(f.relative_to(folder)) for f in found])}). Expected one: name "
        f"the folder that is meant, such as {found[-1]}."
    )


def above(path: Path, knows: Knows) -> str:
    """A sentence that names the folder above, where that is a checkpoint and may be opened; empty otherwise."""
    parent = path.absolute().parent
    return f" The folder above it holds one: give {parent}." if door.allows(parent) and knows(parent) else ""


def parts(place: Path) -> str:
    """What is to be done with the parts that a training left in a folder, or in one of those in it, or as which a file is named;
    empty where there are none."""
    for folder in [place, *folders.folders_in(place)] if place.is_dir() else [place.parent]:
        names = sorted(p.name for p in folder.iterdir())
        if any(n.endswith(".distcp") for n in names) and (place.is_dir() or place.suffix == ".distcp"):
            return (
                f"{folder} holds parts that torch.distributed.checkpoint wrote. Their contents are a program, which is not run here. "
                f"Where you trust it, run: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt, and open "
                "that file."
            )
        if place.is_dir() and any(n.endswith(("_model_states.pt", "_optim_states.pt")) for n in names):
            home = folder.parent if folder.name.startswith("global_step") else folder
            return (
                f"{folder} holds parts that DeepSpeed wrote. Run the zero_to_fp32.py that it put beside them: python zero_to_fp32.py "
                f"{home} OUT, and open OUT."
            )
    return ""


def refuse_rank(file: Path) -> None:
    """Raise ``CheckpointError`` for a file that is one of several by tensor parallelism: it has a part of every row."""
    for place in (file, file.parent):
        if named := RANK.match(place.name):
            others = sorted(
                p.name for p in place.parent.glob("mp_rank_*") if (m := RANK.match(p.name)) and m[2] == named[2]
            )
            if len(others) > 1 or int(named[1]):
                raise CheckpointError(
                    f"{file} is one of the parts into which tensor parallelism splits every row ({folders.listed(others)}). Expected the "
                    "whole: merge them with the tools of the training (for Megatron its converter to Hugging Face)."
                )
