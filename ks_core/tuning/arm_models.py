"""The model as an arm makes it: rows over the frozen base, a LoRA, every weight; trained, copied, or moved at random.

The model is loaded once. Arms of rows lay them over its input embedding and take them off again; the
body is never written to. A model that ties its output layer to its input is thereby untied.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import whole
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import Cancelled, SettingsError, TicketError
from ks_core.jobs import devices, world
from ks_core.registry import named
from ks_core.signature import versions
from ks_core.store import workspace
from ks_core.study.scan import readable
from ks_core.tickets.ticket import Ticket
from ks_core.trajectory import recording
from ks_core.translation.prompts import template
from ks_core.tuning.arms import ARMS, Arm, choose_rows
from ks_core.tuning.row_choice import Material, balance_of
from ks_core.tuning.workbench import Bench, write_once

#: The model as the arm makes it, and what is known of it; the bench's model is the base again afterwards.
Made = Iterator[tuple[Any, dict[str, Any]]]


def prepared(
    bench: Bench, arm: Arm, place: Path, title: str
) -> contextlib.AbstractContextManager[tuple[Any, dict[str, Any]]]:
    """The model as the arm's kind makes it, and what is known of it; the bench's model is the base again afterwards."""
    return named(ARMS[arm.kind].model)(bench, arm, place, title)


@contextlib.contextmanager
def base(bench: Bench, arm: Arm, place: Path, title: str) -> Made:
    """The base as it is."""
    yield bench.model, {"trainable": 0}


@contextlib.contextmanager
def given(bench: Bench, arm: Arm, place: Path, title: str) -> Made:
    """The tuned checkpoint as it is: the bench's own model with rows over it where that is all it is, or a second one."""
    from ks_core.likelihood.rows import lift_off
    from ks_core.tuning.models import lay_rows_of, load_model

    tuned = open_checkpoint(bench.plan.tuned, beside=bench.plan.base)
    if not whole.is_rows_over(tuned, bench.checkpoint):
        bench.report(0, 1, f"{title}: loading", stage=f"{place.name} load")
        yield load_model(bench.plan.tuned, bench.device, bench.plan.resources, bench.plan.base)[0], {"trainable": 0}
        return
    try:
        lay_rows_of(tuned, bench.model)
        yield bench.model, {"trainable": 0}
    finally:
        lift_off(bench.model)


@contextlib.contextmanager
def lora(bench: Bench, arm: Arm, place: Path, title: str) -> Made:
    """Low-rank updates inside the layers."""
    from ks_core.tuning.models import with_lora

    assert arm.recipe is not None
    with with_lora(bench.model, arm.rank, arm.recipe.seed) as model:
        yield model, _trained(bench, arm, model, place, title, lambda: model.save_pretrained(place / "adapter"))


@contextlib.contextmanager
def prefix(bench: Bench, arm: Arm, place: Path, title: str) -> Made:
    """Keys and values before the text."""
    from ks_core.tuning.prefix import check_room, with_prefix

    assert arm.recipe is not None
    begun = list(
        itertools.islice(itertools.chain.from_iterable(e["input_ids"] for e in bench.examples), arm.virtual_tokens)
    )
    with with_prefix(bench.model, arm, arm.recipe.seed, begun) as model:
        check_room(model, bench.examples)
        yield model, _trained(bench, arm, model, place, title, lambda: model.save_pretrained(place / "adapter"))


@contextlib.contextmanager
def full(bench: Bench, arm: Arm, place: Path, title: str) -> Made:
    """A second copy of the model, every weight of it trained."""
    with _whole(bench) as model:
        yield model, _trained(bench, arm, model, place, title, lambda: _save_whole(bench, model, place / "model"))


