"""Which rows an arm trains, and arms that cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ks_core.errors import SettingsError, TicketError
from ks_core.tuning.arms import KINDS, RECIPES, Arm, Material, choose_rows, parse_arm
from ks_core.tuning.recipes import Recipe

COUNTS = {i: 1000 // (i + 1) for i in range(60)}
MATERIAL = Material(COUNTS, prompt=(3, 7, 90), ticket=(5, 40, 2), size=100)


def test_rows_by_hand():
    assert choose_rows(Arm("frequent", k=4), MATERIAL) == [0, 1, 2, 3]
    assert choose_rows(Arm("frequent"), MATERIAL) == [0, 1, 2], "as many as the ticket has"
    assert choose_rows(Arm("partial"), MATERIAL) == [5, 40, 2]
    assert choose_rows(Arm("transfer", k=2), MATERIAL) == [5, 40]
    assert choose_rows(Arm("prompt"), MATERIAL) == [3, 7], "90 does not occur in the training text"
    assert choose_rows(Arm("rows", tokens=(9, 9, 4)), MATERIAL) == [9, 4]
    assert choose_rows(Arm("embed"), MATERIAL) == list(range(60))


@given(st.integers(0, 1000), st.sampled_from(["random", "matched"]))
def test_random_rows_are_others_as_many_and_repeatable(seed, kind):
    chosen = choose_rows(Arm(kind, seed=seed), MATERIAL)
    assert len(chosen) == len(set(chosen)) == 3
    assert not set(chosen) & set(MATERIAL.ticket) and set(chosen) <= set(COUNTS)
    assert chosen == choose_rows(Arm(kind, seed=seed), MATERIAL)


def test_matched_rows_are_trained_about_as_often():
    for seed in range(20):
        chosen = choose_rows(Arm("matched", seed=seed), MATERIAL)
        # Row 2 is trained 333 times; the ten nearest unused rows are 1, 3, 4 and 6 to 12.
        assert chosen[0] in {1, 3, 4, 6, 7, 8, 9, 10, 11, 12}
        assert abs(COUNTS[chosen[2]] - COUNTS[40]) <= 6


@pytest.mark.parametrize(
    ("arm", "material", "words"),
    [
        (Arm("partial"), Material(COUNTS, size=100), "ticket is empty"),
        (Arm("partial"), Material(COUNTS, ticket=(3, 100), size=100), "100 is outside the vocabulary of 100"),
        (Arm("frequent", k=61), MATERIAL, "61 rows are wanted, 60 tokens"),
        (Arm("random", k=58), MATERIAL, "57 tokens"),
        (Arm("frequent"), Material(COUNTS, size=100), "Set k"),
    ],
)
def test_rows_that_cannot_be_chosen(arm, material, words):
    with pytest.raises(TicketError, match=words):
        choose_rows(arm, material)


@pytest.mark.parametrize(
    "settings", [{"kind": "best"}, {"kind": "random", "k": 0}, {"kind": "rows"}, {"kind": "lora", "rank": 0}]
)
def test_arms_that_cannot_be(settings):
    with pytest.raises((SettingsError, TicketError)):
        Arm(**settings)


def test_an_arm_goes_through_json_and_has_its_kinds_recipe():
    for kind in KINDS:
        arm = Arm(kind, tokens=(1,), seed=2)
        assert Arm.from_dict(arm.as_dict()) == arm
    assert Arm("embed").recipe == RECIPES["embed"] and Arm("base").recipe is None
    with pytest.raises(SettingsError, match="no field speed"):
        Arm.from_dict({"kind": "base", "speed": 3})
    with pytest.raises(SettingsError, match="no field size"):
        Arm.from_dict({"kind": "lora", "recipe": {"size": 3}})


def test_words_of_the_command_line():
    arm = parse_arm("matched:seed=2:steps=40:learning_rate=0.003:k=5", steps=9, batch_size=4)
    assert (arm.seed, arm.k) == (2, 5)
    assert arm.recipe == Recipe(steps=40, batch_size=4, learning_rate=0.003, schedule="linear", seed=2)
    assert parse_arm("partial", steps=9).recipe.steps == 9
    assert parse_arm("base", steps=9) == Arm("base")
    assert parse_arm("rows", [4, 5]).tokens == (4, 5)
    for wrong in ("partial:speed=3", "partial:steps", "partial:steps=0", "best", "", "lora:rank=x"):
        with pytest.raises(SettingsError):
            parse_arm(wrong)


def test_a_negative_id_is_no_token():
    with pytest.raises(SettingsError, match="a token id is -1"):
        Arm("rows", tokens=(-1,))
