"""Embeddings by the names that architectures give them, and a choice of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.ways.table import NAME, NAMES, Write, expected, save_tensors, way


def _called(name: str, *others: str) -> Write:
    def write(place: Path, model: Any) -> Path:
        import torch

        more = {other: torch.zeros(8, 16) for other in others}
        return save_tensors(place / "model.safetensors", {name: model.state_dict()[NAME], **more}).parent

    return write


for name, others, who in (
    ("embeddings.weight", (), "Mamba, RWKV"), ("embed_in.weight", (), "GPT-NeoX"),
    ("text_model.embeddings.token_embedding.weight", ("text_model.embeddings.position_embedding.weight",), "CLIP, SigLIP"),
    ("transformer.embeddings.weight", ("transformer.position_embeddings.weight",), "XLM, FlauBERT"),
    ("transformer.w.weight", (), "CTRL"), ("w.weight", (), "CTRL without its head"), ("emb.weight", (), "RWKV, original"),
    ("embed.weight", (), "DeepSeek, original"), ("decoder.token_embedding.weight", (), "Whisper, original"), ("embeddings", (), "model2vec"),
):  # fmt: skip
    way(NAMES, f"`{name}` ({who})", "safetensors, with these names")(_called(name, *others))


@way(
    NAMES,
    "an encoder-decoder with two embeddings (Marian), without a choice",
    "transformers",
    refused="put ::(en|de)coder or ::(en|de)coder behind",
)
def two(place: Path, model: Any) -> Path:
    from transformers import MarianConfig, MarianMTModel

    sizes = dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"), 1)
    config = MarianConfig(
        vocab_size=48, decoder_vocab_size=64, d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0,
        share_encoder_decoder_embeddings=False, tie_word_embeddings=False, forced_eos_token_id=None, **sizes,
    )  # fmt: skip
    made = MarianMTModel(config)
    expected[place] = made.get_decoder().embed_tokens.weight.detach().numpy()
    made.save_pretrained(place)
    return place


@way(NAMES, "the same with a choice, such as `BASE::decoder`", "transformers")
def two_chosen(place: Path, model: Any) -> str:
    return f"{two(place, model)}::decoder"


@way(NAMES, "any tensor, by its whole name behind two colons", "safetensors")
def chosen_name(place: Path, model: Any) -> str:
    return f"{_called('something.else')(place, model)}::something.else"
