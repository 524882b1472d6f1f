"""What a suite takes before it is started, and what it lacks: time and memory, the model, the texts, the tokenizer of spBLEU.

Where the model was measured here, time is by that measure (``tuning.estimates``). Where not, it is by arithmetic: two operations a weight
and token to read, four to train through a frozen body, at the rate of a matrix product that is timed on this machine. Such a figure says hours or
months, and no more.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ks_core.checkpoints import demo, hub
from ks_core.errors import KSLotteryError
from ks_core.jobs import devices
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import duration
from ks_core.suites import kept
from ks_core.suites.presets import PAIRS, PRESETS, SENTENCES, suite_of
from ks_core.suites.suite import Suite, Text
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.tuning import estimates, memory, runnable
from ks_core.tuning.estimates import Rates
from ks_core.tuning.memory import LLAMA_1B, LLAMA_7B, LLAMA_70B, Shape

#: Models that are not here, by the size that their names say.
SIZES = {"70b": LLAMA_70B, "65b": LLAMA_70B, "7b": LLAMA_7B, "6.7b": LLAMA_7B, "8b": LLAMA_7B, "1b": LLAMA_1B}
#: The demo's base, before it is prepared.
DEMO = Shape(30, 576, 1536, 9, 3, 64, 49_152, False)
#: Characters of a sentence where no text is named, as long as a sentence of Flores.
CHARACTERS = 130
#: Days from which on nobody counts hours.
LONG = 3 * 24 * 3600


@dataclass(frozen=True)
class Cost:
    """``seconds`` of all runs that are not kept; ``measured``: by a measure of this very model; ``kept`` runs of ``runs``; ``fits`` into memory
    (``None``: not known) and the words for it."""

    seconds: float
    measured: bool
    kept: int
    runs: int
    fits: bool | None = None
    memory: str = ""

    @property
    def about(self) -> str:
        """The time in a few words."""
        return words(self.seconds)

    @property
    def sentence(self) -> str:
        """All of it, for a person."""
        how = (
            "as this machine was measured for this model"
            if self.measured
            else "by arithmetic, as this model was not measured here"
        )
        left = f" {self.kept} of its {self.runs} runs are there already." if self.kept else ""
        return f"About {self.about} on this machine, {how}.{left}{f' {self.memory}' if self.memory else ''}"


def words(seconds: float) -> str:
    """A duration for people, also a very long one.

    >>> words(75), words(400 * 86400)
    ('1 min 15 s', '400 days')
    """
    return duration(seconds) if seconds < LONG else f"{seconds / 86400:,.0f} days"


def of(suite: Suite, allocation: Allocation | None = None) -> Cost | None:
    """What a suite takes; ``None`` where the model is not here and its name does not say its size.

    With an ``allocation`` the time is that of nodes that were measured.
    """
    plan = suite.runs[0].plan
    rates, shape = estimates.known(plan, allocation), shape_of(suite.base)
    measured = rates is not None
    if rates is None:
        if shape is None:
            return None
        rates = assumed(shape)
    seconds, found = 0.0, 0
    for text in suite.texts:
        own = [run for run in suite.runs if run.pair == text.pair]
        corpus, real = corpus_of(text)
        for run in own:
            if real and _is_kept(suite, run.number, corpus):
                found += 1
                continue
            seconds += sum(spent for _, spent in estimates.seconds(run.plan, corpus, rates))
    fits, said = None, ""
    if shape is not None and allocation is None:
        work = memory.work_of(plan, corpus_of(suite.texts[0])[0], shape)
        device = devices.select(suite.device).removeprefix("torch:")
        fits, said = memory.sentence(shape, suite.resources, work, device)
    return Cost(seconds, measured, found, len(suite.runs), fits, said)


def missing(suite: Suite) -> list[str]:
    """What has to be there before a suite can start, each with what to do, in a sentence."""
    found = []
    if hub.is_id(suite.base) and not hub.is_here(suite.base):
        found.append(
            f"The model {suite.base} is not on this machine. Fetch it (hf download {suite.base}; its owner may ask for an agreement), or name the folder of a copy "
            "with --model."
        )
    elif not demo.is_name(suite.base):
        try:
            runnable.check(suite.base)
        except KSLotteryError as error:
            found.append(str(error))
    unnamed = [text.pair for text in suite.texts if text.corpus.name.startswith("not-named:")]
    if unnamed:
        found.append(
            f"No text is named to train on ({', '.join(unnamed)}). The paper took {PAIRS:,} pairs of Lego-MT, which do not come with this program: name yours with "
            '--corpus, such as --corpus "file:lego/{pair}.tsv".'
        )
    for text in suite.texts:
        if text.pair in unnamed:
            continue
        try:
            text.corpus.load()
        except KSLotteryError as error:
            found.append(f"{text.pair}: {error}")
    return found


def notes(suite: Suite) -> list[str]:
    """What will differ from what the suite stands for, in sentences: it can start all the same."""
    from ks_core.translation import subwords

    said = []
    untested = [t.pair for t in suite.texts if not t.corpus.test and t.corpus.most]
    if untested:
        said.append(
            f"No text of its own is named to test on ({', '.join(untested)}), so pairs of the same text are held out. The paper tested on Flores-101's devtest: "
            '--test "flores:flores101/devtest#eng,{code}".'
        )
    without = subwords.find()
    if suite.written != 0 and isinstance(without, str):
        said.append(without)
    return said


def shape_of(base: str) -> Shape | None:
    """The shape of a model that is here, or what its name says of one that is not; ``None`` where neither is known."""
    if demo.is_name(base):
        return (memory.shape_of(base) if demo.is_ready() else None) or DEMO
    if not hub.is_id(base) or hub.is_here(base):
        return memory.shape_of(base)
    size = re.search(r"(?<![\d.])(\d+(?:\.\d+)?b)(?![a-z])", base.lower())
    return SIZES.get(size.group(1)) if size else None


def corpus_of(text: Text) -> tuple[Corpus, bool]:
    """A pair's text, and whether it is one: what is not there is as large as the paper's."""
    try:
        return text.corpus.load(), True
    except KSLotteryError:
        pair = SentencePair("x" * CHARACTERS, "x" * CHARACTERS)
        languages = (text.corpus.source_language, text.corpus.target_language)
        count = text.corpus.most or PAIRS
        return Corpus("", *languages, (pair,) * count, (pair,) * SENTENCES, developing=0), False


def assumed(shape: Shape) -> Rates:
    """Rates by arithmetic, for a model of this shape on this machine's processor."""
    each = shape.parameters / speed()
    return Rates(
        train=4 * each,
        generate=2 * each * estimates.BATCH,
        load=4.0 * shape.parameters / 5e8,
        characters=memory.CHARACTERS,
        when=0.0,
    )


