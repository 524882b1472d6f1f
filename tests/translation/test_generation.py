"""Prompts, and generation on a tiny model."""

import pytest

from ks_core.errors import Cancelled, SettingsError
from ks_core.jobs import world
from ks_core.translation.generation import generate
from ks_core.translation.prompts import TEMPLATES, format_prompt, template


def test_every_template_ends_where_the_answer_begins():
    for name, known in TEMPLATES.items():
        text = format_prompt(name, "A cat", "English", "French")
        assert "A cat" in text and text.endswith("A cat" if known.encoder else ":")


@pytest.mark.parametrize("bad", ["no field", "{source} {other}", "{source", "{source} {}"])
def test_templates_that_cannot_be_used(bad):
    with pytest.raises(SettingsError):
        template(bad)


def test_generation_does_not_depend_on_batching(tiny_model, tiny_tokenizer):
    prompts = ["w3", "w4 w5 w6 w7 w8", "w9 w10", "w11 w12 w13"]
    seen = []
    together = generate(
        tiny_model,
        tiny_tokenizer,
        prompts,
        max_new_tokens=6,
        batch_size=4,
        progress=lambda done, total: seen.append((done, total)),
    )
    alone = [generate(tiny_model, tiny_tokenizer, [p], max_new_tokens=6)[0] for p in prompts]
    assert together == alone
    assert [g.prompt for g in together] == prompts
    assert seen[0] == (0, 4) and seen[-1] == (4, 4)
    # After each token of the one batch: a rate and the time left are known long before the batch is.
    told = [done for done, _ in seen]
    assert told[1:4] == pytest.approx([4 / 6, 8 / 6, 12 / 6]) and told == sorted(told)
    assert all(g.tokens <= 6 and g.stopped == (g.tokens < 6) for g in together)


def test_generation_stops_when_asked(tiny_model, tiny_tokenizer):
    with pytest.raises(Cancelled):
        generate(tiny_model, tiny_tokenizer, ["w3"], should_stop=lambda: True)


@pytest.mark.parametrize("beams", [1, 2])
def test_generation_is_stopped_in_the_middle_of_a_batch(tiny_model, tiny_tokenizer, beams):
    told = []

    def progress(done, total):
        told.append(done)
        if done > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        generate(tiny_model, tiny_tokenizer, ["w3"], max_new_tokens=20, beams=beams, ends=(), progress=progress)
    assert told == pytest.approx([n / 20 for n in range(len(told))]) and 1 < len(told) < 13


@pytest.mark.parametrize("prompt", ["{source:>999999999999}", "{source!r}", "{source:{source}}"])
def test_a_prompt_that_lays_its_fields_out_is_refused(prompt):
    with pytest.raises(SettingsError, match="how a field is laid out"):
        template(prompt)


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("in_step", [False, True])
def test_processes_share_uneven_sentences_without_losing_one(
    tiny_model, tiny_tokenizer, monkeypatch, processes, in_step
):
    prompts = [f"w{5 + n} " * (1 + n % 4) + "w4" for n in range(17)]  # five batches, the last of one
    options = {"max_new_tokens": 3, "batch_size": 4}
    alone = generate(tiny_model, tiny_tokenizer, prompts, **options)
    monkeypatch.setattr(tiny_model, "_is_fsdp_managed_module", in_step, raising=False)
    calls, shares, seen = [], [], []
    generated = tiny_model.generate
    monkeypatch.setattr(
        tiny_model, "generate", lambda **given: calls.append(1) or generated(**given, synced_gpus=False)
    )
    monkeypatch.setattr(world, "size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(world, "rank", lambda rank=rank: rank)
        # What each brings is kept; the last to come gets all of it, as every process would.
        monkeypatch.setattr(world, "gather", lambda items: shares.append(items) or [i for s in shares for i in s])
        calls.clear()
        seen.clear()
        try:
            together = generate(
                tiny_model, tiny_tokenizer, prompts, progress=lambda *done: seen.append(done), **options
            )
        except KeyError:
            assert rank < processes - 1, "those before the last do not have all here"
        assert not in_step or len(calls) == -(-5 // processes), "a sharded model is called as often in every process"
        assert not in_step or seen[-1] == (17, 17)
    brought = sorted(i for share in shares for (_, i), _ in share)
    assert brought == list(range(17)), "none lost, none twice"
    assert together == alone
