"""What p means here: the test's p-values where the truth is known, beside those of the pair.

A tuned row began as the base row, so the two samples of a test are dependent and alpha is no false-positive
rate. How far from one is measured on a sample of the base's own rows: left alone, permuted, with noise, and as
two independent resamples of a row (the one case that the p-value is made for). Where the training is known, also on
the pair's own rows trained on noise (``with_null``). Beside it: how large a change has to be before the test sees it
(``power``).

    >>> found = calibrate(study, study.scan(), Settings(rows=500))
    >>> found.case("independent").share_below(0.05)

Not here: whether a ticket works. This says what its p-values can and cannot mean.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints.matrices import GatheredMatrix, Matrix, take, to_floats
from ks_core.checkpoints.storage import rounding
from ks_core.errors import PairError, SettingsError
from ks_core.ks.power import Power, curve, passing
from ks_core.ks.statistic import critical_value, exact_pvalue, ks_test, pvalue_table
from ks_core.signature import Signature, versions
from ks_core.store.shipped import Provenance
from ks_core.study.scan import Scan, Study, check_alpha
from ks_core.tickets.cases import Case
from ks_core.tickets.changed import Changed

if TYPE_CHECKING:
    from ks_core.jobs.running import Running
    from ks_core.tickets.null import Null

#: Raised by one whenever the same study and settings could give other numbers than before.
VERSION = 1

#: Called with (done, total, message); may raise ``Cancelled``.
Report = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Settings:
    """What decides the numbers. At most ``rows`` base rows are drawn; ``noises`` are in standard deviations of a row.

    Raises ``SettingsError`` for a value that cannot be.
    """

    rows: int = 2000
    noises: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "noises", tuple(float(x) for x in self.noises))
        object.__setattr__(self, "alpha", check_alpha(self.alpha))
        if not 20 <= self.rows <= 100_000 or not 0 <= self.seed < 2**32:
            raise SettingsError(
                f"rows is {self.rows} and seed {self.seed}. Expected 20 to 100,000 rows, and a seed of 0 to {2**32 - 1}."
            )
        if not all(0 < x < math.inf for x in self.noises) or len({f"{x:g}" for x in self.noises}) < len(self.noises):
            raise SettingsError(f"The noises are {self.noises}. Expected different sizes above 0.")


@dataclass(frozen=True)
class Calibration:
    """All of it. ``sampled`` base rows were drawn, ``constant`` of them left out as they hold one value only.

    ``moved`` float64 (m,): how far changed rows of the pair went, root mean square over their values, in standard
    deviations of the base row (a sample of at most ``settings.rows``). ``null_sentence`` is what a training on noise says;
    empty where none was done.
    """

    dim: int
    sampled: int
    constant: int
    cases: tuple[Case, ...]
    powers: tuple[Power, ...]
    moved: np.ndarray
    settings: Settings
    signature: Signature
    null_sentence: str = ""
    #: Where it comes from, if it was not made here but came with the program.
    shipped: Provenance | None = None

    def with_null(self, null: Null, statistic: np.ndarray, ticket: np.ndarray | None = None) -> Calibration:
        """The same with the pair's rows as a training on noise leaves them, a case of all its draws together.

        ``statistic`` float64 (m,) is the real D of the null's rows, ``ticket`` bool (m,) which of them are asked about.
        """
        pvalues = pvalue_table(self.dim)[null.counts].ravel()
        case = Case("null", f"trained on noise, {null.draws} times, at the same exposure", pvalues)
        told = null.summary(statistic, self.settings.alpha, ticket)
        return replace(
            self, cases=(*self.cases, case), null_sentence=told["sentence"], signature=self.signature.with_fields(null=null.draws)
        )  # fmt: skip

    def case(self, name: str) -> Case:
        return next(c for c in self.cases if c.name == name)

    def power(self, change: str, rows: str) -> Power:
        return next(p for p in self.powers if (p.change, p.rows) == (change, rows))

    def case_sentence(self, case: Case) -> str:
        """What follows from one histogram."""
        alpha, n = self.settings.alpha, len(case.pvalues)
        if not n:
            return "There is no such row, so there is nothing to read here."
        share, pair = case.share_below(alpha), self.case("pair").share_below(alpha)
        low, high = self.case("independent").interval(alpha)
        said = f"{int((case.pvalues < alpha).sum()):,} of {n:,} rows ({share:.1%}) have p < {alpha:g}, median p {case.median:.3g}: "
        if case.name in ("identical", "permuted"):
            if (case.pvalues < 1).any():
                return said + "none should differ from itself, so distrust the other numbers."
            why = (
                "a row that was not trained cannot win"
                if case.name == "identical"
                else "the order of values is not seen"
            )
            return f"p is 1 for all {n:,} rows: {why}."
        if case.name == "independent":
            exact = critical_value(self.dim, alpha)
            most = exact_pvalue(exact, self.dim) if exact <= 1 else 0.0
            return f"{said}for independent samples {self._meaning} (steps of D allow {most:.1%} at most, ties take some more)."
        if case.name == "null":
            than = (
                "fewer than half as many"
                if share < pair / 2
                else "about as many"
                if share <= 2 * pair
                else "more than twice as many"
            )
            return said + f"{than} as in the pair ({pair:.1%}), and there was nothing to learn."
        if case.size:
            degree = "hardly ever" if share < alpha / 2 else "in some rows" if share < 0.5 else "in most rows"
            return said + f"noise of {case.size:g} standard deviations is seen {degree}."
        if case.name == "seeds":
            than = "less often than" if share < pair else "at least as often as"
            return said + f"two runs with different seeds are told apart {than} tuned and base ({pair:.1%})."
        than = "fewer than" if share < low else "more than" if share > high else "about as many as"
        return said + f"{than} among independent samples ({self.case('independent').share_below(alpha):.1%})."

    @property
    def _meaning(self) -> str:
        alpha, low, high = self.settings.alpha, *self.case("independent").interval(self.settings.alpha)
        if low <= alpha <= high:
            return "alpha is the false-positive rate"
        return (
            "alpha bounds the false-positive rate from above"
            if high < alpha
            else "alpha is less than the false-positive rate"
        )

    @property
    def pvalue_sentence(self) -> str:
        """What follows from all histograms together."""
        alpha, share = self.settings.alpha, self.case("independent").share_below(self.settings.alpha)
        said = f"{share:.1%} of independent samples have p < {alpha:g}, so there {self._meaning}"
        blind = [c.size for c in self.cases if c.size and c.share_below(alpha) < alpha / 2]
        if not blind:
            return f"{said}, and so have at least {alpha / 2:.2%} of the rows with noise of any size tried."
        return (
            f"{said}; but of rows with noise of {max(blind):g} standard deviations only "
            f"{self.case(f'noise {max(blind):g}').share_below(alpha):.1%}: here p < {alpha:g} marks a large change, "
            "not an unlikely one, and a larger p does not mean that nothing changed."
        )

    @property
    def power_sentence(self) -> str:
        """What follows from the power curves and from how far the pair's rows moved."""
        shift, noise = self.power("shift", "dependent"), self.power("noise", "dependent")
        free, alpha = self.power("shift", "independent"), self.settings.alpha
        if math.isinf(shift.half):
            return f"With {self.dim} values a row, no shift brings half of the rows below alpha {alpha:g}."
        said = (
            f"With {self.dim} values a row, half of the rows pass alpha {alpha:g} once all values shift by {shift.half:.2g} "
            f"standard deviations (80%: {shift.eighty:.2g}; independent samples: {free.half:.2g} and {free.eighty:.2g}), or under "
            f"noise of {noise.half:.2g} (80%: {noise.eighty:.2g})"
        )
        if not len(self.moved):
            return f"{said}; no row of the pair changed."
        moved, sizes = float(np.median(self.moved)), sorted((shift.half, noise.half))
        where = (
            "less than either" if moved < sizes[0] else "more than either" if moved > sizes[1] else "between the two"
        )
        return f"{said}; the pair's changed rows moved by {moved:.2g} in the median, {where}."


