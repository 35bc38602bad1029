"""Predictions of single utterances: what is refused and named, what is accepted, and numbers against other sources."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats as scipy_stats
from test_stats_methods import predictions

import mmer_core as mc
from mmer_core import stats

RUN = (1, 1)  # the run that is damaged below
NAMES = ("self_tva", "cross_tva")


@pytest.fixture
def sides(rng):
    return predictions(rng, 0.6), predictions(rng, 0.7)


def of_fold(side, fold):
    return {key: run for key, run in side.items() if key[0] == fold}


def takers(first, second):
    """Everything that takes predictions, as calls without arguments."""
    return [
        lambda: stats.clustered(first, second),
        lambda: stats.ensembles(first, second),
        lambda: stats.sampling_variance(first, second),
        lambda: stats.on_each_split(first, second, rope=0.02, names=("first", "second")),
    ]


def damaged(**change):
    return lambda side: {**side, RUN: side[RUN] | {name: f(side[RUN][name]) for name, f in change.items()}}


def put(at, value):
    def change(array):
        array = array.copy()
        array[at] = value
        return array

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged(logits=put((3, 2), np.nan)), r"second, fold 1, seed 1: logits are finite.*'1/3' \(1 of 60\)"),
        (damaged(logits=put((5, 2), np.inf)), "logits are finite.*'1/5'"),
        (damaged(label=put(7, 4)), "whole numbers from 0 to 3.*'1/7'"),
        (damaged(label=lambda x: x + 0.5), r"whole numbers from 0 to 3.*\(60 of 60\)"),
        (damaged(label=lambda x: (x + 1) % 4), "one label in all runs.*'1/0'"),
        (damaged(label=lambda x: [f"class {k}" for k in x]), "no such array"),
        (damaged(label=lambda x: x[:-1]), r"shapes \(60,\), \(59,\) and \(60, 4\)"),
        (damaged(logits=lambda x: x[0]), r"shapes \(60,\), \(60,\) and \(4,\)"),
        (damaged(logits=lambda x: x[:, :1]), "C above 1"),
        (damaged(logits=lambda x: np.pad(x, ((0, 0), (0, 1)))), "4 and 5 classes"),
        (damaged(ids=lambda x: x[:, None]), r"shapes \(60, 1\)"),
        (damaged(ids=lambda x: "one"), r"shapes \(\)"),
        (damaged(ids=put(9, "1/8")), "tested once.*'1/8'"),
        (damaged(ids=put(9, "odd")), "not tested on the same utterances: '1/9'"),
        (damaged(ids=lambda x: x[:0], label=lambda x: x[:0], logits=lambda x: x[:0]), "N above 0"),
        (lambda side: {**side, RUN: {k: side[RUN][k] for k in ("ids", "label")}}, r"found \['ids', 'label'\]"),
        (lambda side: {**side, RUN: None}, r"expected ids \[N\], label \[N\] .* and logits \[N, C\], found None"),
    ],
)
def test_damaged_predictions_are_named_by_all_that_take_them(sides, change, message):
    bad = change(sides[1])
    lists = [list(of_fold(side, 1).values()) for side in (sides[0], bad)]
    for ask in takers(sides[0], bad):
        with pytest.raises(mc.MmerError, match=message):
            ask()
    with pytest.raises(mc.MmerError, match=message.replace("seed 1", "seed 2")):  # of a list the second run
        stats.on_one_split(*lists, rope=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda side: {}, "no predictions of second"),
        (lambda side: list(side.values()), "found a list"),
        (lambda side: {fold: run for (fold, _), run in side.items()}, r"found the keys \[0, 1, 2\]"),
        (lambda side: {key: run for key, run in side.items() if key[0]}, r"folds \[0\] have predictions of only one"),
    ],
)
def test_wrong_sets_of_runs_are_named(sides, change, message):
    for ask in takers(sides[0], change(sides[1])):
        with pytest.raises(mc.MmerError, match=message):
            ask()


def test_runs_may_list_their_utterances_in_any_order_and_type(sides, rng):
    """Put together by id: also for the ensembles, which average over runs."""

    def shuffled(run):
        order = rng.permutation(len(run["ids"]))
        ids, label = run["ids"][order].astype("S"), list(run["label"][order])
        return {"ids": ids, "label": label, "logits": run["logits"][order].astype(np.float32)}

    mixed = [{key: shuffled(run) for key, run in side.items()} for side in sides]
    assert stats.ensembles(*mixed) == stats.ensembles(*sides)
    assert stats.clustered(*mixed).interval == pytest.approx(stats.clustered(*sides).interval)
    assert stats.sampling_variance(*mixed) == pytest.approx(stats.sampling_variance(*sides))


# ------------------------------------------------------------------------------------------------------- clusters


def dialogues(size=7):
    return {f"{f}/{i}": f"{f}/{i // size}" for f in range(3) for i in range(60)}


def but(*ids, value=None):
    return dialogues() | dict.fromkeys(ids, value)


@pytest.mark.parametrize(
    "form",
    [
        pd.Series,
        lambda d: pd.Series(d, dtype="category"),
        lambda d: pd.Series({k: int(v.replace("/", "0")) for k, v in d.items()}),
        lambda d: pd.Series(d).sample(frac=1, random_state=1),
        lambda d: pd.Series(d).rename_axis("id").astype("string"),
        lambda d: {np.str_(k): v for k, v in d.items()},
        lambda d: {k.encode(): v for k, v in d.items()},
        lambda d: {k: tuple(v) for k, v in d.items()},
        lambda d: {**d, "of another corpus": "x"},
    ],
)
def test_clusters_come_in_many_forms(sides, form):
    wanted, found = stats.clustered(*sides, dialogues()), stats.clustered(*sides, form(dialogues()))
    assert found.method == wanted.method and found.interval == pytest.approx(wanted.interval)


def test_ids_may_be_numbers(sides):
    numbered = [{key: run | {"ids": 100 * key[0] + np.arange(60)} for key, run in side.items()} for side in sides]
    clusters = pd.Series({100 * f + i: f"{f}/{i // 7}" for f in range(3) for i in range(60)})
    assert stats.clustered(*numbered, clusters).interval == pytest.approx(stats.clustered(*sides, dialogues()).interval)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({}, r"no cluster is known of utterance '1/0' \(60 of 60\)"),
        (pd.Series(dtype=object), r"'1/0' \(60 of 60\)"),
        (but("1/5", "1/7"), r"no cluster is known of utterance '1/5' \(2 of 60\)"),
        (but("1/5", value=float("nan")), r"'1/5' \(1 of 60\)"),
        (pd.Series(but("1/5", value=pd.NA)), r"'1/5' \(1 of 60\)"),
        (pd.Series(but("1/5"), dtype="category"), r"'1/5' \(1 of 60\)"),
        (but("1/5", value="  "), r"'1/5' \(1 of 60\)"),
        (pd.Series(dialogues()).drop("1/59"), r"'1/59' \(1 of 60\)"),
        (pd.Series(list(dialogues().values())), r"clusters has '0', for example; no cluster is known of"),
        (pd.concat([pd.Series(dialogues())] * 2), "'0/0' is there twice"),
        (dict.fromkeys(dialogues(), "d1"), "dialogues or speakers needs two or more; all 60 predictions are of 'd1'"),
        (list(dialogues().values()), "found a list"),
        (pd.DataFrame({"dialogue": dialogues()}), "found a DataFrame"),
    ],
)
def test_wrong_clusters_are_named(sides, clusters, message):
    one, other = (of_fold(side, 1) for side in sides)
    for ask in (
        lambda: stats.clustered(one, other, clusters),
        lambda: stats.on_each_split(one, other, rope=0.02, names=NAMES, clusters=clusters),
        lambda: stats.on_one_split(list(one.values()), list(other.values()), rope=0.02, clusters=clusters),
    ):
        with pytest.raises(mc.MmerError, match=message):
            ask()


def test_a_single_utterance_has_no_interval(sides):
    lone = [{key: {k: v[:1] for k, v in run.items()} for key, run in of_fold(side, 1).items()} for side in sides]
    with pytest.raises(mc.MmerError, match="utterances needs two or more"):
        stats.clustered(*lone)
    with pytest.raises(mc.MmerError, match="two utterances or more"):
        stats.sampling_variance(*lone)
    assert 0 <= stats.ensembles(*lone).p <= 1


def test_few_clusters_are_told(sides):
    assert "30 dialogues" in stats.clustered(*sides, dialogues(6)).method
    assert "rests on" not in stats.clustered(*sides, dialogues(6)).limit
    assert "rests on 6 clusters only" in stats.clustered(*sides, dialogues(30)).limit


def test_an_utterance_that_several_folds_test(sides):
    """One value a fold, all in the utterance's own cluster: a regression with clustered errors on the long table."""
    label = sides[0][0, 0]["label"]
    once = [{key: run | {"ids": np.arange(60), "label": label} for key, run in side.items()} for side in sides]
    right = [
        np.concatenate([np.mean([p[f, s]["logits"].argmax(1) == label for s in (0, 1)], 0) for f in range(3)])
        for p in once
    ]
    d, ids = right[1] - right[0], np.tile(np.arange(60), 3)
    fit = sm.OLS(d, np.ones(180)).fit(cov_type="cluster", cov_kwds={"groups": ids, "use_correction": False})
    reach = scipy_stats.t.ppf(0.975, 59) * fit.bse[0] * np.sqrt(60 / 59)
    assert stats.clustered(*once).interval == pytest.approx((fit.params[0] - reach, fit.params[0] + reach))
    found = stats.ensembles(*once)
    assert "120 predictions" in found.limit and not found.keeps_level


