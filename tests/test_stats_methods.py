"""Every number beside the verdict against an independent source: scipy, statsmodels, baycomp, brute force, formulas."""

import itertools

import baycomp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats as scipy_stats
from test_stats import frame

import mmer_core as mc
from mmer_core import stats
from mmer_core.stats import calibration
from mmer_core.stats.calibration import METHODS, Truth, rates, simulate, twins, variance_levels
from mmer_core.stats.effects import holm
from mmer_core.stats.planner import verdict_chances


def compared(d, rope=0.02, n_train=600, n_test=200):
    """The comparison whose differences of single runs [folds, seeds], in points, are d."""
    a = 0.6 + 0.01 * np.random.default_rng(3).standard_normal(d.shape)
    return stats.compare(frame(a, a + d / 100, n_train, n_test), "a", "b", rope=rope)


@pytest.fixture
def d(rng):
    return 0.5 + 1.5 * rng.standard_normal((5, 1)) + rng.standard_normal((5, 10))


# ------------------------------------------------------------------------------------------------ methods side by side


def test_methods_against_scipy_statsmodels_and_brute_force(d):
    table = stats.side_by_side(compared(d)).set_index("method")
    naive = scipy_stats.ttest_1samp(d.ravel() / 100, 0)
    assert table.loc["paired t on 50 runs", "p"] == pytest.approx(naive.pvalue)
    assert table.loc["paired t on 50 runs", "interval"] == pytest.approx(tuple(naive.confidence_interval()))
    means = d.mean(1) / 100
    assert table.loc["paired t on fold means", "p"] == pytest.approx(scipy_stats.ttest_1samp(means, 0).pvalue)
    assert table.loc["Wilcoxon on fold means", "p"] == pytest.approx(scipy_stats.wilcoxon(means).pvalue)
    flips = [abs(np.mean(s * means)) >= abs(means.mean()) - 1e-12 for s in itertools.product((1, -1), repeat=5)]
    assert table.loc["sign flip on fold means", "p"] == pytest.approx(np.mean(flips))
    data = pd.DataFrame({"d": d.ravel(), "fold": np.repeat(range(5), 10)})
    fit = smf.mixedlm("d ~ 1", data, groups="fold").fit(reml=True)
    low, high = fit.conf_int().loc["Intercept"] / 100
    assert table.loc["mixed model (z)", "interval"] == pytest.approx((low, high), rel=1e-3)
    assert table.loc["mixed model (z)", "p"] == pytest.approx(fit.pvalues["Intercept"], rel=1e-2)


def test_a_mixed_model_that_cannot_be_fitted_is_told(d, monkeypatch):
    def fail(*_, **__):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(stats.methods.MixedLM, "fit", fail)
    row = stats.side_by_side(compared(d)).set_index("method").loc["mixed model (z)"]
    assert row["interval"] is None and np.isnan(row["p"]) and "failed" in row["limit"]


def test_the_bootstrap_has_the_spread_that_theory_gives_it(d):
    """Variance of the resampled mean: between fold means / F + within folds / (F S), both with divisor n."""
    low, high = stats.side_by_side(compared(d)).set_index("method").loc["hierarchical bootstrap", "interval"]
    sd = np.sqrt(d.mean(1).var() / 5 + d.var(1).mean() / 50) / 100
    assert (high - low) / (2 * 1.96) == pytest.approx(sd, rel=0.08)


def test_wilcoxon_and_sign_flip_cannot_go_below_their_floor():
    table = stats.side_by_side(compared(np.full((5, 2), 5.0) + np.arange(5)[:, None])).set_index("method")
    assert table.loc["Wilcoxon on fold means", "p"] == table.loc["sign flip on fold means", "p"] == 0.0625
    assert "0.0625" in table.loc["Wilcoxon on fold means", "limit"]


