"""Languages: from codes and names to a prompt's words and a tokenizer, against what Flores-200 calls them."""

import doctest
import re

import pytest
from sacrebleu.metrics import BLEU

from ks_core.translation import corpora, languages, metrics
from ks_core.translation.evaluation import held_out
from ks_core.translation.generation import Generation
from ks_core.translation.languages import find, language_name
from ks_core.translation.scores import evaluate

FLORES = re.split(
    r"\s+",
    """
ace_Arab ace_Latn acm_Arab afr_Latn aka_Latn als_Latn amh_Ethi arb_Arab arb_Latn asm_Beng ast_Latn ayr_Latn azj_Latn
bel_Cyrl ben_Beng bod_Tibt bos_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn
dzo_Tibt ell_Grek eng_Latn est_Latn eus_Latn fin_Latn fra_Latn fuv_Latn gaz_Latn gle_Latn glg_Latn guj_Gujr heb_Hebr
hin_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kas_Arab kas_Deva kat_Geor
kaz_Cyrl kea_Latn khk_Cyrl khm_Khmr kin_Latn kmr_Latn kor_Hang lao_Laoo lij_Latn lin_Latn lit_Latn ltz_Latn lug_Latn
luo_Latn lvs_Latn mal_Mlym mar_Deva min_Arab mkd_Cyrl mlt_Latn mni_Beng mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn
npi_Deva nso_Latn nya_Latn oci_Latn ory_Orya pan_Guru pbt_Arab pes_Arab plt_Latn pol_Latn por_Latn quy_Latn ron_Latn
rus_Cyrl sat_Olck shn_Mymr sin_Sinh slk_Latn slv_Latn sna_Latn snd_Arab som_Latn spa_Latn srp_Cyrl swe_Latn swh_Latn
tam_Taml taq_Tfng tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tpi_Latn tur_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn
urd_Arab uzn_Latn vec_Latn vie_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zho_simpl zho_trad zsm_Latn
""".strip(),
)


def test_every_language_of_flores_has_a_name():
    for code in FLORES:
        name = language_name(code)
        assert re.fullmatch(r"[^\W\d_][\w' -]+( \(\w+\))?", name) and code not in name, (code, name)
        spaced = not code.endswith(
            ("Hans", "Hant", "Jpan", "Hang", "Thai", "Khmr", "Laoo", "Mymr", "Tibt", "simpl", "trad")
        )
        assert (find(code).tokenizer == "13a") is spaced, code


@pytest.mark.parametrize(("text", "name", "tokenizer"), [
    ("fr", "French", "13a"), ("fra", "French", "13a"), ("fr-FR", "French", "13a"), ("fr_XX", "French", "13a"),
    ("eng_Latn", "English", "13a"), ("pt-BR", "Portuguese", "13a"), ("EN", "English", "13a"),
    ("zh", "Chinese", "zh"), ("zho_Hans", "Chinese", "zh"), ("zh-CN", "Chinese", "zh"), ("cmn", "Chinese", "zh"),
    ("zho_Hant", "Traditional Chinese", "zh"), ("zh-TW", "Traditional Chinese", "zh"), ("yue", "Cantonese", "zh"),
    ("ja-JP", "Japanese", "ja-mecab"), ("jpn_Jpan", "Japanese", "ja-mecab"), ("ja-Latn", "Japanese (Latin)", "13a"),
    ("kor_Hang", "Korean", "ko-mecab"), ("ko", "Korean", "ko-mecab"),
    ("khm_Khmr", "Khmer", "char"), ("my", "Burmese", "char"), ("bod_Tibt", "Tibetan", "char"), ("lao", "Lao", "char"),
    ("srp_Latn", "Serbian (Latin)", "13a"), ("srp_Cyrl", "Serbian", "13a"), ("npi_Deva", "Nepali", "13a"),
    # Names stay as they were typed, but for a missing capital.
    ("French", "French", "13a"), ("japanese", "Japanese", "ja-mecab"), ("Chinese (Simplified)", "Chinese (Simplified)", "zh"),
    ("Simplified Chinese", "Simplified Chinese", "zh"), ("Mandarin", "Mandarin", "zh"), ("Thai", "Thai", "char"),
    ("Khmer", "Khmer", "char"), ("Mon", "Mon", "char"), ("mon", "Mongolian", "13a"), ("Flemish", "Flemish", "13a"),
])  # fmt: skip
def test_codes_and_names(text, name, tokenizer):
    assert (language_name(text), find(text).tokenizer) == (name, tokenizer)


