"""What is asked: the parts of what is held out, and how a saved result says which of them it is about."""

import doctest
import json

import pytest

from ks_core.errors import CorpusError, SettingsError
from ks_core.translation import corpora, evaluation
from ks_core.translation.corpora import DEVELOPMENT_BELOW, PARTS, Corpus, SentencePair, fingerprint
from ks_core.translation.evaluation import evaluate_model, held_out, part_of, read_answers


def corpus_of(sources):
    """A corpus that holds these sources out, in the order of their fingerprints."""
    pairs = [SentencePair(s, f"{s} là") for s in sorted(sources, key=fingerprint)]
    return Corpus("made up", "English", "French", tuple(pairs), tuple(pairs))


def sources(low, high):
    """So many sources below the border and above it."""
    below = [f"sentence {n}" for n in range(400) if fingerprint(f"sentence {n}") < DEVELOPMENT_BELOW]
    above = [f"sentence {n}" for n in range(400) if fingerprint(f"sentence {n}") >= DEVELOPMENT_BELOW]
    return below[:low] + above[:high]


@pytest.mark.parametrize(("name", "development", "test"), [("pack:fr-FR", 100, 77), ("pack:de-DE", 27, 27)])
def test_the_parts_of_the_demos_text(name, development, test):
    corpus = corpora.load(name)
    assert (len(corpus.development), len(corpus.test)) == (development, test) and not corpus.halved
    assert corpus.development + corpus.test == corpus.held_out
    assert all(fingerprint(p.source) < DEVELOPMENT_BELOW for p in corpus.development)
    assert all(fingerprint(p.source) >= DEVELOPMENT_BELOW for p in corpus.test)


def test_the_demos_settings_were_chosen_on_development():
    """They were chosen on the first hundred held-out pairs, in the order of the fingerprint."""
    corpus = corpora.load("pack:fr-FR")
    assert corpus.held_out[:100] == corpus.development[:100] and not set(corpus.held_out[:100]) & set(corpus.test)


@pytest.mark.parametrize(("low", "high", "parts", "halved"), [
    (3, 5, (3, 5), False), (1, 1, (1, 1), False),
    (4, 0, (2, 2), True), (5, 0, (2, 3), True), (0, 4, (2, 2), True), (1, 0, (0, 1), True), (0, 1, (0, 1), True),
])  # fmt: skip
def test_few_pairs_are_halved(low, high, parts, halved):
    corpus = corpus_of(sources(low, high))
    assert (len(corpus.development), len(corpus.test), corpus.halved) == (*parts, halved)
    assert corpus.development + corpus.test == corpus.held_out


def test_a_part_does_not_depend_on_what_else_is_in_the_corpus():
    whole, half = corpus_of(sources(40, 40)), corpus_of(sources(40, 40)[::3])
    assert set(half.test) <= set(whole.test) and set(half.development) <= set(whole.development)


def test_what_is_claimed_is_asked_of_the_test():
    corpus = corpora.load("pack:fr-FR")
    asked = held_out(corpus, "short", 64)
    assert asked.references == tuple(p.target for p in corpus.test[:64]) and asked.settings()["part"] == "test"
    chosen = held_out(corpus, "short", part="development")
    assert chosen.sources == tuple(p.source for p in corpus.development) and chosen.settings()["part"] == "development"
    assert len(held_out(corpus, "short", 5000)) == 77
    before = held_out(corpus, "short", 64, part="")
    assert before.sources == tuple(p.source for p in corpus.held_out[:64]) and "part" not in before.settings()
    assert asked.frame == "Translate English to French.\nEnglish: {source}\nFrench:"


def test_a_part_that_cannot_be():
    corpus = corpus_of(sources(1, 0))
    assert len(held_out(corpus, "short")) == 1
    with pytest.raises(CorpusError, match=r"none of them is for development. Bring more text"):
        held_out(corpus, "short", part="development")
    with pytest.raises(SettingsError, match=r"'dev' is no part of a corpus. Expected one of: development, test"):
        held_out(corpus, "short", part="dev")


@pytest.mark.parametrize(("signature", "part"), [
    *((f"base:b|corpus:c|part:{name}|prompt:p", name) for name in PARTS), ("base:b|corpus:c|prompt:p", ""), ("", ""),
    ("base:b|prompt:part:test|x:1", ""), ("base:b|part:of it", ""),
])  # fmt: skip
def test_a_signature_says_its_part(signature, part):
    assert part_of(signature) == part


def test_answers_know_their_prompt_without_its_sentence(tiny_model, tiny_tokenizer, tmp_path):
    own = "w3 {source} w4"
    asked = held_out(corpus_of(["w5 w6", "w7 w8", "w9", "w11 w10"]), own, max_new_tokens=3)
    outcome = evaluate_model(tiny_model, tiny_tokenizer, asked)
    assert [a.frame for a in outcome.answers] == [own] * len(asked)
    (tmp_path / "arms" / "base").mkdir(parents=True)
    kept = tmp_path / "arms" / "base" / "answers.json"
    kept.write_text(json.dumps(outcome.answers_as_dicts()))
    assert read_answers(tmp_path, {"folder": "base", "name": "Base"}) == outcome.answers
    kept.write_text(json.dumps([{k: v for k, v in a.items() if k != "frame"} for a in outcome.answers_as_dicts()]))
    older = read_answers(tmp_path, {"folder": "base", "name": "Base"})
    assert [a.frame for a in older] == [""] * len(asked) and older[0].answer("raw") == outcome.answers[0].answer("raw")


def test_doctests():
    assert doctest.testmod(evaluation).failed == 0
