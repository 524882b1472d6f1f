"""The null: a training on noise is that optimizer's own arithmetic, and a row with a true signal goes beyond it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import tiny_text
from ks_core.errors import SettingsError, TicketError
from ks_core.ks.statistic import ks_test
from ks_core.ledger.noise import _DenseSteps, _rates, _RowSteps, null, trained_on_noise
from ks_core.likelihood.batches import batch_order
from ks_core.likelihood.examples import encode, fed
from ks_core.tickets.null import Null
from ks_core.tuning import trainings
from ks_core.tuning.recipes import OPTIMIZERS, Recipe
from ks_core.tuning.trainer import ROW_OPTIMIZERS

ROWS, WIDTH, STEPS = 60, 64, 60
RECIPE = Recipe(steps=STEPS, learning_rate=0.01, schedule="linear", optimizer="adam_per_row")
IDS = np.arange(100, 100 + ROWS)


def base():
    return np.random.default_rng(0).normal(0, 0.05, (ROWS, WIDTH)).astype(np.float32)


def touched(seed=1):
    """Which ids each step touches: the first row always, the others the more rarely the later they come."""
    drawn, often = np.random.default_rng(seed), np.linspace(1.0, 0.05, ROWS)
    return [IDS[drawn.random(ROWS) < often].tolist() for _ in range(STEPS)]


def trained(signals, seed):
    """Rows after a training in which some rows' gradients have a direction beside noise, and all others are noise alone."""
    drawn = torch.Generator().manual_seed(seed)
    rows = torch.nn.Parameter(torch.from_numpy(base()))
    optimizer = ROW_OPTIMIZERS[RECIPE.optimizer]([rows], lr=RECIPE.learning_rate)
    for step, ids in enumerate(touched()):
        for group in optimizer.param_groups:
            group["lr"] = RECIPE.learning_rate * (1 - step / STEPS)
        rows.grad = torch.zeros_like(rows.detach())
        for i in ids:
            place = i - 100
            gradient = torch.randn(WIDTH, generator=drawn)
            rows.grad[place] = gradient + signals.get(place, 0.0)
        optimizer.step()
    return rows.detach().numpy()


def test_a_row_with_a_signal_exceeds_it_and_the_others_do_not():
    """One row of sixty is pulled in one direction; it is touched every other step, and others more often than it."""
    made = null(base(), IDS, touched(), RECIPE, draws=59, seed=3)
    signal = {31: 0.3}
    found = ks_test(base(), trained(signal, seed=0)).statistic
    own = made.pvalues(found)
    assert own[31] == 1 / 60 and made.excess(found)[31] > 4
    others = np.concatenate(
        [np.delete(made.pvalues(ks_test(base(), trained(signal, seed=n)).statistic), 31) for n in range(6)]
    )
    # 354 rows of noise: at most 5%, and what chance adds to that (three standard deviations).
    assert (others <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(others))
    assert 0.3 < others.mean() < 0.8, "ties of D make them a little large, nothing makes them small"
    # D alone would not have found it: rows that are touched more often go as far under noise.
    assert (made.statistic.max(axis=0) >= found[31]).any()
    summary = made.summary(found)
    assert summary["rows"] == ROWS and summary["beyond"] >= 1 and f"Of {ROWS} trained rows" in summary["sentence"]
    assert summary["expected_beyond"] == pytest.approx(3 / 60 * ROWS)


