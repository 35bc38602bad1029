"""Every picture is ready to print: readable, the same wherever it is drawn or saved, whatever its data are called."""

import copy
import dataclasses
import functools
import io
import itertools
import os
import pickle
import re
import subprocess
import sys
import warnings
import zlib
from xml.etree import ElementTree

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import mmer_core as mc
from mmer_core import explained, figures, stats
from mmer_core.explain import AttentionMap, Axis, Explanation, block_name
from mmer_core.figures import letters
from mmer_core.figures.parts import COLOURS
from mmer_core.variant import PAPER_VARIANTS, Variant

ODD = [
    "$^{x}_~\\ # & %",
    "😀 \u200d\ufe0f!",
    "שלום עולם",
    "two\ttabs",
    "<b>",
    "x" * 31,
    "and one of 31 letters, in words",
]
CHINESE = ["愤怒", "快乐", "悲伤", "惊讶", "恐惧", "厌恶", "中性"]
TWENTY = [f"class {n} of the twenty" for n in range(20)]
LONG = ["self_tva_nosp_corrected_25x500", "cross_tva_nosp_corrected_25x500", "cross_tva_nosp_corrected_26x500"]
TITLE = ", ".join([*LONG, "demo corpus (synthetic) of a title that has no end, and goes on after that"])
HOSTILE = {"text.usetex": True, "font.size": 30, "lines.linewidth": 9, "figure.dpi": 33, "savefig.transparent": True}
HOSTILE |= {"savefig.dpi": 20, "savefig.bbox": "tight", "pdf.fonttype": 3, "svg.fonttype": "path", "svg.hashsalt": None}
HOSTILE |= {"figure.constrained_layout.use": False, "axes.unicode_minus": False, "font.family": "monospace"}
TWO, SHARES = ["self_tva", "cross_tva"], [0.01, 0.05, 0.1, 0.2, 0.5]
BLOCKS = Variant("tva", "both").blocks


def scores(variants, folds=3) -> pd.DataFrame:
    rng, runs = np.random.default_rng(1), itertools.product(variants, range(1, folds + 1), (1, 2))
    metrics = ("accuracy", "balanced_accuracy")
    return pd.DataFrame(
        dict(
            variant=v,
            fold=f,
            seed=s,
            attention=v.split("_")[0],
            **dict(zip(metrics, rng.normal(0.5, 0.05, 2), strict=True)),
        )
        for v, f, s in runs
    )


def curves(variants) -> pd.DataFrame:
    rng, runs = np.random.default_rng(2), itertools.product(variants, (1, 2), (1, 2), range(1, 9))
    columns = ("train_loss", "dev_loss", "dev_accuracy")
    return pd.DataFrame(
        dict(variant=v, fold=f, seed=s, epoch=e, **dict(zip(columns, rng.random(3), strict=True)))
        for v, f, s, e in runs
    )


def compared(first, second, folds=3) -> stats.Comparison:
    return stats.compare(scores([first, second], folds), first, second, rope=0.02)


def attention(keys, queries=(), sharp=0.3) -> AttentionMap:
    queries = list(queries) or keys
    rng, shape = np.random.default_rng(3), (6, len(queries))
    weights = rng.dirichlet(np.full(len(keys), sharp), shape) if sharp else np.full((*shape, len(keys)), 1 / len(keys))
    axes = Axis("audio slots (each mixes all frames)", queries), Axis("text (words)", keys)
    return AttentionMap("t_a", weights, weights.mean(1), *axes)


def recalls(classes) -> pd.DataFrame:
    d = np.random.default_rng(4).normal(0, 0.05, len(classes))
    return pd.DataFrame({"class": classes, "difference": d, "low": d - 0.05, "high": d + 0.05, "p (Holm)": abs(d)})


def checks(variants, **columns) -> pd.DataFrame:
    """Means with intervals, a row for each combination."""
    rng, keys = np.random.default_rng(6), ["variant", *columns]
    rows = [dict(zip(keys, place, strict=True)) for place in itertools.product(variants, *columns.values())]
    means = rng.random(len(rows)) - 0.3
    return pd.DataFrame(rows).assign(mean=means, low=means - 0.1, high=means + 0.1)


def table(n) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 30, (n, n))


def named(corpus, classes) -> mc.Corpus:
    label = (np.arange(len(corpus)) % len(classes)).astype(corpus.label.dtype)
    return dataclasses.replace(corpus, classes=tuple(classes), label=label)


