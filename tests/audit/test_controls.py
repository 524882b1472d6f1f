"""The run of the controls: what it asks, and that no other run is taken for it."""

from dataclasses import replace

import pytest

from helpers.made_run import MadeRun
from helpers.tiny_text import PROMPT
from ks_core.audit import tables
from ks_core.audit.controls import Found, beside, differences
from ks_core.audit.gains import gains
from ks_core.audit.inquiry import BUDGETS, Audit
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import Plan

TESTED = {"signature": "base:b|part:test|sentences:64"}


@pytest.fixture
def audit(tiny_pair):
    base, tuned, corpus = tiny_pair
    return Audit(base, tuned, alpha=0.2, corpus=corpus, prompt=PROMPT)


@pytest.fixture
def asked(audit):
    """The controls with answers, as a large audit trains them but with the standard budget's steps."""
    return replace(audit, generate=True).controls((7,))


def test_the_arms_that_doubt_a_ticket(audit, asked):
    """Rows trained as often are those that have partners; what the ledger's budget cannot train is copied, and nothing is
    written unless somebody asks."""
    kinds = [arm.kind for arm in asked.arms]
    assert "matched" not in kinds and kinds.count("paired") == kinds.count("partners") == kinds.count("random") == 2
    both = ["both", "ticket-only", "frequent-only", "beyond-prompt"]
    copied = [arm.kind for arm in asked.arms if arm.copied]
    assert copied == ["paired", "paired", "partners", "partners", "random", "random", "prompt", *both]
    assert [arm.kind for arm in asked.arms if arm.recipe] == ["partial", "rows", "frequent"]
    assert [arm.kind for arm in asked.arms[-2:]] == ["stop", "examples"]
    assert asked.generate and not audit.controls((7,)).generate
    large = replace(audit, budget="large").controls((7,))
    assert [arm.kind for arm in large.arms if arm.copied] == both
    for plan in (asked, large):
        pairs = ([a for a in plan.arms if a.kind == kind] for kind in ("paired", "partners"))
        for own, other in zip(*pairs, strict=True):
            assert own.seed == other.seed and own.recipe == other.recipe
    assert {arm.recipe.steps for arm in asked.arms if arm.recipe} == {BUDGETS["standard"][1]}
    assert asked.arms[4].name.startswith("Row ")


def test_a_run_is_taken_only_for_what_it_is(asked):
    assert differences(asked, asked, TESTED) == []
    more = replace(asked, sentences=0, arms=(*asked.arms, Arm("lora")))
    assert differences(asked, more, TESTED) == [], "more sentences and more arms do no harm"
    slow = Plan.from_dict(asked.as_dict() | {"beams": 4, "max_new_tokens": 5, "sentences": 10})
    assert differences(asked, slow, TESTED) == [
        "10 sentences, asked 40", "4 beams, asked 1", "5 new tokens at most, asked 48",
    ]  # fmt: skip
    silent = replace(asked, generate=False)
    assert differences(asked, silent, TESTED) == ["no answers, asked some"]
    assert differences(silent, replace(slow, sentences=40), TESTED) == [], "answers that nobody asked for do no harm"
    weak = [
        replace(a, recipe=replace(a.recipe, steps=1, learning_rate=1e-9)) if a.kind == "frequent" else a for a in asked.arms
    ]  # fmt: skip
    found = differences(asked, replace(asked, arms=tuple(a for a in weak if a.kind != "noise")), TESTED)
    assert found == ["Most frequent rows: steps 1, asked 20, learning rate 1e-09, asked 0.01", "without Random delta"]
    assert differences(asked, asked, {"signature": "base:b|part:development"}) == [
        "scored on development, asked the test part"
    ]
    said = Found(None, "r", ("4 beams, asked 1",)).sentence
    assert said == "Run r is of this ticket and is not taken, as it differs from what is asked: 4 beams, asked 1."
    assert Found(None).sentence == ""


def test_the_other_protocols_prompt_is_asked_of_base_and_ticket_alone(asked):
    other = beside(asked)
    assert other.prompt == "alpaca" and [a.kind for a in other.arms] == ["base", "tuned", "transfer", "partial"]
    assert beside(replace(asked, prompt="alpaca")).prompt == "paper"


def test_under_the_alpaca_frame_answers_are_cut_at_its_headings(tmp_path):
    run = MadeRun(tmp_path, [(Arm("base"), 3, False, {}), (Arm("partial"), 6, True, {})], prompt="alpaca")
    assert gains(run)[0].rule == "response"
    assert "Gain in chrF, response" in tables.stopping(gains(run))[0]


def test_partners_are_a_share_of_the_rows_that_they_are_partners_of_and_copied_arms_of_the_copied_ticket(tmp_path):
    arms = [
        (Arm("base"), 3, True, {}), (Arm("transfer"), 5, True, {}), (Arm("partial"), 7, True, {"rows": [1, 2], "in_ticket": 2}),
        (Arm("paired", seed=1), 6, True, {}), (Arm("partners", seed=1), 5, True, {"rows": [1, 2, 3], "in_ticket": 0}),
        (Arm("both", copied=True), 4, True, {}), (Arm("both"), 4, True, {}), (Arm("noise"), 3, True, {}),
    ]  # fmt: skip
    found = {(g.kind, g.name): g for g in gains(MadeRun(tmp_path, arms))}
    assert [g.of for g in found.values()] == [
        "transfer", "partial", "partial", "paired", "transfer", "partial", "transfer",
    ]  # fmt: skip
    (partners,) = (g for g in found.values() if g.kind == "partners")
    (paired,) = (g for g in found.values() if g.kind == "paired")
    assert partners.shares["chrf"].whole == paired.shares["chrf"].gain
    assert partners.overlap == "0 of those 3 rows are ticket rows"
    row = next(r for r in tables.controls(list(found.values())) if r["Arm"] == "Their partners, seed 1")
    assert (row["Rows"], row["Of them in the ticket"], row["Steps"]) == ("3", "0", "150")
    assert row["Of the gain of"] == "Ticket rows with a partner"


def test_only_the_arms_that_are_asked_are_told_of(tmp_path):
    arms = [(Arm("base"), 3, True, {}), (Arm("partial"), 6, True, {}), (Arm("lora"), 6, True, {})]
    run = MadeRun(tmp_path, arms)
    plan = Plan.from_dict(run.request["parameters"])
    asked = replace(plan, arms=plan.arms[:2])
    assert [g.kind for g in gains(run, asked)] == ["partial"] and len(gains(run)) == 2
