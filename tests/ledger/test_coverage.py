"""The simulation behind the table of coverage: on intervals whose coverage is known, and on a small made-up demo."""

import numpy as np
import pytest

from ks_core.likelihood.nats import Likelihood
from ks_core.translation.bootstrap import weights
from soak import covering, intervals


def test_known_coverage_is_found():
    """The normal interval of a mean at 80% and at 95%, for a population of which the mean is known."""
    population = np.random.default_rng(0).normal(3, 1, 4000)
    spread = population.std() / 30**0.5

    def within(quantile):
        return lambda places: (
            population[places].mean() - quantile * spread,
            population[places].mean() + quantile * spread,
        )

    for quantile, rate in ((1.2816, 0.8), (1.96, 0.95)):
        found = covering.coverage(within(quantile), population.mean(), 4000, 30, 1500)
        assert found.rate == pytest.approx(rate, abs=0.03) and found.shown == 1500
    low = covering.coverage(lambda places: (-np.inf, population[places].mean()), population.mean(), 4000, 30, 600)
    assert low.rate == pytest.approx(0.5, abs=0.07) and low.above == 600 - low.covered


def test_what_is_not_shown_is_not_counted():
    def made(places):
        return None if places[0] % 2 else (0.0, 1.0)

    found = covering.coverage(made, 0.5, 100, 5, 400)
    assert 100 < found.shown < 300 and found.rate == 1 and "shown in" in found.words
    assert covering.coverage(lambda places: None, 0.5, 100, 5, 10).words == "-"


def likelihood(mean, seed, count=60):
    drawn = np.random.default_rng(seed)
    tokens = drawn.integers(3, 9, count)
    return Likelihood(tokens * drawn.gamma(4, mean / 4, count), drawn.gamma(2, mean / 2, count), tokens, 5 * tokens)


def test_the_table_has_every_interval(capsys):
    words = ["le", "la", "un", "des", "chat", "chien", "dort", "mange", "table", "porte"]
    drawn = np.random.default_rng(2)
    references = [" ".join(drawn.choice(words, 6)) for _ in range(60)]

    def answers(kept):
        told = [" ".join(w if drawn.random() < kept else "x" for w in text.split()) for text in references]
        return [{"prompt": "", "text": text, "stopped": True, "tokens": 6} for text in told]

    found = {
        name: {"answers": answers(kept), "likelihood": likelihood(mean, 7).as_dict()}
        for name, kept, mean in (("base", 0.2, 3.0), ("ticket", 0.6, 2.0), ("tuned", 0.9, 1.5))
    }
    lines = intervals.table({**found, "references": references, "language": "French"}, [20, 40], 40, 100, report=print)
    assert lines[0].count("sentences") == 2 and len(
        {line.partition("|")[2].partition("|")[0] for line in lines}
    ) == len(lines)
    rates = {line.split(" | ")[0].strip("| "): line.split(" | ")[2].strip(" |") for line in lines[2:]}
    assert {"BLEU of the base", "gain in chrF", "share of the gain, nats", "gain in nats"} <= set(rates)
    assert float(rates["gain in nats"].rstrip("%")) > 80
    assert sum("trainings" in name for name in rates) == len(covering.TRAININGS)


def test_the_hierarchical_interval_is_the_program_s_own():
    """Ten times as much of the variance from three trainings: widened intervals hold, and they are of the true mean."""
    base, own = likelihood(3.0, 1), likelihood(1.0, 2)
    own = Likelihood(own.content, own.end, base.tokens, base.characters)
    made, truth = covering.hierarchical(base, own, 30, 3, 10.0, 200)
    total = base.summed().sum() - own.summed().sum()
    assert truth == pytest.approx(total / base.counted().sum())
    found = covering.coverage(made, truth, 60, 30, 200)
    assert found.rate > 0.88


def test_scores_of_draws_are_the_bootstrap_s():
    from ks_core.translation.bootstrap import Bootstrap
    from ks_core.translation.generation import Generation
    from ks_core.translation.metrics import metrics

    references = [f"le chat numéro {n} dort sur la grande table" for n in range(12)]
    given = [
        Generation("", text.replace("dort", "mange" if n % 3 else "dort"), True, 8) for n, text in enumerate(references)
    ]
    scored = covering.Scored(metrics("French", references)["bleu"], given, "raw")
    taken = weights(12, 50).astype(float)
    expected = Bootstrap(references, "French", 50).scores("bleu", [g.answer("raw") for g in given])
    np.testing.assert_allclose(scored.draws(np.arange(12), taken), expected)
    assert scored.all() == pytest.approx(expected[0])
