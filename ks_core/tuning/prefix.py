"""Prefix tuning: keys and values that every layer reads before the text, which are all that is trained (Li and Liang 2021,
arXiv 2101.00190), as peft makes and saves them.

No weight changes, and so no row of the embedding: there is nothing in it for a KS test. The prefix stands where so many words would,
so what comes after it is counted from there, and the model reads that much less. It fits a model whose attention goes on from keys
and values that it is given; whether it does is found out by trying (``_check``). In an encoder-decoder it stands before what the
decoder writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import (
    PeftModel,
    PeftModelForCausalLM,
    PeftModelForSeq2SeqLM,
    PrefixTuningConfig,
    initialize_kv_prefix_from_past_key_values,
)
from torch.nn import functional as F

from ks_core.checkpoints import handover
from ks_core.errors import CorpusError, ModelError, first_line
from ks_core.likelihood.batches import Collator, PairCollator, target_loss
from ks_core.likelihood.examples import IGNORED
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.evaluation import context_of

if TYPE_CHECKING:
    from ks_core.tuning.arms import Arm


class Prefixed(PeftModelForCausalLM):
    """peft's decoder with a prefix, which takes a mask of every pair of places too: what packed examples come with."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, *more: Any, **named: Any) -> Any:
        if attention_mask is None or attention_mask.ndim != 4:
            return super().forward(input_ids, attention_mask, *more, **named)
        before = self.active_peft_config.num_virtual_tokens
        named["position_ids"] = named["position_ids"] + before
        named["past_key_values"] = self.get_prompt(len(input_ids))
        # Every place sees the prefix.
        return self.get_base_model()(input_ids=input_ids, attention_mask=F.pad(attention_mask, (before, 0)), **named)


@contextlib.contextmanager
def with_prefix(model: Any, arm: Arm, seed: int, begun: Sequence[int] = ()) -> Iterator[Any]:
    """``model`` with a fresh prefix before every text; without it again afterwards.

    It begins with the keys and values that the model makes of ``begun``, ids of some text, as if that stood there: from values at
    random a training as short as a CPU allows does not even find back to the base. Drawn at random by ``seed`` is what has no such
    values: a projected prefix, that of an encoder-decoder, and one without ids. Raises ``ModelError`` for a model that reads no keys
    and values from before its text.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(seed)
    encoder = is_encoder_decoder(model)
    settings = PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM" if encoder else "CAUSAL_LM", num_virtual_tokens=arm.virtual_tokens,
        prefix_projection=arm.projection, base_model_name_or_path=model.name_or_path,
    )  # fmt: skip
    try:
        wrapped = (PeftModelForSeq2SeqLM if encoder else Prefixed)(model, settings)
        if begun and not encoder and not arm.projection:
            ids = (list(begun) * -(-arm.virtual_tokens // len(begun)))[: arm.virtual_tokens]
            with torch.no_grad():
                read = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True).past_key_values
            initialize_kv_prefix_from_past_key_values(wrapped, past_key_values=read)
        _check(wrapped)
    except ModelError:
        raise
    except Exception as error:  # each architecture fails in its own way where it has no such attention
        raise ModelError(
            f"peft could not put a prefix before the text of a {type(model).__name__} ({first_line(error)}). Leave the arm Prefix "
            "tuning out."
        ) from None
    try:
        yield wrapped
    finally:
        model.__dict__.pop("prepare_inputs_for_generation", None)  # which peft leaves there after writing


def _check(wrapped: Any) -> None:
    """Raise ``ModelError`` for a model that does not heed its prefix: of a short text nothing in it has a gradient."""
    was_training = wrapped.get_base_model().training
    wrapped.eval()
    try:
        _run(wrapped).backward()
        trained = [p for p in wrapped.parameters() if p.requires_grad]
        heeded = all(p.grad is not None and bool(p.grad.isfinite().all()) and bool(p.grad.any()) for p in trained)
        for parameter in trained:
            parameter.grad = None
    finally:
        wrapped.train(was_training)
    if not heeded:
        raise ModelError(
            f"A {type(wrapped.get_base_model()).__name__} does not read what stands before its text as keys and values. Leave the arm "
            "Prefix tuning out."
        )


def _run(wrapped: Any) -> torch.Tensor:
    """The loss on three tokens."""
    ids = [1, 2, 3]
    if is_encoder_decoder(wrapped):
        batch = PairCollator(0)([{"input_ids": ids, "decoder": ids, "labels": ids}])
    else:
        batch = Collator(0)([{"input_ids": ids, "labels": [IGNORED, *ids[1:]]}])
    return target_loss(wrapped, {name: values.to(wrapped.device) for name, values in batch.items()})


def check_room(model: Any, examples: Sequence[dict[str, list[int]]]) -> None:
    """Raise ``CorpusError`` for examples that are too long for a model with its prefix, which takes its part of the context."""
    context = context_of(model)
    longest = max(len(example.get("decoder", example["input_ids"])) for example in examples)
    if context and longest > context:
        raise CorpusError(
            f"A pair takes {longest} tokens with its prompt, and behind its prefix the model reads {context}. Lower the length limit "
            "of the corpus, or the number of virtual tokens."
        )


def laid_before(model: Any, folder: Path) -> Any:
    """A model with the prefix that an adapter's folder holds. Raises ``ModelError`` for one that does not fit it, ``CheckpointError``
    for a folder from which something leads elsewhere."""
    where = str(handover.check_adapter(folder))
    try:
        made = PeftModel.from_pretrained(model, where)
        layers, own = made.active_peft_config.num_layers, getattr(model.config, "num_hidden_layers", None)
        if own and layers != own:
            raise ValueError(f"it has {layers} layers, the model {own}")
        with torch.no_grad():
            _run(made)  # what does not fit fails here, and not at the first sentence
    except Exception as error:
        raise ModelError(
            f"peft could not put the prefix of {folder.name} before the text of its base ({first_line(error)}). It was made for "
            "another model: name the base that it was trained on."
        ) from None
    return made