def cached(study: Study, settings: Settings, other: Study | None = None) -> Calibration | None:
    """The calibration when the cache has it; ``None`` otherwise. Nothing is computed."""
    entry = study.cache.load("calibration", _key(study, settings, other))
    if entry is None:
        return None
    return replace(_made(study, settings, other, entry.arrays, entry.note), shipped=entry.shipped)


def calibrate(
    study: Study, scan: Scan, settings: Settings, other: Study | None = None, report: Report = lambda *_: None
) -> Calibration:
    """The calibration, from the cache or made now and kept.

    ``other`` is the same base with a second tuned checkpoint (another seed); then tuned is tested against tuned,
    on the rows that either of them changed. ``report(done, total, message)`` may raise ``Cancelled``; then
    nothing is kept. Raises ``PairError`` for an ``other`` that does not fit, ``SettingsError`` when every
    sampled row is constant.
    """
    if other is not None and other.base.content_hash != study.base.content_hash:
        raise PairError(
            "The second tuned checkpoint has another base. Expected the same base, tuned with another seed."
        )
    if other is not None and other.tuned.content_hash == study.tuned.content_hash:
        raise PairError("The second tuned checkpoint is the first one again. Expected one tuned with another seed.")
    found = cached(study, settings, other)
    if found is not None:
        return found
    generator, before, changed = _generator(settings, "rows"), study.pair.before, np.nonzero(scan.changed)[0]
    rows = _rows(before, _sample(np.arange(before.shape[0]), settings.rows, generator))
    sampled, rows = len(rows), rows[rows.std(axis=1) > 0]
    if not len(rows):
        raise SettingsError(
            f"All {sampled:,} sampled rows are constant. Expected an embedding matrix with values in it."
        )
    kinds = {"identical": 0.0, "permuted": 0.0, **{f"noise {x:g}": x for x in settings.noises}, "independent": 0.0}
    curves = [(change, kind) for change in ("shift", "noise") for kind in ("dependent", "independent")]
    done, total = 0, len(kinds) + len(curves) + (other is not None)
    arrays = {"p/pair": scan.pvalue[changed]}
    for name, size in kinds.items():
        report(done, total, f"p-values: {name}")
        first, second = _samples(rows, name, size, _generator(settings, name))
        arrays[f"p/{name}"] = ks_test(first, second, study.device).pvalue
        done += 1
    if other is not None:
        arrays["p/seeds"] = _seeds(study, scan, other, lambda x: report(done + x, total, "tuned against tuned"))
        done += 1
    for start, (change, kind) in enumerate(curves, done):
        share = passing(rows, change, kind, settings.alpha, _generator(settings, f"{change} {kind}"), study.device)
        told = (f"power: {change}, {kind} rows", start)
        for name, array in curve(share, lambda x, t=told: report(t[1] + x, total, t[0])).items():  # type: ignore[misc]
            arrays[f"{change}/{kind}/{name}"] = array
    sample = _sample(changed, settings.rows, generator)
    spread = _rows(before, sample).std(axis=1)
    arrays["moved"] = scan.l2[sample][spread > 0] / math.sqrt(scan.dim) / spread[spread > 0]
    note = {"dim": scan.dim, "sampled": sampled, "constant": sampled - len(rows)}
    study.cache.store("calibration", _key(study, settings, other), arrays, note)
    report(total, total, "done")
    return _made(study, settings, other, arrays, note)