def folded(corpus, n) -> mc.Corpus:
    parts = {name: {k: getattr(corpus, name)[1 + k % 5] for k in range(1, n + 1)} for name in ("folds", "dropped")}
    return dataclasses.replace(corpus, **parts)


def extreme(demo) -> dict:
    """Arguments of every plot function: first as in the demo, then extreme ones."""
    plain, long = compared("self_tva", "cross_tva"), compared(LONG[0], LONG[1], 24)
    corpora = {"one of a very long name, many words indeed": plain, "$": dataclasses.replace(plain, difference=0.03)}
    simulated = stats.calibration_table(plain, studies=20, correlations=(0, 0.1, 0.2, 0.3))
    pairs = [compared(*pair) for pair in itertools.combinations(list(PAPER_VARIANTS)[:9], 2)]
    audio = [str(n) for n in range(1, 129)]
    names = [block_name(block) for block in Variant("tva", "cross").blocks]
    small, large = attention(["we", "are", "glad"]), attention(audio * 4, ODD)
    return {
        "attention_glance": [
            (Explanation("id", "sad", "sad", np.ones(1), {"t_a": small}), "t"),
            (Explanation("id", "sad", "sad", np.ones(1), dict.fromkeys(BLOCKS, large)), TITLE),
        ],
        "attention_map": [
            (attention(["we", "are", "glad"]), 0, "t"),
            (attention(ODD * 3, audio), None, TITLE),
            (attention(audio * 4, ODD), 1, "t"),
        ],
        "audio_scales": [(demo, 1)],
        "calibration": [(simulated, TITLE)],
        "class_differences": [(recalls(names), TITLE, 0.02) for names in (demo.classes, ODD, ["one"])],
        "class_sizes": [(named(demo, names),) for names in (demo.classes, ODD, TWENTY)],
        "confusion": [(table(len(names)), names, TITLE) for names in (demo.classes, ODD, TWENTY, ["a", "b"])],
        "confusion_difference": [(table(len(n)), table(len(n)).T, n, TITLE) for n in (demo.classes, TWENTY)],
        "deletion_curves": [
            (
                checks(TWO, what=list(explained.DELETED), measure=ODD[:3], share=SHARES),
                "t",
            ),
            (checks(LONG[:2], what=["frames set to zero"], measure=TWENTY[:7], share=SHARES), TITLE),
            (checks(LONG[:2], what=list(explained.DELETED), measure=TWENTY[:7], share=SHARES), TITLE),
        ],
        "embedding_coverage": [(demo,)],
        "fold_sizes": [(demo,), (folded(demo, 60),)],
        "forest": [([plain, plain], "t"), ([long], TITLE), ([plain] * 40, TITLE), ([], TITLE)],
        "forests": [({"plain": [plain] * 4, TITLE: [long, plain]}, TITLE)],
        "forest_across": [(stats.across(corpora), TITLE)],
        "learning_curves": [(curves(v), v, TITLE) for v in (["cross_tva"], list(PAPER_VARIANTS), LONG)],
        "lengths": [(demo,)],
        "noise_curves": [
            (checks(TWO, modality=["text", "video", "audio"], level=SHARES), "t"),
            (checks(LONG[:2], modality=["text"], level=SHARES), TITLE),
        ],
        "pair_matrix": [([plain], "t"), (pairs, TITLE), ([long], TITLE)],
        "paired": [(plain, "t"), (long, TITLE), (compared("self_t", "self_v", 100), "t")],
        "scores": [(scores(v), demo) for v in (["cross_tva"], ["self_t", "cross_tv"], list(PAPER_VARIANTS), LONG)],
        "variance": [(stats.difference_components(plain), TITLE)],
        "weights_over_time": [
            (checks(TWO, block=names, **{"class": demo.classes}, time=SHARES), "t"),
            (checks(LONG[:1], block=names[:1], **{"class": TWENTY}, time=SHARES), TITLE),
        ],
    }


PLOTS = [name for name, plot in vars(figures).items() if hasattr(plot, "__wrapped__") and name != "venue"]
every_plot = pytest.mark.parametrize("plot", PLOTS)


@pytest.fixture(scope="module")
def data(demo) -> dict:
    return extreme(demo)


