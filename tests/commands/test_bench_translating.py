"""The benchmark of translating: both sides write the same answers, and the table says what was measured."""

import pytest

from ks_core.commands.benches import translating
from ks_core.commands.benches.translating import OURS, PEER, compare, table
from ks_core.errors import SettingsError


def test_both_sides_write_the_same(tiny_model, tiny_tokenizer):
    prompts = [f"w3 w4 w{n} w{2 * n}" for n in range(5, 12)] + ["w3 w4 w20 w21 w22 w23"]
    found, texts = compare(tiny_model, tiny_tokenizer, prompts, rounds=2)
    assert texts[OURS] == texts[PEER] and any(texts[OURS])
    assert {way: len(rounds) for way, rounds in found.items()} == {PEER: 2, OURS: 2}
    assert all(seconds > 0 and worked > 0 for rounds in found.values() for seconds, worked in rounds)


def test_the_table_counts_equal_answers():
    lines = table("m", {PEER: [(4.0, 8.0)], OURS: [(2.0, 2.0)]}, {PEER: ["a", "b"], OURS: ["a", "c"]})
    assert lines[1] == "| `m` | this program | 2.0 | 2.00 | 2.0 | 4.00 | 1 of 2 |"


def test_at_least_one_of_each():
    with pytest.raises(SettingsError, match="--sentences is 0"):
        translating.run(0, 1, [])
