"""How fast held-out sentences are translated here, against transformers' ``generate`` called plainly.

    python -m ks_core bench --translating --sentences 128 --rounds 3

Both sides have the same model, prompts, limit and batch size, in this one process, and take turns. The plain side gives ``generate``
the prompts in the order in which they come, padded on the left by the tokenizer; its answers have to be this program's.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ks_core.errors import SettingsError
from ks_core.translation import corpora, generation
from ks_core.translation.prompts import format_prompt
from ks_core.tuning.models import load_model

OURS, PEER = "this program", "transformers' `generate`, called plainly"
BATCH, LIMIT = 32, 48


def plainly(
    model: Any, tokenizer: Any, prompts: Sequence[str], limit: int = LIMIT, batch_size: int = BATCH
) -> list[str]:
    """The answers as transformers' documentation has it: a padded batch, ``generate``, the new tokens decoded."""
    texts = []
    for start in range(0, len(prompts), batch_size):
        inputs = tokenizer(
            list(prompts[start : start + batch_size]), return_tensors="pt", padding=True, padding_side="left"
        )
        with torch.inference_mode():
            ids = model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=limit,
                do_sample=False, temperature=None, top_p=None, top_k=None, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        texts += tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def ours(model: Any, tokenizer: Any, prompts: Sequence[str], limit: int = LIMIT, batch_size: int = BATCH) -> list[str]:
    """The answers as every page and command gets them."""
    return [
        answer.text
        for answer in generation.generate(model, tokenizer, prompts, max_new_tokens=limit, batch_size=batch_size)
    ]


def run(sentences: int, rounds: int, machine: Sequence[str]) -> int:
    """Measure on the demo's tuned model, which ends its answers, and on its base, which hardly ever does; print Markdown, first what
    it is run on. Returns 1 when answers differ."""
    if sentences < 1 or rounds < 1:
        raise SettingsError(f"--sentences is {sentences}, --rounds is {rounds}. Expected at least 1 of each.")
    held_out = corpora.load("pack:fr-FR").development[:sentences]
    prompts = [format_prompt("short", pair.source, "English", "French") for pair in held_out]
    about = f"{len(prompts)} sentences, {BATCH} at once, up to {LIMIT} tokens each; medians of {rounds} rounds"
    for line in (*machine, about, f"{torch.get_num_threads()} threads\n"):
        print(f"- {line}", flush=True)
    lines, same = [], True
    for source in ("demo:en-fr", "demo:base"):
        model, tokenizer = load_model(source)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = tokenizer.eos_token_id
        model.eval()
        found, texts = compare(model, tokenizer, prompts, rounds)
        same &= texts[OURS] == texts[PEER]
        lines += table(source, found, texts)
    head = [
        "| model | way | seconds | times the peer | CPU seconds | times the peer | same answers |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    print("\n".join(["", *head, *lines]))
    return 0 if same else 1


def compare(
    model: Any, tokenizer: Any, prompts: Sequence[str], rounds: int = 1
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[str]]]:
    """Seconds and CPU seconds of each round, and the answers, by way."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    texts: dict[str, list[str]] = {}
    ways: dict[str, Callable[..., list[str]]] = {PEER: plainly, OURS: ours}
    for way in ways:
        ways[way](model, tokenizer, prompts[:2])  # first calls are slow
    for _ in range(rounds):
        for way, write in ways.items():
            started, worked = time.perf_counter(), time.process_time()
            texts[way] = write(model, tokenizer, prompts)
            found[way].append((time.perf_counter() - started, time.process_time() - worked))
            print(f"{way}: {found[way][-1][0]:.1f} s, {found[way][-1][1]:.1f} s of CPU", flush=True)
    return found, texts


def table(model: str, found: dict[str, list[tuple[float, float]]], texts: dict[str, list[str]]) -> list[str]:
    """The lines of a Markdown table, medians over the rounds."""
    medians = {
        way: [statistics.median(column) for column in zip(*rounds, strict=True)] for way, rounds in found.items()
    }
    lines = []
    for way, (seconds, worked) in medians.items():
        equal = sum(a == b for a, b in zip(texts[way], texts[PEER], strict=True))
        times = (f"{medians[PEER][n] / value:.2f}" for n, value in enumerate((seconds, worked)))
        first, second = times
        lines.append(
            f"| `{model}` | {way} | {seconds:.1f} | {first} | {worked:.1f} | {second} | {equal} of {len(texts[PEER])} |"
        )
    return lines
