"""Scores, and the translator between the names of the paper and those of the field.

What the paper prints as "WA" is the balanced accuracy, and its "UWA" is the plain accuracy; AMH and others use the two
letters the other way round. Here only the names on the left are used; `names_elsewhere` shows the others beside them.
"""

from pathlib import Path

import numpy as np
import pandas as pd

# Our names, and what others call the same number. Looked up in the slides (`SOURCE`) and in their code on GitHub: AMH
# david-yoon/attentive-modality-hopping-for-SER; EmoBox emo-box/EmoBox, EmoEval.py; emotion2vec ddlBoJack/emotion2vec,
# iemocap_downstream/utils.py; conv-emotion (DialogueRNN, COSMIC and others) declare-lab/conv-emotion, README.
_NAMES = pd.read_csv(Path(__file__).with_name("names_elsewhere.csv"), index_col="who").groupby("metric", sort=False)
PUBLISHED_NAMES: dict[str, dict[str, str]] = {str(metric): names["name"].to_dict() for metric, names in _NAMES}
METRICS = tuple(PUBLISHED_NAMES)
SOURCE = "Rajan, Brutti, Cavallaro, ICASSP 2022, slides: Results (1/2) and (2/2)"


def names_elsewhere(metric: str) -> str:
    """What others call a score, and who does, such as "UWA (Rajan et al.), WA (AMH, EmoBox, emotion2vec)"."""
    others = PUBLISHED_NAMES[metric]
    users = {name: ", ".join(who for who in others if others[who] == name) for name in others.values()}
    return ", ".join(f"{name} ({who})" for name, who in users.items())


def published_results() -> pd.DataFrame:
    """The study's own results on IEMOCAP (7 classes) under the field's names, in [0, 1].

    Columns: variant, balanced_accuracy, balanced_accuracy_std, accuracy, accuracy_std. Source: `SOURCE`.
    """
    per_cent = pd.read_csv(Path(__file__).with_name("published.csv"), index_col="variant")
    return per_cent.div(100).reset_index()


def scores(label: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float]:
    """Scores in [0, 1] of the predictions [N] for the labels [N], both in 0..classes-1; see `scores_from`."""
    return scores_from(confusion(label, predicted, classes))


def scores_from(confusion: np.ndarray) -> dict[str, float]:
    """Scores in [0, 1] from a confusion matrix [C, C] of counts (rows are labels), defined as in scikit-learn.

    accuracy: share of utterances that are right. balanced_accuracy: mean of the recalls of the classes that occur among
    the labels (UAR, macro recall). macro_precision: mean of the precisions of all classes, 0 for one never predicted;
    weighted_precision: the same, weighted by the number of utterances. F1 of a class: 2 right / (labels + predictions);
    weighted_f1: weighted by the number of utterances; macro_f1: mean of the classes among labels or predictions.
    """
    right, called, occurs = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall, f1 = _share(right, called), _share(right, occurs), _share(2 * right, called + occurs)
    total = occurs.sum()
    found = {
        "accuracy": right.sum() / total,
        "balanced_accuracy": recall[occurs > 0].mean(),
        "macro_precision": precision.mean(),
        "weighted_precision": precision @ occurs / total,
        "weighted_f1": f1 @ occurs / total,
        "macro_f1": f1[called + occurs > 0].mean(),
    }
    return {metric: float(score) for metric, score in found.items()}


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part by whole, each [C]; 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix [classes, classes] of counts: rows are labels, columns predictions."""
    cells = np.ravel_multi_index((label, predicted), (classes, classes))
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)
