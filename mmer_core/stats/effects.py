"""How large a difference is, in units that carry over to other studies; and where in the classes it lies."""

import numpy as np
import pandas as pd

from mmer_core.stats.compare import VERDICTS, Comparison, compare
from mmer_core.stats.recalls import recall_interval
from mmer_core.stats.table import read, results_of


def effect_sizes(comparison: Comparison) -> pd.DataFrame:
    """Three sizes of one difference, a row each: size, value, meaning.

    In points; in standard deviations of one run (the scatter of both variants' runs around their own means, pooled),
    left out if runs do not scatter; and as the probability that a run of the second beats a run of the first in the
    same fold (ties count half).
    """
    c = comparison
    scatter = np.sqrt(c.runs.groupby("side")["score"].var(ddof=1).mean())
    scores = c.runs.groupby(["fold", "side"])["score"].apply(np.array).unstack("side")
    gaps = [np.subtract.outer(second, first) for first, second in scores[["first", "second"]].to_numpy()]
    wins = [((gap > 0) + 0.5 * (gap == 0)).mean() for gap in gaps]
    rows = [("points", 100 * c.difference, "second minus first, in per cent of the score")]
    if scatter > 1e-12:
        rows.append(("SDs of one run", c.difference / scatter, "beside the scatter of single runs"))
    rows.append(("P(second beats first)", float(np.mean(wins)), "one run of each in the same fold; 0.5 is a coin"))
    return pd.DataFrame(rows, columns=["size", "value", "meaning"])


def per_class(recalls: pd.DataFrame, first: str, second: str, rope: float) -> pd.DataFrame:
    """The difference in recall of each class, by `compare`, with Holm's correction over the classes.

    `recalls` has a row a run and class: variant, fold, seed, class, recall, n_train, n_test (`Study.recalls()`).
    Columns: class, first, second (mean recalls), difference, low, high (95%, not corrected), p, "p (Holm)", verdict.
    All are secondary. A class that some test part lacks has no recall there: it is left out, with NaN in its row.

    Where all folds differ by the same, as where neither side ever finds a class, their scatter says nothing: the
    interval then follows from those of the two recalls (`recall_interval`; Newcombe, "Interval estimation for the
    difference between independent proportions", Statistics in Medicine 17, 1998), and p is its bound, 0.05 or 1.
    """
    table = read(recalls)
    both = pd.concat([results_of(table, variant, "class", "recall", "fold", "seed") for variant in (first, second)])
    rows: list[list] = []
    for name, mine in both.groupby("class", sort=False, observed=True):
        if mine["recall"].isna().any():
            rows.append([name] + 7 * [float("nan")])
            continue
        c = compare(mine, first, second, "recall", rope=rope)
        means = c.folds[["first", "second"]].mean()
        said = _from_both(mine, c) if c.se < 1e-12 else (*c.interval95, c.p, c.verdict)
        rows.append([name, *means, c.difference, *said])
    table = pd.DataFrame(rows, columns=["class", "first", "second", "difference", "low", "high", "p", "verdict"])
    table.insert(7, "p (Holm)", holm(table["p"]))
    return table


def _from_both(recalls: pd.DataFrame, c: Comparison) -> tuple[float, float, float, str]:
    """low, high, p and verdict of a difference without scatter, from the intervals of its two sides."""
    a, b = (recall_interval(recalls, side).iloc[0] for side in (c.first, c.second))
    low = c.difference - np.hypot(b["recall"] - b["low"], a["high"] - a["recall"])
    high = c.difference + np.hypot(b["high"] - b["recall"], a["recall"] - a["low"])
    sure, small = low > 0 or high < 0, -c.rope < low and high < c.rope
    return low, high, 0.05 if sure else 1.0, VERDICTS[(3, 1, 0, 2)[small + 2 * sure]]


def holm(p: pd.Series) -> np.ndarray:
    """Holm's adjusted p values; NaN stays NaN and does not count."""
    adjusted, known = np.full(len(p), np.nan), np.flatnonzero(p.notna())
    order = known[np.argsort(p.to_numpy(float)[known], kind="stable")]
    raised = p.to_numpy(float)[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return adjusted