@contextlib.contextmanager
def rows(bench: Bench, arm: Arm, place: Path, title: str) -> Made:
    """Rows over the frozen base: trained, copied, or moved at random."""
    from ks_core.likelihood.rows import lay_over, lift_off
    from ks_core.tuning.models import put_rows

    model, kind = bench.model, ARMS[arm.kind]
    material, ticket = bench.material, None
    sized_by_it = arm.k is None and arm.kind in ("frequent", "prompt") and bench.plan.has_ticket
    if kind.needs_ticket or sized_by_it:
        ticket = bench.ticket(arm.alpha)
        material = material.with_ticket(ticket.token_ids)
    elif bench.plan.has_ticket and arm.kind != "embed":
        with contextlib.suppress(TicketError):  # only to say how many of its rows are in it
            ticket = bench.ticket(arm.alpha)
    ids = choose_rows(arm, material)
    laid = lay_over(model, ids)
    try:
        facts: dict[str, Any] = {"rows": ids, **_against(ticket, arm, ids, material)}
        if kind.needs_tuned_rows or arm.copied:
            values = bench.tuned_rows(ids)
            start = laid.base.weight.detach()[ids].float().cpu().numpy()
            if arm.kind == "noise":
                values = random_delta(start, values, arm.seed)
            place_of = {int(i): n for n, i in enumerate(ids)}
            put_rows(laid, values[[place_of[int(i)] for i in laid.ids.tolist()]])
            if world.is_main():
                _save_rows(bench, arm, place, laid, ids, ticket)
            facts["trainable"] = 0
        else:
            facts |= _trained(
                bench, arm, model, place, title, lambda: _save_rows(bench, arm, place, laid, ids, ticket)
            )  # fmt: skip
        yield model, facts
    finally:
        lift_off(model)


def _against(ticket: Ticket | None, arm: Arm, ids: Sequence[int], material: Material) -> dict[str, Any]:
    """How an arm's rows stand to the ticket's: how many are in it, and of a matched control how well it matches."""
    if ticket is None:
        return {}
    matched = balance_of(arm.kind, arm, material)
    found: dict[str, Any] = {"in_ticket": len(set(ids) & set(ticket.token_ids)), "ticket_size": len(ticket)}
    return found | ({"balance": {**asdict(matched), "sentence": matched.sentence}} if matched else {})


