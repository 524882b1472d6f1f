"""Studies that were prepared to be shown: named pairs, kept in the workspace's ``studies.json``.

A read-only server shows these and the demo (``study.named``). One is tested before it is kept, so that nobody who looks has to wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ks_core.errors import SettingsError
from ks_core.store import workspace
from ks_core.values import without_choice


@dataclass(frozen=True)
class Prepared:
    """A pair under a name. ``base`` and ``tuned`` are sources as ``open_checkpoint`` takes them; ``under`` are the bases that
    their adapters named when they were prepared, as they were named, and as absolute paths."""

    name: str
    base: str
    tuned: str
    under: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that showing the study opens."""
        return self.base, self.tuned, *self.under


def studies() -> list[Prepared]:
    """Every study that was prepared here, by name. A damaged list counts as empty."""
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        return [
            Prepared(str(k["name"]), str(k["base"]), str(k["tuned"]), tuple(map(str, k.get("under", ()))))
            for k in workspace.read_json(_file())
        ]
    return []


def named(name: str, base: str, tuned: str, under: Sequence[str] = ()) -> Prepared:
    """A pair under a name, with the bases ``under`` its adapters, not kept yet; paths become absolute. Raises ``SettingsError``
    for a name that cannot be."""
    name = name.strip()
    if not name or len(name) > 80 or name.startswith("demo"):
        raise SettingsError(f"{name[:80]!r} cannot name a study. Expected 1 to 80 characters, not beginning with demo.")
    known = dict.fromkeys([*under, *map(_absolute, under)])
    return Prepared(name, _absolute(base), _absolute(tuned), tuple(known))


def keep(made: Prepared) -> None:
    """Put a pair on the list, where it replaces an older one of its name. Who keeps it has tested it before."""
    _write([*(s for s in studies() if s.name != made.name), made])


def forget(name: str) -> None:
    """Take a study off the list. Raises ``SettingsError`` when it is not on it."""
    known = studies()
    if name not in (s.name for s in known):
        names = ", ".join(s.name for s in known) or "none"
        raise SettingsError(f"There is no prepared study {name!r}. There are: {names}.")
    _write([s for s in known if s.name != name])


def _write(found: list[Prepared]) -> None:
    try:
        workspace.write_json(_file(), [asdict(s) for s in found])
    except OSError as error:
        raise SettingsError(
            f"{_file()} cannot be written: {error.strerror}. Set KS_LOTTERY_HOME to another folder."
        ) from None


def _file() -> Path:
    return workspace.home() / "studies.json"


def _absolute(source: str) -> str:
    name, _ = without_choice(source)
    try:
        path = Path(name).expanduser()
        here = not (source == "demo" or source.startswith("demo:")) and path.exists()
    except (RuntimeError, ValueError, OSError):  # ~name without such a user, or no path at all: opening it says so
        return source
    return str(path.resolve()) + source[len(name) :] if here else source
