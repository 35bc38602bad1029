"""Other people's numbers: verdicts from a published "mean ± SD", and from a corpus with one official split."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Difference, satterthwaite
from mmer_core.stats.utterances import Clusters, Predictions, checked, cluster_variance, told

NAMES = ("first", "second")
Names: TypeAlias = tuple[str, str]
Runs = Sequence[Mapping[str, np.ndarray]]  # for each seed: ids [N], label [N], logits [N, C] of the test part


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


def on_one_split(
    first: Runs, second: Runs, *, rope: float, names: Names = NAMES, clusters: Clusters = None, exploratory: str = ""
) -> Difference:
    """A verdict on accuracy for a corpus with one official split, from the runs of its seeds: see `on_each_split`."""
    if isinstance(first, Mapping) or isinstance(second, Mapping):
        raise MmerError("one split: expected a list of runs for each side; on_each_split takes {(fold, seed): run}")
    one, other = ({(1, n): run for n, run in enumerate(side, 1)} for side in (first, second))
    return on_each_split(one, other, rope=rope, names=names, clusters=clusters, exploratory=exploratory)[0]


def on_each_split(
    first: Predictions,
    second: Predictions,
    *,
    rope: float,
    names: Names,
    clusters: Clusters = None,
    exploratory: str = "",
) -> list[Difference]:
    """A verdict on accuracy for each fold by itself: it speaks of this split only. For studies of one or two folds.

    SE^2 = variance over clusters of test utterances + variance of both means over seeds; Welch's degrees of freedom.
    How the verdict would fare with other train utterances is not in the data. MmerError with fewer than two seeds.
    """
    tested, metric, found = checked(first, second, names), "accuracy, this split", []
    note = "This split only: training again with other seeds, and more test utterances like these, are accounted for;"
    note += " how the verdict would fare with another train part is not in the data."
    for t in tested:
        accuracy = [right.mean(1) for right in t.right()]
        if min(map(len, accuracy)) < 2:
            raise MmerError(f"one split needs two seeds or more of each variant; fold {t.fold} has one of a side")
        mean, se, groups = cluster_variance([t], clusters)
        parts = np.array([se**2, *(a.var(ddof=1) / len(a) for a in accuracy)])
        variance, df = float(parts.sum()), np.array([groups, *map(len, accuracy)]) - 1
        freedom = float(satterthwaite(parts, df)) if variance > 0 else groups - 1
        name = metric if len(tested) == 1 else f"{metric} (fold {t.fold})"
        estimate, notes = (mean, float(np.sqrt(variance)), freedom), [note, *told(variance, groups)]
        found.append(Difference(*names, name, rope, *estimate, notes=notes, exploratory=exploratory))
    return found
