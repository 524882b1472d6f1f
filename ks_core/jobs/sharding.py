"""A frozen model spread over the processes that work together: torch's FSDP2.

Each process holds its share of the layers, and the layer at work whole. The embedding and the norms stay whole in each,
for rows are laid over the one and the others are small. The first process alone reads the weights and hands them out, a
tensor at a time, so that a machine holds the model once however many processes there are.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ks_core.errors import ModelError
from ks_core.jobs import world


def is_spread(model: Any) -> bool:
    """Whether a model is spread over processes, which then have to run it all at once."""
    from transformers.integrations.fsdp import is_fsdp_managed_module

    return is_fsdp_managed_module(model)


def inference(model: Any) -> contextlib.AbstractContextManager[Any]:
    """torch's mode in which ``model`` is used without being trained."""
    import torch

    # What a spread model gathers within inference mode could not be written to in a later step.
    return torch.no_grad() if is_spread(model) else torch.inference_mode()


def spread(whole: Any, device: str) -> Any:
    """The model (of transformers, on the CPU, in the first process; ``None`` in the others), spread and on ``device``.

    Raises ``ModelError`` for a model that does not say what its layers are.
    """
    import torch
    from torch.distributed import broadcast
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    found = (type(whole), whole.config, whole.generation_config, whole.dtype) if whole else None
    kind, config, settings, dtype = world.agree(found)
    with torch.device("meta"):  # the same model without a single weight
        model = kind._from_config(config, dtype=dtype)
    model.generation_config = settings
    model.requires_grad_(False).eval()
    _shard(model, device)
    model.to_empty(device=device)
    model.tie_weights()  # weights that were one are two without this
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, whole.state_dict() if whole else {}, options=options)
    own = dict(whole.named_buffers()) if whole else {}
    for name, values in model.named_buffers():  # some are in no state
        if own:
            values.copy_(own[name])
        broadcast(values, src=0)
    return model


def _shard(model: Any, device: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [m for m in model.modules() if type(m).__name__ in kinds]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} does not say what its layers are, so it cannot be sharded. Run it in one process, or in "
            "several without sharding."
        )
    mesh = init_device_mesh(device.partition(":")[0], (world.size(),))
    head = model.get_output_embeddings()
    own_head = head is not None and head.weight is not model.get_input_embeddings().weight
    for module in [*layers, head] if own_head else layers:
        fully_shard(module, mesh=mesh)
    model._is_fsdp_managed_module = True  # transformers then writes in step in all processes
