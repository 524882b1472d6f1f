"""Whole models, for what needs more than the embedding: tuning, translation, the audit."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import folders, handover, hub, whole
from ks_core.checkpoints.adapters import changes_more
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import KSLotteryError, ModelError, first_line
from ks_core.jobs import sharding, world
from ks_core.jobs.resources import Resources
from ks_core.likelihood.rows import RowEmbedding, encoder_of, lay_over
from ks_core.translation.manners import as_message
from ks_core.tuning import runnable


def load_model(
    source: str, device: str = "cpu", resources: Resources | None = None, beside: str | None = None
) -> tuple[Any, Any]:
    """A model that writes text with its tokenizer, from a source (and a base ``beside`` it) as ``open_checkpoint`` takes it: a
    causal LM, an encoder-decoder, or a model of images and text, of which the text is used alone (``runnable.way_of``).

    It is in float32 and on ``device``, unless ``resources`` name another precision or spread it over the processes
    that work together (``ks_core.jobs.world``).

    A ticket, or any adapter that changes embedding rows alone, is laid over its base as rows
    (``ks_core.likelihood.rows``); one that changes more is merged into it by peft; a prefix is put before the text of its base
    (``tuning.prefix``). Code that a checkpoint brings is never run. Raises ``ModelError`` when there is no whole model or no tokenizer at the source, and for one of which
    a part is missing, which transformers would draw at random.
    """
    import torch

    if found := whole.prefix_of(source, beside):
        from ks_core.tuning.prefix import laid_before

        folder, under = found
        bare, tokenizer = load_model(under, device, resources)
        return laid_before(bare, folder), tokenizer
    whole.check(source, beside)
    asked = resources or Resources()
    checkpoint = open_checkpoint(source, beside=beside)
    laid, root = whole.adapters_of(checkpoint), whole.root(checkpoint)
    where, extra = _location(hub.download_whole(root.source) if whole.is_on_hub(root) else root.path)
    try:
        tokenizer = _tokenizer(where, extra)
        model: Any = None
        if world.is_main() or not asked.sharded:
            model, told = _class_for(source, where, extra).from_pretrained(
                where, dtype=getattr(torch, asked.precision), trust_remote_code=False, output_loading_info=True, **extra
            )
            _refuse_half(source, model, told)
    except (MemoryError, KSLotteryError):
        raise
    except Exception as error:  # the libraries raise many kinds for a damaged file, some of them nothing but Exception
        raise ModelError(
            f"{source} could not be loaded as a whole model ({_reason(error)}). Expected a folder with "
            "config.json, weights and tokenizer of a causal language model or an encoder-decoder."
        ) from None
    tokenizer.padding_side = "left"
    merges = any(changes_more(folder) for folder in laid)
    if merges and model is not None:
        model = _merged(model, laid)
    model = sharding.spread(model, device) if asked.sharded else model.to(device)
    if not merges:
        lay_rows_of(checkpoint, model)
    return model, tokenizer


def _class_for(source: str, where: str, extra: dict[str, str]) -> Any:
    """The class of transformers that a source was saved as, or the automatic one. Raises ``ModelError`` for what writes no text."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False, **extra)
    way = runnable.DECODER if extra else runnable.way_of(config.to_dict(), source)  # of GGUF only those are read
    named = str((config.architectures or [""])[0])
    if named in runnable.known_classes(runnable.LISTS[way]).values():
        return getattr(transformers, named)
    return {
        runnable.DECODER: transformers.AutoModelForCausalLM,
        runnable.ENCODER_DECODER: transformers.AutoModelForSeq2SeqLM,
        runnable.MULTIMODAL: transformers.AutoModelForImageTextToText,
    }[way]


def _refuse_half(source: str, model: Any, told: Mapping[str, Any]) -> None:
    """Raise ``ModelError`` where a checkpoint lacked weights of the model. Tied ones are there once, and not lacking."""
    lacking = sorted(told["missing_keys"])
    if lacking:
        raise ModelError(
            f"{source} lacks {len(lacking)} of the weights of a {type(model).__name__} ({folders.listed(lacking)}), which would be "
            "drawn at random. It is half a model, such as one saved without its head, or of another kind. Save the whole model."
        )


def lay_rows_of(checkpoint: Checkpoint, base: Any) -> None:
    """Lay the rows that a checkpoint's adapters change over the model of its base; ``rows.lift_off`` takes them off."""
    changed = checkpoint.changed_ids
    if changed is not None and len(changed):
        rows = np.concatenate([checkpoint.matrix.block(int(i), int(i) + 1) for i in changed])
        put_rows(lay_over(base, [int(i) for i in changed]), rows)


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a source's root, as ``load_model`` gives it. Raises ``ModelError`` where there is none."""
    root = whole.root(open_checkpoint(source))
    location = _location(root.path)
    try:
        return _tokenizer(*location)
    except Exception as error:
        raise ModelError(f"{source} has no tokenizer that could be loaded ({_reason(error)}).") from None


