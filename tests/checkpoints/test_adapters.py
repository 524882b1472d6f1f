"""Adapters that peft saves for a model of another vocabulary size, and what they do to other parts of the program."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ks_core.checkpoints import safetensors_file
from ks_core.checkpoints.matrices import to_floats
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.pairs import match
from ks_core.errors import CheckpointError

EMBEDDING = "base_model.model.model.embed_tokens."


def rows_of(checkpoint):
    m = checkpoint.matrix
    return to_floats(m.block(0, m.shape[0]), m.dtype)


def put_on(folder, base):
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(base)}))
    return folder


def saved_by_peft(tiny_model, folder, base, config, size=None, **options):
    """The adapter's folder and the rows that peft computes with, (size, 16)."""
    from peft import get_peft_model

    model = copy.deepcopy(tiny_model)
    if size:
        model.resize_token_embeddings(size, mean_resizing=False)
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "embed" in name:
                parameter += torch.randn(parameter.shape, generator=generator)
        expected = model.get_input_embeddings()(torch.arange(size or 64)[None])[0].numpy()
    model.save_pretrained(folder, **options)
    return put_on(folder, base), expected


def configs():
    from peft import LoraConfig

    return {
        "modules_to_save": (LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]), {}),
        "saved with a LoRA elsewhere": (LoraConfig(r=2, target_modules=["q_proj"]), {"save_embedding_layers": True}),
        "LoRA on it": (LoraConfig(r=4, target_modules=["embed_tokens"]), {"save_embedding_layers": True}),
        "tokens": (
            LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3, 68]}),
            {"save_embedding_layers": True},
        ),
    }


@pytest.mark.parametrize("kind", ["modules_to_save", "saved with a LoRA elsewhere", "LoRA on it", "tokens"])
def test_a_vocabulary_that_was_resized_before_training(tmp_path, tiny_folder, tiny_model, kind):
    config, options = configs()[kind]
    folder, expected = saved_by_peft(tiny_model, tmp_path / "a", tiny_folder, config, 70, **options)
    found = open_checkpoint(str(folder))
    np.testing.assert_allclose(rows_of(found), expected, atol=1e-6)
    pair = match(found.base, found)
    assert len(pair.base_ids) == 64 and pair.tuned_only.tolist() == [64, 65, 66, 67, 68, 69]
    # The rows it brings along are part of its content, and not only its change.
    first = found.content_hash
    weights = folder / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    tensors = safetensors_file.tensors(weights)
    name = next(n for n in tensors if "embed_tokens" in n and n.endswith("weight"))
    data[tensors[name].start] ^= 1
    weights.write_bytes(data)
    assert open_checkpoint(str(folder)).content_hash != first


def test_the_tokenizer_beside_an_adapter_is_the_tuned_ones(tmp_path, tiny_folder, tiny_model):
    folder, _ = saved_by_peft(tiny_model, tmp_path / "a", tiny_folder, configs()["modules_to_save"][0], 70)
    (folder / "vocab.json").write_text(json.dumps({f"t{i}": i for i in range(70)}))
    found = open_checkpoint(str(folder))
    assert len(found.vocabulary) == 70 and len(found.base.vocabulary) == 64


def test_layers_see_the_rows_that_an_adapter_brings(tmp_path, tiny_folder, tiny_model):
    """Each of them changed. Answered from the base's remembered hash, it would be none."""
    from ks_core.study.layers import scan_layers

    folder, _ = saved_by_peft(tiny_model, tmp_path / "a", tiny_folder, configs()["modules_to_save"][0])
    scan = scan_layers(str(tiny_folder), str(folder), device="cpu")
    (embedding,) = (t for t in scan.tensors if "embed_tokens" in t.name)
    assert embedding.changed() == 1.0
    folder, _ = saved_by_peft(tiny_model, tmp_path / "b", tiny_folder, configs()["modules_to_save"][0], 70)
    scan = scan_layers(str(tiny_folder), str(folder), device="cpu")
    assert any("[64, 16] before, [70, 16] after" in line for line in scan.left_out)


def adapter(folder, base, tensors, **settings):
    folder.mkdir()
    save_file({EMBEDDING + name: array for name, array in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base), **settings}))
    return str(folder)


def test_the_rank_of_the_tensors_scales_a_lora(tmp_path, tiny_folder):
    """peft's rank_pattern gives single modules another rank than ``r`` says."""
    low = {"lora_embedding_A": np.ones((2, 64), np.float32), "lora_embedding_B": np.ones((16, 2), np.float32)}
    found = open_checkpoint(adapter(tmp_path / "a", tiny_folder, low, r=4, lora_alpha=8, rank_pattern={"x": 2}))
    np.testing.assert_allclose(rows_of(found) - rows_of(found.base), 8.0, rtol=1e-5)  # 8 / 2 * (1 + 1)


