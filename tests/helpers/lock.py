"""requirements.txt: what pyproject.toml asks for in ranges, and all that those need, each at the version that this environment holds.

``make lock`` writes it, after newer versions were installed and the tests passed with them. What torch and its like take on one system
alone (CUDA's libraries) is not in it: pip finds that by itself.
"""

import re
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.places import ROOT

FILE = ROOT / "requirements.txt"
HEAD = """\
# The app. First what it imports, then what those need, each at the version that the tests ran with,
# so that an install next year is the install of today. Python 3.11 or newer. Made by `make lock` from pyproject.toml.
"""


def asked() -> list[Requirement]:
    """What pyproject.toml asks for, in its order."""
    return [Requirement(line) for line in _project()["dependencies"]]


def extras(name: str) -> list[Requirement]:
    """What an extra asks for besides."""
    return [Requirement(line) for line in _project()["optional-dependencies"][name]]


def pinned(file=FILE) -> dict[str, str]:
    """A file of pins: package, as it is written there -> version."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", file.read_text(encoding="utf-8"), re.M))


def _project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def needed(requirements: list[Requirement]) -> dict[str, str]:
    """Name -> installed version, of what requirements need and what that needs in turn, here and now."""
    found, waiting = {}, list(requirements)
    while waiting:
        requirement = waiting.pop()
        key = canonicalize_name(requirement.name)
        environments = [{"extra": extra} for extra in (*requirement.extras, "")]
        if requirement.marker and not any(requirement.marker.evaluate(e) for e in environments):
            continue
        if (key, *sorted(requirement.extras)) in found:
            continue
        installed = metadata.distribution(requirement.name)
        found[key, *sorted(requirement.extras)] = installed
        for line in installed.requires or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate(e) for e in environments):
                inner.marker = None
                waiting.append(inner)
    return {one.metadata["Name"]: one.version.partition("+")[0] for one in found.values()}


def lock() -> str:
    """The text of requirements.txt."""
    direct = {canonicalize_name(r.name): r.name for r in asked()}
    versions = {canonicalize_name(name): (name, version) for name, version in needed(asked()).items()}
    first = [f"{name}=={versions[key][1]}" for key, name in direct.items()]
    rest = sorted((f"{name}=={v}" for key, (name, v) in versions.items() if key not in direct), key=str.lower)
    return HEAD + "\n".join([*first, "", *rest]) + "\n"


if __name__ == "__main__":
    FILE.write_text(lock(), encoding="utf-8")
    print(f"{FILE.name}: {len(pinned())} packages")
