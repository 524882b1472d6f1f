"""What was scored, attributed and trained is kept: a job that was stopped goes on, and another one of the same pair finds it.

Kept in the workspace's cache are the nats of each sentence under each set of acting rows that was run, and the gradients'
answers; and the likelihoods of rows that were trained. The key names the checkpoints by content, the text's part, the prompt and
what computed it. A sentence is known by its place in the part, so that fewer sentences of it are found among more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ks_core.jobs.resources import Resources
from ks_core.ledger.attribution import Attribution, Slopes
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.references import References
from ks_core.likelihood.scorer import Report, Scorer, silent
from ks_core.signature import versions
from ks_core.store.cache import Cache
from ks_core.translation.corpora import Corpus
from ks_core.translation.prompts import template

#: Raised by one whenever the same key could have other values than before.
VERSION = 1
#: Seconds of scoring after which what is new is written.
OFTEN = 30.0


class KeptScorer(Scorer):
    """A ``Scorer`` that begins with what was scored before under the same ``key``. What it adds is written now and then, when it
    is stopped, and by ``keep``."""

    def __init__(self, model: Any, references: References, key: dict[str, Any]) -> None:
        super().__init__(model, references)
        self.key = {**key, "kept": VERSION}
        entry = Cache().load("nats", self.key)
        if entry is not None:
            ends = np.cumsum(entry.arrays["sizes"])
            sets = np.split(entry.arrays["rows"], ends[:-1])
            for place, rows, nats in zip(
                entry.arrays["places"].tolist(), sets, entry.arrays["nats"].tolist(), strict=True
            ):
                self._known[place, frozenset(rows.tolist())] = (nats[0], nats[1])
        self._written, self._saved = time.monotonic(), len(self._known)

    def score(
        self, sets: Sequence[Any], report: Report = silent, message: str = "reading the references"
    ) -> list[Likelihood]:
        """As ``Scorer.score``; what was run is kept when ``report`` ends the work."""
        try:
            return super().score(sets, report, message)
        except BaseException:
            self.keep()
            raise

    def _run(self, keys: Sequence[tuple[int, frozenset[int]]]) -> None:
        super()._run(keys)
        if time.monotonic() - self._written > OFTEN:
            self.keep()

    def keep(self) -> None:
        """Write what is new; once after many small questions, as all that is known is written each time."""
        if len(self._known) == self._saved:
            return
        sets = [sorted(rows) for _, rows in self._known]
        Cache().store("nats", self.key, {
            "places": np.array([place for place, _ in self._known], np.int32),
            "sizes": np.array([len(rows) for rows in sets], np.int32),
            "rows": np.array([i for rows in sets for i in rows], np.int32),
            "nats": np.array(list(self._known.values()), np.float64),
        }, {})  # fmt: skip
        self._written, self._saved = time.monotonic(), len(self._known)


def attribution(key: dict[str, Any], make: Callable[[], Attribution]) -> Attribution:
    """An attribution that was made under this key, or one that is made now."""
    return _once("attribution", Attribution, key, make)


def slopes(key: dict[str, Any], make: Callable[[], Slopes]) -> Slopes:
    """The same of gradients at the base."""
    return _once("slopes", Slopes, key, make)


def trained(key: dict[str, Any], make: Callable[[], Likelihood]) -> Likelihood:
    """The same of the likelihood that a training reached."""
    return _once("trained", Likelihood, key, make)


def _once(name: str, kind: Any, key: dict[str, Any], make: Callable[[], Any]) -> Any:
    """A result of a class, found under this key or made now: its arrays, and what else it holds as plain values."""
    key = {**key, "kept": VERSION}
    entry = Cache().load(name, key)
    if entry is not None:
        return kind(**entry.arrays, **entry.note)
    made = make()
    arrays = {field: value for field, value in vars(made).items() if isinstance(value, np.ndarray)}
    Cache().store(name, key, arrays, {field: value for field, value in vars(made).items() if field not in arrays})
    return made


def facts(corpus: Corpus, prompt: str, part: str, device: str, resources: Resources) -> dict[str, Any]:
    """What every key names: the text's part under the prompt, and what computes."""
    return {
        "corpus": corpus.content_hash, "languages": [corpus.source_language, corpus.target_language], "part": part,
        "prompt": template(prompt), "device": device.partition(":")[0], "precision": resources.precision,
        **versions("torch", "transformers"),
    }  # fmt: skip
