"""Tensors are matched across what wrappers put before their names, and adapters find embeddings of other names."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.places import APP
from ks_core.__main__ import main
from ks_core.checkpoints.adapted.names import bare, partners
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError
from ks_core.study.layers import scan_layers
from ks_core.study.scan import Study

CHANGED = "model.layers.1.mlp.down_proj.weight"
#: How the same tensors are called by what people save with: each a rule from the name that transformers gives.
WAYS = {
    "DistributedDataParallel": lambda n: f"module.{n}",
    "torch.compile": lambda n: f"_orig_mod.{n}",
    "both": lambda n: f"module._orig_mod.{n}",
    "a compiled layer": lambda n: n.replace("layers.1.", "layers.1._orig_mod."),
    "peft, merged by hand": lambda n: f"base_model.model.{n}",
    "images and text": lambda n: f"language_model.{n}",
    "images and text, since 4.52": lambda n: n.replace("model.", "model.language_model.", 1),
    "without its head": lambda n: n.removeprefix("model."),
    "FSDP": lambda n: f"_fsdp_wrapped_module.{n}",
    "peft, without the adapter": lambda n: "base_model.model." + n.replace("_proj.weight", "_proj.base_layer.weight"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("turned", [False, True], ids=["tuned", "base"])
def test_the_same_tensors_under_other_names(tiny_folder, tmp_path, way, turned):
    tensors = load_file(tiny_folder / "model.safetensors")
    tensors[CHANGED] = tensors[CHANGED] + 1
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    save_file({WAYS[way](name): value.clone() for name, value in tensors.items()}, other / "model.safetensors")
    pair = (other, tiny_folder) if turned else (tiny_folder, other)
    scan = scan_layers(*map(str, pair))
    assert len(scan.tensors) == len(tensors) and not scan.left_out
    changed = [t.name for t in scan.tensors if t.changed() > 0]
    assert changed == [WAYS[way](CHANGED) if turned else CHANGED], "under the base's name"
    assert any("have another name in" in note for note in scan.notes)


def test_what_would_be_two_is_left_out(tiny_folder, tmp_path):
    """Of two tensors that only wrappers tell apart nobody knows which is meant."""
    tensors = load_file(tiny_folder / "model.safetensors")
    value = tensors.pop(CHANGED)
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    save_file(tensors | {f"module.{CHANGED}": value, f"_orig_mod.{CHANGED}": value + 1}, other / "model.safetensors")
    scan = scan_layers(str(tiny_folder), str(other))
    assert CHANGED not in [t.name for t in scan.tensors] and len(scan.left_out) == 3


def test_an_adapter_that_is_not_merged_is_not_passed_over(tiny_folder, tmp_path, tiny_model):
    """Its base's weights stand in the file as they were, and would be found unchanged."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(copy.deepcopy(tiny_model), LoraConfig(r=2, target_modules=["q_proj"]))
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    state = {name: value.contiguous() for name, value in model.state_dict().items() if "lm_head" not in name}
    save_file(state, other / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not merged \(.*lora_A.*merge_and_unload"):
        scan_layers(str(tiny_folder), str(other))


def test_towers_and_layers_stay_apart():
    names = [
        "model.layers.0.q.weight",
        "model.layers.1.q.weight",
        "model.encoder.layers.0.q.weight",
        "vision_tower.layers.0.q.weight",
    ]
    assert len({bare(name) for name in names}) == 4
    assert partners(names, ["layers.1.q.weight"]) == {"model.layers.1.q.weight": "layers.1.q.weight"}
    assert bare("model") == "model" and bare("module.model.weight") == "weight"


def adapter(folder, base, tensors, **settings):
    folder.mkdir()
    save_file(
        {f"base_model.model.{name}": value for name, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    settings = {"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": str(base)} | settings
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return str(folder)


ROWS = torch.ones(2, 16)
#: The embedding's name in the base, and the module that an adapter on it names.
EMBEDDINGS = [
    ("tok_embeddings.weight", "tok_embeddings"), ("word_embedding.weight", "word_embedding"), ("shared.weight", "shared"),
    ("transformer.wte.weight", "transformer.wte"), ("bert.embeddings.word_embeddings.weight", "embeddings.word_embeddings"),
    ("tok_embeddings.weight", "model.embed_tokens"), ("backbone.embeddings.weight", "backbone.embeddings"),
    ("model.language_model.embed_tokens.weight", "model.embed_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "module"), EMBEDDINGS)
@pytest.mark.parametrize("kind", ["rows", "rows in a LoRA", "whole", "low rank"])
def test_adapters_on_embeddings_of_other_names(tmp_path, stored, module, kind):
    base = tmp_path / "base"
    base.mkdir()
    before = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    save_file({stored: before, "norm.weight": torch.ones(16)}, base / "model.safetensors")
    last = module.rpartition(".")[2]
    tensors, settings = {
        "rows": ({f"{module}.trainable_tokens_delta": ROWS}, {"peft_type": "TRAINABLE_TOKENS", "token_indices": [3, 5]}),
        "rows in a LoRA": (
            {f"{module}.token_adapter.trainable_tokens_delta": ROWS}, {"trainable_token_indices": {last: [3, 5]}}
        ),
        "whole": ({f"{module}.weight": before + torch.eye(64, 16)}, {}),
        "low rank": ({f"{module}.lora_embedding_A": torch.eye(2, 64), f"{module}.lora_embedding_B": torch.ones(16, 2)}, {}),
    }[kind]  # fmt: skip
    source = adapter(tmp_path / "a", base, tensors, **settings)
    found = open_checkpoint(source)
    changed = np.abs(found.matrix.block(0, 64) - before.numpy()).max(1) > 0.1
    expected = {"rows": [3, 5], "rows in a LoRA": [3, 5], "whole": [*range(16)], "low rank": [0, 1]}[kind]
    assert np.nonzero(changed)[0].tolist() == expected
    scan = scan_layers(str(base), source)
    assert [t.name for t in scan.tensors if t.changed() > 0] == [stored] and not scan.left_out


def test_an_adapter_on_another_embedding_is_not_the_tokens(tmp_path, tiny_folder):
    """Positions have an embedding too; a LoRA on it changes no token."""
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    tensors = load_file(base / "model.safetensors") | {"model.embed_positions.weight": torch.randn(64, 16)}
    save_file(tensors, base / "model.safetensors")
    low = {"lora_embedding_A": torch.ones(2, 64), "lora_embedding_B": torch.ones(16, 2)}
    source = adapter(tmp_path / "a", base, {f"model.embed_positions.{name}": value for name, value in low.items()})
    assert open_checkpoint(source).elsewhere == "embed_positions"
    scan = scan_layers(str(base), source)
    assert [t.name for t in scan.tensors if t.changed() > 0] == ["model.embed_positions.weight"]


@pytest.fixture
def attention_alone(tmp_path, tiny_folder):
    """The commonest adapter, as a training elsewhere left it."""
    module = "model.layers.{}.self_attn.{}_proj.lora_"
    tensors = {
        name: value
        for i in (0, 1) for which in "qv"
        for name, value in ((module.format(i, which) + "A.weight", torch.ones(2, 16)), (module.format(i, which) + "B.weight", torch.randn(16, 2)))
    }  # fmt: skip
    return str(tiny_folder), adapter(tmp_path / "attention", "org/elsewhere", tensors, r=2)


def test_a_lora_on_attention_alone_is_no_failure(attention_alone, capsys):
    study = Study(*attention_alone)
    scan = study.scan()
    assert not scan.changed.any() and study.tuned.elsewhere == "q_proj, v_proj"
    assert main(["scan", *attention_alone]) == 0
    said = capsys.readouterr().out
    assert "attention changes no embedding row: it tunes q_proj, v_proj alone" in said and "--layers" in said
    assert "identical" not in said
    assert main(["scan", *attention_alone, "--layers"]) == 0
    assert "4 of 20 tensors changed" in capsys.readouterr().out


def test_the_pages_say_so_and_layers_tests_it(attention_alone):
    from streamlit.testing.v1 import AppTest

    from ks_core.jobs import queue

    study = Study(*attention_alone)
    study.scan()
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"], at.query_params["tuned"] = attention_alone
    at.run()
    assert not at.exception and not at.error
    (said,) = (i.value for i in at.info)
    assert "changes no embedding row" in said and "Layers" in said
    parameters = {"base": attention_alone[0], "tuned": attention_alone[1], "content": study.key}
    job = queue.submit("layers", parameters)
    job.wait()
    at = at.switch_page("pages/layers.py").run()
    assert not at.exception and not at.error
    assert at.metric[0].value == "4 of 20"
    assert any("names org/elsewhere" in str(c.value) for c in at.caption)