@pytest.fixture(scope="module")
def pictures(data):
    """All pictures by a plot function, drawn once; no test changes them."""
    return functools.cache(lambda plot: [draw(plot, *arguments) for arguments in data[plot]])


@pytest.fixture
def hostile():
    """Settings of a user, as different from ours as can be."""
    with plt.style.context(["dark_background", HOSTILE]):
        yield


def draw(plot, *arguments, **more):
    return getattr(figures, plot)(*arguments, **more)


def saved(fig, kind) -> bytes:
    file = io.BytesIO()
    fig.savefig(file, format=kind, **({"dpi": 50} if kind == "png" else {}))
    return file.getvalue()


def inflated(pdf) -> bytes:
    """A PDF with its streams unpacked."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.S)
    return pdf + b"".join(zlib.decompressobj().decompress(s) for s in streams if s[:1] == b"x")


def texts(fig, monkeypatch) -> dict:
    """All texts that are drawn, with the boxes in pixels that they fill."""
    drawn, really = {}, Text.draw

    def record(self, renderer, *args, **kwargs):
        really(self, renderer, *args, **kwargs)
        if self.get_visible() and self.get_text().strip():
            drawn[self] = self.get_window_extent()

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        fig.canvas.draw()
    return drawn


def test_every_plot_has_extreme_data(data):
    assert set(PLOTS) == set(data)


@every_plot
def test_every_text_can_be_read(plot, pictures, monkeypatch):
    """None is cut off by the edge of the picture, and no two overlap; the picture is as wide as it is printed."""
    for n, fig in enumerate(pictures(plot)):
        found = texts(fig, monkeypatch)
        where = f"case {n} of {plot}"
        assert fig.get_figwidth() in (figures.COLUMN, figures.PAGE) and fig.get_figheight() <= 9.01, where
        words = [text.get_text() for text in found]
        assert not any(re.search(r"\b(self|cross|both|uniform)_[tva]", text) for text in words), f"{where}: {words}"
        low, high = (np.array([getattr(box, end) for box in found.values()]) for end in ("min", "max"))
        inside = np.minimum(low, fig.bbox.max - high).min(1)
        assert inside.min() > -1.5, f"{where}: {words[inside.argmin()]!r} is cut off by {-inside.min():.0f} pixels"
        over = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).min(-1)
        np.fill_diagonal(over, 0)
        one, other = np.unravel_index(over.argmax(), over.shape)
        assert over.max() < 1.5, f"{where}: {words[one]!r} and {words[other]!r} overlap"
        assert plot == "pair_matrix" or min(text.get_fontsize() for text in found) >= 7.9, where


@every_plot
def test_nothing_of_the_users_settings_matters_or_changes(plot, data, pictures, hostile):
    before = dict(matplotlib.rcParams)
    mine = draw(plot, *data[plot][0])
    png, pdf, svg = (saved(mine, kind) for kind in ("png", "pdf", "svg"))
    assert dict(matplotlib.rcParams) == before and not plt.get_fignums()
    with plt.style.context("default", after_reset=True):
        theirs = pictures(plot)[0]
        assert (saved(theirs, "png"), saved(theirs, "svg")) == (png, svg)
    pdf = inflated(pdf)
    assert b"/Type3" not in pdf and b"/FontFile2" in pdf and b"/CreationDate" not in pdf
    assert b"<text" in svg and b"dc:date" not in svg


def test_settings_come_back_after_an_error(hostile):
    before = dict(matplotlib.rcParams)
    with pytest.raises(mc.MmerError):
        figures.pair_matrix([], "t")
    with pytest.raises(ZeroDivisionError), figures.venue("neurips2024"):
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before
    assert figures.forest([], "t").get_figwidth() == figures.PAGE


def test_another_process_writes_the_same_files(tmp_path):
    code = "import sys; from mmer_core import figures as f; f.save_figure(f.forest([], '愤'), sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-W", "ignore", "-c", code, "1", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mc.save_figure(figures.forest([], "愤"), "2", tmp_path)
    for kind in ("pdf", "svg", "png"):
        assert (tmp_path / f"1.{kind}").read_bytes() == (tmp_path / f"2.{kind}").read_bytes(), kind


def test_copies_are_saved_like_the_figure(pictures, hostile):
    fig = pictures("scores")[0]
    for copied in (copy.deepcopy(fig), pickle.loads(pickle.dumps(fig))):
        assert saved(copied, "pdf") == saved(fig, "pdf")


def test_a_resolution_that_is_given_wins():
    fig = figures.forest([], "t")
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=50)
    assert plt.imread(io.BytesIO(file.getvalue())).shape[1] == round(50 * figures.PAGE)
    fig.savefig(whole := io.BytesIO(), format="png")
    assert plt.imread(io.BytesIO(whole.getvalue())).shape[1] == round(600 * figures.PAGE)
    assert plt.imread(io.BytesIO(fig._repr_png_())).shape[1] == int(116 * figures.PAGE)


# ---------------------------------------------------------------------------------------------------------- venues


@every_plot
def test_a_venue_sets_widths_and_sizes(plot, data):
    with figures.venue("neurips2024"), figures.venue(None):
        fig = draw(plot, *data[plot][0])
    assert fig.get_figwidth() in (3.5, 5.5)  # the text is 5.5 inches wide
    assert {ax.xaxis.label.get_fontsize() for ax in fig.axes} == {9}


@pytest.mark.parametrize(("venue", "widths"), [("icml2024", (3.25, 6.75)), ("ieee", (3.5, 7.16))])
def test_a_venue_of_two_columns(venue, widths, demo):
    with figures.venue(venue):
        found = figures.class_sizes(demo).get_figwidth(), figures.lengths(demo).get_figwidth()
    assert found == pytest.approx(widths)


def test_a_venue_that_cannot_be(monkeypatch):
    with (
        pytest.raises(mc.MmerError, match=r"of ieee, .*neurips2024.*; found"),
        figures.venue("nature"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "tueplots.bundles", None)
    with pytest.raises(mc.MmerError, match=r"pip install .*venues"), figures.venue("neurips2024"):
        pass


# ---------------------------------------------------------------------------------------------------------- letters


def test_letters_are_times_and_minus_is_minus(pictures):
    fig = pictures("variance")[0]
    assert re.search(rb"/FontName /[A-Z]{6}\+STIXGeneral", inflated(saved(fig, "pdf")))
    (ax,) = pictures("class_differences")[0].axes
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert any(label.startswith("\u2212") for label in labels) and not any("-" in label for label in labels)


@every_plot
def test_letters_that_no_font_has_are_told_once_and_are_boxes(plot, data, monkeypatch, demo):
    monkeypatch.setattr(letters, "system_fonts", lambda: [])
    letters.fonts_for.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fig = draw(plot, *chinese(demo, data)[plot])
        saved(fig, "png")
    letters.fonts_for.cache_clear()
    (one,) = told
    assert "CJK" in str(one.message) and "fonts-noto-cjk fonts-noto" in str(one.message)
    assert any("愤" in text.get_text() for text in fig.findobj(Text))


def test_controls_that_no_font_has_are_spaces(demo):
    fig = figures.class_sizes(named(demo, [f"a{c}b{k}" for k, c in enumerate("\x01\ud800\ufffe\U000e0100cde")]))
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels == ["a b0", "a b1", "a b2", "a b3", "acb4", "adb5", "aeb6"]
    ElementTree.fromstring(saved(fig, "svg"))


def chinese(demo, data) -> dict:
    """Arguments of every plot function with Chinese letters somewhere."""
    mine = dataclasses.replace(named(demo, CHINESE), name="愤怒")
    found = {plot: (*arguments[0][:-1], "愤怒") for plot, arguments in data.items()}
    found |= {plot: (mine,) for plot in ("class_sizes", "embedding_coverage", "fold_sizes", "lengths")}
    found |= {"audio_scales": (mine, 1), "scores": (scores(["self_t"]), mine)}
    found |= {"confusion": (table(7), CHINESE, "愤"), "class_differences": (recalls(CHINESE), "愤", 0.02)}
    return found


@pytest.mark.skipif(letters.fonts_for(frozenset("愤怒"))[1] != frozenset(), reason="no font here has Chinese letters")
def test_letters_of_any_installed_font_are_drawn(demo):
    fig = figures.class_sizes(named(demo, CHINESE))
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == CHINESE
    pdf = inflated(saved(fig, "pdf"))
    assert b"/Type3" not in pdf and len(set(re.findall(rb"/FontName /[A-Z]{6}\+(\S+)", pdf))) >= 2


def test_a_dollar_stays_a_dollar_in_axes_of_yours():
    theirs, ax = plt.subplots()
    try:
        figures.confusion(table(2), ["$x^2$", "_y_"], "$t$", ax=ax)
        assert not ax.title.get_parse_math() and not any(label.get_parse_math() for label in ax.get_xticklabels())
        assert [label.get_text() for label in ax.get_xticklabels()] == ["$x^2$", "_y_"]
    finally:
        plt.close(theirs)


# ---------------------------------------------------------------------------------------------- marks and colours


def lines_of(fig, axes=0) -> list:
    return [line for line in fig.axes[axes].lines if len(line.get_xdata())]


def test_a_kind_of_attention_has_one_colour_and_its_variants_differ():
    names = ["cross_tva", "cross_tv", "self_tva", "both_tva", "self_t", "uniform_tva"]
    fig = figures.learning_curves(curves(names), names, "t")
    found = {}
    for handle in fig.legends[0].legend_handles:
        found[handle.get_label()] = handle.get_color(), handle.get_marker()
    assert {name: colour for name, (colour, _) in found.items()} == {n: COLOURS[n.split("_")[0]] for n in names}
    assert len({mark for _, mark in found.values()}) == len(names), "in grey they are told apart by their marks"
    alone = figures.learning_curves(curves(["cross_tva"]), ["cross_tva"], "t")
    assert {line.get_color() for line in lines_of(alone)} == {COLOURS["cross"]}


def test_only_attention_has_the_colours_of_attention(pictures):
    for plot in ("paired", "calibration", "variance", "forest", "forest_across", "class_differences"):
        for ax in pictures(plot)[0].axes:
            assert not {line.get_color() for line in ax.lines} & set(COLOURS.values()), plot


def test_parts_of_a_fold_are_told_apart_in_grey(pictures):
    bars = pictures("fold_sizes")[0].axes[0].containers
    assert len({bar.patches[0].get_hatch() for bar in bars}) == len(bars)


def test_no_mark_is_cut_or_hidden(pictures):
    """A lone variant's marks lie inside the axes, and the marks of a method side by side."""
    for ax in pictures("scores")[0].axes:
        high, low = sorted(ax.get_ylim())
        assert high + 0.3 < 0 < low - 0.3
    ax = pictures("calibration")[0].axes[0]
    heights = [y for line in ax.lines if line.get_linestyle() == "None" for y in line.get_ydata()]
    assert np.diff(np.sort(heights)).min() > 0.05


