"""Where the variance is: between folds, and between seeds.

One-way and two-way analyses of variance in closed form (Searle, Casella, McCulloch, "Variance Components", 1992). The
estimates are differences of mean squares: a negative one says that the component is small, and is shown as it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Comparison, Interval, satterthwaite
from mmer_core.stats.table import Table, read, sides


class Scatter(NamedTuple):
    """Of single runs around their fold."""

    variance: float
    df: int  # 0: one seed, so the variance is not known and given as 0
    seeds: float  # a fold: the harmonic mean


def scatter(comparison: Comparison) -> list[Scatter]:
    """Of the differences, where every run has a partner; else of either side's runs, whose variances add up."""
    samples = [comparison.pairs.groupby("fold")["difference"]]
    if not comparison.paired:
        samples = [mine.groupby("fold")["score"] for _, mine in comparison.runs.groupby("side")]
    parts = []
    for folds in samples:
        n, squares = folds.size(), (folds.var(ddof=1) * (folds.size() - 1)).sum()  # a fold with one seed adds nothing
        df = int((n - 1).sum())
        parts.append(Scatter(float(squares) / df if df else 0.0, df, float(len(n) / (1 / n).sum())))
    return parts


def difference_components(comparison: Comparison, level: float = 0.95) -> pd.DataFrame:
    """Variance of the differences of single runs, d_fs = d + fold_f + rest_fs, in squared points.

    Rows: "between folds", "within folds (seeds)". Columns: component, variance, low, high (of the interval with that
    level), sd (NaN where the estimate is negative). In a balanced design the interval within folds is exact, the one
    between (Williams and Tukey) no less sure than it says. MmerError with fewer than two seeds in every fold.
    """
    S, (noise, s) = comparison.seeds_a_fold, seed_noise(comparison)
    between = float(S * (100 * comparison.folds["difference"]).var())  # mean squares
    strata = [("between folds", between, len(comparison.folds) - 1, S), ("within folds (seeds)", S * noise, s, 1)]
    return _components(strata, ((1 + level) / 2, (1 - level) / 2))


def seed_noise(comparison: Comparison) -> tuple[float, float]:
    """What the chance of training adds to the variance of a fold's mean difference, in squared points; and its df.

    From the differences of runs with the same seed, where all have a partner; else from the scatter of each variant's
    runs in its folds, as if seeds had nothing in common (Satterthwaite's degrees of freedom). MmerError with one seed.
    """
    parts = scatter(comparison)
    df = np.array([part.df for part in parts])
    if not df.all():
        raise MmerError("variance components need two or more seeds in a fold, of both variants")
    variances = np.array([1e4 * part.variance / part.seeds for part in parts])
    return float(variances.sum()), float(satterthwaite(variances, df) if variances.any() else df[0])


def has_one_seed(comparison: Comparison) -> bool:
    """Whether a variant has but one run in each fold, so that chance of training and folds cannot be told apart."""
    return bool(comparison.runs.groupby("side").size().min() == len(comparison.folds))


def seed_share(comparison: Comparison) -> tuple[float, Interval]:
    """Share of seeds in the variance of a fold's mean difference, with its 95% interval; 1 where none is between folds.

    The interval follows from F's law of the ratio of the two mean squares (Searle, Casella, McCulloch, 1992, ch. 3),
    exactly so in a balanced design. MmerError with one seed, or if all runs differ by the same amount.
    """
    noise, df = seed_noise(comparison)
    total, f = float((100 * comparison.folds["difference"]).var()), len(comparison.folds) - 1
    if total < 1e-12:
        raise MmerError("all folds differ by the same amount: there is no variance to divide")
    limits = (min(1.0, noise / total * float(stats.f.ppf(tail, f, df))) for tail in (0.025, 0.975))
    return min(1.0, noise / total), Interval(*limits)


def score_components(frame: Table, variants: Sequence[str], metric: str) -> pd.DataFrame:
    """Variance of the scores of single runs, in squared points: y_vfs = variant_v + fold_f + (v x f)_vf + rest_vfs.

    Variants are fixed, folds and the rest random. Rows: fold, variant x fold, seed (the rest). Columns: variance, low,
    high (95%, as above), sd. MmerError unless all variants have the same folds and as many seeds in each, two or more.
    """
    cells = [side.groupby("fold")["score"].apply(list) for side in sides(read(frame), variants, metric)]
    first, counts = cells[0], {len(scores) for cell in cells for scores in cell}
    same = all(cell.index.equals(first.index) for cell in cells) and len(counts) == 1
    if len(cells) < 2 or not same or min(counts) < 2 or len(first) < 2:
        what = "two variants or more with the same folds, two or more, and as many seeds in each, two or more"
        raise MmerError(f"variance components need {what}")
    y = 100 * np.array([cell.tolist() for cell in cells])  # (V, F, S)
    V, F, S = y.shape
    grand, by_fold, by_variant, cell = y.mean(), y.mean((0, 2)), y.mean((1, 2)), y.mean(2)
    ms_fold = V * S * ((by_fold - grand) ** 2).sum() / (F - 1)
    both, both_df, rest_df = cell - by_variant[:, None] - by_fold[None] + grand, (V - 1) * (F - 1), V * F * (S - 1)
    ms_both = S * (both**2).sum() / both_df
    ms_rest = ((y - cell[..., None]) ** 2).sum() / rest_df
    strata = [("fold", ms_fold, F - 1, V * S), ("variant x fold", ms_both, both_df, S), ("seed", ms_rest, rest_df, 1)]
    return _components(strata, (0.975, 0.025))


def seed_correlation(comparison: Comparison) -> float:
    """Correlation of the two variants' scores over the seeds of a fold, folds pooled.

    Near zero: pairing runs by seed buys nothing, and their seeds might as well differ. MmerError if fewer than two
    seeds of a fold have runs of both variants, or if the runs of a variant do not vary.
    """
    folds = comparison.pairs.groupby("fold")[["first", "second"]]
    x, y = (comparison.pairs[["first", "second"]] - folds.transform("mean")).to_numpy().T
    if not len(x) or folds.size().max() < 2:
        raise MmerError("a correlation over seeds needs two seeds or more that both variants have in a fold")
    if (scale := float(np.sqrt((x**2).sum() * (y**2).sum()))) < 1e-15:
        raise MmerError("a correlation over seeds needs scores that vary between the seeds of a fold")
    return float((x * y).sum() / scale)


def _components(strata: list[tuple], tails: tuple[float, float]) -> pd.DataFrame:
    """From (name, mean square, df, runs) of each stratum, the innermost last; limits as of Williams and Tukey."""
    rows = []
    for (name, ms, df, n), (_, below, below_df, _) in zip(strata, [*strata[1:], ("", 0.0, 1, 1)], strict=True):
        limits = (df * (ms - below * stats.f.ppf(t, df, below_df)) / (n * stats.chi2.ppf(t, df)) for t in tails)
        rows.append((name, (ms - below) / n, *map(float, limits)))
    frame = pd.DataFrame(rows, columns=["component", "variance", "low", "high"])
    frame["sd"] = np.sqrt(frame["variance"].where(frame["variance"] >= 0))
    return frame
