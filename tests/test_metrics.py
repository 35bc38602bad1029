"""Scores by hand, and the names of the paper beside the field's."""

import csv

import numpy as np
import pytest
from conftest import SHARED

from mmer_core.metrics import PUBLISHED_NAMES, confusion, published_results, scores

LABEL = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 2, 1, 1])


def test_scores_by_hand():
    found = scores(LABEL, PREDICTED, classes=4)  # nobody is, or is called, class 3
    assert found["accuracy"] == pytest.approx(5 / 9)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 3) / 3)
    assert found["macro_precision"] == pytest.approx((3 / 4 + 1 / 4 + 1 / 1 + 0) / 4)
    assert found["weighted_precision"] == pytest.approx((4 * 3 / 4 + 2 * 1 / 4 + 3 * 1) / 9)


def test_confusion_by_hand():
    assert confusion(LABEL, PREDICTED, 4).tolist() == [[3, 1, 0, 0], [1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0]]


def test_always_the_largest_class():
    found = scores(LABEL, np.zeros_like(LABEL), 3)
    assert found["accuracy"] == pytest.approx(4 / 9) and found["balanced_accuracy"] == pytest.approx(1 / 3)


def test_the_papers_names_are_swapped_against_amh():
    assert PUBLISHED_NAMES["balanced_accuracy"] == ("WA", "UA")
    assert PUBLISHED_NAMES["accuracy"] == ("UWA", "WA")


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
