"""Other people's tables: read, or refused by name; and whatever the table, a verdict or a sentence, never nan."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from test_stats import frame
from test_stats_methods import compared

import mmer_core as mc
from mmer_core import stats
from mmer_core.stats.planner import inseparable
from mmer_core.stats.variance import seed_share


@pytest.fixture
def table(rng):
    a = 0.6 + 0.02 * rng.standard_normal((5, 3))
    return frame(a, a + 0.01 + 0.01 * rng.standard_normal((5, 3)))


def same(found, wanted):
    keys = ("difference", "se", "df", "verdict", "overlap")
    assert [getattr(found, k) for k in keys] == pytest.approx([getattr(wanted, k) for k in keys])


# --------------------------------------------------------------------------------------- the rows of the issue, by kind


def test_only_the_variants_asked_for_are_checked(table):
    wanted = mc.compare(table, "a", "b", rope=0.02)
    third = table[table["variant"] == "a"].assign(variant="c").astype({"accuracy": object, "fold": object})
    third.iloc[0, third.columns.get_loc("accuracy")] = "OOM"
    third.iloc[-1, third.columns.get_loc("fold")] = "?"
    both = pd.concat([table.astype({"accuracy": object, "fold": object}), third], ignore_index=True)
    same(mc.compare(both, "a", "b", rope=0.02), wanted)
    with pytest.raises(mc.MmerError, match="row 30 has 'OOM'"):
        mc.compare(both, "a", "c", rope=0.02)


@pytest.mark.parametrize("bad", ["OOM", None, np.nan, pd.NA, "", "62,1,0", [0.6], {}, 1j, np.inf])
def test_a_score_that_is_none_is_named(table, bad):
    scores = table["accuracy"].astype(object).tolist()
    scores[7] = bad
    with pytest.raises(mc.MmerError, match=r"accuracy of a .* row 7 has"):
        mc.compare(table.assign(accuracy=pd.Series(scores, dtype=object)), "a", "b", rope=0.02)


@pytest.mark.parametrize("scale", [100, -1])
def test_scores_in_per_cent_are_refused(table, scale):
    with pytest.raises(mc.MmerError, match=r"scores are in \[0, 1\]"):
        mc.compare(table.assign(accuracy=scale * table["accuracy"]), "a", "b", rope=0.02)


@pytest.mark.parametrize("rope", [2, 0, -1, np.nan, np.inf, None, "0.02", True])
def test_a_margin_that_is_none_is_refused(table, rope):
    with pytest.raises(mc.MmerError, match="rope is"):
        mc.compare(table, "a", "b", rope=rope)


def test_seeds_of_their_own_on_each_side(table):
    """Self with seeds 1-3, cross with 11-13: only what needs partners says that there are none."""
    other = table.assign(seed=table["seed"] + 10 * (table["variant"] == "b"))
    c = mc.compare(other, "a", "b", rope=0.02)
    same(c, mc.compare(table, "a", "b", rope=0.02))
    assert c.seeds == (3, 3) and c.design == "5 folds and 3 seeds" and "same seeds" in c.notes[0]
    for ask in (stats.plan, stats.chances_now, stats.effect_sizes, stats.difference_components):
        assert not ask(c).drop(columns="sd", errors="ignore").isna().any(axis=None), ask
    assert "%" in stats.advice(c) and len(stats.calibration_table(c, studies=50))
    row = stats.side_by_side(c).set_index("method").loc["paired t, mixed model and bootstrap on runs"]
    assert "same seeds" in row["limit"] and np.isnan(row["p"])
    with pytest.raises(mc.MmerError, match="both variants have"):
        stats.seed_correlation(c)


def test_components_without_partners_hold_the_truth(rng):
    """Difference of two variants whose seeds have nothing in common: s^2 of each side adds up."""
    held, truth = np.zeros(2), np.array([1.0, 1.0 + 4.0])
    for _ in range(200):
        fold = rng.standard_normal((5, 1))
        a, b = 60 + rng.standard_normal((5, 6)), 60 + fold + 2 * rng.standard_normal((5, 6))
        f = frame(a / 100, b / 100)
        c = stats.compare(f.assign(seed=f["seed"] + 10 * (f["variant"] == "b")), "a", "b", rope=0.02)
        rows = stats.difference_components(c)
        held += ((rows["low"] <= truth) & (truth <= rows["high"])).to_numpy()
    assert (held / 200 > 0.92).all(), held


def test_unlike_numbers_of_seeds(table):
    fewer = table[(table["variant"] == "a") | (table["seed"] < 3)]
    c = mc.compare(fewer, "a", "b", rope=0.02)
    assert c.seeds == (3, 2) and "3 seeds of a and 2 of b" in c.design
    assert c.seeds_a_fold == pytest.approx(2 / (1 / 3 + 1 / 2)) and len(stats.plan(c)) and stats.advice(c)
    holes = table[~((table["variant"] == "a") & (table["fold"] == 2) & (table["seed"] > 1))]
    c = mc.compare(holes, "a", "b", rope=0.02)
    assert any("between 1 and 3 seeds" in note for note in c.notes) and len(stats.difference_components(c)) == 2


@pytest.mark.parametrize("kind", [int, float, str, "category", object, "Int64", "string"])
def test_names_and_ids_of_any_type(table, kind):
    wanted = mc.compare(table, "a", "b", rope=0.02)
    numbered = table.assign(variant=table["variant"].map({"a": 1, "b": 2}))
    for column in ("variant", "fold", "seed"):
        numbered[column] = numbered[column].astype(kind)
    for first, second in (("1", "2"), (1, 2), (1.0, " 2 ")):
        found = mc.compare(numbered, first, second, rope=0.02)
        same(found, wanted)
        assert (found.first, found.second) == ("1", "2") and found.folds["fold"].tolist() == [1, 2, 3, 4, 5]


def test_categories_that_nobody_uses(table):
    levels = table.astype({"variant": "category", "fold": "category"})
    levels["fold"] = levels["fold"].cat.add_categories([9])
    levels["variant"] = levels["variant"].cat.add_categories(["z"])
    same(mc.compare(levels, "a", "b", rope=0.02), mc.compare(table, "a", "b", rope=0.02))
    assert len(stats.score_components(levels, ["a", "b"], "accuracy")) == 3


def test_counts_that_are_not_there(table):
    wanted = mc.compare(table.drop(columns=["n_train", "n_test"]), "a", "b", rope=0.02)
    for nothing in (np.nan, "", None, pd.NA):
        found = mc.compare(table.assign(n_train=nothing, n_test=nothing), "a", "b", rope=0.02)
        same(found, wanted)
        assert "not known and taken as" in found.notes[0]
    some = table.assign(n_train=table["n_train"].where(table["fold"] > 1))
    found = mc.compare(some, "a", "b", rope=0.02)
    assert found.overlap == pytest.approx(1 / 3) and "not known of every run" in found.notes[0]
    for bad in (0, -3, 0.5, np.inf, "many"):
        counts = pd.Series([600] * 30, dtype=object)
        counts[4] = bad
        with pytest.raises(mc.MmerError, match=r"n_train is a number of utterances.* row 4"):
            mc.compare(table.assign(n_train=counts), "a", "b", rope=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(fold=f["fold"].where(f["seed"] > 1)), "without a fold: row 0"),
        (lambda f: f.assign(seed=f["seed"].where(f.index != 3)), "without a seed: row 3"),
        (lambda f: pd.concat([f, f["accuracy"]], axis=1), "two columns 'accuracy'"),
        (lambda f: f.set_index("fold"), r"lacks the columns \['fold'\]"),
        (lambda f: f.to_dict(), "got dict"),
        (lambda f: f.iloc[:0], "no results of 'a'"),
        (lambda f: f[f["fold"] == 1], "on_one_split"),
    ],
)
def test_tables_that_cannot_be_judged(table, change, message):
    with pytest.raises(mc.MmerError, match=message):
        mc.compare(change(table), "a", "b", rope=0.02)


@pytest.mark.parametrize("metric", ["fold", "seed", "variant", "misspelt", ["accuracy"], None])
def test_a_metric_that_is_none(table, metric):
    with pytest.raises(mc.MmerError):
        mc.compare(table, "a", "b", metric, rope=0.02)


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_csv_files_of_any_country(table, tmp_path, separator, decimal, start):
    text = table.to_csv(index=False, sep=separator, decimal=decimal)  # quotes a decimal comma where it has to
    if decimal == ".":
        text = text.replace(separator, f" {separator} ")  # padded cells
    (tmp_path / "theirs.csv").write_text(start + text, encoding="utf-8")
    for path in (tmp_path / "theirs.csv", f'  "{tmp_path}/theirs.csv" ', f"'{tmp_path}/theirs.csv'\n"):
        same(mc.compare(path, "a", "b", rope=0.02), mc.compare(table, "a", "b", rope=0.02))


def test_a_bad_score_in_a_file_is_named_by_its_line(table, tmp_path):
    lines = table.astype({"accuracy": object}).to_csv(index=False).splitlines()
    lines[4] = "a,1,4,OOM,600,200"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(mc.MmerError, match="line 5 has 'OOM'"):
        mc.compare(tmp_path / "t.csv", "a", "b", rope=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "FileNotFoundError"),
        (b"", "found 0 lines"),
        (b"variant,fold,seed,accuracy\n", "found 1 lines"),
        ("variant,fold\nä,1\n".encode("latin-1"), "UTF-8"),
        ("variant,fold\na,1\n".encode("utf-16"), "UTF-8"),
        (b"PK\x03\x04\xff\xfe", "UTF-8"),
        (b"variant,fold\na,1,2\n", "line 2 has 3"),
        (b"variant fold seed accuracy\na 1 1 0.5\n", "lacks the columns"),
        (b"variant,fold,seed,accuracy\na,1,1,0.\x005\n", "."),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, message):
    file = Path(tmp_path / "theirs.csv")
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(mc.MmerError, match=message):
        mc.compare(file, "a", "b", rope=0.02)
    with pytest.raises(mc.MmerError):
        mc.compare(tmp_path, "a", "b", rope=0.02)  # a folder


# ------------------------------------------------------------------------------------------ what cannot be estimated


def test_no_advice_from_a_component_at_its_boundary():
    d = np.array([[3.0, -3], [-3, 3], [2, -2], [-2, 2], [0.2, 0]])
    c = compared(d)
    assert "below 0" in inseparable(c)
    text, table = stats.advice(c), stats.plan(c)
    assert "cannot be told apart" in text and "buy nothing" not in text
    assert table["option"].tolist() == ["as it is", "a second corpus like this", "three more corpora like this"]
    assert not table.isna().any(axis=None) and "hours" not in table


def test_the_share_of_seeds_holds_the_truth():
    """t = 1, s = 1, two seeds: half of the variance of a fold's difference; its interval by F's law is exact."""
    held = 0
    for d in stats.calibration.simulate(stats.calibration.Truth(0, 1.0, 1.0), 300, folds=5, seeds=2, seed=3):
        _, (low, high) = seed_share(compared(d))
        held += low <= 0.5 <= high
    assert scipy_stats.binomtest(held, 300, 0.95).pvalue > 0.01, held


def test_a_variant_that_never_varies_has_no_correlation(table):
    flat = table.assign(accuracy=np.where(table["variant"] == "a", 0.5, table["accuracy"]))
    with pytest.raises(mc.MmerError, match="vary"):
        stats.seed_correlation(mc.compare(flat, "a", "b", rope=0.02))
    same_everywhere = mc.compare(table.assign(accuracy=0.5), "a", "b", rope=0.02)
    assert stats.effect_sizes(same_everywhere)["size"].tolist() == ["points", "P(second beats first)"]
    assert "same amount" in stats.advice(same_everywhere)


# -------------------------------------------------------------------------------------------------------- any frame

IDS = {
    "int": lambda n: n,
    "text": lambda n: f"F{n}",
    "float": float,
    "padded": lambda n: f" {n} ",
    "mixed": lambda n: n if n % 2 else f"f{n}",
}
SPOILT = [None, np.nan, "OOM", "", -0.1, 1.5, 62.1, np.inf, pd.NA, "0,5", True]


@st.composite
def frames(draw):
    """A table of two to four variants such as people have, with one to seven folds, and often something amiss."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    folds, seeds = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    digits, spread = draw(st.sampled_from([1, 2, 9])), draw(st.sampled_from([0.0, 0.001, 0.05, 0.4]))
    fold_id, seed_id = (IDS[draw(st.sampled_from(sorted(IDS)))] for _ in range(2))
    shift = draw(st.sampled_from([0, 0, 0, 2, 10]))
    rows = [
        dict(variant=v, fold=fold_id(f), seed=seed_id(s + shift * (v == "b")), n_train=600, n_test=200)
        | {"accuracy": float(np.clip(0.6 + spread * rng.standard_normal(), 0, 1).round(digits))}
        for v in "abcd"[: draw(st.integers(2, 4))]
        for f in range(folds)
        for s in range(draw(st.integers(1, 3)) if draw(st.booleans()) else seeds)
    ]
    table = pd.DataFrame(rows).astype(object)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        column = draw(st.sampled_from(["accuracy", "accuracy", "fold", "seed", "n_train", "n_test", "variant"]))
        table.iloc[draw(st.integers(0, len(table) - 1)), table.columns.get_loc(column)] = draw(st.sampled_from(SPOILT))
    keep = rng.random(len(table)) >= draw(st.sampled_from([0, 0, 0, 0.1, 0.4]))
    table = table[keep] if draw(st.booleans()) else table.sample(frac=1, random_state=1)
    if draw(st.integers(0, 9)) == 0:
        table = pd.concat([table, table.head(2)])
    if draw(st.booleans()):
        table = table.drop(columns=draw(st.sampled_from(["n_train", "n_test"])))
    if draw(st.booleans()):
        table = table.infer_objects()
    if draw(st.booleans()):
        table = table.astype({draw(st.sampled_from(["variant", "fold", "seed"])): "category"})
    return table


