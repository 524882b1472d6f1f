"""A run: some arms tuned on one corpus under one prompt, each scored on the same held-out sentences.

    plan = Plan(arms=(Arm("base"), Arm("partial"), Arm("transfer")))
    run(plan, Path("my-run"), report=print)

A run is a folder. Every arm has one of its own in it, and what an arm has finished stays: a run that was
stopped goes on with the arm it was in, from that arm's last checkpoint. An arm that cannot be trained
(an empty ticket, a loss that is no number) says so in the table and the others go on.

    plan.json               what was asked
    arms/01-partial/        result.json, answers.json, adapter/ (what peft loads), checkpoints/ while it trains
    sweep.json              Partial Transfer at several alphas
    summary.json            the table, paired significance, signature

The model is loaded once. Arms of rows lay them over its input embedding and take them off again; the
body is never written to. A model that ties its output layer to its input is thereby untied.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ks_core import demo, devices, workspace, world
from ks_core.arms import NEED_TICKET, NEED_TUNED_ROWS, Arm, Material, choose_rows
from ks_core.checkpoints import Checkpoint, open_checkpoint
from ks_core.corpora import Corpus
from ks_core.errors import Cancelled, CorpusError, ModelError, SettingsError, TicketError
from ks_core.evaluation import HeldOut, evaluate_model, held_out, read_answers
from ks_core.plans import Plan
from ks_core.scores import compare, why_no_spbleu
from ks_core.signature import Signature, versions
from ks_core.study import Study, readable
from ks_core.tickets import TICKET_FILE, Ticket, select, ticket_of
from ks_core.translation import format_prompt, template

if TYPE_CHECKING:
    from ks_core.job_process import Running


class Report(Protocol):
    """How far a run is; raises ``Cancelled`` when it is to stop. ``Running.progress`` is one."""

    def __call__(self, done: float, total: float, message: str = "", *, unit: str = "", stage: str = "") -> None: ...


def run(
    plan: Plan,
    folder: Path,
    report: Report,
    *,
    event: Callable[..., None] = lambda **fields: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Carry out a plan in ``folder``, or go on with one that was interrupted there. Returns the summary.

    ``event(**fields)`` is told every loss and every finished arm. Raises ``Cancelled`` when stopped, and what
    ``load_model``, ``CorpusChoice.load`` and ``Study`` raise; what a single arm raises goes into its result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "plan.json", plan.as_dict())
    bench = Bench(plan, folder, report, event, should_stop)
    results = []
    for number in range(len(plan.arms)):
        results.append(run_arm(bench, number))
        event(arm=number, finished=True, error=results[-1]["error"])
    summary = {
        "arms": results,
        "significance": _significance(bench, results, folder) if world.is_main() else {},
        "sweep": _sweep(bench, folder) if plan.sweep else [],
        "corpus": {
            "name": bench.corpus.name, "hash": bench.corpus.content_hash, "train": len(bench.corpus.train),
            "held_out": len(bench.corpus.held_out), "dropped": bench.corpus.dropped,
        },
        "notes": bench.notes(),
        "signature": str(bench.signature),
    }  # fmt: skip
    _write(folder / "summary.json", summary)
    return summary


def run_arm(bench: Bench, number: int) -> dict[str, Any]:
    """Carry out one arm of a plan, unless an earlier stretch of the run finished it. Returns its result."""
    arm = bench.plan.arms[number]
    place = bench.folder / "arms" / f"{number:02d}-{arm.kind}"
    found = world.agree(_finished(place))
    return found or _carry_out(bench, arm, place, f"{number + 1} of {len(bench.plan.arms)}: {arm.name}")


def _write(path: Path, value: Any) -> None:
    """Write JSON, once for all processes."""
    if world.is_main():
        workspace.write_json(path, value)


class Bench:
    """What the arms of a run share; each part is made when it is first asked for."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        report: Report,
        event: Callable[..., None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.device = world.device(devices.select(plan.device).removeprefix("torch:"))
        if plan.resources.precision == "bfloat16" and not devices.has_bfloat16(self.device):
            raise SettingsError(f"The GPU {self.device} does not compute in bfloat16. Choose float32.")
        self.plan, self.folder, self.report, self.event, self.should_stop = plan, folder, report, event, should_stop

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        from ks_core.models import load_model

        self.report(0, 1, "loading the model", stage="load")
        return load_model(self.plan.base, self.device, self.plan.resources)

    @property
    def model(self) -> Any:
        return self.loaded[0]

    @property
    def tokenizer(self) -> Any:
        return self.loaded[1]

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The base as ``open_checkpoint`` gives it: hash, vocabulary, whether it is tied."""
        return open_checkpoint(self.plan.base)

    @cached_property
    def corpus(self) -> Corpus:
        return self.plan.corpus.load()

    @cached_property
    def held_out(self) -> HeldOut:
        plan = self.plan
        return held_out(
            self.corpus, plan.prompt, plan.sentences, max_new_tokens=plan.max_new_tokens, beams=plan.beams
        )  # fmt: skip

    @cached_property
    def examples(self) -> list[dict[str, list[int]]]:
        from ks_core.batches import encode

        longest = getattr(self.model.config, "max_position_embeddings", None) or 1 << 30
        return encode(self.corpus, self.tokenizer, self.plan.prompt, longest)

    @cached_property
    def material(self) -> Material:
        """Counts, prompt tokens and vocabulary; the ticket is added where an arm needs it."""
        from ks_core.batches import count_tokens

        empty = format_prompt(self.plan.prompt, "", self.corpus.source_language, self.corpus.target_language)
        return Material(
            counts=count_tokens(self.examples),
            prompt=self.tokenizer(empty)["input_ids"],
            size=self.model.get_input_embeddings().weight.shape[0],
        )

    @property
    def study(self) -> Study:
        """The pair that the ticket comes from: the plan's, or this run's own Embed Tuning once it is trained."""
        if self.plan.tuned:
            return self._given
        number = next(n for n, arm in enumerate(self.plan.arms) if arm.kind == "embed")
        adapter = self.folder / "arms" / f"{number:02d}-embed" / "adapter"
        if not adapter.is_dir():
            raise TicketError("The ticket comes from this run's Embed Tuning, which was not finished.")
        return Study(self.plan.base, str(adapter))

    @cached_property
    def _given(self) -> Study:
        return Study(self.plan.base, self.plan.tuned)

    def ticket(self, alpha: float | None = None) -> Ticket:
        """The plan's ticket with its tuned rows, or that of another ``alpha`` (which makes the rule p < alpha)."""
        study = self.study
        with world.main_first():
            scan = study.scan(lambda done, total: self.report(done, total, "testing rows", unit="rows", stage="scan"))
        rule, threshold = ("alpha", alpha) if alpha is not None else (self.plan.rule, self.plan.alpha)
        positions = select(scan, rule=rule, alpha=threshold, k=self.plan.k)
        return ticket_of(study, scan, positions, rule=rule, alpha=threshold)

    @property
    def signature(self) -> Signature:
        plan = self.plan
        return Signature({
            "base": f"{self.checkpoint.label}@{self.checkpoint.content_hash[:12]}",
            "tuned": f"{self.study.tuned.label}@{self.study.tuned.content_hash[:12]}" if plan.tuned else "this run's",
            "ticket": f"{plan.rule} {plan.k if plan.rule == 'count' else plan.alpha}",
            **self.held_out.settings(),
            "decoding": "greedy" if plan.beams == 1 else f"{plan.beams} beams", "device": self.device.partition(":")[0], **plan.resources.facts(),
            **versions("torch", "transformers", "peft", "accelerate", "sacrebleu"),
        })  # fmt: skip

    def notes(self) -> list[str]:
        """What a person should know about the run as a whole."""
        found = []
        if self.checkpoint.tied:
            found.append(
                "The base ties its output layer to its input embedding. They were untied: rows are trained on the input "
                "side alone, and the output layer stays as it was."
            )
        if missing := why_no_spbleu():
            found.append(missing)
        return found


def _finished(place: Path) -> dict[str, Any] | None:
    """The result of an arm that an earlier stretch of the run finished."""
    found = workspace.read_json(place / "result.json")
    return found if isinstance(found, dict) and not found.get("error") else None


def _carry_out(bench: Bench, arm: Arm, place: Path, title: str) -> dict[str, Any]:
    """Train and score one arm. What is wrong with it alone becomes its error, and the run goes on."""
    place.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "arm": arm.as_dict(),
        "name": arm.name,
        "kind": arm.kind,
        "folder": place.name,
        "error": "",
    }
    try:
        with _prepared(bench, arm, place, title) as (model, facts):
            result |= facts | _scored(bench, model, place, title)
    except (TicketError, SettingsError, ModelError, CorpusError) as error:
        result["error"] = str(error)
    result["signature"] = str(
        bench.signature.with_fields(
            arm=arm.kind, rows=len(result.get("rows", [])),
            **(asdict(arm.recipe) if arm.recipe else {}),
        )
    )  # fmt: skip
    _write(place / "result.json", result)
    if not result["error"] and world.is_main():
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return result