def test_bayesian_probabilities_against_baycomp_and_the_verdict(d):
    c = compared(d, n_train=800)  # n_test / n_train = 1/4, which is what baycomp takes for five folds
    first, second = c.folds["first"].to_numpy(), c.folds["second"].to_numpy()
    wanted = baycomp.two_on_single(first, second, rope=0.02, runs=1)
    assert tuple(stats.bayesian(c).values()) == pytest.approx(wanted)
    z = (c.rope - c.difference) / c.se
    assert stats.bayesian(c)["second better"] == pytest.approx(scipy_stats.t.sf(z, 4))
    point = compared(np.full((5, 2), 3.0))  # the same difference in all folds
    wanted = baycomp.single.Posterior(point.difference, 0, 4, point.rope).probs()
    assert tuple(stats.bayesian(point).values()) == wanted == (0, 0, 1)


def test_what_hinges_on_the_overlap_is_told():
    d = np.array([1.0, 2.0, 3.0, 2.5, 1.5])[:, None] * np.ones((1, 2))
    assert not stats.hinges_on_overlap(compared(d))
    d = np.array([0.1, 2.0, 3.0, 2.5, 0.8])[:, None] * np.ones((1, 2))
    assert compared(d).verdict == "undecided" and stats.hinges_on_overlap(compared(d))


def test_only_methods_that_keep_their_level_may_disagree():
    """Eight folds, seven of them clearly above zero and one far below: ranks see a difference, the t does not."""
    d = np.array([2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, -0.1])[:, None] * np.ones((1, 2))
    table = stats.side_by_side(compared(d, n_test=6000)).set_index("method")
    assert table.loc["Wilcoxon on fold means", "p"] < 0.05 < table.loc["corrected t on fold means (the verdict)", "p"]
    assert any("disagree" in c and "Wilcoxon" in c for c in stats.cautions(compared(d, n_test=6000)))
    five = compared(np.array([1.0, 1.1, 1.2, 1.05, 1.15])[:, None] * np.ones((1, 2)))
    assert five.verdict == "negligible" and stats.cautions(five) == []


def predictions(rng, accuracy, folds=3, seeds=2, n=60, classes=4):
    found = {}
    for f, s in itertools.product(range(folds), range(seeds)):
        label = np.random.default_rng(f).integers(classes, size=n)
        logits = rng.standard_normal((n, classes))
        right = rng.random(n) < accuracy
        logits[np.arange(n), label] += np.where(right, 9, -9)
        found[f, s] = {"ids": np.array([f"{f}/{i}" for i in range(n)]), "label": label, "logits": logits}
    return found


def test_clustered_interval_against_a_regression_with_clustered_errors(rng):
    a, b = predictions(rng, 0.6), predictions(rng, 0.7)
    clusters = {f"{f}/{i}": f"{f}/{i // 7}" for f in range(3) for i in range(60)}
    rows = []
    for f in range(3):
        right = [np.mean([p[f, s]["logits"].argmax(1) == p[f, s]["label"] for s in (0, 1)], 0) for p in (a, b)]
        rows += [(x, clusters[f"{f}/{i}"]) for i, x in enumerate(right[1] - right[0])]
    data = pd.DataFrame(rows, columns=["d", "cluster"])
    codes = data["cluster"].astype("category").cat.codes
    fit = sm.OLS(data["d"], np.ones(len(data))).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}
    )
    G = codes.nunique()
    found = stats.clustered(a, b, clusters)
    assert found.estimate == pytest.approx(fit.params.iloc[0])
    reach = scipy_stats.t.ppf(0.975, G - 1) * fit.bse.iloc[0] * np.sqrt(G / (G - 1))
    assert found.interval == pytest.approx((found.estimate - reach, found.estimate + reach))
    assert "not known" in stats.clustered(a, b).method and f"{G} dialogues" in found.method


