"""Recall of each class, with an interval that stays in [0, 1] and widens for rare classes."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mmer_core.errors import MmerError
from mmer_core.stats.table import as_number, as_text, read, results_of, tested_share

KEY = ["fold", "seed", "class"]


def recall_interval(recalls: pd.DataFrame | str | Path, variant: str) -> pd.DataFrame:
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
    counted, overlap = "n" in mine, _overlap(mine, variant)
    rows: list[tuple] = []
    for name, part in mine.dropna(subset="recall").groupby("class", sort=False):
        folds = part.groupby("fold")
        fold, n = folds["recall"].mean().to_numpy(), folds["n"].first().to_numpy() if counted else None
        if n is None and len(fold) < 2:
            raise MmerError(f"class {name!r} has a recall in one fold only: its interval needs the column n")
        if n is None:
            rows.append((name, float(fold.mean()), *_student(fold, overlap)))
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


def _student(fold: np.ndarray, overlap: float) -> tuple[float, float]:
    """Student's t over the means of the folds, corrected for overlap."""
    F, mean = len(fold), float(fold.mean())
    if np.ptp(fold) < 1e-12:
        return _clopper_pearson(mean, F)
    reach = float(stats.t.ppf(0.975, F - 1) * fold.std(ddof=1) * np.sqrt(1 / F + overlap))
    return max(mean - reach, 0.0), min(mean + reach, 1.0)


def _overlap(mine: pd.DataFrame, variant: str) -> float:
    """n_test / n_train, or as in `compare` 1 / (folds - 1) where they are not known."""
    share, _ = tested_share(mine, [variant])
    return 1 / max(mine["fold"].nunique() - 1, 1) if share is None else share


def _checked(recalls: pd.DataFrame | str | Path, variant: str) -> pd.DataFrame:
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
    values = cells.tolist()
    numbers = pd.Series([as_number(v) for v in values], cells.index, dtype=float).replace([np.inf, -np.inf], np.nan)
    return numbers, pd.Series([as_text(v).lower() in ("", "nan", "na") for v in values], cells.index)


def _refuse(wrong: pd.Series, mine: pd.DataFrame, what: str, wanted: str) -> None:
    """MmerError that names the first row with something wrong, and how many there are."""
    if wrong.any():
        row = mine[wrong.to_numpy()].iloc[0].to_dict()
        place = ", ".join(f"{name} {row[name]}" for name in ["variant", *KEY])
        values = {name: row[name] for name in ("recall", "n") if name in row}
        raise MmerError(f"{place}: expected {what} to be {wanted}; found {values} ({wrong.sum()} such rows)")
