"""Position gating: which token is where, and rows that act there and nowhere else."""

import contextlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sacrebleu.metrics import BLEU, CHRF
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from helpers.deltas import asked, changed
from ks_core.audit.writing.gating import GATES, GatedRows, position_gating
from ks_core.errors import Cancelled, ModelError, SettingsError, TicketError
from ks_core.likelihood.rows import lift_off
from ks_core.likelihood.spans import HEAD, PREFILL, SOURCE, SPANS, TAIL, character_spans, token_spans
from ks_core.translation.bootstrap import Bootstrap
from ks_core.translation.extraction import extract
from ks_core.translation.generation import Generation, generate_each
from ks_core.translation.prompts import TEMPLATES, format_prompt, texts
from ks_core.translation.scores import evaluate
from ks_core.translation.shares import share

TEMPLATE = "w10 w11 w12\nw13 {source}\nw14 w15"
SOURCES = ["w20 w21 w22", "w10 w14", "w23 w24 w25 w26 w27 w28", "w29"]
REFERENCES = ["w40 w41", "w42 w43 w44", "w40", "w45 w46"]
PROMPTS = [TEMPLATE.format(source=s) for s in SOURCES]
#: Ends of an answer: the tokenizer's, and one more that the tiny model does write.
ENDS = [2, 46]
#: Tokens of every span: the template's, some of the sources', and enough others for the target to be hit.
IDS = [2, 10, 12, 13, 14, 20, 22, 24, 28, 29, *range(30, 64), 3, 4, 5, 6, 7, 8, 9]


@pytest.fixture
def model(tiny_model):
    return changed(tiny_model, IDS, seed=3)


@pytest.fixture
def tokens(tiny_tokenizer):
    return [
        token_spans(tiny_tokenizer, p, character_spans(p, TEMPLATE, s, "w9"))
        for p, s in zip(PROMPTS, SOURCES, strict=True)
    ]


def plainly(model, tokenizer, prompts, **options):
    """In one go, as gated prompts are: to the bit then."""

    def acting(run, batch):
        return contextlib.nullcontext()

    return generate_each(model, tokenizer, {"": prompts}, acting, in_one_go=True, **options)[""]


def gated_generate(model, tokenizer, prompts, tokens, spans, **options):
    """``generate`` with the rows acting in some spans only: the answers, and how often a row's token occurs in each."""
    held = GatedRows(model, tokens, {"": spans})
    written = generate_each(model, tokenizer, {"": prompts}, held.acting, in_one_go=True, **options)
    return written[""], held.occurrences(written)[""]


def logits(model, run):
    """Every logit that the output layer gave during ``run``, and its result."""
    seen = []
    hook = model.lm_head.register_forward_hook(lambda module, arguments, output: seen.append(output.clone()))
    try:
        return run(), seen
    finally:
        hook.remove()


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def names(codes):
    return [SPANS[c] for c in codes]


@pytest.mark.parametrize("name", texts())
@given(source=st.text(min_size=1) | st.sampled_from(["French: English", "\nFrench:", "English", ": ", "{source}"]))
@settings(derandomize=True, max_examples=60)
def test_characters_of_named_templates(name, source):
    prompt = format_prompt(name, source, "English", "French")
    codes = character_spans(prompt, name, source, "French")
    before, after = (part.format(source_language="English", target_language="French")
                     for part in TEMPLATES[name].text.split("{source}"))  # fmt: skip
    head = len(before.split("\n")[0]) + 1
    want = [HEAD] * head + [TAIL] * (len(before) - head) + [SOURCE] * len(source) + [PREFILL] * len(after)
    assert codes.tolist() == want


@pytest.mark.parametrize(("template", "says"), [
    ("{source}", "SS"),
    ("{source} a", "SSPP"),
    ("a: {source}", "HHHSS"),
    ("\n a\nb\n{source}", "HHHHTTSS"),
    ("a\n\n{source}\n{source}:", "HHTSSPSSP"),
])  # fmt: skip
def test_characters_of_odd_templates(template, says):
    prompt = format_prompt(template, "xy", "English", "French")
    assert "".join("HTSP"[c] for c in character_spans(prompt, template, "xy", "French")) == says


def test_a_prompt_of_another_template_is_refused():
    with pytest.raises(SettingsError, match="one held-out part"):
        character_spans("Translate", "short", "a cat", "French")


def test_tokens_go_where_their_last_character_is():
    vocabulary = {t: i for i, t in enumerate(["<s>", "a", ".", "\n", "x", " ", ".\n", " x"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(".", "\n"), (" ", "x")]))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
    prompt = "a.\na x.\na"
    ids, codes = token_spans(fast, prompt, character_spans(prompt, "a.\na {source}\na", "x.", "French"))
    assert fast.convert_ids_to_tokens(ids) == ["<s>", "a", ".\n", "a", " x", ".\n", "a"]
    assert "".join("HTSP"[c] for c in codes) == "HHHTSPP"


