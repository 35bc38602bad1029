"""One comparison on several corpora: against statsmodels, by hand, and in simulated corpora whose truth is known."""

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.meta_analysis import combine_effects
from test_stats import frame

import mmer_core as mc
from mmer_core import figures, stats
from mmer_core.stats import Difference
from mmer_core.stats.across import combined, heterogeneity
from mmer_core.stats.across_calibration import USUAL, corpora_drawn, paule_mandel, weighted
from mmer_core.stats.calibration import Truth, simulate

OURS = ["fixed effect", "random effect", "prediction"]


def one(difference, se, df=4.0, first="self_tva", second="cross_tva", metric="accuracy", rope=0.02, **more):
    return Difference(first, second, metric, rope, difference, se, df, **more)


@pytest.fixture
def three():
    split = one(0.004, 0.009, 37.5, metric="accuracy, this split")
    return {"IEMOCAP": one(0.011, 0.006), "MELD": split, "demo": one(-0.01, 0.008, exploratory="chosen late")}


def test_every_row_by_hand(three):
    table = stats.across(three).set_index("corpus")
    assert list(table.index) == [*three, *OURS, "heterogeneity", "I²"]
    for name, c in three.items():
        row = table.loc[name]
        assert row[["difference", "se", "df", "p", "verdict"]].tolist() == [c.difference, c.se, c.df, c.p, c.verdict]
        assert row[["low", "high", "90% low", "90% high"]].tolist() == [*c.interval95, *c.interval90]
    d, v, df = np.array([0.011, 0.004, -0.01]), np.array([0.006, 0.009, 0.008]) ** 2, np.array([4, 37.5, 4])
    mean, se, freedom = d.mean(), np.sqrt(v.sum()) / 3, v.sum() ** 2 / (v**2 / df).sum()
    assert table.loc["fixed effect", ["difference", "se", "df"]].tolist() == pytest.approx([mean, se, freedom])
    t = scipy_stats.ttest_1samp(d, 0)
    assert table.loc["random effect", "p"] == pytest.approx(t.pvalue)
    assert table.loc["random effect", ["low", "high"]].tolist() == pytest.approx([*t.confidence_interval()])
    reach = scipy_stats.t.ppf(0.975, 2) * d.std(ddof=1) * np.sqrt(4 / 3)
    assert table.loc["prediction", ["low", "high"]].tolist() == pytest.approx([mean - reach, mean + reach])
    assert table.loc["prediction", "verdict"] == "" and np.isnan(table.loc["prediction", "p"])
    assert table["speaks of"].tolist()[:6] == [
        *("this corpus", "this split", "this corpus", "these corpora", "corpora like these", "one more corpus")
    ]
    assert set(table["metric"][3:]) == {"accuracy"} and table.loc["MELD", "metric"] == "accuracy, this split"
    assert table.loc["IEMOCAP", "exploratory"] == "" and set(table["exploratory"][2:]) == {"chosen late"}


def test_verdicts_of_the_means_are_those_of_a_difference(three):
    table = stats.across(three).set_index("corpus")
    for name in OURS[:2]:
        row = table.loc[name]
        c = one(row["difference"], row["se"], row["df"])
        assert (row["verdict"], row["p"], row["90% low"]) == (c.verdict, c.p, c.interval90.low)
    sure = stats.across({f"c{n}": one(0.05 + 0.001 * n, 0.004) for n in range(5)}).set_index("corpus")
    assert set(sure["verdict"]) == {"different", ""}


def test_means_and_heterogeneity_against_statsmodels(three):
    """With the variances pooled: Paule and Mandel's estimate, Hartung and Knapp's interval, Q and I²."""
    table, d = stats.across(three).set_index("corpus"), np.array([0.011, 0.004, -0.01])
    pooled = np.full(3, np.mean(np.array([0.006, 0.009, 0.008]) ** 2))
    theirs = combine_effects(100 * d, 1e4 * pooled, method_re="iterated", use_t=True)
    assert table.loc["random effect", "difference"] == pytest.approx(theirs.mean_effect_re / 100)
    assert table.loc["random effect", "se"] == pytest.approx(theirs.sd_eff_w_re_hksj / 100)
    assert table.loc["random effect", ["low", "high"]].tolist() == pytest.approx(theirs.conf_int()[3] / 100)
    assert table.loc["fixed effect", "se"] == pytest.approx(theirs.sd_eff_w_fe / 100)
    assert table.loc["heterogeneity", "difference"] == pytest.approx(np.sqrt(theirs.tau2) / 100, rel=1e-4)
    assert table.loc["I²", "difference"] == pytest.approx(theirs.i2)
    known = heterogeneity(d, pooled, 1e12)  # variances as good as known: Cochran's own chi-square
    assert known.p == pytest.approx(theirs.test_homogeneity().pvalue, rel=1e-6)


