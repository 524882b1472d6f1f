"""The pieces that spBLEU counts: a sentencepiece model of sacrebleu's, found on this machine, checked, loaded.

sacrebleu fetches such a model from the net when it is first asked. This program never does: a score that depends on whether a
download worked would be no score. It looks where ``KS_LOTTERY_SPM`` points, and then where sacrebleu keeps what it fetched, and
takes the first of ``MODELS`` that is there. Wherever it is from, its checksum stands in the signature of the score.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ks_core.errors import AccessError
from ks_core.store import door

#: Names the file, where it does not lie with sacrebleu's.
PLACE = "KS_LOTTERY_SPM"
#: Bytes of the largest that is read; sacrebleu's have 5 million.
LARGEST = 64 << 20


@dataclass(frozen=True)
class Model:
    """A model that sacrebleu knows: its ``name`` there, its ``file`` among what sacrebleu keeps, and its ``sha256`` where its
    makers' copies tell one (empty: any file of this name is taken, and its sum told)."""

    name: str
    file: str
    sha256: str = ""


#: The first is the one in which Flores-101 and the paper score; the second is that of NLLB (Goyal et al. 2022; Costa-jussà et al. 2022).
MODELS = (
    Model("flores101", "sacrebleu_tokenizer_spm.model"),
    Model("flores200", "flores200sacrebleuspm", "14bb8dfb35c0ffdea7bc01e56cea38b9e3d5efcdcb9c251d6b40538e1aab555a"),
)


@dataclass(frozen=True)
class Pieces:
    """A loaded model, as sacrebleu's BLEU takes a tokenizer: text in, pieces with spaces between out."""

    name: str
    sha256: str
    processor: Any

    def __call__(self, line: str) -> str:
        return " ".join(self.processor.EncodeAsPieces(line))

    def signature(self) -> str:
        return self.name


def kept() -> Path:
    """Where sacrebleu keeps the models that it fetched."""
    from sacrebleu.utils import SACREBLEU_DIR

    return Path(SACREBLEU_DIR) / "models"


door.OWN.append(kept)


def find() -> Pieces | str:
    """The pieces, or a sentence that says why there are none and what to do."""
    if find_spec("sentencepiece") is None:
        return "spBLEU is left out: it needs the package sentencepiece (pip install sentencepiece)."
    named = os.environ.get(PLACE, "").strip()
    if named:
        return _loaded(Path(named).expanduser(), f"Correct or unset {PLACE}, which names it.")
    for model in MODELS:
        if door.allows(kept() / model.file) and (kept() / model.file).is_file():
            return _loaded(kept() / model.file, "Remove it, and have sacrebleu fetch it again.")
    return (
        "spBLEU is left out: its tokenizer model is not on this machine. With a network, once: "
        f"echo a | sacrebleu -tok flores101 <(echo a); without one, put {MODELS[0].file} into ~/.sacrebleu/models, or name it with {PLACE}."
    )


def _loaded(path: Path, remedy: str) -> Pieces | str:
    try:
        with door.open_file(path) as file:
            if door.size(file) > LARGEST:
                return f"spBLEU is left out: {path} has {door.size(file):,} bytes, which no such model has. {remedy}"
            stamp = os.fstat(file.fileno())
            found = _read(path, stamp.st_size, stamp.st_mtime_ns)
    except AccessError as error:
        return f"spBLEU is left out: {error}"
    except OSError as error:
        return f"spBLEU is left out: {path} cannot be read ({error.strerror}). {remedy}"
    return found if isinstance(found, Pieces) else f"spBLEU is left out: {path} {found} {remedy}"


@lru_cache(maxsize=4)
def _read(path: Path, size: int, stamp: int) -> Pieces | str:
    """The model in a file; or what is wrong with it. Kept while the file stays as it is (``size``, ``stamp``)."""
    import sentencepiece

    content = door.read_bytes(path)
    sha256 = hashlib.sha256(content).hexdigest()
    model = next((m for m in MODELS if m.sha256 == sha256), None) or next(
        (m for m in MODELS if m.file == path.name), None
    )
    if model and model.sha256 and model.sha256 != sha256:
        return f"is not sacrebleu's {model.name}: its SHA-256 begins with {sha256[:12]}, expected {model.sha256[:12]}."
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        if not processor.GetPieceSize():
            raise ValueError
    except (RuntimeError, ValueError, OSError):
        return f"({len(content):,} bytes) is no sentencepiece model, or damaged."
    return Pieces(model.name if model else "spm", sha256, processor)
