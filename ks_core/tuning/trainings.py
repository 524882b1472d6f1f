"""How a tuned checkpoint was trained, where that is written down: the demo's runs, and arms of Fine-tune's runs.

From its recipe follow the batches, and from these how often, first and last each token was trained. Runs of the
same base can be compared with each other, and say by their facets in what they differ.

"How often" is three numbers, none of which counts the end token, as it is only ever predicted (``examples.fed``):

- the **count in the text**: positions of the whole training text that hold the token;
- its **draws**: positions of the batches that hold it, as the seed's order dealt them out (300 batches of 8 are 2,400
  draws of examples, whatever the text has);
- its **steps**: optimizer steps whose batch holds it at all, which are those that moved its row under an optimizer that
  steps the batch's rows alone.

What is said of training is said of steps. On the demo D goes with them closest: Spearman 0.883, with draws 0.866, with the
count in the text 0.858 (3,174 rows, one seed).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError, ModelError
from ks_core.jobs import bounded
from ks_core.store import access
from ks_core.store.cache import Cache
from ks_core.tuning.arms import ARMS, Arm
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe

_REBUILDING = threading.Lock()
#: Raised when what is counted changes, so that the cache's older numbers are not taken for it.
COUNTED = 2
_MEASURES = ("draws", "steps", "first", "last")
#: Of how many runs the newest are compared.
MOST = 8


@dataclass(frozen=True)
class Training:
    """A training of embedding rows. ``base`` is its base by content, ``corpus_hash`` the text's, 12 hex digits each."""

    source: str
    name: str
    base_source: str
    base: str
    corpus: CorpusChoice
    corpus_hash: str
    prompt: str
    recipe: Recipe
    #: Which rows: ``embed``, all that occur in the text.
    kind: str = "embed"

    @property
    def facets(self) -> dict[str, Any]:
        """In what trainings are told apart: ``seed``, ``prompt``, ``language`` and ``optimizer``."""
        return {
            "seed": self.recipe.seed, "prompt": self.prompt, "language": self.corpus.name,
            "optimizer": self.recipe.optimizer,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Training:
        """From the plain values of ``asdict``."""
        return cls(**{**told, "corpus": CorpusChoice(**told["corpus"]), "recipe": Recipe(**told["recipe"])})


@dataclass(frozen=True)
class Met:
    """How batches met each token id: ``draws`` positions that held it, ``steps`` whose batch held it, ``first`` and
    ``last`` of these steps, from 1. A token that no batch held is in none of them."""

    draws: dict[int, int]
    steps: dict[int, int]
    first: dict[int, int]
    last: dict[int, int]


@dataclass(frozen=True)
class Seen(Met):
    """What a training met. ``counts``: token id -> positions of the whole text, met or not, that hold it;
    ``prompt_ids``: tokens of every example that was met."""

    counts: dict[int, int]
    prompt_ids: list[int]


def of(source: str) -> Training | None:
    """The training behind a source; ``None`` where nothing is written down."""
    if demo.is_name(source):
        return _demo(demo.TUNED if source == "demo" else source)
    try:
        path = Path(source).expanduser()
    except (RuntimeError, ValueError):  # ~name, and there is no such user, or no user could be called so
        return None
    return _arm(path) if access.is_inside(path) else None


def others(training: Training) -> list[Training]:
    """Trainings of the same rows of the same base, the newest first, without this one."""
    found = (_demo(name) for name in demo.names()) if demo.is_name(training.source) else _arms()
    alike = [
        t for t in found if t and (t.base, t.kind) == (training.base, training.kind) and t.source != training.source
    ]
    return alike[:MOST]


def second_seed(training: Training) -> Training | None:
    """Another training that differs in nothing but the seed, if there is one."""
    return next((other for other in others(training) if differ_in_seed(training, other)), None)


def differ_in_seed(one: Training, other: Training) -> bool:
    """Whether two trainings of rows of the same base differ in nothing but the seed."""
    # The demo's notes know its base by the file that it came in, and not by content.
    of_one = one.base == other.base or one.base_source == other.base_source
    alike = of_one and all(getattr(one, name) == getattr(other, name) for name in ("kind", "corpus_hash", "prompt"))
    own, its = ({**t.recipe.as_dict(), "seed": 0} for t in (one, other))
    return alike and own == its and one.recipe.seed != other.recipe.seed


def other_seeds(source: str) -> list[str]:
    """Sources of the trainings that differ from that of ``source`` in nothing but the seed, the newest first, one a seed; empty
    where its training is not known."""
    training = of(source)
    if training is None:
        return []
    found: dict[int, str] = {}
    for other in (*(_demo(name) for name in demo.names()), *_arms()):
        if other and differ_in_seed(training, other):
            found.setdefault(other.recipe.seed, other.source)
    return list(found.values())[:MOST]


def seen(training: Training) -> Seen | None:
    """What a training met, rebuilt from its recipe (some seconds) and kept.

    ``None`` where its text or its base's tokenizer is not as it was any more.
    """
    key = {"corpus": training.corpus_hash, "prompt": training.prompt, "recipe": training.recipe.as_dict(),
           "choice": training.corpus.as_dict(), "base": training.base, "counted": COUNTED}  # fmt: skip
    with _REBUILDING:  # of several sessions that ask one does it, and the others find it
        entry = Cache().load("steps", key)
        if entry is not None:
            arrays = entry.arrays
        else:
            try:
                rebuilt = bounded.work(_rebuilt, told=asdict(training), what=training.name, error=ModelError)
            except KSLotteryError:
                rebuilt = None
            if rebuilt is None:
                return None
            arrays = {name: np.array(column, np.int64) for name, column in rebuilt.items()}
            Cache().store("steps", key, arrays, {})
    ids = arrays["ids"].tolist()
    met = {name: dict(zip(arrays["met"].tolist(), arrays[name].tolist(), strict=True)) for name in _MEASURES}
    return Seen(
        **met, counts=dict(zip(ids, arrays["counts"].tolist(), strict=True)), prompt_ids=arrays["prompt_ids"].tolist()
    )


def by_step(training: Training) -> list[list[int]] | None:
    """The token ids that each optimizer step of a training touched, ascending, step by step: rebuilt as ``seen`` is, and not
    kept. ``None`` where its text or its base's tokenizer is not as it was any more."""
    try:
        found: list[list[int]] | None = bounded.work(
            _touched, told=asdict(training), what=training.name, error=ModelError
        )
    except KSLotteryError:
        return None
    return found


def steps(source: str) -> dict[int, int] | None:
    """How many optimizer steps of a training touched each token id; ``None`` where that is not known."""
    training = of(source)
    found = seen(training) if training else None
    return found.steps if found else None


def counts(source: str) -> dict[int, int] | None:
    """How often the model reads each token id in a training's text (not how often it was trained: ``steps``); ``None``
    where that is not known.

    The demo's are kept in its recipe, so that no tokenizer has to be loaded for them.
    """
    training = of(source)
    if training is None:
        return None
    if demo.is_name(source):
        return {int(i): n for i, n in demo.recipe(training.name)["training_counts"].items()}
    found = seen(training)
    return found.counts if found else None


def how_often(source: str) -> tuple[dict[int, int] | None, str]:
    """How often each token id was trained, and by what measure (of ``tickets.ranking``): ``STEPS``, or ``COUNT`` where
    only that is known, as of the demo without its text. ``None`` where neither is."""
    from ks_core.tickets.ranking import COUNT, STEPS  # loads scipy

    stepped = steps(source)
    return (stepped, STEPS) if stepped is not None else (counts(source), COUNT)


def met_in(examples: Sequence[Sequence[int]], order: Sequence[int], batch_size: int) -> Met:
    """How the batches of a training meet each token id.

    ``examples`` are token ids as the model reads them; ``order`` which example comes when, as
    ``ks_core.likelihood.batches.batch_order`` gives it.

    >>> met = met_in([[5, 6, 5], [6]], order=[0, 1, 1, 1], batch_size=2)
    >>> met.draws, met.steps, met.first, met.last
    ({5: 2, 6: 4}, {5: 1, 6: 2}, {5: 1, 6: 1}, {5: 1, 6: 2})
    """
    draws: Counter[int] = Counter()
    touched: Counter[int] = Counter()
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for start in range(0, len(order), batch_size):
        batch = [token for n in order[start : start + batch_size] for token in examples[n]]
        step = start // batch_size + 1
        draws.update(batch)
        for token in dict.fromkeys(batch):
            touched[token] += 1
            first.setdefault(token, step)
            last[token] = step
    return Met(dict(draws), dict(touched), first, last)


def _rebuilt(told: dict[str, Any]) -> dict[str, list[int]] | None:
    """What a training met, from its plain values, as columns; ``None`` where its text is another one by now."""
    from ks_core.likelihood.examples import count_tokens, fed

    found = dealt(told)
    if found is None:
        return None
    examples, order, batch_size = found
    met_by_token = met_in([fed(e) for e in examples], order, batch_size)
    counted, met = count_tokens(examples), sorted(met_by_token.steps)
    everywhere = set.intersection(*(set(fed(examples[i])) for i in dict.fromkeys(order)))
    return {
        "ids": list(counted), "counts": list(counted.values()), "met": met,
        **{name: [getattr(met_by_token, name)[i] for i in met] for name in _MEASURES},
        "prompt_ids": sorted(everywhere),
    }  # fmt: skip


def _touched(told: dict[str, Any]) -> list[list[int]] | None:
    """The token ids of each step of a training; ``None`` where its text is another one by now."""
    from ks_core.likelihood.examples import fed

    found = dealt(told)
    if found is None:
        return None
    examples, order, size = found
    return [
        sorted({i for n in order[start : start + size] for i in fed(examples[n])})
        for start in range(0, len(order), size)
    ]


def dealt(told: dict[str, Any]) -> tuple[list[dict[str, list[int]]], list[int], int] | None:
    """A training's examples, their order and how many make a step, from its plain values; ``None`` for another text.

    The notes, and the tokenizer that they lead to, may come from anywhere: a server has this done in a process with bounds.
    """
    from ks_core.likelihood.batches import batch_order
    from ks_core.likelihood.examples import encode
    from ks_core.tuning.models import load_tokenizer

    training = Training.from_dict(told)
    corpus = training.corpus.load()
    if corpus.content_hash[:12] != training.corpus_hash:  # the file, or the version of the pack, is another one
        return None
    examples = encode(corpus, load_tokenizer(training.base_source), training.prompt, 1 << 30)
    recipe = training.recipe
    order = batch_order([len(e["input_ids"]) for e in examples], recipe.batch_size, recipe.steps, recipe.seed)
    return examples, order, recipe.batch_size


def _demo(source: str) -> Training | None:
    run = source.partition(":")[2]
    if source == demo.BASE or (source not in demo.names() and run not in demo.kept_tests()):
        return None
    made = demo.recipe(run)
    return Training(
        source, run, demo.BASE, made["base"]["gguf_sha256"][:12], CorpusChoice(made["run"]["corpus"]),
        made["corpus"]["hash"][:12], made["run"]["prompt"], Recipe(**made["recipe"]),
    )  # fmt: skip


def _arms() -> list[Training | None]:
    """Every arm of Fine-tune's runs that is an adapter, the newest run first."""
    from ks_core.jobs.queue import all_jobs

    return [_arm(path) for job in all_jobs("tune") for path in sorted(job.folder.glob("arms/*/adapter"))]


def _arm(folder: Path) -> Training | None:
    """The arm whose adapter a folder is: ``<run>/arms/<number>-<kind>/adapter``; ``None`` also where its notes are not to be
    opened."""
    try:
        place, run = folder.parent, folder.parents[2]
        plan = Plan.from_dict(bounded.read_json(run / "plan.json", ModelError))
        told = bounded.read_json(place / "result.json", ModelError)
        arm: Arm = plan.arms[int(place.name.partition("-")[0])]
        fields = dict(part.partition(":")[::2] for part in told["signature"].split("|"))
        base, corpus = fields["base"].rpartition("@")[2], fields["corpus"].rpartition("@")[2]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if ARMS[arm.kind].function is None or arm.recipe is None or told.get("error"):
        return None
    return Training(
        str(folder),
        f"{run.name[:15]} {arm.name}",
        plan.base,
        base,
        plan.corpus,
        corpus,
        plan.prompt,
        arm.recipe,
        arm.kind,
    )