def test_limits_of_heterogeneity_are_where_q_meets_its_quantiles():
    d, v = np.array([0.03, -0.02, 0.05, 0.01, -0.04]), np.full(5, 1e-4)
    found = heterogeneity(d, v, 1e12)
    q = [((d - d.mean()) ** 2).sum() / variance for variance in (v[0] + found.low**2, found.high**2)]
    assert q == pytest.approx(scipy_stats.chi2.ppf([0.975, 0.025], 4), rel=1e-6)
    alike = heterogeneity(np.array([0.01, 0.0101]), np.full(2, 1e-4), 4)
    assert alike.sd == alike.low == alike.share == 0 < alike.high and alike.p > 0.9


def test_the_usual_weights_against_statsmodels():
    _, _, d, v = corpora_drawn(200, 4, 0.7, 3.0, 0.2)
    found, tau2 = weighted(d, v, 4), paule_mandel(d, v)
    for n in range(200):
        theirs = combine_effects(d[n], v[n], method_re="iterated")  # a smaller atol lets rounding end it at 0
        assert tau2[n] == pytest.approx(theirs.tau2, rel=1e-4, abs=1e-9)
        wanted = [(theirs.mean_effect_fe, theirs.sd_eff_w_fe), None, (theirs.mean_effect_re, theirs.sd_eff_w_re_hksj)]
        for name, pair in zip(USUAL, wanted, strict=False):
            if pair:
                assert (found[name][0][n], found[name][1][n]) == pytest.approx(pair, rel=1e-4)
    equal = weighted(d, np.ones_like(d), 4)["inverse variance, Meier"]  # by hand: p = 1/4
    assert (equal[1][0] ** 2, equal[2][0]) == pytest.approx(((1 + 4 * 4 * 3 / 16 / 4) / 4, 16))


def test_what_is_calibrated_is_what_across_says():
    _, _, d, v = corpora_drawn(20, 3, 0.5, 3.0, 0.2)
    many, h = combined(d, v, 4), heterogeneity(d, v, 4)
    for n in range(20):
        table = stats.across({f"c{k}": one(d[n, k] / 100, np.sqrt(v[n, k]) / 100) for k in range(3)}).set_index(
            "corpus"
        )
        for name in OURS:
            estimate, se, df = (np.broadcast_to(x, 20)[n] for x in many[name])
            assert table.loc[name, ["difference", "se", "df"]].tolist() == pytest.approx([estimate / 100, se / 100, df])
        wanted = [x[n] / 100 for x in (h.sd, h.low, h.high)]
        assert table.loc["heterogeneity", ["difference", "low", "high"]].tolist() == pytest.approx(wanted)
        assert table.loc["heterogeneity", "p"] == pytest.approx(h.p[n])


def test_simulated_corpora_have_the_variances_asked_for():
    true, new, d, v = corpora_drawn(40_000, 2, 0.5, 3.0, 0.2)
    assert (true.std(), new.std()) == pytest.approx((0.5, 0.5), rel=0.02)
    within = np.array([1 / 3, 3.0])  # squared
    assert (d - true).var(0) == pytest.approx(within * (0.2 + 0.8 / 5), rel=0.03)
    assert v.mean(0) == pytest.approx(within * 0.8 * (1 / 5 + 1 / 3), rel=0.03)


