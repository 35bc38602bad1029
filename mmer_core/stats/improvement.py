"""The difference as a reader grasps it: how likely one run of the second variant is to beat one run of the first."""

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Comparison
from mmer_core.stats.variance import Scatter, scatter

DRAWS = 10_000
NOTHING = 1e-12  # in the units of the metric: what rounding leaves of no scatter


def improvement(comparison: Comparison) -> pd.DataFrame:
    """Probability that one run of the second variant beats one of the first: where, probability, low, high (95%), says.

    The model is d_fs = d + fold_f + rest_fs with the variances t^2 and w. On a new fold it is Phi(d / sqrt(t^2 + w));
    on a new seed of the same fold the mean of Phi((d + fold_f) / sqrt(w)) over the folds at hand. Probability and 95%
    interval are quantiles (50, 2.5, 97.5%) of draws of what the data leave open: generalised pivotal quantities
    (Weerahandi, "Generalized confidence intervals", JASA 88, 1993). A mean square is its degrees of freedom over
    chi-square, d has the verdict's error (overlap included), and a fold's own difference is drawn between its mean and
    that of all. With one seed the second row cannot be estimated: it is left out, and the first one says so.
    """
    if not isinstance(comparison, Comparison):
        raise MmerError(f"an improvement on new folds needs a comparison over folds, not a {type(comparison).__name__}")
    folds, parts = comparison.folds["difference"].to_numpy(float), scatter(comparison)
    new_fold, same_fold = _draws(folds, parts, comparison.overlap)
    between = float(folds.var(ddof=1))
    known, noise = all(part.df for part in parts), sum(part.variance / part.seeds for part in parts)
    says = []
    if not known:
        says.append(
            "With one seed of a variant, chance of training and difference between folds cannot be told apart: for a "
            "new seed of the same fold there is no estimate."
        )
    elif between < noise:
        says.append(
            "Folds differ less than their seeds alone would make them: the estimated variance between folds is "
            "negative and counts as none."
        )
    if between < NOTHING**2 and noise < NOTHING**2:
        says.append("All differences are the same: nothing scatters, so the interval is a point.")
    elif known and noise < NOTHING**2:
        says.append("Seeds never change a difference: on a new seed it is the share of the folds at hand, a point.")
    draws = {"on a new fold": new_fold} | ({"on a new seed of the same fold": same_fold} if known else {})
    rows = [(where, *np.quantile(p, [0.5, 0.025, 0.975]).tolist(), " ".join(says)) for where, p in draws.items()]
    return pd.DataFrame(rows, columns=["where", "probability", "low", "high", "says"])


def _draws(folds: np.ndarray, parts: list[Scatter], overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """DRAWS of the two probabilities, from the mean differences of the folds [F]."""
    rng, F = np.random.default_rng(0), len(folds)
    drawn = [s.variance * s.df / rng.chisquare(max(s.df, 1), DRAWS) for s in parts]
    w, noise = np.sum(drawn, 0), np.sum([x / s.seeds for x, s in zip(drawn, parts, strict=True)], 0)
    mean = np.maximum(folds.var(ddof=1) * (F - 1) / rng.chisquare(F - 1, DRAWS), noise)  # of a fold: t^2 + noise
    t2, z = mean - noise, rng.standard_normal(DRAWS)
    new_fold = _beats(folds.mean() + z * np.sqrt(mean * (1 / F + overlap)), t2 + w)
    own = t2 / np.maximum(mean, NOTHING**2)  # how far a fold's own mean is trusted
    centre = (1 - own) * (folds.mean() + z * np.sqrt(mean / F))
    fold = own * folds[:, None] + centre + np.sqrt(own * noise) * rng.standard_normal((F, DRAWS))
    return new_fold, _beats(fold, w).mean(0)


def _beats(d: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """P(difference > 0) under the normal law; a tie, where nothing scatters, counts half."""
    return stats.norm.cdf(np.where(abs(d) < NOTHING, 0, d) / np.maximum(np.sqrt(variance), NOTHING))
