"""Checkpoints that cannot be used, a line each: its name, its files, and words of the message that a person gets.

Each is opened as the tuned side of a pair whose base is sound. ``BASE`` stands for the path of that base in the
files of an adapter. Where a folder alone cannot say it (a link, a pipe), a function makes it and returns its path.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers.samples import (
    NAME,
    ROWS,
    Files,
    adapter,
    entry,
    folder,
    gguf,
    index,
    packed,
    safetensors,
    ticket,
    torch_file,
    write,
)

BASE = "@base@"
Maker = Callable[[Path], Path]


def _single(data: bytes, name: str = "m.safetensors") -> Files:
    return {name: data}


def _spoilt(row: int, value: float) -> bytes:
    rows = ROWS.copy()
    rows[row, 1] = value
    return safetensors({NAME: rows})


def _word(value: str, kind: str = "vocab") -> Files:
    """A tokenizer.json whose model has this text at ``kind``."""
    return folder(tokenizer__json=f'{{"model": {{"type": "BPE", "{kind}": {value}}}}}'.encode())


def _index(text: bytes) -> Files:
    """A folder with this index of shards (and another file: a single one would be opened by itself)."""
    return {"model.safetensors.index.json": text, "README.md": b""}


def _pointing(target: str) -> Files:
    return _index(index({NAME: target}))


def _adapted(tensors: dict[str, np.ndarray], **settings: object) -> Files:
    return adapter(tensors, BASE, **settings)


def _own_base(place: Path) -> Path:
    """An adapter whose base is itself."""
    return write(place, adapter({"trainable_tokens_delta": ROWS[:1, :8].copy()}, str(place), token_indices=[3]))


def _linked(name: str) -> Maker:
    """A folder whose file of this name is a link to a sound one beside the folder."""

    def make(place: Path) -> Path:
        files = folder()
        outside = write(place.parent / "elsewhere", {name: files.pop(name)})
        write(place, files)
        (place / name).symlink_to(outside)
        return place

    return make


def _loop(place: Path) -> Path:
    write(place, folder())
    (place / "model.safetensors").unlink()
    (place / "model.safetensors").symlink_to(place / "model.safetensors")
    return place


def _pipe(place: Path) -> Path:
    os.mkfifo(place / "m.safetensors")
    return place / "m.safetensors"


def _gguf_count(at: int, count: int) -> bytes:
    """A GGUF file with one count of its header replaced: 8 is the tensors', 16 that of the metadata."""
    data = bytearray(gguf())
    data[at : at + 8] = struct.pack("<Q", count)
    return bytes(data)


def _gguf_type(code: int) -> bytes:
    data = bytearray(gguf())
    at = data.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    data[at : at + 4] = struct.pack("<I", code)
    return bytes(data)


