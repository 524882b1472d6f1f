"""Every architecture that the installed transformers builds, tiny: its own configuration with small sizes in it.

A configuration is not written down for each: of ``SIZES`` a kind takes what it has a setting for, and ``MORE`` has what one
kind needs besides. A kind that is new in transformers is tried like the others; one that cannot be built, or is no model of
text, stands in ``LEFT_OUT`` with the reason.
"""

from __future__ import annotations

from typing import Any

#: Settings by the names that configurations give them.
SIZES: dict[str, Any] = {
    "vocab_size": 64, "vocab_size_per_layer_input": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "decoder_start_token_id": 0, "is_decoder": True,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "word_embed_proj_dim", "lru_width", "emb_dim",
                     "embedding_dim", "attention_hidden_size"), 64),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner", "ffn_dim", "d_ff", "dim_ff", "dff",
                     "ffn_hidden_size", "d_inner", "feed_forward_size", "intermediate_size_mlp",
                     "dense_intermediate_size"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size",
                     "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers", "n_layer", "n_layers", "num_layers",
                     "num_decoder_layers", "num_encoder_layers", "num_blocks"), 2),
    **dict.fromkeys(("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads", "n_head", "n_heads", "num_heads",
                     "swa_num_attention_heads", "linear_num_heads", "num_encoder_attention_heads",
                     "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "linear_num_key_heads",
                     "linear_num_value_heads", "index_n_heads"), 2),
    **dict.fromkeys(("head_dim", "v_head_dim", "qk_head_dim", "swa_head_dim", "kv_channels", "dim_head", "d_head", "d_kv",
                     "index_head_dim", "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim", "kv_lora_rank",
                     "q_lora_rank", "query_pre_attn_scalar", "hidden_size_per_layer_input"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "index_topk"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length", "context_length",
                     "max_target_positions"), 128),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size", "local_attention"), 64),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "topk_group", "n_group", "first_k_dense_replace", "mamba_n_groups",
                     "n_groups"), 1),
    "mamba_d_state": 8, "state_size": 8, "ssm_state_size": 8, "time_step_rank": 8, "mamba_dt_rank": 8,
    "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_num_heads": 4, "mamba_head_dim": 32, "mamba_chunk_size": 16, "chunk_size": 16,
}  # fmt: skip

#: A layer that is recurrent and one that attends, for those that mix them: tiny ones would have the first kind alone.
MIXED = ["linear_attention", "full_attention"]


def _each(kinds: str, **settings: Any) -> dict[str, dict[str, Any]]:
    """The same settings for several kinds."""
    return dict.fromkeys(kinds.split(), settings)


#: What one kind needs besides.
MORE: dict[str, dict[str, Any]] = {
    **_each("bailing_hybrid granitemoehybrid kimi_linear qwen3_5_text qwen3_5_moe_text qwen3_next", layer_types=MIXED),
    **_each("lfm2_moe lfm3", layer_types=["conv", "full_attention"]),
    **_each("axk2 deepseek_v32 glm_moe_dsa", num_key_value_heads=4),
    "bamba": {"attn_layer_indices": [1]},
    "cohere_compass_text": {"rope_parameters": _each("full_attention sliding_attention", rope_type="default", rope_theta=10000.0)},
    "dots3_note_text": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 128},
    "gemma3n_text": {"num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0, 0.0], "intermediate_size": [96, 96]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mamba2": {"head_dim": 32},
    "qwen4_exp_text": {"layer_types": MIXED, "indexer_n_heads": 2, "indexer_head_dim": 16, "indexer_kv_heads": 1, "indexer_budget": 16,
                       "indexer_compress_ratio": 4, "ple_layer_ids": []},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "attention_hidden_size": 128},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "attention_hidden_size": 128},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


def names(mapping: str) -> dict[str, str]:
    """The kinds of one of transformers' lists and the class of each: ``CAUSAL_LM``, ``SEQ_TO_SEQ_CAUSAL_LM``."""
    from transformers.models.auto import modeling_auto

    return dict(getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES"))


#: Weights of a model that is still called tiny: some have parts without a setting for their size.
LARGEST = 20_000_000

#: transformers' lists, and the automatic class of each.
CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_TO_SEQ_CAUSAL_LM": "AutoModelForSeq2SeqLM",
    "IMAGE_TEXT_TO_TEXT": "AutoModelForImageTextToText",
}


