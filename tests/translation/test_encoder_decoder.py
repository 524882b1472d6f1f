"""Encoder-decoders: how an answer begins, what languages a tokenizer is told, and that writing goes by the same beginning."""

import pytest
import torch
from transformers import MBart50Tokenizer, MBartTokenizer, NllbTokenizer

from helpers import architectures, tiny_text
from ks_core.errors import ModelError, SettingsError
from ks_core.translation.encoder_decoder import answer_ids, language_codes, opening, speak
from ks_core.translation.generation import generate, write_ids

PIECES = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁": 4, "▁a": 5, "▁b": 6, "b": 7, "a": 8}
SCORED = [(piece, -float(n)) for piece, n in PIECES.items()]


def tokenizer(kind):
    return kind(vocab=PIECES, merges=[]) if kind is NllbTokenizer else kind(vocab=SCORED)


def seq2seq(kind, **settings):
    return architectures.model(kind, "SEQ_TO_SEQ_CAUSAL_LM", **settings)


def test_a_tokenizer_with_codes_is_told_the_languages():
    known = tokenizer(NllbTokenizer)
    codes = language_codes(known)
    assert len(codes) == 202 and codes["fra_Latn"] == known.convert_tokens_to_ids("fra_Latn")
    for name, code in (("French", "fra_Latn"), ("fr-FR", "fra_Latn"), ("fra_Latn", "fra_Latn"), ("Chinese", "zho_Hans"),
                       ("Traditional Chinese", "zho_Hant"), ("Persian", "pes_Arab"), ("Swahili", "swh_Latn")):  # fmt: skip
        speak(known, "English", name)
        assert (known.src_lang, known.tgt_lang) == ("eng_Latn", code)
    assert known("a b")["input_ids"][0] == codes["eng_Latn"]
    with pytest.raises(SettingsError, match="'Klingon' is none of the 202 languages"):
        speak(known, "English", "Klingon")
    several = tokenizer(MBart50Tokenizer)
    speak(several, "German", "French")
    assert (several.src_lang, several.tgt_lang) == ("de_DE", "fr_XX")
    plain = tiny_text.tokenizer()
    speak(plain, "Klingon", "French")
    assert language_codes(plain) == {} and plain("w3")["input_ids"] == [3]


@pytest.mark.parametrize(
    ("kind", "words", "begins"),
    [
        ("t5", None, [0]),
        ("marian", None, [0]),
        ("m2m_100", NllbTokenizer, [2, "fra_Latn"]),
        ("mbart", MBart50Tokenizer, [2, "fr_XX"]),
        ("mbart", MBartTokenizer, ["fr_XX"]),
    ],
)
def test_how_an_answer_begins(kind, words, begins):
    """As the family itself reads it in training: what it makes of the labels."""
    known, text = (tokenizer(words), "a") if words else (tiny_text.tokenizer(), "w7")
    speak(known, "English", "French")
    pad, start = (known.pad_token_id, 2) if words else (0, 0)
    model = seq2seq(kind, vocab_size=256, pad_token_id=pad, decoder_start_token_id=start)
    begun = opening(model, known)
    assert begun == [language_codes(known)[i] if isinstance(i, str) else i for i in begins]
    answer = answer_ids(known, text, begun)
    assert answer == (known(text, add_special_tokens=False)["input_ids"] + [known.eos_token_id])
    labels = known(text_target=text)["input_ids"]
    labels = labels if known.eos_token_id in labels else [*labels, known.eos_token_id]
    read = []
    model.get_decoder().register_forward_pre_hook(lambda *told: read.append(told[2]["input_ids"]), with_kwargs=True)
    model(input_ids=torch.tensor([[5, 6]]), labels=torch.tensor([labels]))
    assert read[0][0, : len(begun) + len(answer) - 1].tolist() == begun + answer[:-1]


def test_a_model_that_does_not_say_how_it_begins():
    model = seq2seq("t5")
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        opening(model, tiny_text.tokenizer())
    model.generation_config.decoder_start_token_id = 5  # where newer versions of transformers keep it
    assert opening(model, tiny_text.tokenizer()) == [5]


@pytest.fixture(params=["t5", "bart"])
def speaking(request):
    """A model whose answers depend on the prompt, and its tokenizer; BART counts positions from the left."""
    model = seq2seq(request.param)
    with torch.no_grad():
        for p in model.parameters():
            p *= 3 if p.ndim > 1 else 1
    return model, tiny_text.tokenizer()


def test_answers_do_not_depend_on_the_batch_and_are_the_models_own(speaking):
    prompts = ["w3 w4 w5", "w6", "w7 w8 w9 w10 w11"]
    together = generate(*speaking, prompts, max_new_tokens=6)
    assert together == [generate(*speaking, [p], max_new_tokens=6)[0] for p in prompts]
    assert len({a.text for a in together}) > 1 and all(a.tokens <= 6 for a in together)
    model, known = speaking
    expected = model.generate(
        input_ids=torch.tensor([known(prompts[0])["input_ids"]]), max_new_tokens=6, num_beams=1, do_sample=False,
        forced_eos_token_id=None,
    )  # fmt: skip
    assert write_ids(model, known, prompts[:1], max_new_tokens=6)[0][1] == expected[0, 1:].tolist()


def test_an_end_that_is_forced_at_the_limit_is_no_end(speaking):
    model, known = speaking
    before = generate(model, known, ["w3 w4 w5"], max_new_tokens=4)
    assert not before[0].stopped
    model.generation_config.forced_eos_token_id = known.eos_token_id  # as BART and Marian are saved
    model.generation_config.forced_bos_token_id = 9
    assert generate(model, known, ["w3 w4 w5"], max_new_tokens=4) == before
