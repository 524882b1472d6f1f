"""A run: some arms tuned on one corpus under one prompt, each scored on the same held-out sentences.

    plan = Plan(arms=(Arm("base"), Arm("partial"), Arm("transfer")))
    run(plan, Path("my-run"), report=print)

A run is a folder. Every arm has one of its own in it, and what an arm has finished stays: a run that was
stopped goes on with the arm it was in, from that arm's last checkpoint. An arm that cannot be trained
(an empty ticket, a loss that is no number, a model that a library cannot treat) says so in the table and the
others go on. A run in which no arm was carried out has failed.

    plan.json               what was asked
    arms/01-partial/        result.json (scores, likelihood), answers.json, adapter/ (what peft loads), checkpoints/ while it trains
    sweep.json              Partial Transfer at several alphas
    summary.json            the table, paired significance, what the likelihoods say, signature

How an arm makes its model is in ``arm_models``, what they share in ``workbench``.
"""

from __future__ import annotations

import logging
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.errors import (
    Cancelled,
    CorpusError,
    KSLotteryError,
    ModelError,
    SettingsError,
    TicketError,
    of_machine,
    one_line,
)
from ks_core.jobs import world
from ks_core.store import log, workspace
from ks_core.tickets.ticket import TICKET_FILE, Ticket
from ks_core.translation.evaluation import read_answers
from ks_core.translation.extraction import usual_rule
from ks_core.translation.generation import Generation
from ks_core.translation.scores import Comparison, compare, correct
from ks_core.tuning import comparison
from ks_core.tuning.arm_models import prepared
from ks_core.tuning.arms import ARMS, Arm
from ks_core.tuning.plans import Plan
from ks_core.tuning.scoring import score
from ks_core.tuning.workbench import Bench, Report, write_once

logger = logging.getLogger(__name__)


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
    ``load_model``, ``CorpusChoice.load`` and ``Study`` raise; what a single arm raises goes into its result, and is raised
    as a ``ModelError`` where every arm failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_once(folder / "plan.json", plan.as_dict())
    bench = Bench(plan, folder, report, event, should_stop)
    results = []
    for number in range(len(plan.arms)):
        results.append(run_arm(bench, number))
        event(arm=number, finished=True, error=results[-1]["error"])
    _refuse_failed(results)
    summary = {
        "arms": results,
        "significance": _significance(bench, results, folder) if world.is_main() else {},
        "likelihood": comparison.judged(results) if world.is_main() else {},
        "sweep": _sweep(bench, folder) if plan.sweep else [],
        "rule": usual_rule(bench.held_out.references),
        "corpus": {
            "name": bench.corpus.name, "hash": bench.corpus.content_hash, "train": len(bench.corpus.train),
            "held_out": len(bench.corpus.held_out), "development": len(bench.corpus.development),
            "test": len(bench.corpus.test), "part": bench.held_out.part, "dropped": bench.corpus.dropped,
        },
        "notes": bench.notes(),
        "signature": str(bench.signature),
    }  # fmt: skip
    write_once(folder / "summary.json", summary)
    return summary


