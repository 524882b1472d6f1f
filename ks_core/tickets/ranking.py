"""What goes with the ranking: D against training count, prompt, steps and the base row.

D may be large because a token mattered, or because it was trained often, stands in every prompt, or began as a
small row. Here: the rank correlation of D with each variable, all of them together in one linear regression
(ordinary least squares), and the ranking that is left once they are accounted for.

    >>> found = explain(study, study.scan(), trainings.counts("demo:en-fr"), prompt_ids=[1, 2, 3])
    >>> found.effect("log count").coefficient, found.r2

Not here: causes. A regression over one run cannot tell a frequent token from an important one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ks_core.checkpoints.matrices import blocks, take, to_floats
from ks_core.errors import SettingsError
from ks_core.signature import Signature, versions
from ks_core.study.scan import Scan, Study, readable

if TYPE_CHECKING:
    import pandas as pd

#: Fewest rows that a regression is made of.
FEWEST = 20
#: A variable of which the ones before it leave less than this share of variance unexplained is left out.
TOLERANCE = 0.01

#: Called with (done, total, message); may raise ``Cancelled``.
Report = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of D with one variable; ``p`` two-sided, by the t approximation."""

    variable: str
    rho: float
    p: float


@dataclass(frozen=True)
class Effect:
    """One variable's part in the regression, the others held fixed.

    ``coefficient`` is standardized (standard deviations of D for one of the variable), with its 95% interval
    ``low`` to ``high`` and two-sided ``p`` (t distribution); ``slope`` is D for one unit of the variable.
    """

    variable: str
    coefficient: float
    low: float
    high: float
    p: float
    slope: float


@dataclass(frozen=True)
class Regression:
    """Ordinary least squares: ``effects`` in the order of the variables, ``r2``, and ``residual`` float64 (n,), in
    the unit of the response. ``left_out`` says in a sentence each why a variable does not take part."""

    effects: tuple[Effect, ...]
    r2: float
    residual: np.ndarray
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """The rows that take part, (n,) each, the largest D first, and what goes with their D.

    ``token_ids`` int64; ``statistic`` float64, D; ``variables`` name -> float64; ``adjusted`` float64, D less
    what the regression expects of it; ``rank`` and ``adjusted_rank`` int64, 1 for the largest. Out of
    ``changed`` rows, ``untrained`` have no training count and ``incomplete`` lack some other variable.
    """

    token_ids: np.ndarray
    statistic: np.ndarray
    variables: Mapping[str, np.ndarray]
    correlations: tuple[Correlation, ...]
    effects: tuple[Effect, ...]
    r2: float
    adjusted: np.ndarray
    rank: np.ndarray
    adjusted_rank: np.ndarray
    changed: int
    untrained: int
    incomplete: int
    notes: tuple[str, ...]
    signature: Signature

    def effect(self, variable: str) -> Effect | None:
        return next((e for e in self.effects if e.variable == variable), None)

    def correlation(self, variable: str) -> Correlation | None:
        return next((c for c in self.correlations if c.variable == variable), None)

    def staying(self, k: int) -> int:
        """How many of the ``k`` rows of largest D are among the ``k`` of largest adjusted D."""
        return int((self.adjusted_rank[:k] <= k).sum())

    @property
    def count_sentence(self) -> str:
        """What follows from D against the training count."""
        found = self.correlation("log count")
        if found is None:
            return "Every row was trained equally often, so the training count can explain nothing."
        said = f"Over {len(self.statistic):,} rows D and training count have a rank correlation of {found.rho:.2f}"
        base = [c for c in self.correlations if c.variable.startswith("base") and abs(c.rho) > abs(found.rho)]
        if abs(found.rho) < 0.3:
            against = f", and one of {base[0].rho:.2f} with the {base[0].variable}" if base else ""
            return f"{said}{against}: D hardly knows how often a token was trained, as after a dense optimizer."
        direction = "more" if found.rho > 0 else "less"
        return f"{said}: the more often a token was trained, the {direction} its row moved, so a large D is partly frequency."

    @property
    def effect_sentence(self) -> str:
        """What follows from the regression."""
        clear = sorted((e for e in self.effects if e.low > 0 or e.high < 0), key=lambda e: -abs(e.coefficient))
        said = f"Together they account for {self.r2:.0%} of the variance of D"
        if not clear:
            return f"{said}, and no variable's interval excludes 0: nothing here explains the ranking."
        parts = ", ".join(f"{e.variable} {e.coefficient:+.2f}" for e in clear)
        return f"{said}; with the others held fixed these differ from 0 (standardized): {parts}."

    @property
    def adjusted_sentence(self) -> str:
        """What follows from the adjusted ranking."""
        k = min(18, len(self.rank))
        kept = self.staying(k)
        return (
            f"Of the {k} rows of largest D, {kept} stay among the {k} largest once these variables are accounted for; "
            f"the other {k - kept} owe their place to them."
        )


