"""The likelihood of references: transformers' own loss, parted into end and content, with any rows acting."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import architectures, tiny_text
from helpers.referenced import IDS, corpus, laid, references
from ks_core.errors import CorpusError, ModelError, SettingsError, TicketError
from ks_core.likelihood.nats import Draws, Likelihood, same_references
from ks_core.likelihood.references import references_of
from ks_core.likelihood.rows import lay_over, lift_off, rows_over
from ks_core.likelihood.scorer import Scorer, likelihood_of
from ks_core.translation.corpora import SentencePair


@pytest.fixture
def model(tiny_model):
    return laid(tiny_model)


@pytest.fixture
def scorer(model, tiny_tokenizer):
    return Scorer(model, references(model, tiny_tokenizer))


def by_hand(model, example):
    """Nats of each target token of one decoder's example, alone in its batch, float64."""
    ids = torch.tensor([example["input_ids"]])
    with torch.no_grad():
        found = model(ids).logits.double().log_softmax(-1)[0]
    asked = [n for n, label in enumerate(example["labels"]) if label != -100]
    return [-float(found[n - 1, example["labels"][n]]) for n in asked]


def written(model, ids):
    """A copy of the model with some of the rows written into its matrix, untied, and nothing laid over it."""
    made = copy.deepcopy(model)
    rows = rows_over(made)
    matrix, full = rows.base.weight.detach().clone(), rows.full_matrix()
    lift_off(made)
    made.lm_head.weight = torch.nn.Parameter(matrix.clone())
    matrix[list(ids)] = full[list(ids)]
    made.get_input_embeddings().weight = torch.nn.Parameter(matrix)
    return made


def test_it_is_transformers_own_loss(model, tiny_tokenizer):
    asked = references(model, tiny_tokenizer)
    found = likelihood_of(model, asked)
    for n, example in enumerate(asked.examples):
        labels = torch.tensor([example["labels"]])
        with torch.no_grad():
            loss = model(torch.tensor([example["input_ids"]]), labels=labels).loss
        own = found.summed()[n] / found.counted()[n]
        assert own == pytest.approx(float(loss), rel=1e-5)
        nats = by_hand(model, example)
        assert found.end[n] == pytest.approx(nats[-1], rel=1e-5), "the end token is the last one"
        assert found.content[n] == pytest.approx(sum(nats[:-1]), rel=1e-5)
        assert found.tokens[n] == len(nats) - 1 and example["input_ids"][-1] == tiny_tokenizer.eos_token_id
    assert found.tokens.min() == 1 and found.tokens.max() == 3


def test_rows_that_act_are_rows_written_into_the_matrix(scorer):
    model = scorer.model
    some = [4, 9, 25, 26]
    base, own, tuned = scorer.score([(), some, IDS])
    assert not np.allclose(base.summed(), own.summed()) and not np.allclose(own.summed(), tuned.summed())
    np.testing.assert_allclose(likelihood_of(model, scorer.references).summed(), tuned.summed(), rtol=1e-5)
    for ids, found in ((some, own), (IDS, tuned), ((), base)):
        np.testing.assert_allclose(
            likelihood_of(written(model, ids), scorer.references).summed(), found.summed(), rtol=1e-5
        )


def test_a_sentence_is_run_once_for_the_rows_that_it_reads(scorer):
    seen = []
    hook = scorer.rows.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    try:
        base = scorer.base()
        assert sum(seen) == len(scorer.references)
        unread = next(i for i in IDS if not any(i in read for read in scorer.read))
        few = [n for n, read in enumerate(scorer.read) if 28 in read]
        seen.clear()
        same, one, again = scorer.score([[unread], [28], [28, unread]])
        assert sum(seen) == len(few) < len(scorer.references), "the others read none of these rows"
    finally:
        hook.remove()
    np.testing.assert_array_equal(same.summed(), base.summed())
    np.testing.assert_array_equal(one.summed(), again.summed())
    moved = np.nonzero(one.summed() != base.summed())[0].tolist()
    assert moved and set(moved) <= set(few)
    assert scorer.rows.gate is None


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_in_an_encoder_decoder_rows_act_in_both_halves(kind, tiny_tokenizer):
    model = architectures.model(kind, "SEQ_TO_SEQ_CAUSAL_LM")
    rows = lay_over(model, [7, 8, 9, 20, 21, 23])
    with torch.no_grad():
        rows.rows += torch.randn(rows.rows.shape, generator=torch.Generator().manual_seed(2))
    scorer = Scorer(model, references(model, tiny_tokenizer, prompt="{source}"))
    base, one, tuned = scorer.score([(), [20, 23], scorer.changed])
    assert not np.allclose(base.summed(), one.summed()), "w20 stands in answers alone, which the decoder reads"
    np.testing.assert_allclose(likelihood_of(model, scorer.references).summed(), tuned.summed(), rtol=1e-5)
    for n, example in enumerate(scorer.references.examples):
        given = {
            "input_ids": torch.tensor([example["input_ids"]]),
            "decoder_input_ids": torch.tensor([example["decoder"]]),
        }
        with torch.no_grad():
            logits = model(**given).logits.double().log_softmax(-1)[0]
        nats = [-float(logits[k, label]) for k, label in enumerate(example["labels"]) if label != -100]
        assert tuned.end[n] == pytest.approx(nats[-1], rel=1e-4)
        assert tuned.content[n] == pytest.approx(sum(nats[:-1]), rel=1e-4)


