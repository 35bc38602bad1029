"""All pairs of variants and the set that may be the best: Holm by hand and by statsmodels, and planted truths."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from statsmodels.stats.multitest import multipletests

import mmer_core as mc
from mmer_core import figures, stats
from mmer_core.figures.many import TINTS
from mmer_core.stats import Difference


def pair(first, second, difference, se=0.004, **more):
    return Difference(first, second, "accuracy", 0.02, difference, se, 4, **more)


@pytest.fixture
def pairs():
    return [
        pair("self_t", "self_ta", 0.06, 0.002),
        pair("self_ta", "cross_ta", 0.001, exploratory="chosen late"),
        pair("self_t", "cross_ta", 0.05, 0.002),
        pair("cross_ta", "self_a", -0.01),
        pair("self_ta", "self_a", -0.012),
        pair("self_a", "self_t", -0.03),
    ]


def test_holm_by_hand_and_by_statsmodels(pairs):
    table = stats.all_pairs(pairs)
    p = np.array([c.p for c in pairs])
    order, running, wanted = np.argsort(p), 0.0, np.empty(6)
    for rank, n in enumerate(order):
        running = max(running, min(1, (6 - rank) * p[n]))
        wanted[n] = running
    assert table["p (Holm)"].to_numpy() == pytest.approx(wanted)
    assert table["p (Holm)"].to_numpy() == pytest.approx(multipletests(p, method="holm")[1])
    for c, row in zip(pairs, table.to_dict("records"), strict=True):
        assert (row["first"], row["second"], row["verdict"], row["p"]) == (c.first, c.second, c.verdict, c.p)
        points = [row["points"], row["95% low"], row["95% high"]]
        assert points == pytest.approx([100 * x for x in (c.difference, *c.interval95)])
    assert table["exploratory"].tolist() == ["no", "yes", "no", "no", "no", "no"]
    assert len(stats.all_pairs([])) == 0 and "verdict" in stats.all_pairs([])


def test_the_set_leaves_out_what_is_shown_worse(pairs):
    found = stats.not_shown_worse(pairs)
    table = stats.all_pairs(pairs)
    assert (table["p (Holm)"] < 0.05).tolist() == [True, False, True, False, False, True]
    assert found.variants == ["self_ta", "cross_ta", "self_a"] and found.missing == []
    assert found.worse == {"self_t": ["self_ta", "cross_ta", "self_a"]}
    assert "The best is among self_ta, cross_ta, self_a" in found.sentence and "6 pairs" in found.sentence
    assert "sets of modalities" not in found.sentence
    assert "The best set of modalities is among ta, a: every variant of t is shown worse" in found.sentence
    assert "Exploratory: 1 of 6 pairs" in found.sentence


def test_the_order_within_a_pair_does_not_matter(pairs):
    turned = [pair(c.second, c.first, -c.difference, c.se, exploratory=c.exploratory) for c in pairs]
    assert set(stats.not_shown_worse(turned).variants) == set(stats.not_shown_worse(pairs).variants)


def test_what_cannot_be_told_is_said():
    unsure = [pair("a", "b", 0.01, 0.02), pair("b", "c", 0.01, 0.02), pair("a", "c", 0.02, 0.02)]
    found = stats.not_shown_worse(unsure)
    assert found.variants == ["a", "b", "c"] and found.worse == {}
    assert found.sentence.startswith("Which of the 3 variants is best cannot be told")
    assert "modalities" not in found.sentence, "names that are not ours say nothing of modalities"


def test_only_one_left_and_no_set_ruled_out():
    found = stats.not_shown_worse([pair("self_ta", "cross_ta_nosp", 0.05), pair("mine", "cross_ta_nosp", 0.06)])
    assert found.sentence.startswith("Only cross_ta_nosp may be the best") and "modalities" not in found.sentence
    found = stats.not_shown_worse([pair("self_t", "cross_tva", 0.05, 0.001), pair("self_tva", "cross_tva", 0.001)])
    assert "The best set of modalities is tva: every variant of t is" in found.sentence
    both = [pair("self_ta", "cross_tva", 0.001), pair("self_tva", "cross_tva", 0.05)]
    assert "No set of modalities is ruled out" in stats.not_shown_worse(both).sentence


def test_half_a_study_stays_honest(pairs):
    """A variant without comparisons may be the best; a pair that was not compared shows nothing."""
    found = stats.not_shown_worse(pairs[:3], ["self_a", "self_t", "self_ta", "cross_ta"])
    assert "self_a" in found.variants and "self_t" in found.worse
    assert set(found.missing) == {("self_a", name) for name in ("self_t", "self_ta", "cross_ta")}
    assert "Nothing is known of self_a: not compared" in found.sentence
    assert "self_a with" not in found.sentence, "once is enough"
    fewer = stats.not_shown_worse([pairs[0], pairs[3]])
    assert len(fewer.missing) == 4 and "Not compared: self_t with cross_ta, self_t with self_a" in fewer.sentence
    none = stats.not_shown_worse([], ["a", "b"])
    assert none.variants == ["a", "b"] and "0 pairs" in none.sentence and "Nothing is known of a, b" in none.sentence


def planted(levels, rng, folds=5, r=0.2):
    """All comparisons of a study whose variants have these true scores (points); folds differ for each variant."""
    own = np.sqrt(1 - r) * rng.standard_normal((len(levels), folds)) + np.sqrt(r) * rng.standard_normal(
        (len(levels), 1)
    )
    y = (np.asarray(levels)[:, None] + own) / 100
    found = []
    for a, b in itertools.combinations(range(len(levels)), 2):
        d = y[b] - y[a]
        found.append(pair(f"v{a}", f"v{b}", d.mean(), np.sqrt(d.var(ddof=1) * (1 / folds + 1 / (folds - 2)))))
    return found


@pytest.mark.parametrize("studies", [120, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("levels", [[0.01, 0, 0, 0, 0], [5, 4.99, 0, -5, -10], [12, 9, 6, 3, 0]])
def test_the_best_is_in_the_set(levels, studies):
    """As often as promised: near-ties, a near-tie above losers, and well apart, where the set must also shrink."""
    rng, sizes, held = np.random.default_rng(0), [], 0
    for _ in range(studies):
        found = stats.not_shown_worse(planted(levels, rng))
        held += "v0" in found.variants
        sizes.append(len(found.variants))
    assert held / studies >= 0.95
    if levels[-1]:
        assert np.mean(sizes) < 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"a": c[0]}, "list of comparisons"),
        (lambda c: [*c, 0.3], "list of comparisons"),
        (lambda c: [*c, pair("self_ta", "self_t", 0.1)], "self_ta and self_t are compared twice"),
        (lambda c: [*c, Difference("x", "y", "macro_f1", 0.02, 0, 1, 4)], "y - x: expected accuracy .* found macro_f1"),
        (lambda c: [*c, Difference("x", "y", "accuracy", 0.01, 0, 1, 4)], "margin of 0.02, found accuracy and 0.01"),
    ],
)
def test_what_is_no_table_of_pairs_is_refused(pairs, change, message):
    for question in (stats.all_pairs, stats.not_shown_worse, lambda c: figures.pair_matrix(c, "t")):
        with pytest.raises(mc.MmerError, match=message):
            question(change(pairs))


def test_too_little_is_refused(pairs):
    with pytest.raises(mc.MmerError, match=r"two or more; got \['a'\]"):
        stats.not_shown_worse([], ["a"])
    with pytest.raises(mc.MmerError, match="list of names; got 'self_t'"):
        stats.not_shown_worse(pairs, "self_t")
    with pytest.raises(mc.MmerError, match="needs comparisons"):
        figures.pair_matrix([], "t")


def cells(ax):
    """Text, boldness and colour by (row, column)."""
    colours = {(p.get_y() + 0.5, p.get_x() + 0.5): to_hex(p.get_facecolor()) for p in ax.patches}  # the last on top
    found = {(t.get_position()[1], t.get_position()[0]): t for t in ax.texts}
    return {at: (t.get_text(), t.get_weight(), colours[at].upper()) for at, t in found.items()}


def test_the_matrix_shows_every_pair_both_ways(pairs):
    names = ["self_t", "self_ta", "cross_ta", "self_a"]
    ax = figures.pair_matrix(pairs, "t").axes[0]
    assert (
        [t.get_text() for t in ax.get_yticklabels()]
        == [t.get_text() for t in ax.get_xticklabels()]
        == ["Self T", "Self T+A", "Cross T+A", "Self A"]
    )
    shown, table = cells(ax), stats.all_pairs(pairs)
    assert len(shown) == 12
    for c, holm in zip(pairs, table["p (Holm)"], strict=True):
        a, b = names.index(c.first), names.index(c.second)
        row, column, star = max(a, b), min(a, b), "*" if holm < 0.05 else ""
        points = 100 * c.difference * (1 if b > a else -1)  # row minus column
        half = 50 * (c.interval95.high - c.interval95.low)
        weight = "bold" if star else "normal"
        text = f"{points:+.1f}{star}\n±{half:.1f}".replace("-", "−")
        assert shown[row, column] == (text, weight, "#FFFFFF")
        letter = c.verdict[0].upper() + star
        assert shown[column, row] == (f"({letter})" if c.exploratory else letter, weight, TINTS[c.verdict])
    assert "row − column in points of accuracy" in ax.get_xlabel()
    legend = [t.get_text() for t in ax.figure.legends[0].get_texts()]
    assert legend == [*(f"{v[0].upper()}: {v}" for v in stats.VERDICTS), "not compared"]


def test_the_matrix_has_the_order_asked_for_and_hatches_what_is_missing(pairs):
    ax = figures.pair_matrix(pairs[:2], "t", ["self_a", "cross_ta", "self_ta", "self_t"]).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Self A", "Cross T+A", "Self T+A", "Self T"]
    shown = cells(ax)
    assert set(shown) == {(3, 2), (2, 3), (2, 1), (1, 2)}
    assert shown[3, 2][0].startswith("−6.0") and shown[2, 1][0].startswith("−0.1"), (
        "self_t - self_ta; self_ta - cross_ta"
    )


def test_fifteen_variants_fit_a_page():
    rng = np.random.default_rng(0)
    fig = figures.pair_matrix(planted(range(0, 30, 2), rng), "t")
    fig.draw_without_rendering()
    ax, renderer = fig.axes[0], fig.canvas.get_renderer()
    assert fig.get_size_inches()[0] <= figures.PAGE and fig.get_size_inches()[1] < 9
    assert len(ax.texts) == 15 * 14 and min(t.get_fontsize() for t in ax.texts) >= 5
    width, height = (abs(side) for side in (ax.transData.transform((1, 1)) - ax.transData.transform((0, 0))))
    for text in ax.texts:
        box = text.get_window_extent(renderer)
        assert box.width <= width and box.height <= height, text.get_text()
