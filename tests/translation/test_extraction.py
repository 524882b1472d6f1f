"""Extraction rules on hand-made cases, and that none of them takes a word of the source for a part of the prompt."""

import doctest

import pytest
from hypothesis import given, settings, strategies as st

from ks_core.errors import SettingsError
from ks_core.translation import extraction
from ks_core.translation.extraction import EXTRACTION_RULES, dropped, extract
from ks_core.translation.generation import Generation
from ks_core.translation.prompts import ALPACA_OPENING, TEMPLATES, format_prompt

PROMPT = "Translate English to French.\nEnglish: Open file\nFrench:"
ALPACA = format_prompt("alpaca", "Open file", "English", "French")


@pytest.mark.parametrize(("text", "raw", "first_line", "restart"), [
    (" Ouvrir", "Ouvrir", "Ouvrir", "Ouvrir"),
    ("\nOuvrir\nencore", "Ouvrir\nencore", "Ouvrir", "Ouvrir\nencore"),
    (" Ouvrir\nEnglish: Save\nFrench: Enregistrer", "Ouvrir\nEnglish: Save\nFrench: Enregistrer", "Ouvrir", "Ouvrir"),
    (" Ouvrir\n \n  English : Save", "Ouvrir\n \n  English : Save", "Ouvrir", "Ouvrir"),
    (" Ouvrir\nTranslate English to French.\nX", "Ouvrir\nTranslate English to French.\nX", "Ouvrir", "Ouvrir"),
    # A label inside a line is a word.
    (" Ouvrir English: Save", "Ouvrir English: Save", "Ouvrir English: Save", "Ouvrir English: Save"),
    # What an answer begins with is the answer; the label that the prompt ends with says so once more.
    (" French: Bonjour", "French: Bonjour", "French: Bonjour", "Bonjour"),
    ("French:French: Bonjour\nEnglish: x", "French:French: Bonjour\nEnglish: x", "French:French: Bonjour", "Bonjour"),
    (" English: Bonjour", "English: Bonjour", "English: Bonjour", "English: Bonjour"),
    ("French:\nEnglish: x", "French:\nEnglish: x", "French:", ""),
    ("", "", "", ""),
    ("  \n ", "", "", ""),
    (' "Ouvrir"\nx', '"Ouvrir"\nx', '"Ouvrir"', '"Ouvrir"\nx'),
    (" Spelling: ok", "Spelling: ok", "Spelling: ok", "Spelling: ok"),
    (" a\nNonEnglish: x", "a\nNonEnglish: x", "a", "a\nNonEnglish: x"),
])  # fmt: skip
def test_the_rules_on_hand_made_cases(text, raw, first_line, restart):
    assert [extract(text, rule, PROMPT) for rule in ("raw", "first_line", "prompt_restart")] == [
        raw,
        first_line,
        restart,
    ]


@pytest.mark.parametrize(("text", "kept"), [
    ("\nOuvrir le\nfichier", "Ouvrir le fichier"),
    ("Ouvrir\n### Input:\nSave\n### Response:\nEnregistrer", "Ouvrir"),
    ("Ouvrir ### Note", "Ouvrir"),
    ("### Response:\nOuvrir\n\n### Response: x", "Ouvrir"),
    (f"Ouvrir\n\n{ALPACA_OPENING}\nmore", "Ouvrir"),
    ("Note: ouvrir", "Note: ouvrir"),
    ("### Instruction:", ""),
])  # fmt: skip
def test_the_response_of_an_alpaca_frame(text, kept):
    assert extract(text, "response", ALPACA) == kept


def test_the_labels_come_from_the_prompt_or_its_template():
    text = " Ouvrir\nSource: Save"
    assert extract(text, "prompt_restart", TEMPLATES["source_target"].text) == "Ouvrir"
    assert extract(text, "prompt_restart", PROMPT) == "Ouvrir\nSource: Save"
    assert extract(" Ouvrir\n### Input:\nSave", "prompt_restart", ALPACA) == "Ouvrir"


@pytest.mark.parametrize("own", ["Say in French.\n{source}\n=>", "{source}\n", "{source}\nFrench:"])
def test_the_source_has_no_labels(own):
    prompt = own.format(source="Warning: the disk is full")
    assert extract("Warning: le disque est plein", "prompt_restart", prompt) == "Warning: le disque est plein"
    answer = Generation(prompt, " Plein\nWarning: le disque", True, 5, frame=own)
    assert answer.answer("prompt_restart") == "Plein\nWarning: le disque"
    if own.startswith("Say"):
        again = Generation(prompt, " Plein\nSay in French.\nx", True, 5, frame=own)
        assert again.answer("prompt_restart") == "Plein"


@given(
    st.text()
    | st.lists(st.sampled_from(["French:", "English:", "\n", " ", "a", "###", "Response:", "\u2028"])).map("".join)
)
@settings(derandomize=True, max_examples=500, deadline=None)
def test_a_rule_only_ever_cuts(text):
    for prompt in (PROMPT, ALPACA):
        whole = extract(text, "raw", prompt)
        for rule in EXTRACTION_RULES:
            answer = extract(text, rule, prompt)
            assert " ".join(answer.split()) in " ".join(whole.split())
            assert extract(answer, rule, prompt) == answer
            assert len(dropped(whole, answer)) <= len(whole)
        assert "\n" not in extract(text, "first_line", prompt)
        assert "###" not in extract(text, "response", prompt)


@pytest.mark.parametrize(("text", "kept", "rest"), [
    ("a b\nc", "a b", "\nc"), ("French: a b", "a b", ""), ("a\nb ### c", "a b", " ### c"), ("a", "", "a"), ("a", "a", ""),
])  # fmt: skip
def test_what_was_dropped(text, kept, rest):
    assert dropped(text, kept) == rest


def test_unknown_rules_are_named():
    with pytest.raises(SettingsError, match="first_line"):
        extract("x", "second_line", PROMPT)


def test_doctests():
    assert doctest.testmod(extraction).failed == 0
