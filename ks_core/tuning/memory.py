"""How much memory a run takes, before it starts: arithmetic on the model's shape.

Per token and layer, training through a frozen body keeps what the backward pass needs: the inputs of both norms in
float32, queries, keys, values and the attention's output, and three vectors of the feed-forward layer. Weights keep no
gradients and their inputs are not kept either. That is what autograd was found to keep on a Llama, in float32 and in
bfloat16; models of another kind keep about as much. Logits count three times: themselves, their logarithm, the gradient.

    >>> need(LLAMA_7B, Resources(precision="bfloat16"), Work(rows=18)).total < 20e9
    True
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ks_core.checkpoints import folders
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.whole import is_rows_over, root
from ks_core.errors import KSLotteryError
from ks_core.jobs import devices
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.resources import PRECISIONS, Resources
from ks_core.translation.corpora import Corpus
from ks_core.translation.manners import SHOTS
from ks_core.translation.prompts import prompt_lengths
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import Plan

#: Characters of a token where the tokenizer was not asked: few, so that texts are taken as rather long.
CHARACTERS = 3.0
#: Python, its libraries and what a device's own library takes; sentences that are translated, and references that are read, at
#: once (``likelihood.scorer.BATCH``).
OVERHEAD, SENTENCES, REFERENCES = 1.2e9, 32, 16


@dataclass(frozen=True)
class Shape:
    """What decides a Llama's size, in values: ``head`` is the width of an attention head."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool

    @property
    def embedding(self) -> int:
        """Weights of the embedding."""
        return self.vocabulary * self.hidden

    @property
    def layer(self) -> int:
        """Weights of a layer."""
        attention = 2 * self.hidden * self.head * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """Weights of all. A tied model is untied when rows are laid over it, which copies nothing."""
        return self.embedding * (1 if self.tied else 2) + self.layers * self.layer + self.hidden


LLAMA_1B = Shape(16, 2048, 8192, 32, 8, 64, 128_256, True)
LLAMA_7B = Shape(32, 4096, 11_008, 32, 32, 128, 32_000, False)
LLAMA_70B = Shape(80, 8192, 28_672, 64, 8, 128, 32_000, False)


