"""Least squares with intervals that do not need equal variances, for what goes with D.

D spreads more among rows that many steps touched (the residuals' standard deviation on the demo: 0.004 for one step, 0.017
for fifty or more), so the textbook's intervals, which take one size of error for all, would be wrong. HC3 (MacKinnon and
White 1985, Journal of Econometrics 29, 305-325) takes each row's own residual, as it would be without that row. It is a
line of algebra; statsmodels, which has it too, would bring 60 MB for it, and the tests agree with it where it is installed.

    >>> x = np.arange(30.0)
    >>> round(regress(2 * x + 1, {"x": x}).effects[0].slope, 6)
    2.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ks_core.errors import SettingsError

#: Fewest rows that a regression is made of.
FEWEST = 20
#: A variable of which the ones before it leave less than this share of variance unexplained is left out.
TOLERANCE = 0.01
#: A row of a leverage as near to 1 as this decides a coefficient by itself.
ALONE = 1e-9


@dataclass(frozen=True)
class Effect:
    """One variable's part in the regression, the others held fixed.

    ``coefficient`` is standardized (standard deviations of the response for one of the variable), with its 95% interval
    ``low`` to ``high`` and two-sided ``p`` (HC3, t distribution); ``slope`` is the response for one unit of the variable.
    """

    variable: str
    coefficient: float
    low: float
    high: float
    p: float
    slope: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Regression:
    """Ordinary least squares: ``effects`` in the order of the variables, ``r2``, and ``residual`` float64 (n,), in
    the unit of the response. ``left_out`` says in a sentence each why a variable does not take part."""

    effects: tuple[Effect, ...]
    r2: float
    residual: np.ndarray
    left_out: tuple[str, ...]


def regress(response: np.ndarray, variables: Mapping[str, np.ndarray]) -> Regression:
    """Ordinary least squares of ``response`` (n,) on ``variables`` (n,) each, all standardized, with HC3 errors.

    With X the n x k standardized variables, b = argmin |y - Xb| and e = y - Xb. The leverage of a row is
    h_i = 1/n + x_i' (X'X)^-1 x_i (1/n is the mean's), and the standard errors are the roots of the diagonal of
    (X'X)^-1 X' diag(e_i² / (1 - h_i)²) X (X'X)^-1; intervals take t with n - k - 1 degrees of freedom. Each row's part in
    that sum is the square of what b changes by when the row is left out.

    Constant variables are left out, those that the ones before them explain (``TOLERANCE``), and those that rest on one
    row (``ALONE``): the order is a priority. Raises ``SettingsError`` for too few rows, and for what is no number.
    """
    n, scale = len(response), float(response.std())
    from scipy import special  # a fifth of a second, which whoever only looks at a ticket need not wait

    enough(n, f"{n:,} rows")
    columns, names, left_out = _standardized(n, variables)
    if scale <= 1e-12 * np.abs(response).max(initial=0):
        return Regression(
            (), 0.0, np.zeros(n), (*left_out, "The response is the same for all rows, so nothing can go with it.")
        )
    y = (response - response.mean()) / scale
    inverse = np.linalg.inv(columns.T @ columns)
    b = np.linalg.lstsq(columns, y, rcond=None)[0]
    residual = y - columns @ b
    parts = columns @ inverse * (residual / (1 - _leverage(columns)))[:, None]
    errors = np.sqrt((parts**2).sum(axis=0))
    free = n - len(names) - 1
    reach = float(special.stdtrit(free, 0.975))
    with np.errstate(divide="ignore"):
        p = 2 * special.stdtr(free, -np.abs(b) / errors)
    effects = tuple(
        Effect(name, float(b[i]), float(b[i] - reach * errors[i]), float(b[i] + reach * errors[i]), float(p[i]),
               float(b[i] * scale / variables[name].std()))
        for i, name in enumerate(names)
    )  # fmt: skip
    return Regression(effects, 1 - float(residual @ residual) / n, residual * scale, tuple(left_out))


def enough(n: int, found: str) -> None:
    """Raise ``SettingsError`` for fewer rows than a regression is made of; ``found`` says where they come from."""
    if n < FEWEST:
        raise SettingsError(
            f"{n} rows can take part ({found}). Expected at least {FEWEST} that changed and have every variable; "
            "check that counts and steps use the base's token ids."
        )


def _standardized(n: int, variables: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str], list[str]]:
    """The variables that take part, standardized, float64 (n, k); their names; why the others do not."""
    columns, names, left_out = np.zeros((n, 0)), list[str](), list[str]()
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
        more = np.column_stack([columns, column])
        if _leverage(more).max() > 1 - ALONE:
            left_out.append(f"{name} is left out: it tells one row from the others and nothing else.")
            continue
        names.append(name)
        columns = more
    return columns, names, left_out


def _leverage(columns: np.ndarray) -> np.ndarray:
    """Of each row, with a mean fitted beside these centred columns (n, k): float64 (n,), from 1/n to 1."""
    return 1 / len(columns) + (np.linalg.qr(columns)[0] ** 2).sum(axis=1)
