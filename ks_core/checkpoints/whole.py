"""Whether a source is a whole model, or weights alone. No torch here: pages ask before they offer a run."""

from __future__ import annotations

from pathlib import Path

from ks_core.checkpoints import adapters, folders, hub
from ks_core.checkpoints.adapted import settings
from ks_core.checkpoints.adapters import changes_more
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError, ModelError
from ks_core.store import door
from ks_core.values import without_choice

#: Files of which one holds a tokenizer's vocabulary.
TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
    "tokenizer_config.json",
)  # fmt: skip


def check(source: str, beside: str | None = None) -> None:
    """Raise ``ModelError`` when a source is weights alone, which the KS test can read and nothing can run. ``beside`` is that of
    ``open_checkpoint``.

    A look at the names of files: cheap enough for a page, and before a run is begun.
    """
    under = root(open_checkpoint(source, beside=beside))
    _refuse_other(under)
    if under.path.suffix == ".gguf" or is_on_hub(under):
        return
    folder = under.path if under.path.is_dir() else under.path.parent
    lacking = [] if folders.has(folder, "config.json") else ["config.json"]
    if not any(folders.has(folder, name) for name in TOKENIZERS):
        lacking.append("a tokenizer (such as tokenizer.json)")
    if lacking:
        raise ModelError(
            f"{under.label} lacks {' and '.join(lacking)}. The KS test reads the weights alone; tuning, translating and the audit "
            "need the whole model, as transformers saves it. Put the files beside the weights."
        )


def _refuse_other(under: Checkpoint) -> None:
    """Raise ``ModelError`` where the embedding that was chosen is not the one that a model reads its text by.

    Of several that is the encoder's; rows are laid over it, and those of another would get into the wrong matrix.
    """
    name, choice = without_choice(under.source)
    if not choice or "encoder" in under.tensor.split("."):
        return
    try:
        own = open_checkpoint(name).tensor
    except CheckpointError:  # of several none is the model's own without a choice
        own = ""
    if under.tensor != own:
        raise ModelError(
            f"{under.source} is the embedding {under.tensor}, which is not what the model reads its text by. The KS test compares it; "
            "tuning, translating and the audit take the model's own: leave out :: and what follows, or choose the encoder's."
        )


def prefix_of(source: str, beside: str | None = None) -> tuple[Path, str] | None:
    """The folder of a prefix (peft's prefix tuning) and the source of its base; ``None`` for a source that is none.

    A prefix changes no weight, so ``open_checkpoint`` refuses it; with its base it is a model all the same. Where the base that it
    names is not here, it is ``beside``. Raises ``CheckpointError`` for one without a base.
    """
    try:
        folder = Path(source.strip()).expanduser()
        if not door.allows(folder) or not adapters.is_adapter(folder):
            return None
    except (RuntimeError, ValueError, OSError):  # no such user, no such name: no prefix in any case
        return None
    if settings.kind(adapters.config(folder)) != settings.PREFIX:
        return None
    if not folders.has(folder, adapters.WEIGHTS):
        raise CheckpointError(f"{folder} has no {adapters.WEIGHTS}. Expected a peft adapter saved as safetensors.")
    named = adapters.base_of(folder)
    if beside and (not named or (hub.is_id(named) and not hub.is_here(named))):
        return folder, beside
    if not named:
        raise CheckpointError(
            f"{folder} does not name its base model. Add base_model_name_or_path to {adapters.CONFIG}, or name the base before it."
        )
    try:
        open_checkpoint(named)
    except CheckpointError:
        if not beside:
            raise
        return folder, beside
    return folder, named


def root(checkpoint: Checkpoint) -> Checkpoint:
    """The model under all adapters."""
    while checkpoint.base is not None:
        checkpoint = checkpoint.base
    return checkpoint


def adapters_of(checkpoint: Checkpoint) -> list[Path]:
    """The folders of the adapters over that model, the innermost first."""
    found: list[Path] = []
    while checkpoint.base is not None:
        found.insert(0, checkpoint.path)
        checkpoint = checkpoint.base
    return found


def bases_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The sources that its adapters name as their bases, the outermost first."""
    found = []
    while checkpoint.base is not None:
        checkpoint = checkpoint.base
        found.append(checkpoint.source)
    return tuple(found)


def is_rows_over(checkpoint: Checkpoint, base: Checkpoint) -> bool:
    """Whether a checkpoint is ``base`` but for embedding rows that adapters lay over it: then one model serves for both."""
    return (
        checkpoint.base is not None
        and base.base is None
        and root(checkpoint).path == base.path
        and checkpoint.matrix.shape == base.matrix.shape
        and not any(changes_more(folder) for folder in adapters_of(checkpoint))
    )


def is_on_hub(checkpoint: Checkpoint) -> bool:
    """Whether it came from the hub by its id; then only the embedding's shard is sure to be here."""
    return hub.is_id(without_choice(checkpoint.source)[0])
