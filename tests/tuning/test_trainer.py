"""Training rows: what is learned from, what is stepped, and that a run can be repeated and resumed."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from transformers import DataCollatorForSeq2Seq

from ks_core.checkpoints import demo
from ks_core.errors import CorpusError, ModelError, SettingsError
from ks_core.likelihood.batches import Collator, batch_order, target_loss
from ks_core.likelihood.examples import IGNORED, count_tokens, encode, fed
from ks_core.likelihood.packing import Packer, _spread, can_pack
from ks_core.likelihood.rows import lay_over
from ks_core.trajectory import FILE, open_trajectory
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.tuning import trainer
from ks_core.tuning.arms import Arm, choose_rows
from ks_core.tuning.demo_runs import RUNS
from ks_core.tuning.recipes import OPTIMIZERS, Recipe
from ks_core.tuning.row_choice import Material
from ks_core.tuning.trainer import AdamPerRow, RowwiseAdam
from ks_core.tuning.trainings import met_in

PROMPT = "w3 {source} w4"
CORPUS = Corpus(
    "test",
    "A",
    "B",
    tuple(SentencePair(f"w{i} w{i + 1}", f"w{i + 20}") for i in range(5, 25)),
    (SentencePair("w40 w41", "w42"),),
)


@pytest.fixture
def examples(tiny_tokenizer):
    return encode(CORPUS, tiny_tokenizer, PROMPT, 128)


def test_only_target_and_end_are_learned(examples, tiny_tokenizer):
    first = examples[0]
    assert first["input_ids"] == [3, 5, 6, 4, 25, tiny_tokenizer.eos_token_id]
    assert first["labels"] == [IGNORED] * 4 + [25, tiny_tokenizer.eos_token_id]
    assert count_tokens(examples)[3] == len(CORPUS.train)


def test_what_is_counted_is_what_the_model_reads(examples, tiny_tokenizer):
    """The end token is predicted and never read: its row has no gradient and is no candidate for a ticket."""
    counted = count_tokens(examples)
    assert tiny_tokenizer.eos_token_id not in counted
    padded = Collator(pad=63)(examples)
    read = padded["input_ids"][padded["attention_mask"] == 1].tolist()
    assert counted == Counter(read) and sum(counted.values()) == sum(len(fed(e)) for e in examples)
    packed = Packer(Collator(pad=63), 16).pack(examples)["input_ids"].flatten().tolist()
    assert set(counted) == set(packed) - {63}, (
        "what all begin with is in a pack once, so only which tokens can be compared"
    )


@pytest.mark.parametrize("kind", ["frequent", "embed"])
def test_an_arm_trains_every_row_that_it_names(tiny_model, tiny_tokenizer, examples, tmp_path, kind):
    model = copy.deepcopy(tiny_model)
    ids = choose_rows(Arm(kind, k=4), Material(count_tokens(examples), size=64))
    rows = lay_over(model, ids)
    recipe = Recipe(steps=5, batch_size=4, learning_rate=0.05)  # meets all 20 examples
    trained = trainer.train(model, tiny_tokenizer, examples, recipe, tmp_path)
    assert (rows.rows.detach() != rows.base.weight[rows.ids]).any(dim=1).all()
    assert trained.tokens == sum(len(fed(e)) for e in examples)


def test_padding_is_on_the_left_and_not_learned(examples):
    short = {"input_ids": [3, 2], "labels": [IGNORED, 2]}
    batch = Collator(pad=0)([examples[0], short])
    assert batch["input_ids"].tolist() == [[3, 5, 6, 4, 25], [0, 0, 0, 0, 3]]  # without the end, which predicts nothing
    assert batch["labels"].tolist() == [[IGNORED, 25, 2], [IGNORED, IGNORED, 2]]  # of the last two columns
    assert batch["attention_mask"][1].tolist() == [0, 0, 0, 0, 1]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 3, 4] and batch["position_ids"][1, -1] == 0


GIVEN = [
    {"input_ids": [3, 4, 5, 6, 2], "labels": [IGNORED] * 3 + [6, 2]},
    {"input_ids": [3, 4, 7, 2], "labels": [IGNORED] * 2 + [7, 2]},
]


def test_what_examples_begin_with_is_in_a_pack_once():
    batch = Packer(Collator(pad=0), 16).pack(GIVEN)
    # w3 is shared. w4 is not, for it predicts a target in the second; what predicts stands at the end.
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6, 4, 7]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 1, 2]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 2, 7, 2]]
    sees = (batch["attention_mask"][0, 0] == 0).int().tolist()
    assert sees[0] == [1, 0, 0, 0, 0, 0] and sees[3] == [1, 1, 1, 1, 0, 0] and sees[5] == [1, 0, 0, 0, 1, 1]


def test_rows_of_a_pack_are_padded_and_padding_is_seen_by_padding_alone():
    batch = Packer(Collator(pad=0), 16).pack(GIVEN, rows=2)
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6], [0, 3, 4, 7]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 2], [IGNORED, 7, 2]]
    sees = (batch["attention_mask"][1, 0] == 0).int().tolist()
    assert sees == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(1, 9))
def test_every_example_is_in_one_row(lengths, rows):
    spread = _spread(lengths, min(rows, len(lengths)))
    assert sorted(i for row in spread for i in row) == list(range(len(lengths)))
    filled = [sum(lengths[i] for i in row) for row in spread]
    assert max(filled) - min(filled) <= max(lengths)


def test_a_batch_is_in_the_rows_that_are_cheapest():
    def rows(hidden, *lengths):
        made = [
            {"input_ids": [n] * length, "labels": [IGNORED] + [n] * (length - 1)} for n, length in enumerate(lengths)
        ]
        return len(Packer(Collator(pad=0), hidden)(made)["input_ids"])

    assert rows(16, 10, 40) == 1  # padding would nearly double it
    assert rows(16, 40, 40) == 2  # nothing to save, and attention would double
    assert rows(4096, 30, 40) == 1  # a wide model hardly notices it
    assert rows(16, 10, 10, 10, 31) == 2  # the short ones beside the long one


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_and_padded_give_the_same_loss_and_gradient(tiny_model, tiny_tokenizer, examples, attention):
    model = copy.deepcopy(tiny_model)
    model.set_attn_implementation(attention)
    rows = lay_over(model, sorted(count_tokens(examples)))
    packer = Packer(Collator(tiny_tokenizer.pad_token_id), 16)
    uneven = [*examples[:3], {"input_ids": [3, 5, 6, 7, 8, 9, 4, 25, 26, 2], "labels": [IGNORED] * 7 + [25, 26, 2]}]
    found = []
    for batch in (packer.padded(uneven), packer.pack(uneven), packer.pack(uneven, 2), packer.pack(uneven, 4)):
        rows.rows.grad = None
        loss = target_loss(model, batch)
        loss.backward()
        found.append((loss.detach(), rows.rows.grad.clone()))
    for packed in found[1:]:
        torch.testing.assert_close(found[0], packed, rtol=1e-5, atol=1e-7)
    assert can_pack(model, packer, uneven)


def test_a_model_whose_loss_differs_when_packed_is_given_padded_batches(tiny_model, tiny_tokenizer, examples):
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter *= 5  # fresh as it is, its attention hardly matters
    packer = Packer(Collator(tiny_tokenizer.pad_token_id), 16)

    def deaf(module, args, kwargs):
        return args, {**kwargs, "attention_mask": None, "position_ids": None}

    handle = model.model.register_forward_pre_hook(deaf, with_kwargs=True)
    assert not can_pack(model, packer, examples)
    handle.remove()
    assert can_pack(model, packer, examples)
    model.config.sliding_window = 3  # shorter than an example
    assert not can_pack(model, packer, examples)


def test_each_pass_meets_every_example_once():
    lengths = [5, 9, 7, 30, 2, 8, 40]
    order = batch_order(lengths, batch_size=2, steps=7, seed=3)
    assert len(order) == 14 and sorted(order[:7]) == sorted(order[7:]) == list(range(7))
    assert order == batch_order(lengths, 2, 7, 3) != batch_order(lengths, 2, 7, 4)
    assert batch_order(lengths, 2, 3, 3) == order[:6]


def test_a_pair_longer_than_the_model_is_explained(tiny_tokenizer):
    with pytest.raises(CorpusError, match="6 tokens"):
        encode(CORPUS, tiny_tokenizer, PROMPT, 5)


def train(tiny_model, tiny_tokenizer, examples, folder, recipe, **options):
    model = copy.deepcopy(tiny_model)
    rows = lay_over(model, sorted(count_tokens(examples)))
    trained = trainer.train(model, tiny_tokenizer, examples, recipe, folder, **options)
    return rows, trained


RECIPE = Recipe(steps=12, batch_size=4, learning_rate=0.05)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_learns_and_repeats_itself(tiny_model, tiny_tokenizer, examples, tmp_path, optimizer):
    recipe = Recipe(steps=30, batch_size=4, learning_rate=0.05, optimizer=optimizer)
    seen = []
    rows, first = train(
        tiny_model, tiny_tokenizer, examples, tmp_path / "a", recipe, progress=lambda *a: seen.append(a)
    )
    again, second = train(tiny_model, tiny_tokenizer, examples, tmp_path / "b", recipe)
    assert first.losses == second.losses
    assert torch.equal(rows.rows, again.rows)
    assert [s[0] for s in seen] == list(range(1, 31))
    early, late = (sum(x for _, x in part) for part in (first.losses[:5], first.losses[-5:]))
    assert late < early
    other, _ = train(
        tiny_model,
        tiny_tokenizer,
        examples,
        tmp_path / "c",
        Recipe(steps=30, batch_size=4, learning_rate=0.05, optimizer=optimizer, seed=1),
    )
    assert not torch.equal(rows.rows, other.rows)


def test_the_first_loss_is_the_models_own(tiny_model, tiny_tokenizer, examples, tmp_path):
    """The loss over the last positions only equals transformers' loss over all of them."""
    recipe = Recipe(steps=1, batch_size=len(examples), learning_rate=1e-9)
    _, trained = train(tiny_model, tiny_tokenizer, examples, tmp_path, recipe)
    batch = DataCollatorForSeq2Seq(tiny_tokenizer)(examples)
    assert trained.losses[0][1] == pytest.approx(tiny_model(**batch).loss.item(), rel=1e-4)


