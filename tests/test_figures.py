"""Figures and tables are drawn from the ledger's numbers, and saved as a publisher wants them."""

import dataclasses
import inspect
import io
import itertools
import re
import zlib
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import mmer_core as mc
from mmer_core import bundle, figures, stats
from mmer_core.explain import explain
from mmer_core.metrics import published_results
from mmer_core.training import Protocol


@pytest.fixture(scope="module")
def study(tmp_path_factory, demo):
    study = mc.Study(
        demo,
        ["self_tva", "cross_tva", "self_ta_corrected"],
        seeds=[1, 2],
        folds=[1, 2, 3],
        protocol=Protocol(max_epochs=1),
        ledger=tmp_path_factory.mktemp("ledger"),
        margin=0.02,
    )
    return study.run(ThreadPoolExecutor(1), progress=False)


def test_saved_files_embed_their_fonts(study, tmp_path):
    pdf, svg, png = mc.save_figure(figures.class_sizes(study.corpus), "classes", tmp_path)
    raw = pdf.read_bytes()
    text = raw + b"".join(
        zlib.decompressobj().decompress(s)
        for s in re.findall(rb"stream\r?\n(.*?)endstream", raw, re.S)
        if s[:1] == b"x"
    )
    assert b"/FontFile2" in text and b"/Type3" not in text
    assert b"<text" in svg.read_bytes()  # letters are letters, not outlines
    assert plt.imread(io.BytesIO(png.read_bytes()), format="png").shape[1] == round(600 * figures.COLUMN)


def test_saving_twice_gives_the_same_file(study, tmp_path):
    a, b = (mc.save_figure(figures.class_sizes(study.corpus), name, tmp_path)[0].read_bytes() for name in ("a", "b"))
    assert a == b


def test_scores_are_drawn_where_the_ledger_says(study):
    results = study.results()
    ax = figures.scores(results, study.corpus).axes[0]
    drawn = {round(float(x), 6) for line in ax.lines for x in line.get_xdata()}
    for name, mine in results.groupby("variant"):
        assert {round(100 * x, 6) for x in mine["accuracy"]} <= drawn
        assert round(100 * mine["accuracy"].mean(), 6) in drawn, name
    published = published_results().set_index("variant")
    assert round(100 * published.loc["cross_tva", "accuracy"], 6) in drawn


def test_confusion_shows_shares_of_the_true_class(study):
    matrix = study.confusion("self_tva")
    ax = figures.confusion(matrix, study.corpus.classes, "t").axes[0]
    shown = np.array([float(t.get_text()) for t in ax.texts]).reshape(7, 7)
    np.testing.assert_allclose(shown, 100 * matrix / matrix.sum(1, keepdims=True), atol=0.5)


def test_pair_plot_shows_differences_and_interval(study):
    found = mc.compare(study.results(), "self_tva", "cross_tva", rope=0.02)
    right = figures.paired(found, "t").axes[1]
    drawn = [np.asarray(line.get_xdata(), float) for line in right.lines]
    assert any(np.allclose(x, 100 * np.array(found.interval95)) for x in drawn if len(x) == 2)
    assert any(np.allclose(x, 100 * found.folds["difference"]) for x in drawn if len(x) == 3)


