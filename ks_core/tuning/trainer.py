"""Training: transformers' Trainer with three things changed.

Every arm of a run is trained here, whatever it trains: rows, a LoRA, the whole model. The loop, the
schedule, checkpoints and resuming are transformers'. Changed are: what is saved (what is trained, not the
model: ``saved_training``), the batches and the loss (``batches``), and the optimizer.
"""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from ks_core.errors import ModelError, SettingsError
from ks_core.jobs import sharding, world
from ks_core.likelihood.batches import Collator, LossParts, PairCollator, batch_order, target_loss
from ks_core.likelihood.examples import IGNORED, fed
from ks_core.likelihood.packing import Packer, can_pack
from ks_core.likelihood.rows import RowEmbedding, reading
from ks_core.trajectory.callback import KSLotteryCallback
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.saved_training import last_whole, load_trained, save_trained, trained_parameters


class RowwiseAdam(torch.optim.SparseAdam):
    """Adam that steps only the rows the batch used, and leaves the others' moments alone ("lazy Adam").

    The arithmetic is ``torch.optim.SparseAdam``'s, which TensorFlow's LazyAdam shares: the moments are a row's own, the
    step count t of the bias correction is the whole training's. A row that is met for the first time at step t so moves
    by ``lr * sqrt(1 - beta2^t) / (1 - beta1^t) * (1 - beta1) / sqrt(1 - beta2)`` in every value, whatever its gradient
    (less where that is not far above 3e-7, as eps is added before the correction): by 0.70 lr at t = 50 and 1.61 lr at
    t = 300. ``AdamPerRow`` counts for each row instead; ``recipes`` says what that does.

    The gradient arrives dense (k, d), so that norms and distributed averaging work as for any parameter; rows of zeros
    in it were not used.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for rows in group["params"]:
                if rows.grad is not None and not rows.grad.is_sparse:
                    used = rows.grad.abs().amax(dim=1).nonzero().T
                    rows.grad = torch.sparse_coo_tensor(
                        used, rows.grad[used[0]], rows.shape, is_coalesced=True, check_invariants=False
                    )
        return super().step(closure)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _same_kind(state_dict, "step")
        super().load_state_dict(state_dict)


class AdamPerRow(torch.optim.Optimizer):
    """An Adam for every row: its own moments and its own count of steps, those that used it.

    A row moves as ``torch.optim.Adam`` would move it had it been given that row's gradients alone; rows that a batch did
    not use (zeros in the dense gradient (k, d)) stay as they are. As in ``dgl.optim.SparseAdam`` (``state_step``) and
    FBGEMM's Adam with ``use_rowwise_bias_correction`` (``row_counter``, pytorch/FBGEMM pull requests 3342 and 3558).
    Kingma and Ba (2015), arXiv 1412.6980, algorithm 1. Of one step Adam knows the sign alone, so a row that is met once
    still moves by the same amount in every value: by lr, at whatever step.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for rows in group["params"]:
                if rows.grad is None:
                    continue
                state = self.state[rows]
                if not state:
                    state["steps"] = torch.zeros(len(rows), dtype=torch.float32, device=rows.device)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(rows), torch.zeros_like(rows)
                used = rows.grad.abs().amax(dim=1).nonzero()[:, 0]
                gradient, steps = rows.grad[used], state["steps"][used] + 1
                mean = beta1 * state["exp_avg"][used] + (1 - beta1) * gradient
                square = beta2 * state["exp_avg_sq"][used] + (1 - beta2) * gradient.square()
                state["steps"][used], state["exp_avg"][used], state["exp_avg_sq"][used] = steps, mean, square
                # Powers in float64: 1 - 0.999 in float32 is off in the fifth digit.
                left1, left2 = ((1 - beta ** steps.double()).to(rows.dtype)[:, None] for beta in (beta1, beta2))
                rows[used] -= group["lr"] * (mean / left1) / ((square / left2).sqrt() + group["eps"])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _same_kind(state_dict, "steps")
        super().load_state_dict(state_dict)


def _same_kind(state_dict: dict[str, Any], count: str) -> None:
    """Raise ``ModelError`` for a checkpoint of another optimizer, told by how it counts steps."""
    if any(count not in state for state in state_dict["state"].values()):
        raise ModelError(
            "The checkpoint was written by another optimizer than the recipe names, and going on from it would mix the "
            "two. Name the optimizer that it was trained with, or start the training anew."
        )


