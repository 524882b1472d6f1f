"""An exam: several checkpoints, as they are, are scored on the same held-out sentences. Nothing is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ks_core import values
from ks_core.checkpoints import adapters, demo, folders, whole
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import ModelError, SettingsError
from ks_core.jobs import devices, world
from ks_core.jobs.resources import Resources
from ks_core.signature import Signature, versions
from ks_core.store import door
from ks_core.translation.corpora import Corpus
from ks_core.translation.encoder_decoder import speak
from ks_core.translation.evaluation import HeldOut, held_out
from ks_core.translation.extraction import usual_rule
from ks_core.translation.generation import Generation
from ks_core.translation.metrics import notes
from ks_core.translation.prompts import check_for
from ks_core.translation.scores import compare, correct
from ks_core.translation.tasks import TASKS
from ks_core.tuning.arms import ARMS, Arm
from ks_core.tuning.comparison import judged
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.scoring import score

if TYPE_CHECKING:
    from ks_core.jobs.running import Running


@dataclass(frozen=True)
class Exam:
    """Everything that decides it: ``sources`` as ``open_checkpoint`` takes them, the first being what the others are
    compared with; text, prompt and decoding as in a ``Plan``. ``baselines`` are kinds of ``ARMS`` that ask the first in another
    manner (``ArmKind.free``). Raises ``SettingsError`` for what cannot be."""

    sources: tuple[str, ...]
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    prompt: str = "short"
    sentences: int = 64
    max_new_tokens: int = 48
    beams: int = 1
    device: str = "auto"
    resources: Resources = field(default_factory=Resources)
    baselines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.sources:
            raise SettingsError("No checkpoint is named. Name at least one.")
        for source in self.sources:
            values.text("The checkpoint", source)
        check_for(TASKS[self.corpus.task], self.prompt)
        for kind in self.baselines:
            if not ARMS.find(values.text("A baseline", kind)).free:
                free = ", ".join(name for name, known in ARMS.items() if known.free)
                raise SettingsError(f"{kind!r} is no way to ask a checkpoint as it is. Expected some of: {free}.")

    def as_plan(self) -> Plan:
        """The run that takes as much: the first checkpoint, translating."""
        return Plan(
            base=self.sources[0], tuned="", corpus=self.corpus, prompt=self.prompt,
            arms=(Arm("base"), *map(Arm, self.baselines)), sentences=self.sentences,
            max_new_tokens=self.max_new_tokens, beams=self.beams, device=self.device, resources=self.resources,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``from_dict`` takes them back."""
        own = {"corpus": self.corpus.as_dict(), "sources": list(self.sources), "baselines": list(self.baselines)}
        return {**asdict(self), **own}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Exam:
        """From what ``as_dict`` gave. Raises ``SettingsError`` for a field that is not known."""
        known = values.of_fields(cls, given)
        known["sources"] = values.members("The checkpoints", known.get("sources", ()))
        known["corpus"] = CorpusChoice.from_dict(known.get("corpus", {}))
        known["baselines"] = values.members("The baselines", known.get("baselines", ()))
        known["resources"] = Resources.from_dict(known.get("resources", {}))
        return cls(**known)


def run_evaluate(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``evaluate``: every checkpoint's scores, likelihood and answers, compared with the first's, which is asked in the
    manners of ``baselines`` too; a run's summary in form."""
    from ks_core.tuning.models import load_model

    exam = Exam.from_dict(parameters)
    device = world.device(devices.select(exam.device).removeprefix("torch:"))
    corpus = exam.corpus.load()
    questions = held_out(corpus, exam.prompt, exam.sentences, max_new_tokens=exam.max_new_tokens, beams=exam.beams)
    demo.prepare_for(exam.sources, running)
    results: list[dict[str, Any]] = []
    answers: dict[str, list[Generation]] = {}
    hashes = []
    for source in dict.fromkeys(exam.sources):
        running.progress(0, 1, f"loading {source}", stage=f"load {source}")
        first = exam.sources[0]
        beside = first if source != first else None
        model, tokenizer = load_model(source, device, exam.resources, beside)
        speak(tokenizer, corpus.source_language, corpus.target_language)
        hashes.append(f"{source}@{_hash(source, beside)}")
        for kind in ("", *(exam.baselines if source == first else ())):
            name = f"{source}, {ARMS[kind].title}" if kind else source
            results.append(_examined(exam, model, tokenizer, corpus, questions, running, name, kind, answers))
        del model
    kinds = {a["name"]: a["kind"] for a in results}
    several = len(answers) > 1 and len(questions) > 1 and world.is_main()
    against = [name for name in answers if several and (name == exam.sources[0] or kinds[name] == "stop")]
    significance = {
        name: compare(answers, questions.references, questions.target_language, name) for name in against
    }  # fmt: skip
    correct(list(significance.values()))
    return {
        "arms": results,
        "significance": significance,
        "likelihood": judged(results),
        "sweep": [],
        "rule": usual_rule(questions.references),
        "notes": notes(questions.target_language),
        "signature": str(Signature({
            "checkpoints": ", ".join(hashes), **questions.settings(), "device": device.partition(":")[0],
            **exam.resources.facts(), **versions("torch", "transformers", "accelerate", "sacrebleu"),
        })),
    }  # fmt: skip


def _hash(source: str, beside: str | None) -> str:
    """The beginning of the hash of a checkpoint's embedding; of a prefix, which has none, of its base's and its own values."""
    found = whole.prefix_of(source, beside)
    if not found:
        return open_checkpoint(source, beside=beside).content_hash[:12]
    folder, under = found
    own = door.read_bytes(folders.inside(folder, folder / adapters.WEIGHTS))
    return hashlib.sha256(open_checkpoint(under).content_hash.encode() + own).hexdigest()[:12]


def _examined(
    exam: Exam,
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    questions: HeldOut,
    running: Running,
    name: str,
    kind: str,
    answers: dict[str, list[Generation]],
) -> dict[str, Any]:
    """The scores of a checkpoint as it is, or of the first in another manner (a ``kind`` of ``ARMS``), of which a model that cannot
    be asked so has an error. Its answers are put into ``answers``."""
    found: dict[str, Any] = {"name": name, "kind": kind or "checkpoint", "error": "", "trainable": 0}
    first = next(iter(answers), None)
    try:
        manner = ARMS[kind].asked(model, tokenizer, corpus, exam.prompt, 0) if kind else None
        written = (answers[first], 0.0) if manner and manner.breaks and first else None
        scored = score(
            model, tokenizer, corpus, questions, running.progress, name, name, manner=manner, written=written
        )
    except (ModelError, SettingsError) as error:
        if not kind:
            raise
        return {**found, "error": str(error)}
    assert scored.outcome is not None
    answers[name] = scored.outcome.answers
    asked = {"asked": {"prompt": manner.prompt, "about": manner.about}} if manner else {}
    return {**found, **scored.as_dict(), **asked, "answers": scored.outcome.answers_as_dicts()}
