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
from ks_core.tuning.batches import IGNORED, Collator, Packer, batch_order, can_pack, target_loss
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.rows import RowEmbedding
from ks_core.tuning.saved_training import last_whole, load_trained, save_trained, trained_parameters


class RowwiseAdam(torch.optim.SparseAdam):
    """Adam that steps only the rows the batch used, and leaves the others' moments alone.

    The arithmetic is ``torch.optim.SparseAdam``'s. The gradient arrives dense (k, d), so that norms
    and distributed averaging work as for any parameter; rows of zeros in it were not used.
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


class TargetTrainer(Trainer):
    """transformers' Trainer with the loss on the target alone, and checkpoints of what is trained alone."""

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
        loss = target_loss(model, inputs, self.accelerator.reduce(count) if together > 1 else count) * together
        return (loss, {"loss": loss}) if return_outputs else loss

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

    ``tokens`` are those that went through the model, prompts included and padding not. After a resume the
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
) -> Trained:
    """Train whatever takes a gradient in ``model``: rows (``ks_core.tuning.rows.lay_over``), a LoRA, all of it.

    ``folder`` takes checkpoints; an interrupted training found there is resumed. The seed fixes the
    order of the batches, so a run can be repeated on one device. Raises ``ModelError`` when the loss
    stops being a number, which leaves the last checkpoint in ``folder``; ``SettingsError`` when
    ``rowwise_adam`` is to step anything but rows.

    Processes that work together (``ks_core.jobs.world``) share each step's batch: its examples are the same however many
    there are, and so are loss and gradient but for the order in which they are summed. ``checkpointing`` keeps no
    activations inside layers.
    """
    rows = model.get_input_embeddings()
    parameters = list(trained_parameters(model).values())
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=recipe.steps, per_device_train_batch_size=1,  # an item is a batch
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
        optimizer = RowwiseAdam(parameters, lr=recipe.learning_rate, betas=betas)
    else:
        raise SettingsError("rowwise_adam steps embedding rows alone. Choose adam for LoRA and full tuning.")
    watcher = _Watcher(progress, should_stop)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    packer = Packer(Collator(pad), rows.weight.shape[1])
    order = batch_order([len(e["input_ids"]) for e in examples], recipe.batch_size, recipe.steps, recipe.seed)
    collate = packer if can_pack(model, packer, examples) else packer.padded
    trainer = TargetTrainer(
        model=model,
        args=arguments,
        train_dataset=_shares([examples[i] for i in order], recipe.batch_size, world.size()),
        data_collator=lambda items: collate(items[0]),
        optimizers=(optimizer, None),
        callbacks=[watcher],
    )
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
    tokens = sum(len(examples[i]["input_ids"]) for i in met)
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
