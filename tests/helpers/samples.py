"""Small valid files of every format that the program opens: what the tests of bad input spoil, as bytes by name."""

from __future__ import annotations

import base64
import io
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

NAME = "model.embed_tokens.weight"
ROWS = np.random.default_rng(0).standard_normal((12, 32)).astype(np.float32)
PIECES = ["<unk>", "<s>", "</s>", "Ġthe", "Ċ", "a", "b", "c", "d", "e", "f", "g"]
#: A source: its files by their path in its folder. What is opened is the folder, or the only file.
Files = dict[str, bytes]


def safetensors(tensors: dict[str, Any] | None = None) -> bytes:
    """A safetensors file with one embedding of 12 x 32 in float32, or with these NumPy arrays."""
    from safetensors.numpy import save

    return save(tensors if tensors is not None else {NAME: ROWS})


def packed(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header: JSON values, or its bytes; ``length`` is what it claims to be long."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: Any = (2, 2), dtype: Any = "F32", offsets: Any = (0, 16)) -> dict[str, Any]:
    """What a safetensors header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def torch_file(value: Any = None, **options: Any) -> bytes:
    """What ``torch.save`` makes of a state dict."""
    import torch

    made = io.BytesIO()
    torch.save({NAME: torch.from_numpy(ROWS)} if value is None else value, made, **options)
    return made.getvalue()


def gguf(kind: str = "F32", tokens: list[str] = PIECES) -> bytes:
    """A GGUF file with the embedding stored as ``kind`` and the vocabulary in its metadata."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        writer = GGUFWriter(path, "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        writer.add_token_types([3 if t.startswith("<") else 1 for t in tokens])
        quantization = GGMLQuantizationType[kind]
        raw = ROWS if kind == "F32" else quants.quantize(ROWS, quantization)
        writer.add_tensor("token_embd.weight", raw, raw_dtype=None if kind == "F32" else quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def tokenizer() -> bytes:
    """A tokenizer.json, as far as this program reads it."""
    added = [{"id": i, "content": PIECES[i], "special": True} for i in range(3)]
    vocab = {p: i for i, p in enumerate(PIECES)}
    return json.dumps({"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": vocab}}).encode()


def sentencepiece() -> bytes:
    """A SentencePiece model with these pieces."""
    made = b""
    for i, piece in enumerate(PIECES):
        text = piece.encode()
        inner = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", -i) + (b"\x18\x03" if i < 3 else b"")
        made += b"\x0a" + bytes([len(inner)]) + inner
    return made


def index(weight_map: Any) -> bytes:
    """A shard index."""
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()


def adapter(tensors: dict[str, Any], base: str, **settings: Any) -> Files:
    """A peft adapter's folder; names of tensors are given without what peft puts before them."""
    long = {f"base_model.model.model.embed_tokens.{name}": array for name, array in tensors.items()}
    about = {"base_model_name_or_path": base, "peft_type": "TRAINABLE_TOKENS", **settings}
    return {"adapter_config.json": json.dumps(about).encode(), "adapter_model.safetensors": safetensors(long)}


def ticket(base: str) -> Files:
    """A ticket of two rows as ``Ticket.save`` writes it."""
    about = {
        "token_ids": [3, 5], "tokens": ["␣the", "a"], "statistic": [0.5, 0.4], "pvalue": [0.001, 0.01], "rule": "alpha",
        "alpha": 0.05, "base": base, "signature": "base:x", "about": {},
    }  # fmt: skip
    made = adapter({"trainable_tokens_delta": ROWS[:2] + 1}, base, token_indices=[3, 5])
    return {**made, "ticket.json": json.dumps(about).encode()}


def folder(**more: bytes) -> Files:
    """A transformers folder: weights, config and tokenizer; more files, or other ones, by name (``__`` is a dot)."""
    config = json.dumps({"model_type": "llama", "vocab_size": 12, "tie_word_embeddings": True}).encode()
    made = {"model.safetensors": safetensors(), "config.json": config, "tokenizer.json": tokenizer()}
    return {**made, **{name.replace("__", "."): data for name, data in more.items()}}


def corpus(lines: int = 60) -> list[tuple[str, str]]:
    """Sentence pairs, enough for a split."""
    return [(f"The word number {n} is here", f"Le mot numéro {n} est ici") for n in range(lines)]


def original() -> Files:
    """Meta's two parts of a model by columns, with a vocabulary of tiktoken's."""
    import torch

    rows = torch.from_numpy(ROWS)
    parts = [{"tok_embeddings.weight": half.clone(), "norm.weight": rows[0].clone()} for half in rows.chunk(2, 1)]
    ranks = b"".join(base64.b64encode(piece.encode()) + b" %d\n" % i for i, piece in enumerate(PIECES))
    made = {f"consolidated.0{n}.pth": torch_file(part) for n, part in enumerate(parts)}
    return {**made, "params.json": b'{"dim": 32, "vocab_size": -1}', "tokenizer.model": ranks}


def scaled() -> dict[str, Any]:
    """The embedding as bitsandbytes has it in 8 bits: whole numbers, and the largest value of each row."""
    largest = np.abs(ROWS).max(1)
    return {NAME: np.rint(ROWS / largest[:, None] * 127).astype(np.int8), NAME.replace("weight", "SCB"): largest}


def tekken() -> bytes:
    """A vocabulary of Mistral's with these pieces, the first three of them special."""
    vocab = [
        {"rank": i, "token_bytes": base64.b64encode(p.encode()).decode(), "token_str": p}
        for i, p in enumerate(PIECES[3:])
    ]
    special = [{"rank": i, "token_str": p, "is_control": True} for i, p in enumerate(PIECES[:3])]
    settings = {"default_vocab_size": 12, "default_num_special_tokens": 3}
    return json.dumps({"config": settings, "vocab": vocab, "special_tokens": special}).encode()


def every_source(base: str) -> dict[str, Files]:
    """A source of every kind that can be opened; adapters lie on the checkpoint ``base``."""
    import torch

    halves = {"one.safetensors": safetensors(), "two.safetensors": safetensors({"lm_head.weight": ROWS})}
    low = {"lora_embedding_A": ROWS[:2, :12].copy(), "lora_embedding_B": ROWS.T[:, :2].copy()}
    bf16 = torch.from_numpy(ROWS).bfloat16()
    return {
        "safetensors": {"m.safetensors": safetensors()},
        "folder": folder(),
        "shards": {
            **halves, "vocab.txt": "\n".join(PIECES).encode(),
            "model.safetensors.index.json": index({NAME: "one.safetensors", "lm_head.weight": "two.safetensors"}),
        },
        "torch": {"m.bin": torch_file()},
        "torch folder": {
            "pytorch_model.bin": torch_file({"state_dict": {NAME: bf16, "x": bf16[0]}}),
            "tokenizer.model": sentencepiece(), "added_tokens.json": b'{"<pad>": 12}',
        },
        "old torch": {"m.pt": torch_file(_use_new_zipfile_serialization=False)},
        "gguf": {"m.gguf": gguf()},
        "quantized gguf": {"m.gguf": gguf("Q8_0"), "vocab.json": json.dumps({p: i for i, p in enumerate(PIECES)}).encode()},
        "original": original(),
        "scaled": {"model.safetensors": safetensors(scaled()), "tekken.json": tekken()},
        "ticket": ticket(base),
        "lora": adapter(low, base, peft_type="LORA", r=2, lora_alpha=4),
        "saved module": adapter({"weight": ROWS}, base, peft_type="LORA"),
    }  # fmt: skip


def write(place: Path, files: Files) -> Path:
    """Put the files of a source into a folder, and say what is to be opened."""
    place.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
    return place / next(iter(files)) if len(files) == 1 else place