def test_a_recording_parts_the_loss_and_changes_nothing(tiny_model, tiny_tokenizer, examples, tmp_path):
    """Content and end token beside the whole at every step; losses and rows are to the bit those of a training without."""
    rows, trained = train(tiny_model, tiny_tokenizer, examples, tmp_path / "plain", RECIPE)
    recorded, same = train(
        tiny_model, tiny_tokenizer, examples, tmp_path / "recorded", RECIPE, record=tmp_path / FILE, base="tiny"
    )
    assert torch.equal(rows.rows, recorded.rows) and trained.losses == same.losses
    trajectory = open_trajectory("", [str(tmp_path / FILE)])
    assert list(trajectory.losses) == trained.losses and trajectory.parts.keys() == {"content", "end"}
    order = batch_order([len(e["input_ids"]) for e in examples], 4, 12, RECIPE.seed)
    for step, whole in trajectory.losses:
        labels = [label for i in order[4 * step - 4 : 4 * step] for label in examples[i]["labels"] if label != IGNORED]
        ends = labels.count(tiny_tokenizer.eos_token_id)
        parts = {name: dict(pairs)[step] for name, pairs in trajectory.parts.items()}
        told = (parts["end"] * ends + parts["content"] * (len(labels) - ends)) / len(labels)
        assert ends == 4 and told == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_cancel_then_resume_equals_a_run_in_one_piece(tiny_model, tiny_tokenizer, examples, tmp_path, optimizer):
    recipe = replace(RECIPE, optimizer=optimizer)
    whole, _ = train(tiny_model, tiny_tokenizer, examples, tmp_path / "whole", recipe)
    steps = []
    _, cut = train(
        tiny_model,
        tiny_tokenizer,
        examples,
        tmp_path / "cut",
        recipe,
        progress=lambda step, *_: steps.append(step),
        should_stop=lambda: len(steps) >= 5,
    )
    assert cut.stopped and steps[-1] < 12
    resumed, trained = train(
        tiny_model,
        tiny_tokenizer,
        examples,
        tmp_path / "cut",
        recipe,
        progress=lambda step, *_: steps.append(step),
    )
    assert not trained.stopped and steps == list(range(1, 13))
    torch.testing.assert_close(resumed.rows, whole.rows)