def test_mcnemar_against_the_binomial(rng):
    a, b = predictions(rng, 0.6), predictions(rng, 0.8)
    only = [0, 0]
    for f in range(3):
        right = []
        for p in (a, b):
            e = [np.exp(p[f, s]["logits"]) for s in (0, 1)]
            right.append(np.mean([x / x.sum(1, keepdims=True) for x in e], 0).argmax(1) == p[f, 0]["label"])
        only[0] += int((right[0] & ~right[1]).sum())
        only[1] += int((~right[0] & right[1]).sum())
    found = stats.ensembles(a, b)
    assert found.p == pytest.approx(scipy_stats.binomtest(only[0], sum(only)).pvalue)
    assert found.estimate == pytest.approx((only[1] - only[0]) / 180)


# ------------------------------------------------------------------------------------------------------- variance


def test_components_of_a_difference_against_statsmodels(d):
    found = stats.difference_components(compared(d)).set_index("component")
    data = pd.DataFrame({"d": d.ravel(), "fold": np.repeat([str(f) for f in range(5)], 10)})
    table = sm.stats.anova_lm(smf.ols("d ~ fold", data).fit())
    between, within = table["mean_sq"]
    assert found.loc["between folds", "variance"] == pytest.approx((between - within) / 10)
    assert found.loc["within folds (seeds)", "variance"] == pytest.approx(within)
    low, high = found.loc["within folds (seeds)", ["low", "high"]]
    assert scipy_stats.chi2.cdf(45 * within / low, 45) == pytest.approx(0.975)
    assert scipy_stats.chi2.cdf(45 * within / high, 45) == pytest.approx(0.025)


def test_intervals_of_components_hold_the_truth():
    held = np.zeros(2)
    for d in simulate(Truth(0, 1.0, 1.0), 300, seed=5):
        rows = stats.difference_components(compared(d))
        held += (rows["low"] <= [1.0, 2.0]) & (rows["high"] >= [1.0, 2.0])
    assert (held / 300 > 0.92).all()


def test_a_negative_component_is_shown_as_it_is():
    d = np.array([[3.0, -3], [-3, 3], [2, -2], [-2, 2], [0, 0]])
    found = stats.difference_components(compared(d)).set_index("component")
    assert found.loc["between folds", "variance"] < 0 and np.isnan(found.loc["between folds", "sd"])


def test_components_of_scores_against_statsmodels(rng):
    y = 60 + rng.standard_normal((3, 1, 1)) + 2 * rng.standard_normal((1, 5, 1)) + rng.standard_normal((3, 5, 4))
    rows = [
        dict(variant=f"v{v}", fold=f, seed=s, accuracy=y[v, f, s] / 100)
        for v, f, s in itertools.product(range(3), range(5), range(4))
    ]
    found = stats.score_components(pd.DataFrame(rows), ["v0", "v1", "v2"], "accuracy").set_index("component")[
        "variance"
    ]
    data = pd.DataFrame(rows).assign(y=lambda x: 100 * x["accuracy"], fold=lambda x: x["fold"].astype(str))
    table = sm.stats.anova_lm(smf.ols("y ~ variant * fold", data).fit())["mean_sq"]
    assert found["seed"] == pytest.approx(table["Residual"])
    assert found["variant x fold"] == pytest.approx((table["variant:fold"] - table["Residual"]) / 4)
    assert found["fold"] == pytest.approx((table["fold"] - table["variant:fold"]) / 12)


def test_intervals_of_score_components_hold_the_truth(rng):
    held, truth = np.zeros(3), np.array([4.0, 1.0, 2.25])  # fold, variant x fold, seed
    index = pd.MultiIndex.from_product([["v0", "v1"], range(5), range(6)], names=["variant", "fold", "seed"])
    for _ in range(200):
        parts = [sd * rng.standard_normal(n) for sd, n in ((2, (1, 5, 1)), (1, (2, 5, 1)), (1.5, (2, 5, 6)))]
        frame = pd.DataFrame({"accuracy": (sum(parts) / 100 + 0.6).ravel()}, index=index).reset_index()
        rows = stats.score_components(frame, ["v0", "v1"], "accuracy")
        held += ((rows["low"] <= truth) & (truth <= rows["high"])).to_numpy()
    assert (held / 200 > 0.9).all(), held