# ------------------------------------------------------------------------------- agreement, sampling, one split


def test_sides_that_never_differ(sides):
    same = stats.ensembles(sides[0], sides[0])
    assert (same.estimate, same.p) == (0.0, 1.0)
    same = stats.clustered(sides[0], sides[0])
    assert (same.interval, same.p) == ((0.0, 0.0), 1.0) and "a point" in same.limit
    assert stats.sampling_variance(sides[0], sides[0]) == 0
    found = stats.on_each_split(sides[0], sides[0], rope=0.02, names=("a", "a again"))
    assert all(d.difference == 0 for d in found) and any(d.se > 0 for d in found)  # seeds scatter, unless they tie
    assert all((d.se == 0) == any("a point" in note for note in d.notes) for d in found)


def test_a_fold_of_one_utterance_takes_the_variance_of_the_others(sides):
    short = [
        {key: {k: v[:1] if key[0] == 0 else v for k, v in run.items()} for key, run in side.items()} for side in sides
    ]
    variances = []
    for f in (1, 2):
        right = [np.mean([p[f, s]["logits"].argmax(1) == p[f, s]["label"] for s in (0, 1)], 0) for p in sides]
        variances.append((100 * (right[1] - right[0])).var(ddof=1))
    wanted = np.mean([np.mean(variances), variances[0] / 60, variances[1] / 60])
    assert stats.sampling_variance(*short) == pytest.approx(wanted)


