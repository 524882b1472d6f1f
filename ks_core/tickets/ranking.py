"""What goes with the ranking: D against training steps, prompt, and the base row.

D may be large where a token mattered, or where many steps touched it, where it stands in every prompt, or where it began
as a small row. Here: the rank correlation of D with each variable, all of them together in one linear regression
(``regression``), and the ranking that is left once they are held fixed. That ranking depends on the form in which D
enters, so it is made in several (``FORMS``).

    >>> met = trainings.seen(trainings.of("demo:en-fr"))
    >>> found = explain(study, study.scan(), met.steps, draws=met.draws, counts=met.counts, prompt_ids=met.prompt_ids)
    >>> found.effect("log steps").coefficient, found.r2

Not here: causes. A regression over one run cannot tell a frequent token from an important one, and no sentence says it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ks_core.checkpoints.matrices import blocks, take, to_floats
from ks_core.signature import Signature, versions
from ks_core.study.scan import Scan, Study, readable
from ks_core.tickets.regression import Effect, enough, regress

if TYPE_CHECKING:
    import pandas as pd


#: What D enters the regression as, with what makes it of D (n,) and the rows' width.
FORMS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "D": lambda statistic, dim: statistic,
    # A row can change and have D = 0, when its values change places: it counts as half of D's smallest step.
    "log D": lambda statistic, dim: np.log(np.maximum(statistic, 0.5 / dim)),
    "the rank of D": lambda statistic, dim: _ranked(statistic),
}
#: How many rows of largest D the sentence is about (the length of the paper's longest ticket).
QUOTED = 18
#: What is known of how often a row was trained, with the words for it; D goes with the first of them closest.
STEPS, DRAWS, COUNT = "steps", "draws", "count in the text"

#: Called with (done, total, message); may raise ``Cancelled``.
Report = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of D with one variable; ``p`` two-sided, by the t approximation."""

    variable: str
    rho: float
    p: float


