"""An adapter's settings, as far as they say what is made of a weight, and what of that cannot be computed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ks_core.errors import CheckpointError

REMEDY = "Merge it with peft (merge_and_unload) where it was trained and open the merged checkpoint."
#: Kinds of adapters that are read. What says no kind is taken for a LoRA, as old ones were.
READ = ("LORA", "TRAINABLE_TOKENS")
#: Kinds that put something before the text and leave every weight as it was.
PREFIX = "PREFIX_TUNING"
BEFORE_THE_TEXT = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", PREFIX, "ADAPTION_PROMPT", "CPT")
#: Settings of a LoRA with which a weight is no longer a base and a product, and why.
OTHERWISE = {
    "alora_invocation_tokens": "acts on the text behind certain tokens alone (aLoRA)",
    "use_qalora": "adds to groups of inputs (QALoRA)",
    "use_bdlora": "adds block by block (BD-LoRA)",
    "layer_replication": "repeats layers of its base",
    "target_parameters": "changes parameters that are no module of their own",
    "arrow_config": "is put together from several adapters for every text (Arrow)",
    "kasa_config": "begins with another weight than its base's (KaSA)",
    "monteclora_config": "draws its product at random (MonteCLoRA)",
    "megatron_config": "was made for a model that Megatron splits",
}
#: How a LoRA may begin without a change of the base's weight.
HARMLESS_STARTS = ("true", "false", "none", "gaussian", "eva", "orthogonal", "mica")
#: Beginnings that took a part of the base's weight out of it: that part follows from the weight itself.
KNOWN_STARTS = ("pissa", "olora")


def kind(settings: Mapping[str, Any]) -> str:
    """The kind of adapter, as peft calls it."""
    return str(settings.get("peft_type") or READ[0]).upper()[:40]


def refuse_other_kinds(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise ``CheckpointError`` for a kind of adapter whose weights are not computed here, by its name."""
    found = kind(settings)
    if found in BEFORE_THE_TEXT:
        raise CheckpointError(
            f"{folder} is an adapter of the kind {found}, which puts something before the text and changes no weight, and so no row of "
            "the embedding. There is nothing to compare: open what was tuned otherwise."
            + (" The command evaluate scores it beside its base." if found == PREFIX else "")
        )
    if found not in READ:
        raise CheckpointError(
            f"{folder} is an adapter of the kind {found}. Expected LoRA, DoRA or TrainableTokens. {REMEDY}"
        )


def refuse_other_sums(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise ``CheckpointError`` for a LoRA that is more than a base and a product, with the reason."""
    for name, why in OTHERWISE.items():
        if settings.get(name):
            raise CheckpointError(f"{folder} is a LoRA that {why}: {name} is set. {REMEDY}")


def start(folder: Path, settings: Mapping[str, Any]) -> str:
    """What a LoRA's beginning took out of the weight of a linear map: ``""`` for nothing, else one of ``KNOWN_STARTS``.

    Raises ``CheckpointError`` where it cannot be known from the files: it was drawn at random, or came of data.
    """
    found = str(settings.get("init_lora_weights", True)).lower()
    if found in HARMLESS_STARTS:
        return ""
    if found in KNOWN_STARTS:
        if found == "olora" and settings.get("fan_in_fan_out"):
            raise CheckpointError(
                f"{folder} began as OLoRA on weights that lie transposed, which peft itself does not lay over. {REMEDY}"
            )
        return found
    why = {
        "pissa": "a part that was drawn at random was taken out of the base's weights",
        "corda": "a part that depends on data was taken out of the base's weights",
        "lora_ga": "a part that depends on data was taken out of the base's weights",
        "loftq": "the base's weights were quantized",
    }
    reason = next(
        (words for begins, words in why.items() if found.startswith(begins)),
        "how the base's weights began is not known",
    )
    raise CheckpointError(
        f"{folder} is a LoRA with init_lora_weights = {found[:40]!r}: when training began, {reason}, and the files do not hold what was "
        "left. Save it with path_initial_model_for_weight_conversion, which makes a usual LoRA of it, or merge it with peft "
        "(merge_and_unload) where it was trained and open the merged checkpoint."
    )


def scaling(settings: Mapping[str, Any], rank: int, module: str = "") -> float:
    """By how much a LoRA's product is multiplied: alpha / r, or alpha / sqrt(r) with rank-stabilised scaling.

    >>> scaling({"r": 4, "lora_alpha": 8}, 4), scaling({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4)
    (2.0, 4.0)
    >>> scaling({"lora_alpha": 8, "alpha_pattern": {"q_proj": 2}}, 4, "model.layers.0.self_attn.q_proj")
    0.5

    ``rank`` is that of the tensors, which holds where the settings give another one for a single module (``rank_pattern``);
    ``module`` decides the alpha. Raises ``CheckpointError`` for an alpha that is no finite number, and for one that is given
    to modules by an expression instead of a name: expressions of strangers are not run.
    """
    alpha = settings.get("lora_alpha", 8)  # peft's own default
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping) or not all(isinstance(key, str) for key in patterns):
        raise CheckpointError(
            "The adapter's alpha_pattern is no table. Expected names of modules with their alpha; save it again."
        )
    for pattern, own in patterns.items():
        if _names(pattern, module):
            alpha = own
            break  # the first that fits counts, as in peft
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e30:
        raise CheckpointError(f"The adapter's lora_alpha is {str(alpha)[:40]!r}. Expected a finite number.")
    if rank < 1:
        raise CheckpointError("The adapter's LoRA has rank 0. Expected at least 1; save it again.")
    return float(alpha) / rank**0.5 if settings.get("use_rslora") else float(alpha) / rank


def _names(pattern: str, module: str) -> bool:
    """Whether a key of ``alpha_pattern`` is the module or the end of its path."""
    plain = pattern.removesuffix("$").replace("\\.", ".")
    whole = plain.startswith("^")
    plain = plain.removeprefix("^")
    if not re.fullmatch(r"[\w.-]+", plain):
        raise CheckpointError(
            f"The adapter's alpha_pattern has the expression {pattern[:80]!r}. Expected names of modules. {REMEDY}"
        )
    return module == plain or (not whole and module.endswith(f".{plain}"))
