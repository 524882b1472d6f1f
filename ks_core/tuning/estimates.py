"""How long a run will take, from what this machine, or a node of a cluster, was measured to do.

Measured are seconds per training token and per generated token of a batch, on the very model; everything
else is arithmetic; that a reference is read takes at most as long as if it were trained on. Estimates are upper bounds where a
model does not end its answers, and a machine that does other work is slower: the figure is shown as "about", and every run puts
its own measure in its place.
What a node was measured to do counts for what is asked of Slurm alike: partition, GPUs and cores.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core import values
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError
from ks_core.jobs import world
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import duration
from ks_core.store import workspace
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.translation.manners import SHOTS
from ks_core.translation.prompts import prompt_lengths
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import Plan
from ks_core.tuning.runs import run

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: A step of full tuning computes the weights' gradients too.
FULL_FACTOR = 1.6
#: Sentences in a batch of generation, and steps and sentences of the measurement.
BATCH, STEPS, SENTENCES, TOKENS = 32, 4, 16, 12
#: How often the measurement says how far it is: loading, steps, a batch of answers, one of references, and its end.
MARKS = 1 + STEPS + 2 + 2


@dataclass(frozen=True)
class Rates:
    """What was measured: seconds per training token, per token of a generated batch, per model load; characters per
    token of this text; when (seconds since 1970)."""

    train: float
    generate: float
    load: float
    characters: float
    when: float


def _path(plan: Plan, where: Allocation | None) -> Path:
    node = f"|slurm {where.partition}, {where.gpus} GPUs, {where.cpus} cores" if where else ""
    told = f"{plan.base}|{plan.device}|{plan.resources.facts() or ''}{node}"
    return workspace.home() / "rates" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


def known(plan: Plan, where: Allocation | None = None) -> Rates | None:
    """The rates for a plan's model and device: of this machine, or of a node; ``None`` before they were measured."""
    try:
        found = Rates(**values.of_fields(Rates, workspace.read_json(_path(plan, where))))
        positive = all(values.number(name, value) >= 0 for name, value in asdict(found).items())
    except (SettingsError, TypeError):
        return None
    return found if positive and found.characters else None


def keep(plan: Plan, rates: Rates, where: Allocation | None = None) -> None:
    """Keep rates for the next estimate."""
    workspace.write_json(_path(plan, where), asdict(rates))


def seconds(plan: Plan, corpus: Corpus, rates: Rates) -> list[tuple[str, float]]:
    """Seconds per arm, and for loading and the sweep: (name, seconds) in the order of the run."""
    plan = plan.in_steps(corpus)
    tokens = _tokens(plan.prompt, corpus, rates)
    scored = min(plan.sentences or len(corpus.test), len(corpus.test))
    translating = _steps(plan, scored) * rates.generate if plan.generate else 0.0
    reading = scored * tokens * rates.train
    found = [("loading", rates.load)]
    base = any(arm.kind == "base" for arm in plan.arms)
    for arm in plan.arms:
        # What the base wrote is known, where it is an arm; and examples make a text so many times as long.
        own = 0.0 if arm.kind == "stop" and base else translating
        own += reading * (1 + SHOTS) if arm.kind == "examples" else reading
        own += rates.load if arm.kind in ("tuned", "full") else 0
        if arm.recipe:
            factor = FULL_FACTOR if arm.kind == "full" else 1.0
            own += arm.recipe.steps * arm.recipe.batch_size * tokens * rates.train * factor
        found.append((arm.name, own))
    if plan.sweep:
        found.append(("sweep over alpha", len(set(plan.sweep)) * (translating + reading)))
    return found


def reading(prompt: str, corpus: Corpus, rates: Rates) -> float:
    """Seconds, at most, in which a reference of a text is read under a prompt."""
    return _tokens(prompt, corpus, rates) * rates.train


def _tokens(prompt: str, corpus: Corpus, rates: Rates) -> float:
    """Tokens of a pair of the text under a prompt, in the mean."""
    return _characters(prompt, corpus, corpus.train) / rates.characters


def _characters(prompt: str, corpus: Corpus, pairs: Sequence[SentencePair]) -> float:
    """Characters of a pair under a prompt, in the mean."""
    read = prompt_lengths(prompt, [p.source for p in pairs], corpus.source_language, corpus.target_language)
    return (sum(read) + sum(len(p.target) for p in pairs)) / len(pairs)