def test_attention_is_comparable():
    even, sharp = attention(list("abcdefgh"), sharp=0), attention(list("abcdefgh"))
    image = figures.attention_map(even, None, "t").axes[0].images[0]
    assert np.dot(image.cmap(image.norm(image.get_array()))[..., :3].mean((0, 1)), [0.3, 0.59, 0.11]) < 0.35
    one, two = (figures.attention_map(sharp, head, "t").axes[0].images[0] for head in (0, 1))
    assert one.get_clim() == two.get_clim() == (0, 8 * sharp.weights.max())
    top = figures.attention_top([even, sharp])
    assert figures.attention_map(even, 0, "t", top).axes[0].images[0].get_clim() == one.get_clim() == (0, top)
    np.testing.assert_allclose(one.get_array(), 8 * sharp.weights[0])


def test_blocks_have_names():
    assert (block_name("a_t"), block_name("t_v"), block_name("v")) == (
        "text asks audio",
        "video asks text",
        "video asks itself",
    )


# -------------------------------------------------------------------------------------------------------- files


def test_a_folder_of_mine_is_found_or_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fig = figures.forest([], "t")
    files = mc.save_figure(fig, "f", "~/figs")
    assert [file.name for file in files] == ["f.pdf", "f.svg", "f.png"] and files[0].parent == tmp_path / "figs"
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(mc.MmerError, match=r"file/figs.*expected a folder"):
        mc.save_figure(fig, "f", tmp_path / "file" / "figs")
    (tmp_path / "figs" / "g.pdf").mkdir()
    with pytest.raises(mc.MmerError, match=r"g\.pdf.*expected a file"):
        mc.save_figure(fig, "g", tmp_path / "figs")
    for name in ("", "..", "a/b", "a\\b", "  "):
        with pytest.raises(mc.MmerError, match="name of a figure"):
            mc.save_figure(fig, name, tmp_path)
