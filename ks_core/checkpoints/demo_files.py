"""Whether the demo's files are those that were shipped: their SHA-256 sums, in the format of ``sha256sum``; and whether its
checkpoints are those that the shipped results were made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ks_core.checkpoints import demo, hashes
from ks_core.checkpoints.demo import ASSETS
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import KSLotteryError
from ks_core.store import shipped

SUMS = "SHA256SUMS"


def write_sums(folder: Path = ASSETS) -> Path:
    """Write the sums of every file under ``folder`` anew, after the demo was built."""
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}" for path in _files(folder)]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / SUMS


def damaged(folder: Path = ASSETS) -> list[str]:
    """Names of files that are missing or are not what was shipped; of the sums themselves where they are gone."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (OSError, ValueError):
        return [SUMS]
    return sorted(
        name for name, digest in wanted.items() if not (folder / name).is_file() or _sum(folder / name) != digest
    )


def show_evidence() -> None:
    """Have this process show the results that come with the demo (``store.shipped``), for as long as its checkpoints are those
    that they were made from."""
    shipped.show(holds)


def holds(contents: Mapping[str, str]) -> bool:
    """Whether sources of the demo have these contents, by source; not so for a base that is not prepared, and for none."""
    if not contents or not demo.is_ready():
        return False
    stamps = tuple(hashes.stamp(path) for path in _weights())
    return _hold(tuple(sorted(contents.items())), stamps)


@lru_cache(maxsize=8)
def _hold(contents: tuple[tuple[str, str], ...], stamps: tuple[str | None, ...]) -> bool:
    """The same for files as their ``stamps`` tell them from changed ones: looked at once."""
    try:
        return all(open_checkpoint(source).content_hash == content for source, content in contents)
    except KSLotteryError:
        return False


def _weights() -> list[Path]:
    """The files that decide the contents of the demo's checkpoints."""
    return [demo.base_folder() / "model.safetensors", *sorted(ASSETS.glob("*/adapter_*"))]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS and "__pycache__" not in p.parts)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