def test_with_one_seed_all_variance_counts_as_between_folds():
    c = compared(np.arange(5.0)[:, None])
    assert variance_levels(c)["as estimated"] == pytest.approx((np.arange(5.0).std(ddof=1), 0))
    assert any("one seed" in note for note in c.notes) and "one seed" in stats.advice(c)
    assert len(stats.calibration_table(c, studies=50)) and len(stats.plan(c)) and len(stats.chances_now(c))


def test_one_seed_has_no_components():
    with pytest.raises(ValueError, match="two or more"):
        stats.difference_components(compared(np.arange(5.0)[:, None]))


def test_correlation_of_seeds(rng):
    shared = rng.standard_normal((200, 10))
    a, b = (0.5 + 0.01 * (shared + rng.standard_normal((200, 10))) for _ in range(2))
    c = stats.compare(frame(a, b), "a", "b", rope=0.02)
    x, y = ((s - s.mean(1, keepdims=True)).ravel() for s in (a, b))
    assert stats.seed_correlation(c) == pytest.approx(scipy_stats.pearsonr(x, y).statistic)
    assert stats.seed_correlation(c) == pytest.approx(0.5, abs=0.06)


def test_sampling_variance_against_resampled_test_parts(rng):
    a, b = (predictions(rng, p, folds=2, seeds=4, n=80) for p in (0.6, 0.7))
    found, brute = stats.sampling_variance(a, b), []
    for f in range(2):
        right = [np.array([p[f, s]["logits"].argmax(1) == p[f, s]["label"] for s in range(4)], float) for p in (a, b)]
        rows = rng.integers(80, size=(4000, 80))
        brute.append(np.var([100 * (right[1][:, r].mean() - right[0][:, r].mean()) for r in rows]))
    assert found == pytest.approx(np.mean(brute) * 80 / 79, rel=0.05)


# ----------------------------------------------------------------------------------------- calibration and planner

WORLDS = [  # true difference, SD over folds, SD over seeds, r; what is promised of the verdict
    (Truth(0, 2, 1.5, 0), lambda r: r["different"] <= 0.05),
    (Truth(0, 2, 1.5, 0.2), lambda r: r["different"] <= 0.07),
    (Truth(1, 0.5, 0.5), lambda r: r["equivalent"] <= 0.05),
    (Truth(0.2, 0.25, 0.5), lambda r: r["equivalent"] >= 0.80),
    (Truth(2.5, 0.5, 1.5), lambda r: r["different"] >= 0.80),
]


