"""Under-trained tokens: rows that the base's own training hardly touched, by how they look.

A token that was hardly ever read keeps a row near where all rows began, or, under weight decay, near zero. Land and Bartolo
(2024), "Fishing for Magikarp", arXiv 2405.05417, rank the tokens of a model by two indicators and look at the first 2%: the length of
the input row; and its cosine distance to the mean of rows that surely were never trained, after a part that all rows share is
taken off. That part is here the mean of all rows (theirs: the first principal component). Rows that surely were never trained are
those without a token, and those whose token says that it is reserved. A model without such rows is judged by length.

It matters for D: the same step moves a short row further for its length, so a hardly trained token wins easily.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints.matrices import Matrix, to_floats
from ks_core.signature import Signature, versions
from ks_core.study.scan import Scan, Study

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: Which part of the vocabulary is looked at, as in the paper; and how many rows make a mean to compare with.
SHARE, FEWEST = 0.02, 5
#: Values of a matrix that are looked through in about a second; of a larger one it is a job.
QUICK = 100_000_000
BLOCK = 4096
#: What a token says that stands for nothing yet: as Llama, Gemma, Qwen, T5 and BERT call them.
RESERVED = re.compile(r"unused|reserved|extra_id_|placeholder|madeupword", re.IGNORECASE)
#: Raised when the same matrix could be judged otherwise than before.
VERSION = 2


@dataclass(frozen=True)
class Untrained:
    """Of each row of a scan, float64 (n,): its ``length`` in the base, and its ``distance`` from the rows that were surely never trained
    (NaN where there are too few of them). ``suspect`` bool (n,): among the first 2% by ``distance``, or else by ``length``;
    rows that were surely never trained are among them. ``reference``: how many of these there are."""

    length: np.ndarray
    distance: np.ndarray
    suspect: np.ndarray
    reference: int
    signature: Signature

    @property
    def judged_by(self) -> str:
        """By what a row is a suspect, in words."""
        if _by_distance(self.distance):
            return f"nearest, by cosine, to the mean of {self.reference:,} rows whose tokens are reserved or missing"
        return "shortest in the base"

    def sentence(self, scan: Scan, ticket: np.ndarray) -> str:
        """How many suspects there are, changed, and are in a ticket (positions in the scan), beside as many changed rows by chance."""
        among = self.suspect[scan.changed]
        chance = len(ticket) * among.mean() if len(among) else 0.0
        return (
            f"{int(self.suspect.sum()):,} rows look under-trained: those {self.judged_by}. {int((self.suspect & scan.changed).sum()):,} of "
            f"them changed here, and {int(self.suspect[ticket].sum()):,} are in the ticket of {len(ticket):,}, where as many changed rows by chance would have {chance:.1f}."
        )


def cached(study: Study) -> Untrained | None:
    """What the cache has of it; ``None`` where it has not. Nothing is computed."""
    entry = study.cache.load("untrained", _key(study))
    return _made(study, entry.arrays, entry.note) if entry else None


def is_quick(study: Study) -> bool:
    """Whether it takes so little that a page does it at once."""
    return study.base.matrix.shape[0] * study.base.matrix.shape[1] <= QUICK


def find(study: Study) -> Untrained:
    """Which rows look under-trained, from the cache or found now and kept."""
    found = cached(study)
    if found is not None:
        return found
    reserved = _reserved(study)
    length, distance, reference = judged(study.pair.before, reserved)
    arrays, note = {"length": length, "distance": distance, "reserved": reserved}, {"reference": reference}
    study.cache.store("untrained", _key(study), arrays, note)
    return _made(study, arrays, note)


def judged(matrix: Matrix, reserved: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Of each row of a matrix (n, d) its length and its distance from the mean of the rows ``reserved``, bool (n,), float64 (n,) each;
    and how many these are. Without enough of them every distance is NaN.

    >>> rows = ArrayMatrix(np.array([[3.0, 4.0], [1.0, 0.0]], np.float32))
    >>> judged(rows, np.zeros(2, bool))[0].tolist()
    [5.0, 1.0]
    """
    n, d = matrix.shape
    whole, own, length = np.zeros(d), np.zeros(d), np.empty(n)
    for start, rows in _blocks(matrix):
        stop = start + len(rows)
        length[start:stop] = np.linalg.norm(rows, axis=1)
        whole += rows.sum(0)
        own += rows[reserved[start:stop]].sum(0)
    reference = int(reserved.sum())
    distance = np.full(n, np.nan)
    if reference < FEWEST or reference == n:
        return length, distance, reference
    mean = whole / n
    toward = own / reference - mean
    toward /= np.linalg.norm(toward) or 1.0
    for start, rows in _blocks(matrix):
        centred = rows - mean
        size = np.linalg.norm(centred, axis=1)
        distance[start : start + len(rows)] = 1 - np.divide(
            centred @ toward, size, out=np.zeros(len(rows)), where=size > 0
        )
    return length, distance, reference


def _blocks(matrix: Matrix) -> Any:
    for start in range(0, matrix.shape[0], BLOCK):
        stop = min(start + BLOCK, matrix.shape[0])
        yield start, to_floats(matrix.block(start, stop), matrix.dtype, "float64")


def _reserved(study: Study) -> np.ndarray:
    """Rows whose token is missing or says that it is reserved, bool (n,)."""
    vocabulary, ids = study.base.vocabulary, study.pair.base_ids
    if vocabulary is None:
        return np.zeros(len(ids), bool)
    tokens = vocabulary.tokens
    return np.array([i >= len(tokens) or not tokens[i] or bool(RESERVED.search(tokens[i])) for i in ids.tolist()], bool)


def _by_distance(distance: np.ndarray) -> bool:
    """Whether rows are judged by their distance: there were rows to take it from."""
    return not np.isnan(distance).any()


def _made(study: Study, arrays: Any, note: Any) -> Untrained:
    length, distance, reference = arrays["length"], arrays["distance"], int(note["reference"])
    judged_by = distance if _by_distance(distance) else length
    first = max(1, round(SHARE * len(length)))
    suspect = np.zeros(len(length), bool)
    suspect[np.argsort(judged_by, kind="stable")[:first]] = True
    if reference < len(length):
        suspect |= arrays["reserved"]
    signature = study.signature.with_fields(untrained=VERSION, share=SHARE, **versions("numpy"))
    return Untrained(length, distance, suspect, reference, signature)


def _key(study: Study) -> dict[str, Any]:
    return {**study.key, "untrained": VERSION}


def run_untrained(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``untrained``: compute what the cache lacks, so that a page finds it there."""
    study = Study(parameters["base"], parameters["tuned"])
    running.progress(0, 1, "looking through the base's rows")
    found = find(study)
    return {"suspects": int(found.suspect.sum()), "signature": str(found.signature)}