def explain(
    study: Study,
    scan: Scan,
    counts: Mapping[int, int],
    *,
    prompt_ids: Collection[int] | None = None,
    first_step: Mapping[int, int] | None = None,
    last_step: Mapping[int, int] | None = None,
    report: Report = lambda *_: None,
) -> Ranking:
    """What goes with D among the rows that changed and occur in the training text.

    ``counts`` is how often each base token id was trained; ``prompt_ids`` the ids in the prompt's template;
    ``first_step`` and ``last_step`` when an id was seen. What is ``None`` takes no part. ``report(done, total,
    message)`` may raise ``Cancelled``. Raises ``SettingsError`` when fewer than ``FEWEST`` rows remain.
    """
    order = scan.order()
    order = order[scan.changed[order]]
    ids = scan.token_ids[order]
    given: dict[str, np.ndarray] = {"count": _looked_up(counts, ids)}
    given["count"][~(given["count"] > 0)] = math.nan
    if prompt_ids is not None:
        given["in prompt"] = np.isin(ids, np.fromiter(prompt_ids, np.int64)).astype(float)
    for name, steps in (("first step", first_step), ("last step", last_step)):
        if steps is not None:
            given[name] = _looked_up(steps, ids)
    trained = np.isfinite(given["count"])
    whole = trained & np.all([np.isfinite(x) for x in given.values()], axis=0)
    order, variables = order[whole], {name: x[whole] for name, x in given.items()}
    _enough(len(order), f"{len(ids):,} rows changed, {int(trained.sum()):,} of them with a training count")
    variables = {"log count": np.log(variables.pop("count")), **variables}
    variables["base norm"], variables["base std"] = _scales(study, order, report)
    statistic = scan.statistic[order]
    fitted = regress(statistic, variables)
    varied = {name: x for name, x in variables.items() if np.ptp(x) > 0 and np.ptp(statistic) > 0}
    correlations = []
    for name, x in varied.items():
        correlations.append(Correlation(name, *spearman(x, statistic)))
    adjusted_rank = np.empty(len(order), np.int64)
    adjusted_rank[np.argsort(-fitted.residual, kind="stable")] = np.arange(1, len(order) + 1)
    signature = study.signature.with_fields(
        audit="ranking", variables="+".join(variables), rows=len(order), **versions("scipy")
    )
    return Ranking(
        scan.token_ids[order], statistic, variables, tuple(correlations), fitted.effects, fitted.r2, fitted.residual,
        np.arange(1, len(order) + 1), adjusted_rank, len(ids), int((~trained).sum()), int((trained & ~whole).sum()),
        fitted.left_out, signature,
    )  # fmt: skip