A, B = np.ones((2, 64), np.float32), np.ones((16, 2), np.float32)


@pytest.mark.parametrize(("tensors", "settings", "says"), [
    ({"lora_embedding_A": A}, {}, "without its"),
    ({"lora_embedding_A": A, "lora_embedding_B": B[:, :1].copy()}, {}, "ranks 2 and 1"),
    ({"lora_embedding_A": A[:, :9].copy(), "lora_embedding_B": B}, {}, "another model"),
    ({"lora_embedding_A": A[:0], "lora_embedding_B": B[:, :0].copy()}, {}, "rank 0"),
    ({"lora_embedding_A": A, "lora_embedding_B": B}, {"use_dora": True}, "DoRA"),
    ({"lora_embedding_A": A, "lora_embedding_B": B}, {"lora_alpha": "x"}, "lora_alpha"),
    ({"lora_embedding_A": A, "lora_embedding_B": B}, {"lora_alpha": float("inf")}, "lora_alpha"),
    ({"lora_embedding_A": A, "lora_embedding_B": B}, {"alpha_pattern": {"(e+)+": 3}}, "expression"),
    ({"trainable_tokens_delta": B.T.copy()}, {"token_indices": [1, 10**30]}, "names ids"),
    ({"trainable_tokens_delta": B.T.copy()}, {"token_indices": [-1, 3]}, "names ids"),
    ({"trainable_tokens_delta": B.T.copy()}, {"token_indices": [True, 3]}, "lists no token ids"),
    ({"trainable_tokens_delta": B.T.copy()}, {"token_indices": [3]}, "1 token ids and 2 rows"),
    ({"weight": np.ones((64, 8), np.float32)}, {}, "another model"),
    ({"other": A}, {}, "changes no weight"),
    ({"hada_w1_a": A}, {"peft_type": "PREFIX_TUNING"}, "changes no weight"),
])  # fmt: skip
def test_adapters_that_cannot_be(tmp_path, tiny_folder, tensors, settings, says):
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(adapter(tmp_path / "a", tiny_folder, tensors, **settings))


def test_an_adapter_that_is_its_own_base(tmp_path):
    source = adapter(tmp_path / "a", tmp_path / "a", {"trainable_tokens_delta": B.T.copy()}, token_indices=[1, 2])
    with pytest.raises(CheckpointError, match="Merge them") as raised:
        open_checkpoint(source)
    assert len(str(raised.value)) < 400


def test_the_revision_of_the_base_is_asked_for(tmp_path):
    settings = {"token_indices": [1, 2], "revision": "v1.0"}
    source = adapter(tmp_path / "a", "no-such-org/no-such-model", {"trainable_tokens_delta": B.T.copy()}, **settings)
    with pytest.raises(CheckpointError, match=r"no-such-org/no-such-model@v1\.0"):
        open_checkpoint(source)


def test_a_model_with_an_adapter_is_what_peft_makes_of_it(tiny_model, tiny_folder, tiny_tokenizer, tmp_path):
    """A LoRA on the attention beside changed rows is part of the model that is loaded, and not left out silently."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import LlamaForCausalLM

    from ks_core.tuning.models import load_model

    untied = copy.deepcopy(tiny_model)
    untied.config.tie_word_embeddings = False
    untied.lm_head.weight = torch.nn.Parameter(tiny_model.lm_head.weight.detach().clone())
    untied.save_pretrained(tmp_path / "untied")
    tiny_tokenizer.save_pretrained(tmp_path / "untied")
    wrapped = get_peft_model(
        copy.deepcopy(untied), LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 9])
    )
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter += 0.5
    wrapped.save_pretrained(tmp_path / "adapter")
    put_on(tmp_path / "adapter", tmp_path / "untied")
    ids = torch.tensor([[3, 5, 9, 20]])
    plain = LlamaForCausalLM.from_pretrained(tmp_path / "untied")
    ours, _ = load_model(str(tmp_path / "adapter"))
    with torch.no_grad():
        without = plain(ids).logits
        expected = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()(ids).logits
        torch.testing.assert_close(ours(ids).logits, expected, rtol=1e-4, atol=1e-5)
        assert (expected - without).abs().max() > 0.01
    assert type(ours.get_input_embeddings()) is torch.nn.Embedding
