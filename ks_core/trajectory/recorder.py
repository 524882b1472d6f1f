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
        self._losses: list[tuple[int, Any]] = []
        self._recorded, self._diverged, self._writer = -1, False, None
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
        self._said = {name: np.zeros(count, dtype) for name, dtype in recording.COLUMNS.items()}
        self._said["row"] = self.rows.token_ids().astype(np.int32)
        self._said["cosine"][:] = 1
        recording.check_new(self.path)
        rows, width = self.rows.shape
        facts = {
            "rows": rows, "width": width, "kind": self.rows.kind, "tied": self.rows.tied, "base": base, "stored": stored or "",
            "every": every, "began": at, "about": dict(about or {}), "versions": versions("torch", "transformers"),
        }  # fmt: skip
        keep = self._go_on(at, (rows, width)) if at and self.path.exists() else 0
        self._writer = recording.Writer(self.path, facts, keep)
        if not keep:
            self.record()

    def before_step(self) -> None:
        """Take note of the gradients that the optimizer is about to use."""
        if not self.active or (lengths := self.rows.gradient()) is None:
            return
        self._touched += lengths > 0
        self._squares += lengths.to(self._squares.dtype).square() / self.rows.shape[1]

    def after_step(self, loss: Any = None) -> bool:
        """Count a step of the optimizer, with its loss where there is one. Returns whether a record was made of it."""
        self.step += 1
        if loss is not None:
            self.note(loss)
        return self.step % self.every == 0 and self.record()

    def note(self, loss: Any, step: int | None = None) -> None:
        """Keep a loss for the next record: a number, or a tensor of one."""
        if self.active:
            self._losses.append(
                (self.step if step is None else step, loss.detach() if hasattr(loss, "detach") else loss)
            )

    def record(self) -> bool:
        """Add a record of this step, unless it has one. Returns whether it was made.

        A row that holds NaN or infinity ends the recording: the file keeps what came before.
        """
        if self._writer is None or self._recorded == self.step or self._diverged:
            return False
        try:
            columns = self._columns()
        except CheckpointError:
            columns, self._diverged = {name: self._said[name][:0] for name in recording.COLUMNS}, True
        self._append(columns, self.step)
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
        if self._writer is None:
            return
        if last:
            self.record()
        if self._losses:  # those that came after their step's record
            self._append({name: column[:0] for name, column in self._said.items()}, self._recorded)
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

    def _append(self, columns: Mapping[str, np.ndarray], step: int) -> None:
        assert self._writer is not None
        losses = [(at, float(loss)) for at, loss in self._losses]
        self._losses.clear()
        wrong = any(not math.isfinite(loss) for _, loss in losses)
        kept = [(at, loss) for at, loss in losses if math.isfinite(loss)]
        self._writer.append(recording.Record(step, columns, kept, self._diverged or wrong))

    def _go_on(self, at: int, shape: tuple[int, int]) -> int:
        """Take up a recording at a step. Returns the bytes of it that stay; 0 where it has no record of then."""
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
        self._losses += losses
        return end


def _together() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
