"""An exam: several checkpoints, as they are, translate the same held-out sentences. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ks_core import values
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError
from ks_core.jobs import devices, world
from ks_core.jobs.resources import Resources
from ks_core.signature import Signature, versions
from ks_core.translation.encoder_decoder import speak
from ks_core.translation.evaluation import evaluate_model, held_out
from ks_core.translation.metrics import notes
from ks_core.translation.prompts import template
from ks_core.translation.scores import compare
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import CorpusChoice, Plan

if TYPE_CHECKING:
    from ks_core.jobs.running import Running


@dataclass(frozen=True)
class Exam:
    """Everything that decides it: ``sources`` as ``open_checkpoint`` takes them, the first being what the others are
    compared with; text, prompt and decoding as in a ``Plan``. Raises ``SettingsError`` for what cannot be."""

    sources: tuple[str, ...]
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    prompt: str = "short"
    sentences: int = 64
    max_new_tokens: int = 48
    beams: int = 1
    device: str = "auto"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        if not self.sources:
            raise SettingsError("No checkpoint is named. Name at least one.")
        for source in self.sources:
            values.text("The checkpoint", source)
        template(self.prompt)

    def as_plan(self) -> Plan:
        """The run that takes as much: the first checkpoint, translating."""
        return Plan(
            base=self.sources[0], tuned="", corpus=self.corpus, prompt=self.prompt, arms=(Arm("base"),), sentences=self.sentences,
            max_new_tokens=self.max_new_tokens, beams=self.beams, device=self.device, resources=self.resources,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``from_dict`` takes them back."""
        return {**asdict(self), "sources": list(self.sources)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Exam:
        """From what ``as_dict`` gave. Raises ``SettingsError`` for a field that is not known."""
        known = values.of_fields(cls, given)
        known["sources"] = values.members("The checkpoints", known.get("sources", ()))
        known["corpus"] = CorpusChoice.from_dict(known.get("corpus", {}))
        known["resources"] = Resources.from_dict(known.get("resources", {}))
        return cls(**known)


def run_evaluate(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``evaluate``: every checkpoint's scores and answers, compared with the first's; a run's summary in form."""
    from ks_core.checkpoints.opening import open_checkpoint
    from ks_core.tuning.models import load_model

    exam = Exam.from_dict(parameters)
    device = world.device(devices.select(exam.device).removeprefix("torch:"))
    corpus = exam.corpus.load()
    questions = held_out(corpus, exam.prompt, exam.sentences, max_new_tokens=exam.max_new_tokens, beams=exam.beams)
    demo.prepare_for(exam.sources, running)
    results, answers, hashes = [], {}, []
    for source in dict.fromkeys(exam.sources):
        running.progress(0, 1, f"loading {source}", stage=f"load {source}")
        beside = exam.sources[0] if source != exam.sources[0] else None
        model, tokenizer = load_model(source, device, exam.resources, beside)
        speak(tokenizer, corpus.source_language, corpus.target_language)

        def progress(done: int, total: int, source: str = source) -> None:
            running.progress(done, total, f"translating with {source}", unit="sentences", stage=source)

        outcome = evaluate_model(model, tokenizer, questions, progress)
        answers[source] = outcome.answers
        hashes.append(f"{source}@{open_checkpoint(source, beside=beside).content_hash[:12]}")
        results.append({
            "name": source, "kind": "checkpoint", "error": "", "trainable": 0, "evaluation": outcome.evaluation.as_dict(),
            "translating_seconds": outcome.seconds, "answers": outcome.answers_as_dicts(),
        })  # fmt: skip
        del model
    first = next(iter(answers))
    several = len(answers) > 1 and len(questions) > 1 and world.is_main()
    return {
        "arms": results,
        "significance": {first: compare(answers, questions.references, questions.target_language, first)} if several else {},
        "sweep": [],
        "notes": notes(questions.target_language),
        "signature": str(Signature({
            "checkpoints": ", ".join(hashes), **questions.settings(), "device": device.partition(":")[0],
            **exam.resources.facts(), **versions("torch", "transformers", "accelerate", "sacrebleu"),
        })),
    }  # fmt: skip
