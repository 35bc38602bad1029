"""How large a difference is, in units that carry over, as a probability of improvement, and class by class."""

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.compare import VERDICTS, Comparison, compare
from mmer_core.stats.table import Table, as_number, as_text, is_empty, read, results_of, tested_share
from mmer_core.stats.variance import Scatter, scatter

DRAWS = 10_000
NOTHING = 1e-12  # in the units of the metric: what rounding leaves of no scatter
KEY = ["fold", "seed", "class"]


def effect_sizes(comparison: Comparison) -> pd.DataFrame:
    """Three sizes of one difference, a row each: size, value, meaning.

    In points; in SDs of one run (the scatter of both variants' runs around their own means, pooled), left out if runs
    do not scatter; as the probability that a run of the second beats one of the first in its fold (ties count half).
    """
    c = comparison
    spread = np.sqrt(c.runs.groupby("side")["score"].var(ddof=1).mean())
    scores = c.runs.groupby(["fold", "side"])["score"].apply(np.array).unstack("side")
    gaps = [np.subtract.outer(second, first) for first, second in scores[["first", "second"]].to_numpy()]
    wins = [((gap > 0) + 0.5 * (gap == 0)).mean() for gap in gaps]
    rows = [("points", 100 * c.difference, "second minus first, in per cent of the score")]
    if spread > 1e-12:
        rows.append(("SDs of one run", c.difference / spread, "beside the scatter of single runs"))
    rows.append(("P(second beats first)", float(np.mean(wins)), "one run of each in the same fold; 0.5 is a coin"))
    return pd.DataFrame(rows, columns=["size", "value", "meaning"])


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
        apart = "chance of training and difference between folds cannot be told apart"
        says.append(f"With one seed of a variant, {apart}: for a new seed of the same fold there is no estimate.")
    elif between < noise:
        none = "the estimated variance between folds is negative and counts as none"
        says.append(f"Folds differ less than their seeds alone would make them: {none}.")
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
        said = (*c.interval95, c.p, c.verdict)
        if c.se < 1e-12:
            a, b = (recall_interval(mine, side).iloc[0] for side in (c.first, c.second))
            low = c.difference - np.hypot(b["recall"] - b["low"], a["high"] - a["recall"])
            high = c.difference + np.hypot(b["high"] - b["recall"], a["recall"] - a["low"])
            sure, small = low > 0 or high < 0, -rope < low and high < rope
            said = (low, high, 0.05 if sure else 1.0, VERDICTS[(3, 1, 0, 2)[small + 2 * sure]])
        rows.append([name, *means, c.difference, *said])
    return corrected(rows, ["class", "first", "second", "difference", "low", "high", "p", "verdict"])


def corrected(rows: list[list], columns: list[str]) -> pd.DataFrame:
    """A table with Holm's p over its rows, beside p."""
    table = pd.DataFrame(rows, columns=columns)
    table.insert(columns.index("p") + 1, "p (Holm)", holm(table["p"]))
    return table


