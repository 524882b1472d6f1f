"""Recording a training: every few steps, the test of every embedding row against where it began.

    with Recorder("trajectory.arrow", model) as recorder:
        for batch in batches:
            loss = model(**batch).loss
            loss.backward()
            recorder.before_step()
            optimizer.step()
            optimizer.zero_grad()
            recorder.after_step(loss)

``KSLotteryCallback`` does the same for transformers' Trainer. Of several processes (DDP) the first alone records: gradients are
averaged before the optimizer steps, so it sees all of them. Nothing of the training is changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ks_core.errors import CheckpointError, SettingsError
from ks_core.ks.statistic import pvalue_table
from ks_core.signature import versions
from ks_core.trajectory import recording
from ks_core.trajectory.embedding import WHOLE, find
from ks_core.trajectory.layout import COLUMNS, FOLLOWED, FOLLOWED_BYTES, NO_SHIFTS, PARTS, Record

#: Steps between two records, unless somebody says otherwise.
EVERY = 10


class Recorder:
    """Records the drift of a model's embedding rows into a file, see ``recording``.

    ``path`` is the file. With ``at`` 0 a recording that is there is replaced; with a later step, when a training goes on from a
    checkpoint, it is continued from its last record up to that step. ``model``, ``start`` and ``stored`` are those of
    ``embedding.find``; ``every`` is in optimizer steps. ``base`` names the start for people, ``about`` is kept as it is given
    (plain values).

    ``stored="bfloat16"`` is for a training in float32 whose checkpoints are saved in bfloat16: a point is then what their scan says.
    With GradScaler, ``before_step`` stands after ``unscale_``, or the scale of the gradients is not their own.

    Raises what ``embedding.find`` raises; ``SettingsError`` for ``every`` below 1, a file that is no recording, and a whole matrix
    that goes on from a checkpoint without a ``start``.
    """

    def __init__(
        self,
        path: Path | str,
        model: Any,
        *,
        every: int = EVERY,
        start: Any = None,
        stored: str | None = None,
        at: int = 0,
        base: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise SettingsError(f"every is {every}. Expected a whole number of steps, at least 1, such as {EVERY}.")
        self.path, self.every, self.step = Path(path), every, at
        self.rows = find(model, start, stored)
        if at and start is None and self.rows.kind == WHOLE:
            raise SettingsError(
                f"The training goes on at step {at}, and where its embedding began is not known any more. Name the checkpoint that it "
                'started from: start="FOLDER".'
            )
        #: Whether this process records: the first, where there are several.
        self.active = not _together() or torch.distributed.get_rank() == 0
        #: Steps and losses since the last record, of the whole and of the parts that are known.
        self._losses: dict[str, list[tuple[int, Any]]] = {name: [] for name in ("loss", *PARTS)}
        self._recorded, self._diverged, self._writer = -1, False, None
        #: The step whose rows are at hand, and whether the recording goes on: the same in all processes.
        self._gathered, self._open = at, True
        if not self.active:
            return
        device, wide = (
            self.rows.trained.device,
            torch.float32 if self.rows.trained.device.type == "mps" else torch.float64,
        )
        count = len(self.rows.token_ids())
        self._touched = torch.zeros(count, dtype=torch.int32, device=device)
        self._squares = torch.zeros(count, dtype=wide, device=device)
        #: What the file says of each trained row by now, by name of its columns.
        self._said = {name: np.zeros(count, dtype) for name, dtype in COLUMNS.items()}
        self._said["row"] = self.rows.token_ids().astype(np.int32)
        self._said["cosine"][:] = 1
        recording.check_new(self.path)
        rows, width = self.rows.shape
        facts = {
            "rows": rows, "width": width, "kind": self.rows.kind, "tied": self.rows.tied, "base": base, "stored": stored or "",
            "every": every, "began": at, "about": dict(about or {}), "versions": versions("torch", "transformers"),
        }  # fmt: skip
        keep, kept = self._go_on(at, (rows, width)) if at and self.path.exists() else (0, {})
        facts |= kept
        self._writer = recording.Writer(self.path, facts, keep)
        if not keep:
            self.record()

    def before_step(self) -> None:
        """Take note of the gradients that the optimizer is about to use."""
        lengths = self.rows.gradient() if self.active or self.rows.together else None
        if not self.active or lengths is None:
            return
        self._touched += lengths > 0
        self._squares += lengths.to(self._squares.dtype).square() / self.rows.shape[1]

    def after_step(self, loss: Any = None, *, content: Any = None, end: Any = None) -> bool:
        """Count a step of the optimizer, with its loss where there is one (``note``). Returns whether a record was made of it."""
        self.step += 1
        self.note(loss, content=content, end=end)
        return self.step % self.every == 0 and self.record()

    def note(self, loss: Any = None, step: int | None = None, *, content: Any = None, end: Any = None) -> None:
        """Keep a loss for the next record, of this step or of another: a number, or a tensor of one. ``content`` and ``end`` are its
        parts in nats a token of the part, the end token's and all other targets', each where it is known."""
        if not self.active:
            return
        for name, value in {"loss": loss, "content": content, "end": end}.items():
            if value is not None:
                value = value.detach() if hasattr(value, "detach") else value
                self._losses[name].append((self.step if step is None else step, value))

    def record(self) -> bool:
        """Add a record of this step, unless it has one. Returns whether it was made.

        A row that holds NaN or infinity ends the recording: the file keeps what came before.
        """
        if not self._open:
            return False
        if self._gathered != self.step:
            self.rows.gather()
            self._gathered = self.step
        if self._writer is None or self._recorded == self.step or self._diverged:
            return False
        try:
            columns = self._columns()
            shifts = self._shifts(columns)
        except CheckpointError:
            columns, shifts, self._diverged = self._nothing(), NO_SHIFTS, True
        self._append(columns, self.step, shifts)
        self._recorded = self.step
        return not self._diverged

    def summary(self, alpha: float = 0.05) -> dict[str, float]:
        """Of the last record: how many rows have p < ``alpha``, how many moved, and the largest D."""
        if not self.active:
            return {}
        counts, dim = self._said["counts"], self.rows.shape[1]
        return {
            "winners": int((pvalue_table(dim)[counts] < alpha).sum()),
            "changed": int((self._said["l2"] > 0).sum()),
            "largest_d": float(counts.max(initial=0)) / dim,
        }

    def close(self, *, last: bool = True) -> None:
        """End the recording, with a record of the last step unless ``last`` is false."""
        if last:
            self.record()
        self._open = False
        if self._writer is None:
            return
        if any(self._losses.values()):  # those that came after their step's record
            self._append(self._nothing(), self._recorded)
        self._writer.close()
        self._writer = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *failed: Any) -> None:
        self.close(last=failed[0] is None)

    def _columns(self) -> dict[str, np.ndarray]:
        """The trained rows of which the file does not say by now what is true of them."""
        touched = self._touched.cpu().numpy()
        squares = self._squares.double().cpu().numpy()
        now = {name: np.zeros_like(column) for name, column in self._said.items()}
        now["row"], now["touched"] = self._said["row"], touched
        now["gradient"] = np.sqrt(squares / np.maximum(touched, 1)).astype(np.float32)
        now["cosine"][:] = 1
        moved = self.rows.moved()
        if len(moved):
            found = self.rows.tested(moved)
            now["counts"][moved], now["l2"][moved], now["cosine"][moved] = found.counts, found.l2, found.cosine
        other = np.zeros(len(touched), bool)
        for name, column in now.items():
            other |= column != self._said[name]
        self._said = now
        return {name: column[other] for name, column in now.items()}

    def _nothing(self) -> dict[str, np.ndarray]:
        """The columns of a record of no row."""
        return {name: column[:0] for name, column in self._said.items()}

    def _shifts(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Of a record's rows those of the largest D now, as ``Record.shifts`` has them."""
        counts, l2, ids = (self._said[name] for name in ("counts", "l2", "row"))
        most = max(1, min(FOLLOWED, FOLLOWED_BYTES // (2 * self.rows.shape[1])))
        least = np.partition(counts, -most)[-most] if len(counts) > most else 0
        near = np.flatnonzero((counts >= least) & (l2 > 0))
        first = near[np.lexsort((ids[near], -l2[near], -counts[near]))[:most]]
        at = {int(ids[n]): int(n) for n in first}
        places = np.flatnonzero(np.isin(columns["row"], ids[first]))
        return places.astype(np.int32), self.rows.shifts(
            np.array([at[int(i)] for i in columns["row"][places]], np.int64)
        )

    def _append(
        self, columns: Mapping[str, np.ndarray], step: int, shifts: tuple[np.ndarray, np.ndarray] = NO_SHIFTS
    ) -> None:
        assert self._writer is not None
        found = {name: [(at, float(loss)) for at, loss in pairs] for name, pairs in self._losses.items()}
        kept = {name: [pair for pair in pairs if math.isfinite(pair[1])] for name, pairs in found.items()}
        wrong = any(len(kept[name]) < len(pairs) for name, pairs in found.items())
        for pairs in self._losses.values():
            pairs.clear()
        losses = kept.pop("loss")
        parts = {name: pairs for name, pairs in kept.items() if pairs}
        self._writer.append(Record(step, columns, losses, self._diverged or wrong, parts, shifts))

    def _go_on(self, at: int, shape: tuple[int, int]) -> tuple[int, dict[str, Any]]:
        """Take up a recording at a step. Returns the bytes of it that stay, 0 where it has no record of then, and what is said of the
        file that has to stay as it is."""
        facts, records, end, losses = recording.before(self.path, at)
        if (facts["rows"], facts["width"]) != shape:
            raise SettingsError(
                f"{self.path} is a recording of an embedding of {facts['rows']:,} x {facts['width']:,}; this one has {shape[0]:,} x "
                f"{shape[1]:,}. Name another file."
            )
        place = np.full(shape[0], -1, np.int64)
        place[self._said["row"]] = np.arange(len(self._said["row"]))
        for record in records:
            at_rows = place[record.columns["row"]]
            for name, column in record.columns.items():
                self._said[name][at_rows[at_rows >= 0]] = column[at_rows >= 0]
        self._touched.copy_(torch.from_numpy(self._said["touched"]))
        squares = self._said["gradient"].astype(np.float64) ** 2 * self._said["touched"]
        self._squares.copy_(torch.from_numpy(squares))
        self._recorded = records[-1].step if records else -1
        for name, pairs in losses.items():
            self._losses[name] += pairs
        return end, {"format": facts["format"]} if end else {}


def _together() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
