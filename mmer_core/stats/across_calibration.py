"""How far the statements about several corpora may be trusted: sets of corpora are simulated whose truth is known."""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.stats.across import FIXED, HETEROGENEITY, PREDICTION, RANDOM, SPEAKS_OF, combined, heterogeneity
from mmer_core.stats.calibration import Truth, simulate

FOLDS = 5
OVERLAP = 1 / (FOLDS - 2)  # a fold for test, one for dev, the rest for training
THESE, LIKE_THESE, ONE_MORE = (SPEAKS_OF[row] for row in (FIXED, RANDOM, PREDICTION))
USUAL = {  # what is usual in meta-analysis and not used here, and what it is taken to speak of
    "inverse variance, z": THESE,
    "inverse variance, Meier": THESE,
    "Paule-Mandel weights, Hartung-Knapp": LIKE_THESE,
    "Higgins et al.": ONE_MORE,
}


def across_calibration(studies: int = 4000, corpora: tuple[int, ...] = (2, 3, 5, 10)) -> pd.DataFrame:
    """Level and coverage of every row of `across`, and of what is usual instead, in simulated sets of corpora.

    Each corpus has five folds. Heterogeneity is the SD between corpora over the SD within (over the folds of a corpus,
    of a fold's mean difference); "unequal" is the largest SD within over the smallest; r is the correlation between
    folds, which the overlap of their train parts causes. Columns: corpora, heterogeneity, unequal, r, method, "speaks
    of", "false positives" (0 excluded where it is the truth), coverage (of the 95% interval), "false equivalence" (a
    truth at the margin excluded by the 90% interval), promised ("yes" where coverage is 94% or more and both errors are
    6% or less; with fewer than some 2000 studies that is for chance to say). NaN: there is no such thing.
    The fixed effect has a second row: read as if it spoke of corpora like these, which it does not.
    """
    rows = []
    for k, unequal, between, r in itertools.product(corpora, (1.0, 3.0), (0.0, 0.5, 1.0), (0.0, 0.2)):
        rows += [(k, between, unequal, r, *row) for row in _rates(studies, k, between, unequal, r)]
    columns = ["corpora", "heterogeneity", "unequal", "r", "method", "speaks of"]
    table = pd.DataFrame(rows, columns=[*columns, "false positives", "coverage", "false equivalence"])
    errors = table[["false positives", "false equivalence"]].fillna(0).max(axis=1)
    table["promised"] = np.where((table["coverage"] >= 0.94) & (errors <= 0.06), "yes", "no")
    return table


def _rates(studies: int, k: int, between: float, unequal: float, r: float) -> Iterator[tuple]:
    """method, speaks of, false positives, coverage, false equivalence."""
    true, new, d, variance = corpora_drawn(studies, k, between, unequal, r)
    truth = {THESE: true.mean(1), LIKE_THESE: np.zeros(studies), ONE_MORE: new}
    found = combined(d, variance, FOLDS - 1) | weighted(d, variance, FOLDS - 1)
    speaking = [(FIXED, THESE), (FIXED, LIKE_THESE), (RANDOM, LIKE_THESE), (PREDICTION, ONE_MORE), *USUAL.items()]
    for name, speaks_of in speaking:
        estimate, se, df = found[name]
        error = estimate - truth[speaks_of]
        covered = float((abs(error) <= stats.t.ppf(0.975, df) * se).mean())
        below = float((error + stats.t.ppf(0.95, df) * se < 0).mean())
        errors = (float("nan"),) * 2 if speaks_of == ONE_MORE else (1 - covered, below)
        yield name, speaks_of, errors[0], covered, errors[1]
    h, none = heterogeneity(d, variance, FOLDS - 1), float("nan")
    covered = float(((h.low <= between) & (between <= h.high)).mean())
    yield HETEROGENEITY, SPEAKS_OF[HETEROGENEITY], none if between else float((h.p < 0.05).mean()), covered, none


def corpora_drawn(studies: int, k: int, between: float, unequal: float, r: float) -> tuple[np.ndarray, ...]:
    """True differences [studies, k], that of one more corpus [studies], estimates and their variances [studies, k].

    The population's mean is 0, the geometric mean of the SDs within is 1.
    """
    rng = np.random.default_rng(1)
    true, new = between * rng.standard_normal((studies, k)), between * rng.standard_normal(studies)
    within = unequal ** np.linspace(-0.5, 0.5, k)
    folds = simulate(Truth(0, 1, 0, r), studies * k, FOLDS, 1).reshape(studies, k, FOLDS) * within[:, None]
    return true, new, true + folds.mean(2), folds.var(2, ddof=1) * (1 / FOLDS + OVERLAP)


def weighted(d: np.ndarray, variance: np.ndarray, df: float) -> dict[str, tuple]:
    """What is usual: weights of one over the variance. As `across.combined`, but with the names in USUAL.

    Meier (Biometrics 9, 1953) corrects variance and degrees of freedom for weights that are estimates.
    """
    k, endless = d.shape[-1], np.array(np.inf)
    mean, share, total = _mean(d, 1 / variance)
    meier = (1 + 4 * (share * (1 - share)).sum(-1) / df) / total
    tau2 = paule_mandel(d, variance)
    centre, share2, total2 = _mean(d, 1 / (variance + tau2[..., None]))
    knapp = (share2 * (d - centre[..., None]) ** 2).sum(-1) / (k - 1)
    estimates = [
        (mean, np.sqrt(1 / total), endless),
        (mean, np.sqrt(meier), df / (share**2).sum(-1)),
        (centre, np.sqrt(knapp), k - 1),
        (centre, np.sqrt(tau2 + 1 / total2), k - 1),
    ]
    return dict(zip(USUAL, estimates, strict=True))


def paule_mandel(d: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The variance between corpora at which Q is its expectation k - 1, by Newton's rule from 0; Q is convex in it."""
    tau2 = np.zeros(d.shape[:-1])
    for _ in range(60):  # it doubles while it is far, and the digits double when it is near
        w = 1 / (variance + tau2[..., None])
        gaps = (d - _mean(d, w)[0][..., None]) ** 2
        tau2 += np.maximum((w * gaps).sum(-1) - (d.shape[-1] - 1), 0) / np.maximum((w**2 * gaps).sum(-1), 1e-300)
    return tau2


def _mean(d: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weighted mean, the weights as shares, and their sum."""
    total = w.sum(-1)
    share = w / total[..., None]
    return (share * d).sum(-1), share, total
