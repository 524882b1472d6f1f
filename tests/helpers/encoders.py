"""Encoders that transformers builds tiny, beside the models that write (``architectures``): those that fill in masked words, and the
text halves of models of images and text."""

from __future__ import annotations

from typing import Any

from helpers import architectures

#: Kinds that `make test` goes over; the others stand in transformers' list of masked language models.
QUICK = ("bert", "distilbert", "xlm", "flaubert", "clip_text_model", "siglip_text_model")

#: What is not gone over, with the reason.
LEFT_OUT = {
    **dict.fromkeys(("esmc", "funnel", "reformer"), "its configuration takes no small sizes"),
    **dict.fromkeys(("luke", "perceiver"), "parts of it have no setting for their size"),
}


def model(kind: str) -> Any:
    """A tiny encoder, as ``AutoModel`` makes it, with the weights of a fixed seed."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = architectures.config(kind)
    made = (
        transformers.SiglipTextModel(config)
        if kind == "siglip_text_model"
        else transformers.AutoModel.from_config(config)
    )
    return made.float().eval()  # SigLIP's text half is on no list of AutoModel
