"""Signatures: one line that says from what a number came.

In the manner of sacrebleu: ``name:value`` fields joined by ``|``, in a fixed order, so that two
results with the same signature can be compared and two with different ones can be told apart.

    >>> str(Signature({"base": "ab12", "alpha": 0.05}))
    'base:ab12|alpha:0.05'
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

from ks_core import __version__
from ks_core.errors import visible


@dataclass(frozen=True)
class Signature:
    """Everything that decided a result, by name, in the order in which it is written."""

    fields: Mapping[str, Any]

    def __str__(self) -> str:
        return "|".join(f"{name}:{_plain(value)}" for name, value in self.fields.items())

    @property
    def short(self) -> str:
        """Eight hex digits that stand for the whole: for a file name or a corner of a figure."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:8]

    def with_fields(self, **more: Any) -> Signature:
        """The signature of something made from this: the same fields, and more."""
        return Signature({**self.fields, **more})


def versions(*packages: str) -> dict[str, str]:
    """This program's version and those of the named packages that are installed.

    >>> list(versions("numpy"))
    ['ks-lottery', 'numpy']
    """
    found = {"ks-lottery": __version__}
    return found | {name: version for name in packages if (version := _version(name))}


@lru_cache(maxsize=64)
def _version(package: str) -> str:
    """The version of a package that is installed, as its metadata has it, which is read once; empty for one that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _plain(value: Any) -> str:
    # The two characters that structure a signature may not occur in a value (a path may hold both).
    return visible(str(value).replace("|", "/").replace("\n", " "))