@pytest.mark.whole
def test_a_ticket_that_only_teaches_the_end_token_is_found_out(tiny_model, tiny_tokenizer):
    """Every reference ends with w50, and the one row that was trained is w50's: what follows it is the end alone."""
    text = corpus()
    text = replace(text, held_out=tuple(replace(p, target=p.target + " w50") for p in text.held_out))
    model = laid(tiny_model, [50], seed=1)
    rows, asked = rows_over(model), references(model, tiny_tokenizer, text=text)
    optimizer = torch.optim.Adam([rows.rows], lr=0.05)
    for _ in range(30):
        loss = sum(
            model(torch.tensor([e["input_ids"]]), labels=torch.tensor([e["labels"]])).loss for e in asked.examples
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scorer = Scorer(model, asked)
    base, tuned = scorer.base(), scorer.tuned()
    draws = Draws(len(asked), 500)
    content, end = (draws.part_of_gain(base, tuned, part) for part in ("content", "end"))
    assert end.whole_low > 0, "it does gain"
    assert abs(content.value) <= 0.05 and content.low >= -0.05 and content.high <= 0.05
    assert end.value == pytest.approx(1, abs=0.05)
    # A row that is read before the content is told from it.
    both = Scorer(laid(tiny_model, [6, 50], seed=1), asked)
    mixed = draws.part_of_gain(both.base(), both.score([[6]])[0], "content")
    assert abs(mixed.value) > 0.05


def test_read_outs_by_hand():
    found = Likelihood(np.array([6.0, 8.0]), np.array([9.0, 7.0]), np.array([2, 2]), np.array([10, 12]))
    assert (found.nats, found.nats_of("content"), found.nats_of("end")) == (5.0, 3.5, 8.0)
    assert found.perplexity == pytest.approx(math.exp(5)) and found.bits_per_character == pytest.approx(
        30 / math.log(2) / 22
    )
    assert Likelihood.from_dict(json.loads(json.dumps(found.as_dict()))).read_out() == found.read_out()
    other = replace(found, content=np.array([3.0, 8.0]), end=np.array([6.0, 7.0]))
    draws = Draws(2, 400)
    gains = {part: draws.gain(found, other, part) for part in found.parts}
    np.testing.assert_allclose(gains["all"], gains["end"] + gains["content"])
    assert gains["all"][0] == 1.0 and set(np.round(gains["all"], 9)) == {0.0, 1.0, 2.0}, (
        "a draw has the first never, once, or twice"
    )
    assert draws.interval(gains["all"]) == (0.0, 2.0)
    assert draws.share(found, found, other).value == 0 and draws.share(found, other, other).value == 1
    with pytest.raises(SettingsError, match="no part"):
        found.summed("rest")
    with pytest.raises(SettingsError, match="not the same"):
        same_references([found, replace(found, tokens=np.array([2, 3]))])


def test_without_an_end_token_nothing_is_parted(tiny_model):
    tokenizer = tiny_text.tokenizer()
    tokenizer.eos_token = None
    model = laid(tiny_model)
    asked = references(model, tokenizer)
    found = likelihood_of(model, asked)
    assert not asked.ended and found.end is None and found.parts == ("all",)
    for n, example in enumerate(asked.examples):
        assert found.summed()[n] == pytest.approx(sum(by_hand(model, example)), rel=1e-5)
    with pytest.raises(SettingsError, match="no end token"):
        found.summed("end")


def test_references_that_cannot_be_scored_are_named(tiny_model, tiny_tokenizer):
    model = laid(tiny_model)
    long = " ".join(["w9"] * 200)
    cases = [
        (SentencePair("w9 w10", " "), "is empty"),
        (SentencePair("w9 w10", long), "the model reads 128"),
    ]
    for pair, words in cases:
        text = replace(corpus(), held_out=(pair, pair))
        with pytest.raises(CorpusError, match=words):
            references(model, tiny_tokenizer, text=text)
    with pytest.raises(CorpusError, match="no pair for test"):
        references(model, tiny_tokenizer, text=replace(corpus(), held_out=()))
    with pytest.raises(SettingsError, match="at least 0"):
        references_of(model, tiny_tokenizer, corpus(), "{source}", sentences=-1)
    with pytest.raises(SettingsError, match="no part of a corpus"):
        references_of(model, tiny_tokenizer, corpus(), "{source}", part="dev")


def test_a_target_that_is_tokenized_into_the_prompt_is_named(tiny_model, tiny_tokenizer):
    class Gluing:
        """A tokenizer that takes a word after the prompt into the prompt's own last token."""

        def __getattr__(self, name):
            return getattr(tiny_tokenizer, name)

        def __call__(self, text, **more):
            return tiny_tokenizer(text.removesuffix(" w41"), **more)

    model = laid(tiny_model)
    text = replace(corpus(), held_out=(SentencePair("w9", "w41"), SentencePair("w10", "w41")))
    with pytest.raises(CorpusError, match="tokenized into the prompt"):
        references(model, Gluing(), text=text)


def test_rows_that_are_not_there_are_named(scorer, tiny_model, tiny_tokenizer):
    with pytest.raises(TicketError, match="Token 5 was not changed"):
        scorer.score([[5, 20]])
    lift_off(scorer.model)
    with pytest.raises(ModelError, match="no changed rows laid over"):
        Scorer(scorer.model, scorer.references)


def test_it_can_be_stopped(scorer):
    def stop(done, total, message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scorer.score([IDS], stop)
    assert scorer.rows.gate is None and len(scorer.tuned()) == len(scorer.references)
