"""Comparing two variants over the same folds: a difference, its interval, and a verdict.

Fifty scores from five folds are not fifty independent observations: runs of one fold share its test part, and the
train parts of different folds overlap. So the seeds of a fold are averaged first, and the variance of the fold means
is raised for the overlap (Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats


class Interval(NamedTuple):
    low: float
    high: float


class Test(NamedTuple):
    """One other method beside the verdict, and its limit in a sentence."""

    method: str
    estimate: float
    interval: Interval | None
    p: float
    limit: str


@dataclass(frozen=True)
class Comparison:
    """Two variants, paired by fold. All differences are second minus first, in [-1, 1] like the scores."""

    first: str
    second: str
    metric: str
    rope: float  # the margin: differences smaller than this do not matter
    pairs: pd.DataFrame  # fold, seed, first, second, difference: every seed that both variants have
    folds: pd.DataFrame  # fold, first, second, difference: means over seeds
    difference: float
    se: float
    p: float  # of no difference, two-sided
    interval95: Interval
    interval90: Interval
    notes: list[str] = field(default_factory=list)  # fall-backs that were taken, in words

    @property
    def verdict(self) -> str:
        """ "different", "equivalent", "negligible" (both: real but too small to matter) or "undecided" (neither)."""
        different = self.interval95.low > 0 or self.interval95.high < 0
        equivalent = -self.rope < self.interval90.low and self.interval90.high < self.rope
        return {(True, True): "negligible", (True, False): "different", (False, True): "equivalent"}.get(
            (different, equivalent), "undecided"
        )

    @property
    def exceeds_margin(self) -> bool:
        """The whole 95% interval lies beyond the margin."""
        return self.interval95.low > self.rope or self.interval95.high < -self.rope

    def sentence(self) -> str:
        """The verdict in words that claim no more than it does."""
        low, high = (f"{100 * x:+.1f}" for x in self.interval95)
        points = f"{100 * self.difference:+.1f} points of {self.metric} (95% interval {low} to {high})"
        margin = f"{100 * self.rope:g} points"
        meaning = {
            "different": "a difference of zero is excluded"
            + (
                ", and so is any smaller than " + margin
                if self.exceeds_margin
                else f"; whether it exceeds {margin} is open"
            ),
            "equivalent": f"a difference of {margin} or more is excluded",
            "negligible": f"a difference of zero is excluded, and so is one of {margin} or more",
            "undecided": f"neither zero nor a difference of {margin} is excluded; this is no evidence of equality",
        }[self.verdict]
        return f"{self.verdict}: {self.second} - {self.first}: {points}; {meaning}."

    def other_tests(self) -> pd.DataFrame:
        """Methods in common use beside the verdict's: method, estimate, interval, p, and what each cannot do."""
        d, pairs = self.folds["difference"].to_numpy(), self.pairs
        tests = [
            Test(
                "verdict: corrected t on fold means",
                self.difference,
                self.interval95,
                self.p,
                "five folds are few: wide intervals",
            )
        ]
        if len(pairs) > 1:
            t = stats.ttest_rel(pairs["second"], pairs["first"])
            tests.append(
                Test(
                    f"paired t on {len(pairs)} runs",
                    pairs["difference"].mean(),
                    Interval(*t.confidence_interval()),
                    t.pvalue,
                    "takes runs of one fold for independent: too optimistic as soon as folds differ",
                )
            )
        t = stats.ttest_rel(self.folds["second"], self.folds["first"])
        limit = "ignores that train parts overlap: an optimistic bound"
        tests.append(Test("paired t on fold means", d.mean(), Interval(*t.confidence_interval()), t.pvalue, limit))
        smallest = 2 ** (1 - len(d))
        if np.any(d != 0):
            p = stats.wilcoxon(d).pvalue
            tests.append(
                Test(
                    "Wilcoxon on fold means",
                    float(np.median(d)),
                    None,
                    p,
                    f"cannot go below p = {smallest:g} with {len(d)} folds",
                )
            )
        return pd.DataFrame(tests)


def compare(frame: pd.DataFrame, first: str, second: str, metric: str = "accuracy", *, rope: float) -> Comparison:
    """Compare two variants of a tidy frame of results.

    With d_f the difference of the seed means in fold f of F, s^2 their variance: SE^2 = s^2 (1/F + n_test/n_train), and
    Student's t with F - 1 degrees of freedom. n_train is without dev.

    Args:
        frame: columns variant, fold, seed and `metric`; n_train and n_test if known.
        first, second: names of variants in it; the difference is second minus first.
        rope: the margin, in the units of the metric: the smallest difference that matters. It has no default.

    Raises:
        ValueError: for a missing column or variant, folds without a partner, fewer than three folds, repeated runs,
            or NaN.
    """
    if missing := {"variant", "fold", "seed", metric} - set(frame.columns):
        raise ValueError(f"the frame lacks the columns {sorted(missing)}; it has {list(frame.columns)}")
    if not rope > 0:
        raise ValueError(f"rope is the smallest difference that matters, above 0; got {rope!r}")
    if first == second:
        raise ValueError(f"{first!r} cannot be compared with itself")
    sides = {}
    for name in (first, second):
        side = frame[frame["variant"] == name]
        if side.empty:
            raise ValueError(f"no results of {name!r}; there are {sorted(frame['variant'].unique())}")
        if not np.isfinite(side[metric].to_numpy(float)).all():
            raise ValueError(f"{metric} of {name} has missing values")
        if side.duplicated(["fold", "seed"]).any():
            raise ValueError(f"{name} has several results for one fold and seed; choose one study's results")
        sides[name] = side
    a, b = sides[first], sides[second]
    if alone := set(a["fold"]) ^ set(b["fold"]):
        raise ValueError(f"folds {sorted(alone)} have results of only one of {first}, {second}")

    means = [side.groupby("fold")[metric].mean() for side in (a, b)]
    folds = pd.DataFrame({"first": means[0], "second": means[1]}).reset_index()
    folds["difference"] = folds["second"] - folds["first"]
    d, F = folds["difference"].to_numpy(), len(folds)
    if F < 3:
        raise ValueError(f"a verdict needs three folds or more; there are {F}")
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
    if (unequal := pd.concat([s.groupby("fold").size() for s in (a, b)])).nunique() > 1:
        notes.append(f"Folds have between {unequal.min()} and {unequal.max()} seeds; every fold counts the same.")
    se = float(np.sqrt(d.var(ddof=1) * (1 / F + overlap)))
    if se == 0:
        notes.append("The difference is the same in all folds, so its interval is a point.")
        p = float(d.mean() == 0)
    else:
        p = float(2 * stats.t.sf(abs(d.mean()) / se, F - 1))
    reach = {level: stats.t.ppf((1 + level) / 2, F - 1) * se for level in (0.95, 0.90)}
    interval = {level: Interval(float(d.mean() - r), float(d.mean() + r)) for level, r in reach.items()}
    return Comparison(
        first, second, metric, rope, pairs, folds, float(d.mean()), se, p, interval[0.95], interval[0.90], notes
    )
