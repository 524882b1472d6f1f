"""A peft adapter, or a ticket, which is one: its rows are laid over a base, which is opened as any source is."""

from __future__ import annotations

from ks_core.checkpoints import adapters, folders, hashes, vocabulary
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Onward, Reader, Source
from ks_core.errors import CheckpointError

#: Adapters on adapters on … that are followed.
DEEPEST = 4


def is_mine(source: Source) -> bool:
    """Whether it is a folder with an adapter's settings."""
    return source.path.is_dir() and adapters.is_adapter(source.path)


def read(source: Source, onward: Onward) -> Checkpoint:
    """The base with the adapter's rows. Raises ``CheckpointError`` when either cannot be opened or they do not fit."""
    path = source.path
    under = _base(source, onward)
    file = folders.inside(path, path / adapters.WEIGHTS)
    stamp = hashes.stamp(file)
    matrix, changed = adapters.lay_over(path, under.matrix)
    return Checkpoint(
        source.name,
        source.label,
        f"{'ticket' if folders.has(path, 'ticket.json') else 'peft adapter'} on {under.label}",
        path,
        under.tensor,
        "F32",
        matrix,
        tied=under.tied,
        base=under,
        changed_ids=changed,
        vocabulary=vocabulary.find(path) or under.vocabulary,
        file=file,
        stamp=stamp,
    )


def _base(source: Source, onward: Onward) -> Checkpoint:
    """What the adapter lies on. Raises ``CheckpointError`` for one that lies on itself, or on too many others."""
    above = (*source.above, source.path.resolve())
    if len(set(above)) < len(above) or len(above) > DEEPEST:
        raise CheckpointError("It is an adapter on an adapter on an adapter … Merge them first.")
    name = source.base or adapters.base_of(source.path)
    try:
        return onward(Source(name, above=above))
    except CheckpointError as error:
        if source.above:
            raise  # the outermost adapter says it, once
        raise CheckpointError(
            f"{source.label} is an adapter on {name[:300]}, which could not be opened. {error}"
        ) from None


READER = Reader(
    "adapter", "Adapter", "A folder with a peft adapter or a ticket, which changes the rows of a base.",
    is_mine=is_mine, read=read,
)  # fmt: skip
