"""What more runs would buy: the chance of each verdict, for the variances seen so far."""

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.stats.calibration import variance_levels
from mmer_core.stats.compare import VERDICTS, Comparison
from mmer_core.stats.variance import difference_components, has_one_seed, seed_share

DRAWS = 20_000  # simulated studies for each chance


def verdict_chances(d: float, t: float, s: float, folds: int, seeds: float, overlap: float, margin: float) -> dict:
    """Chance of each verdict if the true difference is d; all in points (see `calibration.Truth`), r = 0.

    The mean of the folds is normal and their variance a chi-square, so two random numbers make a study.
    """
    rng = np.random.default_rng(0)
    fold = t**2 + 2 * s**2 / seeds  # variance of a fold's mean difference
    mean = d + np.sqrt(fold / folds) * rng.standard_normal(DRAWS)
    se = np.sqrt(fold * rng.chisquare(folds - 1, DRAWS) / (folds - 1) * (1 / folds + overlap))
    different = abs(mean) > stats.t.ppf(0.975, folds - 1) * se
    equivalent = abs(mean) + stats.t.ppf(0.95, folds - 1) * se < margin
    cases = (different & ~equivalent, equivalent & ~different, different & equivalent, ~different & ~equivalent)
    return dict(zip(VERDICTS, (float(c.mean()) for c in cases), strict=True))


def chances_now(comparison: Comparison) -> pd.DataFrame:
    """Chance of each verdict for this design, if the truth is 0 and if it equals the margin."""
    t, s = variance_levels(comparison)["as estimated"]
    margin = 100 * comparison.rope
    design = (len(comparison.folds), comparison.seeds_a_fold, comparison.overlap, margin)
    return pd.DataFrame([{"true difference (points)": d, **verdict_chances(d, t, s, *design)} for d in (0.0, margin)])


def plan(comparison: Comparison, hours: float | None = None, sampling: float | None = None) -> pd.DataFrame:
    """What more seeds, folds, utterances or corpora would buy: expected 95% interval, chances, training hours in all.

    More folds of one corpus buy degrees of freedom, not data: each has fewer test utterances, so the part of t^2 that
    is test sampling grows as they shrink. More utterances shrink that part. More corpora are the only way to speak of
    more than one; their folds count as independent, and their true differences as no more unlike than those of folds.
    Where folds and seeds cannot be told apart (see `advice`) only corpora are offered: the rest would be guessed.

    Args:
        hours: of the runs of both variants so far (the ledger's seconds); there is no such column without them.
        sampling: `sampling_variance` of these runs, in squared points, if known; else all of t^2 counts as such.
    """
    t, s = variance_levels(comparison)["as estimated"]
    F, S = len(comparison.folds), comparison.seeds_a_fold
    margin, overlap = 100 * comparison.rope, comparison.overlap
    sampled = t**2 if sampling is None else min(t**2, sampling)
    rest = t**2 - sampled
    finer_overlap = overlap * (F - 1) / (2 * F - 1)  # n_test / n_train of twice the folds, which are half as large
    options = [("as it is", F, S, t**2, overlap, 1.0)]  # name, folds, seeds, t^2, overlap, hours as a multiple of now
    if not inseparable(comparison):
        options += [
            ("twice the seeds", F, 2 * S, t**2, overlap, 2.0),
            ("ten times the seeds", F, 10 * S, t**2, overlap, 10.0),
            ("twice the folds of this corpus", 2 * F, S, rest + 2 * sampled, finer_overlap, (2 * F - 1) / F),
            ("twice the utterances", F, S, rest + sampled / 2, overlap, 2.0),
            ("four times the utterances", F, S, rest + sampled / 4, overlap, 4.0),
        ]
    options += [
        ("a second corpus like this", 2 * F, S, t**2, overlap / 2, 2.0),
        ("three more corpora like this", 4 * F, S, t**2, overlap / 4, 4.0),
    ]
    rows = []
    for name, folds, seeds, t2, share, cost in options:
        half = stats.t.ppf(0.975, folds - 1) * np.sqrt((t2 + 2 * s**2 / seeds) * (1 / folds + share))
        real, null = (verdict_chances(d, t2**0.5, s, folds, seeds, share, margin) for d in (margin, 0.0))
        chances = (real["different"] + real["negligible"], null["equivalent"] + null["negligible"])
        rows.append((name, folds, seeds, half, *chances) + (() if hours is None else (hours * cost,)))
    promises = ["half-width (points)", "different, if the truth is the margin", "equivalent, if the truth is 0"]
    return pd.DataFrame(rows, columns=["option", "folds", "seeds", *promises] + ([] if hours is None else ["hours"]))


def inseparable(comparison: Comparison) -> str:
    """Why variance between folds and between seeds cannot be told apart in these runs; empty if it can."""
    if has_one_seed(comparison):
        return "with one seed the two are one"
    negative = difference_components(comparison)["variance"].iloc[0] < 0
    return "the variance between folds is estimated below 0: too small to be seen with so few runs" if negative else ""


def advice(comparison: Comparison) -> str:
    """On whether more seeds would help, in a sentence or two; no advice where that cannot be known."""
    if has_one_seed(comparison):
        return "With one seed nobody knows what more would buy: run a second one first."
    if comparison.se == 0:
        return "All folds differ by the same amount: more runs would say the same."
    share, (low, high) = seed_share(comparison)
    gain, least, most = (1 - np.sqrt(1 - x) for x in (share, low, high))
    between = f"anything from {least:.0%} to {most:.0%} shorter (95% interval)"
    if why := inseparable(comparison):
        return f"Folds and seeds cannot be told apart: {why}. Endless seeds might make the interval {between}."
    if most < 0.05:
        return f"More seeds buy nothing: even endless ones would make the interval only {gain:.0%} shorter."
    what = f"Seeds are {share:.0%} of the variance of a fold's difference"
    return f"{what}: endless ones would make the interval {gain:.0%} shorter; with so few runs, {between}."
