"""What only a GPU can show, in Markdown tables: ``make gpu``, or ``python tests/gpu/card.py``. On one card some five minutes.

    The test         integers of the torch kernel on the card against the CPU kernel's, and how fast it is
    Rows             laid over and not changed they change no logit; changed, they do what writing them into the matrix does
    Training         tokens a second and memory, beside what ``ks_core.tuning.memory`` says before a run, by models of
                     random weights in the shapes of published ones
    Translating      the same for batches of answers
    References       the likelihood of sentences on the card and on the CPU, with many sets of rows, and how fast
    Recording        the last point of a recorded training against the test of the rows that it left, and what it costs
    Two cards        the same run in one process and in two (nccl), where there are two cards

Where there is no GPU it says so and ends with 0. ``--device torch:cpu --small`` runs every part that needs no card on the CPU, on
small models: that is how the tests know that it runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
import numpy as np
import torch

from gpu.judging import likelihood, recording
from gpu.models import TINY, model_of, training, translating
from ks_core.checkpoints.matrices import FLOATS, ArrayMatrix
from ks_core.commands import bench
from ks_core.jobs import devices
from ks_core.jobs.resources import PRECISIONS, Resources
from ks_core.ks.statistic import ks_test
from ks_core.likelihood.rows import lay_over


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 where integers or rows differ, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default), or torch:cpu")
    parser.add_argument("--small", action="store_true", help="small matrices and models")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and "cuda" not in devices.available():
        print(
            "This machine has no GPU that torch can use, so nothing was run. What a GPU would show is not known from here."
        )
        return 0
    began = time.perf_counter()
    print("\n".join(f"- {line}" for line in (*card(options.device), *bench.machine())))
    right = [integers(options.device, options.small)]
    speed(options.device, options.small)
    right.append(rows(options.device))
    training(options.device, options.small)
    translating(options.device, options.small)
    right += [likelihood(options.device, options.small), recording(options.device, options.small)]
    right.append(two_cards(options.device))
    print(f"\nAll of it took {time.perf_counter() - began:.0f} s.")
    return 0 if all(right) else 1


def card(device: str) -> list[str]:
    """What the card is."""
    if not device.startswith("cuda"):
        return [f"no card: {device}"]
    about = torch.cuda.get_device_properties(device)
    return [f"{torch.cuda.device_count()} x {about.name}, {about.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"]


def samples(dtype: str, dim: int, rows_: int, rng: np.random.Generator) -> tuple[ArrayMatrix, ArrayMatrix]:
    """Rows of every kind: moved a little, the same, full of ties, signed zeros and subnormal numbers, very large ones."""
    a = rng.standard_normal((rows_, dim)).astype(np.float32)
    b = a + rng.standard_normal((rows_, dim)).astype(np.float32) * rng.choice([0, 1e-3, 0.1, 1], (rows_, 1)).astype(
        np.float32
    )
    kind = rng.integers(0, 5, rows_)
    for x in (a, b):
        x[kind == 1] = np.round(x[kind == 1])
        x[kind == 2] *= np.float32(1e-39) if dtype in ("float32", "bfloat16") else np.float32(1e-6)
        x[kind == 3] = np.where(rng.random(x[kind == 3].shape) < 0.5, np.float32(0.0), np.float32(-0.0))
        x[kind == 4] *= np.float32(1e4)
    if dtype == "bfloat16":
        return tuple(ArrayMatrix((x.view(np.uint32) >> 16).astype(np.uint16), dtype) for x in (a, b))  # type: ignore[return-value]
    with np.errstate(over="ignore", under="ignore"):
        a, b = (np.nan_to_num(x.astype(dtype), posinf=1, neginf=-1) for x in (a, b))
    if dtype == "float64":
        a[kind == 2] *= 1e-280
    return ArrayMatrix(a), ArrayMatrix(b)


def integers(device: str, small: bool) -> bool:
    """The torch kernel's integers against the CPU kernel's, on rows of every kind."""
    print(
        "\n## The test: integers\n\n| values | widths | rows | integers that differ | L2 and cosine, largest difference |\n|---|---|---:|---:|---:|"
    )
    rng, wrong = np.random.default_rng(0), 0
    for dtype in FLOATS:
        total, differ, apart, widths = 0, 0, 0.0, (16, 33) if small else (16, 64, 128, 576, 1000, 4096, 8192)
        for dim in widths:
            count = 200 if small else max(2000, 8_000_000 // dim)
            a, b = samples(dtype, dim, count, rng)
            ours, cpu = (ks_test(a, b, device=d, with_shift=True) for d in (device, "cpu"))
            assert ours.l2 is not None and ours.cosine is not None and cpu.l2 is not None and cpu.cosine is not None
            total, differ = total + count, differ + int((ours.counts != cpu.counts).sum())
            scale = np.maximum(cpu.l2, np.finfo(np.float64).tiny)
            apart = max(
                apart, float((np.abs(ours.l2 - cpu.l2) / scale).max()), float(np.abs(ours.cosine - cpu.cosine).max())
            )
        wrong += differ
        print(f"| {dtype} | {', '.join(map(str, widths))} | {total:,} | {differ:,} | {apart:.1e} |", flush=True)
    return wrong == 0


def speed(device: str, small: bool) -> None:
    """``bench`` on some sizes, scipy's loop and the CPU beside the card."""
    sizes = (
        [(300, 64, "float32")]
        if small
        else [
            (32_000, 4096, "float32"),
            (32_000, 4096, "bfloat16"),
            (128_256, 4096, "bfloat16"),
            (49_152, 576, "float32"),
        ]
    )
    for count, dim, dtype in sizes:
        print(f"\n## The test: {count:,} x {dim:,} {dtype}\n")
        before, after = bench.matrices(count, dim, dtype)
        print("\n".join(bench.table(bench.measure(before, after, min(200, count), 3, ("cpu", device)))), flush=True)


