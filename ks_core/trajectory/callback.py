"""The callback by which transformers' Trainer records how its embedding drifts.

    from ks_core import KSLotteryCallback

    trainer = Trainer(model=model, args=args, train_dataset=data, callbacks=[KSLotteryCallback()])
    trainer.train()

The file is ``trajectory.arrow`` in the Trainer's output folder. It has a record of every tenth step, of every saved checkpoint and of
the last step, and it goes on where ``resume_from_checkpoint`` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ks_core.errors import SettingsError
from ks_core.trajectory import recording
from ks_core.trajectory.embedding import SPLIT, is_split_by_rows
from ks_core.trajectory.layout import PARTS
from ks_core.trajectory.recorder import EVERY, Recorder


class KSLotteryCallback(TrainerCallback):
    """Records D, p, shift and cosine of every embedding row that moves, and the steps and gradients that moved it.

    ``path`` is the file, by default ``trajectory.arrow`` in the output folder; ``every`` is in optimizer steps. ``start`` is needed where a
    training of the whole matrix goes on from a checkpoint: the source or the tensor that it began with. ``stored``: the
    dtype of the saved checkpoints where it is not the one that is trained. ``alpha`` is for ``log_to`` alone.

    The loss is the one that the Trainer logs. One that logs ``loss_content`` and ``loss_end`` beside it, in nats a token of either part, has
    these recorded too; Fine-tune's does.

    Raises, when training begins, what ``Recorder`` raises, and ``SettingsError`` under FSDP's first
    version, where no process has a whole row.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        every: int = EVERY,
        start: Any = None,
        stored: str | None = None,
        alpha: float = 0.05,
        base: str = "",
    ) -> None:
        self.path, self.every, self.start, self.stored, self.alpha, self.base = path, every, start, stored, alpha, base
        self.recorder: Recorder | None = None
        self._trainer: Any = None
        self._unlogged: dict[str, float] = {}

    def log_to(self, trainer: Any) -> KSLotteryCallback:
        """Log the ticket's size and the largest D of each record by this Trainer, to whatever its ``report_to`` names."""
        self._trainer = trainer
        return self

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        if getattr(args, "fsdp", None) and not is_split_by_rows(model):
            raise SettingsError(SPLIT)
        config = getattr(model, "config", None)
        self.recorder = Recorder(
            self.path or Path(args.output_dir) / recording.FILE, model, every=self.every, start=self.start, stored=self.stored,
            at=int(state.global_step), base=self.base or str(getattr(config, "_name_or_path", "") or ""),
            about={
                "steps": int(state.max_steps), "learning_rate": float(args.learning_rate), "schedule": str(getattr(args.lr_scheduler_type, "value", "")),
                "optimizer": type(getattr(optimizer, "optimizer", optimizer)).__name__, "seed": int(args.seed),
                "weight_decay": float(args.weight_decay), "warmup": int(args.get_warmup_steps(int(state.max_steps))),
                "betas": [float(beta) for beta in _first_group(optimizer).get("betas", ())],
            },
        )  # fmt: skip

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.recorder:
            self.recorder.before_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.recorder is None:
            return
        made = self.recorder.after_step()
        # A checkpoint has a point too, and so has the step from which a stopped training goes on.
        if control.should_save or control.should_training_stop or state.global_step >= state.max_steps:
            made = self.recorder.record() or made
        if made and self._trainer is not None:
            self._unlogged = self.recorder.summary(self.alpha)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Not where the record is made: a Trainer that logs anything forgets that it was to log the step's loss.
        self._log()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.recorder and logs and isinstance(logs.get("loss"), int | float):
            parts = {name: logs.get(f"loss_{name}") for name in PARTS}
            known = {name: float(value) for name, value in parts.items() if isinstance(value, int | float)}
            self.recorder.note(float(logs["loss"]), int(state.global_step), **known)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.recorder:
            # The best model, where that was loaded again, is not the one of the last step.
            self.recorder.close(last=not args.load_best_model_at_end)
            self.recorder = None
        self._log()

    def _log(self) -> None:
        found, self._unlogged = self._unlogged, {}
        if found:
            self._trainer.log({f"ks_lottery/{name}": value for name, value in found.items()})


def _first_group(optimizer: Any) -> dict[str, Any]:
    """The settings of an optimizer's first parameters, as plain as they are."""
    groups = getattr(optimizer, "param_groups", None)
    return dict(groups[0]) if groups else {}
