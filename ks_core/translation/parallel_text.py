"""Where parallel text is read from, pair by pair as it is found: (source, target). ``corpora`` cleans and splits it.

A reader is given what stands behind its name (``fr-FR`` of ``pack:fr-FR``) and the names of the two fields, and gives the
pairs, or the files in which they lie, and the two languages, as codes or names, empty where the source does not say.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from ks_core.errors import CorpusError
from ks_core.registry import Entry, Registry
from ks_core.store import access, door
from ks_core.translation.lines import MOST_LINES, Files, Pairs, columns, records, side_by_side
from ks_core.values import is_repository

log = logging.getLogger(__name__)

#: Files of one language in a folder.
MOST_FILES = 24
#: The pairs, or where they lie, and the two languages.
Read = tuple[Pairs | Files, tuple[str, str]]


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


def file(name: str, source_field: str, target_field: str) -> Read:
    """Pairs of a TSV file (source, tab, target) or a JSONL file, whose fields are named.

    Raises ``CorpusError`` for a file that is neither; reading it does for one that has a line that does not fit.
    """
    path = _path(name)
    if path.suffix == ".jsonl":
        fields = {"source_field": source_field, "target_field": target_field}
        return Files((path,), records, {"path": str(path), **fields}), ("", "")
    if path.suffix not in (".tsv", ".txt"):
        raise CorpusError(f"{path} ends in {path.suffix or 'nothing'}. Expected .tsv (source, tab, target) or .jsonl.")
    return Files((path,), columns, {"path": str(path)}), ("", "")


def flores(rest: str, source_field: str = "", target_field: str = "") -> Read:
    """Pairs of two languages of a folder in Flores layout, and the two codes. ``rest``: ``folder#eng,cat``.

    Raises ``CorpusError`` for a folder without the two; reading it does for files that differ in length.
    """
    folder_name, _, codes = rest.partition("#")
    source, _, target = codes.partition(",")
    folder = _path(folder_name)
    if not re.fullmatch(r"[\w-]+", source) or not re.fullmatch(r"[\w-]+", target):
        raise CorpusError(f"flores:{rest} does not name two languages. Expected flores:folder#eng,cat.")
    door.end(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder. Expected a Flores folder, with files such as dev/eng.dev.")
    # What lies in a folder to which a link leads out of the roots is not even listed.
    places = [folder, *(place for place in sorted(folder.iterdir()) if door.allows(place) and place.is_dir())]
    sides: list[list[Path]] = []
    for code in (source, target):
        files = [file for place in places for file in sorted(place.glob(f"{code}*.dev*"))]
        if not files:
            raise CorpusError(
                f"{folder} holds no file for {code}. Expected {code}.dev, {code}.devtest, or the "
                f"like in it or in its dev and devtest folders."
            )
        if len(files) > MOST_FILES:
            raise CorpusError(f"{folder} holds {len(files):,} files for {code}. Expected at most {MOST_FILES}.")
        sides.append(files)
    paths = [str(path) for side in sides for path in side]
    about = {"folder": str(folder), "codes": [source, target], "paths": paths, "first": len(sides[0])}
    return Files((*sides[0], *sides[1]), side_by_side, about), (source, target)


def hub(rest: str, source_field: str = "", target_field: str = "") -> Read:
    """Pairs of the split ``train`` of a dataset on the hub. ``rest``: ``org/name#source,target``.

    Raises ``CorpusError`` for a name that is no id, where ``datasets`` or the network is missing, or the fields are.
    """
    name, _, fields = rest.partition("#")
    source, _, target = fields.partition(",")
    if not is_repository(name):
        raise CorpusError(
            f"{name[:300]!r} is no id of a dataset on the hub. Expected hub:org/name#source,target; text on this machine is "
            "named by file: or flores:."
        )
    if util.find_spec("datasets") is None:
        raise CorpusError("Reading a dataset from the hub needs the package datasets. Run: pip install datasets")
    import datasets

    # Older releases ask, or run a dataset's own script when a variable says so. Never here.
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False
    absent = CorpusError(
        f"The dataset {name} could not be had from the hub. Check the name and the network, or bring the pairs as a file."
    )
    if os.path.lexists(name):  # the library would open that instead
        if access.roots() is None:
            raise CorpusError(
                f"{name} is on this machine too, in the folder where the program was started, and would be opened in place of "
                "the hub's. Start the program elsewhere, or bring the pairs as a file."
            )
        raise absent  # in the same words as where nothing is
    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:  # the library raises a dozen kinds; the user needs the one sentence
        log.info("the dataset %s could not be had: %s: %s", name, type(error).__name__, error)
        raise absent from None
    return _records(name, rows, source, target), ("", "")


def _records(name: str, rows: Any, source: str, target: str) -> Pairs:
    for number, row in enumerate(rows):
        if number >= MOST_LINES:
            raise CorpusError(
                f"{name} brings more than {MOST_LINES:,} pairs. Bring a part of them as a file: a run needs far fewer."
            )
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
