"""Which row is compared with which: by id, by token string, and what has no partner is listed."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.pairs import match
from ks_core.errors import PairError

NAME = "model.embed_tokens.weight"


@pytest.fixture
def make(tmp_path):
    """A checkpoint of rows [id, id, ...] under a vocabulary (``None``: no tokenizer)."""

    def made(name, rows, pieces, width=2):
        folder = tmp_path / name
        folder.mkdir()
        save_file({NAME: np.repeat(np.arange(rows, dtype=np.float32)[:, None], width, 1)}, folder / "model.safetensors")
        if pieces is not None:
            table = {"model": {"vocab": [[piece, 0] for piece in pieces]}}
            (folder / "tokenizer.json").write_text(json.dumps(table))
        return open_checkpoint(str(folder))

    return made


def ids(pair):
    return pair.base_ids.tolist(), pair.tuned_ids.tolist(), pair.base_only.tolist(), pair.tuned_only.tolist()


def test_the_matched_rows_come_in_the_order_of_the_base(make):
    pair = match(make("base", 3, ["a", "b", "c"]), make("tuned", 4, ["c", "new", "a", "b"]))
    assert pair.by == "string" and pair.dim == 2
    assert ids(pair) == ([0, 1, 2], [2, 3, 0], [], [1])
    assert pair.before.block(0, 3)[:, 0].tolist() == [0, 1, 2]
    assert pair.after.block(0, 3)[:, 0].tolist() == [2, 3, 0]
    assert (
        "1 rows of tuned have no partner and are not tested: 1 stand for a token that base lacks (such as 'new')."
        in pair.notes
    )
    assert pair.untested == 1


def test_the_same_vocabulary_needs_no_gathering(make):
    base, tuned = make("base", 3, ["a", "b", "c"]), make("tuned", 3, ["a", "b", "c"])
    pair = match(base, tuned)
    assert pair.by == "id" and pair.notes == []
    assert pair.before is base.matrix and pair.after is tuned.matrix


def test_added_tokens_are_listed(make):
    pair = match(make("base", 2, ["a", "b"]), make("tuned", 4, ["a", "b", "<new>", "<more>"]))
    assert ids(pair) == ([0, 1], [0, 1], [], [2, 3])


def test_a_piece_that_occurs_twice(make):
    pair = match(make("base", 3, ["a", "x", "x"]), make("tuned", 4, ["x", "a", "x", "x"]))
    assert ids(pair) == ([0, 1, 2], [1, 0, 2], [], [3])


def test_padding_on_both_sides_is_matched_by_position_and_the_rest_listed(make):
    pair = match(make("base", 4, ["a", "b"]), make("tuned", 8, ["b", "a", "c"]))
    assert ids(pair) == ([0, 1, 3], [1, 0, 3], [2], [2, 4, 5, 6, 7])
    assert any("position" in note for note in pair.notes)


def test_a_tokenizer_with_more_tokens_than_rows(make):
    pair = match(make("base", 2, ["a", "b", "c"]), make("tuned", 3, ["c", "b", "a"]))
    assert ids(pair) == ([0, 1], [2, 1], [], [0])


@pytest.mark.parametrize("without", [("base",), ("tuned",), ("base", "tuned")])
def test_without_a_tokenizer_position_decides_and_a_note_says_so(make, without):
    pair = match(
        *(make(name, 2 + n, None if name in without else ["a", "b"]) for n, name in enumerate(("base", "tuned")))
    )
    assert ids(pair) == ([0, 1], [0, 1], [], [2])
    assert any("No tokenizer" in note and all(name in note for name in without) for note in pair.notes)


TOKENS = [f"t{n}" for n in range(20)]


def test_a_token_that_was_put_into_a_spare_row_is_tested(make):
    """Qwen has rows beyond its tokenizer; whoever adds a token names one of them."""
    pair = match(make("base", 26, TOKENS), make("tuned", 26, [*TOKENS, "<new>", "<more>"]))
    assert ids(pair) == (list(range(26)), list(range(26)), [], [])
    assert pair.placed.tolist() == [20, 21] and pair.untested == 0
    assert any("row 20: no token before, '<new>' after" in note for note in pair.notes)
    assert any(note.startswith("4 rows that stand for no token on either side") for note in pair.notes)


def test_a_reserved_token_that_was_renamed_is_tested(make):
    """Llama 3 has reserved tokens in the middle of the others."""
    tokens = [*TOKENS, *(f"x{n}" for n in range(20))]
    renamed = [*tokens[:7], "<|im_start|>", "<|im_end|>", *tokens[9:]]
    pair = match(make("base", 40, tokens), make("tuned", 40, renamed))
    assert ids(pair) == (list(range(40)), list(range(40)), [], []) and pair.placed.tolist() == [7, 8]
    assert any("row 7: 't7' before, '<|im_start|>' after" in note for note in pair.notes)


def test_a_part_of_the_vocabulary_that_was_exchanged_is_not_taken_for_renamed(make):
    pair = match(make("base", 20, TOKENS), make("tuned", 20, [*TOKENS[:16], *"abcd"]))
    assert pair.placed.tolist() == [] and pair.base_only.tolist() == pair.tuned_only.tolist() == [16, 17, 18, 19]


def test_what_lies_between_tokens_that_moved_is_not_matched_by_position(make):
    """The tenth token was taken out and another put at the end: at no place after it the two sides are one row."""
    moved = [*TOKENS[:9], "u9", *TOKENS[11:], "v", "w"]
    pair = match(make("base", 20, TOKENS), make("tuned", 21, moved))
    assert pair.placed.tolist() == [] and pair.base_only.tolist() == [9, 10] and pair.tuned_only.tolist() == [9, 19, 20]
    assert (
        "2 rows of base have no partner and are not tested: 2 stand for a token that tuned lacks (such as 't9')."
        in pair.notes
    )


def test_a_vocabulary_that_was_cut_or_extended_is_no_stranger(make):
    """All that is left of the smaller one is in the larger, however small a part of it that is."""
    for n, (pieces, rows) in enumerate([(TOKENS[3:6], 3), ([*TOKENS, *(f"new{n}" for n in range(300))], 320)]):
        pair = match(make(f"base{n}", 20, TOKENS), make(f"tuned{n}", rows, pieces))
        assert len(pair.base_ids) == min(rows, 20)


@pytest.mark.parametrize(("shared", "refused"), [(0, True), (1, True), (8, True), (9, True), (10, False), (20, False)])
def test_tokenizers_that_share_too_little_are_refused_with_the_figures(make, shared, refused):
    base, tuned = make("base", 24, TOKENS), make("tuned", 40, [*TOKENS[:shared], *(f"u{n}" for n in range(20))])
    if refused:
        with pytest.raises(PairError, match=rf"share .*token.*, of 20 and {shared + 20}\. .*at least 50%") as told:
            match(base, tuned)
        assert (f"only {shared} tokens" if shared > 1 else "only 1 token" if shared else "no token") in str(told.value)
    else:
        assert len(match(base, tuned).base_ids) >= shared


def test_what_is_said_of_rows_that_a_larger_matrix_has_alone(make):
    pair = match(make("base", 3, None), make("tuned", 5, None))
    assert "2 rows of tuned have no partner and are not tested: base has only 3." in pair.notes
    assert pair.alike == "All rows that were tested are identical"
    assert match(make("one", 3, None), make("other", 3, None)).alike == "The two are identical"


@pytest.mark.parametrize(("pieces", "width", "says"), [
    (["x", "y"], 2, "share no token"), (["a", "b"], 3, "different width"), ([], 2, "empty"), (["", ""], 2, "empty")])  # fmt: skip
def test_pairs_that_cannot_be(make, pieces, width, says):
    with pytest.raises(PairError, match=says):
        match(make("base", 2, ["a", "b"]), make("tuned", 2, pieces, width))


def test_one_value_a_row_is_enough(make):
    assert match(make("base", 2, ["a", "b"], 1), make("tuned", 2, ["b", "a"], 1)).dim == 1