#: What steps rows alone, by the recipe's name for it.
ROW_OPTIMIZERS = {"rowwise_adam": RowwiseAdam, "adam_per_row": AdamPerRow}


class TargetTrainer(Trainer):
    """transformers' Trainer with the loss on the target alone, and checkpoints of what is trained alone.

    With ``parts`` it logs the loss of content and of the end token beside the whole, both over all processes.
    """

    parts: LossParts | None = None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        # The mean over the step's targets in all processes. They average their gradients, so each loss counts for all.
        count = (inputs["labels"][:, 1:] != IGNORED).sum()
        together = self.accelerator.num_processes
        if self.args.gradient_accumulation_steps > 1:  # a batch of several parts: its targets in all of them
            assert num_items_in_batch is not None
            shared = num_items_in_batch
        else:
            shared = self.accelerator.reduce(count) if together > 1 else count
        loss = target_loss(model, inputs, shared, self.parts) * together
        return (loss, {"loss": loss}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.parts is not None and "loss" in logs:  # of a training's steps, and so in every process
            found = self.parts.take(self.accelerator.reduce)
            logs |= {f"loss_{name}": value for name, value in found.items()}
        super().log(logs, start_time)

    def _unwrapped(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # A checkpoint holds what was trained. The rest of the model has not changed.
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_trained(self._unwrapped(), folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trained(self._unwrapped(), Path(resume_from_checkpoint))


class _Watcher(TrainerCallback):
    """Tells about each step, stops when asked, and stops at a loss that is no number."""

    def __init__(self, progress: Callable[[int, int, float], None] | None, should_stop: Callable[[], bool] | None):
        self.progress, self.should_stop = progress, should_stop
        self.losses: list[tuple[int, float]] = []
        self.stopped, self.diverged = False, False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        self.losses.append((state.global_step, loss))
        if not math.isfinite(loss):
            self.diverged = control.should_training_stop = True
        elif self.progress:
            self.progress(state.global_step, state.max_steps, loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if world.agree(bool(self.should_stop and self.should_stop())):
            self.stopped = control.should_training_stop = control.should_save = True


@dataclass(frozen=True)
class Trained:
    """How a training went: loss per step, seconds, and whether it was stopped before its end.

    ``tokens`` are those that the model read, prompts included, padding and end tokens not. After a resume the
    losses are those of the whole run, seconds and tokens those since.
    """

    losses: list[tuple[int, float]]
    seconds: float
    tokens: int
    stopped: bool


def train(
    model: Any,
    tokenizer: Any,
    examples: Sequence[dict[str, list[int]]],
    recipe: Recipe,
    folder: Path,
    *,
    progress: Callable[[int, int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    save_every: int = 50,
    checkpointing: bool = False,
    record: Path | None = None,
    base: str = "",
) -> Trained:
    """Train whatever takes a gradient in ``model``: rows (``ks_core.likelihood.rows.lay_over``), a LoRA, all of it.

    ``folder`` takes checkpoints; an interrupted training found there is resumed. The seed fixes the
    order of the batches, so a run can be repeated on one device. Raises ``ModelError`` when the loss
    stops being a number, which leaves the last checkpoint in ``folder``, and for a checkpoint there of the other
    of ``ROW_OPTIMIZERS``; ``SettingsError`` when one of these is to step anything but rows.

    Processes that work together (``ks_core.jobs.world``) share each step's batch: its examples are the same however many
    there are, and so are loss and gradient but for the order in which they are summed. ``checkpointing`` keeps no
    activations inside layers. ``record`` takes a recording of how the embedding drifts (``ks_core.trajectory``), of which ``base``
    names the start.
    """
    rows = reading(model)
    parameters = list(trained_parameters(model).values())
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=recipe.steps, per_device_train_batch_size=1,  # an item is a batch
        gradient_accumulation_steps=recipe.accumulate,
        learning_rate=recipe.learning_rate, lr_scheduler_type=recipe.schedule, warmup_steps=recipe.warmup,
        seed=recipe.seed, data_seed=recipe.seed, max_grad_norm=0.0, weight_decay=0.0,
        logging_steps=1, logging_nan_inf_filter=False, report_to=[], disable_tqdm=True,
        save_strategy="steps", save_steps=save_every, save_total_limit=1, remove_unused_columns=False,
        train_sampling_strategy="sequential",
        ddp_find_unused_parameters=False, activation_checkpointing=checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        use_cpu=model.device.type == "cpu", dataloader_pin_memory=model.device.type == "cuda",
    )  # fmt: skip
    arguments._n_gpu = min(arguments.n_gpu, 1)  # or one process would split a batch over all GPUs by DataParallel
    betas = (recipe.beta1, recipe.beta2)
    if recipe.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=betas)
    elif isinstance(rows, RowEmbedding) and len(parameters) == 1:
        optimizer = ROW_OPTIMIZERS[recipe.optimizer](parameters, lr=recipe.learning_rate, betas=betas)
    else:
        raise SettingsError(
            f"{recipe.optimizer} steps embedding rows alone. Choose adam for LoRA, prefix and full tuning."
        )
    watcher = _Watcher(progress, should_stop)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    packer = Packer(Collator(pad), rows.weight.shape[1])
    pairs = PairCollator(pad) if is_encoder_decoder(model) else None
    order = batch_order([len(e["input_ids"]) for e in examples], recipe.batch_size, recipe.steps, recipe.seed)
    collate = pairs or (packer if can_pack(model, packer, examples) else packer.padded)
    trainer = TargetTrainer(
        model=model,
        args=arguments,
        train_dataset=_shares([examples[i] for i in order], recipe.batch_size, world.size() * recipe.accumulate),
        data_collator=lambda items: collate(items[0]),
        optimizers=(optimizer, None),
        # After the watcher: a training that is stopped saves at this step, and is recorded at it.
        callbacks=[watcher, *([KSLotteryCallback(record, base=base)] if record else [])],
    )
    trainer.model_accepts_loss_kwargs |= (
        recipe.accumulate > 1
    )  # so that the targets of all parts are counted before the first
    if record and tokenizer.eos_token_id is not None:
        trainer.parts = LossParts(tokenizer.eos_token_id)
    trainer.pop_callback(_printer())
    sharded = sharding.is_spread(model)
    if sharded:
        # The body is spread and takes no gradient; the rows are whole in each process, and their gradients are averaged.
        trainer.accelerator.prepare_model = lambda model, *_, **__: model
        averaged = [p.register_post_accumulate_grad_hook(_average) for p in parameters]
    before = world.agree(last_whole(folder, recipe.steps) if world.is_main() else None)
    try:
        outcome = trainer.train(resume_from_checkpoint=before)
    except pickle.UnpicklingError:
        raise ModelError(
            f"A checkpoint below {folder} holds more than numbers, and loading it could run code. It was not loaded; "
            "remove that folder and resume, and the training begins anew."
        ) from None
    finally:
        for hook in averaged if sharded else ():
            hook.remove()
        if checkpointing:
            model.activation_checkpointing_disable()
    if watcher.diverged:
        raise ModelError(
            f"The loss became {watcher.losses[-1][1]} at step {watcher.losses[-1][0]}. "
            "Lower the learning rate; what was trained before is kept."
        )
    losses = [(int(e["step"]), float(e["loss"])) for e in trainer.state.log_history if "loss" in e]
    now = trainer.state.global_step
    met = order[(now - len(watcher.losses)) * recipe.batch_size : now * recipe.batch_size]
    tokens = sum(len(fed(examples[i])) for i in met)
    return Trained(losses, float(outcome.metrics["train_runtime"]), tokens, watcher.stopped)


def _shares(examples: Sequence[Any], batch_size: int, processes: int) -> list[Sequence[Any]]:
    """Batches in the order in which a DataLoader deals them out: each step's, cut into a share for every process.

    >>> _shares("abcdefgh", 4, 2)
    ['ab', 'cd', 'ef', 'gh']
    """
    cuts = [batch_size * n // processes for n in range(processes + 1)]
    return [
        examples[start + a : start + b]
        for start in range(0, len(examples), batch_size)
        for a, b in itertools.pairwise(cuts)
    ]


def _average(parameter: torch.Tensor) -> None:
    """Replace a gradient by its mean over the processes."""
    assert parameter.grad is not None
    torch.distributed.all_reduce(parameter.grad)
    parameter.grad /= world.size()


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
