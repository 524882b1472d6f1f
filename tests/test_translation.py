"""Prompts, extraction rules on hand-made cases, and generation on a tiny model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ks_core.errors import Cancelled, SettingsError
from ks_core.jobs import world
from ks_core.translation.generation import RULES, TEMPLATES, extract, format_prompt, generate, template

PROMPT = "Translate English to French.\nEnglish: Open file\nFrench:"


@pytest.mark.parametrize(("text", "raw", "first_line", "restart"), [
    (" Ouvrir", "Ouvrir", "Ouvrir", "Ouvrir"),
    ("\nOuvrir\nencore", "Ouvrir\nencore", "Ouvrir", "Ouvrir\nencore"),
    (" Ouvrir\nEnglish: Save\nFrench: Enregistrer", "Ouvrir\nEnglish: Save\nFrench: Enregistrer", "Ouvrir", "Ouvrir"),
    (" Ouvrir English: Save", "Ouvrir English: Save", "Ouvrir English: Save", "Ouvrir"),
    (" Ouvrir\nTranslate English to French.\nX", "Ouvrir\nTranslate English to French.\nX", "Ouvrir", "Ouvrir"),
    ("", "", "", ""),
    ("  \n ", "", "", ""),
    (' "Ouvrir"\nx', '"Ouvrir"\nx', '"Ouvrir"', '"Ouvrir"\nx'),
    (" Spelling: ok", "Spelling: ok", "Spelling: ok", "Spelling: ok"),
    (" NonEnglish: x", "NonEnglish: x", "NonEnglish: x", "NonEnglish: x"),
])  # fmt: skip
def test_the_rules_on_hand_made_cases(text, raw, first_line, restart):
    assert [extract(text, rule, PROMPT) for rule in RULES] == [raw, first_line, restart]


def test_the_labels_come_from_the_prompt_or_its_template():
    text = " Ouvrir\nSource: Save"
    assert extract(text, "prompt_restart", TEMPLATES["source_target"]) == "Ouvrir"
    assert extract(text, "prompt_restart", PROMPT) == "Ouvrir\nSource: Save"


@given(st.text())
@settings(derandomize=True, max_examples=300)
def test_a_rule_only_ever_cuts(text):
    whole = extract(text, "raw", PROMPT)
    for rule in RULES:
        answer = extract(text, rule, PROMPT)
        assert whole.startswith(answer)
        assert extract(answer, rule, PROMPT) == answer
    assert "\n" not in extract(text, "first_line", PROMPT)


def test_unknown_rules_are_named():
    with pytest.raises(SettingsError, match="first_line"):
        extract("x", "second_line", PROMPT)


def test_every_template_ends_where_the_answer_begins():
    for name in TEMPLATES:
        text = format_prompt(name, "A cat", "English", "French")
        assert "A cat" in text and text.endswith(":")


@pytest.mark.parametrize("bad", ["no field", "{source} {other}", "{source", "{source} {}"])
def test_templates_that_cannot_be_used(bad):
    with pytest.raises(SettingsError):
        template(bad)


def test_generation_does_not_depend_on_batching(tiny_model, tiny_tokenizer):
    prompts = ["w3", "w4 w5 w6 w7 w8", "w9 w10", "w11 w12 w13"]
    seen = []
    together = generate(
        tiny_model,
        tiny_tokenizer,
        prompts,
        max_new_tokens=6,
        batch_size=4,
        progress=lambda done, total: seen.append((done, total)),
    )
    alone = [generate(tiny_model, tiny_tokenizer, [p], max_new_tokens=6)[0] for p in prompts]
    assert together == alone
    assert [g.prompt for g in together] == prompts
    assert seen == [(4, 4)]
    assert all(g.tokens <= 6 and g.stopped == (g.tokens < 6) for g in together)


def test_generation_stops_when_asked(tiny_model, tiny_tokenizer):
    with pytest.raises(Cancelled):
        generate(tiny_model, tiny_tokenizer, ["w3"], should_stop=lambda: True)


@pytest.mark.parametrize("prompt", ["{source:>999999999999}", "{source!r}", "{source:{source}}"])
def test_a_prompt_that_lays_its_fields_out_is_refused(prompt):
    with pytest.raises(SettingsError, match="how a field is laid out"):
        template(prompt)


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("in_step", [False, True])
def test_processes_share_uneven_sentences_without_losing_one(
    tiny_model, tiny_tokenizer, monkeypatch, processes, in_step
):
    prompts = [f"w{5 + n} " * (1 + n % 4) + "w4" for n in range(17)]  # five batches, the last of one
    options = {"max_new_tokens": 3, "batch_size": 4}
    alone = generate(tiny_model, tiny_tokenizer, prompts, **options)
    monkeypatch.setattr(tiny_model, "_is_fsdp_managed_module", in_step, raising=False)
    calls, shares, seen = [], [], []
    generated = tiny_model.generate
    monkeypatch.setattr(
        tiny_model, "generate", lambda **given: calls.append(1) or generated(**given, synced_gpus=False)
    )
    monkeypatch.setattr(world, "size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(world, "rank", lambda rank=rank: rank)
        # What each brings is kept; the last to come gets all of it, as every process would.
        monkeypatch.setattr(world, "gather", lambda items: shares.append(items) or [i for s in shares for i in s])
        calls.clear()
        seen.clear()
        try:
            together = generate(
                tiny_model, tiny_tokenizer, prompts, progress=lambda *done: seen.append(done), **options
            )
        except KeyError:
            assert rank < processes - 1, "those before the last do not have all here"
        assert not in_step or len(calls) == -(-5 // processes), "a sharded model is called as often in every process"
        assert not in_step or seen[-1] == (17, 17)
    brought = sorted(i for share in shares for (_, i), _ in share)
    assert brought == list(range(17)), "none lost, none twice"
    assert together == alone
