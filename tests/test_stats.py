"""Verdicts against a closed form and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mmer_core as mc


def frame(a, b, n_train=600, n_test=200):
    """Scores [folds, seeds] of two variants as a tidy frame."""
    rows = [
        dict(variant=v, fold=f + 1, seed=s + 1, accuracy=x[f, s], n_train=n_train, n_test=n_test)
        for v, x in (("a", a), ("b", b))
        for f in range(len(x))
        for s in range(x.shape[1])
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def scores(rng):
    a = 0.6 + 0.02 * rng.standard_normal((5, 10))
    return a, a + 0.01 + 0.01 * rng.standard_normal((5, 10))


def test_interval_by_the_closed_form(scores):
    a, b = scores
    d = (b - a).mean(1)
    se = np.sqrt(d.var(ddof=1) * (1 / 5 + 200 / 600))
    found = mc.compare(frame(a, b), "a", "b", rope=0.02)
    assert found.difference == pytest.approx(d.mean())
    assert found.se == pytest.approx(se)
    assert found.interval95 == pytest.approx(stats.t.interval(0.95, 4, d.mean(), se))
    assert found.interval90 == pytest.approx(stats.t.interval(0.90, 4, d.mean(), se))
    assert found.p == pytest.approx(2 * stats.t.cdf(-abs(d.mean() / se), 4))
    assert found.notes == []


def test_direction_is_second_minus_first(scores):
    found, back = (mc.compare(frame(*scores), *pair, rope=0.02) for pair in (("a", "b"), ("b", "a")))
    assert found.difference == -back.difference
    assert found.interval95.low == pytest.approx(-back.interval95.high)


@pytest.mark.parametrize(
    ("difference", "scatter", "rope", "verdict", "exceeds"),
    [
        (0.05, 0.002, 0.02, "different", True),
        (0.05, 0.002, 0.049, "different", False),
        (0.01, 0.002, 0.02, "negligible", False),
        (0.0, 0.002, 0.02, "equivalent", False),
        (0.0, 0.1, 0.02, "undecided", False),
    ],
)
def test_each_verdict(difference, scatter, rope, verdict, exceeds):
    a = np.full((5, 2), 0.6)
    b = a + difference + scatter * np.array([-1, -0.5, 0, 0.5, 1])[:, None]
    found = mc.compare(frame(a, b), "a", "b", rope=rope)
    assert (found.verdict, found.exceeds_margin) == (verdict, exceeds)
    assert found.sentence().startswith(verdict)
    inner = f"90% interval {100 * found.interval90.low:+.1f} to {100 * found.interval90.high:+.1f}"
    assert (inner in found.sentence()) == (verdict in ("equivalent", "negligible"))  # what excludes the margin


def test_without_counts_the_overlap_is_a_fold_of_the_rest_and_said(scores):
    plain = frame(*scores).drop(columns=["n_train", "n_test"])
    found = mc.compare(plain, "a", "b", rope=0.02)
    d = (scores[1] - scores[0]).mean(1)
    assert found.se == pytest.approx(np.sqrt(d.var(ddof=1) * (1 / 5 + 1 / 4)))
    assert "not known" in found.notes[0]


def test_different_seeds_are_said(scores):
    f = frame(*scores)
    found = mc.compare(f[~((f["variant"] == "b") & (f["seed"] > 7))], "a", "b", rope=0.02)
    assert len(found.pairs) == 35
    assert any("same seeds" in note for note in found.notes)


def test_a_constant_difference_has_a_point_for_an_interval():
    a = np.full((5, 2), 0.5)
    found = mc.compare(frame(a, a), "a", "b", rope=0.02)
    assert (found.verdict, found.p, found.interval95) == ("equivalent", 1.0, (0.0, 0.0))
    assert any("point" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="seed"), "seed"),
        (lambda f: f[f["variant"] == "a"], "no results of 'b'"),
        (lambda f: f[~((f["variant"] == "b") & (f["fold"] == 2))], r"folds \[2\]"),
        (lambda f: f[f["fold"] < 3], "three folds"),
        (lambda f: pd.concat([f, f]), "several results"),
        (lambda f: f.assign(accuracy=f["accuracy"].where(f["seed"] > 1)), "missing values"),
    ],
)
def test_bad_frames_are_refused(scores, change, message):
    with pytest.raises(ValueError, match=message):
        mc.compare(change(frame(*scores)), "a", "b", rope=0.02)


def test_the_margin_has_no_default(scores):
    with pytest.raises(TypeError, match="rope"):
        mc.compare(frame(*scores), "a", "b")
    with pytest.raises(ValueError, match="rope"):
        mc.compare(frame(*scores), "a", "b", rope=0)
    with pytest.raises(ValueError, match="itself"):
        mc.compare(frame(*scores), "a", "a", rope=0.02)