def _samples(rows: np.ndarray, name: str, size: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Before and after of a kind, (n, d) each, made from base rows (n, d)."""
    if name == "permuted":
        return rows, generator.permuted(rows, axis=1)
    if name == "independent":
        first, second = generator.integers(0, rows.shape[1], (2, *rows.shape))
        return np.take_along_axis(rows, first, 1), np.take_along_axis(rows, second, 1)
    return rows, rows + size * rows.std(axis=1, keepdims=True) * generator.standard_normal(rows.shape)


def _seeds(study: Study, scan: Scan, other: Study, report: Callable[[float], None]) -> np.ndarray:
    """p-values of tuned against tuned, float64 (m,), for rows of both pairs that either tuning changed."""
    second = other.scan(lambda done, rows: report(0.5 * done / rows))
    _, mine, theirs = np.intersect1d(scan.token_ids, second.token_ids, return_indices=True)
    moved = scan.changed[mine] | second.changed[theirs]
    if not moved.any():
        return np.zeros(0)
    pairs = (study.pair, mine[moved]), (other.pair, theirs[moved])
    before, after = rounding.common(*(GatheredMatrix(pair.tuned_rows, rows) for pair, rows in pairs))
    return ks_test(before, after, study.device, progress=lambda done, rows: report(0.5 + 0.5 * done / rows)).pvalue


def _sample(positions: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """At most ``n`` of these positions, ascending."""
    return np.sort(generator.choice(positions, min(n, len(positions)), replace=False))


def _rows(matrix: Matrix, positions: np.ndarray) -> np.ndarray:
    return to_floats(take(matrix, positions), matrix.dtype, "float64")


def _generator(settings: Settings, name: str) -> np.random.Generator:
    # By name, so that one more noise leaves the other numbers as they were.
    return np.random.default_rng([settings.seed, zlib.crc32(name.encode())])


def _made(
    study: Study, settings: Settings, other: Study | None, arrays: dict[str, np.ndarray], note: dict[str, Any]
) -> Calibration:
    labels = {"identical": "unchanged rows", "permuted": "values permuted within the row"}
    labels |= {f"noise {x:g}": f"noise of {x:g} standard deviations" for x in settings.noises}
    labels |= {"independent": "two independent resamples", "pair": "the pair: tuned and base"}
    labels |= {"seeds": "tuned and tuned, another seed"} if other is not None else {}
    sizes = {f"noise {x:g}": x for x in settings.noises}
    cases = tuple(Case(name, label, arrays[f"p/{name}"], sizes.get(name, 0.0)) for name, label in labels.items())
    powers = tuple(
        Power(change, kind, arrays[f"{change}/{kind}/sizes"], arrays[f"{change}/{kind}/power"],
              *(float(x) for x in arrays[f"{change}/{kind}/levels"]))
        for change in ("shift", "noise") for kind in ("dependent", "independent")
    )  # fmt: skip
    signature = study.signature.with_fields(audit="calibration", **asdict(settings))
    if other is not None:
        signature = signature.with_fields(other=f"{other.tuned.label}@{other.tuned.content_hash[:12]}")
    return Calibration(
        **note, cases=cases, powers=powers, moved=arrays["moved"], settings=settings, signature=signature
    )


def _key(study: Study, settings: Settings, other: Study | None) -> dict[str, Any]:
    given = {"other": other and other.key, "calibration": VERSION, "versions": versions("numpy")}
    return {**study.key, **asdict(settings), **given}


def run_calibration(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``calibration``: make what the cache lacks, the training on noise last, so that the page finds it there.

    ``parameters``: ``base``, ``tuned``, ``settings`` (the fields of ``Settings``) and, if wanted, ``other`` (the
    source of a second tuned checkpoint) and ``device``.
    """
    base, device, source = parameters["base"], parameters.get("device", "auto"), parameters.get("other")
    study, other = Study(base, parameters["tuned"], device), Study(base, source, device) if source else None
    scan = study.scan(lambda done, total: running.progress(done, total, "comparing", unit="rows", stage="scan"))

    def report(done: float, total: float, message: str) -> None:
        running.progress(done, total, message, stage="calibration")

    made = calibrate(study, scan, Settings(**parameters["settings"]), other, report)
    return {"rows": made.sampled, "noise": train_on_noise(study, scan, report), "signature": str(made.signature)}


def train_on_noise(study: Study, scan: Scan, report: Report = lambda *_: None) -> str:
    """Have the pair's rows trained on noise, which is kept (``with_null`` shows it); why that cannot be, empty where it was."""
    if not scan.changed.any():
        return "no row changed"
    found = Changed.of_pair(study, scan, report).known("null")
    return found if isinstance(found, str) else ""
