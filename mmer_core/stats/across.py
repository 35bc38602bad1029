"""One comparison on several corpora: what it says of each, of all of them, of corpora like these, and of one more.

Every corpus counts the same. Weights of one over the variance, as usual in meta-analysis, take the standard errors for
known; those of a few folds are not, and `across_calibration` shows that neither level nor coverage survive it. So the
variances are pooled, which is what statsmodels' `combine_effects` (Paule-Mandel) does when all are given their mean.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Difference, satterthwaite

FIXED, RANDOM, PREDICTION, HETEROGENEITY, SHARE = "fixed effect", "random effect", "prediction", "heterogeneity", "I²"
SPEAKS_OF = {
    FIXED: "these corpora",
    RANDOM: "corpora like these",
    PREDICTION: "one more corpus",
    HETEROGENEITY: "SD between corpora like these",
    SHARE: "share of the spread that the standard errors leave unexplained",
}
SPLIT = ", this split"  # what `on_one_split` adds to the name of the metric
COLUMNS = ["corpus", "difference", "se", "df", "low", "high", "90% low", "90% high", "p", "verdict", "speaks of"]
COLUMNS += ["exploratory", "first", "second", "metric", "margin"]
NUMBERS = {2: "Two", 3: "Three"}


class Heterogeneity(NamedTuple):
    """How unlike corpora are, arrays of one shape: SD between them, its 95% interval, p of no heterogeneity, I²."""

    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    share: np.ndarray


def across(comparisons: Mapping[str, Difference]) -> pd.DataFrame:
    """One comparison on several corpora, `{"IEMOCAP": comparison, "MELD": comparison, ...}`, a row for each statement.

    Rows: each corpus with its own verdict, then "fixed effect" (the mean of these corpora), "random effect" (the mean
    of corpora like these), "prediction" (the true difference on one more corpus like these), "heterogeneity" (the SD
    between corpora, with the p of Cochran's Q) and "I²" (a share). Columns: corpus, difference, se, df, low, high
    (95%), "90% low", "90% high", p, verdict, "speaks of", exploratory, first, second, metric, margin; differences in
    the units of the metric, NaN or "" where a row has no such thing. `across_notes` puts it into words. A comparison on
    one split (`on_one_split`) may stand beside others: its row says so, and so do the notes. MmerError unless there are
    two corpora or more, all with the same two variants, metric and margin, and each with a standard error above 0.
    """
    _refuse(comparisons)
    given = list(comparisons.values())
    one, k, why = given[0], len(given), "; ".join(dict.fromkeys(c.exploratory for c in given if c.exploratory))
    d, se, df = (np.array([getattr(c, what) for c in given], float) for what in ("difference", "se", "df"))
    metric = one.metric.partition(SPLIT)[0]
    rows = [_row(name, c, "this split" if SPLIT in c.metric else "this corpus") for name, c in comparisons.items()]
    for name, numbers in combined(d, se**2, df).items():
        together = Difference(one.first, one.second, metric, one.rope, *map(float, numbers), exploratory=why)
        rows.append(_row(name, together, SPEAKS_OF[name]))
    about = {column: rows[-1][column] for column in ("exploratory", "first", "second", "metric", "margin")}
    rows[-1] |= {"p": float("nan"), "verdict": ""}  # a prediction is no claim about a mean
    h = heterogeneity(d, se**2, df)
    spread = {"difference": float(h.sd), "low": float(h.low), "high": float(h.high), "p": float(h.p), "df": k - 1.0}
    for name, numbers_of in ((HETEROGENEITY, spread), (SHARE, {"difference": float(h.share)})):
        rows.append({"corpus": name, **numbers_of, "verdict": "", "speaks of": SPEAKS_OF[name], **about})
    return pd.DataFrame(rows, columns=COLUMNS)


def across_notes(table: pd.DataFrame) -> str:
    """What the table of `across` says, and what it does not, a line a sentence."""
    rows = table.set_index("corpus")
    own = table[~table["corpus"].isin(SPEAKS_OF)]
    k, splits = len(own), list(own.loc[own["speaks of"] == "this split", "corpus"])
    text = []
    for name, on in ((FIXED, f"the mean of these {k} corpora"), (RANDOM, "the mean of corpora like these")):
        row = rows.loc[name]
        c = Difference(*row[["first", "second", "metric", "margin", "difference", "se", "df"]])
        text.append(f"{name.capitalize()}, {on}: {c.sentence()}")
    low, high = 100 * rows.loc[PREDICTION, ["low", "high"]]
    sd, least, most = 100 * rows.loc[HETEROGENEITY, ["difference", "low", "high"]]
    text += [
        f"On one more corpus like these the true difference lies between {low:+.1f} and {high:+.1f} points (95%).",
        f"SD between corpora: {sd:.1f} points (95% interval {least:.1f} to {most:.1f}); 0 does not show them alike.",
    ]
    if k <= 3:
        wide = f"is {stats.t.ppf(0.975, k - 1):.1f} standard errors to either side, and the SD is hardly known"
        text.append(f"{NUMBERS[k]} corpora say little about corpora: the random effect's interval {wide}.")
    text += [
        "The fixed effect says nothing of a corpus that is not among these.",
        "Corpora like these are those that might as well have been taken: chosen by their results, they are not.",
    ]
    if splits:
        text.append(f"One split only: {', '.join(splits)}; how it would be with another train part is not in the data.")
    if why := rows.loc[FIXED, "exploratory"]:
        text.append(f"Exploratory: {why}.")
    return "\n".join(text)


def combined(d: np.ndarray, variance: np.ndarray, df: np.ndarray | float) -> dict[str, tuple]:
    """(estimate, SE, df) of the three effects from differences d [..., corpora], their variances and df (same).

    Fixed: the mean of these corpora, whose variance is that of a mean of independent estimates; degrees of freedom by
    `satterthwaite`. No heterogeneity disturbs it, since the mean is of these alone.
    Random: Hartung and Knapp (Statistics in Medicine 20, 2001) with equal weights, where it is Student's t over the
    corpora, and as usual their q is never below 1: corpora that agree by chance look no surer than each of them is.
    Prediction: Student's t for one further observation. The interval of Higgins, Thompson and Spiegelhalter (JRSS A
    172, 2009) subtracts the standard errors, which are raised for overlap: it is narrower, and misses too often.
    """
    k, mean, within = d.shape[-1], d.mean(-1), variance.mean(-1)
    spread = np.maximum(d.var(-1, ddof=1), within)
    return {
        FIXED: (mean, np.sqrt(within / k), satterthwaite(variance, df)),
        RANDOM: (mean, np.sqrt(spread / k), k - 1),
        PREDICTION: (mean, np.sqrt(spread * (1 + 1 / k)), k - 1),
    }


def heterogeneity(d: np.ndarray, variance: np.ndarray, df: np.ndarray | float) -> Heterogeneity:
    """The SD between corpora, and whether there is any; arguments as of `combined`.

    Paule and Mandel's estimate, Cochran's Q and the Q-profile interval (Viechtbauer, Statistics in Medicine 26, 2007)
    in their closed forms for equal variances; Q is compared with F, since the variances are estimates, too (Williams
    and Tukey's interval). The upper limit takes nothing off for the standard errors, which are raised for overlap.
    """
    k, spread, within = d.shape[-1], d.var(-1, ddof=1), variance.mean(-1)
    freedom, excess = satterthwaite(variance, df), np.maximum(spread - within, 0)
    low = (k - 1) * (spread - within * stats.f.ppf(0.975, k - 1, freedom)) / stats.chi2.ppf(0.975, k - 1)
    high = (k - 1) * spread / stats.chi2.ppf(0.025, k - 1)
    p = stats.f.sf(spread / within, k - 1, freedom)  # spread / within = Q / (k - 1)
    return Heterogeneity(np.sqrt(excess), np.sqrt(np.maximum(low, 0)), np.sqrt(high), p, excess / (excess + within))


def _row(name: str, c: Difference, speaks_of: str) -> dict:
    numbers = (c.difference, c.se, c.df, *c.interval95, *c.interval90, c.p)
    stamp = (c.exploratory, c.first, c.second, c.metric, c.rope)
    return dict(zip(COLUMNS, (name, *numbers, c.verdict, speaks_of, *stamp), strict=True))


def _refuse(comparisons: Mapping[str, Difference]) -> None:
    """MmerError for what cannot be combined."""
    if not isinstance(comparisons, Mapping) or not all(isinstance(c, Difference) for c in comparisons.values()):
        wanted = '{"name of a corpus": comparison, ...}, with what compare or on_one_split returned'
        raise MmerError(f"across takes {wanted}")
    if len(comparisons) < 2:
        raise MmerError(f"across needs two corpora or more; got {list(comparisons)}")
    (one, like), d = next(iter(comparisons.items())), [c.difference for c in comparisons.values()]
    for name, c in comparisons.items():
        _refuse_one(name, c)
        variants, margins = (f"{c.second} - {c.first}", f"{like.second} - {like.first}"), (c.rope, like.rope)
        metrics = c.metric.partition(SPLIT)[0], like.metric.partition(SPLIT)[0]
        about: dict[str, tuple] = {"variants": variants, "metric": metrics, "margin": margins}
        for what, (mine, wanted) in about.items():
            if mine != wanted:
                raise MmerError(f"{name} has another {what} than {one}: {mine}, not {wanted}")
    if np.ptp(d) <= 1e-12:
        raise MmerError(f"all corpora have the very same difference, {d[0]:g}: is one given twice?")


def _refuse_one(name: str, c: Difference) -> None:
    if not isinstance(name, str) or not name.strip() or name in SPEAKS_OF:
        raise MmerError(f"a corpus has a name that is text, and none of {list(SPEAKS_OF)}; got {name!r}")
    if not np.isfinite([c.difference, c.se, c.df]).all() or c.df <= 0:
        raise MmerError(f"{name}: difference, se and df are finite, df above 0; got {c.difference}, {c.se}, {c.df}")
    if c.se <= 0:
        unknown = "so that nothing is known of how sure it is; leave it out"
        raise MmerError(f"{name}: its standard error is {c.se:g}, {unknown}")
