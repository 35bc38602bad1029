"""How far each method may be trusted: studies are simulated whose truth is known. It reports; it never chooses.

A study is d_fs = d + fold_f + seed_fs in points: fold_f has the SD t and is correlated by r between folds (their train
parts overlap, so their true differences are alike); seed_fs has the SD s sqrt(2), as both variants have seeds of SD s.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Comparison, of_sides
from mmer_core.stats.methods import THE_VERDICT, smallest_p
from mmer_core.stats.table import as_text, read, sides, tested_share
from mmer_core.stats.variance import difference_components, has_one_seed

RESAMPLES = 400  # of the bootstrap; a study's own has 2000, but here there are thousands of studies


class Truth(NamedTuple):
    """A world to simulate; all but r in points."""

    d: float  # true difference
    t: float  # SD over folds of the true difference
    s: float  # SD over seeds of one variant's score
    r: float = 0.0  # correlation of the folds' true differences


def simulate(truth: Truth, studies: int, folds: int = 5, seeds: int = 10, seed: int = 0) -> np.ndarray:
    """Differences of single runs, [studies, folds, seeds] in points."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((studies, 1, 1)), rng.standard_normal((studies, folds, 1))
    fold = truth.t * (np.sqrt(truth.r) * common + np.sqrt(1 - truth.r) * own)
    return truth.d + fold + truth.s * np.sqrt(2) * rng.standard_normal((studies, folds, seeds))


def _fold_means(d: np.ndarray, overlap: float) -> tuple[np.ndarray, ...]:
    """Student's t on the means of the folds: the verdict, or with overlap 0 the paired t test."""
    means, F = d.mean(2), d.shape[1]
    se = means.std(1, ddof=1) * np.sqrt(1 / F + overlap)
    return means.mean(1), stats.t.ppf(0.975, F - 1) * se, stats.t.ppf(0.95, F - 1) * se


def _normal(d: np.ndarray, se: np.ndarray) -> tuple[np.ndarray, ...]:
    return d.mean((1, 2)), 1.96 * se, 1.645 * se


def _mixed(d: np.ndarray, _: float) -> tuple[np.ndarray, ...]:
    """The mixed model's z: in a balanced design REML has the closed form max(MS between, pooled MS) / (F S)."""
    studies, F, S = d.shape
    between, total = S * d.mean(2).var(1, ddof=1), d.reshape(studies, -1).var(1, ddof=1)
    within = d.var(2, ddof=1).mean(1) if S > 1 else 0.0
    return _normal(d, np.sqrt(np.where(between > within, between, total) / (F * S)))


def _bootstrap(d: np.ndarray, _: float) -> tuple[np.ndarray, ...]:
    """Folds drawn with replacement, then seeds; limits from the normal law and the resamples' standard deviation."""
    studies, F, S = d.shape
    rng, weights = np.random.default_rng(1), np.zeros((RESAMPLES, F, S))
    for draw in range(RESAMPLES):
        for f in rng.integers(F, size=(F,)):
            np.add.at(weights[draw, f], rng.integers(S, size=S), 1)
    boot = d.reshape(studies, -1) @ weights.reshape(RESAMPLES, -1).T / (F * S)
    return _normal(d, boot.std(1))


# Each method: d [studies, folds, seeds] -> centre, half-widths of the 95% and the 90% interval, [studies] each.
METHODS: dict[str, Callable[[np.ndarray, float], tuple[np.ndarray, ...]]] = {
    THE_VERDICT: _fold_means,
    "paired t on all runs": lambda d, overlap: _fold_means(d.reshape(len(d), -1, 1), 0),
    "paired t on fold means": lambda d, overlap: _fold_means(d, 0),
    "mixed model (z)": _mixed,
    "hierarchical bootstrap": _bootstrap,
}


def rates(truth: Truth, margin: float, studies: int, folds: int, seeds: int, overlap: float) -> pd.DataFrame:
    """Shares of simulated studies: method, different, equivalent, covered (the 95% interval holds the truth)."""
    d, rows = simulate(truth, studies, folds, seeds), []
    for name, method in METHODS.items():
        centre, wide, narrow = method(d, overlap)
        answers = (abs(centre) > wide, abs(centre) + narrow < margin, abs(centre - truth.d) <= wide)
        rows.append((name, *(float(answer.mean()) for answer in answers)))
    name, different = f"Wilcoxon and sign flip (p is never below {smallest_p(folds):g})", 0.0
    if smallest_p(folds) <= 0.05:
        p = np.asarray(stats.wilcoxon(d.mean(2), axis=1, method="exact").pvalue)
        name, different = "Wilcoxon on fold means", float((p < 0.05).mean())
    rows.append((name, different, float("nan"), float("nan")))
    return pd.DataFrame(rows, columns=["method", "different", "equivalent", "covered"])