def test_explanations_agree_with_the_stored_predictions(study):
    corpus = study.corpus
    row = int(corpus.folds[2].test[3])
    found = explain(study.model("self_tva", 2, 1), corpus, row, 2)
    logits = study.record("self_tva", 2, 1).predictions()["logits"][3]
    np.testing.assert_allclose(found.probability, np.exp(logits) / np.exp(logits).sum(), rtol=1e-4)
    text = found.maps["t"]
    assert text.weights.shape == (6, corpus.sizes.text.length, corpus.sizes.text.length)
    np.testing.assert_allclose(text.weights.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(text.column_mean, text.weights.mean(1), atol=1e-6)
    words = corpus.transcript(row)
    assert text.keys.labels[: len(words)] == words and set(text.keys.labels[len(words) :]) <= {"·"}
    assert "mixes all frames" in found.maps["a"].keys.title


def test_masked_explanations_show_only_what_is_there(study):
    corpus = study.corpus
    row = int(corpus.folds[1].test[0])
    maps = explain(study.model("self_ta_corrected", 1, 1), corpus, row, 1).maps
    frames = int(corpus.lengths["audio"][row])
    assert maps["a"].keys.labels[-1] == str(frames if frames % 2 else frames - 1)
    assert maps["a"].weights.shape[1:] == ((frames + 1) // 2,) * 2
    np.testing.assert_allclose(maps["a"].weights.sum(-1), 1, rtol=1e-5)
    assert maps["t"].keys.labels == corpus.transcript(row)
    assert figures.attention_map(maps["a"], 2, "t").axes


# ------------------------------------------------------------------------------------------- figures in other figures


def every_picture(study) -> dict:
    """The arguments of every plot function."""
    corpus, results, matrix = study.corpus, study.results(), study.confusion("self_tva")
    c = mc.compare(results, "self_tva", "cross_tva", rope=0.02)
    row = int(corpus.folds[1].test[0])
    explanation = explain(study.model("self_tva", 1, 1), corpus, row, 1)
    return {
        "attention_glance": (explanation, "t"),
        "attention_map": (explanation.maps["t"], None, "t"),
        "audio_scales": (corpus, 1),
        "calibration": (stats.calibration_table(c, studies=20), "t"),
        "class_differences": (stats.per_class(study.recalls(), c.first, c.second, 0.02), "t", 0.02),
        "class_sizes": (corpus,),
        "confusion": (matrix, corpus.classes, "t"),
        "confusion_difference": (matrix, matrix.T, corpus.classes, "t"),
        "deletion_curves": (means(what=["x", "y"], measure=["m"], share=[0.1, 0.5]), "t"),
        "embedding_coverage": (corpus,),
        "fold_sizes": (corpus,),
        "forest": ([c, c], "t"),
        "forests": ({"study": [c, c], "modern": [c]}, "t"),
        "forest_across": (stats.across({"one": c, "two": dataclasses.replace(c, difference=c.difference + 0.01)}), "t"),
        "learning_curves": (study.learning_curves(), ["self_tva", "cross_tva"], "t"),
        "lengths": (corpus,),
        "noise_curves": (means(modality=["text", "audio"], level=[0.2, 0.4]), "t"),
        "pair_matrix": ([c], "t"),
        "paired": (c, "t"),
        "scores": (results, corpus),
        "variance": (stats.difference_components(c), "t"),
        "weights_over_time": (means(block=["a", "b"], **{"class": ["sad"]}, time=[0.1, 0.9]), "t"),
    }


def means(**columns) -> pd.DataFrame:
    """A row for each combination, of one variant."""
    rows = [dict(zip(columns, place, strict=True)) for place in itertools.product(*columns.values())]
    return pd.DataFrame(rows).assign(variant="self_tva", mean=0.2, low=0.1, high=0.3)


def content(ax) -> list:
    """What is drawn in axes, in their own coordinates."""
    drawn = [line.get_xydata().tolist() for line in ax.lines] + [patch.get_path() for patch in ax.patches]
    texts = [text.get_text() for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)]
    ticks = [axis.get_tick_params() | {"labelsize": None} for axis in (ax.xaxis, ax.yaxis)]
    return [str(drawn), texts, ticks, ax.get_xlim(), ax.get_ylim()]


def test_a_picture_of_one_axes_fits_into_any_figure(study):
    """It draws the same there, and touches neither the other axes nor pyplot."""
    pictures = every_picture(study)
    plots = {n: f for n, f in vars(figures).items() if "return" in getattr(f, "__annotations__", ())}
    assert set(pictures) | {"save_figure", "output_folder", "attention_top", "venue"} == set(plots), (
        "a picture is not tested"
    )
    for name, arguments in pictures.items():
        mine = getattr(figures, name)(*arguments)
        assert isinstance(mine, Figure)
        data = [ax for ax in mine.axes if ax.get_label() != "<colorbar>"]
        takes_ax = "ax" in inspect.signature(getattr(figures, name)).parameters
        assert takes_ax == (len(data) == 1), name
        if not takes_ax:
            continue
        theirs = plt.figure(layout="constrained")
        try:
            left, right = theirs.subfigures(1, 2)
            place, others = left.subplots(), right.subplots(2, 1, sharex=True)
            others[0].plot([1, 2], [3, 4], label="mine")
            before, current, open_ones = [content(ax) for ax in others], plt.gca(), plt.get_fignums()
            assert getattr(figures, name)(*arguments, ax=place) is theirs
            assert content(place) == content(data[0]), name
            assert [content(ax) for ax in others] == before and not theirs.legends and not right.legends
            assert set(theirs.axes) - {place, *others} == {a for a in left.axes if a.get_label() == "<colorbar>"}
            assert plt.get_fignums() == open_ones and plt.gca() is current
            theirs.savefig(io.BytesIO())
        finally:
            plt.close(theirs)


def test_figures_of_ones_own_leave_pyplot_alone(study):
    before = plt.get_fignums()
    for name, arguments in every_picture(study).items():
        getattr(figures, name)(*arguments)
    assert plt.get_fignums() == before


def test_a_notebook_shows_a_figure_once_and_as_a_picture(tmp_path):
    cell = nbformat.v4.new_code_cell("from mmer_core import figures\nfigures.forest([], 'title')")
    nbclient.NotebookClient(nbformat.v4.new_notebook(cells=[cell]), kernel_name="python3").execute()
    (output,) = [output for output in cell.outputs if output.output_type != "stream"]
    assert "image/png" in output.data


def test_a_corpus_may_have_fewer_modalities(study):
    one = dataclasses.replace(study.corpus, lengths={"video": study.corpus.lengths["video"]})
    assert len(figures.lengths(one).axes) == 1
    assert "corpus_audio" in bundle.contents(study)
    settings = dict(folds=[1], protocol=study.protocol, ledger=study.ledger.folder)
    assert "corpus_audio" not in bundle.contents(mc.Study(one, ["self_v"], **settings))


def test_nothing_of_a_long_series_is_dropped(study):
    """Nine variants, ten folds, four correlations: more than there are colours and sizes."""
    names = [f"v{n}" for n in range(9)]
    curves = pd.concat(
        [study.learning_curves().query("variant == 'self_tva' and seed == 1").assign(variant=n) for n in names]
    )
    fig = figures.learning_curves(curves, names, "t")
    right = fig.axes[1]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == names
    assert len(right.lines) == 2 * 9 * 3  # a line and a dot for each run

    a = 0.5 + 0.01 * np.arange(20.0).reshape(10, 2)
    rows = [
        dict(variant=v, fold=f, seed=s, accuracy=a[f, s] + (v == "b") * 0.01 * f)
        for v in "ab"
        for f in range(10)
        for s in range(2)
    ]
    c = stats.compare(pd.DataFrame(rows), "a", "b", rope=0.02)
    left = figures.paired(c, "t").axes[0]
    assert len(left.lines) == 20 and len(left.get_legend().get_texts()) == 10

    table = stats.calibration_table(c, studies=20, correlations=(0, 0.1, 0.2, 0.3))
    fig = figures.calibration(table, "t")
    assert len(fig.legends[0].get_texts()) == 2 * 4
    drawn = sum(len(line.get_xdata()) for line in fig.axes[0].lines if line.get_linestyle() == "None")
    assert drawn == len(table)
    assert len({line.get_markersize() for line in fig.axes[0].lines if line.get_linestyle() == "None"}) == 4