def config(kind: str, **settings: Any) -> Any:
    """The configuration of a kind, tiny; ``settings`` besides."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(kind)
    inner = {}
    for name in getattr(default, "sub_configs", None) or {}:
        part = getattr(default, name, None)
        if getattr(part, "model_type", ""):
            inner[name] = {"model_type": part.model_type, **_sizes(part, part.model_type)}
    return AutoConfig.for_model(kind, **{**_sizes(default, kind), **inner, **settings})


def _sizes(default: Any, kind: str) -> dict[str, Any]:
    known, other = default.to_dict(), getattr(type(default), "attribute_map", {})
    found = {n: v for n, v in SIZES.items() if n in known or (n in other and other[n] not in SIZES)}
    if "qk_rope_head_dim" in known:  # the head is then what is turned
        found |= {"head_dim": found["qk_rope_head_dim"]}
    return found | MORE.get(kind, {})


def model(kind: str, mapping: str = "CAUSAL_LM", **settings: Any) -> Any:
    """A tiny model of a kind in float32, drawn with a fixed seed and ready to be run. ``ValueError`` for one that stays large."""
    import torch
    import transformers

    torch.manual_seed(0)
    if mapping == "SEQ_TO_SEQ_CAUSAL_LM":
        settings = {"decoder_start_token_id": 0, **settings}
    made, build = config(kind, **settings), getattr(transformers, CLASSES[mapping]).from_config
    with torch.device("meta"):
        size = sum(p.numel() for p in build(made).parameters())
    if size > LARGEST:
        raise ValueError(f"{kind} has {size / 1e6:.0f} million weights where it should be tiny")
    return build(made).float().eval()


#: The families that `make test` goes over; the others take a quarter of an hour (`make architectures`).
QUICK = {
    "CAUSAL_LM": (
        "llama",
        "gemma",
        "gemma2",
        "gemma3_text",
        "qwen2",
        "gpt2",
        "gpt_neox",
        "opt",
        "bloom",
        "mamba",
        "inkling_text",
    ),
    "SEQ_TO_SEQ_CAUSAL_LM": ("t5", "mbart", "m2m_100", "marian"),
    "IMAGE_TEXT_TO_TEXT": ("gemma3", "llava"),
}

#: Models of images and text that answer to text alone; of the others no tiny one is made, for want of sizes of the part that
#: sees, or they ask for an image.
_PICTURES = (
    "aria aya_vision cohere2_vision cohere_compass cosmos3_omni deepseek_vl deepseek_vl_hybrid exaone4_5 fuyu gemma3 gemma4 "
    "gemma4_unified git got_ocr2 hyperclovax_vision_v2 idefics2 idefics3 inkling_mm_model internvl kimi_k25 kosmos-2.5 lfm2_vl "
    "lfm3_vl lighton_ocr llama4 llava llava_next llava_next_video llava_onevision minicpm_ocr minicpmv4_6 minicpmv4_7 minimax_m3_vl "
    "mistral3 mllama ovis2 paligemma pp_chart2table qianfan_ocr qwen3_5 qwen3_5_moe qwen3_vl qwen3_vl_moe qwen4_exp shieldgemma2 "
    "smolvlm step3p7 video_llama_3 video_llava vipllava"
)
PICTURES = _PICTURES.split()

#: What is on a list of transformers and is not gone over, with the reason.
LEFT_OUT = {
    "CAUSAL_LM": {
        **dict.fromkeys(("musicgen", "musicgen_melody"), "writes codes of sound"),
        **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), "drafts for another model, whose states it is given"),
        "blt": "reads bytes, of which patches are made by a second model; no tiny one can be made",
        "dbrx": "transformers' own default configuration does not build",
        "dots3_note": "its text part is gone over as dots3_note_text",
        "gemma3n": "needs the library timm; its text part is gone over as gemma3n_text",
        "reformer": "reads texts of one length alone",
    },
    "SEQ_TO_SEQ_CAUSAL_LM": {
        **dict.fromkeys(
            ("audioflamingo3", "glmasr", "granite_speech", "granite_speech_plus", "moss_transcribe_diarize", "musicflamingo",
             "nemo_speechlm", "qwen2_audio", "qwen3_asr", "vibevoice_asr", "voxtral", "voxtral_realtime"),
            "reads sound",
        ),
        "encoder-decoder": "two models that are put together, of any kinds",
        "t5gemma2": "its text halves have no common setting of their size",
    },
}  # fmt: skip
