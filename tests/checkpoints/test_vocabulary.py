"""Token strings that a person can read, whatever the bytes."""

import base64
import json
import unicodedata

import pytest
from hypothesis import given, settings, strategies as st

from helpers import samples
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


def ranked(*pieces):
    return b"".join(base64.b64encode(piece) + b" %d\n" % i for i, piece in enumerate(pieces))


def test_tokenizer_model_may_be_one_of_tiktokens(tmp_path):
    """Llama 3 as Meta gives it: every byte is a piece, and any bytes are."""
    every = [bytes([i]) for i in range(256)] + [b" the", b"\xe2\x80"]
    (tmp_path / "tokenizer.model").write_bytes(ranked(*every))
    words = find(tmp_path)
    assert [words.piece_bytes(i) for i in range(258)] == every and words.readable(256) == "␣the"


@pytest.mark.parametrize(
    "content", [b"YQ== 0\nYg==\n", b"YQ== 0\n??? 1\n", b"YQ== -4\n", b"YQ== 99999999999\n", b"\n", b""]
)
def test_files_of_tiktoken_that_cannot_be(tmp_path, content):
    (tmp_path / "own.tiktoken").write_bytes(content)
    with pytest.raises(CheckpointError):
        _ = find(tmp_path).tokens


def test_tekken_puts_its_special_tokens_first(tmp_path):
    vocab = [{"rank": i, "token_bytes": base64.b64encode(p).decode()} for i, p in enumerate((b"a", b" b", b"beyond"))]
    special = [{"rank": 2, "token_str": "[INST]", "is_control": True}]
    about = {
        "config": {"default_vocab_size": 6, "default_num_special_tokens": 4},
        "vocab": vocab,
        "special_tokens": special,
    }
    (tmp_path / "tekken.json").write_text(json.dumps(about))
    words = find(tmp_path)
    assert words.readable_list() == ["<unk>", "<s>", "[INST]", "<SPECIAL_3>", "a", "␣b"] and words.special_ids == {
        0,
        1,
        2,
        3,
    }


@pytest.mark.parametrize(("settings", "first", "the_at"), [
    ("{}", ["<s>", "<pad>", "</s>", "<unk>", "Ġthe"], 4),
    ('{"model_type": "camembert"}', ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "Ġthe"], 7),
])  # fmt: skip
def test_ids_of_fairseq_stand_before_the_pieces(tmp_path, settings, first, the_at):
    """As the tokenizers of XLM-R and CamemBERT number them: a piece's id and 1, and 4."""
    (tmp_path / "sentencepiece.bpe.model").write_bytes(samples.sentencepiece())
    (tmp_path / "config.json").write_text(settings)
    tokens = find(tmp_path).tokens
    assert tokens[: len(first)] == first and tokens[the_at:] == samples.PIECES[3:]


def test_added_tokens_are_read_beside_every_older_kind(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    assert find(tmp_path).tokens == ["a", "b"], "a setting is no token"
    (tmp_path / "added_tokens.json").write_text('{"[A]": 2}')
    decoder = {"added_tokens_decoder": {"3": {"content": "<|im_end|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(decoder))
    before, words = find(tmp_path).content_hash, find(tmp_path)
    assert words.tokens == ["a", "b", "[A]", "<|im_end|>"] and words.special_ids == {3}
    (tmp_path / "added_tokens.json").write_text('{"[B]": 2}')
    assert find(tmp_path).content_hash != before
