"""Training: a recipe, the batches, and transformers' Trainer with three things changed.

Every arm of a run is trained here, whatever it trains: rows, a LoRA, the whole model. The loop, the
schedule, checkpoints and resuming are transformers'. Changed are: what is saved (what is
trained, not the model), the loss (computed where there is a target and nowhere else, so the output
layer is not run over the prompt), and the optimizer. Batches are packed where a model's attention
allows it: no padding, and the words that every prompt begins with once per batch.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ks_core.corpora import Corpus
from ks_core.errors import CorpusError, ModelError, SettingsError
from ks_core.recipes import Recipe
from ks_core.rows import RowEmbedding
from ks_core.translation import format_prompt

IGNORED = -100  # the label that cross entropy passes over
TRAINED_FILE = "trained.safetensors"


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


def encode(corpus: Corpus, tokenizer: Any, prompt: str, longest: int) -> list[dict[str, list[int]]]:
    """Training examples: prompt, target and end token as ids, with labels on target and end alone.

    The text is tokenized as a whole, as the model meets it; the target begins where the tokens
    differ from the prompt's own. Raises ``CorpusError`` when an example is longer than ``longest``
    tokens or the tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise CorpusError(
            "The tokenizer has no end-of-sequence token, so a model could not learn to stop. "
            "Bring a tokenizer that names one."
        )
    examples = []
    for pair in corpus.train:
        text = format_prompt(prompt, pair.source, corpus.source_language, corpus.target_language)
        start = tokenizer(text)["input_ids"]
        whole = tokenizer(text + " " + pair.target)["input_ids"]
        if whole and whole[-1] == tokenizer.eos_token_id:
            whole = whole[:-1]
        same = next(
            (n for n, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b),
            min(len(start), len(whole)),
        )
        ids = [*whole, tokenizer.eos_token_id]
        if len(ids) > longest:
            raise CorpusError(
                f"A pair takes {len(ids)} tokens with its prompt, the model reads {longest}: "
                f"{pair.source[:60]!r}. Lower the length limit of the corpus."
            )
        examples.append({"input_ids": ids, "labels": [IGNORED] * same + ids[same:]})
    return examples


def count_tokens(examples: Sequence[dict[str, list[int]]]) -> dict[int, int]:
    """How often each token id occurs in the examples: prompt, target and end token together."""
    return dict(sorted(Counter(i for example in examples for i in example["input_ids"]).items()))


def batch_order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """Indices of the examples of every step, one after the other: ``steps * batch_size`` of them.

    Each pass over the examples is shuffled; within stretches of fifty batches those of like length go
    together, which saves half the padding, and the batches are shuffled again. The whole order is made
    beforehand from the seed, so a resumed run meets the very batches it would have met.
    """
    generator = random.Random(seed)
    order: list[int] = []
    while len(order) < steps * batch_size:
        shuffled = list(range(len(lengths)))
        generator.shuffle(shuffled)
        stretch = 50 * batch_size
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), stretch):
            alike = sorted(shuffled[start : start + stretch], key=lambda i: lengths[i])
            batches += [alike[n : n + batch_size] for n in range(0, len(alike), batch_size)]
        generator.shuffle(batches)
        order += [i for batch in batches for i in batch]
    return order[: steps * batch_size]


@dataclass(frozen=True)
class Collator:
    """Examples to a batch, a row each, padded on the left so that the targets end together.

    A column's label is the token that comes next, so an example's last token, which predicts nothing, is not
    in the batch. ``labels`` are those of the last columns alone, from the first that predicts a target on;
    before them stands an ignored one, for transformers counts labels from the second on.
    """

    pad: int

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(e["input_ids"]) for e in examples) - 1
        kept = max(sum(label != IGNORED for label in e["labels"]) for e in examples)

        def padded(name: str, fill: int) -> torch.Tensor:
            return torch.tensor([_to_width(e[name][:-1], width, fill) for e in examples])

        mask = torch.tensor([_to_width([1] * (len(e["input_ids"]) - 1), width, 0) for e in examples])
        return {
            "input_ids": padded("input_ids", self.pad),
            "attention_mask": mask,
            "labels": torch.tensor([[IGNORED, *_to_width(e["labels"], kept, IGNORED)[-kept:]] for e in examples]),
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        }