def test_a_loss_that_is_no_number_stops_the_run(tiny_model, tiny_tokenizer, examples, tmp_path):
    model = copy.deepcopy(tiny_model)
    rows = lay_over(model, sorted(count_tokens(examples)))
    with torch.no_grad():
        rows.rows[1] = float("nan")  # of the first word of every prompt
    with pytest.raises(ModelError, match="Lower the learning rate"):
        trainer.train(model, tiny_tokenizer, examples, RECIPE, tmp_path)


def test_rowwise_adam_leaves_rows_without_gradient_alone():
    rows = nn.Parameter(torch.ones(3, 2))
    optimizer = RowwiseAdam([rows], lr=0.1)
    for gradient in ([[1.0, 1.0], [0, 0], [0, 0]], [[0.0, 0], [1, 1], [0, 0]]):
        rows.grad = torch.tensor(gradient)
        optimizer.step()
    # Each used row has moved by one step of Adam from fresh moments, which is the learning rate.
    torch.testing.assert_close(rows.detach()[0], torch.full((2,), 0.9))
    assert torch.equal(rows.detach()[2], torch.ones(2))
    assert rows.detach()[1, 0] < 1


def one_row_each(optimizer, gradients, lr=0.1):
    """Rows of ones after an optimizer stepped them with gradients (steps, k, d)."""
    rows = nn.Parameter(torch.ones(gradients.shape[1:]))
    stepping = optimizer([rows], lr=lr)
    for gradient in gradients:
        rows.grad = gradient.clone()
        stepping.step()
    return rows.detach(), stepping.state[rows]


