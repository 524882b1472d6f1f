"""Whole models as libraries save them, in one file or several, and one level off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from helpers.ways.table import LIBRARIES, NAME, PARTS, Write, rows, save_tensors, save_torch, state_of, way


@way(LIBRARIES, "`save_pretrained`", "transformers")
def saved(place: Path, model: Any) -> Path:
    model.save_pretrained(place)
    return place


@way(LIBRARIES, "`save_pretrained` in several shards", "transformers")
def sharded(place: Path, model: Any) -> Path:
    model.save_pretrained(place, max_shard_size="5KB")
    assert len(list(place.glob("*.safetensors"))) > 1
    return place


@way(LIBRARIES, "`config.json` or the index named in place of their folder", "transformers")
def by_its_settings(place: Path, model: Any) -> Path:
    return saved(place, model) / "config.json"


@way(LIBRARIES, "`pytorch_model.bin`", "torch, as transformers 4 did")
def old_saved(place: Path, model: Any) -> Path:
    return save_torch(state_of(model), place / "pytorch_model.bin").parent


@way(LIBRARIES, "`Accelerator.save_model`", "accelerate")
def accelerated(place: Path, model: Any) -> Path:
    from accelerate import Accelerator

    Accelerator(cpu=True).save_model(model, str(place))
    return place


@way(LIBRARIES, "`safetensors.torch.save_model`, which stores a tied matrix as `lm_head.weight` alone", "safetensors")
def tied_once(place: Path, model: Any) -> Path:
    from safetensors.torch import save_model

    place.mkdir(parents=True, exist_ok=True)
    save_model(model, str(place / "model.safetensors"))
    assert NAME not in names_in(place / "model.safetensors")
    return place


def names_in(path: Path) -> list[str]:
    """The names of the tensors that a safetensors file holds, as the library says them."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return list(file.keys())


@way(LIBRARIES, "`lm_head.weight` alone, with `tie_word_embeddings` in `config.json`", "torch")
def tied_by_word(place: Path, model: Any) -> Path:
    state = state_of(model)
    del state[NAME]
    model.config.save_pretrained(place)
    return save_torch(state, place / "pytorch_model.bin").parent


@way(LIBRARIES, "`lm_head.weight` alone, and nothing says that it is tied", "torch", refused="tie_word_embeddings")
def head_alone(place: Path, model: Any) -> Path:
    state = state_of(model)
    del state[NAME]
    return save_torch(state, place / "m.bin")


@way(LIBRARIES, "one file of weights in a folder, under any name", "safetensors")
def odd_name(place: Path, model: Any) -> Path:
    save_torch({"step": 3}, place / "optimizer.pt")
    return save_tensors(place / "gptq_model-4bit-128g.safetensors", {NAME: model.state_dict()[NAME]}).parent


@way(
    LIBRARIES,
    "several files of weights without an index",
    "safetensors",
    refused="name the file that is meant, such as .*a.safetensors",
)
def odd_names(place: Path, model: Any) -> Path:
    for name in "ab":
        save_tensors(place / f"{name}.safetensors", {NAME: model.state_dict()[NAME]})
    return place


@way(LIBRARIES, "GGUF", "gguf")
def gguf(place: Path, model: Any) -> Path:
    return _gguf(place, model)[0]


@way(PARTS, "GGUF in parts: any of them", "gguf")
def gguf_parts(place: Path, model: Any) -> Path:
    parts = _gguf(place, model, split_max_tensors=1)
    assert len(parts) == 3
    return parts[1]


@way(PARTS, "GGUF in parts: their folder", "gguf")
def gguf_folder(place: Path, model: Any) -> Path:
    return _gguf(place, model, split_max_tensors=1)[0].parent


@way(PARTS, "GGUF of which a part is missing", "gguf", refused=r"there is no m-00003-of-00003\.gguf")
def gguf_part_missing(place: Path, model: Any) -> Path:
    parts = _gguf(place, model, split_max_tensors=1)
    parts[2].unlink()
    return parts[0]


def _gguf(place: Path, model: Any, **options: Any) -> list[Path]:
    from gguf import GGUFWriter

    place.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(place / "m.gguf", "llama", **options)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"w{i}" for i in range(64)])
    for name in ("output_norm.weight", "token_embd.weight", "output.weight"):
        writer.add_tensor(name, rows(model) if name != "output_norm.weight" else np.ones(16, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(place.glob("*.gguf"))


def _inside(*names: str) -> Write:
    def write(place: Path, model: Any) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(place.joinpath(*names))
        return place / names[0] if names[0].startswith("models--") else place

    return write


way(PARTS, "a training's folder with one `checkpoint-500` in it", "transformers")(_inside("checkpoint-500"))
way(PARTS, "the hub's cache of a model (`models--org--name`)", "transformers, with the cache's names")(
    _inside("models--org--name", "snapshots", "0123abcd")
)
way(PARTS, "sentence-transformers (`0_Transformer`)", "transformers, with its names")(_inside("0_Transformer"))


@way(
    PARTS,
    "a training's folder with several",
    "transformers",
    refused="Expected one: name the folder that is meant, such as .*checkpoint-900",
)
def checkpoints(place: Path, model: Any) -> Path:
    for step in (500, 900):
        model.save_pretrained(place / f"checkpoint-{step}")
    return place


@way(PARTS, "a folder inside of a model's", "transformers", refused="The folder above it holds one: give ")
def one_too_deep(place: Path, model: Any) -> Path:
    model.save_pretrained(place)
    (place / "runs").mkdir()
    return place / "runs"