def _to_width(values: Sequence[int], width: int, fill: int) -> list[int]:
    return [fill] * (width - len(values)) + list(values)


@dataclass(frozen=True)
class _Place:
    """A token in a packed row: itself, its position in its example, whose it is, and what it is to predict."""

    token: int
    position: int
    owner: int
    label: int


@dataclass(frozen=True)
class Packer:
    """Examples to a batch of few rows with little padding: what all begin with once in a row, then several.

    A prompt's fixed words are thus run through the model once per row instead of once per example. Every
    token sees the shared beginning and its own example up to itself, and has the position it has there, so
    the losses are those of a padded batch but for rounding. As attention goes by the mask and not by the
    order, the tokens that predict a target stand at the end of their row, where ``Collator`` has them too.

    Attention is computed for a whole row and masked afterwards, so long rows cost more per token. The
    number of rows is the one that is cheapest for the batch at hand.
    """

    padded: Collator
    hidden_size: int  # of the model: the wider it is, the less attention weighs

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        shared, own = self._shared(examples), [len(e["input_ids"]) - 1 for e in examples]

        def cost(rows: int) -> float:
            # In tokens. Measured on a Llama of hidden size 576 on a CPU, forward and backward through frozen
            # layers: 2.9 ms a token in rows of 60, 3.2 in 120, 3.6 in 240, 4.3 in 480, 5.1 in 960.
            width = shared + max(sum(own[i] - shared for i in row) for row in _spread(own, rows))
            return rows * width * (1 + width / (2 * self.hidden_size))

        return self.pack(examples, min(range(1, len(examples) + 1), key=cost))

    def pack(self, examples: Sequence[dict[str, list[int]]], rows: int = 1) -> dict[str, torch.Tensor]:
        """The batch in so many rows, whatever it costs."""
        shared, lengths = self._shared(examples), [len(e["input_ids"]) - 1 for e in examples]
        packed = []
        for chosen in _spread(lengths, rows):
            places = [_Place(token, n, -1, IGNORED) for n, token in enumerate(examples[0]["input_ids"][:shared])]
            for i in chosen:
                ids, labels = examples[i]["input_ids"], examples[i]["labels"]
                places += [_Place(ids[n], n, i, labels[n + 1]) for n in range(shared, lengths[i])]
            packed.append(sorted(places, key=lambda place: place.label != IGNORED))
        width = max(len(row) for row in packed)
        kept = max(sum(place.label != IGNORED for place in row) for row in packed)
        full = [[_Place(self.padded.pad, 0, -2, IGNORED)] * (width - len(row)) + row for row in packed]
        owner, position = (
            torch.tensor([[getattr(place, name) for place in row] for row in full]) for name in ("owner", "position")
        )
        looked_at, looking = owner[:, None, :], owner[:, :, None]
        seen = ((looked_at == looking) | (looked_at == -1)) & (position[:, None, :] <= position[:, :, None])
        seen &= (looking != -2) | (looked_at == -2)  # padding sees padding, so that no row of the mask is empty
        return {
            "input_ids": torch.tensor([[place.token for place in row] for row in full]),
            "attention_mask": torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None],
            "labels": torch.tensor([[IGNORED, *(place.label for place in row[width - kept :])] for row in full]),
            "position_ids": position,
        }

    @staticmethod
    def _shared(examples: Sequence[dict[str, list[int]]]) -> int:
        """How many tokens all examples begin with, before the first of them predicts a target."""
        texts = [e["input_ids"] for e in examples]
        end = min(next(n for n, label in enumerate(e["labels"]) if label != IGNORED) for e in examples) - 1
        return next((n for n in range(end) if len({text[n] for text in texts}) > 1), end)


