"""How the demo's tuned rows are made: ``build`` does it from nothing, and ``run_prepare`` gets the demo ready for the pages."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.checkpoints.demo import ASSETS, BASE, GGUF_SHA256, PACKAGE, TUNED, Report, prepare_base, prepare_for
from ks_core.signature import versions
from ks_core.store import workspace
from ks_core.study.scan import Study
from ks_core.trajectory import recording
from ks_core.translation import corpora
from ks_core.translation.generation import generate
from ks_core.translation.prompts import format_prompt
from ks_core.translation.scores import evaluate
from ks_core.tuning.recipes import Recipe

if TYPE_CHECKING:
    from ks_core.jobs.running import Running


@dataclass(frozen=True)
class Run:
    """A tuned run of the demo: what it is trained on, and how. The optimizer is the one that the shipped rows were made
    with, which is no longer a new training's default (``recipes``)."""

    name: str
    corpus: str = "pack:fr-FR"
    prompt: str = "short"
    steps: int = 300
    learning_rate: float = 1e-2
    schedule: str = "linear"
    optimizer: str = "rowwise_adam"
    seed: int = 0


#: ``en-fr`` is what the app opens; the others differ from it in one thing each, so that the audit can tell what
#: moves a ticket. ``python -m ks_core demo build NAME`` makes any of them.
RUNS = {
    run.name: run
    for run in (
        Run("en-fr"),
        Run("en-fr-seed1", seed=1),
        Run("en-fr-paper", prompt="paper"),
        Run("en-de", corpus="pack:de-DE"),
        Run("en-fr-adam", optimizer="adam"),
    )
}


def build(run: Run, report: Report = lambda done, total, message: None, folder: Path | None = None) -> dict[str, Any]:
    """Tune the demo from nothing and write its adapter and recipe, and the recording of its training. Returns the recipe.

    Takes 5 to 15 minutes on two cores. The adapter holds every row that the training changed.
    """
    from ks_core.likelihood.examples import count_tokens, encode
    from ks_core.likelihood.rows import lay_over
    from ks_core.tuning.models import load_model
    from ks_core.tuning.trainer import train

    prepare_base(report)
    folder = folder or ASSETS / run.name
    model, tokenizer = load_model(BASE)
    corpus = corpora.load(run.corpus)
    examples = encode(corpus, tokenizer, run.prompt, model.config.max_position_embeddings)
    counts = count_tokens(examples)
    prompts = [format_prompt(run.prompt, p.source, corpus.source_language, corpus.target_language) for p in corpus.test]
    references = [p.target for p in corpus.test]

    def scored(label: str) -> dict[str, Any]:
        answers = generate(
            model,
            tokenizer,
            prompts,
            progress=lambda done, total: report(done, total, f"translating with {label}"),
        )
        return evaluate(answers, references, corpus.target_language).as_dict()

    scores = {"base": scored("the base")}
    settings = Recipe(
        run.steps,
        learning_rate=run.learning_rate,
        schedule=run.schedule,
        optimizer=run.optimizer,
        seed=run.seed,
    )
    rows = lay_over(model, sorted(counts))
    with tempfile.TemporaryDirectory() as scratch:
        trained = train(
            model,
            tokenizer,
            examples,
            settings,
            Path(scratch),
            progress=lambda step, steps, loss: report(step, steps, f"Embed Tuning, loss {loss:.2f}"),
            record=folder / recording.FILE,
            base=BASE,
        )
    scores["embed_tuning"] = scored("the tuned model")
    moved = (rows.rows.detach() != rows.base.weight[rows.ids].float()).any(dim=1)
    ids = rows.ids[moved].tolist()
    write_trainable_tokens(folder, ids, rows.rows.detach()[moved].numpy(), base=BASE)
    found = {
        "run": asdict(run), "recipe": settings.as_dict(), "rows_changed": len(ids),
        "corpus": {"name": corpus.name, "hash": corpus.content_hash, "train": len(corpus.train),
                   "held_out": len(corpus.held_out), "test": len(corpus.test), "part": "test", "dropped": corpus.dropped},
        "base": {"package": PACKAGE, "gguf_sha256": GGUF_SHA256},
        "scores": scores, "training_seconds": round(trained.seconds, 1), "losses": trained.losses,
        "training_counts": {str(i): n for i, n in sorted(counts.items())},
        "versions": versions("torch", "transformers", "tokenizers", "sacrebleu"),
        "considered": json.loads((ASSETS / "considered.json").read_text(encoding="utf-8")),
    }  # fmt: skip
    workspace.write_json(folder / "recipe.json", found)
    return found


def run_prepare(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``demo``: base model, scan and map, so that every page opens at once."""
    prepare_for((BASE, TUNED), running)
    running.progress(0, 1, "testing every row", stage="scan")
    scan = Study(BASE, TUNED).scan(
        lambda done, total: running.progress(done, total, "testing", unit="rows", stage="rows")
    )
    return {"rows": len(scan.token_ids), "signature": str(scan.signature)}