def rows(device: str) -> bool:
    """Rows over a tiny model: not changed they change nothing, to the bit; changed they do what the matrix does."""
    print(
        "\n## Rows\n\n| body | not changed: logits that differ | changed, beside writing them into the matrix: largest difference |\n|---|---:|---:|"
    )
    right, where = True, device.removeprefix("torch:")
    for precision in PRECISIONS:
        model = model_of(TINY, precision, where)
        ids = torch.arange(3, 3 + 8 * 40, device=where).reshape(8, 40) % TINY.vocabulary
        with torch.inference_mode():
            plain = model(ids).logits
            embedding = lay_over(model, range(3, 103))
            over = model(ids).logits
            embedding.rows += torch.randn_like(embedding.rows)
            changed = model(ids).logits
            model.set_input_embeddings(embedding.base)
            embedding.base.weight[embedding.ids] = embedding.rows.to(embedding.base.weight.dtype)
            written = model(ids).logits
        differ, apart = int((plain != over).sum()), float((changed - written).abs().max())
        right &= differ == 0 and apart == 0
        print(f"| {precision} | {differ:,} | {apart:.1e} |", flush=True)
    return right


def two_cards(device: str) -> bool:
    """A run in one process and in two that talk by nccl; and sharded over the two."""
    print("\n## Two cards\n")
    if device != "cuda" or torch.cuda.device_count() < 2:
        print("Not run: it takes two GPUs.")
        return True
    from helpers import tiny_text
    from helpers.outcomes import outcome
    from ks_core.jobs import queue
    from ks_core.store import workspace
    from ks_core.tuning.arms import parse_arm
    from ks_core.tuning.plans import Plan

    folder = workspace.folder("gpu")
    model = model_of(TINY, "float32", "cpu")
    model.save_pretrained(folder / "model")
    tiny_text.tokenizer().save_pretrained(folder / "model")
    plan = Plan(
        base=str(folder / "model"), tuned="", corpus=tiny_text.corpus(folder, 800), device="cuda", sentences=35, max_new_tokens=4,
        prompt="w3 {source} w4", arms=tuple(parse_arm(a, [7, 9], steps=12, batch_size=5, learning_rate=0.05) for a in ("base", "rows")),
    )  # fmt: skip
    ways = {
        "one process": plan,
        "two": replace(plan, resources=Resources(2)),
        "two, sharded": replace(plan, resources=Resources(2, sharded=True)),
    }
    found = {name: outcome(queue.submit("tune", made.as_dict(), device="cuda")) for name, made in ways.items()}
    alone, right = found["one process"], True
    print("| processes | losses, largest relative difference | answers that differ |\n|---|---:|---:|")
    for name, arms in list(found.items())[1:]:
        losses, others = (np.array(x["Chosen rows"][0]["losses"])[:, 1] for x in (alone, arms))
        apart = float(np.max(np.abs(others - losses) / losses))
        differ = sum(a != b for arm in alone for a, b in zip(alone[arm][1], arms[arm][1], strict=True))
        right &= apart < 1e-4 and differ == 0
        print(f"| {name} | {apart:.1e} | {differ} |", flush=True)
    return right


if __name__ == "__main__":
    sys.exit(main())
