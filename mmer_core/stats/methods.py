"""Other methods beside the verdict, each with what it cannot do. None of them decides."""

import itertools
import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from mmer_core.stats.compare import Comparison, Interval

THE_VERDICT = "corrected t on fold means (the verdict)"
RESAMPLES = 2000


class Test(NamedTuple):
    """What one method says of a difference (second minus first)."""

    method: str
    estimate: float
    interval: Interval | None  # 95%
    p: float | None
    limit: str  # what it cannot do, in a sentence
    keeps_level: bool  # whether its errors stay near the promised 5% with few folds


def side_by_side(comparison: Comparison) -> pd.DataFrame:
    """All methods that need only the scores, a row each (see `Test`), the verdict's first."""
    c, d = comparison, comparison.folds["difference"].to_numpy()
    mean, F = c.difference, len(d)
    tests = [Test(THE_VERDICT, mean, c.interval95, c.p, "Few folds give wide intervals.", True)]
    if len(c.pairs) > F and c.pairs["fold"].nunique() == F:
        limit = "Takes runs of one fold for independent: too optimistic as soon as folds differ."
        tests.append(_t(f"paired t on {len(c.pairs)} runs", c.pairs["difference"].to_numpy(), limit))
        tests += [_mixed(c.pairs), _bootstrap(c.pairs)]
    elif max(c.seeds) > 1:
        limit = f"Need runs of both variants with the same seeds in every fold; {len(c.pairs)} runs have a partner."
        tests.append(Test("paired t, mixed model and bootstrap on runs", mean, None, None, limit, False))
    tests.append(_t("paired t on fold means", d, "Ignores the overlap of train parts: an optimistic bound."))
    floor = f"With {F} folds its p cannot go below {smallest_p(F):g}."
    d = d.round(12)  # ties stay ties
    ranks = np.sign(d) * stats.rankdata(abs(d)) - np.sign(d) * (d == 0).sum()  # zeros are left out; ties share a rank
    if ranks.any():
        tests.append(Test("Wilcoxon on fold means", float(np.median(d)), None, _flipped(ranks), floor, True))
    tests.append(Test("sign flip on fold means", mean, None, _flipped(d), floor, True))
    return pd.DataFrame(tests)


def _flipped(x: np.ndarray) -> float:
    """p of a sum, by flipping signs: all 2^F ways, or with many folds 20,000 at random and the one at hand."""
    F, rng = len(x), np.random.default_rng(0)
    every = F <= 16
    signs = np.array(list(itertools.product((1, -1), repeat=F))) if every else rng.choice([-1, 1], size=(20_000, F))
    extreme = (abs(signs @ x) >= abs(x.sum()) - 1e-12 * F).sum()
    return float(extreme / len(signs) if every else (extreme + 1) / (len(signs) + 1))


def smallest_p(folds: int) -> float:
    """Of tests that see but signs or ranks of the folds' differences: two of 2^folds outcomes are as extreme."""
    return 2.0 ** (1 - folds)


def bayesian(comparison: Comparison) -> dict[str, float]:
    """P(first better by the margin), P(equivalent), P(second better): the Bayesian correlated t on the fold means.

    With a flat prior the posterior of the difference is the verdict's own t: same centre, scale, degrees of freedom.
    """
    c = comparison
    beyond = [side - c.rope for side in (-c.difference, c.difference)]
    first, second = (float(stats.t.cdf(x / c.se, c.df)) if c.se > 0 else float(x > 0) for x in beyond)
    return {"first better": first, "equivalent": 1 - first - second, "second better": second}


def hinges_on_overlap(comparison: Comparison) -> bool:
    """Whether the verdict would be another one if the train parts of the folds did not overlap."""
    uncorrected = float(comparison.folds["difference"].std(ddof=1) / np.sqrt(len(comparison.folds)))
    return replace(comparison, se=uncorrected).verdict != comparison.verdict


def cautions(comparison: Comparison) -> list[str]:
    """What a reader of the verdict has to be warned of, in sentences.

    Disagreement counts only among methods that keep their level, and only where they could have said "different": with
    five folds Wilcoxon and sign flip never can.
    """
    sentences, name = [], f"{comparison.second} - {comparison.first}"
    if hinges_on_overlap(comparison):
        what = "without that correction the verdict would be another"
        sentences.append(f"{name} hinges on the overlap of training sets: {what}.")
    if smallest_p(len(comparison.folds)) >= 0.05:
        return sentences
    able = side_by_side(comparison).query("keeps_level")
    if (able["p"] < 0.05).nunique() > 1:
        says = ", ".join(f"{row.method} p = {row.p:.3f}" for row in able.itertuples())
        sentences.append(f"{name}: methods that keep their level disagree on whether zero is excluded: {says}.")
    return sentences


def _t(method: str, d: np.ndarray, limit: str) -> Test:
    if np.ptp(d) == 0:
        return Test(method, float(d[0]), Interval(d[0], d[0]), float(d[0] == 0), limit, False)
    t = stats.ttest_1samp(d, 0)
    return Test(method, float(d.mean()), Interval(*map(float, t.confidence_interval())), float(t.pvalue), limit, False)


def _mixed(pairs: pd.DataFrame) -> Test:
    """d_fs = d + fold_f + rest_fs by restricted maximum likelihood."""
    limit = "Its z takes the variance between folds for known and ignores the overlap: shown, not trusted."
    d = 100 * pairs["difference"].to_numpy()
    if np.ptp(d) == 0:
        return Test("mixed model (z)", d[0] / 100, None, None, limit, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of zero on the boundary is told by the components instead
        try:
            fit = MixedLM(d, np.ones((len(d), 1)), pairs["fold"].to_numpy()).fit(reml=True)
        except np.linalg.LinAlgError:  # its optimiser stepped onto a singular point
            return Test("mixed model (z)", float(d.mean()) / 100, None, None, f"{limit} Its fit failed here.", False)
    interval = Interval(*map(float, fit.conf_int()[0] / 100))
    return Test("mixed model (z)", float(fit.fe_params[0]) / 100, interval, float(fit.pvalues[0]), limit, False)


def _bootstrap(pairs: pd.DataFrame) -> Test:
    """Folds drawn with replacement, then seeds within each; the middle 95% of the means."""
    groups = [g.to_numpy() for _, g in pairs.groupby("fold")["difference"]]
    rng, F = np.random.default_rng(0), len(groups)
    means = np.stack([g[rng.integers(len(g), size=(RESAMPLES, F, len(g)))].mean(2) for g in groups])  # (F, R, F)
    drawn = rng.integers(F, size=(RESAMPLES, F))
    boot = means[drawn, np.arange(RESAMPLES)[:, None], np.arange(F)].mean(1)
    interval = Interval(*map(float, np.quantile(boot, [0.025, 0.975])))
    p = min(1.0, 2 * float(min((boot <= 0).mean(), (boot >= 0).mean())))
    centre = float(np.mean([g.mean() for g in groups]))
    limit = "With few folds its intervals are too short (see the calibration): shown, not trusted."
    return Test("hierarchical bootstrap", centre, interval, p, limit, False)
