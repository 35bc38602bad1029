"""How likely a run of the second variant is to beat one of the first: planted truths, and what cannot be estimated."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from test_stats import frame
from test_stats_methods import compared

import mmer_core as mc
from mmer_core import stats

NEW_FOLD, SAME_FOLD = "on a new fold", "on a new seed of the same fold"


def study(rng, d, t, s, seeds, folds=5):
    """Differences of single runs [folds, seeds] in points, and the two true probabilities."""
    own = d + t * rng.standard_normal((folds, 1))
    truth = norm.cdf(d / np.sqrt(t**2 + 2 * s**2)), norm.cdf(own / (np.sqrt(2) * s)).mean()
    return own + np.sqrt(2) * s * rng.standard_normal((folds, seeds)), truth


def apart(d):
    """The same differences, but neither side has a seed of the other's: they can only be had side by side."""
    first = 0.5 + 0.01 * np.random.default_rng(3).standard_normal(d.shape) / np.sqrt(2) * d.std()
    both = frame(first, 0.5 + d / 100)
    return stats.compare(both.assign(seed=both["seed"] + 1000 * (both["variant"] == "b")), "a", "b", rope=0.02)


def test_a_large_study_finds_the_truth(rng):
    d, truth = study(rng, 0.8, 1.0, 0.7, seeds=60, folds=150)
    found = stats.improvement(compared(d, n_test=1)).set_index("where")
    assert found.loc[NEW_FOLD, "probability"] == pytest.approx(truth[0], abs=0.05)
    assert found.loc[SAME_FOLD, "probability"] == pytest.approx(truth[1], abs=0.01)
    brute = np.mean(rng.permutation(d.ravel()) > 0)  # any run of any fold
    assert found.loc[NEW_FOLD, "probability"] == pytest.approx(brute, abs=0.01)
    assert (found["says"] == "").all()


def test_it_has_a_direction(rng):
    d, _ = study(rng, 1.0, 1.0, 1.0, 10)
    forth, back = (stats.improvement(compared(x)) for x in (d, -d))
    assert forth["probability"].to_numpy() == pytest.approx(1 - back["probability"], abs=0.01)
    assert forth["low"].to_numpy() == pytest.approx(1 - back["high"], abs=0.02)
    pd.testing.assert_frame_equal(forth, stats.improvement(compared(d)))  # draws, but always the same


@pytest.mark.parametrize("studies", [40, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("d", "t", "s", "seeds"), [(0, 0, 1.5, 2), (1, 0, 0.5, 2), (1, 2, 0.5, 10), (0, 1, 1.5, 10)])
def test_intervals_hold_the_truth(d, t, s, seeds, studies, monkeypatch):
    monkeypatch.setattr(sys.modules["mmer_core.stats.effects"], "DRAWS", 4000)
    rng, held = np.random.default_rng(8), np.zeros(2)
    for _ in range(studies):
        found, truth = study(rng, d, t, s, seeds)
        table, truth = stats.improvement(compared(found)), np.array(truth)
        held += (table["low"] <= truth) & (truth <= table["high"])
    assert (held / studies >= (0.93 if studies > 500 else 0.87)).all(), held / studies


def test_other_peoples_seeds(rng):
    """Without partners the variance of a difference is the sum of both sides'; seeds may differ in number, too."""
    d, _ = study(rng, 0.5, 0.5, 1.0, 50, 80)
    c = apart(d)
    assert c.pairs.empty
    found = stats.improvement(c).set_index("where")
    t2, w = c.folds["difference"].var(), c.runs.groupby(["side", "fold"])["score"].var().groupby("side").mean().sum()
    assert found.loc[NEW_FOLD, "probability"] == pytest.approx(norm.cdf(c.difference / np.sqrt(t2 + w)), abs=0.01)
    own = norm.cdf(c.folds["difference"] / np.sqrt(w)).mean()
    assert found.loc[SAME_FOLD, "probability"] == pytest.approx(own, abs=0.01)


def test_sides_with_other_numbers_of_seeds(rng):
    scores = [0.6 + 0.01 * rng.standard_normal((5, n)) for n in (2, 6)]
    rows = pd.concat([frame(x, x)[lambda f, v=v: f["variant"] == v] for v, x in zip("ab", scores, strict=True)])
    found = stats.improvement(stats.compare(rows, "a", "b", rope=0.02))
    assert found["where"].tolist() == [NEW_FOLD, SAME_FOLD] and not found.isna().any(axis=None)
    lone = stats.improvement(stats.compare(rows[(rows["variant"] == "b") | (rows["seed"] == 1)], "a", "b", rope=0.02))
    assert lone["where"].tolist() == [NEW_FOLD] and "one seed of a variant" in lone["says"][0]


def test_one_seed_says_what_cannot_be_told_apart(rng):
    d, _ = study(rng, 1.0, 1.0, 1.0, 1)
    found = stats.improvement(compared(d))
    assert found["where"].tolist() == [NEW_FOLD]
    assert "cannot be told apart" in found["says"][0] and found["low"][0] < found["probability"][0] < found["high"][0]


def test_a_component_at_its_boundary_is_told():
    d = np.array([[3.0, -3], [-3, 3], [2, -2], [-2, 2], [1, -1]]) + 0.5
    found = stats.improvement(compared(d))
    assert all("negative and counts as none" in says for says in found["says"])
    assert (found["low"] < found["high"]).all()


@pytest.mark.parametrize(("d", "wanted"), [(1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_where_nothing_scatters(d, wanted, seeds):
    found = stats.improvement(compared(np.full((5, seeds), d)))
    assert (found[["probability", "low", "high"]] == wanted).all(axis=None) and len(found) == min(seeds, 2)
    assert all("interval is a point" in says for says in found["says"])


def test_seeds_that_change_nothing():
    """Training that is the same whatever the seed: of the folds at hand four fifths are won."""
    found = stats.improvement(compared(np.array([1.0, 2, 3, -1, 1.5])[:, None] * np.ones((1, 3)))).set_index("where")
    assert found.loc[SAME_FOLD, ["probability", "low", "high"]].tolist() == [0.8] * 3
    assert "Seeds never change" in found.loc[SAME_FOLD, "says"]
    assert 0 < found.loc[NEW_FOLD, "low"] < found.loc[NEW_FOLD, "high"] <= 1


def test_a_verdict_on_one_split_knows_no_new_folds():
    split = stats.Difference("a", "b", "accuracy, this split", 0.02, 0.01, 0.01, 4)
    with pytest.raises(mc.MmerError, match="a comparison over folds, not a Difference"):
        stats.improvement(split)