def test_byte_level_tokens_of_one_character_share_its_span():
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    prompt = "ä:\nb: 漢é\nc:"
    spans = character_spans(prompt, "ä:\nb: {source}\nc:", "漢é", "French")
    _, codes = token_spans(PreTrainedTokenizerFast(tokenizer_object=tokenizer), prompt, spans)
    assert "".join("HTSP"[c] for c in codes) == "HHHH" + "TTT" + "SSSSS" + "PPP"


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="fast tokenizer"):
        token_spans(Slow(), "a", np.zeros(1, np.int8))


@pytest.mark.parametrize("settings", [{}, {"batch_size": 2}, {"beams": 3}])
def test_all_and_none_are_tuned_and_base_to_the_bit(model, tiny_tokenizer, tokens, settings):
    def plain():
        return plainly(model, tiny_tokenizer, PROMPTS, max_new_tokens=8, **settings)

    def under(spans):
        return gated_generate(model, tiny_tokenizer, PROMPTS, tokens, spans, max_new_tokens=8, **settings)[0]

    tuned, tuned_logits = logits(model, plain)
    every, every_logits = logits(model, lambda: under(SPANS))
    none, none_logits = logits(model, lambda: under(()))
    lift_off(model)
    base, base_logits = logits(model, plain)
    assert every == tuned and same(every_logits, tuned_logits)
    assert none == base and same(none_logits, base_logits)
    assert [a.text for a in tuned] != [a.text for a in base]


def by_hand(model, tokenizer, prompt, codes, on, limit):
    """Greedy, one sentence, no padding, no cache: vectors are put in place by hand."""
    rows = model.get_input_embeddings()
    tuned, base = rows.full_matrix(), rows.base.weight.detach()
    ids, where = list(tokenizer(prompt)["input_ids"]), [SPANS[c] in on for c in codes]
    start = len(ids)
    for _ in range(limit):
        vectors = torch.stack([(tuned if w else base)[i] for i, w in zip(ids, where, strict=True)])
        with torch.inference_mode():
            ids.append(int(model(inputs_embeds=vectors[None]).logits[0, -1].argmax()))
        where.append("target" in on)
        if ids[-1] in ENDS:
            return ids[start:-1]
    return ids[start:]


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("gate", GATES)
def test_each_gate_is_what_putting_vectors_by_hand_gives(model, tiny_tokenizer, tokens, gate, cache, monkeypatch):
    monkeypatch.setattr(model.generation_config, "use_cache", cache)
    monkeypatch.setattr(model.generation_config, "eos_token_id", ENDS)
    rows = model.get_input_embeddings()
    rows.gate = before = torch.ones((), dtype=torch.bool)
    found, counts = gated_generate(model, tiny_tokenizer, PROMPTS, tokens, GATES[gate], max_new_tokens=8, batch_size=3)
    assert rows.gate is before
    for n, (ids, codes) in enumerate(tokens):
        written = by_hand(model, tiny_tokenizer, PROMPTS[n], codes, GATES[gate], 8)
        assert found[n].text == tiny_tokenizer.decode(written, skip_special_tokens=True)
        assert found[n].tokens == len(written)
        read = written if found[n].stopped else written[:-1]
        want = [sum(i in IDS and SPANS[c] == s for i, c in zip(ids, codes, strict=True)) for s in SPANS[:4]]
        assert counts[n].tolist() == [*want, sum(i in IDS for i in read)]


def test_the_gates_differ_here(model, tiny_tokenizer, tokens):
    texts = {
        gate: tuple(a.text for a in gated_generate(model, tiny_tokenizer, PROMPTS, tokens, spans, max_new_tokens=8)[0])
        for gate, spans in GATES.items()
    }
    assert len(set(texts.values())) >= 6, texts


def gating(model, tokenizer, **more):
    return position_gating(model, tokenizer, asked(TEMPLATE, SOURCES, REFERENCES), **{"resamples": 50, **more})


def test_results(model, tiny_tokenizer):
    seen = []
    found = gating(model, tiny_tokenizer, report=lambda *step: seen.append(step))
    runs = {run.name: run for run in found.runs}
    assert list(runs) == list(GATES) and found.rows == len(IDS)
    assert seen[0][:2] == (0, 32) and seen[-1][:2] == (32, 32) and "none" in seen[0][2]
    assert runs["all"].recovery["raw"]["chrf"].value == 1
    assert runs["none"].recovery["raw"]["chrf"].value == runs["none"].recovery["raw"]["chrf"].gain == 0
    for run in runs.values():
        assert run.acting == pytest.approx(sum(run.occurrences[s] for s in run.spans))
        gain = run.evaluation.scores["raw"]["chrf"].value - runs["none"].evaluation.scores["raw"]["chrf"].value
        assert run.recovery["raw"]["chrf"].gain == pytest.approx(gain)
    assert json.loads(json.dumps(found.as_dict())) == json.loads(json.dumps(gating(model, tiny_tokenizer).as_dict()))


