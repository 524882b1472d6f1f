"""Spoils small valid checkpoints in every way it knows and opens them. Not a test that pytest collects; by hand:

    nice python tests/hostile/fuzz_opener.py --cases 100000 --seed 0

Reported is every exception that is no ``KSLotteryError``, every process that dies, and every case that takes more than
5 seconds or 400 MB: with the number of its case, which ``--first N --cases 1 --keep FOLDER`` writes out again. Exits 1
when there was any. A case is decided by seed and number alone.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from helpers import samples

SECONDS, MEGABYTES = 5, 400
#: Numbers that programs get wrong.
NUMBERS = (0, 1, 2, 7, 8, 31, 63, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 10**15)
VALUES: tuple[Any, ...] = (
    None, True, -1, *NUMBERS, 2**200, 1e999, float("nan"), -0.5, "", "x", "../x", "/etc/passwd", "\ud800", "a\0b", "n" * 5000,
    "F8_E4M3", "I64", "BOOL", [], {}, [[]], [0], [-1, -1], {"": None}, samples.NAME, "demo:base", ".", "org/name",
)  # fmt: skip


class TooLong(BaseException):
    """A case that did not end in time."""


def spoiled(chance: random.Random, files: samples.Files, others: list[bytes]) -> samples.Files:
    """The files of a source with one to three of them damaged."""
    made = dict(files)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        name = chance.choice(list(made))
        if not made[name] or chance.random() < 0.01:
            made[name] = chance.choice(others)
            continue
        ways = [flip, flip, overwrite, overwrite, cut, insert, repeat]
        if name.endswith(".json"):
            ways += [json_values] * 8
        elif name.endswith(".safetensors"):
            ways += [header_values] * 10
        elif made[name].startswith(b"PK"):
            ways += [zip_members] * 8
        elif name.endswith(".gguf"):
            ways += [early] * 10
        made[name] = chance.choice(ways)(chance, made[name])
    return made


def flip(chance: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
    return bytes(made)


def overwrite(chance: random.Random, data: bytes, before: int | None = None) -> bytes:
    made, size = bytearray(data), chance.choice("BHIIQQ")
    at = chance.randrange(min(len(made), before or len(made)))
    value = struct.pack("<" + size, chance.choice(NUMBERS) % (1 << 8 * struct.calcsize(size)))
    made[at : at + len(value)] = value
    return bytes(made)


def early(chance: random.Random, data: bytes) -> bytes:
    """A number in the header: most of a GGUF's are in its first bytes."""
    return overwrite(chance, data, before=chance.choice((32, 100, 500, 1000)))


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.choice((1, 4, 8, 100))) + data[at + chance.choice((0, 1, 8)) :]


def repeat(chance: random.Random, data: bytes) -> bytes:
    first, last = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:last] + data[first:]


