"""A peft adapter, or a ticket, which is one: its rows are laid over a base, which is opened as any source is.

An adapter names its base as it was called where it was trained. Where that is not here, it is laid on the base with which it is
compared, if it fits.
"""

from __future__ import annotations

from dataclasses import replace

from ks_core.checkpoints import adapters, folders, hashes, hub, safetensors_file, vocabulary
from ks_core.checkpoints.adapted.places import places
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Onward, Reader, Source
from ks_core.errors import CheckpointError, KSLotteryError
from ks_core.values import without_choice

#: Adapters on adapters on … that are followed.
DEEPEST = 4
#: What stands for the base of an adapter that names none.
NONE = "none that it names"


def is_mine(source: Source) -> bool:
    """Whether it is a folder with an adapter's settings."""
    return source.path.is_dir() and adapters.is_adapter(source.path)


def read(source: Source, onward: Onward) -> Checkpoint:
    """The base with the adapter's rows. Raises ``CheckpointError`` when either cannot be opened or they do not fit."""
    path = source.path
    under, instead_of = _base(source, onward)
    file = folders.inside(path, path / adapters.WEIGHTS)
    stamp = hashes.stamp(file)
    notes = folders.unread(path, adapters.WEIGHTS)
    try:
        matrix, changed = adapters.lay_over(path, under.matrix, under.tensor)
        if instead_of:
            _check_fit(source, under)
    except CheckpointError as error:
        if not instead_of:
            raise
        raise CheckpointError(
            f"{_named(source, instead_of)}, and does not fit {under.label}, the base that was given. {error}"
        ) from None
    if instead_of:
        rows, width = under.shape
        notes += (
            f"{_named(source, instead_of)}. It is laid on {under.label}, the base that was given, which it fits ({rows:,} rows of "
            f"{width:,}).",
        )
    return Checkpoint(
        source.given,
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
        notes=notes,
        elsewhere="" if len(changed) else adapters.elsewhere(path),
        instead_of=instead_of,
    )


def _base(source: Source, onward: Onward) -> tuple[Checkpoint, str]:
    """What the adapter lies on, and what it names itself where that is not here and the given base is taken.

    Raises ``CheckpointError`` for one that lies on itself, on too many others, or on what cannot be opened.
    """
    above = (*source.above, source.path.resolve())
    if len(set(above)) < len(above) or len(above) > DEEPEST:
        raise CheckpointError("It is an adapter on an adapter on an adapter … Merge them first.")
    name = source.base or adapters.base_of(source.path)
    beside = "" if source.base else source.beside
    if name and not (beside and _is_far(name)):
        under = Source.of(name, above=above, beside=source.beside)
        try:
            return onward(replace(under, choice=source.choice or under.choice)), ""
        except KSLotteryError as error:
            if not beside:
                if source.above or not isinstance(error, CheckpointError):
                    raise  # the outermost adapter says it, once
                raise CheckpointError(
                    f"{source.label} is an adapter on {name[:300]}, which could not be opened. {error}"
                ) from None
    if not beside:
        raise CheckpointError(
            f"{source.path} does not name its base model. Add base_model_name_or_path to {adapters.CONFIG}, or name the base "
            "before it."
        )
    under = Source.of(beside, above=above)
    found = onward(replace(under, choice=source.choice or under.choice))
    return found, folders.listed([name]) if name else NONE


def _named(source: Source, base: str) -> str:
    """The beginning of a sentence on an adapter and the base that it names."""
    return (
        f"{source.label} names no base"
        if base == NONE
        else f"{source.label} names {base} as its base, which is not here"
    )


def _is_far(name: str) -> bool:
    """Whether a base would have to be fetched from the hub first."""
    plain = without_choice(name)[0]
    return hub.is_id(plain) and not hub.is_here(plain)


def _check_fit(source: Source, under: Checkpoint) -> None:
    """Raise ``CheckpointError`` where a base that the adapter does not name is not the one it was made on: by the hash that a
    ticket keeps, and by the shapes of the weights that it changes, where the base stores them as safetensors."""
    known = adapters.base_hash(source.path)
    if known and not under.content_hash.startswith(known):
        raise CheckpointError(
            f"It was made on an embedding whose content hash begins with {known}; that of {under.label} begins with "
            f"{under.content_hash[:12]}. Name the base that it was made on."
        )
    if under.base is not None or under.path.parent.name == "snapshots":
        return  # of a model from the hub only the embedding's shard is sure to be here
    stored = {name: (file, t) for file in under.weight_files() for name, t in safetensors_file.tensors(file).items()}
    if stored and adapters.is_computed(source.path):
        places(adapters.read(source.path), stored, under.tensor, bool(under.tied))


READER = Reader(
    "adapter", "Adapter", "A folder with a peft adapter or a ticket, which changes the rows of a base.",
    is_mine=is_mine, read=read,
)  # fmt: skip
