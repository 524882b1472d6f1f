"""Layers of adapters: every way in which peft changes weights gives what peft's own merging gives, or is refused by name."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ks_core.checkpoints.matrices import to_floats
from ks_core.checkpoints.tensors import open_pair
from ks_core.errors import CheckpointError
from ks_core.study.layers import scan_layers

Q, V = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"


@pytest.fixture(scope="module")
def llama():
    """Untied, with biases in the attention, and not square."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    shape = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return LlamaForCausalLM(
        LlamaConfig(**shape, num_key_value_heads=1, attention_bias=True, tie_word_embeddings=False)
    ).eval()


@pytest.fixture(scope="module")
def gpt2():
    """Its maps lie transposed, some of them are square, and its embedding is the output layer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2)).eval()


def trained(model, folder, config, dtype=torch.float32, convert=False):
    """The base and an adapter on it, saved by peft, and the weights that peft merges: the names are those of the base."""
    from peft import get_peft_model

    base = copy.deepcopy(model).to(dtype)
    base.save_pretrained(folder / "base")
    wrapped = get_peft_model(base, config)
    options = {}
    if convert:  # as peft's documents say: the beginning is kept as a usual LoRA
        own, wrapped.peft_config["default"].init_lora_weights = config.init_lora_weights, True
        wrapped.save_pretrained(folder / "begun")
        wrapped.peft_config["default"].init_lora_weights = own
        options = {"path_initial_model_for_weight_conversion": str(folder / "begun")}
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad and "original_module" not in name:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    wrapped.save_pretrained(folder / "adapter", **options)
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(folder / "base")
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    merged = wrapped.merge_and_unload()
    return {name: value.detach().float().numpy() for name, value in merged.state_dict().items()}


def lora(**settings):
    from peft import LoraConfig

    return LoraConfig(
        **{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | settings
    )


PATTERNS = {"rank_pattern": {Q: 2, "v_proj": 3}, "alpha_pattern": {"layers.0.self_attn.v_proj": 2, f"^{Q}": 12}}
KINDS = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True, **PATTERNS},
    "patterns": PATTERNS,
    "DoRA": {"use_dora": True},
    "DoRA on the embedding": {"use_dora": True, "target_modules": ["q_proj", "embed_tokens"]},
    "biases": {"bias": "all"},
    "biases of its own": {"lora_bias": True},
    "all linear maps": {"target_modules": "all-linear"},
    "saved modules": {"modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    "tokens of both": {"trainable_token_indices": {"embed_tokens": [3, 9], "lm_head": [5, 4, 60]}},
    "LoRA on both": {"target_modules": ["embed_tokens", "lm_head"]},
    "PiSSA": {"init_lora_weights": "pissa", "r": 3},
    "OLoRA": {"init_lora_weights": "olora"},
    "PiSSA with DoRA": {"init_lora_weights": "pissa", "use_dora": True},
    "EVA": {"init_lora_weights": "eva"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "MiCA": {"init_lora_weights": "mica"},
    "drawn": {"init_lora_weights": False},
}


def compare(folder, merged):
    """Every tensor of the adapter's side against the merged model."""
    before, after = open_pair(str(folder / "base"), str(folder / "adapter"))
    changed = set()
    for name in before.files:
        matrix = after.matrix(name)
        found = to_floats(matrix.block(0, matrix.shape[0]), matrix.dtype)
        expected = merged[name].reshape(found.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5, err_msg=name)
        first = before.matrix(name)
        if np.abs(to_floats(first.block(0, first.shape[0]), first.dtype) - expected).max() > 1e-3:
            changed.add(name)
            assert before.content_hash(name) != after.content_hash(name)
    scan = scan_layers(str(folder / "base"), str(folder / "adapter"))
    assert not scan.left_out and changed <= {t.name for t in scan.tensors if t.changed() > 0}
    assert changed, "the adapter was trained"
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_what_peft_merges(llama, tmp_path, kind):
    changed = compare(tmp_path, trained(llama, tmp_path, lora(**KINDS[kind])))
    if kind in ("saved modules", "tokens of both", "LoRA on both"):
        assert {"lm_head.weight", "model.embed_tokens.weight"} <= changed
    if "biases" in kind:
        assert f"{Q}.bias" in changed


@pytest.mark.parametrize("kind", ["PiSSA", "OLoRA"])
def test_a_lora_that_began_with_a_part_of_the_base_is_not_larger_for_it(llama, tmp_path, kind):
    """The change is that of training, and not the part that was taken out of the base first."""
    merged = trained(llama, tmp_path, lora(**KINDS[kind]))
    _, after = open_pair(str(tmp_path / "base"), str(tmp_path / "adapter"))
    start = llama.state_dict()[f"{Q}.weight"].numpy()
    moved = np.abs(after.matrix(f"{Q}.weight").block(0, 16) - start).mean()
    assert moved == pytest.approx(np.abs(merged[f"{Q}.weight"] - start).mean(), rel=1e-3)


