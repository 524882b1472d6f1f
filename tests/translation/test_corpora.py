"""Corpora: every source, what is dropped, and a split that nothing crosses."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from ks_core.checkpoints import demo
from ks_core.errors import CorpusError
from ks_core.translation import corpora, parallel_text

PAIRS = [(f"The word number {n} is here", f"Le mot numéro {n} est ici") for n in range(60)]


def write_tsv(path, pairs=PAIRS):
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    return f"file:{path}"


def load(name, **options):
    return corpora.load(name, source_language="English", target_language="French", **options)


def test_the_installed_pack_is_real_text():
    corpus = corpora.load("pack:fr-FR")
    assert corpus.source_language == "English" and corpus.target_language == "French"
    assert len(corpus.train) > 1500 and len(corpus.held_out) > 150
    assert all(3 <= len(p.source.split()) <= 16 and p.source != p.target for p in corpus.train)
    assert "fr-FR" in parallel_text.installed_packs()


def test_no_held_out_sentence_is_trained_on():
    corpus = corpora.load("pack:fr-FR")
    trained = {corpora.fingerprint(p.source) for p in corpus.train}
    assert not trained & {corpora.fingerprint(p.source) for p in corpus.held_out}


def test_the_split_does_not_depend_on_what_else_is_in_the_corpus(tmp_path):
    whole = load(write_tsv(tmp_path / "a.tsv"))
    half = load(write_tsv(tmp_path / "b.tsv", list(reversed(PAIRS[::2]))))
    assert set(half.held_out) <= set(whole.held_out)
    assert set(half.train) <= set(whole.train)


@given(st.text(min_size=1), st.sampled_from(["", " ", "...", "!", "  "]))
@settings(derandomize=True, max_examples=200)
def test_case_spacing_and_punctuation_do_not_move_a_sentence(sentence, more):
    assert corpora.fingerprint(sentence) == corpora.fingerprint(more + sentence + more)


def test_tsv_and_jsonl_say_the_same(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"en": a, "fr": b}) for a, b in PAIRS), encoding="utf-8")
    fields = load(f"file:{path}", source_field="en", target_field="fr")
    assert fields.content_hash == load(write_tsv(tmp_path / "p.tsv")).content_hash
    assert {(p.source, p.target) for p in (*fields.train, *fields.held_out)} == set(PAIRS)


def test_flores_layout(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "eng.dev").write_text("\n".join(a for a, _ in PAIRS), encoding="utf-8")
    (tmp_path / "dev" / "fra.dev").write_text("\n".join(b for _, b in PAIRS), encoding="utf-8")
    corpus = load(f"flores:{tmp_path}#eng,fra")
    assert len(corpus.train) + len(corpus.held_out) == len(PAIRS)


def test_what_is_dropped_is_counted(tmp_path):
    extra = [
        ("Same same same", "Same same same"),
        ("", "vide"),
        ("One", "Un"),
        ("word " * 40, "mot"),
        (PAIRS[0][0].upper(), "encore"),
    ]
    corpus = load(write_tsv(tmp_path / "p.tsv", PAIRS + extra))
    assert corpus.dropped == {
        "source equals target": 1,
        "empty": 1,
        "too short": 1,
        "too long": 1,
        "duplicate source": 1,
    }


@pytest.mark.parametrize(("name", "content", "says"), [
    ("empty.tsv", "", "leaves 0 pairs"),
    ("one.tsv", "A single short line\tUne seule ligne\n", "at least two"),
    ("columns.tsv", "no tab here at all\n", "line 1: one column"),
    ("bad.jsonl", "{not json}\n", "line 1 is not JSON"),
    ("list.jsonl", "[1]\n", "not an object"),
    ("fields.jsonl", '{"a": "x"}\n', "no text in field 'source'"),
    ("latin.tsv", b"caf\xe9 au lait\tx\n", "not UTF-8"),
    ("words.docx", "x", "Expected .tsv"),
])  # fmt: skip
def test_bad_files_are_explained(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=says):
        load(f"file:{path}")


@pytest.mark.parametrize(("name", "says"), [
    ("file:/nowhere/p.tsv", "cannot be read"), ("pack:xx-XX", "pip install"), ("nonsense", "names no corpus"),
    ("flores:/nowhere#a,b", "no folder"), ("flores:/tmp", "two languages"), ("hub:org/name#a,b", "datasets|hub"),
])  # fmt: skip
def test_bad_names_are_explained(name, says):
    with pytest.raises(CorpusError, match=says):
        load(name)


def test_text_is_nfc_and_otherwise_left_as_it_is(tmp_path):
    decomposed = [(f"  The cafe\u0301 number {n} ", f"Le cafe\u0301  nume\u0301ro {n}\u202f!") for n in range(30)]
    corpus = load(write_tsv(tmp_path / "p.tsv", decomposed))
    found = {(p.source, p.target) for p in (*corpus.train, *corpus.held_out)}
    assert ("The café number 7", "Le café  numéro 7\u202f!") in found


@pytest.mark.parametrize("run", ["en-fr", "en-de"])
def test_the_demo_was_trained_on_this_text(run):
    recipe = json.loads((demo.ASSETS / run / "recipe.json").read_text(encoding="utf-8"))["corpus"]
    corpus = corpora.load(recipe["name"])
    assert (corpus.content_hash, len(corpus.train)) == (recipe["hash"], recipe["train"])


@pytest.mark.parametrize(
    ("given", "named"), [("fr", "French"), ("fra_Latn", "French"), ("French", "French"), ("A", "A")]
)
def test_languages_are_named_for_the_prompt(tmp_path, given, named):
    name = write_tsv(tmp_path / "p.tsv")
    assert corpora.load(name, source_language="en", target_language=given).target_language == named


def test_a_file_does_not_know_its_languages(tmp_path):
    with pytest.raises(CorpusError, match="languages"):
        corpora.load(write_tsv(tmp_path / "p.tsv"))
