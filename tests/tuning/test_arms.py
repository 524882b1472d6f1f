"""Which rows an arm trains, and arms that cannot be."""

import pytest
from hypothesis import given, strategies as st

from ks_core.errors import SettingsError, TicketError
from ks_core.tuning.arms import ARMS, EMBED_RECIPE, Arm, choose_rows, parse_arm
from ks_core.tuning.recipes import Recipe
from ks_core.tuning.row_choice import Material, balance_of

COUNTS = {i: 1000 // (i + 1) for i in range(60)}
MATERIAL = Material(COUNTS, prompt=(3, 7, 90), ticket=(5, 40, 2), size=100)
#: A ticket whose rows all have equals outside it.
COMMON = Material(COUNTS, prompt=(3, 7, 90), ticket=(5, 40, 9), size=100)


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
    chosen = choose_rows(Arm(kind, seed=seed), COMMON)
    assert len(chosen) == len(set(chosen)) == 3
    assert not set(chosen) & set(COMMON.ticket) and set(chosen) <= set(COUNTS)
    assert chosen == choose_rows(Arm(kind, seed=seed), COMMON)


#: A ticket of which two rows have equals (5 occurs 166 times, 40 24 times) and one, the most frequent, has none.
LONELY = Material({**COUNTS, 90: 9000}, ticket=(5, 40, 90), size=100)


def test_matched_rows_occur_about_as_often_pair_by_pair():
    for seed in range(20):
        chosen = choose_rows(Arm("matched", seed=seed), COMMON)
        for own, other in zip(COMMON.ticket, chosen, strict=True):
            assert max(COUNTS[own], COUNTS[other]) <= 1.25 * min(COUNTS[own], COUNTS[other])
        found = balance_of("matched", Arm("matched", seed=seed), COMMON)
        assert found.is_close and found.ticket == 166 + 24 + 100 and found.control == sum(COUNTS[i] for i in chosen)
    assert len({tuple(choose_rows(Arm("matched", seed=seed), COMMON)) for seed in range(20)}) > 1, "chance has a part"


def test_a_match_that_is_none_is_refused_with_what_could_be_had():
    with pytest.raises(TicketError, match=r"no rows outside the ticket match it .*9,190 times.*2 of its 3 rows"):
        choose_rows(Arm("matched"), LONELY)


def test_rows_that_have_a_partner_are_compared_with_it():
    for seed in range(10):
        own, other = (choose_rows(Arm(kind, seed=seed), LONELY) for kind in ("paired", "partners"))
        assert own == [5, 40] and not set(other) & set(LONELY.ticket) and len(set(other)) == 2
        for a, b in zip(own, other, strict=True):
            assert max(COUNTS[a], COUNTS[b]) <= 1.25 * min(COUNTS[a], COUNTS[b])
        found = balance_of("partners", Arm("partners", seed=seed), LONELY)
        assert found.pairs == 2 and found.worst_ratio <= 1.25 and found.is_close
    alone = Material({1: 1000, 2: 10}, ticket=(1,), size=10)
    with pytest.raises(TicketError, match="within 25%"):
        choose_rows(Arm("partners"), alone)


def test_difference_sets_by_hand():
    """The three most frequent rows are 0, 1, 2; the ticket is 5, 40, 2; the prompt has 3 and 7."""
    assert choose_rows(Arm("both"), MATERIAL) == [2]
    assert choose_rows(Arm("ticket-only"), MATERIAL) == [5, 40]
    assert choose_rows(Arm("frequent-only"), MATERIAL) == [0, 1]
    assert choose_rows(Arm("beyond-prompt"), MATERIAL) == [5, 40, 2]
    assert choose_rows(Arm("beyond-prompt"), Material(COUNTS, prompt=(5,), ticket=(5, 40, 2), size=100)) == [40, 2]
    with pytest.raises(TicketError, match="no such row"):
        choose_rows(Arm("both"), Material(COUNTS, ticket=(50, 40), size=100))


def test_a_copied_arm_is_not_trained():
    arm = parse_arm("frequent-only:copied=1", steps=40)
    assert arm.copied and arm.recipe is None and arm.name == "Frequent, not ticket, copied"
    assert Arm.from_dict(arm.as_dict()) == arm and Arm.from_dict({"kind": "frequent"}).copied is False
    assert Arm("transfer", copied=True).name == Arm("transfer").name, "it is copied in any case"
    with pytest.raises(SettingsError, match="lays no rows"):
        Arm("lora", copied=True)
    with pytest.raises(SettingsError, match="true or false"):
        Arm("partial", copied="maybe")


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
    for kind in ARMS:
        arm = Arm(kind, tokens=(1,), seed=2)
        assert Arm.from_dict(arm.as_dict()) == arm
    assert Arm("embed").recipe == EMBED_RECIPE and Arm("base").recipe is None
    with pytest.raises(SettingsError, match="no field speed"):
        Arm.from_dict({"kind": "base", "speed": 3})
    with pytest.raises(SettingsError, match="no field size"):
        Arm.from_dict({"kind": "lora", "recipe": {"size": 3}})


def test_arms_of_a_run_are_trained_for_as_long_unless_somebody_chooses_otherwise():
    assert {kind.recipe.steps for kind in ARMS.values() if kind.recipe} == {150}


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
