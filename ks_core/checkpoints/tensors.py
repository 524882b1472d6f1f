"""A checkpoint's tensors, each as a matrix: what the scan of layers compares, adapters merged on the fly.

A vector is a matrix of one row, and further dimensions are laid flat.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ks_core.checkpoints import adapters, folders, hashes, opening, safetensors_file
from ks_core.checkpoints.adapted.changes import flat
from ks_core.checkpoints.adapted.names import UNMERGED, partners
from ks_core.checkpoints.adapted.places import Place, places
from ks_core.checkpoints.adapted.sums import LowRankMatrix
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import Matrix, OverlaidMatrix
from ks_core.checkpoints.safetensors_file import Tensor
from ks_core.errors import CheckpointError


@dataclass(frozen=True)
class Tensors:
    """One checkpoint's tensors: where each lies, how an adapter changes it, and what a person should know of their names.

    A name is the base's, where the two of a pair call a tensor differently.
    """

    checkpoint: Checkpoint
    files: dict[str, tuple[Path, Tensor]]
    changes: dict[str, Place] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def matrix(self, name: str) -> Matrix:
        """A tensor as it is after an adapter. Raises ``CheckpointError`` for an adapter of another shape."""
        return self.changes[name].matrix() if name in self.changes else flat(*self.files[name])

    def content_hash(self, name: str) -> str:
        """What tells this tensor's values from all others."""
        path, tensor = self.files[name]
        below = hashes.of_matrix(flat(path, tensor), path, tensor.name)
        matrix = self.matrix(name)
        if isinstance(matrix, OverlaidMatrix):
            return hashes.combine(below, matrix.ids, matrix.rows)
        return hashes.combine(below, *matrix.parts) if isinstance(matrix, LowRankMatrix) else below

    @property
    def fingerprint(self) -> str:
        """The embedding's content hash, and with it that of all an adapter holds where it changes more: for a signature."""
        found = self.checkpoint.content_hash
        if not self.changes or (len(self.changes) == 1 and not self.checkpoint.elsewhere):
            return found
        file = next(iter(self.changes.values())).change.file
        stored = sorted(safetensors_file.tensors(file).values(), key=lambda t: t.name)
        return hashes.combine(
            found, *(flat(file, t).block(0, 1 << 48) for t in stored if t.stored in safetensors_file.DTYPES)
        )


def open_pair(base: str, tuned: str) -> tuple[Tensors, Tensors]:
    """The tensors of a pair, each under the base's name. An adapter whose own base is not here lies on the pair's.

    Raises ``CheckpointError`` for a side that is not stored as safetensors, and for an adapter on an adapter.
    """
    before, after = open_tensors(base), open_tensors(tuned, base)
    known = {theirs: mine for mine, theirs in partners(before.files, after.files).items()}
    named = {name: known.get(name, name) for name in after.files}
    other = [(own, name) for name, own in named.items() if own != name]
    after = replace(
        after,
        files={named[name]: place for name, place in after.files.items()},
        changes={named[name]: change for name, change in after.changes.items()},
    )
    if other:
        after = replace(after, notes=(
            f"{len(other):,} tensors have another name in {after.checkpoint.label} ({folders.listed([other[0][1]])} is "
            f"{folders.listed([other[0][0]])}): they are matched by what follows the wrappers' part.",
        ))  # fmt: skip
    return _with_head(before, after), after


def open_tensors(source: str, beside: str | None = None) -> Tensors:
    """The tensors of a source, as ``open_checkpoint`` takes it, with the base ``beside`` it.

    Raises ``CheckpointError`` for one that is not stored as safetensors, for an adapter on an adapter, and for a model with an
    adapter beside it that is not merged.
    """
    checkpoint = opening.open_checkpoint(source, beside=beside)
    if checkpoint.base is None:
        return Tensors(checkpoint, _merged(checkpoint, _files(checkpoint)))
    if checkpoint.base.base is not None:
        raise CheckpointError(f"{source} is an adapter on an adapter. Merge them first to scan its layers.")
    files = _files(checkpoint.base)
    changes = places(adapters.read(checkpoint.path), files, checkpoint.base.tensor, bool(checkpoint.base.tied))
    return Tensors(checkpoint, files | {name: (p.file, p.tensor) for name, p in changes.items()}, changes)


def _with_head(before: Tensors, after: Tensors) -> Tensors:
    """The base with its output layer under a name of its own where the tuned side has one: in a tied model it is the embedding."""
    base = before.checkpoint
    heads = [n for n in after.files if n.endswith(folders.HEADS) and n not in before.files]
    if (
        not base.tied
        or base.base is not None
        or len(heads) != 1
        or any(n.endswith(folders.HEADS) for n in before.files)
    ):
        return before
    note = (
        f"{base.label} stores no output layer, which is its embedding: {folders.listed(heads)} is compared with that."
    )
    return replace(before, files=before.files | {heads[0]: before.files[base.tensor]}, notes=(*before.notes, note))


def _files(checkpoint: Checkpoint) -> dict[str, tuple[Path, Tensor]]:
    """Every tensor of a safetensors checkpoint, file by file and in the order of the bytes."""
    if checkpoint.file is None or checkpoint.file.suffix != ".safetensors":
        raise CheckpointError(
            f"{checkpoint.label} is not stored as safetensors ({checkpoint.kind}). Its layers cannot be "
            "scanned; save it with transformers first."
        )
    found: dict[str, tuple[Path, Tensor]] = {}
    for path in checkpoint.weight_files():
        ordered = sorted(safetensors_file.tensors(path).values(), key=lambda t: t.start)
        found |= {t.name: (path, t) for t in ordered}
    return found


def _merged(checkpoint: Checkpoint, files: dict[str, tuple[Path, Tensor]]) -> dict[str, tuple[Path, Tensor]]:
    """The same tensors. Raises ``CheckpointError`` where an adapter stands beside them: the weights it changes would be taken for
    unchanged."""
    parts = [name for name in files if any(part in name for part in UNMERGED)]
    if parts:
        raise CheckpointError(
            f"{checkpoint.label} holds an adapter that is not merged ({folders.listed(parts)}), and not by how much it counts. Expected "
            "the sum: call merge_and_unload in peft and save it again, or save the adapter by itself with save_pretrained."
        )
    return files


def why_apart(before: Tensors, after: Tensors, name: str) -> str:
    """Why the two sides' tensors of a name cannot be compared; empty when they can."""
    one, other = before.files[name][1], after.files[name][1]
    for tensor in (one, other):
        if tensor.stored not in safetensors_file.DTYPES:
            return f"stored as {tensor.stored}"
    if one.shape != other.shape:
        return f"{list(one.shape)} before, {list(other.shape)} after"
    return "it is empty" if 0 in one.shape else ""