def test_one_that_was_converted_is_a_usual_lora(llama, tmp_path):
    compare(tmp_path, trained(llama, tmp_path, lora(init_lora_weights="pissa"), convert=True))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["init_lora_weights"] is True


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_left_of_a_base_in_16_bits_was_rounded(llama, tmp_path, dtype):
    """peft stores the rest of the weight as the base is stored, and so the sum is not the base and a difference."""
    trained(llama, tmp_path, lora(init_lora_weights="pissa"), dtype)
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
    map_ = PeftModel.from_pretrained(model, tmp_path / "adapter").base_model.model.model.layers[0].self_attn.q_proj
    parts = (map_.base_layer.weight, map_.lora_B["default"].weight, map_.lora_A["default"].weight)
    rest, left, right = (part.detach().float().numpy() for part in parts)
    _, after = open_pair(str(tmp_path / "base"), str(tmp_path / "adapter"))
    found = after.matrix(f"{Q}.weight").block(0, 16)
    # A value that lies at the middle between two of the storage may have been rounded to the other.
    close = np.isclose(found, rest + 1.5 * left @ right, rtol=0, atol=1e-6)
    assert close.mean() > 0.98 and np.abs(found - rest - 1.5 * left @ right).max() < 0.01


@pytest.mark.parametrize(
    "settings", [{}, {"use_dora": True}, {"init_lora_weights": "pissa"}, {"target_modules": ["c_attn", "wte"]}]
)
def test_maps_that_lie_transposed(gpt2, tmp_path, settings):
    config = lora(**{"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True} | settings)
    changed = compare(tmp_path, trained(gpt2, tmp_path, config))
    assert "transformer.h.0.attn.c_attn.weight" in changed


def test_one_setting_that_does_not_hold_for_all_maps_is_refused(gpt2, tmp_path):
    trained(gpt2, tmp_path, lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fan_in_fan_out": False}))
    with pytest.raises(
        CheckpointError, match=r"fan_in_fan_out = False, which does not hold .*c_attn.* how .*c_proj.* cannot be told"
    ):
        open_pair(str(tmp_path / "base"), str(tmp_path / "adapter"))


REFUSED = [
    ({"init_lora_weights": "pissa_niter_4"}, "drawn at random"),
    ({"init_lora_weights": "corda"}, "depends on data"),
    ({"init_lora_weights": "lora_ga"}, "depends on data"),
    ({"init_lora_weights": "loftq"}, "quantized"),
    ({"init_lora_weights": "somehow"}, "'somehow'.*not known"),
    ({"alora_invocation_tokens": [1]}, "aLoRA"),
    ({"layer_replication": [[0, 2]]}, "repeats layers"),
    ({"target_parameters": ["x"]}, "target_parameters is set"),
    ({"use_dora": True}, "without the magnitudes"),
    ({"peft_type": "LOHA"}, "kind LOHA"),
    ({"peft_type": "IA3"}, "kind IA3"),
]


@pytest.mark.parametrize(("settings", "says"), REFUSED)
def test_what_the_files_do_not_say_is_refused_with_the_remedy(llama, tmp_path, settings, says):
    trained(llama, tmp_path, lora())
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(CheckpointError, match=says) as raised:
        scan_layers(str(tmp_path / "base"), str(tmp_path / "adapter"))
    assert any(
        word in str(raised.value) for word in ("Merge it with peft", "merge it with peft", "Save the adapter again")
    )


@pytest.mark.parametrize(("name", "says"), [
    ("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", r"layers\.9.*which its base lacks"),
    ("base_model.model.model.layers.0.self_attn.q_proj.lora_E", "a part of a LoRA that is not known"),
])  # fmt: skip
def test_a_part_that_has_no_place_is_not_left_out(llama, tmp_path, name, says):
    trained(llama, tmp_path, lora())
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors |= {name: torch.ones(4, 16), name.replace("lora_A", "lora_B"): torch.ones(16, 4)}
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=says):
        open_pair(str(tmp_path / "base"), str(tmp_path / "adapter"))


def test_the_signature_knows_what_an_adapter_does_to_other_weights(llama, tmp_path):
    trained(llama, tmp_path, lora())
    pair = str(tmp_path / "base"), str(tmp_path / "adapter")
    first = str(scan_layers(*pair).signature)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: value * 2 for name, value in tensors.items()}, path)
    assert str(scan_layers(*pair).signature) != first


def test_an_output_layer_of_a_tied_base_is_compared_with_its_embedding(gpt2, tmp_path):
    merged = trained(gpt2, tmp_path, lora(target_modules=["lm_head"]))
    scan = scan_layers(str(tmp_path / "base"), str(tmp_path / "adapter"))
    (head,) = (t for t in scan.tensors if t.changed() > 0)
    assert head.name == "lm_head.weight" and any("which is its embedding" in note for note in scan.notes)
    _, after = open_pair(str(tmp_path / "base"), str(tmp_path / "adapter"))
    np.testing.assert_allclose(after.matrix("lm_head.weight").block(0, 64), merged["lm_head.weight"], atol=1e-5)