def sentence(plan: Plan, corpus: Corpus, rates: Rates, where: Allocation | None = None) -> str:
    """How long it takes and by which measure, for a person. Of an array: with all its arms side by side, and together."""
    parts = seconds(plan, corpus, rates)
    whole = sum(spent for _, spent in parts)
    if where is None:
        return f"About {duration(whole)} on this machine, which was measured for this model."
    measured = f"{f'partition {where.partition}' if where.partition else 'the cluster'} was measured for this model"
    if not where.array or len(plan.independent) < 2:
        return f"About {duration(whole)} once it runs, as {measured}."
    side = [parts[1 + n][1] for n in plan.independent]
    shortest = whole - sum(side) + max(side)
    return (
        f"About {duration(shortest)} if all {len(side)} arms of the array run at once, as {measured}; one after the other "
        f"they take {duration(whole + rates.load * (len(side) - 1))}."
    )


def measure(plan: Plan, running: Running) -> Rates:
    """Measure by doing: a few steps of training and a few tokens of translation of the plan's own text."""
    arm = Arm("frequent", k=8)
    assert arm.recipe is not None
    small = replace(
        plan, tuned="", sweep=(), sentences=SENTENCES, max_new_tokens=TOKENS, beams=1, generate=True,
        arms=(replace(arm, recipe=replace(arm.recipe, steps=STEPS)),),
    )  # fmt: skip
    corpus = plan.corpus.load()
    started = time.perf_counter()
    marks: list[tuple[str, float]] = []

    def report(done: float, total: float, message: str = "", *, unit: str = "", stage: str = "") -> None:
        if done >= total or not stage.endswith("translating"):  # which says so after each token
            marks.append((stage, time.perf_counter()))
        running.progress(min(len(marks), MARKS), MARKS, "a few steps and sentences", unit="parts", stage="measure")

    with tempfile.TemporaryDirectory() as folder:
        summary = run(small, Path(folder), report, should_stop=running.should_stop)
    arm_found = summary["arms"][0]
    training = [at for stage, at in marks if stage.endswith("training")]
    # The first step warms up; the others are taken by their median.
    steps = sorted(b - a for a, b in itertools.pairwise(training))
    per_step = arm_found["training_tokens"] / STEPS
    rates = Rates(
        train=steps[len(steps) // 2] / per_step,
        generate=arm_found["translating_seconds"] / TOKENS * (BATCH / SENTENCES) ** 0.5,
        load=max(training[0] - started - steps[len(steps) // 2], 0.0),
        characters=_characters(plan.prompt, corpus, corpus.train[:200]) / (per_step / arm.recipe.batch_size),
        when=time.time(),
    )
    if world.is_main():
        keep(plan, rates, running.allocation)
    return rates


def learn(plan: Plan, summary: dict[str, Any], where: Allocation | None = None) -> None:
    """Put what a finished run took in the place of the measurement, of here or of the nodes that it ran on."""
    rates = known(plan, where)
    if rates is None:
        return
    trained = [a for a in summary["arms"] if a.get("training_tokens") and a["kind"] not in ("full", "lora", "prefix")]
    tokens, spent = sum(a["training_tokens"] for a in trained), sum(a["training_seconds"] for a in trained)
    if spent > 0:
        rates = replace(rates, train=spent / tokens, when=time.time())
    # By the slowest arm, whose answers may not end: others take no longer. A part of a batch would be faster than a whole.
    # Those of a prompt with examples read more, and are not what an arm is expected to take.
    scored = [
        (a, a["evaluation"]["sentences"]) for a in summary["arms"] if a.get("evaluation") and a["kind"] != "examples"
    ]  # fmt: skip
    slowest = max((a["translating_seconds"] / _steps(plan, n) for a, n in scored if n >= BATCH), default=0)
    if slowest > 0:
        rates = replace(rates, generate=slowest, when=time.time())
    keep(plan, rates, where)


def _steps(plan: Plan, sentences: int) -> int:
    """The most tokens that translating so many sentences takes, of a whole batch each."""
    return math.ceil(sentences / BATCH) * plan.max_new_tokens * plan.beams


def run_estimate(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``estimate``: measure the machine that it runs on for a plan's model."""
    plan = Plan.from_dict(parameters)
    demo.prepare_for((plan.base,), running)
    return asdict(measure(plan, running))
