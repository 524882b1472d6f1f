"""The audit's panels that need the model, and the job ``audit``, which makes them: one after the other, each kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.audit.inquiry import PANELS, Audit
from ks_core.checkpoints import demo
from ks_core.checkpoints.matrices import take, to_floats
from ks_core.jobs import world
from ks_core.jobs.resources import Resources
from ks_core.store import workspace
from ks_core.study.scan import Scan

if TYPE_CHECKING:
    from ks_core.jobs.running import Running


def run_audit(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``audit``: the panels that need the model, each kept as soon as it is made."""
    audit = Audit.from_dict(parameters)
    demo.prepare_for((audit.base, audit.tuned), running)
    with world.main_first():
        scan = audit.study.scan(
            lambda done, total: running.progress(done, total, "testing rows", unit="rows", stage="scan")
        )
    audit.positions(scan)
    missing = world.agree([name for name in PANELS if audit.panel(name) is None])
    if missing:
        make_panels(audit, scan, missing, running)
    return {"panels": list(PANELS), "signature": str(audit.signature)}


def delta_model(audit: Audit, scan: Scan) -> tuple[Any, Any]:
    """The base with every changed row laid over it (``ks_core.tuning.rows``), and its tokenizer.

    The rows come through the pair's own matching, so that an adapter and a whole model go one way; what else a
    tuned model changed is not in it, and is not the ticket's.
    """
    from ks_core.jobs import devices
    from ks_core.tuning.models import load_model, put_rows
    from ks_core.tuning.rows import lay_over

    # The slider of the page is moved in one process, whatever the job takes.
    resources = audit.resources if world.size() > 1 else Resources(precision=audit.resources.precision)
    device = world.device(devices.select(audit.device).removeprefix("torch:"))
    model, tokenizer = load_model(audit.base, device, resources)
    changed = np.nonzero(scan.changed)[0]
    order = np.argsort(scan.token_ids[changed])
    after = audit.study.pair.after
    rows = lay_over(model, scan.token_ids[changed].tolist())
    put_rows(rows, to_floats(take(after, changed[order]), after.dtype))
    return model, tokenizer


def make_panels(audit: Audit, scan: Scan, names: list[str], running: Running) -> None:
    """Make some panels and keep each. ``running.progress`` may raise ``Cancelled``; what was kept stays."""
    from ks_core.audit.certificate import predict
    from ks_core.audit.gating import position_gating
    from ks_core.audit.prompt_transfer import prompt_transfer
    from ks_core.audit.strength import sweep
    from ks_core.translation.evaluation import check_length, held_out
    from ks_core.tuning.batches import encode

    corpus = audit.corpus.load()
    asked = held_out(corpus, audit.prompt, audit.sentences, max_new_tokens=audit.max_new_tokens)
    running.progress(0, 1, "loading the model", stage="load")
    model, tokenizer = delta_model(audit, scan)
    check_length(model, tokenizer, asked)
    ticket = scan.token_ids[audit.positions(scan)].tolist()
    options: dict[str, Any] = {"max_new_tokens": audit.max_new_tokens}

    def made(name: str, found: Any) -> None:
        if world.is_main():
            kept = {**found.as_dict(), "signature": str(audit.signature)}
            workspace.write_json(audit.folder() / f"{name}.json", kept)
        running.event(panel=name)

    def report(name: str) -> Any:
        return lambda done, total, message: running.progress(
            done, total, f"{names.index(name) + 1} of {len(names)}: {message}", unit="sentences", stage=name
        )

    audit.folder().mkdir(parents=True, exist_ok=True)
    if "gating" in names:
        made("gating", position_gating(
            model, tokenizer, asked.prompts, asked.sources, asked.references, template=asked.template,
            target_language=asked.target_language, ids=ticket, report=report("gating"), **options,
        ))  # fmt: skip
    if "transfer" in names:
        made("transfer", prompt_transfer(
            model, tokenizer, asked.sources, asked.references, trained=asked.template, ids=ticket,
            source_language=corpus.source_language, target_language=corpus.target_language, report=report("transfer"),
            **options,
        ))  # fmt: skip
    if "strength" in names:
        made("strength", sweep(
            model, tokenizer, asked.prompts, asked.references, target_language=asked.target_language,
            rows={"ticket": ticket, "all changed rows": None}, report=report("strength"), **options,
        ))  # fmt: skip
    if "certificate" in names:
        asked_pairs = replace(corpus, train=corpus.held_out[: audit.sentences])
        examples = encode(
            asked_pairs, tokenizer, audit.prompt, getattr(model.config, "max_position_embeddings", 1 << 30)
        )
        changed = scan.changed
        statistic = dict(zip(scan.token_ids[changed].tolist(), scan.statistic[changed].tolist(), strict=True))
        made("certificate", predict(
            model, examples, pad=tokenizer.pad_token_id, ticket=ticket, statistic=statistic, report=report("certificate"),
        ))  # fmt: skip
