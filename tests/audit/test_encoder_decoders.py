"""The audit of an encoder-decoder: where rows act in it, what its models predict, and all panels of one pair."""

import pytest
import torch

from helpers import architectures, tiny_text
from helpers.deltas import asked
from ks_core.audit.agreement.predictions import own_answers, predict
from ks_core.audit.delta import acting
from ks_core.audit.inquiry import Audit
from ks_core.audit.panels import PANELS, make_panels
from ks_core.audit.writing.gating import position_gating
from ks_core.likelihood.examples import answered
from ks_core.likelihood.rows import lay_over, lift_off, reading, rows_of
from ks_core.translation.generation import generate

IDS = [7, 8, 20, 21, 30]
SOURCES = ["w7 w9 w5", "w30 w6", "w8 w9 w10 w20 w7", "w3 w4"]


@pytest.fixture(params=["t5", "bart"])
def changed(request):
    """A model with rows over it whose greedy answers depend on the prompt; in BART a position counts from the left."""
    model = architectures.model(request.param, "SEQ_TO_SEQ_CAUSAL_LM")
    with torch.no_grad():
        for p in model.parameters():
            p *= 3 if p.ndim > 1 else 1
        rows = lay_over(model, IDS)
        rows.rows += 0.5 * torch.randn(rows.rows.shape, generator=torch.Generator().manual_seed(2))
    return model


def questions(**settings):
    return asked("{source}", SOURCES, ["w9 w3"] * len(SOURCES), **settings)


def texts(model):
    return tuple(a.text for a in generate(model, tiny_text.tokenizer(), questions().prompts, max_new_tokens=8))


def test_a_gate_lets_rows_act_in_the_encoder_or_in_the_decoder(changed):
    """The source is what the encoder reads, the target what the decoder does; the matrix written by hand says the same."""
    tokenizer, rows = tiny_text.tokenizer(), rows_of(changed)
    found = {run.name: run for run in position_gating(changed, tokenizer, questions(), resamples=0).runs}
    tuned = texts(changed)
    with acting(changed, strength=0.0):
        base = texts(changed)
    encoder, others, matrix = rows.base, rows.others, rows.full_matrix()
    assert len(others) >= 2 and found["all"].texts == tuned != base == found["none"].texts
    lift_off(changed)
    decoder = changed.get_decoder().get_input_embeddings()
    for name, place in (("source", encoder), ("target", decoder)):
        before = place.weight
        place.weight = torch.nn.Parameter(matrix, requires_grad=False)
        assert found[name].texts == texts(changed), name
        place.weight = before
    assert found["source"].texts != found["target"].texts
    assert found["source"].occurrences["source"] == sum(
        w[1:] in map(str, IDS) for s in SOURCES for w in s.split()
    ) / len(SOURCES)
    assert found["instruction"].acting == 0 and found["all"].occurrences["target"] > 0


def test_predictions_are_those_along_the_answer(changed):
    tokenizer = tiny_text.tokenizer()
    pad, ticket = tokenizer.pad_token_id, IDS[:2]
    examples = [answered(changed, tokenizer, tokenizer(s)["input_ids"], [9, 20, 3, 2]) for s in SOURCES]
    own = own_answers(changed, tokenizer, questions())
    assert [e["input_ids"] for e in own] == [e["input_ids"] for e in examples]
    statistic = {i: 0.1 * n for n, i in enumerate(IDS, 1)}
    found = predict(changed, examples, pad=pad, ticket=ticket, statistic=statistic, own=own, batch_size=3)
    assert sorted(set(zip(found.own, found.sentence, strict=True))) == [
        (o, s) for o in (0, 1) for s in range(len(SOURCES))
    ]
    for n, (which, sentence, place) in enumerate(zip(found.own, found.sentence, found.place, strict=True)):
        example = (own if which else examples)[sentence]
        read = example["decoder"][: place + 1]
        inputs = {"input_ids": torch.tensor([example["input_ids"]]), "decoder_input_ids": torch.tensor([read])}
        with torch.no_grad():
            assert found.tuned[n] == changed(**inputs).logits[0, -1].argmax()
            with acting(changed, ticket):
                assert found.ticket[n] == changed(**inputs).logits[0, -1].argmax()
        assert found.reference[n] == example["labels"][place]
        assert found.context[n] == max((statistic[i] for i in example["input_ids"] + read if i in IDS[2:]), default=0.0)
        if which:  # along its own answer the embed-tuned model predicts that answer
            assert found.tuned[n] == found.reference[n]


def test_every_panel_of_a_pair(tmp_path):
    model = architectures.model("t5", "SEQ_TO_SEQ_CAUSAL_LM", pad_token_id=2)
    for name in ("base", "tuned"):
        model.save_pretrained(tmp_path / name)
        tiny_text.tokenizer().save_pretrained(tmp_path / name)
        with torch.no_grad():
            reading(model).weight[3:33] += torch.randn((30, 64), generator=torch.Generator().manual_seed(0))
    corpus = tiny_text.corpus(tmp_path, 150, two_words=True)
    audit = Audit(
        str(tmp_path / "base"), str(tmp_path / "tuned"), rule="count", k=20, budget="small", corpus=corpus, prompt="source",
        max_new_tokens=4, device="cpu",
    )  # fmt: skip

    class Telling:
        def progress(self, *words, **more):
            pass

        event = progress

    make_panels(audit, audit.study.scan(), list(PANELS), Telling())
    panels = {name: audit.panel(name) for name in PANELS}
    assert all(panels.values()) and all(PANELS[name].sentence(panel) for name, panel in panels.items())
    assert [run["name"] for run in panels["transfer"]["runs"]] == ["source", "t5"], (
        "the prompts for encoders, and no others"
    )