def _zip_of(names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return made.getvalue()


class Caller:
    """What unpickles as a call of a function: the way in which a file brings code along."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def _twice() -> bytes:
    return packed(b'{"%s": %s, "%s": %s}' % (NAME.encode(), json.dumps(entry()).encode(), NAME.encode(), json.dumps(entry()).encode()), bytes(16))  # fmt: skip


DELTA = {"trainable_tokens_delta": ROWS[:2]}
NARROW = {"trainable_tokens_delta": ROWS[:2, :8].copy()}
LOW = {"lora_embedding_A": ROWS[:2, :12].copy(), "lora_embedding_B": ROWS.T[:, :2].copy()}
DEEP = b"[" * 100_000 + b"]" * 100_000

#: Name -> files or how to make them, and words of the message.
CHECKPOINTS: dict[str, tuple[Files | Maker, str]] = {
    # The source itself.
    "not there": (lambda place: place / "missing", "does not exist"),
    "an empty folder": (lambda place: place, "holds no checkpoint"),
    "a folder of other things": ({"notes.txt": b"hello", "x.csv": b"1,2"}, "holds no checkpoint"),
    "another ending": (_single(b"PK", "m.zip"), "Expected .safetensors"),
    "no ending": (_single(b"abc", "weights"), "Expected .safetensors"),
    "a pipe": (_pipe, "neither a file nor a folder"),
    "a link out of the folder": (_linked("model.safetensors"), "leads out of its folder"),
    "a link in a circle": (_loop, "link to nothing, or to itself"),
    # safetensors
    "zero bytes": (_single(b""), "empty (0 bytes)"),
    "four bytes": (_single(b"\x08\0\0\0"), "safetensors"),
    "a header longer than the file": (_single(packed({NAME: entry()}, bytes(16), length=1 << 40)), "header"),
    "a header of no JSON": (_single(packed(b"{not json}")), "header"),
    "a header nested deeply": (_single(packed(DEEP)), "header"),
    "a header that is a list": (_single(packed([1, 2])), "header"),
    "a header that is no text": (_single(packed(b"\xff\xfe\xfd\xfc")), "header"),
    "a tensor's name twice": (_single(_twice()), "twice"),
    "data that ends early": (_single(safetensors()[:-100]), "cut short"),
    "data past the end": (_single(packed({NAME: entry(offsets=(0, 1 << 50))}, bytes(16))), "cut short"),
    "a start after the end": (_single(packed({NAME: entry(offsets=(16, 0))}, bytes(16))), "cannot be"),
    "a shape that is negative": (_single(packed({NAME: entry(shape=(-2, -2))}, bytes(16))), "cannot be"),
    "a shape larger than its data": (_single(packed({NAME: entry(shape=(1 << 40, 4))}, bytes(16))), "cannot be"),
    "a shape of text": (_single(packed({NAME: entry(shape=["2", "2"])}, bytes(16))), "cannot be"),
    "whole numbers": (_single(packed({NAME: entry(dtype="I32")}, bytes(16))), "I32"),
    "an unknown dtype": (_single(packed({NAME: entry(dtype="F99")}, bytes(16))), "F99"),
    "a vector": (_single(packed({NAME: entry(shape=(4,))}, bytes(16))), "two dimensions"),
    "no rows": (_single(safetensors({NAME: np.zeros((0, 8), np.float32)})), "0 x 8"),
    "no embedding": (_single(safetensors({"lm_head.weight": ROWS})), "no input embedding"),
    "two embeddings": (_single(safetensors({"a.wte.weight": ROWS, "b.wte.weight": ROWS})), "wte.weight"),
    "another width": (_single(safetensors({NAME: ROWS[:, :16].copy()})), "32"),
    "a row with NaN": (_single(_spoilt(3, np.nan)), "Row 3"),
    "a row with infinity": (_single(_spoilt(5, np.inf)), "Row 5"),
    # Shards
    "an index out of the folder": (_pointing("../one.safetensors"), "outside its folder"),
    "an index to an absolute path": (_pointing("/etc/passwd"), "outside its folder"),
    "an index to no file": (_pointing("one.safetensors"), "one.safetensors"),
    "an index of numbers": (_index(index({NAME: 7})), "index"),
    "an index of no JSON": (_index(b"{"), "cannot be read as JSON"),
    "an index nested deeply": (_index(DEEP), "cannot be read as JSON"),
    "an index that is a list": (_index(b"[1]"), "index"),
    "a shard that lacks the tensor": ({**_pointing("one.safetensors"), "one.safetensors": safetensors({"x": ROWS})}, "lacks"),
    # PyTorch
    "a pickle that calls": (_single(torch_file({NAME: Caller(os.getcwd)}), "m.bin"), "could run code"),
    "a bare pickle": (_single(pickle.dumps({NAME: Caller(os.getcwd)}), "m.bin"), "could run code"),
    "a zip of no checkpoint": (_single(_zip_of({"readme.txt": b"hello"}), "m.bin"), "PyTorch"),
    "a zip bomb": (_single(_zip_of({"archive/data.pkl": bytes(1_000_000)}, zipfile.ZIP_DEFLATED), "m.bin"), "torch does not write"),
    "half a PyTorch file": (_single(torch_file()[:900], "m.pt"), "cut short"),
    "a PyTorch list": (_single(torch_file([1, 2]), "m.pth"), "no table"),
    # GGUF
    "no GGUF": (_single(b"GGUX" + bytes(40), "m.gguf"), "GGUF"),
    "half a GGUF": (_single(gguf()[:200], "m.gguf"), "GGUF"),
    "a GGUF of a later version": (_single(gguf()[:4] + struct.pack("<I", 99) + gguf()[8:], "m.gguf"), "version"),
    "a GGUF with 2**60 tensors": (_single(_gguf_count(8, 1 << 60), "m.gguf"), "GGUF"),
    "a GGUF with 2**60 settings": (_single(_gguf_count(16, 1 << 60), "m.gguf"), "GGUF"),
    "a GGUF of an unknown type": (_single(_gguf_type(999), "m.gguf"), "999"),
    # Adapters and tickets
    "ids out of range": (_adapted(DELTA, token_indices=[3, 500]), "500"),
    "ids that are negative": (_adapted(DELTA, token_indices=[-1, 3]), "-1"),
    "ids of text": (_adapted(DELTA, token_indices=["a", "b"]), "token_indices"),
    "more ids than rows": (_adapted(DELTA, token_indices=[1, 2, 3]), "rows"),
    "an id twice": (_adapted(DELTA, token_indices=[3, 3]), "each id may occur once"),
    "rows of another width": (_adapted({"trainable_tokens_delta": ROWS[:2, :8].copy()}, token_indices=[1, 2]), "8"),
    "a LoRA of another shape": (_adapted({**LOW, "lora_embedding_A": ROWS[:2, :7].copy()}, peft_type="LORA", r=2, lora_alpha=4), "7 x 32"),
    "a LoRA without half": (_adapted({"lora_embedding_A": LOW["lora_embedding_A"]}, peft_type="LORA", r=2, lora_alpha=4), "lora_embedding_B"),
    "an adapter of another kind": (_adapted({"x": ROWS}, peft_type="PREFIX_TUNING"), "changes no weight"),
    "an adapter without its weights": ({"adapter_config.json": adapter({}, BASE)["adapter_config.json"], "README.md": b""}, "adapter_model.safetensors"),
    "an adapter on nothing, of another width": (adapter(NARROW, "/no/such/base", token_indices=[1, 2]), "does not fit"),
    "an adapter on itself, of another width": (_own_base, "does not fit"),
    "an adapter's settings of no JSON": ({**_adapted(DELTA), "adapter_config.json": b"{"}, "cannot be read as JSON"),
    "an adapter's rows with NaN": (_adapted({"trainable_tokens_delta": ROWS[:2] * np.nan}, token_indices=[3, 5]), "Row 3"),
    "a ticket with ids out of range": ({**ticket(BASE), **_adapted(DELTA, token_indices=[3, 99])}, "99"),
    # Tokenizers and config
    "a tokenizer of half a JSON": (folder(tokenizer__json=b'{"model": {"vocab": {"a": "'), "tokenizer.json"),
    "a tokenizer nested deeply": (folder(tokenizer__json=DEEP), "tokenizer.json"),
    "a tokenizer that is a list": (folder(tokenizer__json=b"[]"), "tokenizer.json"),
    "a vocabulary of text": (_word('"abc"'), "tokenizer.json"),
    "an id of 2**70": (_word(json.dumps({"a": 2**70})), "tokenizer.json"),
    "an id below zero": (_word(json.dumps({"a": -5})), "tokenizer.json"),
    "a SentencePiece file cut off": ({"model.safetensors": safetensors(), "tokenizer.model": b"\x0a\xff\xff\xff\x7f"}, "tokenizer.model"),
}  # fmt: skip

PAIRS = "\n".join(f"The word number {n} is here\tLe mot numéro {n} est ici" for n in range(60)).encode()

#: Parallel text: name -> the corpus as it is named (``@`` is its folder), its files, words of the message.
TEXTS: dict[str, tuple[str, Files, str]] = {
    "text that is not there": ("file:@/no.tsv", {}, "no.tsv"),
    "text of another ending": ("file:@/a.csv", {"a.csv": PAIRS}, "Expected .tsv"),
    "text of no bytes": ("file:@/a.tsv", {"a.tsv": b""}, "0 pairs"),
    "text of one column": ("file:@/a.tsv", {"a.tsv": b"one two three\n"}, "line 1: one column"),
    "text in Latin-1": ("file:@/a.tsv", {"a.tsv": "café au lait\tcoffee".encode("latin-1")}, "UTF-8"),
    "text of one pair": ("file:@/a.tsv", {"a.tsv": b"one two three\tun deux trois\n"}, "bring more text"),
    "text of noise": ("file:@/a.tsv", {"a.tsv": bytes(range(256)) * 20}, "UTF-8"),
    "lines of no JSON": ("file:@/a.jsonl", {"a.jsonl": b"{nope}\n"}, "line 1 is not JSON"),
    "lines nested deeply": ("file:@/a.jsonl", {"a.jsonl": DEEP}, "line 1 is not JSON"),
    "lines that are lists": ("file:@/a.jsonl", {"a.jsonl": b"[1, 2]\n"}, "is not an object"),
    "lines of other fields": ("file:@/a.jsonl", {"a.jsonl": b'{"en": "a", "fr": "b"}\n'}, "no text in field 'source'"),
    "fields that are numbers": ("file:@/a.jsonl", {"a.jsonl": b'{"source": 1, "target": 2}\n'}, "no text in field"),
    "a folder that is no Flores": ("flores:@#eng,cat", {"x": b""}, "no file for eng"),
    "Flores of one language": ("flores:@#eng", {"eng.dev": b"a b c"}, "two languages"),
    "Flores of other lengths": ("flores:@#eng,cat", {"eng.dev": b"a b c\nd e f\n", "cat.dev": b"a b c\n"}, "Both must have"),
}  # fmt: skip

#: Settings of the command line: name -> arguments (``BASE`` and ``TUNED`` are sound), words of the message.
SETTINGS: dict[str, tuple[list[str], str]] = {
    "alpha of 2": (["scan", "BASE", "TUNED", "--alpha", "2"], "above 0 and below 1"),
    "alpha that is no number": (["scan", "BASE", "TUNED", "--alpha", "nan"], "above 0 and below 1"),
    "a device of another name": (["scan", "BASE", "TUNED", "--device", "abacus"], "abacus"),
    "a device that is not here": (["scan", "BASE", "TUNED", "--device", "cuda:99"], "cuda"),
    "a table of another format": (["scan", "BASE", "TUNED", "--output", "t.xlsx"], ".csv"),
    "a table in no folder": (["scan", "BASE", "TUNED", "--output", "/no/such/folder/t.csv"], "/no/such/folder"),
    "no source": (["scan", "", "TUNED"], "No checkpoint is named"),
    "a source of a zero byte": (["scan", "a\0b", "TUNED"], "does not exist"),
    "a rule of another name": (["ticket", "BASE", "TUNED", "new", "--rule", "luck"], "luck"),
    "a ticket of no rows": (["ticket", "BASE", "TUNED", "new", "--rule", "count", "--k", "0"], "k is 0"),
    "a ticket into a full folder": (["ticket", "BASE", "TUNED", "BASE"], "not an empty folder"),
    "an order of another name": (["rules", "BASE", "TUNED", "--rules", "d,luck"], "luck"),
    "a size that is no number": (["rules", "BASE", "TUNED", "--sizes", "1,many"], "many"),
    "a size of nothing": (["rules", "BASE", "TUNED", "--sizes", "0"], "A size is 0"),
    "a share of more than all": (["rules", "BASE", "TUNED", "--smallest", "1.5"], "share is 1.5"),
    "the same training twice": (["rules", "BASE", "TUNED", "TUNED"], "named twice"),
    "a rule to train that is none": (["rules", "BASE", "TUNED", "--train", "luck"], "luck"),
    "a margin of nothing": (["rules", "BASE", "TUNED", "--margin", "0"], "margin is 0"),
    "a ledger of several processes": (["rules", "BASE", "TUNED", "--processes", "2"], "kept by one process"),
    "noise that never forgets": (["rules", "BASE", "TUNED", "--persistence", "1"], "persistence is 1"),
    "a smallest ticket that is not looked for": (["rules", "BASE", "TUNED", "--ticket", "new"], "Add --smallest"),
    "an answer in another format": (["rules", "BASE", "TUNED", "--output", "answer.xlsx"], ".json, .csv, .md"),
    "an arm of another name": (["tune", "BASE", "--arms", "magic"], "magic"),
    "an arm of wild numbers": (["tune", "BASE", "TUNED", "--arms", "partial:steps=-5"], "steps is -5"),
    "an arm of endless digits": (["tune", "BASE", "TUNED", "--arms", "partial:steps=" + "9" * 5000], "steps"),
    "a learning rate of infinity": (["tune", "BASE", "TUNED", "--arms", "partial:learning_rate=inf"], "learning rate is inf"),
    "a prompt without its sentence": (["tune", "BASE", "TUNED", "--prompt", "hello"], "{source}"),
    "a prompt that reaches inside": (["tune", "BASE", "TUNED", "--prompt", "{source.__class__}"], "{source}"),
    "a run that is not there": (["tune", "--resume", "../../etc"], "no job"),
    "a corpus of another kind": (["evaluate", "BASE", "--corpus", "gopher:x"], "names no corpus"),
    "a pack that is not installed": (["evaluate", "BASE", "--corpus", "pack:xx-XX"], "not installed"),
    "a budget of another name": (["audit", "BASE", "TUNED", "--budget", "endless"], "endless"),
    "more processes than pairs": (["tune", "BASE", "TUNED", "--processes", "99", "--arms", "partial"], "steps of 8 pairs"),
    "no process at all": (["evaluate", "BASE", "--processes", "-1"], "Expected at least 1"),
    "a model sharded over one process": (["tune", "BASE", "TUNED", "--sharded"], "at least 2 processes"),
    "a precision of another name": (["audit", "BASE", "TUNED", "--precision", "int3"], "no precision"),
    "layers in no process": (["scan", "BASE", "TUNED", "--layers", "--processes", "0"], "number of processes is 0"),
    "a job that is not there": (["jobs", "--cancel", "../../etc"], "no job"),
    "a requeue of what is not there": (["jobs", "--requeue", "x"], "no job"),
    "a demo of another name": (["demo", "build", "en-xx"], "en-xx"),
    "a study that lacks its pair": (["prepare", "name"], "base"),
    "a cache of another kind": (["cache", "--clear", "everything"], "everything"),
}  # fmt: skip