def chat_prompt(source: str) -> str:
    """What a source's own chat template makes of a prompt, as a template with ``{source}`` for text to text. Raises ``ModelError``."""
    return as_message(load_tokenizer(source), "source").prompt


def _reason(error: Exception) -> str:
    """The first line of what a library said, or the kind of its error."""
    if isinstance(error, pickle.UnpicklingError):
        return "a file holds more than weights, and loading it could run code"
    return first_line(error)


def _tokenizer(where: str, extra: dict[str, str]) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **extra)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _merged(model: Any, laid: list[Path]) -> Any:
    """The model with adapters merged into it by peft, the innermost first."""
    from peft import PeftModel

    for folder in laid:
        where = str(handover.check_adapter(folder))
        try:
            model = PeftModel.from_pretrained(model, where).merge_and_unload()
        except Exception as error:
            raise ModelError(
                f"peft could not lay the adapter {folder.name} over its base ({_reason(error)}). Merge it where it was "
                "trained and open the merged checkpoint."
            ) from None
    return model


def put_rows(embedding: RowEmbedding, rows: np.ndarray) -> None:
    """Write values (k, d) into laid-over rows, in the order of their ids."""
    import torch

    with torch.no_grad():
        embedding.rows.copy_(
            torch.from_numpy(np.array(rows, dtype=np.float32))
        )  # a copy: a view of a file is read-only


def _location(path: Path) -> tuple[str, dict[str, str]]:
    """What transformers' ``from_pretrained`` is to be given for a checkpoint's path. Raises ``CheckpointError`` and ``AccessError``
    for a folder in which something leads elsewhere."""
    return str(handover.check_model(path)), {"gguf_file": path.name} if path.suffix == ".gguf" else {}


@contextlib.contextmanager
def with_lora(model: Any, rank: int, seed: int) -> Iterator[Any]:
    """``model`` with a fresh LoRA inside its layers (``lora_targets``); without it again afterwards.

    The usual setting: alpha twice the rank, no dropout, B zero, so that the model starts as the base.
    Hu et al. (2021), arXiv 2106.09685. Raises ``ModelError`` for a model in which there is nothing that takes one.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(seed)  # A is drawn at random
    tied = getattr(model.config, "tie_word_embeddings", None)
    try:
        task = "CAUSAL_LM" if encoder_of(model) is model else "SEQ_2_SEQ_LM"
        settings = LoraConfig(r=rank, lora_alpha=2 * rank, task_type=task, target_modules=lora_targets(model))
        wrapped: Any = get_peft_model(model, settings)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"peft could not put a LoRA into a {type(model).__name__} ({_reason(error)}). Leave the arm LoRA out."
        ) from None
    try:
        yield wrapped
    finally:
        wrapped.unload()
        if tied is not None:
            model.config.tie_word_embeddings = tied


#: What stands in the path of a part that reads no text, and of an attention that a decoder alone leaves out.
_ELSEWHERE, _ACROSS = ("vision", "visual", "audio", "image"), ("encoder_attn", "cross_attn", "crossattention")


def lora_targets(model: Any) -> list[str]:
    """Which linear maps of a model a LoRA goes on, by their paths: peft's usual ones of the architecture (queries and
    values, mostly); where it knows none, all in the attention; in a model without attention all but the output layer.

    Those of a part that reads no text are left out, and those by which peft cannot go. Raises ``ModelError`` where
    there is none.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    output, attention = model.get_output_embeddings(), []
    elsewhere = _ELSEWHERE if encoder_of(model) is not model else _ELSEWHERE + _ACROSS
    linear = []
    for name, module in model.named_modules():
        own, kind = name.rpartition(".")[2], type(module).__name__.lower()
        if isinstance(module, nn.Linear | Conv1D):
            if module is not output and not any(part in name for part in elsewhere):
                linear.append(name)
        elif ("attention" in kind or "attn" in own) and "layer" not in kind:
            attention.append(f"{name}.")
    usual = USUAL.get(model.config.get_text_config().model_type, ())
    found = [name for name in linear if name.rpartition(".")[2] in usual] if not isinstance(usual, str) else []
    # A gate is none of the four projections, and peft takes a gate_proj for one of a feed-forward layer.
    found = found or [n for n in linear if n.startswith(tuple(attention)) and "gate" not in n.rpartition(".")[2]]
    found = found or [
        n for n in linear if n.rpartition(".")[2] != "out_proj"
    ]  # of Mamba's kernels, by which peft cannot go
    if not found:
        raise ModelError(f"A {type(model).__name__} has no linear map that takes a LoRA. Leave the arm LoRA out.")
    return found