@pytest.mark.parametrize("studies", [100, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("truth", "promise"), WORLDS)
def test_the_verdict_keeps_its_promises(truth, promise, studies):
    """Counted with `compare` itself, study by study."""
    verdicts = [compared(d, rope=0.01).verdict for d in simulate(truth, studies, seed=11)]
    share = {
        "different": np.mean([v in ("different", "negligible") for v in verdicts]),
        "equivalent": np.mean([v in ("equivalent", "negligible") for v in verdicts]),
    }
    assert promise(share), share


def test_the_naive_test_does_not():
    table = rates(Truth(0, 2, 1.5), 1.0, 500, 5, 10, 1 / 3).set_index("method")
    assert table.loc["paired t on all runs", "different"] > 0.15
    assert table.loc["paired t on all runs", "equivalent"] > 0.15


def test_vectorised_methods_are_the_ones_shown(d):
    table = stats.side_by_side(compared(d)).set_index("method")["interval"]
    for name, shown in (
        ("corrected t on fold means (the verdict)", "corrected t on fold means (the verdict)"),
        ("paired t on all runs", "paired t on 50 runs"),
        ("paired t on fold means", "paired t on fold means"),
        ("mixed model (z)", "mixed model (z)"),
        ("hierarchical bootstrap", "hierarchical bootstrap"),
    ):
        centre, wide, _ = (x[0] for x in METHODS[name](d[None], 1 / 3))
        rough = 0.12 if "bootstrap" in name else 2e-3
        assert (100 * table[shown].high - centre) == pytest.approx(wide, rel=rough), name


def test_simulated_studies_have_the_variances_asked_for():
    d = simulate(Truth(0.7, 2.0, 1.5, 0.3), 40_000, 5, 4)
    assert d.mean() == pytest.approx(0.7, abs=0.03)
    assert d.var(2, ddof=1).mean() == pytest.approx(2 * 1.5**2, rel=0.02)
    means = d.mean(2)
    assert means.var(0).mean() == pytest.approx(4 + 4.5 / 4, rel=0.03)
    assert np.cov(means[:, 0], means[:, 1])[0, 1] == pytest.approx(0.3 * 4, rel=0.08)


def test_the_calibration_table_is_about_this_study(d):
    c = compared(d)
    table = stats.calibration_table(c, studies=300)
    assert set(table["variances"]) == {"as estimated", "upper 80% limit"} and set(table["r"]) == {0, 0.1, 0.2}
    t, s = variance_levels(c)["as estimated"]
    parts = stats.difference_components(c).set_index("component")["variance"]
    assert (t**2, 2 * s**2) == pytest.approx((parts["between folds"], parts["within folds (seeds)"]))
    mine = table.query("variances == 'as estimated' and r == 0 and method.str.contains('verdict')").iloc[0]
    wanted = rates(Truth(0, t, s), 2.0, 300, 5, 10, c.overlap).iloc[0]
    assert mine["false positives"] == wanted["different"] and mine["coverage"] == wanted["covered"]
    assert mine["coverage"] == pytest.approx(1 - mine["false positives"])


def test_twins_are_rarely_called_different():
    table = twins(corpora=300).set_index("method")["different"]
    assert table["corrected t on fold means (the verdict)"] <= 0.05
    assert table["paired t on all runs"] > 0.15


def test_a_variant_against_itself(rng):
    a = 0.6 + 0.02 * rng.standard_normal((5, 7))
    c = stats.same_against_same(frame(a, a), "a", "accuracy", 0.02)
    assert c.difference == pytest.approx(a[:, 3:6].mean() - a[:, :3].mean())
    assert len(c.pairs) == 15
    with pytest.raises(ValueError, match="one seed"):
        stats.same_against_same(frame(a[:, :1], a[:, :1]), "a", "accuracy", 0.02)


def test_chances_of_verdicts_against_simulated_studies():
    """Two random numbers a study, against whole studies through compare."""
    found = verdict_chances(1.0, 0.5, 0.8, 5, 10, 1 / 3, 1.0)
    verdicts = [compared(d, rope=0.01).verdict for d in simulate(Truth(1.0, 0.5, 0.8), 400, seed=2)]
    for name, chance in found.items():
        assert np.mean([v == name for v in verdicts]) == pytest.approx(chance, abs=0.08), name
    assert sum(found.values()) == pytest.approx(1)


def test_the_planner_by_hand(d):
    c = compared(d)
    t, s = variance_levels(c)["as estimated"]
    table = stats.plan(c, hours=3.0, sampling=0.5).set_index("option")
    now = scipy_stats.t.ppf(0.975, 4) * np.sqrt((t**2 + 2 * s**2 / 10) * (1 / 5 + 1 / 3))
    assert table.loc["as it is", "half-width (points)"] == pytest.approx(now)
    sampled = min(t**2, 0.5)  # half of it goes with twice the utterances
    more = scipy_stats.t.ppf(0.975, 4) * np.sqrt((t**2 - sampled / 2 + 2 * s**2 / 10) * (1 / 5 + 1 / 3))
    assert table.loc["twice the utterances", "half-width (points)"] == pytest.approx(more)
    assert table.loc["ten times the seeds", "hours"] == 30
    assert (table["half-width (points)"].iloc[1:] <= now).all()
    chances = stats.chances_now(c)
    assert chances["true difference (points)"].tolist() == [0, 2.0]


def test_the_planner_says_when_seeds_buy_nothing():
    d = np.arange(5.0)[:, None] + 0.01 * np.random.default_rng(0).standard_normal((5, 10))
    assert "buy nothing" in stats.advice(compared(d))
    d = np.random.default_rng(0).standard_normal((5, 2))
    assert "shorter" in stats.advice(compared(d))


# ------------------------------------------------------------------------------- effects, classes, reports, others


def test_effect_sizes_by_hand(d):
    c = compared(d)
    found = stats.effect_sizes(c).set_index("size")["value"]
    assert found["points"] == pytest.approx(d.mean())
    scatter = np.sqrt((c.pairs["first"].var() + c.pairs["second"].var()) / 2)
    assert found["SDs of one run"] == pytest.approx(c.difference / scatter)
    u = []
    for _, m in c.pairs.groupby("fold"):
        u.append(scipy_stats.mannwhitneyu(m["second"], m["first"]).statistic / 100)
    assert found["P(second beats first)"] == pytest.approx(np.mean(u))


def recalls(rng):
    rows = [
        dict(
            variant=v, fold=f, seed=s, recall=0.5 + 0.1 * k + 0.02 * rng.standard_normal() + 0.1 * (v == "b") * (k == 0)
        )
        | {"class": f"c{k}", "n_train": 600, "n_test": 200}
        for v, f, s, k in itertools.product("ab", range(5), range(3), range(3))
    ]
    return pd.DataFrame(rows)


def test_per_class_differences_are_comparisons_with_holm(rng):
    r = recalls(rng)
    table = stats.per_class(r, "a", "b", rope=0.02).set_index("class")
    mine = r[r["class"] == "c0"].rename(columns={"recall": "score"})
    c = stats.compare(mine, "a", "b", "score", rope=0.02)
    assert table.loc["c0", ["difference", "low", "high", "p"]].tolist() == [c.difference, *c.interval95, c.p]
    p = sorted(table["p"])
    wanted = np.minimum(np.maximum.accumulate(np.array([3, 2, 1]) * p), 1)
    assert sorted(table["p (Holm)"]) == pytest.approx(wanted.tolist())
    lone = r.assign(recall=r["recall"].where((r["class"] != "c2") | (r["fold"] != 1)))
    assert stats.per_class(lone, "a", "b", rope=0.02).set_index("class").loc["c2"].isna().all()
    interval = stats.recall_interval(r, "a").set_index("class").loc["c1"]
    fold = r.query("variant == 'a' and `class` == 'c1'").groupby("fold")["recall"].mean()
    reach = scipy_stats.t.ppf(0.975, 4) * fold.std() * np.sqrt(1 / 5 + 1 / 3)
    assert interval["high"] - interval["recall"] == pytest.approx(reach)


@pytest.mark.parametrize(
    ("found", "n", "verdict"),
    [((0, 0), 2, "undecided"), ((0, 0), 10_000, "equivalent"), ((0, 1), 2, "different"), ((1, 1), 2, "undecided")],
)
def test_a_class_that_scatters_nowhere_is_judged_by_its_utterances(found, n, verdict):
    """Never found by either side, in five folds of n: that is no proof that the two sides are alike."""
    rows = itertools.product((0, 1), range(5), range(2))
    table = pd.DataFrame([{"variant": "ab"[v], "fold": f, "seed": s, "recall": found[v], "n": n} for v, f, s in rows])
    one = stats.per_class(table.assign(**{"class": "rare"}), "a", "b", rope=0.02).iloc[0]
    bound = 1 - 0.025 ** (1 / (5 * n))  # of Clopper and Pearson, for none of 5 n
    reach = bound * (np.sqrt(2) if found == (0, 1) else 1)
    assert one["difference"] == found[1] - found[0] and one["verdict"] == verdict
    assert one["p"] == (0.05 if verdict == "different" else 1)
    if found == (0, 1):
        assert one["low"] == pytest.approx(1 - reach) and one["high"] == pytest.approx(1)
    else:
        assert [one["low"], one["high"]] == pytest.approx([-reach, reach])


def test_only_a_missing_class_is_left_out(rng):
    """Whatever else is wrong with the request is told: it must not look like classes that nobody has."""
    r = recalls(rng)
    lacking = r.assign(recall=r["recall"].where((r["class"] != "c0") | (r["fold"] != 1)))
    for bad in (r, lacking, lacking[lacking["class"] == "c0"]):
        with pytest.raises(mc.MmerError, match="'no_such_variant'"):
            stats.per_class(bad, "a", "no_such_variant", rope=0.02)
    for change, message in (
        (dict(rope=0), "rope"),
        (dict(rope=-0.02), "rope"),
        (dict(second="a"), "itself"),
        (dict(recalls=r[r["fold"] < 2]), "three folds"),
        (dict(recalls=pd.concat([r, r])), "several results"),
    ):
        with pytest.raises(mc.MmerError, match=message):
            stats.per_class(**{"recalls": r, "first": "a", "second": "b", "rope": 0.02, **change})
    everywhere = stats.per_class(lacking[lacking["class"] == "c0"], "a", "b", rope=0.02)
    assert everywhere["class"].tolist() == ["c0"] and everywhere.drop(columns="class").isna().all(axis=None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda f: stats.recall_interval(f, "no_such_variant"),
        lambda f: stats.same_against_same(f, "no_such_variant", "accuracy", 0.02),
        lambda f: stats.score_components(f, ["a", "no_such_variant"], "accuracy"),
        lambda f: stats.compare(f, "a", "no_such_variant", rope=0.02),
    ],
)
def test_a_misspelt_variant_is_named(rng, ask):
    a = 0.6 + 0.01 * rng.standard_normal((5, 4))
    with pytest.raises(mc.MmerError, match=r"'no_such_variant'; there are \['a', 'b'\]"):
        ask(frame(a, a + 0.01))