def shape_of(source: str) -> Shape | None:
    """The shape of a source's model by its config.json; ``None`` where there is none that says it."""
    try:
        path = root(open_checkpoint(source)).path
        config = folders.read_json(path if path.is_dir() else path.parent, "config.json")
    except (KSLotteryError, OSError):
        return None
    if isinstance(config, dict) and isinstance(config.get("text_config"), dict):
        config = config["text_config"]
    if not isinstance(config, dict):
        return None
    heads = config.get("num_attention_heads")
    hidden = config.get("hidden_size")
    found: list[Any] = [
        config.get("num_hidden_layers"), hidden, config.get("intermediate_size"), heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or (hidden // heads if isinstance(heads, int) and isinstance(hidden, int) and heads else None),
        config.get("vocab_size"),
    ]  # fmt: skip
    if not all(isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40 for value in found):
        return None
    layers, hidden, intermediate, heads, kv_heads, head, vocabulary = found
    return Shape(
        layers, hidden, intermediate, heads, kv_heads, head, vocabulary, config.get("tie_word_embeddings") is True
    )


@dataclass(frozen=True)
class Work:
    """What is done with the model: ``rows`` trained, ``examples`` a step of at most ``tokens`` tokens, ``targets`` of them
    learned; ``written`` tokens an answer with ``beams``; ``everything``: all weights are trained;
    ``second``: a tuned model is loaded beside the base; ``read``: tokens of the longest reference with all that stands before it
    (0: ``tokens``). ``prefix``: values of the largest prefix that is trained, which cannot be done with checkpointing."""

    rows: int = 100
    examples: int = 8
    tokens: int = 60
    targets: int = 24
    written: int = 48
    beams: int = 1
    everything: bool = False
    second: bool = False
    read: int = 0
    prefix: int = 0


@dataclass(frozen=True)
class Need:
    """Bytes that a process takes on its device; it trains, and translates and reads references, one after the other."""

    weights: float
    rows: float
    training: float
    translating: float

    @property
    def total(self) -> float:
        return self.weights + self.rows + max(self.training, self.translating) + OVERHEAD


def need(shape: Shape, resources: Resources, work: Work) -> Need:
    """What each process takes. The formulas are at the head of this file."""
    size, together = PRECISIONS[resources.precision], resources.processes
    weights: float = size * shape.parameters
    if resources.sharded:
        # A share of the layers and of an output layer of its own, a layer in use and the next one, the rest.
        spread = shape.layers * shape.layer + (0 if shape.tied else shape.embedding)
        weights = size * (
            spread / together + shape.embedding + 2 * max(shape.layer, 0 if shape.tied else shape.embedding)
        )
    # A second copy in float32 with its gradient and two moments; or a tuned model as it is, at another time.
    weights += max(16 * shape.parameters * work.everything, weights * work.second)
    examples = -(-work.examples // together)
    kept = kept_per_layer(shape, size)
    checkpointing = resources.checkpointing and not work.prefix
    per_token = shape.layers * size * shape.hidden + kept if checkpointing else shape.layers * kept
    per_token += 4 * shape.hidden  # the last norm's input
    training = examples * (work.tokens * per_token + work.targets * shape.vocabulary * 12)
    cached = shape.layers * 2 * shape.kv_heads * shape.head * size
    read = max(work.tokens, work.read)
    translating = SENTENCES * work.beams * ((read + work.written) * cached + shape.vocabulary * 8)
    # One layer at a time, and logits as in training.
    reading = REFERENCES * (read * kept + work.targets * shape.vocabulary * 12)
    trained = max(work.rows * shape.hidden, work.prefix)  # one arm after the other
    return Need(weights, 16.0 * trained, training, max(translating, reading))


def kept_per_layer(shape: Shape, size: int) -> int:
    """Bytes that a layer keeps of a token for the backward pass, its values being ``size`` bytes each."""
    attention = 2 * shape.head * (shape.heads + shape.kv_heads)
    return 8 * shape.hidden + size * (attention + 3 * shape.intermediate)


def prefix_values(shape: Shape, arm: Arm) -> int:
    """How many values a prefix trains: keys and values of each virtual token in each layer, or the network that they come out of."""
    wide = shape.kv_heads * shape.head
    flat = 2 * shape.layers * wide
    if not arm.projection:
        return arm.virtual_tokens * flat
    return arm.virtual_tokens * wide + (wide + 1) * wide + (wide + 1) * flat


def work_of(plan: Plan, corpus: Corpus, shape: Shape, ticket: int = 1000) -> Work:
    """What a plan does, its texts taken as rather long. ``ticket`` is how many rows its ticket has."""
    read = prompt_lengths(plan.prompt, [p.source for p in corpus.train], corpus.source_language, corpus.target_language)
    written = [len(p.target) for p in corpus.train]
    longest = max(a + b for a, b in zip(read, written, strict=True)) / CHARACTERS
    target = max(written) / CHARACTERS
    recipes = [arm.recipe for arm in plan.arms if arm.recipe]
    prefixes = [arm for arm in plan.arms if arm.kind == "prefix"]
    longest += max((arm.virtual_tokens for arm in prefixes), default=0)
    rows = max((shape.vocabulary if a.kind == "embed" else a.k or ticket for a in plan.arms if a.recipe), default=0)
    return Work(
        rows, max((-(-r.batch_size // r.accumulate) for r in recipes), default=0), int(longest) + 1, int(target) + 2, plan.max_new_tokens,
        plan.beams, any(a.kind == "full" for a in plan.arms), _second(plan),
        int(longest * (1 + SHOTS * any(a.kind == "examples" for a in plan.arms))) + 1,
        max((prefix_values(shape, arm) for arm in prefixes), default=0),
    )  # fmt: skip


def _second(plan: Plan) -> bool:
    """Whether a tuned model is loaded beside the base, which rows over that very base spare."""
    if not any(arm.kind == "tuned" for arm in plan.arms):
        return False
    try:
        return not is_rows_over(open_checkpoint(plan.tuned, beside=plan.base), open_checkpoint(plan.base))
    except KSLotteryError:
        return True


def sentence(shape: Shape, resources: Resources, work: Work, device: str, free: int | None = None) -> tuple[bool, str]:
    """Whether it fits into what is free on ``device`` (bytes; asked for when not given), and the words for it, with
    advice where it does not."""
    free = devices.free_memory(device) if free is None else free
    share = resources.processes if device == "cpu" else 1  # they live in one memory
    taken = need(shape, resources, work).total * share
    each = f" ({resources.processes} processes)" if share > 1 else " on each GPU" if resources.processes > 1 else ""
    said = f"Takes about {taken / 1e9:,.1f} GB of memory{each}; {free / 1e9:,.1f} GB are free."
    if taken <= free:
        return True, said
    for words, other, smaller in _ways(resources, work, device):
        found = need(shape, other, smaller).total * (other.processes if device == "cpu" else 1)
        if found <= free:
            return False, f"{said} It does not fit. {words} it would take {found / 1e9:,.1f} GB."
    return False, (
        f"{said} It does not fit, nor in bfloat16 with checkpointing, one pair a step"
        f"{'' if device == 'cpu' else ' and the model sharded over all GPUs'}. A machine with more memory is needed, or a "
        "smaller model."
    )


def sentence_on_node(shape: Shape, resources: Resources, work: Work, asked: Allocation) -> tuple[bool, str]:
    """Whether it fits into what is asked of Slurm, and the words for it. What a node's GPUs have is not known from here."""
    taken = need(shape, resources, work).total
    if asked.gpus:
        return True, (
            f"Takes about {taken / 1e9:,.1f} GB of {'each' if resources.processes > 1 else 'the'} GPU's memory; what the node's "
            "GPUs have is not known here."
        )
    together = resources.processes
    said = f"Takes about {taken * together / 1e9:,.1f} GB of the node's memory{f' ({together} processes)' * (together > 1)}"
    if not asked.memory:
        return True, f"{said}; it gets what the partition gives."
    if taken * together <= asked.memory * 1e9:
        return True, f"{said}; {asked.memory:,} GB are asked for."
    return (
        False,
        f"{said}, and {asked.memory:,} GB are asked for. Ask for {math.ceil(taken * together / 1e9 * 1.2):,} GB.",
    )


def _ways(resources: Resources, work: Work, device: str) -> Iterable[tuple[str, Resources, Work]]:
    """What could be done, the mildest first: words for it, resources, work."""
    if work.everything:
        yield "Without the arm Full tuning", resources, replace(work, everything=False)
        work = replace(work, everything=False)
    if work.prefix:
        yield "Without the arm Prefix tuning", resources, replace(work, prefix=0)
        work = replace(work, prefix=0)
    if work.second:
        yield "Without the arm Embed Tuning (given)", resources, replace(work, second=False)
    gpus = 1 if device == "cpu" else devices.count(device)
    steps: list[tuple[str, dict[str, Any]]] = [
        ("with checkpointing", {"checkpointing": True}),
        ("in bfloat16", {"precision": "bfloat16"}),
    ]
    if device == "cpu" and resources.processes > 1:
        steps.insert(0, ("in one process", {"processes": 1, "sharded": False}))
    elif gpus > 1:
        steps.append((f"sharded over {gpus} GPUs", {"processes": gpus, "sharded": True}))
    smaller = replace(work, examples=min(work.examples, max(1, resources.processes)))
    for one_pair, count in itertools.product((False, True), range(len(steps) + 1)):
        for chosen in itertools.combinations(steps, count):
            changes = {k: v for _, change in chosen for k, v in change.items()}
            words = [name for name, _ in chosen] + (["with one pair a step for each process"] if one_pair else [])
            if words:
                text = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
                yield text[0].upper() + text[1:], replace(resources, **changes), smaller if one_pair else work
