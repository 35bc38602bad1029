"""Other people's numbers: verdicts from a published "mean ± SD", and from a corpus with one official split."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Difference
from mmer_core.stats.methods import Clusters, cluster_variance

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
    first: Runs, second: Runs, *, rope: float, names: tuple[str, str] = ("first", "second"), clusters: Clusters = None
) -> Difference:
    """A verdict on accuracy for a corpus with one official split: it speaks of this split only.

    SE^2 = variance over clusters of test utterances + variance of both means over seeds; Welch's degrees of freedom.
    How the verdict would fare with other train utterances is not in the data. It needs two seeds or more.
    """
    if min(len(first), len(second)) < 2:
        raise MmerError("one split needs two seeds or more of each variant")
    if any(sorted(p["ids"]) != sorted(first[0]["ids"]) for p in (*first, *second)):
        raise MmerError("the runs were not tested on the same utterances")
    one, other = ({(1, seed): p for seed, p in enumerate(side)} for side in (first, second))
    mean, se, groups = cluster_variance(one, other, clusters)
    parts = [(se**2, groups - 1)]  # variance, degrees of freedom
    for side in (first, second):
        accuracy = [float((p["logits"].argmax(1) == p["label"]).mean()) for p in side]
        parts.append((float(np.var(accuracy, ddof=1)) / len(side), len(side) - 1))
    variance = sum(v for v, _ in parts)
    df = variance**2 / sum(v**2 / n for v, n in parts) if variance > 0 else groups - 1
    note = "This split: the verdict does not speak of other train or test utterances drawn anew."
    return Difference(*names, "accuracy, this split", rope, mean, float(np.sqrt(variance)), df, notes=[note])
