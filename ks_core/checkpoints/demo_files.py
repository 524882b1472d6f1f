"""Whether the demo's files are those that were shipped: their SHA-256 sums, in the format of ``sha256sum``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ks_core.checkpoints.demo import ASSETS

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


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS and "__pycache__" not in p.parts)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
