"""Names of weights, across what stands around a model: a wrapper puts its own part before the path or into it.

>>> bare("module._orig_mod.model.layers.0.mlp.up_proj.weight"), bare("model.language_model.layers.0.mlp.up_proj.weight")
('layers.0.mlp.up_proj.weight', 'layers.0.mlp.up_proj.weight')
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ks_core.checkpoints.folders import BARE_NAMES, EMBEDDING_NAMES

#: What compiling, sharding, recomputing and an adapter put anywhere into a path.
WITHIN = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "base_layer"})
#: What stands in the name of a part of an adapter that lies in one file with its model, not merged.
UNMERGED = (".lora_", ".trainable_tokens_delta", ".modules_to_save.")
#: What stands before the path of a model that is part of another: wrappers, peft, a model of images and text, and the model
#: without its head, as the architectures call it.
BEFORE = frozenset({
    "module", "base_model", "model", "language_model", "text_model", "transformer", "backbone", "gpt_neox", "rwkv", "bert", "roberta",
    "distilbert", "electra", "deberta", "albert", "xlm_roberta", "bart", "mpnet", "camembert",
})  # fmt: skip
#: The last parts of the paths of input embeddings.
EMBEDDINGS = frozenset(name.removesuffix(".weight").rpartition(".")[2] for name in (*EMBEDDING_NAMES, *BARE_NAMES))


def bare(name: str) -> str:
    """A name without what wrappers put before it and into it; its last part always stays."""
    parts = [part for part in name.split(".") if part not in WITHIN]
    start = 0
    while start < len(parts) - 1 and parts[start] in BEFORE:
        start += 1
    return ".".join(parts[start:])


def partners(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Which of the other names means the same weight: the equal one, or the only one that is equal when both are ``bare``.

    >>> partners(["model.norm.weight", "lm_head.weight"], ["module.norm.weight", "lm_head.weight"])
    {'lm_head.weight': 'lm_head.weight', 'model.norm.weight': 'module.norm.weight'}

    Where two names of one side are the same when bare, neither has a partner.
    """
    names, others = list(names), list(others)
    known = set(others)
    found = {name: name for name in names if name in known}
    rest, free = [n for n in names if n not in found], [n for n in others if n not in found]
    mine, theirs = Counter(map(bare, rest)), Counter(map(bare, free))
    by_bare = {bare(n): n for n in free}
    return found | {n: by_bare[bare(n)] for n in rest if mine[bare(n)] == 1 and theirs[bare(n)] == 1}


def is_embedding(module: str, tensor: str) -> bool:
    """Whether an adapter's module is the embedding that is called ``tensor`` in the base.

    >>> is_embedding("model.embed_tokens", "tok_embeddings.weight"), is_embedding("lm_head", "shared.weight")
    (True, False)
    >>> is_embedding("decoder.embed_tokens", "encoder.embed_tokens.weight")
    False

    Formats and libraries call it differently; of an encoder's and a decoder's, which are called alike, one is not the other.
    """
    mine, own = bare(module), bare(tensor.removesuffix(".weight"))
    if mine == own or mine.endswith(f".{own}") or own.endswith(f".{mine}"):
        return True
    last, named = mine.rpartition(".")[2], own.rpartition(".")[2]
    return last in EMBEDDINGS and last != named