def test_holm_leaves_unknown_ones_out():
    assert holm(pd.Series([0.01, np.nan, 0.04])) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def test_the_report_says_no_more_than_the_verdicts(rng):
    a = 0.6 + 0.01 * rng.standard_normal((5, 4))
    close = a + 0.0005 * rng.standard_normal((5, 4))
    wide = a + 0.05 * rng.standard_normal((5, 1))
    f = pd.concat(
        [
            frame(a, close).replace({"a": "self_tv", "b": "cross_tv"}),
            frame(a, wide).replace({"a": "self_ta", "b": "cross_ta"}),
        ]
    )
    both = [stats.compare(f, f"self_{m}", f"cross_{m}", rope=0.02) for m in ("tv", "ta")]
    assert [c.verdict for c in both] == ["equivalent", "undecided"] and not any(c.exploratory for c in both)
    text = stats.prose(both, "toy corpus")
    assert "1 of 2 sets" in text and "Nor is a difference shown" in text and "no evidence of equality" in text
    assert "comparable within the margin in this set" in stats.prose(both[:1], "toy corpus")
    table = stats.verdict_table(both)
    assert table["p (Holm)"].tolist() == pytest.approx(holm(pd.Series([c.p for c in both])).tolist())
    picked = stats.compare(f, "self_tv", "cross_ta", rope=0.02, exploratory="it was picked by hand")
    assert picked.sentence().endswith("Exploratory: it was picked by hand.")
    assert stats.verdict_table([both[0], picked])["exploratory"].tolist() == ["no", "yes"]
    others = stats.prose([*both, picked], "toy corpus")  # not self against cross: no sentence may say that they are
    assert "of 3 pairs" in others and "modalities" not in others and "Self- and cross-attention" not in others


