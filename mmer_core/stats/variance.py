"""Where the variance is: between folds, and between seeds.

One-way and two-way analyses of variance in closed form (Searle, Casella, McCulloch, "Variance Components", 1992). The
estimates are differences of mean squares, so a component may come out negative: that says that it is small, and it is
shown as it is.
"""

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Comparison, results_of


def difference_components(comparison: Comparison, level: float = 0.95) -> pd.DataFrame:
    """Variance of the differences of single runs, d_fs = d + fold_f + rest_fs, in squared points.

    Rows: "between folds" and "within folds" (seeds of both variants). Columns: variance, low, high (of the interval
    with that level), sd (of the estimate; NaN where it is negative). The interval within folds is exact (chi-square);
    the one between folds is that of Williams and Tukey, which holds the truth at least as often as it says.
    MmerError with fewer than two seeds in a fold, or other seeds in one fold than in another.
    """
    table = comparison.pairs.pivot(index="fold", columns="seed", values="difference")
    if table.isna().any(axis=None) or table.shape[1] < 2:
        raise MmerError("variance components need the same seeds, two or more, in every fold")
    d = 100 * table.to_numpy()  # (F, S)
    F, S = d.shape
    between = float(S * d.mean(1).var(ddof=1))  # mean squares
    within = float(((d - d.mean(1, keepdims=True)) ** 2).sum() / (F * (S - 1)))
    f, s, tails = F - 1, F * (S - 1), ((1 + level) / 2, (1 - level) / 2)
    rows = [
        ("between folds", (between - within) / S, *_williams_tukey(between, within, f, s, S, tails)),
        ("within folds (seeds)", within, *(s * within / stats.chi2.ppf(tail, s) for tail in tails)),
    ]
    return _components(rows)


def score_components(frame: pd.DataFrame, variants: list[str], metric: str) -> pd.DataFrame:
    """Variance of the scores of single runs, in squared points: y_vfs = variant_v + fold_f + (v x f)_vf + rest_vfs.

    Variants are fixed, folds and the rest random. Rows: fold, variant x fold, seed (the rest). Columns: variance, low,
    high (95%, as above), sd. MmerError unless all variants have the same folds and seeds, two or more.
    """
    tables = [results_of(frame, v).pivot(index="fold", columns="seed", values=metric) for v in variants]
    first, whole = tables[0], not any(t.isna().any(axis=None) for t in tables)
    same = all(t.index.equals(first.index) and t.columns.equals(first.columns) for t in tables)
    if len(tables) < 2 or not (same and whole) or first.shape[1] < 2:
        raise MmerError("variance components need two variants or more with the same folds and two seeds or more")
    y = 100 * np.stack([t.to_numpy() for t in tables])  # (V, F, S)
    V, F, S = y.shape
    grand, by_fold, by_variant, cell = y.mean(), y.mean((0, 2)), y.mean((1, 2)), y.mean(2)
    ms_fold = V * S * ((by_fold - grand) ** 2).sum() / (F - 1)
    both = cell - by_variant[:, None] - by_fold[None] + grand
    ms_both = S * (both**2).sum() / ((V - 1) * (F - 1))
    ms_rest = ((y - cell[..., None]) ** 2).sum() / (V * F * (S - 1))
    f, both_df, rest, tails = F - 1, (V - 1) * (F - 1), V * F * (S - 1), (0.975, 0.025)
    rows = [
        ("fold", (ms_fold - ms_both) / (V * S), *_williams_tukey(ms_fold, ms_both, f, both_df, V * S, tails)),
        ("variant x fold", (ms_both - ms_rest) / S, *_williams_tukey(ms_both, ms_rest, both_df, rest, S, tails)),
        ("seed", ms_rest, *(rest * ms_rest / stats.chi2.ppf(tail, rest) for tail in tails)),
    ]
    return _components(rows)


def seed_correlation(comparison: Comparison) -> float:
    """Correlation of the two variants' scores over the seeds of a fold, folds pooled; NaN if a score never varies.

    Near zero: pairing runs by seed buys nothing, and their seeds might as well differ.
    """
    scores = comparison.pairs.pivot(index="fold", columns="seed", values=["first", "second"])
    x, y = (scores[side].to_numpy() for side in ("first", "second"))
    x, y = (side - np.nanmean(side, 1, keepdims=True) for side in (x, y))
    scale = np.sqrt(np.nansum(x**2) * np.nansum(y**2))
    return float(np.nansum(x * y) / scale) if scale > 0 else float("nan")


def _components(rows: list[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["component", "variance", "low", "high"])
    frame["sd"] = np.sqrt(frame["variance"].where(frame["variance"] >= 0))
    return frame


def _williams_tukey(between: float, within: float, f: int, s: int, S: int, tails: tuple[float, float]) -> list[float]:
    """Limits of the variance between groups in a one-way design: f (MSB - MSW F_tail) / (S chi2_tail)."""
    return [float(f * (between - within * stats.f.ppf(t, f, s)) / (S * stats.chi2.ppf(t, f))) for t in tails]