@lru_cache(maxsize=1)
def speed() -> float:
    """Operations of float32 a second in a matrix product of this machine, timed once a process in some tenths of a second: the fastest of many
    short ones, as other work takes the processor away in between."""
    left = np.full((512, 512), 0.5, np.float32)
    left @ left  # the first one starts the library's threads
    best = min(_timed(left) for _ in range(30))
    return 2 * 512**3 / best


def _timed(left: np.ndarray) -> float:
    started = time.perf_counter()
    left @ left
    return time.perf_counter() - started


def _is_kept(suite: Suite, number: int, corpus: Corpus) -> bool:
    try:
        return kept.finished(kept.folder_of(kept.key_of(suite.runs[number].plan, corpus))) is not None
    except (KSLotteryError, OSError):
        return False


def catalogue() -> list[dict[str, str]]:
    """Every preset: ``suite`` its name, ``what`` it is, ``about`` it in full, the ``time`` that it takes here (empty: not known), ``missing`` what it lacks."""
    found = []
    for preset in PRESETS.values():
        suite = suite_of(preset)
        cost = of(suite)
        found.append({
            "suite": preset.name, "what": f"{preset.title}. {preset.about}", "about": f"{suite.sentence} {f'About {cost.about} here.' if cost else ''}".strip(),
            "time": cost.about if cost else "", "missing": " ".join(missing(suite)),
        })  # fmt: skip
    return found