def test_what_is_about_self_and_cross_attention_is_told_by_the_names(rng):
    a = 0.6 + 0.01 * rng.standard_normal((5, 4))

    def about(first, second):
        return stats.self_and_cross(
            stats.compare(frame(a, a + 0.01).replace({"a": first, "b": second}), first, second, rope=0.02)
        )

    assert about("self_tva", "cross_tva") and about("cross_ta_corrected", "self_ta_corrected")
    for first, second in (("self_tva", "cross_tv"), ("uniform_tva", "cross_tva"), ("self_tva", "cross_tva_nosp")):
        assert not about(first, second) and not about(second, first)


def test_without_comparisons_the_report_says_so():
    assert stats.prose([], "toy corpus") == "On the toy corpus, no declared comparison has been trained."
    assert len(stats.verdict_table([])) == 0 and "verdict" in stats.verdict_table([])


def test_anybodys_csv(tmp_path, rng):
    a = 0.6 + 0.01 * rng.standard_normal((5, 2))
    f = frame(a, a + 0.05)[["variant", "fold", "seed", "accuracy"]]
    f.to_csv(tmp_path / "theirs.csv", index=False)
    assert stats.compare(str(tmp_path / "theirs.csv"), "a", "b", rope=0.02).verdict == "different"


def test_published_means_give_a_range_of_verdicts():
    table = stats.from_summaries((0.642, 0.019), (0.636, 0.012), 5, rope=0.02).set_index("correlation")
    variance = 0.019**2 + 0.012**2 - 2 * 0.5 * 0.019 * 0.012
    assert table.loc[0.5, "se"] == pytest.approx(np.sqrt(variance * (1 / 5 + 1 / 4)))
    low, high = scipy_stats.t.interval(0.95, 4, -0.006, table.loc[0.5, "se"])
    assert table.loc[0.5, ["low", "high"]].tolist() == pytest.approx([low, high])
    assert table.loc[-1.0, "verdict"] == "undecided" and table.loc[1.0, "verdict"] == "equivalent"
    for wrong in (dict(folds=2), dict(first=(0.5, -1))):
        with pytest.raises(ValueError):
            stats.from_summaries(**{"first": (0.6, 0.01), "second": (0.6, 0.01), "folds": 5, "rope": 0.02, **wrong})