@dataclass(frozen=True)
class Form:
    """The regression in one form of D (a key of ``FORMS``): ``r2``, and ``adjusted_rank`` int64 (n,), 1 for the row of the
    largest residual."""

    name: str
    r2: float
    adjusted_rank: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """The rows that take part, (n,) each, the largest D first, and what goes with their D.

    ``token_ids`` int64; ``statistic`` float64, D; ``variables`` name -> float64; ``adjusted`` float64, D less
    what the regression expects of it; ``rank`` and ``adjusted_rank`` int64, 1 for the largest. ``trained`` name -> float64
    (n,): optimizer steps that touched the row and, where they are known, its draws and its count in the text; ``measures``
    are their correlations with D. ``forms`` are the regression in every form of D. Out of ``changed`` rows,
    ``untrained`` were touched by no step and ``incomplete`` lack some other variable.
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
    trained: Mapping[str, np.ndarray]
    measures: tuple[Correlation, ...]
    forms: tuple[Form, ...]
    changed: int
    untrained: int
    incomplete: int
    notes: tuple[str, ...]
    signature: Signature

    def effect(self, variable: str) -> Effect | None:
        return next((e for e in self.effects if e.variable == variable), None)

    def correlation(self, variable: str) -> Correlation | None:
        return next((c for c in self.correlations if c.variable == variable), None)

    def staying(self, k: int, form: str = "D") -> int:
        """How many of the ``k`` rows of largest D are among the ``k`` of largest residual, in a form of D."""
        found = next(f for f in self.forms if f.name == form)
        return int((found.adjusted_rank[:k] <= k).sum())

    @property
    def count_sentence(self) -> str:
        """How D goes with how often a row was trained."""
        found = self.correlation("log steps")
        if found is None:
            return "The same number of steps touched every row, so D has no correlation with it."
        others = ", ".join(f"{m.variable} {m.rho:.2f}" for m in self.measures if m.variable != STEPS)
        said = (
            f"Over {len(self.statistic):,} rows D and the number of optimizer steps that touched a row have a rank "
            f"correlation of {found.rho:.2f}{f' ({others})' if others else ''}"
        )
        base = [c for c in self.correlations if c.variable.startswith("base") and abs(c.rho) > abs(found.rho)]
        if abs(found.rho) < 0.3:
            against = f", and one of {base[0].rho:.2f} with the {base[0].variable}" if base else ""
            return f"{said}{against}: D hardly goes with training, as is seen after a dense optimizer."
        size = "larger" if found.rho > 0 else "smaller"
        return f"{said}: rows that more steps touched tend to have the {size} D, and a list by D is in part a list by steps."

    @property
    def effect_sentence(self) -> str:
        """What the regression gives."""
        clear = sorted((e for e in self.effects if e.is_clear), key=lambda e: -abs(e.coefficient))
        said = f"A linear regression of D on these variables together has R² {self.r2:.2f}"
        if not clear:
            return f"{said}, and the interval of every coefficient holds 0."
        parts = ", ".join(f"{e.variable} {e.coefficient:+.2f}" for e in clear)
        return f"{said}; with the others held fixed these differ from 0 (standardized, HC3 intervals): {parts}."

    @property
    def adjusted_sentence(self) -> str:
        """How many of the top rows stay in each form of the regression."""
        k = min(QUOTED, len(self.rank))
        kept = {form.name: self.staying(k, form.name) for form in self.forms}
        said = (
            f"Of the {k} rows of largest D, those among the {k} largest residuals of the regression are "
            f"{', '.join(f'{n} with {form}' for form, n in kept.items())}"
        )
        if len(set(kept.values())) == 1:
            return f"{said}: as many in every form."
        return f"{said}: how many stay depends on the form of the regression."


def explain(
    study: Study,
    scan: Scan,
    steps: Mapping[int, int],
    *,
    draws: Mapping[int, int] | None = None,
    counts: Mapping[int, int] | None = None,
    prompt_ids: Collection[int] | None = None,
    first_step: Mapping[int, int] | None = None,
    last_step: Mapping[int, int] | None = None,
    report: Report = lambda *_: None,
) -> Ranking:
    """What goes with D among the rows that changed and that the training touched.

    ``steps`` is how many optimizer steps touched each base token id; ``draws`` how often the batches held it, and
    ``counts`` how often the whole text does: these two are set beside the steps and take no part in the regression.
    ``prompt_ids`` are the ids in the prompt's template; ``first_step`` and ``last_step`` when an id was met. What is
    ``None`` is left away. ``report(done, total, message)`` may raise ``Cancelled``. Raises ``SettingsError`` when fewer
    than ``regression.FEWEST`` rows remain.
    """
    order = scan.order()
    order = order[scan.changed[order]]
    ids = scan.token_ids[order]
    given: dict[str, np.ndarray] = {STEPS: _looked_up(steps, ids)}
    given[STEPS][~(given[STEPS] > 0)] = math.nan
    if prompt_ids is not None:
        given["in prompt"] = np.isin(ids, np.fromiter(prompt_ids, np.int64)).astype(float)
    for name, known in (("first step", first_step), ("last step", last_step)):
        if known is not None:
            given[name] = _looked_up(known, ids)
    touched = np.isfinite(given[STEPS])
    whole = touched & np.all([np.isfinite(x) for x in given.values()], axis=0)
    order, variables = order[whole], {name: x[whole] for name, x in given.items()}
    enough(len(order), f"{len(ids):,} rows changed, {int(touched.sum()):,} of them touched by a training step")
    trained = {STEPS: variables.pop(STEPS)}
    for name, known in ((DRAWS, draws), (COUNT, counts)):
        if known is not None:
            trained[name] = np.nan_to_num(_looked_up(known, scan.token_ids[order]))
    variables = {"log steps": np.log(trained[STEPS]), **variables}
    variables["base norm"], variables["base std"] = _scales(study, order, report)
    statistic = scan.statistic[order]
    fitted = {name: regress(form(statistic, scan.dim), variables) for name, form in FORMS.items()}
    forms = tuple(Form(name, found.r2, _placed(found.residual)) for name, found in fitted.items())
    varied = [name for name, x in variables.items() if np.ptp(x) > 0 and np.ptp(statistic) > 0]
    signature = study.signature.with_fields(
        audit="ranking", variables="+".join(variables), rows=len(order), errors="HC3", **versions("scipy")
    )
    return Ranking(
        token_ids=scan.token_ids[order], statistic=statistic, variables=variables,
        correlations=tuple(Correlation(name, *spearman(variables[name], statistic)) for name in varied),
        effects=fitted["D"].effects, r2=fitted["D"].r2, adjusted=fitted["D"].residual,
        rank=np.arange(1, len(order) + 1), adjusted_rank=forms[0].adjusted_rank, trained=trained,
        measures=tuple(Correlation(name, *spearman(x, statistic)) for name, x in trained.items()), forms=forms,
        changed=len(ids), untrained=int((~touched).sum()), incomplete=int((touched & ~whole).sum()),
        notes=fitted["D"].left_out, signature=signature,
    )  # fmt: skip


def spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation of two (n,) arrays and its two-sided p; NaN where either is constant or n < 3."""
    from scipy import special

    if len(x) < 3 or not (np.ptp(x) > 0 and np.ptp(y) > 0):  # with a NaN among them there is no span either
        return math.nan, math.nan
    # As scipy.stats.spearmanr: to import that takes longer than anything else that a page does.
    rho = float(np.corrcoef(_ranked(x), _ranked(y))[1, 0])
    free = len(x) - 2
    with np.errstate(divide="ignore"):
        t = abs(rho) * np.sqrt(np.clip(np.divide(free, (rho + 1) * (1 - rho)), 0, None))
    return rho, float(2 * special.stdtr(free, -t))


def table(ranking: Ranking, strings: list[str] | None) -> pd.DataFrame:
    """A row per token, the largest D first: ``token_id, token, rank, statistic, adjusted_rank, adjusted``, then how often
    it was trained (``steps`` and what else is known) and each variable."""
    import pandas as pd

    frame = pd.DataFrame({
        "token_id": ranking.token_ids,
        "token": [readable(strings, int(i)) for i in ranking.token_ids],
        "rank": ranking.rank, "statistic": ranking.statistic,
        "adjusted_rank": ranking.adjusted_rank, "adjusted": ranking.adjusted,
    })  # fmt: skip
    for name, values in ranking.trained.items():
        frame[name] = values.astype(np.int64)
    for name, values in ranking.variables.items():
        if name != "log steps":
            frame[name] = values
    return frame


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 for the smallest, float64 (n,), equal values sharing their mean."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]


def _placed(residual: np.ndarray) -> np.ndarray:
    """The place of each row by its residual, int64 (n,), 1 for the largest; equal ones by their order."""
    place = np.empty(len(residual), np.int64)
    place[np.argsort(-residual, kind="stable")] = np.arange(1, len(residual) + 1)
    return place


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
