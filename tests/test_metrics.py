"""Scores by hand, and the names of the paper beside the field's."""

import csv

import numpy as np
import pytest
from conftest import CHECKOUT, SHARED
from sklearn import metrics as sklearn

from mmer_core.metrics import METRICS, confusion, names_elsewhere, published_results, scores, scores_from

LABEL = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 2, 1, 1])


def test_scores_by_hand():
    found = scores(LABEL, PREDICTED, classes=4)  # nobody is, or is called, class 3
    assert found["accuracy"] == pytest.approx(5 / 9)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 3) / 3)
    assert found["macro_precision"] == pytest.approx((3 / 4 + 1 / 4 + 1 / 1 + 0) / 4)
    assert found["weighted_precision"] == pytest.approx((4 * 3 / 4 + 2 * 1 / 4 + 3 * 1) / 9)
    f1 = 2 * 3 / (4 + 4), 2 * 1 / (2 + 4), 2 * 1 / (3 + 1)
    assert found["macro_f1"] == pytest.approx(sum(f1) / 3)  # of the classes that somebody is, or is called
    assert found["weighted_f1"] == pytest.approx((4 * f1[0] + 2 * f1[1] + 3 * f1[2]) / 9)
    assert tuple(found) == METRICS


@pytest.mark.parametrize("classes", [2, 3, 7, 12])
def test_scores_are_those_of_scikit_learn(rng, classes):
    """Also with classes that nobody is, or that are never predicted; and never more than 1."""
    for n in [*range(1, 12), 400]:
        label, predicted = rng.integers(classes, size=n), rng.integers(rng.integers(1, classes + 1), size=n)
        label, predicted = (np.where(rng.random(n) < 0.1, classes - 1, x) for x in (label, predicted))
        found, precision = scores(label, predicted, classes), dict(labels=range(classes), zero_division=0)
        wanted = {
            "accuracy": sklearn.accuracy_score(label, predicted),
            "balanced_accuracy": sklearn.recall_score(label, predicted, labels=np.unique(label), average="macro"),
            "macro_precision": sklearn.precision_score(label, predicted, average="macro", **precision),
            "weighted_precision": sklearn.precision_score(label, predicted, average="weighted", **precision),
            "weighted_f1": sklearn.f1_score(label, predicted, average="weighted", zero_division=0),
            "macro_f1": sklearn.f1_score(label, predicted, average="macro", zero_division=0),
        }
        assert found == pytest.approx(wanted, abs=1e-14)
        assert set(scores(label, label, classes).values()) <= {1.0, len(set(label)) / classes}
        expanded = np.indices((classes, classes)).reshape(2, -1).repeat(confusion(label, predicted, classes).ravel(), 1)
        assert scores_from(confusion(label, predicted, classes)) == scores(*expanded, classes) == found


def test_confusion_by_hand():
    assert confusion(LABEL, PREDICTED, 4).tolist() == [[3, 1, 0, 0], [1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0]]


def test_always_the_largest_class():
    found = scores(LABEL, np.zeros_like(LABEL), 3)
    assert found["accuracy"] == pytest.approx(4 / 9) and found["balanced_accuracy"] == pytest.approx(1 / 3)


def test_the_papers_names_are_swapped_against_the_fields():
    assert names_elsewhere("balanced_accuracy") == "WA (Rajan et al.), UA (AMH, EmoBox, emotion2vec)"
    assert names_elsewhere("accuracy") == "UWA (Rajan et al.), WA (AMH, EmoBox, emotion2vec)"
    assert "WF1 (emotion2vec)" in names_elsewhere("weighted_f1")


def test_the_readme_tells_the_same_names():
    text = " ".join((CHECKOUT / "README.md").read_text().split())
    for metric in METRICS:
        assert f"`{metric}` is {names_elsewhere(metric)}" in text


def test_published_numbers():
    found = published_results().set_index("variant")
    assert len(found) == 14
    assert found.loc["self_tva", "accuracy"] == pytest.approx(0.642)
    assert found.loc["cross_tva", "balanced_accuracy"] == pytest.approx(0.578)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared with the published table here")
def test_published_numbers_are_those_of_the_specification():
    found = published_results().set_index("variant")
    with open(SHARED / "spec" / "published_results.csv") as f:
        for row in csv.DictReader(f):
            modalities = "".join(m for m in "tva" if m in row["modalities"])
            name = f"{row['attention']}_{modalities}"
            name += "_nosp" if row["pooling"] == "none" and len(modalities) > 1 else ""
            for column, theirs in (("balanced_accuracy", "paper_WA"), ("accuracy", "paper_UWA")):
                assert found.loc[name, column] == pytest.approx(float(row[theirs]) / 100)
                std = row[f"{theirs}_std"]
                assert found.loc[name, f"{column}_std"] == pytest.approx(
                    float(std) / 100 if std else np.nan, nan_ok=True
                )