@given(st.integers(0, 2**32 - 1))
def test_per_row_each_row_is_stepped_as_by_an_adam_of_its_own(seed):
    generator = torch.Generator().manual_seed(seed)
    used = torch.rand(12, 4, 1, generator=generator) < 0.5
    gradients = torch.randn(12, 4, 3, generator=generator) * used
    together, state = one_row_each(AdamPerRow, gradients)
    assert state["steps"].tolist() == used.sum(dim=0).flatten().tolist()
    for row in range(4):
        own = gradients[used[:, row, 0], row : row + 1]
        alone, _ = one_row_each(torch.optim.Adam, own) if len(own) else (torch.ones(1, 3), None)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_how_far_a_row_that_is_met_once_moves():
    """With Adam a first step is the gradient's sign. How long it is, the step count decides: the training's or the row's."""
    moved = {}
    for name, optimizer in (("rowwise_adam", RowwiseAdam), ("adam_per_row", AdamPerRow)):
        for at in (1, 50, 300):
            gradients = torch.zeros(at, 2, 3)
            gradients[:, 0] = 1.0  # a row of every batch, so that every step counts
            gradients[-1, 1] = torch.tensor([0.001, -2.0, 30.0])
            rows, _ = one_row_each(optimizer, gradients, lr=0.01)
            torch.testing.assert_close((1 - rows[1]).sign(), torch.tensor([1.0, -1, 1]))
            sizes = (1 - rows[1]).abs() / 0.01
            assert sizes.max() - sizes.min() < 1e-3
            moved[name, at] = round(sizes.mean().item(), 2)
    assert moved == {
        ("rowwise_adam", 1): 1.0, ("rowwise_adam", 50): 0.7, ("rowwise_adam", 300): 1.61,
        ("adam_per_row", 1): 1.0, ("adam_per_row", 50): 1.0, ("adam_per_row", 300): 1.0,
    }  # fmt: skip


def test_a_row_counts_the_steps_that_trainings_says(tiny_model, tiny_tokenizer, examples, tmp_path, monkeypatch):
    kept = []

    class Kept(AdamPerRow):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            kept.append(self)

    monkeypatch.setitem(trainer.ROW_OPTIMIZERS, "adam_per_row", Kept)
    recipe = replace(RECIPE, steps=4, batch_size=3, optimizer="adam_per_row")
    rows, _ = train(tiny_model, tiny_tokenizer, examples, tmp_path, recipe)
    counted = kept[0].state[rows.rows]["steps"].tolist()
    order = batch_order([len(e["input_ids"]) for e in examples], 3, 4, recipe.seed)
    expected = met_in([fed(e) for e in examples], order, 3).steps
    assert dict(zip(rows.ids.tolist(), counted, strict=True)) == {i: expected.get(i, 0) for i in rows.ids.tolist()}
    assert 0 in counted and 4 in counted, "some words were not met, the prompt's at every step"


