"""Scores, and the translator between the names of the paper and those of the field.

What the paper prints as "WA" is the balanced accuracy, and its "UWA" is the plain accuracy; the AMH papers use the two
letters the other way round. Here only the field's names are used; `PUBLISHED_NAMES` shows the others beside them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score

PUBLISHED_NAMES = {  # ours: (the paper's, AMH's)
    "accuracy": ("UWA", "WA"),
    "balanced_accuracy": ("WA", "UA"),
    "macro_precision": ("UWP", None),
    "weighted_precision": ("WP", None),
}
METRICS = tuple(PUBLISHED_NAMES)
SOURCE = "Rajan, Brutti, Cavallaro, ICASSP 2022, slides: Results (1/2) and (2/2)"


def published_results() -> pd.DataFrame:
    """The study's own results on IEMOCAP (7 classes) under the field's names, in [0, 1].

    Columns: variant, balanced_accuracy, balanced_accuracy_std, accuracy, accuracy_std. Source: `SOURCE`.
    """
    per_cent = pd.read_csv(Path(__file__).with_name("published.csv"), index_col="variant")
    return per_cent.div(100).reset_index()


def scores(label: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float]:
    """Scores in [0, 1] of the predictions [N] for the labels [N], both in 0..classes-1.

    accuracy: share of utterances that are right. balanced_accuracy: mean of the recalls of the classes that occur among
    the labels (UAR, macro recall). macro_precision: mean of the precisions of all classes, 0 for one never predicted;
    weighted_precision: the same, weighted by the number of utterances.
    """
    precision = dict(labels=range(classes), zero_division=0)
    return {
        "accuracy": float(accuracy_score(label, predicted)),
        "balanced_accuracy": float(recall_score(label, predicted, labels=np.unique(label), average="macro")),
        "macro_precision": float(precision_score(label, predicted, average="macro", **precision)),
        "weighted_precision": float(precision_score(label, predicted, average="weighted", **precision)),
    }


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix [classes, classes] of counts: rows are labels, columns predictions."""
    return confusion_matrix(label, predicted, labels=range(classes))
