"""A corpus with one or two modalities, or with a single fold, works throughout: all notebooks run on it."""

import json
import re

import numpy as np
import pytest
from conftest import CHECKOUT
from test_half_done import execute, touch

import mmer_core as mc
from mmer_core import figures, stats


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return mc.make_demo_corpus(tmp_path_factory.mktemp("corpora") / "small", utterances=100)


def study_of(small, home, modalities, folds):
    """The demo's utterances as a plain folder with some of its modalities, and a study of all that it allows."""
    (folder := home / "mine").mkdir()
    rows = range(len(small))
    said = [" ".join(small.transcript(r)) for r in rows]
    lines = [f"u{r},{small.classes[small.label[r]]},{said[r]},s{r % 6}" for r in rows]
    (folder / "utterances.csv").write_text("\n".join(["id,label,text,speaker", *lines]))
    for m in modalities:
        frames = {f"u{r}": small.features(m, [r])[0, : small.lengths[m][r]] for r in rows}
        np.savez(folder / f"{m}.npz", **frames)
    text = {"corpus": "mine", "store": "store", "margin": 0.02, "seeds": [1, 2], "variants": ["paper", "uniform_tva"]}
    text["comparisons"] = ["attention", "modalities"]
    lines = [f"{k} = {json.dumps(v)}" for k, v in text.items()]
    lines += ["folds_from = {k = 3, by = 'speaker'}", *(["folds = [1]"] if folds == 1 else []), "[protocol]"]
    (home / "study.toml").write_text("\n".join([*lines, "max_epochs = 1"]))
    return mc.open_study(home / "study.toml").run(progress=False, device="cpu")


CASES = {"two": (("text", "audio"), 3), "one": (("audio",), 3), "a single fold": (("video", "audio", "text"), 1)}


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c != "two" else c for c in CASES])
def test_all_notebooks_run(case, small, tmp_path, monkeypatch):
    modalities, folds = CASES[case]
    study = study_of(small, tmp_path, modalities, folds)
    assert all(set(v.modalities) <= {m[0] for m in modalities} for v in study.variants.values())
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    monkeypatch.setattr(stats, "twins", lambda twins=stats.twins: twins(20))
    monkeypatch.setattr(stats, "across_calibration", lambda studies, f=stats.across_calibration: f(50))
    monkeypatch.setattr(stats, "calibration_table", lambda c, f=stats.calibration_table: f(c, studies=30))
    monkeypatch.setattr(figures, "save_figure", touch)
    names = sorted(file.stem for file in (CHECKOUT / "notebooks").glob("*.ipynb"))
    told = {name: execute(name, study, monkeypatch) for name in names}
    assert len(told) == 6 and not any(
        "Traceback" in text or re.search(r"\bnan\b", text.lower()) for text in told.values()
    )
    assert "No speakers stand in two parts of a fold." in told["01_preprocessing"]
    others = {"text", "video", "audio"} - {*modalities}
    assert not any(f"use {name}" in text for name in others for text in told.values())  # no button for what is missing
    judged = {"two": "Cross T+A − Self T+A", "one": "no declared comparison", "a single fold": "this split"}[case]
    assert judged in told["05_statistical_comparison"]
    written = {file.stem for file in (tmp_path / "figures").glob("*")}
    assert {"scores", "results", "learning_curves", "corpus_classes", "article"} <= written
    assert ("corpus_audio" in written) == ("audio" in modalities)