@pytest.mark.parametrize(
    "text", ["", "xx", "A", "Source", "the moon's", "und", "mul", "x-klingon", "{source}", "a" * 500]
)
def test_what_is_not_known_stays_as_it_was_typed(text):
    assert find(text) is None and language_name(text) == text


def test_doctests():
    assert doctest.testmod(languages).failed == 0


def test_every_tokenizer_of_the_table_is_sacrebleus():
    assert set(languages.TOKENIZERS.values()) <= set(BLEU.TOKENIZERS)
    for tokenizer in {*languages.TOKENIZERS.values(), languages.DEFAULT_TOKENIZER}:
        assert metrics._works(tokenizer), f"{tokenizer} is in requirements.txt"


def test_a_flores_folder_of_chinese(tmp_path):
    pairs = [(f"The word number {n} is here", f"第{n}个词语现在就在这里面") for n in range(40)]
    for code, side in (("eng_Latn", 0), ("zho_Hans", 1)):
        (tmp_path / f"{code}.devtest").write_text("\n".join(pair[side] for pair in pairs), encoding="utf-8")
    asked = held_out(corpora.load(f"flores:{tmp_path}#eng_Latn,zho_Hans"), "short")
    assert (
        asked.prompts[0].startswith("Translate English to Chinese.\nEnglish: The word")
        and asked.target_language == "Chinese"
    )
    said = [
        Generation(p, r.replace("现在就", "就"), True, 9) for p, r in zip(asked.prompts, asked.references, strict=True)
    ]
    bleu = evaluate(said, asked.references, asked.target_language, resamples=0).scores["raw"]["bleu"]
    assert "tok:zh|" in bleu.signature and 50 < bleu.value < 90
    other = BLEU().corpus_score([a.text for a in said], [list(asked.references)])
    assert other.score == 0, "by words between spaces it would be nothing"


@pytest.mark.parametrize(("language", "signed", "told"), [
    ("French", "tok:13a|", None), ("Thai", "tok:char|", "Thai has no spaces"), ("ja", "tok:ja-mecab", None),
    ("ko-KR", "tok:ko-mecab", None), ("Moonish", "lang:unknown|", "Moonish is no language"),
])  # fmt: skip
def test_the_signature_and_the_notes_say_what_was_counted(language, signed, told):
    made = metrics.metrics(language, ["a b c"])["bleu"].signature()
    said = [note for note in metrics.notes(language) if "spBLEU" not in note]
    assert signed in made and "missing" not in made
    assert told in said[0] if told else not said


def test_a_tokenizer_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(metrics, "_works", lambda tokenizer: tokenizer != "ja-mecab")
    signature = metrics.metrics("Japanese", ["これ は"])["bleu"].signature()
    assert "tok:char|" in signature and "missing:ja-mecab|" in signature
    assert "pip install 'sacrebleu[ja]'" in metrics.notes("jpn_Jpan")[0]


def test_what_is_broken_does_not_work(monkeypatch):
    import sacrebleu.metrics

    def broken(tokenize):
        raise AssertionError("Please make sure to use the IPA dictionary for MeCab")

    metrics._works.cache_clear()
    monkeypatch.setattr(sacrebleu.metrics, "BLEU", broken)
    assert not metrics._works("ja-mecab")
    metrics._works.cache_clear()
