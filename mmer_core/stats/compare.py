"""Comparing two variants over the same folds: a difference, its interval, and a verdict.

Fifty scores from five folds are not fifty independent observations: runs of one fold share its test part, and the
train parts of different folds overlap. So the seeds of a fold are averaged first, and the variance of the fold means
is raised for the overlap (Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003).
"""

from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.table import Share, Table, as_text, read, sides, tested_share

VERDICTS = ("different", "equivalent", "negligible", "undecided")


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """An estimated difference, second minus first, in the units of the metric, and what follows from it."""

    first: str
    second: str
    metric: str
    rope: float  # the margin: differences smaller than this do not matter
    difference: float
    se: float
    df: float
    notes: list[str] = field(default_factory=list, kw_only=True)  # fall-backs that were taken, in words
    exploratory: str = field(default="", kw_only=True)  # why this was not declared before the runs; empty if it was

    def __post_init__(self) -> None:
        if isinstance(self.rope, bool) or not (isinstance(self.rope, Real) and 0 < self.rope < np.inf):
            raise MmerError(f"rope is the smallest difference that matters, above 0; got {self.rope!r}")

    @property
    def label(self) -> str:
        """The two sides, and what has to be known of them: that it is about one split, or still lacks runs."""
        split = self.metric.partition(", ")[2]
        interim = "interim" if any(note.startswith("Interim") for note in self.notes) else ""
        marks = ", ".join(filter(None, (split, interim)))
        return f"{self.second} − {self.first}" + (f" ({marks})" if marks else "")

    def interval(self, level: float) -> Interval:
        """Student's t interval with that coverage."""
        reach = float(stats.t.ppf((1 + level) / 2, self.df)) * self.se
        return Interval(self.difference - reach, self.difference + reach)

    @property
    def interval95(self) -> Interval:
        return self.interval(0.95)

    @property
    def interval90(self) -> Interval:
        return self.interval(0.90)

    @property
    def p(self) -> float:
        """Of no difference, two-sided."""
        if self.se == 0:
            return float(self.difference == 0)
        return float(2 * stats.t.sf(abs(self.difference) / self.se, self.df))

    @property
    def verdict(self) -> str:
        """One of four words.

        "different": the 95% interval excludes 0. "equivalent": the 90% interval lies inside the margin (two one-sided
        tests at 5%). "negligible": both, a real difference too small to matter. "undecided": neither.
        """
        (low, high), (inner_low, inner_high) = self.interval95, self.interval90
        different, equivalent = bool(low > 0 or high < 0), bool(-self.rope < inner_low and inner_high < self.rope)
        return (("undecided", "equivalent"), ("different", "negligible"))[different][equivalent]

    @property
    def exceeds_margin(self) -> bool:
        """The whole 95% interval lies beyond the margin."""
        return self.interval95.low > self.rope or self.interval95.high < -self.rope

    def sentence(self) -> str:
        """The verdict in words that claim no more than it does."""
        (low, high), (inner_low, inner_high) = self.interval95, self.interval90
        points = f"{100 * self.difference:+.1f} points of {self.metric}"
        points += f" (95% interval {100 * low:+.1f} to {100 * high:+.1f})"
        interval90 = f"90% interval {100 * inner_low:+.1f} to {100 * inner_high:+.1f}"
        margin = f"{100 * self.rope:g} points"
        smaller, unknown = f", and so is any smaller than {margin}", f"; whether it exceeds {margin} is open"
        beyond = smaller if self.exceeds_margin else unknown
        meaning = {
            "different": f"a difference of zero is excluded{beyond}",
            "equivalent": f"a difference of {margin} or more is excluded ({interval90})",
            "negligible": f"a difference of zero is excluded, and so is one of {margin} or more ({interval90})",
            "undecided": f"neither zero nor a difference of {margin} is excluded; this is no evidence of equality",
        }[self.verdict]
        stamp = f" Exploratory: {self.exploratory}." if self.exploratory else ""
        return f"{self.verdict}: {self.second} - {self.first}: {points}; {meaning}.{stamp}"


@dataclass(frozen=True)
class Comparison(Difference):
    """Two variants, paired by fold."""

    pairs: pd.DataFrame  # fold, seed, first, second, difference: every seed that both variants have
    folds: pd.DataFrame  # fold, first, second, difference: means over seeds
    overlap: float  # n_test / n_train, the correction for overlapping train parts
    runs: pd.DataFrame  # side ("first", "second"), fold, seed, score: all runs, whether or not they have a partner

    @property
    def seeds(self) -> tuple[int, int]:
        """How many seeds the first and the second variant have."""
        seeds = self.runs.groupby("side")["seed"].nunique()
        return int(seeds["first"]), int(seeds["second"])

    @property
    def seeds_a_fold(self) -> float:
        """Runs of one variant in a fold: the harmonic mean over variants and folds, which is what variances ask for."""
        return float(1 / (1 / self.runs.groupby(["side", "fold"]).size()).mean())

    @property
    def design(self) -> str:
        """So many folds and seeds, in words."""
        (first, second), F = self.seeds, len(self.folds)
        if first != second:
            return f"{F} folds, {first} seeds of {self.first} and {second} of {self.second}"
        return f"{F} folds and {first} seed{'s' if first > 1 else ''}"

    @property
    def paired(self) -> bool:
        """Whether every run has a partner of the same fold and seed."""
        return 2 * len(self.pairs) == len(self.runs)


