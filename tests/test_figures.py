"""Figures and tables are drawn from the ledger's numbers, and saved as a publisher wants them."""

import io
import re
import zlib
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import mmer_core as mc
from mmer_core import figures, stats, tables
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
    assert b"<text" not in svg.read_bytes()  # letters are outlines
    assert plt.imread(io.BytesIO(png.read_bytes()), format="png").shape[1] == round(300 * figures.COLUMN)


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


def test_the_table_separates_folds_from_seeds(study):
    table = tables.results_table(study).set_index("variant")
    mine = study.results().query("variant == 'self_tva'").pivot(index="fold", columns="seed", values="accuracy") * 100
    assert table.loc["self_tva", "accuracy"] == pytest.approx(mine.to_numpy().mean())
    assert table.loc["self_tva", "accuracy: SD folds"] == pytest.approx(mine.mean(axis=1).std())
    assert table.loc["self_tva", "accuracy: SD seeds"] == pytest.approx(np.sqrt(mine.var(axis=1).mean()))
    assert table.loc["self_tva", "published accuracy"] == pytest.approx(64.2)
    assert np.isnan(table.loc["self_ta_corrected", "published accuracy"])


def test_verdicts_in_the_table_are_those_of_compare(study):
    table = tables.shown(stats.verdict_table(study.comparisons()))
    found = mc.compare(study.results(), "self_tva", "cross_tva", rope=0.02)
    assert table.loc[0, "verdict"] == found.verdict
    assert [float(x) for x in table.loc[0, ["points", "95% low"]]] == pytest.approx(
        [100 * found.difference, 100 * found.interval95.low], abs=0.051
    )


def test_the_bundle_is_whole(study, tmp_path):
    files = mc.export(study, tmp_path)
    assert {f.suffix for f in files} == {".pdf", ".svg", ".png", ".tex", ".md", ".csv", ".txt"}
    assert all(f.stat().st_size > 100 for f in files)
    tex = (tmp_path / "results.tex").read_text()
    assert r"\toprule" in tex and r"self\_tva" in tex and "synthetic" in tex
    assert not re.search(r"(?<!\\)[_%]", re.sub(r"\\label\{.*?\}", "", tex))
    saved = pd.read_csv(tmp_path / "results.csv").fillna({"against self": ""})
    pd.testing.assert_frame_equal(saved, tables.results_table(study), check_dtype=False)


def test_nothing_to_export_is_said(study, tmp_path):
    with pytest.raises(ValueError, match="train something first"):
        mc.export(study.with_variants(["self_v"]), tmp_path)


def test_figures_are_closed(study):
    before = plt.get_fignums()
    figures.lengths(study.corpus)
    figures.audio_scales(study.corpus, 1)
    figures.fold_sizes(study.corpus)
    figures.embedding_coverage(study.corpus)
    figures.learning_curves(study.learning_curves(), ["self_tva", "cross_tva"], "t")
    assert plt.get_fignums() == before
