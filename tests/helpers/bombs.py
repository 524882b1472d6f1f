"""Files that are small, or within the bounds on sizes, and would take a machine's memory or time: a line each.

Each is made in a folder of its own, by a function that gives what is to be opened; and a word of what a person is told. Files
of holes (``truncate``) take no room on the disk.
"""

import io
import json
import pickle
import struct
import zipfile

from helpers.samples import NAME, folder, index, safetensors, write

MB = 1 << 20


def with_file(place, name, *parts):
    """A sound folder with one other file in it: pieces of text, each as often as is said."""
    write(place, folder())
    return fill(place / name, *parts).parent


def fill(path, *parts):
    with path.open("wb") as file:
        for piece, count in parts:
            block = piece * max(1, min(count, MB // max(1, len(piece))))
            for _ in range(count // (len(block) // len(piece))):
                file.write(block)
            file.write(piece * (count % (len(block) // len(piece))))
    return path


def holes(path, size, start=b""):
    """A file of zeros, behind a beginning."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def pickled(value: bytes) -> bytes:
    """A pickle of a state dict whose embedding is what these instructions make."""
    return b"\x80\x02}X" + struct.pack("<I", len(NAME)) + NAME.encode() + value + b"s."


def calls(module: str, name: str, argument: bytes) -> bytes:
    """Instructions that call a function with one argument."""
    return f"c{module}\n{name}\n".encode() + argument + b"\x85R"


def number(value: int) -> bytes:
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little")


ROOM = calls("__builtin__", "bytearray", calls("__builtin__", "bytearray", number(8 << 30)))
#: Ten megabytes of text, put aside once and copied a hundred times.
COPIES = (
    b"]X"
    + struct.pack("<I", 10 * MB)
    + b"a" * (10 * MB)
    + b"q\x01a"
    + 100 * (calls("_codecs", "encode", b"h\x01") + b"a")
)
#: Forty tuples, each twice the one before: to find its place in a table all of them are walked through, 2**40 steps.
DOUBLED = b")" + b"".join(b"q\x01h\x01\x86" for _ in range(40))


def zipped(data: bytes, members: int = 0) -> bytes:
    """A file as torch writes it, around any pickle; with so many members more."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for number in range(members):
            archive.writestr(f"{number}", b"")
    return made.getvalue()


def many_members(path, count):
    """An archive with a table of contents of so many members, which all are the first one."""
    made = zipped(pickled(b"N"))
    at = made.index(b"PK\1\2")
    end = made.index(b"PK\5\6")
    entry = made[at:end]
    size = len(entry) * count
    told = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
    told += struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1) + struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 0xFFFFFFFF, 0xFFFFFFFF, 0
    )
    return fill(path, (made[:at], 1), (entry, count), (told, 1))


def old(data: bytes) -> bytes:
    """A file of PyTorch's old format around any pickle."""
    before, after = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}), []
    return b"".join(pickle.dumps(part, 2) for part in before) + data + pickle.dumps(after, 2)


def header(path, text: bytes, count: int, more: int = 0):
    """A safetensors file with a header of so many pieces between braces."""
    size = len(text) * count + 2
    fill(path, (struct.pack("<Q", size) + b"{", 1), (text, count), (b" ", 1))
    with path.open("r+b") as file:
        file.seek(8 + size - 1)
        file.write(b"}")
        file.truncate(8 + size + more)
    return path


def wide(path, rows, width):
    """A safetensors file of holes with an embedding of any size."""
    told = {NAME: {"dtype": "F32", "shape": [rows, width], "data_offsets": [0, rows * width * 4]}}
    text = json.dumps(told).encode()
    return holes(path, 8 + len(text) + rows * width * 4, struct.pack("<Q", len(text)) + text)


def metadata(path, strings):
    """A GGUF file whose first setting is an array of empty strings."""
    key = b"a.b"
    start = (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 8, strings)
    )
    return holes(path, len(start) + 8 * strings, start)


def adapted(place, rows):
    """An adapter with so many rows of holes."""
    write(place, {"model.safetensors": safetensors()})
    name = "base_model.model.model.embed_tokens.trainable_tokens_delta"
    text = json.dumps({name: {"dtype": "F32", "shape": [rows, 32], "data_offsets": [0, rows * 128]}}).encode()
    made = write(place / "adapter", {
        "adapter_config.json": json.dumps({
            "base_model_name_or_path": str(place / "model.safetensors"), "peft_type": "TRAINABLE_TOKENS", "token_indices": [1],
        }).encode(), "x": b"",
    })  # fmt: skip
    holes(made / "adapter_model.safetensors", 8 + len(text) + rows * 128, struct.pack("<Q", len(text)) + text)
    return made


def single(place, name, data):
    place.mkdir()
    (place / name).write_bytes(data)
    return place / name


def named(place, name, make, *arguments):
    place.mkdir()
    return make(place / name, *arguments)


#: Checkpoints: name -> how it is made in a folder that is not there yet, and a word of what is said of it.
CHECKPOINTS = {
    "room for 8 GB, in 500 bytes": (lambda place: single(place, "m.bin", zipped(pickled(ROOM))), "more than weights"),
    "the same in the old format": (lambda place: single(place, "m.pt", old(pickled(ROOM))), "more than weights"),
    "a hundred copies of 10 MB": (lambda place: single(place, "m.bin", zipped(pickled(COPIES))), "more than weights"),
    "a key of 2**40 steps": (lambda place: single(place, "m.bin", zipped(b"\x80\x02}" + DOUBLED + b"Ns.")), "as a key"),
    "a pickle of 4 million instructions": (lambda place: single(place, "m.bin", zipped(pickled(b"](" + b"N" * 4_000_000 + b"e"))), "instructions"),
    "a pickle of 33 MB": (lambda place: single(place, "m.bin", zipped(b"\x80\x02" + bytes(33 * MB))), "more than weights"),
    "an archive of a million members": (lambda place: named(place, "m.bin", many_members, 1_000_000), "table of contents"),
    "a tokenizer of 99 MB of tables": (lambda place: with_file(place, "tokenizer.json", (b"[{}", 1), (b",{}", 33 * MB), (b"]", 1)), "values"),
    "a tokenizer of tables within the bound": (
        lambda place: with_file(place, "tokenizer.json", (b"[{}", 1), (b",{}", 3_900_000), (b"]", 1)), "no vocabulary"),
    "a token of 50 MB": (lambda place: with_file(place, "tokenizer.json", (b'{"model":{"vocab":{"', 1), (b"a", 50 * MB), (b'":0}}}', 1)), "characters"),
    "a vocabulary of 90 million lines": (
        lambda place: (with_file(place, "vocab.txt", (b"\n", 90 * MB)) / "tokenizer.json").unlink() or place, "lines"),
    "a SentencePiece model of empty fields": (
        lambda place: (with_file(place, "tokenizer.model", (b"\x10\x00", 2 * MB)) / "tokenizer.json").unlink() or place, "tokenizer.model"),
    "a header of 4.5 million keys": (lambda place: named(place, "m.safetensors", header, b'"%07d":0,', 4_500_000), "header"),
    "a header of a million tables": (lambda place: named(place, "m.safetensors", header, b'"a":{},', 1_000_000), "m.safetensors"),
    "an index of 30 MB of tables": (lambda place: with_index(place, (b"[{}", 1), (b",{}", 10 * MB), (b"]", 1)), "values"),
    "an index of 20,000 files": (lambda place: write(place, {
        "model.safetensors.index.json": index({f"t{n}": f"{n}.safetensors" for n in range(20_000)}), "x": b"",
    }), "files"),
    "settings of 16 million strings": (lambda place: named(place, "m.gguf", metadata, 16_000_000), "strings"),
    "settings of 1.9 million strings": (lambda place: named(place, "m.gguf", metadata, 1_900_000), "no tensor"),
    "an embedding of 40 billion rows": (lambda place: named(place, "m.safetensors", wide, 40_000_000_000, 1), "rows"),
    "a row of 40 billion values": (lambda place: named(place, "m.safetensors", wide, 1, 40_000_000_000), "values"),
    "an adapter of 20 GB": (lambda place: adapted(place, 160_000_000), "merge"),
}  # fmt: skip


def with_index(place, *parts):
    place.mkdir()
    return fill(place / "model.safetensors.index.json", *parts).parent


#: Parallel text: the same, and what is given is a corpus's name.
TEXTS = {
    "a line of 1 GB of holes": (lambda place: f"file:{named(place, 'a.tsv', holes, 1 << 30)}", "line 1"),
    "a nested line of 300 MB": (lambda place: f"file:{named(place, 'a.jsonl', fill, (b'[[],', 75 * MB))}", "line 1"),
    "a nested line of 1 MB": (lambda place: f"file:{named(place, 'a.jsonl', fill, (b'[[]', 1), (b',[]', 340_000), (b']', 1))}", "values"),
    "300 MB of ends of lines": (lambda place: f"file:{named(place, 'a.tsv', fill, (bytes([10]), 300 * MB))}", "lines"),
    "a line that says itself": (lambda place: f"file:{named(place, 'a.jsonl', fill, (b'{}' + bytes([10]), 5))}", "no text in field"),
    "Flores of lines of holes": (lambda place: f"flores:{flores(place)}#eng,cat", "line 1"),
}  # fmt: skip


def flores(place):
    place.mkdir()
    for code in ("eng", "cat"):
        holes(place / f"{code}.dev", 1 << 30)
    return place