def random_delta(before: np.ndarray, after: np.ndarray, seed: int) -> np.ndarray:
    """Rows (k, d) moved from ``before`` as far as ``after`` did, each in a random direction. float32.

    The control of the KS-Lottery replication: same norms, no training.
    """
    noise = np.random.default_rng(seed).standard_normal(before.shape)
    noise *= np.linalg.norm(after - before, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return (before + noise).astype(np.float32)


def _trained(bench: Bench, arm: Arm, model: Any, place: Path, title: str, save: Callable[[], Any]) -> dict[str, Any]:
    """Train what takes a gradient, save it, and say how it went. Finds a finished training again."""
    from ks_core.tuning.saved_training import load_trained, save_trained, trained_parameters
    from ks_core.tuning.trainer import train

    facts: dict[str, Any] = {"trainable": sum(p.numel() for p in trained_parameters(model).values())}
    record = place / "training.json"
    noted = world.agree(workspace.read_json(record))
    if isinstance(noted, dict):  # stopped while it was being scored
        load_trained(model, place)
        return facts | noted
    assert arm.recipe is not None
    recipe, number = arm.recipe, int(place.name[:2])

    def progress(step: int, steps: int, loss: float) -> None:
        bench.event(arm=number, step=step, steps=steps, loss=loss)
        with contextlib.suppress(Cancelled):  # the trainer is asked to stop by itself, so that it can save first
            bench.report(
                step, steps, f"{title}: training, loss {loss:.3f}", unit="steps", stage=f"{place.name} training"
            )

    outcome = train(
        model, bench.tokenizer, bench.examples, recipe, place / "checkpoints", progress=progress,
        should_stop=bench.should_stop, save_every=25 if arm.kind != "full" else 200,
        # What is computed anew does not see a prefix: transformers takes the keys and values away that are given.
        checkpointing=bench.plan.resources.checkpointing and arm.kind != "prefix", base=bench.plan.base,
        record=place / recording.FILE if arm.kind == "embed" else None,
    )  # fmt: skip
    if outcome.stopped:
        raise Cancelled
    if world.is_main():
        save()
        save_trained(model, place)  # for a run that is stopped while it is being scored
    found = {
        "losses": [list(loss) for loss in outcome.losses], "training_seconds": outcome.seconds, "training_tokens": outcome.tokens,
        "tokens_per_second": outcome.tokens / outcome.seconds if outcome.seconds else None,
    }  # fmt: skip
    write_once(record, found)
    return facts | found


def _save_rows(bench: Bench, arm: Arm, place: Path, laid: Any, ids: Sequence[int], ticket: Ticket | None) -> None:
    """The rows as a ticket folder that peft loads, with everything that is known of them."""
    values = laid.rows.detach().float().cpu().numpy()
    place_of = {int(i): n for n, i in enumerate(laid.ids.tolist())}
    ordered = values[[place_of[i] for i in ids]]
    if arm.kind == "embed":  # rows that the batches never met are the base's
        start = laid.base.weight.detach()[list(ids)].float().cpu().numpy()
        moved = (ordered != start).any(axis=1)
        ids, ordered = [i for i, m in zip(ids, moved, strict=True) if m], ordered[moved]
    strings = bench.checkpoint.vocabulary.readable_list() if bench.checkpoint.vocabulary else None
    is_ticket = ticket is not None and arm.kind in ("partial", "transfer")
    known = (
        dict(zip(ticket.token_ids, zip(ticket.statistic, ticket.pvalue, strict=True), strict=True)) if ticket else {}
    )
    made = Ticket(
        token_ids=list(ids),
        tokens=[readable(strings, i) for i in ids],
        statistic=[known[i][0] for i in ids] if is_ticket else [],
        pvalue=[known[i][1] for i in ids] if is_ticket else [],
        rule=ticket.rule if is_ticket and ticket else arm.kind,
        alpha=ticket.alpha if is_ticket and ticket else None,
        base=bench.plan.base,
        signature=str(bench.signature.with_fields(arm=arm.kind)),
        about={
            "arm": arm.name,
            "corpus": {"name": bench.corpus.name, "hash": bench.corpus.content_hash},
            "prompt": template(bench.plan.prompt),
            "recipe": arm.recipe.as_dict() if arm.recipe else None,
            "base_hash": bench.checkpoint.content_hash,
            "tokenizer_hash": bench.checkpoint.vocabulary.content_hash if bench.checkpoint.vocabulary else None,
            "tied": bench.checkpoint.tied,
            "peft": _beside(laid),
            "versions": versions("torch", "transformers", "peft", "sacrebleu"),
        },
        rows=ordered,
        module=next(name for name, module in bench.model.named_modules() if module is laid),
    )
    made.save(place / "adapter")


def _beside(laid: Any) -> str | None:
    """What peft, which looks up by itself, leaves out of what these rows do here; ``None`` where it is nothing."""
    import torch

    kind = type(laid.base)
    left = (
        [f"what a {kind.__name__} does besides"]
        if kind is not torch.nn.Embedding and not hasattr(laid.base, "embed_scale")
        else []
    )
    left += ["the rows that the decoder reads"] if laid.others else []
    return f"leaves out {' and '.join(left)}; KS-Lottery Explorer loads it as it was trained" if left else None


@contextlib.contextmanager
def _whole(bench: Bench) -> Iterator[Any]:
    """A second copy of the model with every weight trainable; refused where it would not fit.

    A decoder is untied, as the other arms have it. The matrix of an encoder-decoder stays one: transformers ties it again
    whenever the model is loaded, and scales the output by whether it is tied.
    """
    import torch

    from ks_core.likelihood.rows import encoder_of, reading
    from ks_core.tuning.models import load_model

    count = sum(p.numel() for p in bench.model.parameters())
    together = world.size() if bench.device == "cpu" else 1  # these share one memory
    needed, free = 20 * count * together, world.agree(devices.free_memory(bench.device))
    if needed > free:
        raise SettingsError(
            f"Full tuning of {count / 1e6:,.0f} million weights takes about {needed / 1e9:,.1f} GB (weights, gradients and "
            f"two moments in float32, and a quarter more); {free / 1e9:,.1f} GB are free. Leave this arm out, or use a "
            "machine with more memory."
        )
    # Its weights are what is trained, and those are float32 whatever the others are held in.
    model, _ = load_model(bench.plan.base, bench.device, replace(bench.plan.resources, precision="float32"))
    try:
        output = model.get_output_embeddings()
        if output is not None and output.weight is reading(model).weight and encoder_of(model) is model:
            output.weight = torch.nn.Parameter(output.weight.detach().clone())
            model.config.tie_word_embeddings = False
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        yield model
    finally:
        del model
        gc.collect()


def _save_whole(bench: Bench, model: Any, folder: Path) -> None:
    needed = 4 * sum(p.numel() for p in model.parameters())
    if shutil.disk_usage(folder.parent).free > 2 * needed:
        model.save_pretrained(folder)
        bench.tokenizer.save_pretrained(folder)
