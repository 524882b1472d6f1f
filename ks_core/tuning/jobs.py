"""The jobs ``tune``, a whole run, and ``arm``, one arm of it that stands by itself: a task of an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ks_core.checkpoints import demo
from ks_core.jobs import world
from ks_core.jobs.running import Running
from ks_core.tuning import estimates
from ks_core.tuning.plans import Plan
from ks_core.tuning.runs import run, run_arm
from ks_core.tuning.workbench import Bench


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
    plan = Plan.from_dict(parameters)
    demo.prepare_for((plan.base, plan.tuned), running)
    summary = run(plan, running.folder, running.progress, event=running.event, should_stop=running.should_stop)
    if world.is_main():
        estimates.learn(plan, summary, running.allocation)
    return summary


def parts_of(parameters: dict[str, Any]) -> dict[int, tuple[str, str, dict[str, Any]]]:
    """A run as an array: its independent arms by number, each as (name, kind of job, parameters). Empty for fewer than two."""
    plan = Plan.from_dict(parameters)
    alone = plan.independent if len(plan.independent) > 1 else []
    return {n: (plan.arms[n].name, "arm", {**parameters, "arm": n}) for n in alone}