def json_values(chance: random.Random, data: bytes) -> bytes:
    """JSON with a value in it replaced, removed, or named twice."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return flip(chance, data)
    return _json(chance, content)


def header_values(chance: random.Random, data: bytes) -> bytes:
    """A safetensors file with something in its header changed, the data as they were."""
    length = int.from_bytes(data[:8], "little")
    try:
        content = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return flip(chance, data)
    text = _json(chance, content) + b" " * chance.randrange(8)
    return samples.packed(text, data[8 + length :], None if chance.random() < 0.9 else chance.choice(NUMBERS))


def _json(chance: random.Random, content: Any) -> bytes:
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    walk(content)
    if not places or chance.random() < 0.02:
        return json.dumps(chance.choice(VALUES)).encode()
    holder, key = chance.choice(places)
    way, value = chance.random(), chance.choice(VALUES)
    if way < 0.6:
        holder[key] = value
    elif way < 0.7:
        del holder[key]
    elif way < 0.8 and isinstance(holder, dict):
        holder[str(value)] = holder.pop(key)
    elif isinstance(holder, list):
        holder.insert(key, value)
    text = json.dumps(content).encode()
    if way > 0.9:  # nested as deep as a parser may fail at
        text = text.replace(b":", b":" + b"[" * chance.choice((10, 1000, 100_000)), 1)
    elif way > 0.8:
        text = text.replace(b"{", b"{" + json.dumps(str(key)).encode() + b":" + json.dumps(value).encode() + b",", 1)
    return text


def zip_members(chance: random.Random, data: bytes) -> bytes:
    """A PyTorch file with a member changed, renamed, packed or left out."""
    made = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
            names = old.namelist()
            chosen = chance.choice(names) if chance.random() < 0.3 else next(n for n in names if n.endswith("data.pkl"))
            for name in names:
                content, packing = old.read(name), zipfile.ZIP_STORED
                if name == chosen and content:
                    way = chance.random()
                    if way < 0.7:
                        content = chance.choice((flip, overwrite, cut, insert, repeat))(chance, content)
                    elif way < 0.8:
                        name = name + chance.choice(("x", "/../../x", "\u202e"))
                    elif way < 0.9:
                        packing = zipfile.ZIP_DEFLATED
                    else:
                        continue
                new.writestr(name, content, packing)
    except (zipfile.BadZipFile, StopIteration, NotImplementedError, OSError, EOFError, ValueError):
        return flip(chance, data)
    return made.getvalue()


def use(source: Path, base: str, everything: bool) -> None:
    """What the program does with a source, up to the numbers that a page would show."""
    from ks_core.checkpoints.matrices import to_floats
    from ks_core.checkpoints.opening import open_checkpoint
    from ks_core.checkpoints.pairs import match
    from ks_core.tickets.ticket import Ticket

    if (source / "ticket.json").is_file() and everything:
        Ticket.load(source)
    found = open_checkpoint(str(source))
    rows = min(found.shape[0], 64)
    to_floats(found.matrix.block(0, rows), found.dtype)
    if found.vocabulary:
        found.vocabulary.readable_list()
    pair = match(open_checkpoint(base), found)
    if everything:
        _ = found.content_hash
        from ks_core.ks.statistic import ks_test

        ks_test(pair.before, pair.after, "cpu", with_shift=True)


def work(first: int, last: int, seed: int, keep: Path | None) -> None:
    """Try the cases from ``first`` to before ``last``; a line of JSON for each that is not as it should be."""
    import warnings

    from ks_core.errors import KSLotteryError

    warnings.simplefilter("error", RuntimeWarning)  # the command line would print it
    warnings.simplefilter("ignore", UserWarning)  # zipfile's, of a name that this file wrote twice
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    os.environ["KS_LOTTERY_HOME"] = str(scratch / "home")
    base = str(samples.write(scratch / "base", samples.folder()))
    seeds = list(samples.every_source(base).values())
    others = [data for files in seeds for data in files.values()]
    use(Path(base), base, True)  # so that no case pays for the imports
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TooLong()))
    refused = 0
    try:
        for number in range(first, last):
            chance = random.Random(f"{seed} {number}")
            files = spoiled(chance, chance.choice(seeds), others)
            place = (keep or scratch) / f"case-{number}"
            source = samples.write(place, files)
            print(json.dumps({"began": number}), flush=True)
            before, problem = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, ""
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                use(source, base, everything=chance.random() < 0.25)
            except KSLotteryError as error:
                refused += 1
                problem = "" if str(error).isprintable() else f"message of several lines: {error!r}"
            except TooLong:
                problem = "TooLong: " + "".join(traceback.format_exc(limit=-3)[-600:])
            except BaseException as error:
                at = traceback.extract_tb(error.__traceback__)
                ours = next((f for f in reversed(at) if "ks_core" in f.filename), at[-1])
                problem = f"{type(error).__name__}: {str(error)[:200]} at {Path(ours.filename).name}:{ours.lineno}"
            signal.setitimer(signal.ITIMER_REAL, 0)
            taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
            if taken > MEGABYTES:
                problem += f" {taken} MB"
            if problem:
                print(json.dumps({"case": number, "files": sorted(files), "problem": problem}), flush=True)
            if not keep:
                shutil.rmtree(place)
                if number % 500 == 0:
                    shutil.rmtree(scratch / "home", ignore_errors=True)
        print(json.dumps({"refused": refused}), flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> int:
    """Have a process of its own try the cases, and another one go on where it died."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("--cases", 100_000), ("--seed", 0), ("--first", 0)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--keep", type=Path, help="leave the files of every case there")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    at, last = options.first, options.first + options.cases
    if options.worker:
        work(at, last, options.seed, options.keep)
        return 0
    found: collections.Counter[str] = collections.Counter()
    examples: dict[str, str] = {}
    refused = 0
    while at < last:
        began = at
        command = [sys.executable, __file__, "--worker", "--first", str(at), "--cases", str(last - at)]
        command += ["--seed", str(options.seed), *(["--keep", str(options.keep)] if options.keep else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said: dict[str, Any] = {}
                with contextlib.suppress(ValueError):
                    said = json.loads(line)
                began, refused = said.get("began", began), refused + said.get("refused", 0)
                if "problem" in said:
                    key = f"{said['problem'].partition(':')[0]} at {said['problem'].rpartition(' at ')[2][:60]}"
                    found[key] += 1
                    examples.setdefault(key, line.strip())
        if process.returncode == 0:
            break
        key = f"the process ended with {process.returncode}"
        found[key] += 1
        examples.setdefault(key, f"case {began}")
        at = began + 1
    print(
        f"{options.cases:,} cases, seed {options.seed}: {refused:,} refused in a sentence, {sum(found.values()):,} problems"
    )
    for key, count in found.most_common():
        print(f"{count:6}  {key}\n        {examples[key]}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
