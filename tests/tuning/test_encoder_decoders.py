"""Encoder-decoders are trained and run through their own classes: examples, loss, where rows act, a whole run."""

import json

import pytest
import torch
from transformers import NllbTokenizer

from helpers import architectures, tiny_text
from ks_core.commands.program import main
from ks_core.likelihood.batches import LossParts, PairCollator, target_loss
from ks_core.likelihood.examples import IGNORED, answered, count_tokens, examples_for
from ks_core.likelihood.rows import lay_over, reading, rows_over, shares_input
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.translation.encoder_decoder import speak
from ks_core.tuning.models import load_model

SEQ = "SEQ_TO_SEQ_CAUSAL_LM"
SEPARATE = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 64, "tie_word_embeddings": False}
PAIRS = [SentencePair(f"w{5 + n} w{6 + n} w7", f"w{20 + n}" + " w9" * (n % 2)) for n in range(6)]
TEXT = Corpus("t", "A", "B", PAIRS, PAIRS[:1])


def test_the_loss_is_transformers_own():
    """Of a batch of unequal pairs, summed over their targets."""
    model, tokenizer = architectures.model("t5", SEQ), tiny_text.tokenizer()
    examples = examples_for(model, tokenizer, TEXT, "source")
    assert examples[1] == {
        "input_ids": [6, 7, 7],
        "decoder": [0, 21, 9],
        "labels": [21, 9, 2],
        "read": [6, 7, 7, 0, 21, 9],
    }
    alone = [
        model(input_ids=torch.tensor([e["input_ids"]]), labels=torch.tensor([e["labels"]])).loss.item()
        * len(e["labels"])
        for e in examples
    ]
    parts = LossParts(2)
    together = target_loss(model, PairCollator(0)(examples), 1, parts).item()
    assert together == pytest.approx(sum(alone), rel=1e-5)
    taken, targets = parts.take(), sum(len(e["labels"]) for e in examples)
    told = taken["end"] * len(examples) + taken["content"] * (targets - len(examples))
    assert told == pytest.approx(together, rel=1e-5)


def test_what_the_decoder_begins_with_is_not_learned():
    model = architectures.model("m2m_100", SEQ, vocab_size=256, decoder_start_token_id=2)
    tokenizer = NllbTokenizer(vocab={"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁a": 4}, merges=[])
    speak(tokenizer, "English", "French")
    english, french = tokenizer.convert_tokens_to_ids(["eng_Latn", "fra_Latn"])
    made = answered(model, tokenizer, tokenizer("a")["input_ids"], [4, 2])
    assert made["input_ids"][0] == english and made["decoder"] == [2, french, 4] and made["labels"] == [IGNORED, 4, 2]


@pytest.mark.parametrize(
    ("kind", "settings", "shared"), [("marian", {}, True), ("marian", SEPARATE, False), ("t5gemma", {}, False)]
)
def test_rows_have_a_gradient_where_their_token_is_read(kind, settings, shared):
    """In the encoder, and in the decoder where both look up in one matrix; what ``count_tokens`` counts is just that."""
    model, tokenizer = architectures.model(kind, SEQ, **settings), tiny_text.tokenizer()
    assert shares_input(model) == shared
    examples = examples_for(model, tokenizer, TEXT, "source")
    counts = count_tokens(examples)
    assert (20 in counts) == shared and 7 in counts
    rows = lay_over(model, [i for i in range(64) if i != reading(model).padding_idx])
    model.train()
    target_loss(model, PairCollator(2)(examples)).backward()
    met = {i for i, g in zip(rows.ids.tolist(), rows.rows.grad.abs().amax(1).tolist(), strict=True) if g > 0}
    assert met == set(counts) - {reading(model).padding_idx}
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        next(n for n, m in model.named_modules() if m is rows) + ".rows"
    ]


@pytest.fixture
def pair(tmp_path):
    """A tiny BART, and one whose rows of ten words are others; parallel text."""
    model = architectures.model("bart", SEQ, pad_token_id=2)
    for name in ("base", "tuned"):
        model.save_pretrained(tmp_path / name)
        tiny_text.tokenizer().save_pretrained(tmp_path / name)
        with torch.no_grad():
            reading(model).weight[20:30] += 3
    return str(tmp_path / "base"), str(tmp_path / "tuned"), tiny_text.corpus(tmp_path)


def test_tune_and_evaluate_from_the_command_line(pair, tmp_path, capsys):
    base, tuned, text = pair
    about = [
        "--corpus",
        text.name,
        "--languages",
        "A,B",
        "--sentences",
        "4",
        "--max-new-tokens",
        "3",
        "--device",
        "cpu",
    ]
    arms = "base,tuned,transfer,partial,lora:rank=2,full"
    code = main(
        [
            "tune",
            base,
            tuned,
            "--arms",
            arms,
            "--steps",
            "2",
            "--batch-size",
            "2",
            *about,
            "--output",
            str(tmp_path / "run"),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert not [a["error"] for a in summary["arms"] if a["error"]] and "prompt:{source}" in summary["signature"]
    assert "encoder-decoder: rows are laid over what its encoder and its decoder read" in said
    by_kind = {a["kind"]: a for a in summary["arms"]}
    assert set(by_kind["partial"]["rows"]) <= set(range(20, 30)) and by_kind["partial"]["losses"]
    # The ticket as the run saved it is laid over the same model, and read as what it is.
    adapter = tmp_path / "run" / "arms" / by_kind["transfer"]["folder"] / "adapter"
    model, _ = load_model(str(adapter))
    assert rows_over(model).ids.tolist() == sorted(by_kind["transfer"]["rows"])
    assert main(["evaluate", base, tuned, *about, "--output", str(tmp_path / "scores.json")]) == 0
    scored = json.loads((tmp_path / "scores.json").read_text())["arms"]
    assert [a["evaluation"]["scores"]["raw"]["chrf"]["value"] for a in scored] == [
        by_kind[k]["evaluation"]["scores"]["raw"]["chrf"]["value"] for k in ("base", "tuned")
    ]


def test_half_a_model_is_refused_with_what_it_lacks(pair, tmp_path, capsys):
    """A decoder without its output layer, which transformers would draw at random; nothing is run."""
    from safetensors.torch import load_file, save_file

    llama = architectures.model("llama", tie_word_embeddings=False)
    llama.save_pretrained(tmp_path / "half")
    tiny_text.tokenizer().save_pretrained(tmp_path / "half")
    weights = load_file(tmp_path / "half" / "model.safetensors")
    del weights["lm_head.weight"], weights["model.layers.1.self_attn.k_proj.weight"]
    save_file(weights, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    code = main(["tune", str(tmp_path / "half"), "--arms", "base,frequent:k=2", "--corpus", pair[2].name, "--languages", "A,B",
                 "--sentences", "2"])  # fmt: skip
    said = capsys.readouterr()
    assert (
        code == 2 and "lacks 2 of the weights" in said.err and "lm_head.weight" in said.err and "BLEU" not in said.out
    )
