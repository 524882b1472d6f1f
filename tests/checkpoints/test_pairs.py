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
    assert any("1 rows of tuned have no partner" in note for note in pair.notes)


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


@pytest.mark.parametrize(("pieces", "width", "says"), [
    (["x", "y"], 2, "share no token"), (["a", "b"], 3, "different width"), ([], 2, "empty"), (["", ""], 2, "empty")])  # fmt: skip
def test_pairs_that_cannot_be(make, pieces, width, says):
    with pytest.raises(PairError, match=says):
        match(make("base", 2, ["a", "b"]), make("tuned", 2, pieces, width))


def test_one_value_a_row_is_enough(make):
    assert match(make("base", 2, ["a", "b"], 1), make("tuned", 2, ["b", "a"], 1)).dim == 1