def _refuse_failed(results: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``ModelError`` where every arm has an error: there is nothing that could be compared."""
    if all(result["error"] for result in results):
        first, reasons = results[0], {result["error"] for result in results}
        said = first["error"].removeprefix(f"{first['name']}: ")
        more = "" if len(reasons) == 1 else f" The others failed too, for {len(reasons) - 1} other reasons."
        raise ModelError(f"No arm of the run was carried out. {first['name']}: {said}{more}")


def run_arm(bench: Bench, number: int) -> dict[str, Any]:
    """Carry out one arm of a plan, unless an earlier stretch of the run finished it. Returns its result."""
    arm = bench.plan.arms[number]
    place = bench.folder / "arms" / f"{number:02d}-{arm.kind}"
    found = world.agree(_finished(place))
    return found or _carry_out(bench, arm, place, f"{number + 1} of {len(bench.plan.arms)}: {arm.name}")


def _finished(place: Path) -> dict[str, Any] | None:
    """The result of an arm that an earlier stretch of the run finished."""
    found = workspace.read_json(place / "result.json")
    return found if isinstance(found, dict) and not found.get("error") else None


def _carry_out(bench: Bench, arm: Arm, place: Path, title: str) -> dict[str, Any]:
    """Train and score one arm. What is wrong with it alone becomes its error, and the run goes on.

    That is whatever goes wrong, for a library may not know this model. A disk that takes nothing would fail the others too,
    and one of several processes must not go on without the rest: these end the run.
    """
    place.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "arm": arm.as_dict(),
        "name": arm.name,
        "kind": arm.kind,
        "folder": place.name,
        "error": "",
    }
    try:
        with prepared(bench, arm, place, title) as (model, facts):
            result |= facts | _scored(bench, arm, model, place, title)
    except (TicketError, SettingsError, ModelError, CorpusError) as error:
        result["error"] = str(error)
    except (Cancelled, KSLotteryError, OSError):
        raise
    except Exception as error:
        if world.size() > 1:
            raise
        logger.warning("the arm %s failed: %r", arm.name, error)
        print(log.redact(traceback.format_exc()), file=sys.stderr)  # into the job's log
        result["error"] = of_machine(error) or _unexpected(error)
        bench.begin_anew()
    result["signature"] = str(
        bench.signature.with_fields(
            arm=arm.kind, rows=len(result.get("rows", [])),
            **(arm.recipe.as_dict() if arm.recipe else {}),
        )
    )  # fmt: skip
    write_once(place / "result.json", result)
    if not result["error"] and world.is_main():
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return result


def _unexpected(error: Exception) -> str:
    """What is said of an arm that failed in a way nobody foresaw."""
    said = next(iter(str(error).strip().splitlines()), "")[:200]
    return one_line(
        f"This arm failed in a way that the program did not expect ({type(error).__name__}: {said}). Leave it out for this model; "
        "the run's log says more."
    )


def _scored(bench: Bench, arm: Arm, model: Any, place: Path, title: str) -> dict[str, Any]:
    """The model's answers and their scores, and the likelihood of the references; of an arm that is asked in its own manner, how."""
    kind = ARMS[arm.kind]
    manner = kind.asked(model, bench.tokenizer, bench.corpus, bench.plan.prompt, arm.seed)
    scored = score(
        model, bench.tokenizer, bench.corpus, bench.held_out, bench.report, title, place.name, manner=manner,
        generate=bench.plan.generate, written=_base_answers(bench) if manner.breaks else None,
    )  # fmt: skip
    if scored.outcome:
        write_once(place / "answers.json", scored.outcome.answers_as_dicts())
        if world.is_main() and (place / "adapter" / TICKET_FILE).is_file():
            ticket = Ticket.load(place / "adapter")
            replace(ticket, about={**ticket.about, "scores": scored.outcome.evaluation.as_dict()}).save(
                place / "adapter"
            )
    asked = {"asked": {"prompt": manner.prompt, "about": manner.about}} if kind.free else {}
    return scored.as_dict() | asked


def _base_answers(bench: Bench) -> tuple[list[Generation], float] | None:
    """What the base wrote under the run's prompt and how long it took, where its arm is finished."""
    for number, arm in enumerate(bench.plan.arms):
        if arm.kind == "base" and bench.plan.generate:
            found = world.agree(_finished(bench.folder / "arms" / f"{number:02d}-base"))
            return (read_answers(bench.folder, found), found["translating_seconds"]) if found else None
    return None


def _significance(bench: Bench, results: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """The answers of every arm against those of the base, of Embed Tuning, and of the base with a forced stop: paired bootstrap,
    under every rule, corrected as one family."""
    finished = {r["name"]: r for r in results if not r["error"] and r["evaluation"]}
    answers = {name: read_answers(folder, r) for name, r in finished.items()}
    found: dict[str, Comparison] = {}
    for against in comparison.AGAINST:
        baseline = next((name for name, r in finished.items() if r["kind"] == against), None)
        if baseline is not None and len(answers) > 1 and len(bench.held_out) > 1:
            bench.report(0, 1, f"comparing with {baseline}", stage=f"compare {against}")
            found[baseline] = compare(answers, bench.held_out.references, bench.held_out.target_language, baseline)
    correct(list(found.values()))
    return found


def _sweep(bench: Bench, folder: Path) -> list[dict[str, Any]]:
    """Partial Transfer at every alpha of the plan: size, scores and likelihood. Equal tickets are scored once."""
    from ks_core.likelihood.rows import lay_over, lift_off
    from ks_core.tuning.models import put_rows

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
                scored = score(
                    bench.model, bench.tokenizer, bench.corpus, bench.held_out, bench.report, title, title,
                    generate=bench.plan.generate,
                )  # fmt: skip
            finally:
                lift_off(bench.model)
            by_size[size] = {"rows": size, **scored.as_dict()}
            known.append(by_size[size])
            write_once(path, known)
        points.append({"alpha": alpha, **by_size[size]})
    return points
