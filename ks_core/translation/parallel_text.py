"""Where parallel text is read from, pair by pair as it is found: (source, target). ``corpora`` cleans and splits it.

A reader is given what stands behind its name (``fr-FR`` of ``pack:fr-FR``) and the names of the two fields, and gives the
pairs and the two languages, as codes or names, empty where the source does not say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from ks_core.errors import CorpusError
from ks_core.registry import Entry, Registry

Pairs = Iterator[tuple[str, str]]
#: The pairs, and the two languages.
Read = tuple[Pairs, tuple[str, str]]

#: Bytes of the largest file that is read. Text that a run can use is far smaller.
LARGEST_FILE = 1 << 30


def installed_packs() -> list[str]:
    """Codes of the JupyterLab language packs that are installed here, such as ``fr-FR``."""
    codes = []
    for entry in sorted({Path(p) for p in sys.path}):
        codes += [
            p.name.removeprefix("jupyterlab_language_pack_").replace("_", "-")
            for p in entry.glob("jupyterlab_language_pack_*")
            if (p / "locale").is_dir()
        ]
    return sorted(set(codes))


def pack(code: str, source_field: str = "", target_field: str = "") -> Read:
    """Pairs of an installed language pack: its JSON catalogues map English to a list of forms.

    Raises ``CorpusError`` for one that is not installed.
    """
    module = "jupyterlab_language_pack_" + code.replace("-", "_")
    # With a dot in it the name would be looked for inside another package, which looking imports.
    spec = util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        have = ", ".join(installed_packs()) or "none"
        raise CorpusError(
            f"The language pack {code} is not installed (installed: {have}). "
            f"Run: pip install jupyterlab-language-pack-{code}"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    return _catalogues(root), ("English", code)


def _catalogues(root: Path) -> Pairs:
    for path in sorted(root.glob("locale/*/LC_MESSAGES/*.json")):
        catalogue = json.loads(path.read_text(encoding="utf-8"))
        for key, forms in catalogue.items():
            # The empty key is the catalogue's header; a context stands before an EOT character.
            if key and forms and forms[0]:
                yield key.rpartition("\x04")[2], forms[0]


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~name, and there is no such user
        return Path(name)


def _lines(path: Path) -> list[str]:
    """The lines of a text file, ended by a line feed alone: a sentence may hold any other separator of Unicode."""
    reason = ""
    try:
        if not path.exists():
            reason = "it does not exist"
        elif not path.is_file():
            reason = "it is a folder" if path.is_dir() else "it is no file"  # a pipe would be waited for
        elif path.stat().st_size > LARGEST_FILE:
            reason = f"it has {path.stat().st_size:,} bytes, the largest that is read has {LARGEST_FILE:,}"
        else:
            lines = path.read_bytes().decode("utf-8-sig").split("\n")
            return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    raise CorpusError(f"{path} cannot be read: {reason}. Expected UTF-8 text.")


def file(name: str, source_field: str, target_field: str) -> Read:
    """Pairs of a TSV file (source, tab, target) or a JSONL file, whose fields are named.

    Raises ``CorpusError`` for a file that is neither, cannot be read, or has a line that does not fit.
    """
    path = _path(name)
    text = _lines(path)
    pairs = _jsonl(path, text, source_field, target_field) if path.suffix == ".jsonl" else _columns(path, text)
    return pairs, ("", "")


def _columns(path: Path, text: list[str]) -> Pairs:
    if path.suffix not in (".tsv", ".txt"):
        raise CorpusError(f"{path} ends in {path.suffix or 'nothing'}. Expected .tsv (source, tab, target) or .jsonl.")
    for number, line in enumerate(text, 1):
        row = line.split("\t")
        if not line.strip():
            continue
        if len(row) < 2:
            raise CorpusError(f"{path}, line {number}: one column found, two expected (source, tab, target).")
        yield row[0], row[1]


def _jsonl(path: Path, text: list[str], source_field: str, target_field: str) -> Pairs:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise CorpusError(f"{path}, line {number} is not JSON. Expected one object a line.") from None
        if not isinstance(record, dict):
            raise CorpusError(
                f"{path}, line {number} is not an object. Expected "
                f'{{"{source_field}": "...", "{target_field}": "..."}}.'
            )
        for name in (source_field, target_field):
            if not isinstance(record.get(name), str):
                have = ", ".join(map(str, record)) or "none"
                raise CorpusError(
                    f"{path}, line {number} has no text in field {name!r} (fields there: {have}). "
                    "Name the fields that hold source and target."
                )
        yield record[source_field], record[target_field]


def flores(rest: str, source_field: str = "", target_field: str = "") -> Read:
    """Pairs of two languages of a folder in Flores layout, and the two codes. ``rest``: ``folder#eng,cat``.

    Raises ``CorpusError`` for a folder without the two, or whose files differ in length.
    """
    folder_name, _, codes = rest.partition("#")
    source, _, target = codes.partition(",")
    folder = _path(folder_name)
    if not re.fullmatch(r"[\w-]+", source) or not re.fullmatch(r"[\w-]+", target):
        raise CorpusError(f"flores:{rest} does not name two languages. Expected flores:folder#eng,cat.")
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder. Expected a Flores folder, with files such as dev/eng.dev.")
    sides = []
    for code in (source, target):
        files = sorted(folder.glob(f"{code}*.dev*")) + sorted(folder.glob(f"*/{code}*.dev*"))
        if not files:
            raise CorpusError(
                f"{folder} holds no file for {code}. Expected {code}.dev, {code}.devtest, or the "
                f"like in it or in its dev and devtest folders."
            )
        sides.append([line for f in files for line in _lines(f)])
    if len(sides[0]) != len(sides[1]):
        raise CorpusError(
            f"{folder}: {source} has {len(sides[0])} lines and {target} {len(sides[1])}. "
            "Both must have the same sentences in the same order."
        )
    return iter(list(zip(*sides, strict=True))), (source, target)


def hub(rest: str, source_field: str = "", target_field: str = "") -> Read:
    """Pairs of the split ``train`` of a dataset on the hub. ``rest``: ``org/name#source,target``.

    Raises ``CorpusError`` where ``datasets`` or the network is missing, or the fields are.
    """
    name, _, fields = rest.partition("#")
    source, _, target = fields.partition(",")
    if util.find_spec("datasets") is None:
        raise CorpusError("Reading a dataset from the hub needs the package datasets. Run: pip install datasets")
    import datasets

    # Older releases ask, or run a dataset's own script when a variable says so. Never here.
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False
    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:  # the library raises a dozen kinds; the user needs the one sentence
        raise CorpusError(
            f"The dataset {name} could not be had from the hub ({type(error).__name__}). "
            "Check the name and the network, or bring the pairs as a file."
        ) from None
    return _records(name, rows, source, target), ("", "")


def _records(name: str, rows: Any, source: str, target: str) -> Pairs:
    for row in rows:
        record = row.get("translation", row)
        if not isinstance(record.get(source), str) or not isinstance(record.get(target), str):
            raise CorpusError(
                f"{name} has no text fields {source!r} and {target!r} (fields: {', '.join(record)}). "
                "Name them: hub:org/name#source,target."
            )
        yield record[source], record[target]


@dataclass(frozen=True)
class CorpusReader(Entry):
    """A kind of parallel text, named by what stands before the colon.

    ``function(rest, source_field, target_field)`` reads it; ``path(rest)`` is the path in it that a server's roots bound
    (``None``: it names none); ``example`` stands in errors.
    """

    function: Callable[[str, str, str], Read] = pack
    path: Callable[[str], str] | None = None
    example: str = ""


CORPUS_READERS = Registry("kind of corpus", [
    CorpusReader("pack", "Language pack", "An installed JupyterLab language pack, from English.", "jupyterlab/language-packs (BSD-3)",
                 function=pack, example="pack:fr-FR"),
    CorpusReader("file", "File", "Two columns of a .tsv, or two fields of a .jsonl.", function=file, path=lambda rest: rest,
                 example="file:pairs.tsv, file:pairs.jsonl"),
    CorpusReader("flores", "Flores folder", "Two languages of a folder in Flores layout.", "Flores-101, arXiv 2106.03193",
                 function=flores, path=lambda rest: rest.partition("#")[0], example="flores:folder#eng,cat"),
    CorpusReader("hub", "Hub dataset", "Two fields of the split train of a dataset on the hub.", function=hub,
                 example="hub:org/name#source,target"),
], error=CorpusError)  # fmt: skip
