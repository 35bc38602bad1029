"""Intervals of recalls against scipy, by hand, and against planted truths."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from test_stats_methods import recalls as without_counts

import mmer_core as mc
from mmer_core import stats

SIZES = {"n_train": 600, "n_test": 200}


def table(right, n):
    """Recalls of one class from numbers of right ones [folds, seeds] among n [folds] utterances."""
    rows = [
        {"variant": "a", "fold": f + 1, "seed": s + 1, "class": "anger", "n": n[f], **SIZES}
        | {"recall": right[f][s] / n[f] if n[f] else float("nan")}
        for f, s in itertools.product(range(len(n)), range(len(right[0])))
    ]
    return pd.DataFrame(rows)


def row(frame):
    return stats.recall_interval(frame, "a").iloc[0]


@pytest.mark.parametrize(("right", "n"), [(0, 2), (2, 2), (0, 40), (7, 40), (40, 40)])
@pytest.mark.parametrize("seeds", [1, 10])
def test_where_folds_do_not_differ_it_is_clopper_and_pearsons(right, n, seeds):
    """Seeds share the utterances: ten of them are no more utterances than one."""
    found = row(table([[right] * seeds] * 5, [n] * 5))
    wanted = scipy_stats.binomtest(5 * right, 5 * n).proportion_ci(0.95, "exact")
    assert found[["low", "high"]].tolist() == pytest.approx([wanted.low, wanted.high])
    assert found["n"] == 5 * n and found["recall"] == right / n and found["high"] > found["low"]


def test_where_folds_differ_it_is_as_wide_as_the_verdicts():
    """Many utterances and a recall near the middle: Clopper and Pearson's is then the t interval over folds."""
    n, share = 100_000, np.array([0.49, 0.495, 0.5, 0.505, 0.51])
    found = row(table((share * n)[:, None].astype(int), [n] * 5))
    reach = scipy_stats.t.ppf(0.975, 4) * share.std(ddof=1) * np.sqrt(1 / 5 + 200 / 600)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(reach, rel=0.02)


def test_unequal_folds_count_by_their_utterances():
    found = row(table([[1], [0], [30], [0], [25]], [1, 0, 60, 0, 50]))
    assert found["recall"] == pytest.approx(56 / 111) and found["n"] == 111


def test_rarer_is_wider_and_all_stays_within_0_and_1(rng):
    widths = []
    for n in (1, 2, 10, 50, 400):
        found = row(table(rng.binomial(n, 0.5, (5, 3)) if n > 2 else [[0] * 3] * 5, [n] * 5))
        assert 0 <= found["low"] < found["high"] <= 1
        widths.append(found["high"] - found["low"])
    assert widths[0] > widths[1] and widths[2] > widths[3] > widths[4]


def test_one_fold_goes_by_its_utterances_or_its_seeds():
    """Seeds that agree: the utterances; seeds of which one never finds the class: hardly anything is known."""
    calm, wild = row(table([[12, 12, 12]], [40])), row(table([[0, 36, 0]], [40]))
    wanted = scipy_stats.binomtest(12, 40).proportion_ci(0.95, "exact")
    assert calm[["low", "high"]].tolist() == pytest.approx([wanted.low, wanted.high])
    assert calm["n"] == wild["n"] == 40 and wild["recall"] == calm["recall"]
    assert wild["low"] < 0.02 and wild["high"] > 0.95


def test_classes_that_nobody_has_are_left_out():
    some = table([[3], [0], [4]], [5, 0, 6])
    nobody = table([[0], [0], [0]], [0, 0, 0]).assign(**{"class": "fear"})
    found = stats.recall_interval(pd.concat([some, nobody]), "a")
    assert found["class"].tolist() == ["anger"] and found["n"].tolist() == [11] and not found.isna().any(axis=None)
    nothing = stats.recall_interval(nobody, "a")
    assert nothing.empty and nothing.columns.tolist() == ["class", "n", "recall", "low", "high"]


