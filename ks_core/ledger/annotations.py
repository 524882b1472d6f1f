"""What stands beside a winning token: whether the base hardly knew it, where in the training text it occurs, how often it was trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.errors import KSLotteryError, ModelError
from ks_core.jobs import bounded
from ks_core.store.cache import Cache
from ks_core.tuning import trainings
from ks_core.tuning.trainings import Training

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.ledger.newest import Attributed
    from ks_core.study.neighbourhoods import Neighbourhoods
    from ks_core.study.scan import Scan
    from ks_core.study.untrained import Untrained

#: Parts of a training example in which a token may occur. The prompt is the template round the source sentence.
PARTS = ("prompt", "source", "target")
#: Raised when the same training could be counted otherwise than before.
VERSION = 1


def occurrences(training: Training) -> dict[str, dict[int, int]] | None:
    """How often each token id occurs in the parts of a training's text: part -> id -> positions. Some seconds, and kept.

    The prompt is counted in every example that has it. ``None`` where the text or the tokenizer is not as it was any more, and
    for a tokenizer that does not say where its tokens stand.
    """
    key = {"training": asdict(training), "occurrences": VERSION}
    entry = Cache().load("occurrences", key)
    if entry is not None:
        arrays = entry.arrays
    else:
        try:
            found = bounded.work(_counted, told=asdict(training), what=training.name, error=ModelError)
        except KSLotteryError:
            return None
        if found is None:
            return None
        arrays = {name: np.array(column, np.int64) for name, column in found.items()}
        Cache().store("occurrences", key, arrays, {})
    return {part: {int(i): int(n) for i, n in zip(arrays["ids"], arrays[part], strict=True) if n} for part in PARTS}


def _counted(told: dict[str, Any]) -> dict[str, list[int]] | None:
    """The counts as columns; ``None`` where the training's text is another one by now."""
    from ks_core.likelihood.examples import IGNORED, fed
    from ks_core.likelihood.spans import SOURCE, character_spans, token_spans
    from ks_core.translation.prompts import format_prompt
    from ks_core.tuning.models import load_tokenizer

    made = trainings.dealt(told)
    if made is None:
        return None
    examples, training = made[0], Training.from_dict(told)
    corpus, tokenizer = training.corpus.load(), load_tokenizer(training.base_source)
    languages = (corpus.source_language, corpus.target_language)
    counts: dict[str, Counter[int]] = {part: Counter() for part in PARTS}
    for pair, example in zip(corpus.train, examples, strict=True):
        text = format_prompt(training.prompt, pair.source, *languages)
        _, codes = token_spans(tokenizer, text, character_spans(text, training.prompt, pair.source, languages[1]))
        for place, token in enumerate(fed(example)):
            if example["labels"][place] != IGNORED:
                part = "target"
            else:
                part = "source" if place < len(codes) and codes[place] == SOURCE else "prompt"
            counts[part][token] += 1
    ids = sorted(set().union(*counts.values()))
    return {"ids": ids, **{part: [counts[part][i] for i in ids] for part in PARTS}}


def annotate(
    frame: pd.DataFrame,
    scan: Scan,
    *,
    untrained: Untrained | None = None,
    steps: Mapping[int, int] | None = None,
    where: Mapping[str, Mapping[int, int]] | None = None,
    near: Neighbourhoods | None = None,
    carried: Attributed | None = None,
) -> pd.DataFrame:
    """A table of tokens (with ``token_id``) with what is known beside: ``length`` of the row in the base, ``untrained``, ``steps``
    that touched it, ``in_prompt``, ``in_source``, ``in_target``, how often it occurs there, ``change`` of its neighbourhood and
    ``attribution``. What is not known is no column, and NaN of a single row."""
    frame = frame.copy()
    ids = frame["token_id"].to_numpy()
    order = np.argsort(scan.token_ids, kind="stable")
    place = order[np.searchsorted(scan.token_ids, ids, sorter=order)]
    if near is not None:
        frame["change"] = near.by_position(len(scan.token_ids))[place]
    if carried is not None:
        frame["attribution"] = carried.of(ids)
    if untrained is not None:
        frame["length"], frame["untrained"] = untrained.length[place], untrained.suspect[place]
    if steps is not None:
        frame["steps"] = [steps.get(int(i), 0) for i in ids]
    for part in PARTS if where is not None else ():
        frame[f"in_{part}"] = [where[part].get(int(i), 0) for i in ids]  # type: ignore[index]
    return frame
