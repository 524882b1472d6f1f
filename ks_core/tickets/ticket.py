"""A ticket: rows with their evidence, and a folder of them that any peft user can load. ``selection`` chooses rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import folders
from ks_core.checkpoints.adapters import read_trainable_tokens, write_trainable_tokens
from ks_core.checkpoints.matrices import take, to_floats
from ks_core.errors import CheckpointError, TicketError
from ks_core.signature import Signature
from ks_core.store import workspace
from ks_core.study.scan import Scan, Study, readable
from ks_core.tickets.card_metadata import Publication
from ks_core.tickets.model_card import model_card

TICKET_FILE = "ticket.json"


@dataclass(frozen=True)
class Ticket:
    """A list of rows with its evidence.

    ``token_ids`` are ids in the base's vocabulary, ``tokens`` their readable strings; ``statistic``
    and ``pvalue`` the test's verdict per row; ``rows`` float32 (k, d) the values after tuning, where
    they are known; ``about`` whatever else is known (corpus, prompt, scores), as plain JSON values; ``module`` where the
    embedding is in the model, by which peft finds it.
    """

    token_ids: list[int]
    tokens: list[str] = field(default_factory=list)
    statistic: list[float] = field(default_factory=list)
    pvalue: list[float] = field(default_factory=list)
    rule: str = "alpha"
    alpha: float | None = None
    base: str = ""
    signature: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    rows: np.ndarray | None = field(default=None, compare=False, repr=False)
    module: str = "model.embed_tokens"

    def __len__(self) -> int:
        return len(self.token_ids)

    @classmethod
    def from_scan(
        cls,
        scan: Scan,
        positions: np.ndarray,
        strings: Sequence[str],
        *,
        rule: str,
        alpha: float,
        base: str,
        rows: np.ndarray | None = None,
    ) -> Ticket:
        """The ticket of a scan: ``positions`` as ``select`` gives them, ``strings`` for each of them."""
        ids = [int(i) for i in scan.token_ids[positions]]
        signature: Signature = scan.signature.with_fields(rule=rule, alpha=alpha, k=len(ids))
        return cls(
            ids,
            list(strings),
            [float(x) for x in scan.statistic[positions]],
            [float(x) for x in scan.pvalue[positions]],
            rule,
            alpha,
            base,
            str(signature),
            rows=rows,
        )

    def save(self, folder: Path | str, more: Publication | None = None) -> Path:
        """Write a peft TrainableTokens adapter with ``ticket.json`` beside it. Returns the folder. ``more``: what its card says
        besides, of a ticket that is published.

        Raises ``TicketError`` when the ticket is empty or its rows are not known: an adapter
        without rows would be a promise only.
        """
        folder = Path(folder)
        if not self.token_ids:
            raise TicketError(
                "The ticket is empty: no row passed the rule, so there is nothing to save. "
                "Choose a larger alpha, or the rule count."
            )
        if self.rows is None or len(self.rows) != len(self.token_ids):
            raise TicketError("The ticket's rows are not known, only its ids. Take it from a scan or a run.")
        write_trainable_tokens(folder, self.token_ids, self.rows, base=self.base, module=self.module)
        workspace.write_json(
            folder / TICKET_FILE,
            {
                "token_ids": self.token_ids,
                "tokens": self.tokens,
                "statistic": self.statistic,
                "pvalue": self.pvalue,
                "rule": self.rule,
                "alpha": self.alpha,
                "base": self.base,
                "signature": self.signature,
                "about": dict(self.about),
                "module": self.module,
            },
        )
        workspace.write_atomically(folder / "README.md", model_card(self, more).encode())
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> Ticket:
        """Read a folder that ``save`` wrote. Raises ``TicketError`` when it is not one."""
        folder = Path(folder)
        path = folder / TICKET_FILE
        try:
            found = folders.read_json(folder, TICKET_FILE)
            ids, rows = ([], np.zeros(0)) if found is None else read_trainable_tokens(folder)
        except CheckpointError as error:
            raise TicketError(str(error)) from None
        except OSError as error:
            raise TicketError(f"{folder} cannot be read: {error.strerror or error}.") from None
        if found is None:
            raise TicketError(
                f"{folder} holds no {TICKET_FILE}. Expected a folder that this program saved as a "
                "ticket; a plain adapter opens as a checkpoint instead."
            )
        _check(path, found)
        if sorted(found["token_ids"]) != sorted(ids) or len(set(ids)) < len(ids):
            raise TicketError(f"{path} and the adapter beside it name different rows. Save the ticket again.")
        position = {token: n for n, token in enumerate(ids)}
        ordered = rows[[position[i] for i in found["token_ids"]]]
        known = {f.name: found[f.name] for f in fields(cls) if f.name in found}
        return cls(**{**known, "rows": ordered})


def _check(path: Path, found: Any) -> None:
    """Raise ``TicketError`` unless a ticket.json holds what ``Ticket`` says of its fields."""

    def numbers(value: Any) -> bool:
        return isinstance(value, list) and all(type(x) in (int, float) and math.isfinite(x) for x in value)

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(x, str) for x in value)

    if not isinstance(found, dict):
        raise TicketError(f"{path} is no table of settings. Save the ticket again.")
    checks: dict[str, Callable[[Any], bool]] = {
        "token_ids": lambda v: isinstance(v, list) and all(type(i) is int for i in v),
        "tokens": texts, "statistic": numbers, "pvalue": numbers,
        "rule": lambda v: isinstance(v, str), "base": lambda v: isinstance(v, str),
        "signature": lambda v: isinstance(v, str), "module": lambda v: isinstance(v, str), "about": lambda v: isinstance(v, dict),
        "alpha": lambda v: v is None or numbers([v]),
    }  # fmt: skip
    for name, fits in checks.items():
        if (name in found or name == "token_ids") and not fits(found.get(name)):
            raise TicketError(
                f"{path}: {name} is {str(found.get(name))[:80]!r}, which no ticket has. Save the ticket again."
            )
    for name in ("tokens", "statistic", "pvalue"):  # left out where they are not known
        if found.get(name) and len(found[name]) != len(found["token_ids"]):
            raise TicketError(
                f"{path} has {len(found['token_ids'])} token ids and {len(found[name])} entries in {name}. "
                "Save the ticket again."
            )


def ticket_of(study: Study, scan: Scan, positions: np.ndarray, *, rule: str, alpha: float) -> Ticket:
    """The ticket of a study, with the tuned values of its rows, so that it can be saved."""
    strings = study.token_strings()
    names = [readable(strings, int(i)) for i in scan.token_ids[positions]]
    stored = study.pair.tuned_rows  # and not as they are rounded for the test
    rows = to_floats(take(stored, positions), stored.dtype)
    found = Ticket.from_scan(scan, positions, names, rule=rule, alpha=alpha, base=study.base.source, rows=rows)
    # Saved without its head, a model names its parts as they stand in it alone; and GGUF has names of its own.
    module = study.base.tensor.removesuffix(".weight")
    return replace(found, module=module) if "." in module else found
