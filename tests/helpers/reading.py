"""Work that several processes share: they read a model. Here, as each of them imports it by name."""

from ks_core.jobs import world
from ks_core.jobs.resources import Resources
from ks_core.tuning.models import load_model


def reads(parameters, running):
    """Work: who reads the weights of a model that is sharded."""
    from transformers import PreTrainedModel

    own, found = PreTrainedModel.from_pretrained.__func__, []
    PreTrainedModel.from_pretrained = classmethod(
        lambda kind, *a, **k: found.append(world.rank()) or own(kind, *a, **k)
    )
    model, _ = load_model(parameters["source"], resources=Resources(2, sharded=True))
    held = sum(
        (p.to_local() if hasattr(p, "to_local") else p).numel() for p in model.model.layers.parameters()
    )  # fmt: skip
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    return {"readers": world.gather(found), "held": world.gather([held]), "tied": world.gather([tied])}
