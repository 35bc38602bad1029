"""Comparing two variants over the same folds: a difference, its interval, and a verdict.

Fifty scores from five folds are not fifty independent observations: runs of one fold share its test part, and the
train parts of different folds overlap. So the seeds of a fold are averaged first, and the variance of the fold means
is raised for the overlap (Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError

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
        if not self.rope > 0:
            raise MmerError(f"rope is the smallest difference that matters, above 0; got {self.rope!r}")

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
        different, equivalent = low > 0 or high < 0, -self.rope < inner_low and inner_high < self.rope
        if different:
            return "negligible" if equivalent else "different"
        return "equivalent" if equivalent else "undecided"

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
        beyond = f"; whether it exceeds {margin} is open"
        if self.exceeds_margin:
            beyond = f", and so is any smaller than {margin}"
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


def compare(
    frame: pd.DataFrame | str | Path,
    first: str,
    second: str,
    metric: str = "accuracy",
    *,
    rope: float,
    exploratory: str = "",
) -> Comparison:
    """Compare two variants of a tidy frame of results, ours or anybody's.

    With d_f the difference of the seed means in fold f of F, s^2 their variance: SE^2 = s^2 (1/F + n_test/n_train), and
    Student's t with F - 1 degrees of freedom. n_train is without dev. MmerError for a missing column or variant, folds
    without a partner, fewer than three folds, repeated runs, NaN, or a margin that is none.

    Args:
        frame: columns variant, fold, seed and `metric`; n_train and n_test if known. Or a CSV file of that form.
        first, second: names of variants in it; the difference is second minus first.
        rope: the margin, in the units of the metric: the smallest difference that matters. It has no default.
        exploratory: why this comparison, metric or margin was not declared before the runs, if so.
    """
    if isinstance(frame, (str, Path)):
        frame = pd.read_csv(frame)
    a, b = _sides(frame, first, second, metric)
    means = [side.groupby("fold")[metric].mean() for side in (a, b)]
    folds = pd.DataFrame({"first": means[0], "second": means[1]}).reset_index()
    folds["difference"] = folds["second"] - folds["first"]
    d, F = folds["difference"].to_numpy(), len(folds)
    if F < 3:
        raise MmerError(f"a verdict needs three folds or more; there are {F}")
    pairs = a[["fold", "seed", metric]].merge(b[["fold", "seed", metric]], on=["fold", "seed"])
    pairs.columns = ["fold", "seed", "first", "second"]
    pairs["difference"] = pairs["second"] - pairs["first"]

    notes = []
    if {"n_train", "n_test"} <= set(frame.columns):
        overlap = float((a["n_test"] / a["n_train"]).mean())
    else:
        overlap = 1 / (F - 1)
        notes.append(f"n_test / n_train is not known and taken as 1 / (folds - 1) = {overlap:.3f}.")
    if len(pairs) < max(len(a), len(b)):
        notes.append("The variants do not have the same seeds; fold means are over each one's own.")
    counts = pd.concat([side.groupby("fold").size() for side in (a, b)])
    if counts.nunique() > 1:
        notes.append(f"Folds have between {counts.min()} and {counts.max()} seeds; every fold counts the same.")
    elif counts.max() == 1:
        notes.append("There is one seed: chance of training and difference between folds cannot be told apart.")
    variance = float(d.var(ddof=1)) if np.ptp(d) > 1e-12 else 0.0
    if variance == 0:
        notes.append("The difference is the same in all folds, so its interval is a point.")
    se = float(np.sqrt(variance * (1 / F + overlap)))
    estimate = (first, second, metric, rope, float(d.mean()), se, F - 1)
    return Comparison(*estimate, pairs, folds, overlap, notes=notes, exploratory=exploratory)


def results_of(frame: pd.DataFrame, variant: str) -> pd.DataFrame:
    """The rows of one variant; MmerError if there are none."""
    mine = frame[frame["variant"] == variant]
    if mine.empty:
        raise MmerError(f"no results of {variant!r}; there are {sorted(map(str, frame['variant'].unique()))}")
    return mine


def _sides(frame: pd.DataFrame, first: str, second: str, metric: str) -> list[pd.DataFrame]:
    """The results of both variants, checked."""
    if missing := {"variant", "fold", "seed", metric} - set(frame.columns):
        raise MmerError(f"the frame lacks the columns {sorted(missing)}; it has {list(frame.columns)}")
    if first == second:
        raise MmerError(f"{first!r} cannot be compared with itself")
    sides = [results_of(frame, name) for name in (first, second)]
    for name, side in zip((first, second), sides, strict=True):
        if not np.isfinite(pd.to_numeric(side[metric], errors="coerce").to_numpy(float)).all():
            raise MmerError(f"{metric} of {name} has missing values, or some that are no numbers")
        if side.duplicated(["fold", "seed"]).any():
            raise MmerError(f"{name} has several results for one fold and seed; choose one study's results")
    if alone := set(sides[0]["fold"]) ^ set(sides[1]["fold"]):
        raise MmerError(f"folds {sorted(alone)} have results of only one of {first}, {second}")
    return sides
