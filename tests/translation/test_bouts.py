"""Answers in bouts are those of transformers' ``generate`` in one go."""

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from ks_core.translation import bouts, generation

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
OTHERS = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4}
#: Each with whether it can be written in bouts: BLOOM and MPT tell places by distance alone, Mistral here sees 8 tokens, Mamba none.
MODELS = {
    "llama": (transformers.LlamaConfig(**SMALL, num_key_value_heads=2), True),
    "qwen2": (transformers.Qwen2Config(**SMALL, num_key_value_heads=2), True),
    "gpt_neox": (transformers.GPTNeoXConfig(**SMALL), True),
    "gpt2": (transformers.GPT2Config(**OTHERS), True),
    "opt": (transformers.OPTConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, ffn_dim=64, num_attention_heads=4,
                                   word_embed_proj_dim=32), True),
    "mistral": (transformers.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=8), False),
    "bloom": (transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4), False),
    "mpt": (transformers.MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4), False),
    "mamba": (transformers.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4), False),
}  # fmt: skip
#: They begin alike, and are of several lengths, so that padding stands between the two parts.
PROMPTS = [f"w3 w4 w5 {own}" for own in ("w9", "w10 w11 w12 w13", "w14 w15", "w16 w17 w18 w19 w20 w21 w22", "w9 w9 w9")]


def build(name):
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(MODELS[name][0]).eval()


def written(model, tokenizer, monkeypatch, in_bouts, **settings):
    with monkeypatch.context() as patch:
        if not in_bouts:
            patch.setattr(bouts, "cache_for", lambda model: None)
        return generation.write_ids(model, tokenizer, PROMPTS, **settings)


@pytest.mark.parametrize("name", [n if n == "llama" else pytest.param(n, marks=pytest.mark.whole) for n in MODELS])
def test_bouts_are_one_go(name, tiny_tokenizer, monkeypatch):
    model = build(name)
    assert (bouts.cache_for(model) is not None) == MODELS[name][1]
    in_one = written(model, tiny_tokenizer, monkeypatch, False, max_new_tokens=21)
    # Ends at which some of them leave early, in several bouts, and some never.
    ends = {in_one[0][1][2], in_one[1][1][12]}
    for given in (set(), ends):
        answers = [
            written(model, tiny_tokenizer, monkeypatch, way, max_new_tokens=21, ends=given) for way in (False, True)
        ]
        assert answers[0] == answers[1]
        # Fewer at once: a prompt waits until the place of an ended answer is free.
        told = []
        waited = written(
            model, tiny_tokenizer, monkeypatch, True, max_new_tokens=21, ends=given, at_once=2, stepped=told.append
        )
        assert waited == answers[0]
        assert told == sorted(told) and 0 < told[0] < 1 and told[-1] <= 21
    assert len({len(ids) for _, ids in answers[1]}) > 1


def test_places_are_read_as_in_one_go(tiny_tokenizer):
    """What a bout feeds on is the same but for rounding: the logits behind shared words, a gap, and cached tokens."""
    model, told = build("llama"), []
    model.register_forward_hook(lambda module, inputs, output: told.append(output.logits[:, -1].clone()))
    prompts = [tiny_tokenizer(p)["input_ids"] for p in PROMPTS]
    with torch.no_grad():
        ids = bouts.write(model, prompts, 12, 5, set(), 0, do_sample=False)
    own = told[2:]  # the first two read what all share, and what is each one's own
    for row, (prompt, answer) in enumerate(zip(prompts, ids, strict=True)):
        with torch.no_grad():
            whole = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        assert torch.allclose(torch.stack([step[row] for step in own]), whole, atol=1e-5)


def test_layers_with_room_hold_what_growing_ones_hold():
    generator = torch.Generator().manual_seed(0)
    roomy, growing = bouts.RoomyLayer(), bouts.DynamicLayer()
    for step in range(2 * bouts.ROOM):
        new = torch.randn(3 if step < 70 else 2, 2, 5 if step == 0 else 1, 4, generator=generator)
        if step == 70:
            for layer in (roomy, growing):
                layer.batch_select_indices(torch.tensor([2, 0]))
        for mine, other in zip(roomy.update(new, 2 * new), growing.update(new, 2 * new), strict=True):
            assert torch.equal(mine, other)
        assert roomy.get_seq_length() == growing.get_seq_length() == 5 + step


def test_what_counts_from_the_first_token_is_left_to_one_go(tiny_model):
    assert bouts.cache_for(tiny_model) is not None
    tiny_model.generation_config.min_new_tokens = 3
    try:
        assert bouts.cache_for(tiny_model) is None
    finally:
        tiny_model.generation_config.min_new_tokens = None
