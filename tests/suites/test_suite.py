"""What a suite is made of: its runs, presets, the paper's settings in steps, and what it refuses."""

from dataclasses import replace

import pytest

from ks_core.commands.program import main
from ks_core.errors import CorpusError, SettingsError
from ks_core.suites.presets import PAIRS, PRESETS, RECIPES, filled, suite_of
from ks_core.suites.suite import Suite, Text
from ks_core.tickets.appendix import published
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import CorpusChoice
from ks_core.tuning.recipes import Recipe


def test_every_pair_protocol_and_seed_is_a_run_and_what_no_seed_touches_is_in_the_first():
    arms = (Arm("base"), Arm("stop"), Arm("embed"), Arm("partial"), Arm("matched"), Arm("lora"))
    suite = Suite(
        texts=(Text("en-fr", CorpusChoice("pack:fr-FR"), 18), Text("en-de", CorpusChoice("pack:de-DE"), 9)),
        protocols=("demo", "sibling"), seeds=(3, 4), arms=arms, written=1,
    )  # fmt: skip
    told = [(run.number, run.pair, run.protocol, run.seed) for run in suite.runs]
    assert told == [
        (n, pair, protocol, seed)
        for n, (seed, pair, protocol) in enumerate(
            (seed, pair, protocol) for seed in (3, 4) for pair in ("en-fr", "en-de") for protocol in ("demo", "sibling")
        )
    ]
    first, second = suite.runs[0].plan, suite.runs[4].plan
    assert [a.kind for a in first.arms] == ["base", "embed", "stop", "partial", "matched", "lora"]
    assert [a.kind for a in second.arms] == ["embed", "partial", "matched", "lora"], "the base is scored once"
    assert {a.recipe.seed for a in second.arms} == {4} and second.arms[2].seed == 4
    assert [a.name for a in second.arms] == [a.name for a in first.arms if a.kind not in ("base", "stop")]
    assert (first.k, suite.runs[2].plan.k) == (18, 9)
    assert first.generate and not second.generate, "only the first seed writes"
    sibling = suite.runs[1].plan
    assert (sibling.prompt, sibling.beams, sibling.max_new_tokens) == ("alpaca", 4, 256)
    assert Suite.from_dict(suite.as_dict()) == suite


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_suite_that_comes_back_from_its_json(name):
    suite = suite_of(PRESETS[name])
    assert Suite.from_dict(suite.as_dict()) == suite and suite.name == name


def test_the_papers_settings():
    """Rates, epochs and texts as the paper and its sibling have them, in steps of the 10,000 pairs."""
    suite = suite_of(PRESETS["four"], corpus="file:lego/{pair}.tsv", test="flores:flores101/devtest#eng,{code}")
    assert suite.pairs == ("en-ro", "en-es", "en-de", "en-ca")
    assert [text.k for text in suite.texts] == [len(published()[pair]) for pair in suite.pairs]
    arms = {arm.kind: arm.recipe for arm in suite.arms}
    assert (arms["embed"].learning_rate, arms["embed"].epochs) == (2e-5, 3)
    assert (arms["partial"].learning_rate, arms["partial"].epochs) == (1e-2, 5)
    assert arms["lora"].learning_rate == 1e-4
    embed = arms["embed"].in_steps(PAIRS)
    assert (embed.steps, embed.warmup, embed.batch_size, embed.schedule) == (3 * 79, 8, 128, "cosine")
    assert arms["partial"].in_steps(PAIRS).steps == 5 * 79
    corpus = suite.texts[3].corpus
    assert (corpus.name, corpus.test) == ("file:lego/en-ca.tsv", "flores:flores101/devtest#eng,cat")
    assert (corpus.source_language, corpus.target_language, corpus.most) == ("English", "Catalan", 10_000)
    assert suite.runs[0].plan.rule == "count" and suite.seeds == (42,)


def test_arms_in_words_are_trained_as_the_preset_has_them():
    suite = suite_of(
        PRESETS["en-ca"], arms=("base", "embed:epochs=1:accumulate=32", "partial:steps=40", "rows"), rows=(13,)
    )
    embed, partial, rows = (suite.arms[n].recipe for n in (1, 2, 3))
    assert (embed.epochs, embed.accumulate, embed.learning_rate) == (1, 32, 2e-5)
    assert (partial.epochs, partial.steps, partial.learning_rate) == (0, 40, 1e-2)
    assert rows == RECIPES["rows"] and suite.arms[3].tokens == (13,)
    shorter = suite_of(PRESETS["demo"], steps=7)
    assert {arm.recipe.steps for arm in shorter.arms if arm.recipe} == {7}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"texts": ()}, "no language pair"), ({"seeds": ()}, "no seed"), ({"seeds": (1, 1)}, "seed '1' twice"),
        ({"arms": (Arm("base"), Arm("embed"), Arm("embed"))}, "twice"), ({"arms": (Arm("embed"),)}, "no arm base"),
        ({"arms": (Arm("base"), Arm("partial"))}, "needs a ticket"), ({"protocols": ("paper",)}, "no protocol"),
        ({"written": 3}, "written"), ({"texts": (Text(" "),)}, "no name"), ({"seeds": (-1,)}, "seed"),
    ],
)  # fmt: skip
def test_what_is_no_suite(change, words):
    with pytest.raises(SettingsError, match=words):
        replace(Suite(), **change)


@pytest.mark.parametrize(
    "given", [{"colour": 1}, {"arms": 3}, {"texts": [{"pair": "a-b", "colour": 1}]}, {"seeds": "12"}]
)
def test_what_does_not_come_from_json(given):
    with pytest.raises(SettingsError):
        Suite.from_dict(given)


def test_places_in_the_name_of_a_text():
    assert filled("x/{pair}-{source}-{target}-{code}", "en-ro") == "x/en-ro-en-ro-ron"
    for name in ("{other}", "{0}", "{pair", "{}"):
        with pytest.raises(SettingsError, match="places"):
            filled(name, "en-ro")
    with pytest.raises(SettingsError, match="no language pair"):
        suite_of(PRESETS["en-ca"], pairs=("encat",))


def test_a_text_that_is_not_named_says_so(capsys):
    with pytest.raises(CorpusError, match="names no corpus"):
        suite_of(PRESETS["en-ca"]).texts[0].corpus.load()
    assert main(["reproduce", "nothing"]) == 2
    assert "no suite" in capsys.readouterr().err


def test_epochs_are_steps_of_the_text():
    recipe = Recipe(batch_size=8, epochs=0.5, warmup_share=0.1)
    assert recipe.in_steps(100) == Recipe(batch_size=8, steps=7, warmup=1)
    assert recipe.in_steps(1).steps == 1
    assert Recipe(steps=20, warmup=3).in_steps(100) == Recipe(steps=20, warmup=3)
    assert "epochs" not in Recipe().as_dict() and recipe.as_dict()["epochs"] == 0.5
    for wrong in (
        {"accumulate": 0},
        {"accumulate": 9},
        {"epochs": -1},
        {"epochs": float("nan")},
        {"warmup_share": 1.0},
    ):
        with pytest.raises(SettingsError):
            Recipe(**wrong)
