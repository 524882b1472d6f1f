"""How often the program's 95% intervals cover, by simulation from real results of the demo. ``python tests/soak/intervals.py``

Real are the answers of three models to all held-out sentences, and their likelihoods of the references: the base, the tuned rows
(``demo:en-fr``), and the ticket's rows copied. They are made once, some minutes on two cores, and kept in the workspace. These
sentences are then taken for all there are, so that every true value is known. A simulation draws some of them, with replacement,
computes an interval as the program does, and looks whether the true value lies in it.

Trainings cannot be drawn from so few. For the hierarchical interval the sentences are real, and each training adds an effect drawn
from a normal distribution: its variance is that which the sentences give the mean, times a number that the row names.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
import numpy as np

from ks_core.checkpoints import demo
from ks_core.likelihood.nats import Likelihood
from ks_core.signature import versions
from ks_core.store import workspace
from ks_core.study.scan import Study
from ks_core.translation.bootstrap import weights
from ks_core.translation.generation import Generation
from ks_core.tuning.plans import CorpusChoice
from soak.covering import TRAININGS, Coverage, Interval, coverage, hierarchical, of_answers, of_nats

PROMPT, LIMIT, ALPHA = "short", 48, 0.05


def results(device: str = "cpu", report: Callable[..., None] = print) -> dict[str, Any]:
    """The demo's answers and likelihoods, kept in the workspace or made now on a device."""
    from ks_core.ledger.changed_rows import lay
    from ks_core.likelihood.references import references_of
    from ks_core.likelihood.rows import lift_off, rows_of
    from ks_core.likelihood.scorer import likelihood_of
    from ks_core.translation.evaluation import evaluate_model, held_out
    from ks_core.tuning.models import load_model, put_rows

    demo.prepare_base()
    study = Study(demo.BASE, demo.TUNED)
    corpus = CorpusChoice().load()
    facts = {
        "base": study.base.content_hash, "tuned": study.tuned.content_hash, "corpus": corpus.content_hash, "alpha": ALPHA, "prompt": PROMPT,
        "limit": LIMIT, "device": device, **versions("torch", "transformers"),
    }  # fmt: skip
    path = workspace.folder("coverage") / "demo.json"
    known = workspace.read_json(path)
    if isinstance(known, dict) and known.get("facts") == facts:
        return known
    model, tokenizer = load_model(demo.BASE, device)
    asked = held_out(corpus, PROMPT, part="", max_new_tokens=LIMIT)
    references = references_of(model, tokenizer, corpus, PROMPT, part="")
    found: dict[str, Any] = {"facts": facts, "references": list(asked.references), "language": asked.target_language}
    scan = study.scan()
    for name in ("base", "tuned", "ticket"):
        report(f"{name}: translating {len(asked)} sentences")
        if name != "base":
            lay(model, study, scan)
            rows = rows_of(model)
            if name == "ticket":
                ticket = set(scan.token_ids[scan.winners(ALPHA)].tolist())
                start = rows.base.weight.detach()[rows.ids].float().cpu().numpy()
                own = rows.rows.detach().cpu().numpy()
                mask = np.array([int(i) in ticket for i in rows.ids])
                put_rows(rows, np.where(mask[:, None], own, start))
        outcome = evaluate_model(model, tokenizer, asked)
        found[name] = {"answers": outcome.answers_as_dicts(), "likelihood": likelihood_of(model, references).as_dict()}
        lift_off(model)
    workspace.write_json(path, found)
    return found


def intervals_of(found: Mapping[str, Any], size: int, resamples: int) -> tuple[dict[str, tuple[Interval, float]], int]:
    """Every interval of so many sentences with its true value, and how many sentences there are to draw from."""
    kept = {name: [Generation(**record) for record in found[name]["answers"]] for name in ("base", "tuned", "ticket")}
    nats = {name: Likelihood.from_dict(found[name]["likelihood"]) for name in kept}
    taken = weights(size, resamples).astype(float)
    asked = {**of_answers(kept, found["references"], found["language"], taken), **of_nats(nats, size, resamples)}
    for seeds, ratio in TRAININGS:
        asked[f"gain in nats of {seeds} trainings, seeds' variance {ratio:g} times the sentences'"] = hierarchical(
            nats["base"], nats["ticket"], size, seeds, ratio, resamples
        )
    return asked, len(nats["base"])


def one(found: Mapping[str, Any], size: int, name: str, simulations: int, resamples: int) -> tuple[Coverage, float]:
    """The coverage of one of them, and the seconds that it took: the work of one process."""
    began = time.monotonic()
    asked, population = intervals_of(found, size, resamples)
    return coverage(*asked[name], population, size, simulations), time.monotonic() - began


def table(
    found: Mapping[str, Any],
    sizes: Sequence[int],
    simulations: int,
    resamples: int,
    processes: int = 1,
    report: Callable[..., None] = print,
) -> list[str]:
    """The table in Markdown: a row for each interval, a column for each number of sentences.

    Each interval is drawn for by itself, from its own seeds, so the table is the same however many processes make it.
    """
    rows: dict[str, list[str]] = {}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        work = [
            (size, name, pool.submit(one, found, size, name, simulations, resamples))
            for size in sizes
            for name in intervals_of(found, size, 1)[0]
        ]
        for size, name, future in work:
            own, seconds = future.result()
            report(
                f"{size} sentences, {name}: {own.words} (too low {own.above / max(own.shown, 1):.1%}), {seconds:.0f} s"
            )
            rows.setdefault(name, []).append(own.words)
    return [
        f"| 95% interval of | {' | '.join(f'{size} sentences' for size in sizes)} |", f"|---|{'---:|' * len(sizes)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--sentences", default="24,48,77")
    parser.add_argument("--device", default="cpu", help="where the answers are made: cpu (default) or cuda")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    sizes = [int(n) for n in options.sentences.split(",")]

    def report(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    lines = table(
        results(options.device, report), sizes, options.simulations, options.resamples, options.processes, report
    )
    print("\n".join(lines))
    print(
        f"\n{options.simulations:,} simulations, {options.resamples:,} draws each; {json.dumps(versions('numpy', 'sacrebleu'))}"
    )


if __name__ == "__main__":
    main()
