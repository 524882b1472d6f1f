"""The base with every changed row of a pair laid over it: what acts, and what is turned, in ledger and audit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ks_core.checkpoints.matrices import take, to_floats
from ks_core.errors import PairError
from ks_core.jobs.resources import Resources
from ks_core.study.scan import Scan, Study
from ks_core.translation.corpora import Corpus
from ks_core.translation.encoder_decoder import speak


def laid(study: Study, scan: Scan, corpus: Corpus, device: str, resources: Resources | None = None) -> tuple[Any, Any]:
    """The base of a study with its changed rows over it (``ks_core.likelihood.rows``), and its tokenizer.

    The rows come through the pair's own matching, so that an adapter and a whole model go one way; what else a
    tuned model changed is not in it, and is not the ticket's. Raises ``PairError`` where no row changed.
    """
    from ks_core.tuning.models import load_model

    _changed(scan)  # said before a model is loaded
    model, tokenizer = load_model(study.base_source, device, resources)
    speak(tokenizer, corpus.source_language, corpus.target_language)
    lay(model, study, scan)
    return model, tokenizer


def lay(model: Any, study: Study, scan: Scan) -> None:
    """Lay the changed rows of a study over its base, in the place of those that were over it. Raises ``PairError``."""
    from ks_core.likelihood.rows import lay_over
    from ks_core.tuning.models import put_rows

    changed = _changed(scan)
    order = np.argsort(scan.token_ids[changed])
    after = study.pair.tuned_rows  # as stored, and not as rounded for the test
    rows = lay_over(model, scan.token_ids[changed].tolist())
    put_rows(rows, to_floats(take(after, changed[order]), after.dtype))


def _changed(scan: Scan) -> np.ndarray:
    """Positions of the changed rows, int64. Raises ``PairError`` where there is none."""
    changed = np.nonzero(scan.changed)[0]
    if not len(changed):
        raise PairError(
            "All rows are equal before and after, so there is nothing to copy or to attribute. Name a checkpoint and its fine-tuning."
        )
    return changed


def is_all(study: Study) -> bool:
    """Whether rows are all that a tuning changed, as far as the files say: an adapter of rows over that very base."""
    from ks_core.checkpoints import whole

    return whole.is_rows_over(study.tuned, study.base)