def holm(p: pd.Series) -> np.ndarray:
    """Holm's adjusted p values; NaN stays NaN and does not count."""
    adjusted, known = np.full(len(p), np.nan), np.flatnonzero(p.notna())
    order = known[np.argsort(p.to_numpy(float)[known], kind="stable")]
    raised = p.to_numpy(float)[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return adjusted


def recall_interval(recalls: Table, variant: str) -> pd.DataFrame:
    """class, n, recall, low, high: the recall of each class and its 95% interval; n counts distinct utterances.

    With the column n (utterances of the class in the test part of a run; `Study.recalls()` has it) the recall is that
    of all n utterances, averaged over the seeds of their fold. The interval is Clopper and Pearson's for an effective
    sample size (Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 24, 1998): the n utterances, seeds not counting, or fewer where
    Student's t over the folds (raised for overlap as in `compare`) or, with one fold, over its seeds, is the wider. In
    simulations it holds the truth in 95% or more, except where hardly any fold finds a class at all (recalls of 5% with
    an SD of 10 points between folds: 91%). Without n: the t interval over the fold means, cut to [0, 1], and where the
    folds do not differ Clopper and Pearson's for as many utterances as folds. Classes that nobody has are left out.
    """
    mine = _checked(recalls, variant)
    counted, (share, _), rows = "n" in mine, tested_share(mine, [variant]), list[tuple]()
    overlap = 1 / max(mine["fold"].nunique() - 1, 1) if share is None else share  # as in `compare`
    for name, part in mine.dropna(subset="recall").groupby("class", sort=False):
        folds = part.groupby("fold")
        fold, n = folds["recall"].mean().to_numpy(), folds["n"].first().to_numpy() if counted else None
        if n is None and len(fold) < 2:
            raise MmerError(f"class {name!r} has a recall in one fold only: its interval needs the column n")
        if n is None:
            rows.append((name, *_student(fold, overlap)))
        elif len(fold) > 1:
            rows.append((name, int(n.sum()), *_proportion(fold, n, n.sum(), overlap)))
        else:
            seeds = part["recall"].to_numpy()
            rows.append((name, int(n[0]), *_proportion(seeds, np.ones(len(seeds)), n[0], 0.0)))
    return pd.DataFrame(rows, columns=["class", *(["n"] if counted else []), "recall", "low", "high"])


def _proportion(recall: np.ndarray, weight: np.ndarray, n: int, overlap: float) -> tuple[float, float, float]:
    """Weighted mean of the recalls of groups (folds or seeds) that test n utterances in all, and its interval."""
    w, G = weight / weight.sum(), len(recall)
    p, effective = min(float(w @ recall), 1.0), float(n)
    spread = G / max(G - 1, 1) * (w**2 @ (recall - p) ** 2) * (1 + G * overlap)
    if G > 1 and spread > 0:
        wider = (stats.t.ppf(0.975, G - 1) / stats.norm.ppf(0.975)) ** 2
        effective = min(effective, p * (1 - p) / (spread * wider))
    return p, *_clopper_pearson(p, effective)


def _clopper_pearson(p: float, n: float) -> tuple[float, float]:
    hits, misses = p * n, (1 - p) * n
    low = float(stats.beta.ppf(0.025, hits, misses + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, misses)) if misses > 0 else 1.0
    return low, high


def _student(fold: np.ndarray, overlap: float) -> tuple[float, float, float]:
    """Mean of the means of the folds, and Student's t over them, corrected for overlap."""
    F, mean = len(fold), float(fold.mean())
    if np.ptp(fold) < 1e-12:
        return mean, *_clopper_pearson(mean, F)
    reach = float(stats.t.ppf(0.975, F - 1) * fold.std(ddof=1) * np.sqrt(1 / F + overlap))
    return mean, max(mean - reach, 0.0), min(mean + reach, 1.0)


def _checked(recalls: Table, variant: str) -> pd.DataFrame:
    """The rows of the variant: ids as text, recall and n (where known) as numbers; MmerError names what is wrong."""
    mine = results_of(results_of(read(recalls), variant), variant, *KEY, "recall")  # a misspelt variant comes first
    mine = mine.reset_index(drop=True).assign(**{name: [as_text(v) for v in mine[name].tolist()] for name in KEY})
    _refuse((mine[KEY] == "").any(axis=1), mine, "fold, seed and class", "there in every row")
    _refuse(mine.duplicated(KEY), mine, "recalls", "given once; there are several results")
    recall, nobody = _numbers(mine["recall"])
    _refuse(~(recall.between(0, 1) | nobody), mine, "recalls", "numbers in [0, 1] (divide per cent by 100)")
    mine = mine.assign(recall=recall)
    if "n" not in mine:
        return mine
    n, unknown = _numbers(results_of(mine, variant, "n")["n"])
    if unknown.all():
        return mine.drop(columns="n")
    _refuse(~((n >= 0) & (n % 1 == 0)), mine, "n", "a whole number of utterances")
    _refuse((n == 0) != nobody, mine, "recall and n", "missing and 0 where nobody has the class, and only there")
    same = mine.assign(n=n).groupby(["fold", "class"])["n"].transform("nunique") == 1
    _refuse(~same, mine, "n", "the same for all seeds of a fold, which share its test part")
    return mine.assign(n=n.astype(int))


def _numbers(cells: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Cells as floats (NaN if they are none), and which of them are empty."""
    numbers = cells.map(as_number).astype(float).replace([np.inf, -np.inf], np.nan)
    return numbers, cells.map(is_empty).astype(bool)


def _refuse(wrong: pd.Series, mine: pd.DataFrame, what: str, wanted: str) -> None:
    """MmerError that names the first row with something wrong, and how many there are."""
    if wrong.any():
        row = mine[wrong.to_numpy()].iloc[0].to_dict()
        place = ", ".join(f"{name} {row[name]}" for name in ["variant", *KEY])
        values = {name: row[name] for name in ("recall", "n") if name in row}
        raise MmerError(f"{place}: expected {what} to be {wanted}; found {values} ({wrong.sum()} such rows)")
