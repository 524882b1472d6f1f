"""Prefix tuning: what is trained, that it is read where it should be, that it is saved and asked again, and where it cannot be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import DynamicCache

from helpers import architectures, tiny_text
from ks_core.commands.program import main
from ks_core.errors import CheckpointError, ModelError, SettingsError
from ks_core.jobs.resources import Resources
from ks_core.likelihood.batches import Collator, target_loss
from ks_core.likelihood.examples import IGNORED, encode
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.packing import Packer, can_pack
from ks_core.likelihood.references import references_of
from ks_core.likelihood.scorer import likelihood_of
from ks_core.study.scan import Study
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.translation.generation import write_ids
from ks_core.tuning import memory
from ks_core.tuning.arms import Arm, parse_arm
from ks_core.tuning.models import load_model
from ks_core.tuning.prefix import with_prefix
from ks_core.tuning.runs import run

PROMPT = "w3 {source} w4"
PROMPTS = ["w3 w9 w4", "w3 w9 w10 w11 w12 w13 w4", "w3 w30 w31 w4"]
PAIRS = tuple(
    SentencePair(" ".join(f"w{5 + (n * k) % 50}" for k in range(1, 3 + n % 6)), f"w{20 + n}" + " w9" * (n % 3))
    for n in range(12)
)
TEXT = Corpus("t", "A", "B", PAIRS, PAIRS)
#: A plain one, keys shared by heads, learned positions, positions in the attention, a window, and places counted otherwise.
DECODERS = ("llama", "qwen2", "gpt2", "bloom", "gemma2", "opt", "gemma3_text", "gpt_neox")


def silent(done, total, message="", *, unit="", stage=""):
    assert 0 <= done <= total


@pytest.fixture
def loud_folder(tiny_folder):
    """The tiny model with larger rows: a frozen body can then say one word more clearly than another."""
    weights = load_file(tiny_folder / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 20
    save_file(weights, tiny_folder / "model.safetensors", metadata={"format": "pt"})
    return tiny_folder


@pytest.fixture(params=DECODERS)
def prefixed(request):
    """A tiny decoder with a prefix of 7 virtual tokens before its text, at random and large enough to be seen."""
    model = architectures.model(request.param)
    with with_prefix(model, Arm("prefix", virtual_tokens=7), 3) as wrapped:
        wrapped.eval()
        yield wrapped


def written_by_hand(wrapped, ids, count):
    """Greedy, one forward of all for each token."""
    for _ in range(count):
        with torch.no_grad():
            logits = wrapped(input_ids=torch.tensor([ids])).logits
        ids = [*ids, int(logits[0, -1].argmax())]
    return ids


def test_only_the_prefix_is_trained_and_the_base_is_the_base_again(tiny_model):
    ids = torch.tensor([[3, 5, 7, 9]])
    with torch.no_grad():
        before = tiny_model(ids).logits
    with with_prefix(tiny_model, Arm("prefix", virtual_tokens=5), 0) as wrapped:
        trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
        assert sum(p.numel() for p in trained.values()) == 5 * 2 * 2 * 16  # tokens, layers, keys and values, width
        target_loss(wrapped, Collator(2)([{"input_ids": [3, 5, 7], "labels": [IGNORED, 5, 7]}])).backward()
        assert all(bool(p.grad.any()) for p in trained.values())
        assert not [name for name, p in wrapped.named_parameters() if p.grad is not None and name not in trained]
        assert not torch.allclose(wrapped(input_ids=ids).logits, before, atol=1e-3)
    assert torch.equal(tiny_model(ids).logits, before)


def test_what_is_written_is_what_its_own_probabilities_say(prefixed):
    """Of prompts of unequal length at once, padded on the left, each as it is written alone, a whole forward for each token."""
    tokenizer = tiny_text.tokenizer()
    together = write_ids(prefixed, tokenizer, PROMPTS, max_new_tokens=5)
    for prompt, (read, made) in zip(PROMPTS, together, strict=True):
        assert read == tokenizer(prompt)["input_ids"] and made
        assert read + made == written_by_hand(prefixed, read, len(made))
    with torch.no_grad():
        plain = [
            prefixed.generate(input_ids=torch.tensor([read]), max_new_tokens=5, do_sample=False, pad_token_id=2)[
                0, len(read) :
            ].tolist()
            for read, _ in together
        ]
    assert [made for _, made in together] == [
        made[: len(found)] for made, (_, found) in zip(plain, together, strict=True)
    ]


def test_beams_are_peft_s_own(prefixed):
    tokenizer, made = tiny_text.tokenizer(), []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            found = prefixed.generate(
                input_ids=ids, max_new_tokens=4, num_beams=3, do_sample=False, pad_token_id=2, eos_token_id=2
            )
        made.append(found[0, ids.shape[1] :].tolist())
    together = write_ids(prefixed, tokenizer, PROMPTS, max_new_tokens=4, beams=3)
    assert [own for _, own in together] == [one[: len(own)] for one, (_, own) in zip(made, together, strict=True)]


def test_nats_are_those_of_a_plain_computation_whatever_stands_beside_them(prefixed):
    """Keys and values put into a cache by hand, a sentence at a time, places counted on from the prefix."""
    base, tokenizer = prefixed.get_base_model(), tiny_text.tokenizer()
    config = prefixed.active_peft_config
    found = likelihood_of(prefixed, references_of(prefixed, tokenizer, TEXT, PROMPT, part=""))
    for n, pair in enumerate(PAIRS):
        read = tokenizer(f"w3 {pair.source} w4")["input_ids"]
        ids = torch.tensor([[*read, *tokenizer(pair.target)["input_ids"], tokenizer.eos_token_id]])
        values = prefixed.prompt_encoder["default"].embedding.weight.detach()
        layers = values.view(7, config.num_layers, 2, config.num_attention_heads, -1).permute(1, 2, 3, 0, 4)
        cache = DynamicCache(config=base.config)
        for layer, (keys, own) in enumerate(layers):
            cache.update(keys[None], own[None], layer)
        with torch.no_grad():
            logits = base(input_ids=ids, past_key_values=cache).logits[0].float()
        nats = F.cross_entropy(logits[len(read) - 1 : -1], ids[0, len(read) :], reduction="sum")
        assert found.summed()[n] == pytest.approx(float(nats), rel=2e-4)


@pytest.mark.parametrize("kind", DECODERS)
def test_it_begins_as_if_a_text_stood_there(kind):
    """So it disturbs nothing: the logits are those of the model on that text and the other behind it."""
    model = architectures.model(kind)
    begun, ids = [3, 9, 4, 6], torch.tensor([[5, 6, 7, 8]])
    with with_prefix(model, Arm("prefix", virtual_tokens=5), 0, begun) as wrapped, torch.no_grad():
        found = wrapped.eval()(input_ids=ids).logits
        whole = model(
            input_ids=torch.tensor([[*begun, begun[0], *ids[0].tolist()]])
        ).logits  # it goes round where the text is short
    torch.testing.assert_close(found, whole[:, 5:], rtol=0, atol=1e-5)


def test_packed_examples_have_the_same_loss(tiny_model, tiny_tokenizer):
    examples = encode(TEXT, tiny_tokenizer, PROMPT, 128)
    with with_prefix(tiny_model, Arm("prefix", virtual_tokens=6), 0) as wrapped:
        packer = Packer(Collator(2), 16)
        assert can_pack(wrapped, packer, examples)
        packed, padded = (target_loss(wrapped, batch(examples)).item() for batch in (packer, packer.padded))
    assert packed == pytest.approx(padded, rel=1e-5)


@pytest.mark.parametrize("kind", ["t5", "marian"])
def test_an_encoder_decoder_has_it_before_what_it_writes(kind):
    model, tokenizer = architectures.model(kind, "SEQ_TO_SEQ_CAUSAL_LM"), tiny_text.tokenizer()
    with with_prefix(model, Arm("prefix", virtual_tokens=4), 1) as wrapped:
        wrapped.eval()
        for read, made in write_ids(wrapped, tokenizer, ["w9 w8", "w30 w31 w32 w33"], max_new_tokens=4):
            told = [0]
            while len(told) <= len(made):
                with torch.no_grad():
                    logits = wrapped(input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([told])).logits
                told.append(int(logits[0, -1].argmax()))
            assert told[1:] == made
        alone = [
            likelihood_of(wrapped, references_of(wrapped, tokenizer, replace(TEXT, held_out=(p,)), "source", part=""))
            for p in PAIRS
        ]
        together = likelihood_of(wrapped, references_of(wrapped, tokenizer, TEXT, "source", part=""))
    np.testing.assert_allclose(together.summed(), [float(one.summed()[0]) for one in alone], rtol=1e-4)


def test_a_model_that_reads_no_keys_and_values_is_refused():
    with (
        pytest.raises(ModelError, match="Leave the arm Prefix tuning out"),
        with_prefix(architectures.model("mamba"), Arm("prefix"), 0),
    ):
        pass


@pytest.mark.whole
def test_a_run_with_prefixes(tiny_plan, tmp_path, loud_folder, capsys):
    """Trained, scored, saved; loaded again it is the same; checkpointing, which would hide a prefix from its layers, is not used."""
    made = tiny_plan(
        [
            "base",
            "prefix:virtual_tokens=8:steps=60:learning_rate=0.1",
            "prefix:projection=1:virtual_tokens=4",
            "frequent:k=3",
        ]
    )
    base, prefix, projected, rows = run(made, tmp_path / "run", silent)["arms"]
    assert [a["error"] for a in (base, prefix, projected, rows)] == [""] * 4
    alone = run(tiny_plan(["frequent:k=3"]), tmp_path / "alone", silent)["arms"][0]
    assert (rows["losses"], rows["evaluation"]) == (alone["losses"], alone["evaluation"]), (
        "nothing of a prefix is left in the model"
    )
    losses = [loss for _, loss in prefix["losses"]]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1
    shape = memory.shape_of(str(loud_folder))
    for arm, found in zip(made.arms[1:3], (prefix, projected), strict=True):
        assert found["trainable"] == memory.prefix_values(shape, arm)
    assert Likelihood.from_dict(prefix["likelihood"]).nats < Likelihood.from_dict(base["likelihood"]).nats
    assert (prefix["name"], projected["name"]) == (
        "Prefix tuning, 8 virtual tokens",
        "Prefix tuning, 4 virtual tokens, projected",
    )

    adapters = [str(tmp_path / "run" / "arms" / a["folder"] / "adapter") for a in (prefix, projected)]
    for adapter, arm in zip(adapters, (prefix, projected), strict=True):
        model, tokenizer = load_model(adapter)
        references = references_of(model, tokenizer, made.corpus.load(), PROMPT, sentences=35)
        found, kept = likelihood_of(model, references), Likelihood.from_dict(arm["likelihood"])
        np.testing.assert_allclose(found.summed(), kept.summed(), rtol=1e-5)

    other = run(
        replace(made, arms=made.arms[1:2], resources=Resources(checkpointing=True)), tmp_path / "other", silent
    )["arms"][0]
    np.testing.assert_allclose(np.array(other["losses"]), np.array(prefix["losses"]), rtol=1e-6)

    # A test of rows has nothing to compare in it, and says what can be done with it; evaluate does that.
    with pytest.raises(CheckpointError, match=r"no row of the embedding.*evaluate"):
        Study(str(loud_folder), adapters[0]).scan()
    about = [
        "--corpus",
        made.corpus.name,
        "--languages",
        "A,B",
        "--prompt",
        PROMPT,
        "--max-new-tokens",
        "4",
        "--sentences",
        "35",
    ]
    code = main(
        [
            "evaluate",
            str(loud_folder),
            *adapters,
            *about,
            "--baselines",
            "",
            "--device",
            "cpu",
            "--output",
            str(tmp_path / "out.json"),
        ]
    )
    assert code == 0, capsys.readouterr().err
    examined = json.loads((tmp_path / "out.json").read_text())["arms"]
    assert [e["evaluation"] for e in examined] == [a["evaluation"] for a in (base, prefix, projected)]


def test_a_stopped_training_goes_on_to_the_same_prefix(tiny_plan, tmp_path):
    from ks_core.errors import Cancelled

    made, steps = tiny_plan(["prefix:virtual_tokens=3:steps=20"]), []
    whole = run(made, tmp_path / "whole", silent)["arms"][0]
    with pytest.raises(Cancelled):
        run(
            made,
            tmp_path / "cut",
            silent,
            event=lambda **told: steps.append(told.get("step")),
            should_stop=lambda: 7 in steps,
        )
    assert run(made, tmp_path / "cut", silent)["arms"][0]["losses"] == pytest.approx(
        np.array(whole["losses"]), rel=1e-6
    )


def test_a_prefix_that_leaves_no_room_is_said_and_the_others_go_on(tiny_plan, tmp_path):
    base, prefix = run(tiny_plan(["base", "prefix:virtual_tokens=124"]), tmp_path / "run", silent)["arms"]
    assert "behind its prefix the model reads 4" in prefix["error"] and not base["error"]


def test_a_prefix_of_another_model_is_refused(tiny_plan, tmp_path, tiny_folder):
    run(tiny_plan(["prefix:steps=1"]), tmp_path / "run", silent)
    adapter = tmp_path / "run" / "arms" / "00-prefix" / "adapter"
    architectures.model("llama").save_pretrained(tmp_path / "wide")
    tiny_text.tokenizer().save_pretrained(tmp_path / "wide")
    config = json.loads((adapter / "adapter_config.json").read_text())
    for base, words in ((str(tmp_path / "wide"), "made for another model"), ("", "does not name its base")):
        (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
        with pytest.raises((ModelError, CheckpointError), match=words):
            load_model(str(adapter))


def test_its_settings():
    arm = parse_arm("prefix:virtual_tokens=5:projection=1", steps=9)
    assert (arm.virtual_tokens, arm.projection, arm.recipe.steps, arm.recipe.optimizer) == (5, True, 9, "adam")
    assert Arm.from_dict(arm.as_dict()) == arm
    assert not {"virtual_tokens", "projection"} & set(Arm("partial").as_dict()), (
        "runs from before are found by what they say"
    )
    for settings in ({"virtual_tokens": 0}, {"virtual_tokens": 1.5}, {"projection": "yes"}):
        with pytest.raises(SettingsError):
            Arm("prefix", **settings)
