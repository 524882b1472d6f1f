"""spBLEU without a network: the model found where it lies, checked, and scored as sacrebleu scores with it."""

import hashlib

import pytest
import sacrebleu.tokenizers.tokenizer_spm as theirs
import sacrebleu.utils
from sacrebleu.metrics import BLEU

from helpers.ways.vocabularies import _sentencepiece
from ks_core.store import access
from ks_core.translation import subwords
from ks_core.translation.metrics import metrics, notes

REFERENCES = ["the text stands here and nowhere else", "a small text", "here is another one of them"]
ANSWERS = ["the text stands there and nowhere", "a small texts", "this is another one"]


@pytest.fixture(scope="module")
def model():
    return _sentencepiece()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Where sacrebleu keeps its models, empty; and it may fetch none."""
    folder = tmp_path / "sacrebleu" / "models"
    folder.mkdir(parents=True)
    for module in (sacrebleu.utils, theirs):
        monkeypatch.setattr(module, "SACREBLEU_DIR", str(folder.parent))
    monkeypatch.setattr(theirs, "download_file", lambda *_: pytest.fail("it was to be fetched"))
    monkeypatch.delenv(subwords.PLACE, raising=False)
    return folder


def told():
    (said,) = (note for note in notes("French") if "spBLEU" in note)
    assert "spbleu" not in metrics("French", REFERENCES)
    return said


def test_it_is_sacrebleus_score(kept, model):
    assert "put sacrebleu_tokenizer_spm.model into ~/.sacrebleu/models, or name it with KS_LOTTERY_SPM" in told()
    (kept / "sacrebleu_tokenizer_spm.model").write_bytes(model)
    metric = metrics("French", REFERENCES)["spbleu"]
    own = BLEU(tokenize="flores101").corpus_score(ANSWERS, [REFERENCES])
    assert 5 < own.score < 95
    assert metric.scores(metric.counts(ANSWERS).sum(axis=0)[None])[0] == pytest.approx(own.score, abs=1e-9)
    assert f"tok:flores101|smooth:exp|spm:{hashlib.sha256(model).hexdigest()[:12]}|" in metric.signature()
    assert not [note for note in notes("French") if "spBLEU" in note]


def test_a_path_comes_first_and_a_file_that_changed_is_read_again(kept, model, tmp_path, monkeypatch):
    (kept / "sacrebleu_tokenizer_spm.model").write_bytes(b"damaged")
    assert "is no sentencepiece model, or damaged" in told()
    mine = tmp_path / "mine.model"
    mine.write_bytes(model)
    monkeypatch.setenv(subwords.PLACE, str(mine))
    assert "tok:spm|" in metrics("French", REFERENCES)["spbleu"].signature()
    mine.write_bytes(model[: len(model) // 2 + 1])
    assert "mine.model" in told()


def test_a_sum_that_is_known_is_held_to(kept, model, monkeypatch):
    (kept / "flores200sacrebleuspm").write_bytes(model)
    said = told()
    assert (
        f"begins with {hashlib.sha256(model).hexdigest()[:12]}, expected 14bb8dfb35c0" in said and "Remove it" in said
    )
    ours = subwords.Model("flores200", "flores200sacrebleuspm", hashlib.sha256(model).hexdigest())
    monkeypatch.setattr(subwords, "MODELS", (subwords.MODELS[0], ours))
    subwords._read.cache_clear()
    assert "tok:flores200|" in metrics("French", REFERENCES)["spbleu"].signature()
    subwords._read.cache_clear()


@pytest.mark.parametrize("kind", ["nothing", "folder", "large", "outside"])
def test_what_cannot_be_read_is_a_sentence(kept, model, tmp_path, monkeypatch, kind):
    place = tmp_path / "given.model"
    monkeypatch.setenv(subwords.PLACE, str(place))
    if kind == "folder":
        place.mkdir()
    elif kind != "nothing":
        place.write_bytes(model)
    if kind == "large":
        monkeypatch.setattr(subwords, "LARGEST", 10)
    if kind == "outside":
        (tmp_path / "root").mkdir()
        monkeypatch.setenv(access.ROOTS, str(tmp_path / "root"))
    assert {"nothing": "cannot be read (No such file", "folder": "cannot be read", "large": "which no such model has",
            "outside": "outside the folders that this server opens"}[kind] in told()  # fmt: skip