def test_one_official_split(rng):
    a, b = (list(predictions(rng, p, folds=1, seeds=6, n=300).values()) for p in (0.6, 0.75))
    found = stats.on_one_split(a, b, rope=0.02)
    right = [np.array([p["logits"].argmax(1) == p["label"] for p in side], float) for side in (a, b)]
    sampling = (right[1].mean(0) - right[0].mean(0)).var(ddof=1) / 300
    seeds = sum(r.mean(1).var(ddof=1) / 6 for r in right)
    assert found.difference == pytest.approx(right[1].mean() - right[0].mean())
    assert found.se == pytest.approx(np.sqrt(sampling + seeds))
    assert "this split" in found.sentence() and found.verdict == "different"
    with pytest.raises(ValueError, match="two seeds"):
        stats.on_one_split(a[:1], b, rope=0.02)
    other = [{**p, "ids": np.roll(p["ids"], 1) if i else p["ids"].astype("U9") + "x"} for i, p in enumerate(b)]
    with pytest.raises(ValueError, match="same utterances"):
        stats.on_one_split(a, other, rope=0.02)


def test_compare_is_quick(d):
    import time

    f = frame(0.6 + d / 100, 0.6 + d / 50)
    stats.compare(f, "a", "b", rope=0.02)
    took = []
    for _ in range(10):  # the best of ten, in time of this process: others may keep the machine busy
        start = time.process_time()
        stats.compare(f, "a", "b", rope=0.02).verdict  # noqa: B018
        took.append(time.process_time() - start)
    assert min(took) < 0.05


def test_every_simulated_method_has_a_row():
    assert set(rates(Truth(0, 1, 1), 1.0, 50, 5, 3, 0.3)["method"]) > set(calibration.METHODS)