def test_each_split_is_a_study_of_one_split(sides):
    found = stats.on_each_split(*sides, rope=0.02, names=NAMES, exploratory="it was picked by hand")
    for f, d in enumerate(found):
        alone = stats.on_one_split(*(list(of_fold(side, f).values()) for side in sides), rope=0.02, names=NAMES)
        assert (d.difference, d.se, d.df) == (alone.difference, alone.se, alone.df)
        assert (d.metric, alone.metric) == (f"accuracy, this split (fold {f})", "accuracy, this split")
        assert "This split only" in d.notes[0] and "not in the data" in d.notes[0]
        assert d.sentence().endswith("Exploratory: it was picked by hand.") and not alone.exploratory
    lone = stats.on_each_split(*(of_fold(side, 1) for side in sides), rope=0.02, names=NAMES)
    assert [d.metric for d in lone] == ["accuracy, this split"]
    few = stats.on_each_split(*sides, rope=0.02, names=NAMES, clusters=dialogues())
    assert "rests on 9 clusters only" in few[0].notes[1]


def test_one_seed_on_one_split_is_refused(sides):
    one = {key: run for key, run in sides[1].items() if key != (1, 0)}
    with pytest.raises(mc.MmerError, match="two seeds or more of each variant; fold 1"):
        stats.on_each_split(sides[0], one, rope=0.02, names=NAMES)
    with pytest.raises(mc.MmerError, match="on_each_split takes"):
        stats.on_one_split(*sides, rope=0.02)
    with pytest.raises(mc.MmerError, match="no predictions of first"):
        stats.on_one_split([], [], rope=0.02)


def test_one_split_holds_the_truth():
    """Test utterances and seeds drawn anew, over and over: a true difference of ten points."""
    rng, held, studies = np.random.default_rng(4), 0, 100
    ids, label, scatter = np.arange(150), np.zeros(150, int), np.sqrt(1 + 0.3**2 + 1)
    for _ in range(studies):
        hard, shift = rng.standard_normal((1, 1, 150)), 0.3 * rng.standard_normal((2, 4, 1))  # of utterances; of seeds
        level = scatter * scipy_stats.norm.ppf([0.5, 0.6])[:, None, None]
        x = level + hard + shift + rng.standard_normal((2, 4, 150))
        runs = [[{"ids": ids, "label": label, "logits": np.stack([y, -y], 1)} for y in side] for side in x]
        low, high = stats.on_one_split(*runs, rope=0.02).interval95
        held += low <= 0.1 <= high
    assert held / studies > 0.92
