"""What transformers and peft would open by themselves: nothing of it lies outside the folder that they are handed."""

import json
import shutil

import pytest

from helpers import samples
from ks_core.checkpoints import handover
from ks_core.errors import AccessError, KSLotteryError
from ks_core.store import access
from ks_core.tuning.models import load_model, load_tokenizer


@pytest.fixture
def outside(tmp_path, tiny_folder):
    """A folder beside the model's, with everything in it that could be taken from there."""
    folder = tmp_path / "outside"
    shutil.copytree(tiny_folder, folder)
    (folder / "chat.jinja").write_text("the secret template")
    (folder / "tokenizer.4.0.json").write_bytes((folder / "tokenizer.json").read_bytes())
    return folder


def setting(folder, file, **values):
    """Change settings of a JSON file."""
    found = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(found | values))


def link(name):
    def plant(model, outside):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(outside / ("chat.jinja" if name.endswith(".jinja") else name))

    return plant


def index(file, **weight_map):
    def plant(model, outside):
        (model / file).write_bytes(samples.index(weight_map))

    return plant


def linked_templates(model, outside):
    (outside / "templates").mkdir()
    (outside / "templates" / "x.jinja").write_text("the secret template")
    (model / handover.TEMPLATES).symlink_to(outside / "templates")


def linked_weights(model, outside):
    (model / "own.safetensors").symlink_to(outside / "model.safetensors")
    setting(model, "config.json", transformers_weights="own.safetensors")


#: What somebody plants in a model's folder: the file that leads out, and words of the refusal.
PLANTED = {
    "a template": (link("chat_template.jinja"), "leads out of its folder"),
    "one more template": (link(f"{handover.TEMPLATES}/x.jinja"), "leads out of its folder"),
    "the folder of templates": (linked_templates, "leads out of its folder"),
    "special tokens": (link("special_tokens_map.json"), "leads out of its folder"),
    "config": (link("config.json"), "leads out of its folder"),
    "generation": (link("generation_config.json"), "leads out of its folder"),
    "weights by config": (linked_weights, "leads out of its folder"),
    "weights elsewhere": (lambda m, o: setting(m, "config.json", transformers_weights="../outside/model.safetensors"), "outside its folder"),
    "a tokenizer's version": (
        lambda m, o: setting(m, "tokenizer_config.json", fast_tokenizer_files=["../outside/tokenizer.4.0.json"]), "outside its folder"
    ),
    "a tokenizer's file": (lambda m, o: setting(m, "tokenizer_config.json", vocab_file=str(o / "tokenizer.json")), "outside its folder"),
    "the other index": (index("pytorch_model.bin.index.json", x="../outside/model.safetensors"), "outside its folder"),
    "an adapter beside it": (
        lambda m, o: [(m / n).write_bytes(d) for n, d in samples.adapter({"weight": samples.ROWS}, str(o)).items()], "adapter beside the model"
    ),
}  # fmt: skip


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("what", PLANTED)
def test_nothing_is_taken_from_outside(tiny_folder, outside, monkeypatch, what, bounded, there):
    """With roots and without, and whether there is anything outside or not."""
    plant, says = PLANTED[what]
    if bounded:
        monkeypatch.setenv(access.ROOTS, str(tiny_folder))
    load_tokenizer(str(tiny_folder / "model.safetensors"))  # before, it can be had
    plant(tiny_folder, outside)
    if not there:
        shutil.rmtree(outside)
    for load in (load_model, load_tokenizer):
        with pytest.raises(KSLotteryError, match=says):
            load(str(tiny_folder / "model.safetensors"))


def test_a_gguf_file_is_not_loaded_with_what_lies_beside_it(tmp_path, tiny_folder):
    """transformers takes the base of an adapter for the model where no config is."""
    place = samples.write(tmp_path / "gguf", {"m.gguf": samples.gguf()})
    assert handover.check_model(place) == place.parent
    for name, data in samples.adapter({"weight": samples.ROWS}, str(tiny_folder)).items():
        (place.parent / name).write_bytes(data)
    with pytest.raises(KSLotteryError, match="adapter beside the model"):
        load_model(str(place))


def test_what_is_no_harm_is_handed_on(tiny_folder, tmp_path):
    """Links that nothing reads, links inside, and paths that old savings left."""
    (tiny_folder / "notes").symlink_to(tmp_path)
    (tiny_folder / "larger.gguf").symlink_to(tmp_path / "larger.gguf")
    (tiny_folder / "config.json").rename(tiny_folder / "config-1.json")
    (tiny_folder / "config.json").symlink_to("config-1.json")
    setting(
        tiny_folder,
        "config-1.json",
        _name_or_path="/home/somebody/model",
        output_dir="/data/out",
        transformers_weights=None,
    )
    setting(
        tiny_folder,
        "tokenizer_config.json",
        special_tokens_map_file="/home/somebody/map.json",
        tokenizer_file="/x/y.json",
        name_or_path="../m",
    )
    model, tokenizer = load_model(str(tiny_folder))
    assert model.config.hidden_size == 16 and tokenizer("w5")["input_ids"]


@pytest.fixture
def adapter(tiny_folder, tmp_path):
    """A LoRA inside the layers with trained rows, as peft saves it: such a one peft merges."""
    from peft import LoraConfig, get_peft_model

    model, _ = load_model(str(tiny_folder))
    config = LoraConfig(
        r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3]}, ensure_weight_tying=True
    )
    get_peft_model(model, config).save_pretrained(tmp_path / "lora")
    setting(tmp_path / "lora", "adapter_config.json", base_model_name_or_path=str(tiny_folder))
    return tmp_path / "lora"


@pytest.mark.parametrize("values", [
    {"corda_config": {"cache_file": "{outside}/x.pt"}}, {"corda_config": {"covariance_file": "x.pt"}},
    {"prompt_tuning_init_state_dict_path": "{outside}/x.bin"}, {"tokenizer_name_or_path": "{outside}"}, {"megatron_config": {"a": 1}},
], ids=lambda values: next(iter(values)))  # fmt: skip
def test_peft_opens_nothing_that_an_adapter_names(adapter, outside, values):
    assert handover.check_adapter(adapter) == adapter
    load_model(str(adapter))  # before, it is merged
    setting(adapter, "adapter_config.json", **json.loads(json.dumps(values).replace("{outside}", str(outside))))
    with pytest.raises(KSLotteryError, match="would open or import what it names"):
        load_model(str(adapter))


def test_an_adapter_outside_is_not_handed_on(adapter, tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))
    for check in (handover.check_adapter, handover.check_model):
        for place in (adapter, tmp_path / "nothing"):
            with pytest.raises(AccessError):
                check(place)
