"""The document that is made from the table: ``python -m helpers.ways.document`` in ``tests`` writes it."""

from __future__ import annotations

from helpers import architectures, encoders
from helpers.places import ROOT
from helpers.ways import names, original, pytorch, quantized, unmerged, whole  # noqa: F401
from helpers.ways.table import CHAPTERS, WAYS
from ks_core.checkpoints.vocabulary import FILES

DOCUMENT = ROOT / "docs" / "what-can-be-opened.md"


def document() -> str:
    """The text of the document."""
    lines = [
        "# What can be opened?", "",
        "Any of these is a source: on the command line, in the fields of a page, in a link. Each line is tried by the tests "
        "(`tests/checkpoints/test_ways_of_saving.py`), written by the library that is named. What is refused is refused with a sentence "
        "that says what to do. Nothing that a checkpoint brings is run.", "",
        "Where a checkpoint has several embeddings, two colons and a part of its name choose one: `BASE::encoder`. A path that holds two "
        "colons itself ends with two more.", "",
    ]  # fmt: skip
    for chapter in CHAPTERS:
        lines += [f"## {chapter}", "", "| Way of saving | Written by | |", "|---|---|---|"]
        lines += [
            f"| {one.title} | {one.by} | {'refused, with the remedy' if one.refused else 'opened'} |"
            for one in WAYS
            if one.chapter == chapter
        ]
        lines.append("")
    lines += [
        "## Vocabularies", "",
        "Read are, the first that is there: " + ", ".join(f"`{name}`" for name in (*FILES, "*.tiktoken")) + ". "
        "`tokenizer.model` may be SentencePiece's or tiktoken's. Tokens that were added are read from `added_tokens.json` and "
        "`tokenizer_config.json` too. A GGUF file has its own. Without a vocabulary rows are matched by their position.", "",
        "## Architectures", "",
        "Opened is every architecture on the lists of the installed transformers, but for those below. The quick part of the table is "
        "tried by `make test`, all of it by `make architectures`.", "",
    ]  # fmt: skip
    left_out = {architectures.CLASSES[mapping]: kinds for mapping, kinds in architectures.LEFT_OUT.items()}
    for title, kinds in {**left_out, "AutoModelForMaskedLM": encoders.LEFT_OUT}.items():
        reasons: dict[str, list[str]] = {}
        for kind, reason in kinds.items():
            reasons.setdefault(reason, []).append(f"`{kind}`")
        lines += [f"Not tried of `{title}`:", ""]
        lines += [f"- {', '.join(found)}: {reason}" for reason, found in reasons.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
