"""Predictions from anywhere: clusters of any kind, one shared check, one official split; rare classes; improvement."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from test_stats import frame
from test_stats_methods import compared, predictions

import mmer_core as mc
from mmer_core import stats
from mmer_core.stats.calibration import Truth, simulate

DIALOGUES = {f"{f}/{i}": f"d{f}_{i // 7}" for f in range(3) for i in range(60)}


@pytest.fixture
def sides(rng):
    return predictions(rng, 0.6), predictions(rng, 0.7)


def test_clusters_of_any_kind(sides):
    wanted = stats.clustered(*sides, DIALOGUES)
    codes = pd.Series(DIALOGUES).astype("category")
    for clusters in (pd.Series(DIALOGUES), codes, codes.cat.codes, {np.str_(k): v for k, v in DIALOGUES.items()}):
        found = stats.clustered(*sides, clusters)
        assert [found.estimate, *found.interval] == pytest.approx([wanted.estimate, *wanted.interval])


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({k: v for k, v in DIALOGUES.items() if k != "1/3"}, "'1/3'"),
        (pd.Series({**DIALOGUES, "2/5": None}), "'2/5'"),
        (pd.Series({**DIALOGUES, "2/5": np.nan}), "'2/5'"),
        (dict.fromkeys(DIALOGUES, "one"), "two"),
        (pd.concat([pd.Series(DIALOGUES), pd.Series({"0/1": "again"})]), "'0/1'"),
        ("dialogue", "str"),
    ],
)
def test_clusters_that_cannot_serve_are_named(sides, clusters, message):
    with pytest.raises(mc.MmerError, match=message):
        stats.clustered(*sides, clusters)
    with pytest.raises(mc.MmerError):
        stats.on_each_split(*sides, rope=0.02, names=("a", "b"), clusters=clusters)


def change(side, **arrays):
    return {run: {**p, **arrays} if run == (1, 1) else p for run, p in side.items()}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: {},
        lambda p: {run: x for run, x in p.items() if run[0] != 1},
        lambda p: change(p, logits=np.full((60, 4), np.nan)),
        lambda p: change(p, logits=np.zeros((60, 3))),
        lambda p: change(p, logits=np.zeros(60)),
        lambda p: change(p, label=np.full(60, 7)),
        lambda p: change(p, label=(p[1, 1]["label"] + 1) % 4),
        lambda p: change(p, ids=p[0, 1]["ids"]),
        lambda p: change(p, ids=np.full(60, "1/1")),
        lambda p: {run: {k: v for k, v in x.items() if k != "logits"} for run, x in p.items()},
        lambda p: list(p.values()),
    ],
)
@pytest.mark.parametrize("ask", [stats.clustered, stats.ensembles, stats.sampling_variance])
def test_predictions_that_cannot_serve_are_refused(sides, spoil, ask):
    a, b = sides
    for pair in ((a, spoil(b)), (spoil(a), b)):
        with pytest.raises(mc.MmerError):
            ask(*pair)


def test_each_split_is_the_one_split_of_its_fold(sides):
    a, b = sides
    found = stats.on_each_split(a, b, rope=0.02, names=("x", "y"), exploratory="why")
    for fold, mine in enumerate(found):
        runs = [[side[fold, seed] for seed in (0, 1)] for side in (a, b)]
        alone = stats.on_one_split(*runs, rope=0.02)
        assert (mine.difference, mine.se, mine.df) == (alone.difference, alone.se, alone.df)
        assert mine.metric == f"accuracy, this split (fold {fold})" and mine.exploratory == "why"
        assert mine.label == f"y − x (this split (fold {fold}))" and "This split" in mine.notes[0]


# -------------------------------------------------------------------------------------------------- recalls, by class


def recalls(rng, p, n, folds=5, seeds=2, spread=0.0):
    """Simulated recalls of one class that n utterances have, whose true recall differs between folds by `spread`."""
    sizes, rows = np.bincount(np.arange(n) % folds, minlength=folds), []
    for f, size in enumerate(sizes):
        truth = np.clip(p + spread * rng.standard_normal(), 0, 1)
        hard = rng.random(size)
        for s in range(seeds):
            recall = float((hard < truth).mean()) if size else np.nan
            rows.append(dict(variant="a", fold=f, seed=s, recall=recall, n=size, n_train=600, n_test=200))
    return pd.DataFrame(rows).assign(**{"class": "rare"})


@pytest.mark.parametrize("n", [4, 10, 30, 200])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.6])
def test_intervals_of_recalls_hold_the_truth(rng, n, p):
    found = pd.concat([stats.recall_interval(recalls(rng, p, n), "a") for _ in range(80)])
    held = ((found["low"] <= p) & (p <= found["high"])).sum()
    assert scipy_stats.binomtest(int(held), 80, 0.95, alternative="less").pvalue > 0.005, held
    assert (found["low"] >= 0).all() and (found["high"] <= 1).all() and (found["high"] > found["low"]).all()


def test_rare_classes_get_wider_intervals_and_seeds_are_no_utterances(rng):
    widths = []
    for n in (4, 10, 40, 400):
        for p in (0.0, 1.0):
            mine = recalls(rng, p, n)
            (row,) = stats.recall_interval(mine, "a").itertuples()
            (ten,) = stats.recall_interval(recalls(rng, p, n, seeds=10), "a").itertuples()
            assert (row.n, row.low, row.high) == (ten.n, ten.low, ten.high) == (n, row.low, row.high)
            low, high = scipy_stats.binomtest(round(p * n), n).proportion_ci(0.95, method="exact")
            assert (row.low, row.high) == pytest.approx((low, high))
            widths.append(row.high - row.low)
    assert widths == pytest.approx(sorted(widths, reverse=True))


def test_scatter_between_folds_still_counts(rng):
    calm, wild = (stats.recall_interval(recalls(rng, 0.6, 1000, spread=s), "a").iloc[0] for s in (0, 0.2))
    assert wild["high"] - wild["low"] > 3 * (calm["high"] - calm["low"])


# -------------------------------------------------------------------------------------------------------- improvement


@pytest.mark.parametrize("truth", [Truth(1, 1, 1.5), Truth(0, 0, 1.5), Truth(1, 2, 0.5)])
def test_the_chance_of_improvement_holds_the_truth(truth):
    """On a new fold: Phi(d / sqrt(t^2 + 2 s^2))."""
    wanted = scipy_stats.norm.cdf(truth.d / np.hypot(truth.t, np.sqrt(2) * truth.s))
    held = 0
    for d in simulate(truth, 80, seeds=4, seed=1):
        row = stats.improvement(compared(d)).set_index("where").loc["on a new fold"]
        held += row["low"] <= wanted <= row["high"]
        assert 0 <= row["low"] <= row["probability"] <= row["high"] <= 1
    assert scipy_stats.binomtest(held, 80, 0.95, alternative="less").pvalue > 0.005, held


def test_improvement_says_what_it_cannot_estimate(rng):
    one = stats.improvement(compared(np.arange(5.0)[:, None]))
    assert one["where"].tolist() == ["on a new fold"] and "one seed" in one["says"][0]
    boundary = stats.improvement(compared(np.array([[3.0, -3], [-3, 3], [2, -2], [-2, 2], [0, 0]])))
    assert "negative" in boundary["says"][0] and len(boundary) == 2
    for d, wanted in ((0.0, 0.5), (3.0, 1.0), (-3.0, 0.0)):
        point = stats.improvement(compared(np.full((5, 2), d)))
        assert point[["probability", "low", "high"]].to_numpy() == pytest.approx(wanted)
    a = 0.6 + 0.02 * rng.standard_normal((5, 3))
    f = frame(a, a + 0.01)
    apart = stats.compare(f.assign(seed=f["seed"] + 10 * (f["variant"] == "b")), "a", "b", rope=0.02)
    assert not stats.improvement(apart).isna().any(axis=None)