@pytest.mark.parametrize(
    ("studies", "slack"), [(1000, 0.02), pytest.param(20_000, 0.0, marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_level_and_coverage(studies, slack):
    """What is said of these corpora, of corpora like these and of one more holds; what is usual does not."""
    table = stats.across_calibration(studies)
    assert len(table) == 4 * 2 * 3 * 2 * 9
    reading = table["speaks of"].eq("corpora like these") & table["method"].eq("fixed effect")
    usual = table["method"].isin(USUAL)
    ours = table[~reading & ~usual]
    assert ours["coverage"].min() >= 0.94 - slack
    assert ours[["false positives", "false equivalence"]].max().max() <= 0.06 + slack
    if not slack:
        assert set(ours["promised"]) == {"yes"}
    for method in USUAL:
        assert table.loc[table["method"] == method, "coverage"].min() < 0.9, method
    assert table[reading & (table["heterogeneity"] == 1)]["false positives"].max() > 0.15
    assert (table.loc[reading, "promised"] == "no").any()


@pytest.mark.parametrize("studies", [20, pytest.param(600, marks=pytest.mark.slow)])
def test_whole_studies_through_compare(studies):
    """Three corpora, each with runs of its own and a true difference of its own; counted with `across` itself."""
    rng, covered = np.random.default_rng(4), np.zeros(3)
    for study in range(studies):
        true, comparisons = 0.5 + rng.standard_normal(4), {}
        for corpus in range(3):
            d = simulate(Truth(true[corpus], 1.0, 0.7, 0.2), 1, 5, 3, seed=10 * study + corpus)[0]
            comparisons[f"c{corpus}"] = stats.compare(frame(np.full((5, 3), 0.6), 0.6 + d / 100), "a", "b", rope=0.01)
        rows = 100 * stats.across(comparisons).set_index("corpus").loc[OURS, ["low", "high"]]
        truth = np.array([true[:3].mean(), 0.5, true[3]])
        covered += (rows["low"] <= truth) & (truth <= rows["high"])
    assert (covered / studies >= (0.93 if studies > 100 else 0.85)).all(), covered / studies


def test_two_corpora_say_little_and_it_is_said(three):
    del three["MELD"]
    notes = stats.across_notes(stats.across(three))
    assert "Two corpora say little about corpora: the random effect's interval is 12.7 standard errors" in notes
    assert "The fixed effect says nothing of a corpus that is not among these." in notes
    assert "Exploratory: chosen late." in notes and "split" not in notes
    many = stats.across_notes(stats.across({f"c{n}": one(0.01 * n, 0.01) for n in range(4)}))
    assert "say little" not in many and "Exploratory" not in many


def test_notes_say_what_the_rows_say(three):
    table = stats.across(three)
    lines, rows = stats.across_notes(table).splitlines(), table.set_index("corpus")
    for name, line in zip(OURS[:2], lines, strict=False):
        verdict, low = rows.loc[name, ["verdict", "low"]]
        assert line.startswith(name.capitalize()) and f": {verdict}: " in line and f"{100 * low:+.1f}" in line
        assert not line.endswith("..")
    assert "One split only: MELD" in stats.across_notes(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: list(c.values()), "across takes"),
        (lambda c: {**c, "x": 0.3}, "across takes"),
        (lambda c: {"MELD": c["MELD"]}, r"two corpora or more; got \['MELD'\]"),
        (lambda c: {}, "two corpora or more"),
        (lambda c: {**c, "fixed effect": one(0.1, 0.1)}, "'fixed effect'"),
        (lambda c: {**c, "I²": one(0.1, 0.1)}, "'I²'"),
        (lambda c: {**c, " ": one(0.1, 0.1)}, "name that is text"),
        (lambda c: {**c, 7: one(0.1, 0.1)}, "name that is text"),
        (lambda c: {**c, "x": one(0.1, 0.1, first="self_ta")}, "x has another variants than IEMOCAP"),
        (lambda c: {**c, "x": one(0.1, 0.1, first="cross_tva", second="self_tva")}, "self_tva - cross_tva, not"),
        (lambda c: {**c, "x": one(0.1, 0.1, metric="macro_f1")}, "x has another metric .* macro_f1, not accuracy"),
        (lambda c: {**c, "x": one(0.1, 0.1, rope=0.01)}, "x has another margin .* 0.01, not 0.02"),
        (lambda c: {**c, "x": one(0.1, 0.0)}, "x: its standard error is 0"),
        (lambda c: {**c, "x": one(float("nan"), 0.1)}, "x: difference, se and df are finite"),
        (lambda c: {**c, "x": one(0.1, 0.1, 0)}, "x: difference, se and df are finite"),
        (lambda c: {"x": c["MELD"], "y": c["MELD"]}, "the very same difference, 0.004: is one given twice"),
    ],
)
def test_what_cannot_be_combined_is_refused(three, change, message):
    with pytest.raises(mc.MmerError, match=message):
        stats.across(change(three))


def test_the_forest_shows_every_row(three):
    table = stats.across(three)
    ax = figures.forest_across(table, "t").axes[0]
    rows = table.iloc[:6]
    drawn = [np.asarray(line.get_xdata(), float) for line in ax.lines]
    for _, row in rows.iterrows():
        assert any(np.allclose(x, 100 * row[["low", "high"]].astype(float)) for x in drawn if len(x) == 2)
    assert [t.get_text() for t in ax.texts] == [
        f"{row['verdict']}{' (exploratory)' * bool(row['exploratory'])}" for _, row in rows.iloc[:5].iterrows()
    ]
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "IEMOCAP",
        "MELD:\nthis split",
        "demo",
        "fixed effect:\nthese corpora",
        "random effect:\ncorpora like these",
        "prediction:\none more corpus",
    ]
    shaded = [patch.get_x() + np.array([0, patch.get_width()]) for patch in ax.patches]
    assert any(np.allclose(x, [-2, 2]) for x in shaded)
    assert "Cross T+V+A − Self T+V+A" in ax.get_xlabel() and "SD between corpora" in ax.get_xlabel()


def test_corpora_that_agree_by_chance_are_no_surer_than_one_of_them():
    """Two corpora with all but the same difference, each with a wide interval: their spread is no measure of error."""
    one = Difference("a", "b", "accuracy", 0.02, 0.0300, 0.02, 4)
    two = Difference("a", "b", "accuracy", 0.02, 0.0301, 0.02, 4)
    rows = stats.across({"one": one, "two": two}).set_index("corpus")
    assert rows.loc[["fixed effect", "random effect"], "verdict"].tolist() == ["undecided"] * 2
    assert rows.loc["random effect", "se"] >= rows.loc["fixed effect", "se"] * (1 - 1e-12)
    assert rows.loc["prediction", "se"] > rows.loc["random effect", "se"]
