"""A base asked otherwise: by a chat template, with examples, with a forced stop; each against a case done by hand."""

import copy
from types import SimpleNamespace

import pytest
import torch

from helpers import architectures, tiny_text
from helpers.referenced import corpus
from ks_core.errors import ModelError
from ks_core.likelihood.references import references_of
from ks_core.likelihood.scorer import likelihood_of
from ks_core.translation import manners
from ks_core.translation.extraction import extract
from ks_core.translation.generation import Generation, generate
from ks_core.translation.prompts import format_prompt

CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}w10 {{ m.content }} w11{% else %} {{ m.content }} w12{% endif %}"
    "{% endfor %}{% if add_generation_prompt %} w13{% endif %}"
)


@pytest.fixture
def chatting():
    """The tiny tokenizer with a chat template in its words, whose turns end with w12, a special token."""
    tokenizer = tiny_text.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["w12"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def wide(model):
    """The tiny model with larger weights, so that what it reads matters."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for p in found.parameters():
            p *= 9 if p.ndim > 1 else 1
    return found


def test_a_chat_is_asked_as_its_template_says(tiny_model, chatting):
    made = manners.in_chat(tiny_model, chatting, corpus(), "w3 {source} w4")
    assert (made.joint, made.end) == (" ", chatting.convert_tokens_to_ids("w12")) and "w12" in made.about
    asked = format_prompt(made.prompt, "w7 w8", "A", "B")
    assert asked == "<s>w10 w3 w7 w8 w4 w11", "this tokenizer puts no start before a text, so the template's stays"
    references = references_of(tiny_model, chatting, corpus(), made.prompt, joint=made.joint, end=made.end)
    first = references.examples[0]
    assert first["input_ids"][-1] == 12 and first["input_ids"][:2] == [1, 10]
    found = likelihood_of(wide(tiny_model), references)
    with torch.no_grad():
        nats = -wide(tiny_model)(torch.tensor([first["input_ids"]])).logits.log_softmax(-1)[0, -2, 12]
    assert found.end[0] == pytest.approx(float(nats), rel=1e-4)


def test_what_a_template_cannot_do_is_said(tiny_model, tiny_tokenizer, chatting):
    def asked(model, tokenizer, text=None):
        if text is not None:
            tokenizer.chat_template = text
        return manners.in_chat(model, tokenizer, corpus(), "{source}")

    with pytest.raises(ModelError, match="has no chat template"):
        asked(tiny_model, tiny_tokenizer)
    with pytest.raises(ModelError, match=r"cannot be filled .*no users"):
        asked(tiny_model, chatting, "{{ raise_exception('no users') }}")
    with pytest.raises(ModelError, match="leaves the message out"):
        asked(tiny_model, chatting, "w3 w4")
    with pytest.raises(ModelError, match="Expected at most 20,000"):
        asked(tiny_model, chatting, "{% for n in range(9000) %}w3 {% endfor %}")
    for ask in (manners.in_chat, manners.with_examples):
        with pytest.raises(ModelError, match="An encoder-decoder is given"):
            ask(architectures.model("t5", "SEQ_TO_SEQ_CAUSAL_LM"), chatting, corpus(), "{source}")


def test_a_template_that_lets_no_answer_stand_is_asked_by_its_own_beginning(tiny_model, chatting):
    chatting.chat_template = "w10 {{ messages[0].content }}{% if add_generation_prompt %} w13{% endif %}"
    made = manners.in_chat(tiny_model, chatting, corpus(), "w3 {source}")
    assert (made.prompt, made.joint, made.end) == ("w10 w3 {source} w13", "", None)


def test_examples_are_training_pairs_before_the_prompt(tiny_model, tiny_tokenizer):
    text = corpus()
    made = manners.with_examples(tiny_model, tiny_tokenizer, text, "w3 {source} w4", 1)
    *shown, asked = format_prompt(made.prompt, "w9", "A", "B").split("\n\n")
    assert asked == "w3 w9 w4" and len(shown) == 3 == len(set(shown))
    pairs = {f"w3 {p.source} w4 {p.target}": p for p in text.train}
    assert set(shown) <= set(pairs) and all(f"{pairs[s].source} = {pairs[s].target}" in made.about for s in shown)
    assert made == manners.with_examples(tiny_model, tiny_tokenizer, text, "w3 {source} w4", 1)
    assert made != manners.with_examples(tiny_model, tiny_tokenizer, text, "w3 {source} w4", 2)


def test_a_brace_in_an_example_is_a_brace(tiny_model, tiny_tokenizer):
    text = corpus()
    text = SimpleNamespace(
        source_language="A", target_language="B", train=(SimpleNamespace(source="{x}", target="{source}"),)
    )
    made = manners.with_examples(tiny_model, tiny_tokenizer, text, "{source}:")
    assert format_prompt(made.prompt, "w9", "A", "B") == "{x}: {source}\n\nw9:"


@pytest.mark.parametrize(
    ("written", "kept", "stops"),
    [
        (" w3 w4\nw5", "w3 w4", True),
        ("\n\nw3 w4 \n w5", "w3 w4", True),
        (" w3 w4", " w3 w4", False),
        ("\n", "\n", False),
    ],
)
def test_a_forced_stop_leaves_the_first_line(tiny_model, tiny_tokenizer, written, kept, stops):
    made = manners.stopped(tiny_model, tiny_tokenizer, corpus(), "{source}")
    answer = Generation("w9", written, False, 9)
    found = made.cut(answer, tiny_tokenizer)
    assert (found.text, found.stopped, found.tokens) == (kept, stops, 2 if stops else 9)
    assert found.answer("raw") == extract(written, "first_line", "w9") == answer.answer("first_line")
    assert manners.Manner("{source}").cut(answer, tiny_tokenizer) == answer


class Breaking:
    """The tiny tokenizer, whose w60 is a line break, w61 a full stop with one, and w62 a break with a word."""

    def __init__(self, own):
        self.own = own

    def __getattr__(self, name):
        return getattr(self.own, name)

    def __call__(self, *given, **options):
        return self.own(*given, **options)

    def __len__(self):
        return len(self.own)

    def batch_decode(self, ids, **options):
        return [{60: "\n", 61: ".\n", 62: "\nw5"}.get(i, f"w{i}") for (i,) in ids]


def test_the_end_of_a_forced_stop_is_any_token_that_begins_with_a_break(tiny_model, tiny_tokenizer):
    tokenizer, model = Breaking(tiny_tokenizer), wide(tiny_model)
    made = manners.stopped(model, tokenizer, corpus(), tiny_text.PROMPT)
    assert made.ends(tokenizer, 64) == (60, 62) and made.ends(tokenizer, 61) == (60,)
    plain = references_of(model, tokenizer, corpus(), tiny_text.PROMPT)
    forced = references_of(model, tokenizer, corpus(), tiny_text.PROMPT, ends=made.ends(tokenizer, 64))
    base, found = likelihood_of(model, plain), likelihood_of(model, forced)
    assert (found.content == base.content).all() and (found.end < base.end).all()
    for n, example in enumerate(forced.examples):
        with torch.no_grad():
            chances = model(torch.tensor([example["input_ids"]])).logits[0, -2].double().softmax(-1)
        assert found.end[n] == pytest.approx(-float(chances[[2, 60, 62]].sum().log()), rel=1e-4)


def test_an_answer_ends_where_the_manner_says(tiny_model, tiny_tokenizer):
    """Whatever the model writes first, as an end it ends the answer at once."""
    prompts = ["w9 w10", "w11"]
    model = wide(tiny_model)
    plain = generate(model, tiny_tokenizer, prompts, max_new_tokens=5)
    first = {tiny_tokenizer(answer.text)["input_ids"][0] for answer in plain if answer.tokens}
    ended = generate(model, tiny_tokenizer, prompts, max_new_tokens=5, ends=first)
    assert first and any(a.tokens > 1 for a in plain)
    assert all(answer.stopped and answer.tokens == 0 for answer in ended)