def calibration_table(
    comparison: Comparison, studies: int = 2000, correlations: tuple[float, ...] = (0, 0.1, 0.2)
) -> pd.DataFrame:
    """False positives, coverage and power of every method in studies like this one.

    The variances are those of the comparison, and once more at their upper 80% limits. Columns: variances, r, method,
    "false positives" (different, truth 0), "coverage" (of the 95% interval, truth 0), "power" (different, truth =
    margin), "right equivalence" (truth 0), "false equivalence" (truth = margin).
    """
    margin, parts = 100 * comparison.rope, []
    design = (studies, len(comparison.folds), max(1, round(comparison.seeds_a_fold)), comparison.overlap)
    for (label, (t, s)), r in itertools.product(variance_levels(comparison).items(), correlations):
        null, real = (rates(Truth(d, t, s, r), margin, *design) for d in (0.0, margin))
        part = {"variances": label, "r": r, "method": null["method"]}
        part |= {"false positives": null["different"], "coverage": null["covered"], "power": real["different"]}
        part |= {"right equivalence": null["equivalent"], "false equivalence": real["equivalent"]}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def variance_levels(comparison: Comparison) -> dict[str, tuple[float, float]]:
    """(t, s) in points as estimated (a negative variance counts as 0), and at the upper 80% limits of both.

    With one seed the two cannot be told apart: all variance then counts as between folds.
    """
    if has_one_seed(comparison):
        d = 100 * comparison.folds["difference"]
        high = (len(d) - 1) * d.var() / stats.chi2.ppf(0.1, len(d) - 1)
        return {"as estimated": (float(d.std()), 0.0), "upper 80% limit": (float(np.sqrt(high)), 0.0)}
    components = difference_components(comparison, level=0.80).set_index("component")
    between, within = components.loc["between folds"], components.loc["within folds (seeds)"]
    columns = {"as estimated": "variance", "upper 80% limit": "high"}
    return {level: (np.sqrt(max(between[c], 0)), np.sqrt(within[c] / 2)) for level, c in columns.items()}


def same_against_same(frame: pd.DataFrame, variant: str, metric: str, rope: float) -> Comparison:
    """A variant against itself: its runs with the earlier half of the seeds against those with the later half.

    A difference here means that seeds or pipeline are at fault. Both sides have the very same folds, so of how the
    verdict fares with folds it says nothing: `twins` does. MmerError with fewer than two seeds.
    """
    table = read(frame)
    (mine,) = sides(table, [variant], metric)
    seeds = sorted(mine["seed"].unique())
    if not (half := len(seeds) // 2):
        raise MmerError(f"{variant} has one seed; two are needed to set it against itself")
    names = [f"{as_text(variant)} (seeds {part[0]}..{part[-1]})" for part in (seeds[:half], seeds[half : 2 * half])]
    rank = mine["seed"].map(seeds.index)  # the n-th seed of one half is paired with the n-th of the other
    first, second = (mine[rank // half == n].assign(seed=rank % half) for n in (0, 1))
    return of_sides([first, second], (names[0], names[1]), metric, rope, tested_share(table, [variant]))


def twins(corpora: int = 300) -> pd.DataFrame:
    """The real thing: learners that are exchangeable by construction, on fresh corpora, in whole cross-validations.

    Each corpus is drawn anew: two classes, two blocks of features with the same distribution. Twin A sees one, twin B
    the other; both are linear discriminants (closed form), a seed is a random nine tenths of the train part. So every
    "different" is a mistake. Columns: method, "different" (the share of corpora where it says so; it promises 5%).
    """
    utterances, dims, folds, seeds = 200, 8, 5, 5
    rng, d = np.random.default_rng(0), np.empty((corpora, folds, seeds))
    for corpus in range(corpora):
        label = rng.integers(2, size=utterances)
        x = rng.standard_normal((2, utterances, dims)) + 0.25 * (2 * label - 1)[:, None]
        part = rng.permutation(utterances) % folds
        for f in range(folds):
            train, test = np.flatnonzero((part != f) & (part != (f + 1) % folds)), part == f
            for s in range(seeds):
                kept = rng.permutation(train)[: int(0.9 * len(train))]
                right = [_discriminant(b[kept], label[kept], b[test], label[test]) for b in x]
                d[corpus, f, s] = 100 * (right[1] - right[0])
    intervals = {name: method(d, 1 / (folds - 2)) for name, method in METHODS.items()}
    rows = [(name, float((abs(centre) > wide).mean())) for name, (centre, wide, _) in intervals.items()]
    return pd.DataFrame(rows, columns=["method", "different"])


def _discriminant(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """Accuracy of Fisher's linear discriminant with a little ridge."""
    means = np.stack([x[y == k].mean(0) for k in (0, 1)])
    centred = x - means[y]
    w = np.linalg.solve(centred.T @ centred / len(x) + 0.1 * np.eye(x.shape[1]), means[1] - means[0])
    return float((((x_test - means.mean(0)) @ w > 0) == y_test).mean())
