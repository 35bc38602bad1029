"""Runs given away as one CSV file: another group gets the same verdict, and learns of no utterance."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import mmer_core as mc
from mmer_core import running, tables
from mmer_core.__main__ import main
from mmer_core.metrics import METRICS

pytestmark = pytest.mark.usefixtures("guessed")
SHORT = mc.protocol.Protocol(max_epochs=1)


@pytest.fixture
def secretive(demo):
    """The demo, but all that must not leave the machine can be told at once: it says SECRET."""
    ids = [f"SECRET/{id}" for id in demo.ids]
    classes, words = [f"SECRET {c}" for c in demo.classes], [f"SECRET{w}" for w in demo.words]
    return replace(demo, ids=ids, classes=classes, words=words, source="/SECRET", path=Path("/SECRET/place"))


@pytest.fixture
def study(secretive, tmp_path, monkeypatch):
    """Four variants of which one has slots."""
    monkeypatch.setattr(running, "_open_once", lambda store: secretive)
    variants = ["self_tva", "cross_tva", "self_t_corrected", mc.Variant("va", slots=(3, 4))]
    verdict = dict(primary_metric="weighted_f1", margin=0.02)
    return mc.Study(secretive, variants, [1, 2], None, SHORT, tmp_path / "SECRET-ledger", **verdict)


def run(study):
    return study.run(ThreadPoolExecutor(1), progress=False)


def test_another_group_gets_the_same_verdict(study, tmp_path):
    assert tables.publish(run(study), tmp_path / "runs.csv") == 40
    for metric in METRICS:
        (ours,) = study.comparisons(metric=metric)
        theirs = mc.compare(tmp_path / "runs.csv", ours.first, ours.second, metric, rope=study.margin)
        assert (theirs.difference, theirs.se, theirs.df) == (ours.difference, ours.se, ours.df)
        assert (theirs.verdict, theirs.overlap, theirs.interval95) == (ours.verdict, ours.overlap, ours.interval95)


def test_no_other_file_is_written_over(study, tmp_path):
    run(study)
    file = tmp_path / "study.toml"
    file.write_text('corpus = "demo"')
    with pytest.raises(mc.MmerError, match=r"study\.toml: expected a CSV file to write over, or none"):
        tables.publish(study, file)
    assert file.read_text() == 'corpus = "demo"'
    assert tables.publish(study, tmp_path / "runs.csv") == tables.publish(study, tmp_path / "runs.csv") == 40


def test_no_utterance_leaves_the_machine(study, tmp_path):
    run(study)
    file = tmp_path / "runs.csv"
    tables.publish(study, file)
    text = file.read_text()
    assert "SECRET" in next(study.ledger.folder.rglob("run.json")).read_text()
    assert not re.search(r"secret|[/\\]", text, re.IGNORECASE)


def test_every_setting_is_told(study, tmp_path):
    run(study)
    tables.publish(study, tmp_path / "runs.csv")
    found = pd.read_csv(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(found[study.results().columns], study.results(), check_exact=True)
    settings = {f.name for kind in (mc.Variant, mc.protocol.Protocol) for f in fields(kind)}
    assert settings <= set(found) and set(found["max_epochs"]) == {1} and set(found["learning_rate"]) == {1e-3}
    told = found.groupby("variant")[["mask_padding", "convolution", "standardise_audio"]].first()
    assert told.loc["self_t_corrected"].tolist() == [True, "temporal", True]
    assert found.loc[found["variant"] == "self_va_3x4", "slots"].unique().tolist() == ["3x4"]
    assert found.loc[found["variant"] != "self_va_3x4", "slots"].isna().all()
    assert found["key"].tolist() == [run.key for run in study.runs]
    same = {name: found[name].unique().tolist() for name in ("corpus", "synthetic", "fingerprint", "torch")}
    assert same == {"corpus": ["demo"], "synthetic": [True], "fingerprint": [study.corpus.fingerprint]} | {
        "torch": [torch.__version__]
    }
    assert set(found["primary_metric"]) == {"weighted_f1"} and set(found["margin"]) == {0.02}
    study.margin = study.primary_metric = None  # what was declared before the runs is told, not what is now
    assert set(study.publishable()["margin"]) == {0.02}
    next(study.ledger.folder.glob("declared-*.json")).unlink()
    assert study.publishable()[["primary_metric", "margin"]].isna().all(axis=None)


@pytest.mark.parametrize("note", ["[]", "5", '{"margin": 0.02}', "{"])
def test_a_damaged_note_is_named(study, note):
    run(study.select("self_t_*"))
    next(study.ledger.folder.glob("declared-*.json")).write_text(note)
    for ask in (study.publishable, study.exploratory):
        with pytest.raises(mc.CorpusError, match="declared before the runs"):
            ask()


def test_a_place_that_is_none_is_one_sentence(study, tmp_path, monkeypatch):
    file = tmp_path / "runs.csv"
    with pytest.raises(mc.MmerError, match="nothing to publish"):
        tables.publish(study, file)
    run(study.select("self_t_*"))
    (tmp_path / "plain").write_text("a file")
    for place in ("", "SECRET-ledger", "not/there.csv", "plain/there.csv", f"{'x' * 300}.csv"):
        with pytest.raises(mc.MmerError, match=r"expected a place for a CSV file, found: \w+"):
            tables.publish(study, tmp_path / place)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    file.write_text("before")
    monkeypatch.setattr(tables.os, "replace", refuse)
    with pytest.raises(mc.MmerError, match="Permission denied"):
        tables.publish(study, file)
    assert file.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["SECRET-ledger", "plain", "runs.csv"]


def test_publish_as_a_terminal_sees_it(tmp_path, demo, capsys):
    file, out = tmp_path / "study.toml", tmp_path / "out.csv"
    text = f'corpus = {json.dumps(str(demo.path))}\nvariants = ["self_t", "self_a"]\nfolds = [1, 2]\nseeds = [1]\n'
    file.write_text(f'{text}ledger = "runs"\n[protocol]\nmax_epochs = 1\n')
    study = mc.open_study(file)
    assert main(["--study", str(file), "publish", str(out)]) == 2
    study.select("self_t").run(ThreadPoolExecutor(1), progress=False)
    assert main(["--study", str(file), "publish", str(out)]) == 0
    assert main(["--study", str(file), "publish", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "2 of 4 runs are in" in said.out and len(pd.read_csv(out)) == 2
    assert len(said.err.splitlines()) == 2 and said.err.startswith("mmer: ")
