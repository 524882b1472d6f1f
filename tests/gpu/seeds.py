"""The demo's training by several seeds, both row optimizers, and with noise for gradients: what D finds, and what the rows it finds
carry, in Markdown. ``python tests/gpu/seeds.py --seeds 5 --device cuda``

A seed is a process, all at once: six minutes on an H100; on two cores an hour a seed. Everything is kept in ``--folder``, and
a seed that is there is not made again. For each seed and optimizer:

    real        the demo's Embed Tuning, 300 steps
    noise       the same rows at the same steps, each row's gradient replaced by a random direction of the same length

Rows of the real one are then copied into the base, so many of largest D, of largest shift (L2), of most optimizer steps, of largest
attribution and at random, and the references of the demo's test part are scored: share of Embed Tuning's gain in log-likelihood.
Attribution is the gradient of the references' log-likelihood of the development part along the line from base to tuned
(integrated gradients, Sundararajan et al. 2017, arXiv 1703.01365; midpoints of 8 steps) times the row's change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
import numpy as np
import torch
from torch.nn import functional as F

from ks_core.checkpoints import demo
from ks_core.ks.statistic import ks_test
from ks_core.likelihood.batches import Collator, batch_order
from ks_core.likelihood.examples import IGNORED, count_tokens, encode, fed
from ks_core.likelihood.rows import lay_over, lift_off
from ks_core.translation import corpora
from ks_core.tuning.models import load_model
from ks_core.tuning.recipes import ROWWISE, Recipe
from ks_core.tuning.trainer import train

SIZES = (1, 2, 5, 10, 18, 28, 50, 112, 250, 500, 1000)
RULES = ("D", "L2", "steps", "attribution", "random")
BATCH, POINTS = 8, 8


class Demo:
    """The demo's base and text: training, development and test examples."""

    def __init__(self, device: str) -> None:
        self.model, self.tokenizer = load_model(demo.BASE, device)
        corpus = corpora.load("pack:fr-FR")
        longest = self.model.config.max_position_embeddings
        self.train, self.development, self.test = (
            encode(replace(corpus, train=part), self.tokenizer, "short", longest)
            for part in (corpus.train, corpus.development, corpus.test)
        )

    def nats(self, examples: Sequence[dict[str, list[int]]], backward: bool = False) -> list[float]:
        """Minus the log-likelihood of each reference, the end token with it; ``backward`` sums them and takes the gradient."""
        found: list[float] = []
        self.model.eval()
        for start in range(0, len(examples), 16):
            batch = {
                k: v.to(self.model.device)
                for k, v in Collator(self.tokenizer.pad_token_id)(examples[start : start + 16]).items()
            }
            labels = batch.pop("labels")[:, 1:]
            with torch.set_grad_enabled(backward):
                logits = self.model(**batch, use_cache=False, logits_to_keep=labels.shape[1]).logits.float()
                each = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none").sum(1)
            if backward:
                each.sum().backward()
            found += each.tolist()
        return found


def one(seed: int, steps: int, device: str) -> dict[str, Any]:
    """All trainings of a seed, and what their rows carry."""
    torch.backends.cuda.matmul.allow_tf32 = False
    made = Demo(device)
    ids = np.array(sorted(count_tokens(made.train)))
    order = batch_order([len(e["input_ids"]) for e in made.train], BATCH, steps, seed)
    touched = np.zeros(ids[-1] + 1, np.int64)
    for start in range(0, len(order), BATCH):
        touched[list({i for n in order[start : start + BATCH] for i in fed(made.train[n])})] += 1
    found: dict[str, Any] = {
        "base": made.nats(made.test),
        "tokens": sum(label != IGNORED for e in made.test for label in e["labels"]),
    }
    for optimizer in ROWWISE:
        recipe = Recipe(steps, BATCH, 1e-2, optimizer, schedule="linear", seed=seed)
        for kind in ("real", "noise"):
            rows = lay_over(made.model, ids.tolist())
            if kind == "noise":
                rows.rows.register_hook(_noise(seed, rows.rows))
            with tempfile.TemporaryDirectory() as folder:
                train(made.model, made.tokenizer, made.train, recipe, Path(folder), save_every=steps + 1)
            before, after = rows.base.weight[rows.ids].float().clone(), rows.rows.detach().clone()
            tested = ks_test(before.cpu().numpy(), after.cpu().numpy(), with_shift=True)
            assert tested.l2 is not None
            run = {
                "ids": ids.tolist(), "D": tested.statistic.tolist(), "L2": tested.l2.tolist(), "steps": touched[ids].tolist(),
                "winners": int((tested.pvalue < 0.05).sum()), "nats": made.nats(made.test),
            }  # fmt: skip
            if kind == "real":
                run["attribution"], run["complete"] = _attribution(made, rows.rows, before, after)
                lift_off(made.model)
                run["copied"] = {
                    rule: [_copied(made, ids, after, chosen(run, rule, k, seed)) for k in SIZES] for rule in RULES
                }
            else:
                lift_off(made.model)
            found[f"{optimizer} {kind}"] = run
    return found