def test_without_counts_of_the_class(rng):
    """The t interval over folds, cut to [0, 1]; folds that agree have at least one utterance each."""
    frame = without_counts(rng)
    assert "n" not in stats.recall_interval(frame, "a").columns
    wild = frame.assign(recall=[0.01, 0.99] * (len(frame) // 2))
    found = stats.recall_interval(wild.assign(seed=range(len(wild))), "a")
    assert (found["low"] >= 0).all() and (found["high"] <= 1).all()
    never = stats.recall_interval(frame.assign(recall=0.0), "a").iloc[0]
    assert (never["low"], never["high"]) == (0, pytest.approx(scipy_stats.binomtest(0, 5).proportion_ci().high))
    with pytest.raises(mc.MmerError, match="needs the column n"):
        stats.recall_interval(frame[frame["fold"] == 1], "a")
    empty = stats.recall_interval(frame.assign(n=float("nan")), "a")
    pd.testing.assert_frame_equal(empty, stats.recall_interval(frame, "a"))
    unknown = stats.recall_interval(frame.drop(columns=["n_train", "n_test"]), "a").iloc[1]
    known = stats.recall_interval(frame.assign(n_test=150), "a").iloc[1]  # 1/4, as of five folds
    assert unknown["high"] == pytest.approx(known["high"])


@pytest.mark.parametrize(
    "form",
    [
        lambda f: f.astype({c: "category" for c in ("variant", "fold", "class")}),
        lambda f: f.assign(**{"class": pd.Categorical(f["class"], ["anger", "nobody has this"])}),
        lambda f: f.assign(fold=f["fold"].map("fold {}".format)),
        lambda f: f.assign(recall=f["recall"].astype(str), n=f["n"].astype(float)),
        lambda f: pd.concat([f.iloc[:4], f.iloc[4:].reset_index(drop=True)]),
        lambda f: pd.concat([f, f.assign(variant="c", recall="OOM", n=-1)]),
    ],
)
def test_other_peoples_frames(form):
    plain = table([[1, 2], [3, 3], [2, 2]], [4, 5, 4])
    pd.testing.assert_frame_equal(stats.recall_interval(form(plain), "a"), stats.recall_interval(plain, "a"))


def test_a_csv_file(tmp_path):
    plain = table([[1, 2], [3, 3], [0, 0]], [4, 5, 0])
    plain.to_csv(tmp_path / "recalls.csv", index=False)
    pd.testing.assert_frame_equal(
        stats.recall_interval(tmp_path / "recalls.csv", "a"), stats.recall_interval(plain, "a")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="class"), "lacks the columns .'class'."),
        (lambda f: f.drop(columns="variant"), "lacks the columns .'variant'."),
        (lambda f: f.assign(variant="b"), "no results of 'a'"),
        (lambda f: f.assign(recall=100 * f["recall"]), r"fold 1, seed 2, class anger: .*divide per cent by 100"),
        (lambda f: f.assign(recall="OOM"), r"fold 1, seed 1, .*'recall'.*6 such rows"),
        (lambda f: f.assign(recall=-f["recall"]), r"\[0, 1\]"),
        (lambda f: f.assign(recall=np.inf), r"\[0, 1\]"),
        (lambda f: pd.concat([f, f]), "several results"),
        (lambda f: f.assign(fold=None), "fold, seed and class to be there"),
        (lambda f: f.assign(n=f["n"] - 0.5), "a whole number of utterances"),
        (lambda f: f.assign(n=-f["n"]), "a whole number of utterances"),
        (lambda f: f.assign(n=f["n"].where(f["fold"] > 1)), "a whole number of utterances"),
        (lambda f: f.assign(n=f["n"] + f["seed"]), "the same for all seeds of a fold"),
        (lambda f: f.assign(n=0), "where nobody has the class, and only there"),
        (lambda f: f.assign(recall=float("nan")), "where nobody has the class, and only there"),
        (lambda f: f.assign(n_train=0), "n_train"),
        (lambda f: 7, "a data frame or the path of a CSV file"),
    ],
)
def test_bad_recalls_are_named(change, message):
    plain = table([[0, 2], [3, 3], [2, 2]], [4, 5, 4])
    with pytest.raises(mc.MmerError, match=message):
        stats.recall_interval(change(plain), "a")


WORLDS = [  # utterances, recall, its SD between folds, seeds
    (4, 0.3, 0.0, 1),
    (10, 0.6, 0.2, 2),
    (30, 0.3, 0.1, 10),
    (30, 0.6, 0.0, 1),
    (200, 0.05, 0.05, 2),
    (200, 0.6, 0.1, 1),
]


@pytest.mark.parametrize("studies", [30, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("n", "recall", "sd", "seeds"), WORLDS)
def test_intervals_hold_the_truth(n, recall, sd, seeds, studies):
    """Utterances are spread over five folds; those of a fold have its true recall, and their seeds are alike."""
    rng, held = np.random.default_rng(n + seeds), 0
    counts = np.bincount(np.arange(n) % 5, minlength=5)
    for _ in range(studies):
        scale = recall * (1 - recall) / sd**2 - 1 if sd else None
        folds = rng.beta(recall * scale, (1 - recall) * scale, 5) if sd else np.full(5, recall)
        alike = [rng.beta(p + 1e-6, 1 - p + 1e-6, m) for p, m in zip(folds, counts, strict=True)]  # of an utterance
        right = [rng.binomial(1, chance, (seeds, len(chance))).sum(1) for chance in alike]
        found = row(table(right, counts))
        held += found["low"] <= recall <= found["high"]
    assert held / studies >= 0.94


def test_a_study_counts_the_utterances_of_each_class(demo, tmp_path, monkeypatch):
    study = mc.Study(demo, ["self_t"], [1], [1], None, tmp_path)
    confusion = np.diag(np.arange(len(demo.classes)))  # nobody has the first class
    record = SimpleNamespace(confusion=confusion, brief={"counts": {"train": 60, "test": confusion.sum()}})
    monkeypatch.setattr(study, "finished", lambda: [(study.runs[0], record)])
    frame = study.recalls()
    assert frame["n"].tolist() == confusion.sum(1).tolist() and frame["recall"].isna().tolist()[:2] == [True, False]
    found = stats.recall_interval(frame, "self_t")
    assert found["class"].tolist() == list(demo.classes[1:]) and (found["low"] < found["high"]).all()