def numbers(found):
    """All numbers in what a function returned."""
    if isinstance(found, pd.DataFrame):
        return (
            found.drop(columns=["sd", "interval", "p (Holm)"], errors="ignore")
            .select_dtypes("number")
            .to_numpy()
            .ravel()
        )
    if isinstance(found, dict):
        return list(found.values())
    return [] if isinstance(found, (str, list, bool)) else [found]


CHEAP = [
    stats.bayesian,
    stats.hinges_on_overlap,
    stats.effect_sizes,
    stats.difference_components,
    stats.seed_correlation,
]
CHEAP += [stats.advice, lambda c: stats.verdict_table([c]), lambda c: stats.prose([c], "toy")]
DEAR = [lambda c: stats.side_by_side(c).dropna(subset="p"), stats.cautions, stats.plan, stats.chances_now]
DEAR += [lambda c: stats.calibration_table(c, studies=20).dropna(subset="coverage")]  # ranks have no interval


def check_any_frame(table, dear):
    def ask(function, *given):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return function(*given)
        except mc.MmerError as error:
            assert str(error)
            return None

    c = ask(lambda: mc.compare(table, "a", "b", rope=0.02))
    ask(lambda: numbers(stats.score_components(table, ["a", "b"], "accuracy")))
    again = ask(lambda: stats.same_against_same(table, "a", "accuracy", 0.02))
    for found in filter(None, (c, again)):
        assert found.verdict in stats.VERDICTS and found.sentence()
        ends = [found.difference, found.se, found.p, *found.interval95, *found.interval90, found.overlap]
        assert np.isfinite(ends).all() and abs(found.difference) <= 1 and 0 <= found.p <= 1
        assert found.interval95.low <= found.difference <= found.interval95.high
    for function in [*CHEAP, *(DEAR if dear else [])] if c else []:
        found = ask(function, c)
        assert found is None or not any(pd.isna(x) for x in numbers(found)), function


@settings(
    max_examples=1000, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(frames(), st.integers(0, 39))
def test_any_frame_gets_a_verdict_or_a_sentence(table, rare):
    check_any_frame(table, rare == 17)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(frames(), st.integers(0, 39))
def test_twenty_thousand_frames(table, rare):
    check_any_frame(table, rare == 17)
