"""Token strings that a person can read, whatever the bytes."""

import json
import unicodedata

import pytest
from hypothesis import given, settings, strategies as st

from ks_core.checkpoints.vocabulary import find, of_file, readable
from ks_core.errors import CheckpointError


@pytest.mark.parametrize(("given_bytes", "shown"), [
    (b" the", "␣the"), (b"\n", "⏎"), (b"\t\r", "⇥␍"), ("é".encode(), "é"), ("日本".encode(), "日本"), (b"\xe2\x80", "⟨E2 80⟩"),
    (b"a\xffb", "a⟨FF⟩b"), (b"\x00", "⟨U+0000⟩"), ("\u202e".encode(), "⟨U+202E⟩"), ("\u200b".encode(), "⟨U+200B⟩"),
    ("\ufffd".encode(), "⟨U+FFFD⟩"), ("\u00a0".encode(), "⟨U+00A0⟩"), (b"<b>", "<b>"),
])  # fmt: skip
def test_cases(given_bytes, shown):
    assert readable(given_bytes) == shown


@given(st.binary(max_size=30))
@settings(derandomize=True, max_examples=400)
def test_nothing_invisible_or_broken_is_ever_shown(data):
    for character in readable(data):
        assert unicodedata.category(character)[0] != "C" and character not in "\ufffd\n\t"


@given(st.binary(min_size=1, max_size=12), st.binary(min_size=1, max_size=12))
@settings(derandomize=True, max_examples=200)
def test_different_bytes_are_shown_differently(one, other):
    # Unless they hold the signs themselves, which no tokenizer's text is likely to.
    if one != other and not any(sign.encode() in x for x in (one, other) for sign in "␣⏎⇥␍⟨⟩"):
        assert readable(one) != readable(other)


def test_byte_level_and_special_tokens(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(
            {
                "model": {"vocab": {"Ġthe": 0, "Ċ": 1, "âĢ": 2, "ĠĠ": 3}},
                "added_tokens": [{"id": 5, "content": "<|im_end|>"}],
            }
        )
    )
    words = find(tmp_path)
    assert words.readable_list() == ["␣the", "⏎", "⟨E2 80⟩", "␣␣", "(id 4)", "<|im_end|>"]
    assert words.style == "byte-level" and words.special_ids == {5} and words.piece_bytes(0) == b" the"
    assert words.readable(99) == "(id 99)"


def test_sentencepiece_pieces(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": [["▁the", -1], ["<0x0A>", 0], ["<0xE2>", 0], ["s", -2]]}})
    )
    assert find(tmp_path).readable_list() == ["␣the", "⏎", "⟨E2⟩", "s"]


def test_real_tokenizer_of_the_demo(demo_models):
    words = find(next(p for p in demo_models.iterdir() if p.is_dir()))
    shown = words.readable_list()
    assert len(shown) == 49152 and len(set(shown)) == len(shown)
    assert shown[198] == "⏎" and shown[260] == "␣the" and shown[2] == "<|im_end|>"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"model": {}}',
        '{"model": {"vocab": {}}}',
        '{"model": {"vocab": {"a": 99999999999}}}',
        '{"model": {"vocab": {"a": -1}}}',
        '{"model": {"vocab": {"a": "x"}}}',
        "[" * 20000,
    ],
)
def test_tokenizer_files_that_cannot_be(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError):
        _ = of_file(tmp_path / "tokenizer.json").tokens


def test_no_tokenizer_is_no_error(tmp_path):
    assert find(tmp_path) is None