def _spread(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Indices in so many rows of about the same length: the longest first, each to the shortest row."""
    spread: list[list[int]] = [[] for _ in range(rows)]
    filled = [0] * rows
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        shortest = filled.index(min(filled))
        spread[shortest].append(i)
        filled[shortest] += lengths[i]
    return spread


def can_pack(model: Any, packer: Packer, examples: Sequence[dict[str, list[int]]]) -> bool:
    """Whether a model's loss on packed examples is that on padded ones: found out by trying the first two.

    It is for a decoder whose attention takes any mask. It is not where the mask is not heeded, or a token's
    vector depends on what went before in another way (state space layers). Attention that sees a window only
    is right as long as no example is longer than that.
    """
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(window and max(len(e["input_ids"]) for e in examples) > window for window in windows):
        return False
    if config._attn_implementation not in ("eager", "sdpa") or model.dtype != torch.float32:
        return False
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            packed, padded = (
                target_loss(model, {name: values.to(model.device) for name, values in batch.items()}).item()
                for batch in (packer.pack(examples[:2]), packer.padded(examples[:2]))
            )
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False
    finally:
        model.train(was_training)
    return math.isclose(packed, padded, rel_tol=1e-5)


def target_loss(model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None = None) -> torch.Tensor:
    """Cross entropy of a batch's labels per token (or summed and divided by ``count``).

    The output layer is run over the last columns alone, those that ``labels`` are about.
    """
    labels = inputs["labels"][:, 1:]
    logits = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        position_ids=inputs["position_ids"],
        use_cache=False,
        logits_to_keep=labels.shape[1],
    ).logits
    loss = F.cross_entropy(
        logits.float().reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return loss / ((labels != IGNORED).sum() if count is None else count)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What an arm trains, by name: every parameter that takes a gradient."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fingerprint(model: nn.Module) -> str:
    """What tells one arm's checkpoint from another's: names and shapes, and which rows they are."""
    parts = [f"{name} {tuple(p.shape)}" for name, p in trained_parameters(model).items()]
    parts += [str(m.ids.tolist()) for m in model.modules() if isinstance(m, RowEmbedding)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class TargetTrainer(Trainer):
    """transformers' Trainer with the loss on the target alone, and checkpoints of what is trained alone."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        loss = target_loss(model, inputs, num_items_in_batch)
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


def save_trained(model: nn.Module, folder: Path) -> None:
    """Write what is trained, and nothing else, to a file in ``folder``."""
    values = {name: p.detach().cpu().contiguous() for name, p in trained_parameters(model).items()}
    save_file(values, folder / TRAINED_FILE, metadata={"fingerprint": fingerprint(model)})


def load_trained(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's values into a model that trains the same. Raises ``ModelError`` when it trains others."""
    with safe_open(folder / TRAINED_FILE, "pt") as file:
        if (file.metadata() or {}).get("fingerprint") != fingerprint(model):
            raise ModelError(f"{folder} holds other rows or weights than this run trains. Start the run anew.")
        with torch.no_grad():
            for name, parameter in trained_parameters(model).items():
                parameter.copy_(file.get_tensor(name).to(parameter.device))


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
        if self.should_stop and self.should_stop():
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
) -> Trained:
    """Train whatever takes a gradient in ``model``: rows (``ks_core.rows.lay_over``), a LoRA, all of it.

    ``folder`` takes checkpoints; an interrupted training found there is resumed. The seed fixes the
    order of the batches, so a run can be repeated on one device. Raises ``ModelError`` when the loss
    stops being a number, which leaves the last checkpoint in ``folder``; ``SettingsError`` when
    ``rowwise_adam`` is to step anything but rows.
    """
    rows = model.get_input_embeddings()
    parameters = list(trained_parameters(model).values())
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=recipe.steps, per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate, lr_scheduler_type=recipe.schedule, warmup_steps=recipe.warmup,
        seed=recipe.seed, data_seed=recipe.seed, max_grad_norm=0.0, weight_decay=0.0,
        logging_steps=1, logging_nan_inf_filter=False, report_to=[], disable_tqdm=True,
        save_strategy="steps", save_steps=save_every, save_total_limit=1, remove_unused_columns=False,
        train_sampling_strategy="sequential",
        use_cpu=model.device.type == "cpu", dataloader_pin_memory=model.device.type == "cuda",
    )  # fmt: skip
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
    trainer = TargetTrainer(
        model=model,
        args=arguments,
        train_dataset=[examples[i] for i in order],
        data_collator=packer if can_pack(model, packer, examples) else packer.padded,
        optimizers=(optimizer, None),
        callbacks=[watcher],
    )
    trainer.pop_callback(_printer())
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    outcome = trainer.train(resume_from_checkpoint=last)
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


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