def compare(
    frame: Table, first: str, second: str, metric: str = "accuracy", *, rope: float, exploratory: str = ""
) -> Comparison:
    """Compare two variants of a tidy frame of results, ours or anybody's.

    With d_f the difference of the seed means in fold f of F, s^2 their variance: SE^2 = s^2 (1/F + n_test/n_train), and
    Student's t with F - 1 degrees of freedom. n_train is without dev. MmerError for a missing column or variant, folds
    without a partner, fewer than three folds, repeated runs, NaN, or a margin that is none.

    Args:
        frame: columns variant, fold, seed and `metric` (in [0, 1]); n_train and n_test if known. Or a CSV file of that
            form. Variants that are not compared may hold anything. Ids may be numbers or text.
        first, second: names of variants in it; the difference is second minus first.
        rope: the margin, in the units of the metric: the smallest difference that matters. It has no default.
        exploratory: why this comparison, metric or margin was not declared before the runs, if so.
    """
    if isinstance(rope, Real) and rope >= 1:
        raise MmerError(f"rope is in the units of the scores, which are in [0, 1] (2 points are 0.02); got {rope!r}")
    table, first, second = read(frame), as_text(first), as_text(second)
    if first == second:
        raise MmerError(f"{first!r} cannot be compared with itself")
    names = (first, second)
    return of_sides(sides(table, names, metric), names, metric, rope, tested_share(table, names), exploratory)


def of_sides(
    runs_of: list[pd.DataFrame], names: tuple[str, str], metric: str, rope: float, tested: Share, exploratory: str = ""
) -> Comparison:
    """`compare` from checked runs of both variants (`table.sides`) and what is known of n_test / n_train."""
    a, b = runs_of
    if alone := set(a["fold"]) ^ set(b["fold"]):
        raise MmerError(f"folds {sorted(alone)} have results of only one of {names[0]}, {names[1]}")
    runs = pd.concat({"first": a, "second": b}, names=["side", None]).reset_index("side").reset_index(drop=True)
    first, second = a.groupby("fold")["score"].mean(), b.groupby("fold")["score"].mean()
    folds = pd.DataFrame({"first": first, "second": second, "difference": second - first}).reset_index()
    d, F = folds["difference"].to_numpy(), len(folds)
    if F < 3:
        raise MmerError(f"a verdict needs three folds or more; there are {F} (see stats.on_one_split)")
    pairs = a.merge(b, on=["fold", "seed"]).set_axis(["fold", "seed", "first", "second"], axis=1)
    pairs["difference"] = pairs["second"] - pairs["first"]
    (share, whole), notes = tested, []
    overlap = 1 / (F - 1) if share is None else share
    if share is None:
        notes.append(f"n_test / n_train is not known and taken as 1 / (folds - 1) = {overlap:.3f}.")
    elif not whole:
        notes.append("n_test / n_train is not known of every run; it is the mean of those that state it.")
    if len(pairs) < max(len(a), len(b)):
        notes.append("The variants do not have the same seeds; fold means are over each one's own.")
    counts = runs.groupby(["side", "fold"]).size()
    if counts.nunique() > 1:
        notes.append(f"Folds have between {counts.min()} and {counts.max()} seeds; every fold counts the same.")
    elif counts.max() == 1:
        notes.append("There is one seed: chance of training and difference between folds cannot be told apart.")
    variance = float(d.var(ddof=1)) if np.ptp(d) > 1e-12 else 0.0
    if variance == 0:
        notes.append("The difference is the same in all folds, so its interval is a point.")
    se = float(np.sqrt(variance * (1 / F + overlap)))
    estimate = (*names, metric, rope, float(d.mean()), se, F - 1)
    return Comparison(*estimate, pairs, folds, overlap, runs, notes=notes, exploratory=exploratory)


def from_summaries(first: tuple[float, float], second: tuple[float, float], folds: int, *, rope: float) -> pd.DataFrame:
    """The range of verdicts that two published "mean ± SD" allow: how the two vary together was not published.

    The SD of the difference lies between |SD1 - SD2| (folds that are hard for one are as hard for the other) and
    SD1 + SD2. Published SDs often mix folds and seeds; they are taken as SDs over folds here, which is too large then.
    `first` and `second` are (mean, SD) in the units of `rope`; `folds` is the number of folds, not of runs.
    Columns: correlation between the two over folds, se, low, high (95%), verdict.
    """
    if folds < 3:
        raise MmerError(f"a verdict needs three folds or more; got {folds}")
    if min(first[1], second[1]) < 0 or not np.isfinite([*first, *second]).all():
        raise MmerError(f"means and SDs are finite numbers, SDs not negative; got {first} and {second}")
    rows = []
    for rho in (-1.0, -0.5, 0.0, 0.5, 0.8, 0.9, 1.0):
        variance = max(first[1] ** 2 + second[1] ** 2 - 2 * rho * first[1] * second[1], 0.0)
        se = float(np.sqrt(variance * (1 / folds + 1 / (folds - 1))))
        possible = Difference("first", "second", "score", rope, second[0] - first[0], se, folds - 1)
        rows.append((rho, se, *possible.interval95, possible.verdict))
    return pd.DataFrame(rows, columns=["correlation", "se", "low", "high", "verdict"])


def satterthwaite(variance: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """Degrees of freedom of a sum of variances [..., parts] with df each (Biometrics Bulletin 2, 1946)."""
    return variance.sum(-1) ** 2 / (variance**2 / df).sum(-1)