def test_a_span_without_the_tokens_has_no_opportunity(model, tiny_tokenizer):
    runs = {run.name: run for run in gating(model, tiny_tokenizer, ids=[10, 24]).runs}
    assert runs["prefill"].acting == runs["prefill"].touched == 0
    assert runs["prefill"].texts == runs["none"].texts
    assert (runs["instruction_head"].acting, runs["instruction_head"].touched) == (1, 1)
    assert (runs["source"].acting, runs["source"].touched) == (0.5, 0.5)
    untouched = [n for n, s in enumerate(SOURCES) if not {"w10", "w24"} & set(s.split())]
    assert all(runs["source"].texts[n] == runs["none"].texts[n] for n in untouched)


@pytest.mark.parametrize("stop", ["none", "source"])
def test_a_cancelled_run_leaves_the_model_as_it_was(model, tiny_tokenizer, stop):
    rows = model.get_input_embeddings()
    slots = rows.slots.clone()

    def report(done, total, message):
        if message.endswith(stop):
            raise Cancelled

    with pytest.raises(Cancelled):
        gating(model, tiny_tokenizer, ids=[10, 24], report=report)
    assert torch.equal(rows.slots, slots) and rows.gate is None and not rows._forward_pre_hooks


def test_what_cannot_be_gated(model, tiny_tokenizer):
    with pytest.raises(SettingsError, match="unknown spans: middle"):
        gating(model, tiny_tokenizer, gates={"a": ("middle",)})
    with pytest.raises(TicketError, match="token 1"):
        gating(model, tiny_tokenizer, ids=[1, 10])
    lift_off(model)
    with pytest.raises(ModelError, match="no changed rows laid over"):
        gating(model, tiny_tokenizer)


def test_the_bootstrap_scores_what_sacrebleu_scores():
    answers = [Generation("p", t, True, 1) for t in ["the cat sat", "a dog", "no", "one two three four five"]]
    references = ["the cat sat down", "a dog barks", "yes", "one two three four six"]
    bootstrap = Bootstrap(references, "French", 20, seed=4)
    whole = evaluate(answers, references, "French", resamples=0)
    scores = bootstrap.all_scores(answers)
    draws = np.random.default_rng(4).integers(0, 4, (20, 4))
    for rule, metrics in scores.items():
        for metric, values in metrics.items():
            assert values[0] == whole.scores[rule][metric].value
            texts = [extract(a.text, rule, a.prompt) for a in answers]
            for value, draw in zip(values[1:], draws, strict=True):
                own = {"bleu": BLEU, "chrf": CHRF}[metric]()
                drawn = own.corpus_score([texts[i] for i in draw], [[references[i] for i in draw]])
                assert value == pytest.approx(drawn.score, abs=1e-9)


def test_shares_and_their_bounds():
    whole = np.array([10.0, *np.linspace(8, 12, 100)])
    found = share(whole / 2, whole)
    assert (found.value, found.low, found.high, found.gain) == (0.5, 0.5, 0.5, 5)
    assert found.gain_low == pytest.approx(4.05) and found.gain_high == pytest.approx(5.95)
    unclear = share(whole / 2, np.array([1.0, *np.linspace(-1, 3, 100)]))
    assert (unclear.value, unclear.low, unclear.high) == (5, None, None)
    assert share(whole, np.zeros(101)).value is None
    assert share(np.array([1.0]), np.array([2.0])).gain_low is None


@pytest.mark.whole
def test_on_the_demo(demo_home):
    """The real model: spans of its tokenizer, and both end points to the bit."""
    from ks_core.tuning.models import load_model

    model, tokenizer = load_model("demo:en-fr")
    sources = ["Open the file.", "Restart the kernel to apply changes"]
    prompts = [format_prompt("short", s, "English", "French") for s in sources]
    tokens = [
        token_spans(tokenizer, p, character_spans(p, "short", s, "French"))
        for p, s in zip(prompts, sources, strict=True)
    ]
    first = [tokenizer.decode([i]) for i in tokens[0][0]]
    assert first == ["Trans", "late", " English", " to", " French", ".", "\n", "English", ":",
                     " Open", " the", " file", ".", "\n", "French", ":"]  # fmt: skip
    assert names(tokens[0][1]) == [SPANS[HEAD]] * 7 + [SPANS[TAIL]] * 2 + [SPANS[SOURCE]] * 4 + [SPANS[PREFILL]] * 3
    tuned, tuned_logits = logits(model, lambda: plainly(model, tokenizer, prompts, max_new_tokens=3))
    every, every_logits = logits(
        model, lambda: gated_generate(model, tokenizer, prompts, tokens, SPANS, max_new_tokens=3)[0]
    )
    none, none_logits = logits(
        model, lambda: gated_generate(model, tokenizer, prompts, tokens, (), max_new_tokens=3)[0]
    )
    lift_off(model)
    base, base_logits = logits(model, lambda: plainly(model, tokenizer, prompts, max_new_tokens=3))
    assert every == tuned and same(every_logits, tuned_logits)
    assert none == base and same(none_logits, base_logits)
    assert not same(tuned_logits, base_logits)


def test_no_prompts_are_no_answers(model, tiny_tokenizer):
    answers, occurs = gated_generate(model, tiny_tokenizer, [], [], SPANS)
    assert answers == [] and len(occurs) == 0