def _scored(bench: Bench, model: Any, place: Path, title: str) -> dict[str, Any]:
    outcome = evaluate_model(
        model, bench.tokenizer, bench.held_out,
        progress=lambda done, total: bench.report(
            done, total, f"{title}: translating", unit="sentences", stage=f"{place.name} translating"
        ),
    )  # fmt: skip
    _write(place / "answers.json", outcome.answers_as_dicts())
    if world.is_main() and (place / "adapter" / TICKET_FILE).is_file():
        ticket = Ticket.load(place / "adapter")
        replace(ticket, about={**ticket.about, "scores": outcome.evaluation.as_dict()}).save(place / "adapter")
    return {"evaluation": outcome.evaluation.as_dict(), "translating_seconds": outcome.seconds}


@contextlib.contextmanager
def _prepared(bench: Bench, arm: Arm, place: Path, title: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The model as the arm makes it, and what is known of it; the bench's model is the base again afterwards."""
    if arm.kind == "base":
        yield bench.model, {"trainable": 0}
    elif arm.kind == "tuned":
        from ks_core.models import load_model

        bench.report(0, 1, f"{title}: loading", stage=f"{place.name} load")
        yield load_model(bench.plan.tuned, bench.device, bench.plan.resources)[0], {"trainable": 0}
    elif arm.kind == "lora":
        from ks_core.lora import with_lora

        with with_lora(bench.model, arm.rank, (arm.recipe or Arm("lora").recipe).seed) as model:  # type: ignore[union-attr]
            yield model, _trained(bench, arm, model, place, title, lambda: model.save_pretrained(place / "adapter"))
    elif arm.kind == "full":
        with _whole(bench) as model:
            yield model, _trained(bench, arm, model, place, title, lambda: _save_whole(bench, model, place / "model"))
    else:
        yield from _with_rows(bench, arm, place, title)


def _with_rows(bench: Bench, arm: Arm, place: Path, title: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Arms that are rows over the frozen base: trained, copied, or moved at random."""
    from ks_core.models import put_rows
    from ks_core.rows import lay_over, lift_off

    model = bench.model
    material, ticket = bench.material, None
    counts_as_ticket = arm.k is None and arm.kind in ("frequent", "prompt") and bench.plan.has_ticket
    if arm.kind in NEED_TICKET or counts_as_ticket:
        ticket = bench.ticket(arm.alpha)
        material = material.with_ticket(ticket.token_ids)
    ids = choose_rows(arm, material)
    rows = lay_over(model, ids)
    try:
        facts: dict[str, Any] = {"rows": ids}
        if arm.kind in NEED_TUNED_ROWS:
            assert ticket is not None and ticket.rows is not None
            values = ticket.rows[: len(ids)]
            start = rows.base.weight.detach()[ids].float().cpu().numpy()
            if arm.kind == "noise":
                values = random_delta(start, values, arm.seed)
            place_of = {int(i): n for n, i in enumerate(ids)}
            put_rows(rows, values[[place_of[int(i)] for i in rows.ids.tolist()]])
            if world.is_main():
                _save_rows(bench, arm, place, rows, ids, ticket)
            facts["trainable"] = 0
        else:
            facts |= _trained(
                bench, arm, model, place, title, lambda: _save_rows(bench, arm, place, rows, ids, ticket)
            )  # fmt: skip
        yield model, facts
    finally:
        lift_off(model)


def random_delta(before: np.ndarray, after: np.ndarray, seed: int) -> np.ndarray:
    """Rows (k, d) moved from ``before`` as far as ``after`` did, each in a random direction. float32.

    The control of the KS-Lottery replication: same norms, no training.
    """
    noise = np.random.default_rng(seed).standard_normal(before.shape)
    noise *= np.linalg.norm(after - before, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return (before + noise).astype(np.float32)


def _trained(bench: Bench, arm: Arm, model: Any, place: Path, title: str, save: Callable[[], Any]) -> dict[str, Any]:
    """Train what takes a gradient, save it, and say how it went. Finds a finished training again."""
    from ks_core.saved_training import load_trained, save_trained, trained_parameters
    from ks_core.trainer import train

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
        checkpointing=bench.plan.resources.checkpointing,
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
    _write(record, found)
    return facts | found


def _save_rows(bench: Bench, arm: Arm, place: Path, rows: Any, ids: Sequence[int], ticket: Ticket | None) -> None:
    """The rows as a ticket folder that peft loads, with everything that is known of them."""
    values = rows.rows.detach().float().cpu().numpy()
    place_of = {int(i): n for n, i in enumerate(rows.ids.tolist())}
    ordered = values[[place_of[i] for i in ids]]
    if arm.kind == "embed":  # rows that the batches never met are the base's
        start = rows.base.weight.detach()[list(ids)].float().cpu().numpy()
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
            "recipe": asdict(arm.recipe) if arm.recipe else None,
            "base_hash": bench.checkpoint.content_hash,
            "tokenizer_hash": bench.checkpoint.vocabulary.content_hash if bench.checkpoint.vocabulary else None,
            "tied": bench.checkpoint.tied,
            "versions": versions("torch", "transformers", "peft", "sacrebleu"),
        },
        rows=ordered,
    )
    made.save(place / "adapter")


@contextlib.contextmanager
def _whole(bench: Bench) -> Iterator[Any]:
    """A second copy of the model with every weight trainable, untied; refused where it would not fit."""
    import torch

    from ks_core.models import load_model

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
        if bench.checkpoint.tied:
            model.lm_head.weight = torch.nn.Parameter(model.get_input_embeddings().weight.detach().clone())
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


def _significance(bench: Bench, results: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Every arm against the base and against Embed Tuning: paired bootstrap, under every rule."""
    finished = {r["name"]: r for r in results if not r["error"]}
    answers = {name: read_answers(folder, r) for name, r in finished.items()}
    found = {}
    for against in ("base", "embed", "tuned"):
        baseline = next((name for name, r in finished.items() if r["kind"] == against), None)
        if baseline is not None and len(answers) > 1 and len(bench.held_out) > 1:
            bench.report(0, 1, f"comparing with {baseline}", stage=f"compare {against}")
            found[baseline] = compare(answers, bench.held_out.references, bench.held_out.target_language, baseline)
    return found


def _sweep(bench: Bench, folder: Path) -> list[dict[str, Any]]:
    """Partial Transfer at every alpha of the plan: size and scores. Equal tickets are scored once."""
    from ks_core.models import put_rows
    from ks_core.rows import lay_over, lift_off

    path = folder / "sweep.json"
    known: list[dict[str, Any]] = world.agree(workspace.read_json(path)) or []
    by_size = {entry["rows"]: entry for entry in known}
    alphas = sorted(set(bench.plan.sweep))
    points = []
    for number, alpha in enumerate(alphas, 1):
        ticket = bench.ticket(alpha)
        size = len(ticket)
        if size not in by_size:  # tickets of one study are nested: equal size, equal rows
            title = f"alpha {alpha:g} ({number} of {len(alphas)}), {size:,} rows"
            if size:
                rows = lay_over(bench.model, ticket.token_ids)
                assert ticket.rows is not None
                put_rows(rows, ticket.rows[np.argsort(ticket.token_ids)])
            try:
                outcome = evaluate_model(
                    bench.model, bench.tokenizer, bench.held_out,
                    progress=lambda done, total, title=title: bench.report(  # type: ignore[misc]
                        done, total, f"{title}: translating", unit="sentences", stage=title
                    ),
                )  # fmt: skip
            finally:
                lift_off(bench.model)
            by_size[size] = {"rows": size, "evaluation": outcome.evaluation.as_dict()}
            known.append(by_size[size])
            _write(path, known)
        points.append({"alpha": alpha, **by_size[size]})
    return points


def run_one_arm(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``arm``, a task of an array: one ``arm`` (its number) of a plan, in the folder ``run`` of the whole."""
    own = ("arm", "run")
    plan = Plan.from_dict({name: value for name, value in parameters.items() if name not in own})
    folder = Path(parameters["run"])
    bench = Bench(plan, folder, running.progress, running.event, running.should_stop)
    found = run_arm(bench, parameters["arm"])
    return {"error": found["error"]}


def run_tune(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``tune``: a plan, carried out in the job's folder."""
    from ks_core import estimates

    plan = Plan.from_dict(parameters)
    if any(source.startswith("demo") for source in (plan.base, plan.tuned)):
        with world.main_first():
            demo.prepare_base(lambda done, total, message: running.progress(done, total, message, stage=message))
    summary = run(plan, running.folder, running.progress, event=running.event, should_stop=running.should_stop)
    if world.is_main():
        estimates.learn(plan, summary)
    return summary
