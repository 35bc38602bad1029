"""How large a difference is, in units that carry over to other studies; and where in the classes it lies."""

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from mmer_core.stats.compare import Comparison, compare, results_of


def effect_sizes(comparison: Comparison) -> pd.DataFrame:
    """Three sizes of one difference, a row each: size, value, meaning.

    In points; in standard deviations of one run (the scatter of both variants' runs around their own means, pooled);
    and as the probability that a run of the second beats a run of the first in the same fold (ties count half).
    """
    c = comparison
    scatter = np.sqrt((c.pairs["first"].var(ddof=1) + c.pairs["second"].var(ddof=1)) / 2)
    gaps = [np.subtract.outer(*mine[["second", "first"]].to_numpy().T) for _, mine in c.pairs.groupby("fold")]
    wins = [((gap > 0) + 0.5 * (gap == 0)).mean() for gap in gaps]
    in_scatter = c.difference / scatter if scatter > 0 else float("nan")
    rows = [
        ("points", 100 * c.difference, "second minus first, in per cent of the score"),
        ("SDs of one run", in_scatter, "beside the scatter of single runs"),
        ("P(second beats first)", float(np.mean(wins)), "one run of each in the same fold; 0.5 is a coin"),
    ]
    return pd.DataFrame(rows, columns=["size", "value", "meaning"])


def per_class(recalls: pd.DataFrame, first: str, second: str, rope: float) -> pd.DataFrame:
    """The difference in recall of each class, by `compare`, with Holm's correction over the classes.

    `recalls` has a row a run and class: variant, fold, seed, class, recall, n_train, n_test (`Study.recalls()`).
    Columns: class, first, second (mean recalls), difference, low, high (95%, not corrected), p, "p (Holm)", verdict.
    All are secondary. A class that some test part lacks has no recall there: it is left out, with NaN in its row.
    """
    both = pd.concat([results_of(recalls, variant) for variant in (first, second)])
    rows = []
    for name, mine in both.groupby("class", sort=False):
        if mine["recall"].isna().any():
            rows.append([name] + 7 * [float("nan")])
            continue
        c = compare(mine, first, second, "recall", rope=rope)
        means = c.folds[["first", "second"]].mean()
        rows.append([name, *means, c.difference, *c.interval95, c.p, c.verdict])
    table = pd.DataFrame(rows, columns=["class", "first", "second", "difference", "low", "high", "p", "verdict"])
    table.insert(7, "p (Holm)", holm(table["p"]))
    return table


def holm(p: pd.Series) -> np.ndarray:
    """Holm's adjusted p values; NaN stays NaN and does not count."""
    adjusted, known = np.full(len(p), np.nan), p.notna().to_numpy()
    if known.any():
        adjusted[known] = multipletests(p[known].to_numpy(float), method="holm")[1]
    return adjusted