def test_what_is_to_be_expected_of_rows_that_were_chosen_by_a_large_d():
    """Ten rows of largest D of a training on noise go beyond noise more often than one row in twenty; that is said beside the ticket's."""
    drawn = np.random.default_rng(0)
    made = Null(np.arange(200), drawn.binomial(40, 0.3, (99, 200)), 40)
    fresh = drawn.binomial(40, 0.3, (200, 200)) / 40
    found, expected = [], []
    for statistic in fresh:
        rows = np.isin(np.arange(200), np.lexsort((np.arange(200), -statistic))[:10])
        hits, wanted = made.beyond(statistic, rows)
        found.append(hits)
        expected.append(wanted)
    assert expected[0] > 2, "not the half row that ten at 5% would be"
    assert np.mean(found) == pytest.approx(expected[0], rel=0.1)
    assert made.beyond(fresh[0], np.zeros(200, bool)) == (0, 0.0)
    told = made.summary(fresh[0], 0.05, np.isin(np.arange(200), [3, 5]))
    assert told["ticket"] == 2 and "among the ticket's 2, and" in told["sentence"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rows_that_no_step_touches_stay_and_the_rest_is_the_optimizers_arithmetic(optimizer):
    """One step of an Adam is the sign of the gradient: as far in every value, whatever is drawn."""
    recipe = replace(RECIPE, steps=1, schedule="constant", optimizer=optimizer)
    after = trained_on_noise(base(), [np.array([2, 5])], recipe)
    moved = np.abs(after - base())
    np.testing.assert_allclose(moved[[2, 5]], recipe.learning_rate, rtol=1e-3)
    assert not np.delete(moved, [2, 5], axis=0).any()
    again = trained_on_noise(base(), [np.array([2, 5])], recipe)
    other = trained_on_noise(base(), [np.array([2, 5])], recipe, seed=1)
    assert (again == after).all() and (other != after).any()


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_many_steps_are_those_of_the_trainers_own_optimizer(optimizer, schedule):
    """The same gradients through the optimizer with which rows are trained, step by step, its rates by transformers' schedule."""
    from transformers import get_scheduler

    recipe = replace(RECIPE, optimizer=optimizer, schedule=schedule, warmup=3, beta2=0.99)
    ours, theirs = base(), torch.nn.Parameter(torch.from_numpy(base()))
    made = (_DenseSteps if optimizer == "adam" else _RowSteps)(ours, recipe)
    kind = {"adam": torch.optim.Adam, **ROW_OPTIMIZERS}[optimizer]
    real = kind([theirs], lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2))
    clock = get_scheduler(schedule, real, num_warmup_steps=3, num_training_steps=recipe.steps)
    drawn = np.random.default_rng(5)
    for ids, rate in zip(touched(), _rates(recipe, STEPS), strict=True):
        places = np.array(sorted(i - 100 for i in ids))
        gradient = drawn.normal(0, 1, (len(places), WIDTH)).astype(np.float32)
        made.step(places, gradient, rate)
        theirs.grad = torch.zeros_like(theirs).detach()
        theirs.grad[places] = torch.from_numpy(gradient)
        real.step()
        clock.step()
    assert np.abs(ours - base()).max() > 0.05
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=2e-6)


def test_the_schedule_and_the_steps_are_the_recipes():
    """With a rate that falls to nothing the last step moves half as far as the first of two."""
    steps = [np.array([0]), np.array([1])]
    falling = replace(RECIPE, steps=2, schedule="linear")
    moved = np.abs(trained_on_noise(base(), steps, falling) - base()).mean(axis=1)
    np.testing.assert_allclose(moved[:3], [0.01, 0.005, 0], rtol=1e-3)


def test_noise_that_persists_goes_further():
    steps = [np.arange(ROWS)] * STEPS
    free, held = (trained_on_noise(base(), steps, RECIPE, persistence=p) for p in (0.0, 0.9))
    assert np.linalg.norm(held - base()) > 2 * np.linalg.norm(free - base())


def test_pvalues_by_hand():
    made = Null(np.array([1, 2]), np.array([[1, 4], [2, 4], [3, 4]]), 8)
    np.testing.assert_allclose(made.pvalues(np.array([2 / 8, 5 / 8])), [3 / 4, 1 / 4])
    # The spread of the second row is 0, and is told from D's own steps of 1/8.
    np.testing.assert_allclose(made.excess(np.array([2 / 8, 5 / 8])), [0, 1])


@pytest.mark.parametrize("bad", [{"draws": 0}, {"persistence": 1.0}, {"persistence": -1.0}])
def test_settings_that_cannot_be(bad):
    with pytest.raises(SettingsError, match="draws and a persistence"):
        null(base(), IDS, touched(), RECIPE, **bad)


def test_rows_of_another_training_are_refused():
    with pytest.raises(TicketError, match="touched any of these rows"):
        null(base(), IDS + 1000, touched(), RECIPE, draws=1)


def test_what_each_step_touched_is_what_the_trainer_deals_out(tiny_folder, tmp_path, tiny_tokenizer):
    choice = tiny_text.corpus(tmp_path, 60)
    corpus, recipe = choice.load(), replace(RECIPE, steps=7, batch_size=3)
    training = trainings.Training(
        "t", "t", str(tiny_folder), "0" * 12, choice, corpus.content_hash[:12], tiny_text.PROMPT, recipe
    )
    examples = encode(corpus, tiny_tokenizer, tiny_text.PROMPT, 1 << 30)
    order = batch_order([len(e["input_ids"]) for e in examples], 3, 7, recipe.seed)
    found = trainings.by_step(training)
    assert found == [sorted({i for n in order[s : s + 3] for i in fed(examples[n])}) for s in range(0, 21, 3)]
    met = trainings.seen(training)
    assert {i: sum(i in ids for ids in found) for i in met.steps} == met.steps
    assert trainings.by_step(replace(training, corpus_hash="0" * 12)) is None, "the text is another one by now"
