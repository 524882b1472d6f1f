"""What whoever runs a server lets its visitors do: where it looks, and whether anything is started.

Two environment variables of the server's process decide, and nothing that a visitor types:

    KS_LOTTERY_ROOTS      folders, separated as in PATH; checkpoints, adapters and text come from inside them
                          (without it: from anywhere that the server's user may read)
    KS_LOTTERY_READ_ONLY  1: only the demo and the prepared studies are shown, and no job is started

Here it is decided; files are opened in ``door``. A path is followed to its end before it is judged, so a link inside a root
does not lead out of it. Names are judged before anything is looked at, and what is refused is refused in the same words
whether there is anything or not.
"""

from __future__ import annotations

import os
from pathlib import Path

from ks_core.errors import AccessError, SettingsError
from ks_core.store import prepared, workspace
from ks_core.values import without_choice

ROOTS, READ_ONLY = "KS_LOTTERY_ROOTS", "KS_LOTTERY_READ_ONLY"
#: What a read-only server says where it would otherwise start something.
NOTHING_STARTS = "This server only shows what was prepared; nothing is started on it. Run the app yourself to work with your own pair."


def read_only() -> bool:
    """Whether this process only shows what was prepared. Raises ``SettingsError`` for a value that is neither."""
    value = os.environ.get(READ_ONLY, "").strip().lower()
    if value in ("", "0", "no", "false", "off"):
        return False
    if value in ("1", "yes", "true", "on"):
        return True
    raise SettingsError(f"{READ_ONLY} is {value!r}. Expected 1 or 0.")


def roots() -> list[Path] | None:
    """The folders that may be looked into, resolved; ``None`` where there is no bound.

    Raises ``SettingsError`` for one that is no folder: a slip there must not open everything.
    """
    named = os.environ.get(ROOTS, "").strip()
    if not named:
        return None
    found = []
    for name in filter(None, named.split(os.pathsep)):
        path = Path(name).expanduser()
        if not path.is_absolute() or not path.is_dir():
            raise SettingsError(f"{ROOTS} names {name!r}, which is no folder. Expected absolute paths of folders.")
        found.append(path.resolve())
    return found


def is_inside(path: Path) -> bool:
    """Whether a path may be named: always without roots; otherwise inside them, or among the workspace's own runs."""
    allowed = roots()
    if allowed is None:
        return True
    try:
        end = path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        return False
    return any(end.is_relative_to(root) for root in [*allowed, runs()])


def runs() -> Path:
    """Where the workspace's runs lie, resolved."""
    return (workspace.home() / "jobs").resolve()


def check_path(path: Path, named: str = "") -> None:
    """Raises ``AccessError`` for a path outside the roots, which it quotes as it was ``named``. It does not say whether
    there is anything."""
    if not is_inside(path):
        raise outside(named or str(path))


def outside(named: str) -> AccessError:
    """What is said of a path that leads out of the roots."""
    return AccessError(
        f"{named[:300]} is outside the folders that this server opens. Expected a path inside one of: "
        f"{', '.join(map(str, roots() or []))}. Whoever runs the server sets them with {ROOTS}."
    )


def check_source(source: str) -> None:
    """Raises ``AccessError`` for a checkpoint that a read-only server does not show.

    Shown are the demo's names, and what the prepared studies name: their pairs, and the bases under their adapters.
    """
    if not read_only() or source == "demo" or source.startswith("demo:"):
        return
    if not any(source in study.sources for study in prepared.studies()):
        raise not_shown(source)


def not_shown(named: str) -> AccessError:
    """What a read-only server says of a checkpoint, or of a file, that belongs to no prepared study."""
    return AccessError(
        f"{named[:300]} is not among the studies that were prepared. This server is read-only: it shows the demo and "
        "prepared studies, with the bases that were under them then. Run the app yourself to open your own checkpoints."
    )


def shown() -> list[Path]:
    """The folders of the prepared studies' sources that lie on this machine, resolved: a file's is the one it lies in."""
    found = []
    for source in (source for study in prepared.studies() for source in study.sources):
        path = Path(without_choice(source)[0])
        if path.is_absolute() and path.exists():
            found.append(path.resolve() if path.is_dir() else path.resolve().parent)
    return found


def check_text(name: str) -> None:
    """Raises ``AccessError`` for parallel text that a read-only server does not read: any but the installed packs."""
    if read_only() and not name.startswith("pack:"):
        raise AccessError(f"{name[:300]} is not read here: this server is read-only. Expected an installed pack.")
