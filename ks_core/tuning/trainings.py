"""How a tuned checkpoint was trained, where that is written down: the demo's runs, and arms of Fine-tune's runs.

From its recipe follow the batches, and from these how often, first and last each token was trained. Runs of the
same base can be compared with each other, and say by their facets in what they differ.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError
from ks_core.store import workspace
from ks_core.store.cache import Cache
from ks_core.tuning.arms import ROWS, Arm
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe

_REBUILDING = threading.Lock()
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


@dataclass(frozen=True)
class Seen:
    """What a training met. ``counts``: token id -> occurrences in its examples, each counted once; ``prompt_ids``: tokens
    of every example; ``first`` and ``last``: token id -> training step, from 1."""

    counts: dict[int, int]
    prompt_ids: list[int]
    first: dict[int, int]
    last: dict[int, int]


def of(source: str) -> Training | None:
    """The training behind a source; ``None`` where nothing is written down."""
    if source == "demo" or source.startswith("demo:"):
        return _demo("demo:" + (source.partition(":")[2] or "en-fr"))
    return _arm(Path(source).expanduser())


def others(training: Training) -> list[Training]:
    """Trainings of the same rows of the same base, the newest first, without this one."""
    found = (_demo(name) for name in demo.names()) if training.source.startswith("demo:") else _arms()
    alike = [
        t for t in found if t and (t.base, t.kind) == (training.base, training.kind) and t.source != training.source
    ]
    return alike[:MOST]


def second_seed(training: Training) -> Training | None:
    """Another training that differs in nothing but the seed, if there is one."""
    own = {**asdict(training.recipe), "seed": 0}
    for other in others(training):
        same_text = (other.corpus_hash, other.prompt) == (training.corpus_hash, training.prompt)
        if same_text and {**asdict(other.recipe), "seed": 0} == own and other.recipe.seed != training.recipe.seed:
            return other
    return None


def seen(training: Training) -> Seen | None:
    """What a training met, rebuilt from its recipe (some seconds) and kept.

    ``None`` where its text or its base's tokenizer is not as it was any more.
    """
    key = {"corpus": training.corpus_hash, "prompt": training.prompt, "recipe": asdict(training.recipe),
           "choice": asdict(training.corpus), "base": training.base}  # fmt: skip
    with _REBUILDING:  # of several sessions that ask one does it, and the others find it
        entry = Cache().load("steps", key)
        if entry is not None:
            arrays = entry.arrays
        else:
            try:
                rebuilt = _rebuilt(training)
            except KSLotteryError:
                rebuilt = None
            if rebuilt is None:
                return None
            arrays = rebuilt
            Cache().store("steps", key, arrays, {})
    ids = arrays["ids"].tolist()
    columns = [dict(zip(ids, arrays[name].tolist(), strict=True)) for name in ("counts", "first", "last")]
    return Seen(columns[0], arrays["prompt_ids"].tolist(), columns[1], columns[2])


def counts(source: str) -> dict[int, int] | None:
    """How often each token id occurs in a training's examples; ``None`` where that is not known.

    The demo's are kept in its recipe, so that no tokenizer has to be loaded for them.
    """
    training = of(source)
    if training is None:
        return None
    if source.startswith("demo"):
        return {int(i): n for i, n in demo.recipe(training.name)["training_counts"].items()}
    found = seen(training)
    return found.counts if found else None


def steps_seen(
    examples: Sequence[Sequence[int]], order: Sequence[int], batch_size: int
) -> tuple[dict[int, int], dict[int, int]]:
    """First and last step, from 1, at which each token id was trained.

    ``examples`` are token ids; ``order`` which example comes when, as ``ks_core.tuning.batches.batch_order`` gives it.

    >>> steps_seen([[5, 6], [6]], order=[0, 1, 1, 1], batch_size=2)
    ({5: 1, 6: 1}, {5: 1, 6: 2})
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, example in enumerate(order):
        for token in examples[example]:
            last[token] = place // batch_size + 1
            first.setdefault(token, last[token])
    return first, last


def _rebuilt(training: Training) -> dict[str, np.ndarray] | None:
    from ks_core.tuning.batches import batch_order, count_tokens, encode
    from ks_core.tuning.models import load_tokenizer

    corpus = training.corpus.load()
    if corpus.content_hash[:12] != training.corpus_hash:  # the file, or the version of the pack, is another one
        return None
    examples = encode(corpus, load_tokenizer(training.base_source), training.prompt, 1 << 30)
    recipe = training.recipe
    order = batch_order([len(e["input_ids"]) for e in examples], recipe.batch_size, recipe.steps, recipe.seed)
    first, last = steps_seen([e["input_ids"] for e in examples], order, recipe.batch_size)
    met = [examples[i] for i in dict.fromkeys(order)]
    counts = count_tokens(met)
    ids = np.array(sorted(counts), np.int64)
    everywhere = set.intersection(*(set(e["input_ids"]) for e in met))
    return {
        "ids": ids, "counts": np.array([counts[int(i)] for i in ids]),
        "first": np.array([first[int(i)] for i in ids]), "last": np.array([last[int(i)] for i in ids]),
        "prompt_ids": np.array(sorted(everywhere), np.int64),
    }  # fmt: skip


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
    """The arm whose adapter a folder is: ``<run>/arms/<number>-<kind>/adapter``."""
    try:
        place, run = folder.parent, folder.parents[2]
        plan = Plan.from_dict(workspace.read_json(run / "plan.json"))
        told = workspace.read_json(place / "result.json")
        arm: Arm = plan.arms[int(place.name.partition("-")[0])]
        fields = dict(part.partition(":")[::2] for part in told["signature"].split("|"))
        base, corpus = fields["base"].rpartition("@")[2], fields["corpus"].rpartition("@")[2]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if arm.kind not in ROWS or arm.recipe is None or told.get("error"):
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