def regress(response: np.ndarray, variables: Mapping[str, np.ndarray]) -> Regression:
    """Ordinary least squares of ``response`` (n,) on ``variables`` (n,) each, all standardized.

    With X the n x k standardized variables: b = argmin |y - Xb|, s² = |y - Xb|² / (n - k - 1), and the standard
    errors are the roots of s² diag((X'X)^-1). Constant variables are left out, and those that the ones before
    them explain (``TOLERANCE``): the order is a priority. Raises ``SettingsError`` for too few rows.

    >>> x = np.arange(30.0)
    >>> round(regress(2 * x + 1, {"x": x}).effects[0].slope, 6)
    2.0
    """
    n, scale = len(response), float(response.std())
    _enough(n, f"{n:,} rows")
    names: list[str] = []
    columns = np.zeros((n, 0))
    left_out = []
    for name, x in variables.items():
        if not np.isfinite(x).all():
            raise SettingsError(
                f"The variable {name} holds NaN or infinity. Expected a number for each of the {n:,} rows."
            )
        # What the mean's rounding leaves of a constant is no variance.
        if np.ptp(x) <= 1e-12 * np.abs(x).max():
            left_out.append(f"{name} is left out: it is the same for all rows.")
            continue
        column = (x - x.mean()) / x.std()
        rest = column - columns @ np.linalg.lstsq(columns, column, rcond=None)[0]
        alone = float(rest @ rest) / n
        if alone < TOLERANCE:
            left_out.append(f"{name} is left out: {1 - alone:.1%} of its variance is that of {', '.join(names)}.")
            continue
        names.append(name)
        columns = np.column_stack([columns, column])
    if scale <= 1e-12 * np.abs(response).max(initial=0):
        return Regression(
            (), 0.0, np.zeros(n), (*left_out, "D is the same for all rows, so there is nothing to explain.")
        )
    y = (response - response.mean()) / scale
    b = np.linalg.lstsq(columns, y, rcond=None)[0]
    residual = y - columns @ b
    free = n - len(names) - 1
    errors = np.sqrt(float(residual @ residual) / free * np.diag(np.linalg.inv(columns.T @ columns)))
    reach = float(special.stdtrit(free, 0.975))
    with np.errstate(divide="ignore"):
        p = 2 * special.stdtr(free, -np.abs(b) / errors)
    effects = tuple(
        Effect(name, float(b[i]), float(b[i] - reach * errors[i]), float(b[i] + reach * errors[i]), float(p[i]),
               float(b[i] * scale / variables[name].std()))
        for i, name in enumerate(names)
    )  # fmt: skip
    return Regression(effects, 1 - float(residual @ residual) / n, residual * scale, tuple(left_out))


def spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation of two (n,) arrays and its two-sided p; NaN where either is constant or n < 3."""
    from scipy import stats  # slow to import

    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    rho, p = stats.spearmanr(x, y)
    return float(rho), float(p)


def table(ranking: Ranking, strings: list[str] | None) -> pd.DataFrame:
    """A row per token, the largest D first: ``token_id, token, rank, statistic, adjusted_rank, adjusted``, then
    ``count`` and each variable."""
    import pandas as pd

    frame = pd.DataFrame({
        "token_id": ranking.token_ids,
        "token": [readable(strings, int(i)) for i in ranking.token_ids],
        "rank": ranking.rank, "statistic": ranking.statistic,
        "adjusted_rank": ranking.adjusted_rank, "adjusted": ranking.adjusted,
    })  # fmt: skip
    for name, values in ranking.variables.items():
        column = np.rint(np.exp(values)).astype(np.int64) if name == "log count" else values
        frame["count" if name == "log count" else name] = column
    return frame


def _looked_up(known: Mapping[int, int], ids: np.ndarray) -> np.ndarray:
    """The value of each id, float64 (n,), NaN where it has none."""
    return np.array([known.get(int(i), math.nan) for i in ids], np.float64)


def _scales(study: Study, positions: np.ndarray, report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean norm and standard deviation of these base rows, float64 (n,) each, read block by block."""
    matrix, ascending = study.pair.before, np.sort(positions)
    found = np.empty((2, len(positions)))
    for start, stop in blocks(len(ascending), matrix.shape[1] * 8):
        report(start, len(ascending), "reading base rows")
        rows = to_floats(take(matrix, ascending[start:stop]), matrix.dtype, "float64")
        found[:, start:stop] = np.linalg.norm(rows, axis=1), rows.std(axis=1)
    norm, std = found[:, np.searchsorted(ascending, positions)]
    return norm, std


def _enough(n: int, found: str) -> None:
    if n < FEWEST:
        raise SettingsError(
            f"{n} rows can take part ({found}). Expected at least {FEWEST} that changed and have every variable; "
            "check that counts and steps use the base's token ids."
        )
