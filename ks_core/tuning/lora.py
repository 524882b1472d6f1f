"""The LoRA arm: low-rank updates of the attention, through peft."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ks_core.errors import ModelError


@contextlib.contextmanager
def with_lora(model: Any, rank: int, seed: int) -> Iterator[Any]:
    """``model`` with a fresh LoRA on what peft takes for its architecture; without it again afterwards.

    The usual setting: alpha twice the rank, no dropout, B zero, so that the model starts as the base.
    Hu et al. (2021), arXiv 2106.09685. Raises ``ModelError`` for an architecture peft has no targets for.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(seed)  # A is drawn at random
    tied = model.config.tie_word_embeddings
    try:
        wrapped: Any = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM"))
    except ValueError as error:
        raise ModelError(
            f"peft knows no usual place for a LoRA in a model of this kind ({str(error).splitlines()[0][:120]}). "
            "Leave the arm LoRA out."
        ) from None
    try:
        yield wrapped
    finally:
        wrapped.unload()
        model.config.tie_word_embeddings = tied
