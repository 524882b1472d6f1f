"""Prompt transfer: base and tuned rows under every prompt, the trained one first."""

import json

import pytest

from helpers.deltas import asked, changed
from ks_core.audit.writing.prompts import prompt_transfer
from ks_core.errors import SettingsError
from ks_core.likelihood.rows import lift_off
from ks_core.translation.generation import generate

TEMPLATE = "w10 w11 w12\nw13 {source}\nw14 w15"
SOURCES = ["w20 w21 w22", "w10 w14", "w23 w24 w25 w26 w27 w28", "w29"]
REFERENCES = ["w40 w41", "w42 w43 w44", "w40", "w45 w46"]


@pytest.mark.whole
def test_every_prompt_with_the_rows_and_without(tiny_model, tiny_tokenizer):
    model = changed(tiny_model, [2, *range(3, 64, 2)], seed=3)
    templates = {"own": TEMPLATE, "other": "w50 {source}\nw51", "same": TEMPLATE}
    seen = []
    found = prompt_transfer(
        model, tiny_tokenizer, asked(TEMPLATE, SOURCES, REFERENCES), source_language="English", templates=templates,
        resamples=50, report=lambda *step: seen.append(step[:2]),
    )  # fmt: skip
    assert [(r.name, r.trained) for r in found.runs] == [("own", True), ("other", False)]
    assert found.runs[0].kept["raw"]["chrf"].value == 1
    assert seen[0] == (0, 16) and seen[-1] == (16, 16)
    prompts = [templates["other"].format(source=s) for s in SOURCES]
    tuned = generate(model, tiny_tokenizer, prompts, max_new_tokens=8)
    assert list(found.runs[1].tuned_texts) == [a.text for a in tuned]
    lift_off(model)
    assert list(found.runs[1].base_texts) == [
        a.text for a in generate(model, tiny_tokenizer, prompts, max_new_tokens=8)
    ]
    assert found.runs[1].base_texts != found.runs[1].tuned_texts
    json.dumps(found.as_dict())


def test_nothing_is_asked_of_no_sentences(tiny_model, tiny_tokenizer):
    with pytest.raises(SettingsError, match="no source sentences"):
        prompt_transfer(tiny_model, tiny_tokenizer, asked(TEMPLATE, [], []), source_language="English")
