"""The ranking: what goes with D is found, in every form of D, gaps are counted, and no sentence says more than that."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from ks_core.checkpoints import demo
from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import Cancelled, SettingsError
from ks_core.ks.statistic import pvalue_table
from ks_core.signature import Signature
from ks_core.study.scan import Scan, Study
from ks_core.tickets import ranking
from ks_core.tickets.ranking import FORMS, explain, spearman, table
from ks_core.tickets.regression import regress
from ks_core.tuning import trainings

N, DIM = 120, 50


@pytest.fixture
def numbers():
    """D made from the steps: k = 4 log2(steps) and a little more; ids are positions + 1000."""
    generator = np.random.default_rng(0)
    before = generator.standard_normal((N, DIM)).astype(np.float32) * generator.uniform(0.5, 2, (N, 1))
    counts = 2 ** generator.integers(0, 10, N)
    k = (4 * np.log2(counts) + generator.integers(1, 5, N)).astype(np.int32)
    k[100:] = 0  # did not change
    ids = np.arange(N) + 1000
    scan = Scan(ids, ids, k, pvalue_table(DIM)[k], k / 10.0, np.ones(N), DIM, Signature({}), "cpu", 0.0)
    study = SimpleNamespace(pair=SimpleNamespace(before=ArrayMatrix(before)), signature=Signature({"base": "a"}))
    return study, scan, {int(i): int(c) for i, c in zip(ids, counts, strict=True)}


def test_the_steps_are_found_and_adjusted_for(numbers):
    study, scan, steps = numbers
    found = explain(study, scan, steps)
    assert found.changed == 100 == len(found.token_ids) and found.untrained == found.incomplete == 0
    log = np.log([steps[int(i)] for i in found.token_ids])
    np.testing.assert_allclose(found.variables["log steps"], log)
    rho, p = stats.spearmanr(log, found.statistic)
    assert (found.correlation("log steps").rho, found.correlation("log steps").p) == (rho, p) and rho > 0.9
    assert found.effect("log steps").low > 0.8 and found.effect("log steps").slope == pytest.approx(
        4 / np.log(2) / DIM, rel=0.05
    )
    assert abs(np.corrcoef(log, found.adjusted)[0, 1]) < 1e-9  # what goes with the steps is gone
    assert "in part a list by steps" in found.count_sentence and "log steps +0.9" in found.effect_sentence
    assert "HC3" in found.effect_sentence and "errors:HC3" in str(found.signature)
    kept = len(set(found.token_ids[:18]) & set(found.token_ids[np.argsort(-found.adjusted)[:18]]))
    assert found.staying(18) == kept < 18 and f"{kept} with D," in found.adjusted_sentence


def test_the_three_ways_of_counting_stand_side_by_side(numbers):
    """The steps are the variable; draws and the count in the text are beside them and take no part."""
    study, scan, steps = numbers
    draws, counts = {i: n + i % 3 for i, n in steps.items()}, {i: n % 7 for i, n in steps.items()}
    alone, found = explain(study, scan, steps), explain(study, scan, steps, draws=draws, counts=counts)
    assert found.effects == alone.effects and list(alone.trained) == ["steps"]
    assert list(found.trained) == ["steps", "draws", "count in the text"] == [m.variable for m in found.measures]
    ids = found.token_ids.tolist()
    for name, known in (("draws", draws), ("count in the text", counts)):
        np.testing.assert_array_equal(found.trained[name], [known[i] for i in ids])
    rho = {m.variable: m.rho for m in found.measures}
    assert rho["draws"] == stats.spearmanr([draws[i] for i in ids], found.statistic)[0]
    assert (
        f"{rho['steps']:.2f} (draws {rho['draws']:.2f}, count in the text {rho['count in the text']:.2f})"
        in found.count_sentence
    )
    assert "optimizer steps that touched a row" in found.count_sentence and "(draws" not in alone.count_sentence


def test_how_many_rows_stay_is_said_for_every_form_of_d(numbers):
    study, scan, steps = numbers
    found = explain(study, scan, steps, prompt_ids=[1000, 1001])
    assert [form.name for form in found.forms] == ["D", "log D", "the rank of D"] == list(FORMS)
    variables = {name: x for name, x in found.variables.items() if name != "base std"}
    said = []
    for form, response in zip(
        found.forms, (found.statistic, np.log(found.statistic), stats.rankdata(found.statistic)), strict=True
    ):
        fitted = regress(response, variables)
        assert form.r2 == pytest.approx(fitted.r2)
        kept = len(set(range(18)) & set(np.argsort(-fitted.residual, kind="stable")[:18].tolist()))
        assert found.staying(18, form.name) == kept
        said.append(f"{kept} with {form.name}")
    assert ", ".join(said) in found.adjusted_sentence and "depends on the form" in found.adjusted_sentence
    same = replace(found, forms=tuple(replace(f, adjusted_rank=found.rank) for f in found.forms))
    assert same.adjusted_sentence.endswith("18 with D, 18 with log D, 18 with the rank of D: as many in every form.")


def test_a_row_that_changed_and_has_no_d_has_a_logarithm(numbers):
    study, scan, steps = numbers
    scan = replace(scan, counts=np.where(np.arange(N) == 5, 0, scan.counts))
    found = explain(study, scan, steps)
    assert found.statistic[-1] == 0 and all(np.isfinite(form.r2) for form in found.forms)


def test_no_sentence_speaks_of_causes(numbers):
    study, scan, steps = numbers
    found = explain(study, scan, steps, draws=steps, counts=steps, prompt_ids=[1000, 1001])
    flat = explain(study, scan, dict.fromkeys(steps, 3))
    shuffled = dict(zip(steps, np.random.default_rng(0).permutation(list(steps.values())).tolist(), strict=True))
    weak = explain(study, scan, shuffled)
    unclear = replace(found, effects=tuple(replace(e, low=-1.0, high=1.0) for e in found.effects))
    opposite = replace(found, correlations=(replace(found.correlations[0], rho=-0.7),))
    for one in (found, flat, weak, unclear, opposite):
        for sentence in (one.count_sentence, one.effect_sentence, one.adjusted_sentence):
            words = set(re.findall(r"[a-z]+", sentence.lower()))
            causal = {"owe", "owes", "because", "cause", "causes", "caused", "explain", "explains", "explained", "due", "thanks",
                      "account", "accounts", "accounted", "effect", "effects", "drives", "makes", "leads"}  # fmt: skip
            assert not words & causal, sentence


def test_what_is_said_of_the_demo(demo_home):
    """One run, one seed: 9, 3 or none of its 18 rows of largest D stay, by the form of the regression."""
    met, study = trainings.seen(trainings.of(demo.TUNED)), Study(demo.BASE, demo.TUNED)
    found = explain(
        study, study.scan(), met.steps, draws=met.draws, counts=met.counts, prompt_ids=met.prompt_ids,
        first_step=met.first, last_step=met.last,
    )  # fmt: skip
    assert [found.staying(18, form) for form in FORMS] == [9, 3, 0]
    assert "rank correlation of 0.88 (draws 0.87, count in the text 0.86)" in found.count_sentence
    # Spread differs between rows, so the textbook's interval of this one would exclude 0.
    assert not found.effect("in prompt").is_clear and found.effect("log steps").is_clear


def test_rows_stand_in_the_order_of_d(numbers):
    study, scan, counts = numbers
    found = explain(study, scan, counts)
    assert found.token_ids.tolist() == scan.token_ids[scan.order()[:100]].tolist()
    assert found.rank.tolist() == list(range(1, 101)) == sorted(found.adjusted_rank)
    assert (np.diff(found.adjusted[np.argsort(found.adjusted_rank)]) <= 0).all()
    rows = study.pair.before.storage[found.token_ids - 1000].astype(float)
    np.testing.assert_allclose(found.variables["base norm"], np.linalg.norm(rows, axis=1))
    np.testing.assert_allclose(found.variables["base std"], rows.std(axis=1))
    assert any(note.startswith("base std is left out") for note in found.notes)  # the norm says the same


def test_who_takes_part_is_counted(numbers):
    study, scan, counts = numbers
    for token in range(1000, 1030):
        del counts[token]
    counts[1030] = 0
    first = {token: 1 + token % 7 for token in range(1000, 1120) if token not in (1040, 1041)}
    found = explain(study, scan, counts, first_step=first, prompt_ids={1050, 1060})
    assert (found.changed, found.untrained, found.incomplete, len(found.token_ids)) == (100, 31, 2, 67)
    assert set(found.token_ids[found.variables["in prompt"] == 1]) == {1050, 1060}
    assert found.variables["first step"].tolist() == [first[int(i)] for i in found.token_ids]
    assert "last step" not in found.variables and "first step" in str(found.signature)


def test_a_prompt_effect_is_told_from_frequency(numbers):
    study, scan, counts = numbers
    generator = np.random.default_rng(3)
    prompt = {int(i) for i in generator.choice(scan.token_ids[:100], 20, replace=False)}
    k = scan.counts + np.isin(scan.token_ids, list(prompt)).astype(np.int32) * 8
    found = explain(study, replace(scan, counts=k), counts, prompt_ids=prompt)
    effect = found.effect("in prompt")
    assert effect.low > 0 and effect.slope == pytest.approx(8 / DIM, rel=0.1)
    # Without the prompt among the variables its tokens come first in what is left; with it they do not.
    blind = explain(study, replace(scan, counts=k), counts)
    assert len(prompt & set(blind.token_ids[blind.adjusted_rank <= 20].tolist())) >= 15
    assert len(prompt & set(found.token_ids[found.adjusted_rank <= 20].tolist())) < 10


def test_an_empty_prompt_and_equal_counts_are_constants(numbers):
    study, scan, counts = numbers
    found = explain(study, scan, dict.fromkeys(counts, 3), prompt_ids=[])
    assert found.correlation("log steps") is None and found.effect("in prompt") is None
    assert len([n for n in found.notes if "same for all rows" in n]) == 2
    assert "The same number of steps touched every row" in found.count_sentence


def test_the_sentences_follow_the_numbers(numbers):
    study, scan, counts = numbers
    found = explain(study, scan, counts)
    shuffled = np.random.default_rng(0).permutation(list(counts.values()))
    weak = explain(study, scan, {i: int(c) for i, c in zip(counts, shuffled, strict=True)})
    assert "hardly goes with training" in weak.count_sentence
    opposite = replace(found, correlations=(replace(found.correlations[0], rho=-0.7),))
    assert "tend to have the smaller D" in opposite.count_sentence
    unclear = replace(found, effects=tuple(replace(e, low=-1.0, high=1.0) for e in found.effects))
    assert "the interval of every coefficient holds 0" in unclear.effect_sentence


def test_too_few_rows_are_said(numbers):
    study, scan, counts = numbers
    few = {i: counts[i] for i in range(1000, 1012)}
    with pytest.raises(SettingsError, match=r"12 rows can take part \(100 rows changed, 12 of them touched by a"):
        explain(study, scan, few)


def test_it_can_be_stopped(numbers):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        explain(*numbers, report=stop)


def test_large_bases_are_read_in_blocks(numbers, monkeypatch):
    whole = explain(*numbers)
    monkeypatch.setattr(ranking, "blocks", lambda rows, _: [(i, min(i + 7, rows)) for i in range(0, rows, 7)])
    np.testing.assert_array_equal(explain(*numbers).variables["base norm"], whole.variables["base norm"])


def test_spearman_by_hand_and_where_there_is_none():
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([10.0, 30, 20, 40]))[0] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert np.isnan(spearman(np.ones(5), np.arange(5.0))[0]) and np.isnan(spearman(np.arange(2.0), np.arange(2.0))[0])


def test_the_table_is_for_people(numbers):
    found = explain(*numbers, counts=dict.fromkeys(numbers[2], 7), prompt_ids=[1000])
    frame = table(found, None)
    assert frame.columns.tolist() == [
        "token_id", "token", "rank", "statistic", "adjusted_rank", "adjusted", "steps", "count in the text", "in prompt",
        "base norm", "base std",
    ]  # fmt: skip
    assert frame["steps"].tolist() == [numbers[2][i] for i in frame.token_id] and set(frame["count in the text"]) == {7}
    assert frame.token[0] == f"(id {frame.token_id[0]})"
    assert table(found, [f"t{i}" for i in range(1200)]).token[0] == f"t{frame.token_id[0]}"
