"""Vocabularies under their usual names."""

from __future__ import annotations

import base64
import functools
import io
import json

from helpers import samples


@functools.cache
def _sentencepiece() -> bytes:
    """A model that SentencePiece trained, in which ``here`` behind a space is a piece."""
    import sentencepiece

    made = io.BytesIO()
    text = iter([f"the file number {n} and the other words are here" for n in range(400)])
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=text, model_writer=made, vocab_size=60, minloglevel=2)
    return made.getvalue()


def vocabularies() -> dict[str, tuple[bytes, int, str]]:
    """The files of vocabularies by their usual names: the content, and an id with the text that it stands for."""
    import sentencepiece

    ranks = b"".join(base64.b64encode(piece) + b" %d\n" % i for i, piece in enumerate((b"a", b" the", b"\xe2\x80")))
    entries = [
        {"rank": i, "token_bytes": base64.b64encode(p).decode(), "token_str": None}
        for i, p in enumerate((b"a", b" the"))
    ]
    settings = {"default_vocab_size": 4, "default_num_special_tokens": 2}
    tekken = json.dumps({"config": settings, "vocab": entries, "special_tokens": []}).encode()
    pieces = _sentencepiece()
    here = sentencepiece.SentencePieceProcessor(model_proto=pieces).piece_to_id("▁here")
    return {
        "tokenizer.json": (samples.tokenizer(), 3, "␣the"), "tekken.json": (tekken, 3, "␣the"),
        "tokenizer.model": (pieces, here, "␣here"), "vocab.json": ('{"a": 0, "Ġthe": 1}'.encode(), 1, "␣the"),
        "vocab.txt": (b"a\nthe\n", 1, "the"), "spiece.model": (pieces, here, "␣here"),
        "sentencepiece.bpe.model": (pieces, here + 1, "␣here"), "spm.model": (pieces, here, "␣here"),
        "qwen.tiktoken": (ranks, 2, "⟨E2 80⟩"),
    }  # fmt: skip