def _noise(seed: int, rows: torch.Tensor) -> Any:
    drawn = torch.Generator(device=rows.device).manual_seed(1000 + seed)

    def replaced(gradient: torch.Tensor) -> torch.Tensor:
        direction = torch.randn(gradient.shape, generator=drawn, device=gradient.device)
        return F.normalize(direction, dim=1) * gradient.norm(dim=1, keepdim=True)

    return replaced


def _attribution(made: Demo, rows: Any, before: torch.Tensor, after: torch.Tensor) -> tuple[list[float], float]:
    """Each row's part of the development references' gain in log-likelihood, and what the parts add up to of the true gain."""
    total = torch.zeros(len(before), device=before.device)
    rows._backward_hooks = None
    for n in range(POINTS):
        with torch.no_grad():
            rows.copy_(before + (n + 0.5) / POINTS * (after - before))
        rows.grad = None
        made.nats(made.development, backward=True)
        total -= (rows.grad * (after - before)).sum(1) / POINTS
    values = []
    for state in (before, after):
        with torch.no_grad():
            rows.copy_(state)
        values.append(sum(made.nats(made.development)))
    return total.tolist(), float(total.sum()) / (values[0] - values[1])


def chosen(run: dict[str, Any], rule: str, k: int, seed: int = 0) -> np.ndarray:
    """Positions of the k rows that a rule puts first, ties by L2; at random of those that changed."""
    l2 = np.array(run["L2"])
    score = (
        np.where(l2 > 0, np.random.default_rng(seed).random(len(l2)), -1) if rule == "random" else np.array(run[rule])
    )
    return np.sort(np.lexsort((-l2, -score))[:k])


def _copied(made: Demo, ids: np.ndarray, after: torch.Tensor, places: np.ndarray) -> list[float]:
    rows = lay_over(made.model, ids[places].tolist())
    with torch.no_grad():
        rows.rows.copy_(after[torch.from_numpy(places).to(after.device)])
    found = made.nats(made.test)
    lift_off(made.model)
    return found


def tables(found: Sequence[dict[str, Any]]) -> list[str]:
    """The Markdown: means over the seeds, with the smallest and the largest."""
    lines = []
    for optimizer in ROWWISE:
        real, noise = ([f[f"{optimizer} {kind}"] for f in found] for kind in ("real", "noise"))
        lines += ["", f"**{optimizer}**", "", "| | by seed |", "|---|---|"]
        both = [len(_winners(a) & _winners(b)) for a, b in zip(real, noise, strict=True)]
        facts = {
            "rows with p < 0.05": [r["winners"] for r in real], "the same from noise": [r["winners"] for r in noise], "rows in both": both,
            "nats a target token, all rows": [f"{sum(r['nats']) / f['tokens']:.3f}" for r, f in zip(real, found, strict=True)],
            "attribution adds up to": [f"{r['complete']:.1%}" for r in real],
        }  # fmt: skip
        lines += [f"| {name} | {', '.join(map(str, values))} |" for name, values in facts.items()]
        for rule in RULES[:4]:
            top = [set(chosen(r, rule, 18).tolist()) for r in real]
            shared = [len(a & b) for a, b in combinations(top, 2)]
            if shared:
                lines.append(
                    f"| of the 18 first by {rule}, the same in two seeds | mean {statistics.mean(shared):.1f}, {min(shared)} to {max(shared)} |"
                )
        lines += ["", f"| rows copied | {' | '.join(RULES)} |", "|---:|" + "---:|" * len(RULES)]
        for n, k in enumerate(SIZES):
            cells = []
            for rule in RULES:
                shares = [_share(f["base"], r["copied"][rule][n], r["nats"]) for f, r in zip(found, real, strict=True)]
                cells.append(f"{statistics.mean(shares):.0%} [{min(shares):.0%}, {max(shares):.0%}]")
            lines.append(f"| {k:,} | {' | '.join(cells)} |")
    return lines


def _winners(run: dict[str, Any]) -> set[int]:
    order = np.argsort(-np.array(run["D"]), kind="stable")[: run["winners"]]
    return {run["ids"][n] for n in order}


def _share(base: list[float], copied: list[float], full: list[float]) -> float:
    return (sum(base) - sum(copied)) / (sum(base) - sum(full))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ks-lottery-seeds")
    parser.add_argument("--one", type=int, help="this seed alone, in this process")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    files = [options.folder / f"{options.device}-{options.steps}-{seed}.json" for seed in range(options.seeds)]
    if options.one is not None:
        files[options.one].write_text(json.dumps(one(options.one, options.steps, options.device)))
        return
    demo.prepare_base()
    waiting = [
        subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--one", str(seed)])
        for seed, file in enumerate(files) if not file.is_file()
    ]  # fmt: skip
    if max((process.wait() for process in waiting), default=0):
        sys.exit("A seed did not end well; what it said stands above.")
    print("\n".join(tables([json.loads(file.read_text()) for file in files])))


if __name__ == "__main__":
    main()