@pytest.mark.parametrize("names", [("rowwise_adam", "adam_per_row"), ("adam_per_row", "rowwise_adam")])
def test_a_checkpoint_of_the_other_optimizer_is_not_gone_on_from(tiny_model, tiny_tokenizer, examples, tmp_path, names):
    first, second = (replace(RECIPE, optimizer=name) for name in names)
    train(tiny_model, tiny_tokenizer, examples, tmp_path, first, save_every=4, should_stop=lambda: True)
    with pytest.raises(ModelError, match="written by another optimizer"):
        train(tiny_model, tiny_tokenizer, examples, tmp_path, second)


def test_rowwise_optimizers_step_rows_alone(tiny_model, tiny_tokenizer, examples, tmp_path):
    for name in trainer.ROW_OPTIMIZERS:
        with pytest.raises(SettingsError, match=f"{name} steps embedding rows alone"):
            trainer.train(
                copy.deepcopy(tiny_model), tiny_tokenizer, examples, replace(RECIPE, optimizer=name), tmp_path
            )


def test_a_saved_recipe_still_says_how_it_was_trained():
    """``rowwise_adam`` is the name that runs from before ``adam_per_row`` were saved under; the demo's are such runs."""
    assert trainer.ROW_OPTIMIZERS["rowwise_adam"] is RowwiseAdam and issubclass(RowwiseAdam, torch.optim.SparseAdam)
    for run in ("en-fr", "en-fr-seed1", "en-fr-paper", "en-de"):
        assert demo.recipe(run)["recipe"]["optimizer"] == "rowwise_adam" == RUNS[run].optimizer
    assert set(trainer.ROW_OPTIMIZERS) | {"adam"} == set(OPTIMIZERS)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"optimizer": "sgd"},
        {"learning_rate": float("nan")},
        {"schedule": "wild"},
        {"beta1": 1.0},
    ],
)
def test_recipes_that_cannot_be(bad):
    with pytest.raises(SettingsError):
        Recipe(**bad)


@pytest.mark.parametrize("two_words", [False, True])
def test_a_step_in_parts_is_the_same_step(tiny_model, tiny_tokenizer, tmp_path, two_words):
    """Gradient accumulation: the same losses and the same rows, though the parts have unequal numbers of targets; resumed too."""
    pairs = tuple(
        SentencePair(f"w{i} w{i + 1}", f"w{i + 20}" + f" w{i + 7}" * (two_words and i % 3 == 0) * 3)
        for i in range(5, 25)
    )
    examples = encode(replace(CORPUS, train=pairs), tiny_tokenizer, PROMPT, 128)
    found = {}
    for name, accumulate in (("whole", 1), ("parts", 4), ("more", 8)):
        model = copy.deepcopy(tiny_model)
        rows = lay_over(model, sorted(count_tokens(examples)))
        recipe = Recipe(steps=6, batch_size=8, learning_rate=0.05, accumulate=accumulate, warmup=2, schedule="cosine")
        outcome = trainer.train(model, tiny_tokenizer, examples, recipe, tmp_path / name)
        assert [step for step, _ in outcome.losses] == list(range(1, 7))
        found[name] = ([loss for _, loss in outcome.losses], rows.rows.detach().clone(), outcome.tokens)
    for name in ("parts", "more"):
        assert found[name][0] == pytest.approx(found["whole"][0], rel=1e-4)
        torch.testing.assert_close(found[name][1], found["whole"][1], rtol=0, atol=2e-3)
        assert found[name][2] == found["whole"][2], "the same pairs were read"
    # Stopped in the middle, in parts.
    model = copy.deepcopy(tiny_model)
    rows = lay_over(model, sorted(count_tokens(examples)))
    recipe = Recipe(steps=6, batch_size=8, learning_rate=0.05, accumulate=4, warmup=2, schedule="cosine")
    steps = iter(range(100))
    stopped = trainer.train(
        model, tiny_tokenizer, examples, recipe, tmp_path / "cut", should_stop=lambda: next(steps) >= 2
    )
    assert stopped.stopped
    model = copy.deepcopy(tiny_model)
    rows = lay_over(model, sorted(count_tokens(examples)))
    trainer.train(model, tiny_tokenizer, examples, recipe, tmp_path / "cut")
    torch.testing.assert_close(rows.rows.detach(), found["parts"][1], rtol=0, atol=1e-6)
