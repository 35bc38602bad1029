"""Study, ledger and declaration: what is missing is trained, what is there stays, and wrong settings fail at once."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mmer_core as mc
from mmer_core import ledger as ledger_module
from mmer_core import running
from mmer_core.corpus import Size, Sizes
from mmer_core.ledger import Ledger, Run
from mmer_core.metrics import METRICS, scores
from mmer_core.training import Protocol, predict, train

SHORT = Protocol(max_epochs=1)


def here():
    """An executor in this process."""
    return ThreadPoolExecutor(1)


@pytest.fixture(scope="module")
def study(tmp_path_factory, demo):
    folder = tmp_path_factory.mktemp("ledger")
    study = mc.Study(
        demo, ["self_t", "self_ta", "cross_ta"], seeds=[1, 2], folds=[1, 2, 3], protocol=SHORT, ledger=folder
    )
    return study.run(here(), progress=False)


def unguarded(summary):
    """As a record of before, which knew no digests."""
    return {name: value for name, value in summary.items() if name not in ("digest", "files")}


def files(study):
    there = [p for p in study.ledger.folder.rglob("*") if p.is_file() and p.name != "events.jsonl"]
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in there}


def test_results_are_tidy_and_complete(study):
    frame = study.results()
    assert len(frame) == 18 and not frame.isna().any().any()
    assert not frame.duplicated(["variant", "fold", "seed"]).any()
    assert frame.loc[0, "n_train"] == len(study.corpus.folds[1].train)
    assert frame.loc[0, "n_test"] == len(study.corpus.folds[1].test)
    assert study.missing() == []


def test_results_follow_from_the_stored_predictions(study):
    for row in study.results().itertuples():
        record = study.record(row.variant, row.fold, row.seed)
        p = record.predictions("test")
        test = study.corpus.folds[row.fold].test
        assert p["ids"].tolist() == [study.corpus.ids[i] for i in test]
        assert p["label"].tolist() == study.corpus.label[test].tolist()
        found = scores(p["label"], p["logits"].argmax(1), 7)
        assert found == record.scores == {metric: getattr(row, metric) for metric in METRICS}
        assert record.confusion.sum() == len(test) and record.confusion.trace() == round(row.accuracy * len(test))
        dev = record.predictions("dev")
        assert (dev["logits"].argmax(1) == dev["label"]).mean() == pytest.approx(row.dev_accuracy)


def test_stored_weights_give_the_stored_predictions(study):
    model = study.model("cross_ta", 2, 1)
    logits = predict(model, study.corpus, study.corpus.folds[2].test, 2)
    np.testing.assert_array_equal(logits, study.record("cross_ta", 2, 1).predictions()["logits"])


def test_a_record_says_where_it_comes_from(study):
    s = study.record("self_ta", 1, 2).summary
    assert s["run"]["corpus"] == study.corpus.fingerprint and s["run"]["seed"] == 2
    assert s["run"]["variant"]["convolution"] == "time-mixing" and s["run"]["protocol"]["learning_rate"] == 1e-3
    assert s["provenance"]["torch"] == torch.__version__ and s["provenance"]["mmer_core"] == "0.1.0"
    assert s["provenance"]["synthetic"] is True


def test_nothing_is_trained_twice(study):
    before = files(study)
    study.run(executor=None)  # would start worker processes if there were anything to do
    assert files(study) == before


def test_only_what_is_missing_is_trained(study):
    before = files(study)
    more = mc.Study(
        study.corpus, ["self_t"], seeds=[1, 2, 3], folds=[1, 2, 3], protocol=SHORT, ledger=study.ledger.folder
    )
    assert [run.seed for run in more.missing()] == [3, 3, 3]
    more.run(here(), progress=False)
    after = files(study)
    assert before.items() <= after.items() and len(after) == len(before) + 9
    assert set(study.results()["seed"]) == {1, 2}  # the other study's runs are not mixed in


def test_another_protocol_is_another_run(study):
    longer = mc.Study(study.corpus, ["self_t"], [1], [1], Protocol(max_epochs=2), study.ledger.folder)
    assert len(longer.missing()) == 1
    assert len(mc.Study(study.corpus, ["self_t_corrected"], [1], [1], SHORT, study.ledger.folder).missing()) == 1


def test_the_longest_runs_start_first(demo, tmp_path):
    """At IEMOCAP's sizes audio takes longest of all, whatever the preset; every modality and every block adds to it."""
    sizes = Sizes(Size(128, 300), Size(32, 2048), Size(1000, 120), 7)
    for suffix in ("", "_corrected"):
        names = ["self_a", "self_ta", "self_tva", "both_tva"]
        found = [running.effort(mc.Variant.from_name(name + suffix), sizes) for name in names]
        assert found == sorted(found)
        assert found[0] > running.effort(mc.Variant.from_name("cross_tv" + suffix), sizes)

    class Full:
        def submit(self, function, run):
            raise ValueError(f"no place for {run.variant.name}")

    with pytest.raises(ValueError, match="both_tva"):
        mc.Study(demo, ["self_v", "both_tva"], [1], [1], SHORT, tmp_path).run(Full(), progress=False)


def test_two_threads_train_two_runs_at_the_same_time(demo, tmp_path, monkeypatch):
    """Each waits in its training until the other is there too."""
    both, real = threading.Barrier(2, timeout=60), running.train

    def together(*arguments):
        both.wait()
        return real(*arguments)

    monkeypatch.setattr(running, "train", together)
    with ThreadPoolExecutor(2) as pool:
        study = mc.Study(demo, ["self_t"], [1], [1, 2], SHORT, tmp_path).run(pool, progress=False)
    for fold in (1, 2):
        wanted = real(demo, study.variants["self_t"], fold, 1, SHORT)
        np.testing.assert_array_equal(study.record("self_t", fold, 1).predictions()["logits"], wanted.logits["test"])


def test_worker_processes_give_the_same_bits_as_this_process(demo, tmp_path):
    study = mc.Study(demo, ["self_ta"], [4], [1, 2], SHORT, tmp_path).run(progress=False)
    for fold in (1, 2):
        wanted = train(demo, study.variants["self_ta"], fold, 4, SHORT)
        np.testing.assert_array_equal(study.record("self_ta", fold, 4).predictions()["logits"], wanted.logits["test"])


def test_an_interruption_keeps_finished_runs(demo, tmp_path, monkeypatch):
    """Interrupted in its third run, as by the stop button of a notebook."""
    started, real = [], ledger_module.Ledger.write

    def write(self, run, corpus, trained):
        started.append(run)
        if len(started) == 3:
            signal.raise_signal(signal.SIGINT)  # while it is written
        return real(self, run, corpus, trained)

    monkeypatch.setattr(ledger_module.Ledger, "write", write)
    study = mc.Study(demo, ["self_t"], [1], None, SHORT, tmp_path)
    pool = here()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            study.run(pool, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    pool.shutdown()
    assert len(study.results()) == 2
    monkeypatch.undo()
    assert len(study.missing()) == 3
    assert len(study.run(here(), progress=False).results()) == 5


def test_when_stopped_no_run_is_begun_and_those_done_are_kept(demo, tmp_path, monkeypatch):
    stop, real = threading.Event(), ledger_module.Ledger.write

    def write(self, run, corpus, trained):
        if len(list(tmp_path.glob("*/fold*"))) == 2:
            stop.set()
            time.sleep(0.3)  # it is noticed, and the others are taken back
        return real(self, run, corpus, trained)

    monkeypatch.setattr(ledger_module.Ledger, "write", write)
    with here() as pool:
        study = mc.Study(demo, ["self_t"], [1, 2], None, SHORT, tmp_path).run(pool, progress=False, stop=stop)
    assert len(study.results()) == 3, "two, and the one in flight in a pool that is not ours"
    assert len(study.run(progress=False, stop=stop).results()) == 3
    stop.clear()
    monkeypatch.undo()
    assert len(study.run(here(), progress=False, stop=stop).results()) == 10


def test_a_run_cut_off_while_it_is_filed_leaves_nothing(demo, tmp_path, monkeypatch):
    run = Run(demo.fingerprint, mc.Variant("t"), 1, 1, SHORT)
    trained = train(demo, run.variant, 1, 1, SHORT)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger_module, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path).write(run, demo, trained)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not Ledger(tmp_path).has(run)


def test_each_record_is_read_once(demo, tmp_path, guesses, monkeypatch):
    """By whatever asks for it, and again only when its file has changed."""
    study = guesses(["self_ta", "cross_ta"]).run(here(), progress=False)
    reads, real = [], ledger_module.Record.__init__

    def init(record, folder):
        reads.append(folder)
        real(record, folder)

    monkeypatch.setattr(ledger_module.Record, "__init__", init)
    fresh = guesses(["self_ta", "cross_ta"])

    def ask():
        for part in (fresh, fresh.select("self_*"), fresh.with_variants(["cross_ta", "self_t"])):
            for frame in (part.results, part.recalls, part.learning_curves, part.status, part.comparisons):
                frame()
            part.predictions("self_ta"), part.confusion("cross_ta"), repr(part)
        return fresh.record("self_ta", 1, 1).summary["seconds"]

    ask(), ask()
    assert len(reads) == len(set(reads)) == len(study.runs) == 6
    file = next(tmp_path.rglob("self_ta/fold1*/run.json"))
    changed = unguarded(json.loads(file.read_text())) | {"seconds": 123.0}
    (tmp_path / "other.json").write_text(json.dumps(changed))
    (tmp_path / "other.json").replace(file)
    assert ask() == 123.0 and len(reads) == 7 and 123.0 in set(fresh.results()["seconds"])
    file.write_text("{}")
    with pytest.raises(mc.CorpusError, match=r"run\.json"):
        fresh.results()
    file.unlink()
    assert len(fresh.missing()) == 1 and len(fresh.results()) == 5
    with pytest.raises(mc.CorpusError, match=r"run\.json"):
        fresh.record("self_ta", 1, 1)


@pytest.mark.parametrize("damage", [lambda t: t[: len(t) // 2], lambda t: "{}", lambda t: "[]"])
def test_a_damaged_record_is_named(study, tmp_path, demo, damage):
    copy = mc.Study(demo, ["self_t"], [1], [1], SHORT, tmp_path).run(here(), progress=False)
    file = next(tmp_path.rglob("run.json"))
    file.write_text(damage(file.read_text()))
    with pytest.raises(mc.CorpusError, match=r"run\.json"):
        copy.results()
    (file.parent / "weights.safetensors").write_bytes(b"no")
    (file.parent / "predictions.npz").write_bytes(b"no")
    file.write_text((study.ledger.folder / study.runs[0].folder / "run.json").read_text())
    with pytest.raises(mc.CorpusError, match=r"weights\.safetensors"):
        copy.model("self_t", 1, 1)
    with pytest.raises(mc.CorpusError, match=r"predictions\.npz"):
        copy.record("self_t", 1, 1).predictions()


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        *(("scores", wrong) for wrong in (None, [0.5], "0.5", {"accuracy": "0.5"}, {"accuracy": None})),
        *(("scores", {"accuracy": wrong}) for wrong in (True, float("nan"), [0.5])),
        *(("confusion", wrong) for wrong in (None, 5, "x", [], [[1, 2], [3]], [[1, 2], [3, 4]], {"a": 1})),
        *(("confusion", [[wrong] * 7] * 7) for wrong in (0, -1, 0.5, "1", None, True)),
        *(("counts", wrong) for wrong in (None, 5, {"train": 1}, {"train": 1, "dev": 1, "test": "many"})),
        *(("curve", wrong) for wrong in (None, {}, [1.0])),
        *((number, "many") for number in ("dev_accuracy", "parameters", "best_epoch", "seconds")),
        *((table, 5) for table in ("classes", "provenance")),
    ],
)
def test_a_record_that_holds_something_else_is_named(study, tmp_path, what, wrong):
    folder = shutil.copytree(study.record("self_t", 1, 1).folder, tmp_path / "run")
    held = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(held | {what: wrong}))
    with pytest.raises(mc.CorpusError, match=r"run\.json.*the record of a run"):
        ledger_module.Record(folder)
    (folder / "run.json").write_text(json.dumps({name: held[name] for name in held if name != what}))
    with pytest.raises(mc.CorpusError, match=what):
        ledger_module.Record(folder)


def test_records_of_before_tell_all_scores(study, tmp_path, guessed):
    """With the four scores of old, in some of the records or in all: what lacks follows from the confusion matrix."""
    shutil.copytree(study.ledger.folder, tmp_path / "old")
    old = mc.Study(study.corpus, list(study.variants), [1, 2], [1, 2, 3], SHORT, tmp_path / "old", "weighted_f1", 0.02)
    for n, file in enumerate(sorted(old.ledger.folder.rglob("run.json")), 1):
        held = unguarded(json.loads(file.read_text()))
        held["scores"] = {metric: held["scores"][metric] for metric in METRICS[:4]}
        file.write_text(json.dumps(held))
        if n in (1, len(old.runs)):  # mixed with new ones, and alone
            before = {p: p.read_bytes() for p in old.ledger.folder.rglob("*") if p.is_file()}
            pd.testing.assert_frame_equal(old.results(), study.results(), check_exact=True)
            assert old.status()["weighted_f1"].between(0, 1).all() and len(old.comparisons()) == 1
            assert before == {p: p.read_bytes() for p in old.ledger.folder.rglob("*") if p.is_file()}
            assert old.missing() == []
    for run in old.runs:
        record = old.record(run.variant.name, run.fold, run.seed)
        stored = record.predictions("test")
        assert record.scores == scores(stored["label"], stored["logits"].argmax(1), 7)
    assert {"weighted_f1", "weighted_f1: SD seeds"} <= set(mc.tables.results_table(old))


def test_the_identity_of_a_run_is_what_it_always_was():
    """A run that would be called something else would be trained again: old ledgers have to open."""
    variant = mc.Variant.from_name("cross_tva_corrected")
    assert Run("0123456789abcdef", variant, 2, 3, SHORT).key == "e67cec7b778e"


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_predictions_that_were_cut_off_are_named(study, tmp_path, share):
    folder = shutil.copytree(study.record("self_t", 1, 1).folder, tmp_path / "run")
    whole = (folder / "predictions.npz").read_bytes()
    (folder / "predictions.npz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(mc.CorpusError, match=r"predictions\.npz"):
        ledger_module.Record(folder).predictions()


def test_curves_status_confusion_and_selection(study):
    curves = study.learning_curves()
    assert len(curves) == 18 and set(curves["epoch"]) == {1}
    status = study.status().set_index("variant")
    assert status.loc["self_t", ["done", "runs"]].tolist() == [6, 6]
    total = study.confusion("self_t")
    assert total.sum() == 2 * sum(len(study.corpus.folds[k].test) for k in (1, 2, 3))
    assert list(study.select("*_ta").variants) == ["self_ta", "cross_ta"]
    with pytest.raises(ValueError, match="no variant of this study"):
        study.select("both_*")
    assert study.with_variants(["self_a"]).results().empty
    assert study.with_variants(["self_a"]).confusion("self_a").sum() == 0
    with pytest.raises(ValueError, match="no run of this study"):
        study.record("self_t", 1, 9)


def test_what_was_declared_before_the_first_run_is_kept(demo, tmp_path):
    def study(**settings):
        return mc.Study(demo, ["self_t"], [1], [1], SHORT, tmp_path, **settings)

    assert "does not say" in study(margin=0.02).exploratory()
    study(margin=0.02).run(here(), progress=False)
    assert study(margin=0.02).exploratory() == ""
    assert "secondary: accuracy" in study(margin=0.02).exploratory("balanced_accuracy")
    later = study(margin=0.05, primary_metric="balanced_accuracy").run(here(), progress=False)
    assert "secondary: accuracy" in later.exploratory()
    assert "the margin was 0.02" in study(margin=0.05).exploratory()
    next(tmp_path.glob("declared-*.json")).write_text("{")
    with pytest.raises(mc.CorpusError, match="declared"):
        study(margin=0.02).exploratory()


# ---------------------------------------------------------------------------------------------- declared comparisons

DEFAULT = [("self_tv", "cross_tv"), ("self_ta", "cross_ta"), ("self_va", "cross_va"), ("self_tva", "cross_tva")]
BY_HAND = "the comparison was picked by hand"


@pytest.fixture
def guesses(demo, tmp_path, guessed):
    """A study in tmp_path whose runs are guesses, for tests that only compare."""

    def make(variants, **settings):
        known = dict(seeds=[1], folds=[1, 2, 3], protocol=SHORT, ledger=tmp_path / "runs", margin=0.02)
        return mc.Study(demo, variants, **{**known, **settings})

    return make


def asked(comparisons):
    return [(c.first, c.second) for c in comparisons]


def test_by_default_self_is_compared_with_cross_attention(guesses):
    paper = guesses(mc.PAPER_VARIANTS)
    assert paper.declaration.pairs == DEFAULT
    assert paper.comparisons() == []
    some = paper.with_variants(["cross_tva", "self_tva", "self_va", "self_tva_nosp", "cross_tva_nosp", "cross_ta"])
    some.run(here(), progress=False)
    assert asked(paper.comparisons()) == [("self_tva", "cross_tva")]
    corrected = guesses(["cross_tv_corrected", "self_tv_corrected", "self_tv", "cross_tv_mask_temporal"])
    assert corrected.declaration.pairs == [("self_tv_corrected", "cross_tv_corrected")]


def test_every_comparison_is_stamped_by_itself(guesses):
    study = guesses(["self_tva", "cross_tva", "self_t"]).run(here(), progress=False)
    pairs = [("self_tva", "cross_tva"), ("self_t", "cross_tva"), ("cross_tva", "self_tva"), ("self_tva", "self_v")]
    declared, picked, turned = study.comparisons(pairs)
    assert asked([declared, picked, turned]) == pairs[:3], "self_v is not trained"
    assert [c.exploratory for c in (declared, picked, turned)] == ["", BY_HAND, ""]
    results = study.results()
    wanted = mc.compare(results, "self_tva", "cross_tva", "accuracy", rope=0.02)
    assert (declared.difference, declared.interval95, declared.rope) == (wanted.difference, wanted.interval95, 0.02)
    secondary = "balanced_accuracy is secondary: accuracy was declared before the runs"
    other = study.comparisons(pairs[:2], "balanced_accuracy")
    assert [c.exploratory for c in other] == [secondary, f"{secondary}, and {BY_HAND}"]
    wider = guesses(["self_tva", "cross_tva", "self_t"], margin=0.05)
    margin = "the margin was 0.02 when the runs began"
    assert [c.exploratory for c in wider.comparisons(pairs[:2])] == [margin, f"{margin}, and {BY_HAND}"]
    with pytest.raises(mc.MmerError, match="needs a margin"):
        guesses(["self_tva", "cross_tva"], margin=None).comparisons()
    with pytest.raises(mc.MmerError, match="with itself"):
        study.comparisons([("self_t", "self_t")])
    with pytest.raises(mc.MmerError, match="self_tav_typo"):
        study.comparisons([("self_t", "self_tav_typo")])


def test_comparisons_are_declared_before_the_runs(guesses):
    """What the ledger noted before its first run decides, also for a part of the study; an old note names none."""
    variants, pair = ["self_tva", "cross_tva", "self_t"], ("self_t", "self_tva")
    study = guesses(variants, comparisons=[pair])
    study.select("self_t").run(here(), progress=False)
    study.run(here(), progress=False)
    assert asked(study.comparisons()) == [pair] and study.comparisons()[0].exploratory == ""
    assert study.with_variants(variants[:2]).comparisons(DEFAULT)[0].exploratory == BY_HAND
    late = guesses(variants, comparisons=[("self_t", "cross_tva")])
    assert late.comparisons()[0].exploratory == BY_HAND
    note = next(study.ledger.folder.glob("declared-*.json"))
    note.write_text('{"primary_metric": "accuracy", "margin": 0.02, "when": "2025-01-01T00:00:00+00:00"}')
    assert [c.exploratory for c in study.comparisons([*DEFAULT, pair])] == ["", BY_HAND]
    note.unlink()
    assert study.comparisons()[0].exploratory == "the ledger does not say what was declared before the runs"


def test_what_each_modality_adds_is_a_family_of_its_own(guesses):
    variants = ["self_tva", "cross_tva", "self_tv", "self_va", "cross_ta", "cross_tv_nosp", "self_t", "uniform_ta"]
    added = [("self_va", "self_tva"), ("self_tv", "self_tva"), ("cross_ta", "cross_tva")]
    study = guesses(variants, comparisons=["attention", "modalities", ("self_t", "self_tv")])
    assert study.additions() == added
    assert study.declaration.pairs == [("self_tva", "cross_tva"), ("self_t", "self_tv")], "that is another question"
    study.run(here(), progress=False)
    assert [c.exploratory for c in study.comparisons(added)] == ["", "", ""]
    assert [c.exploratory for c in study.comparisons([("self_t", "self_va"), ("self_tv", "self_t")])] == [BY_HAND, ""]
    part = study.select("self_tv", "self_t")
    assert part.additions() == [] and part.exploratory(pair=("self_tv", "self_tva")) == ""
    undeclared = guesses(variants, comparisons=None, ledger=study.ledger.folder / "other")
    undeclared.run(here(), progress=False)
    assert [c.exploratory for c in undeclared.comparisons(added)] == 3 * [BY_HAND]


def test_in_a_corpus_of_two_modalities_each_adds_to_the_other(demo):
    lengths = {name: n for name, n in demo.lengths.items() if name != "video"}
    two = dataclasses.replace(demo, lengths=lengths)
    study = mc.Study(two, ["self_ta", "self_t", "self_a", "cross_ta"], [1])
    assert study.additions() == [("self_a", "self_ta"), ("self_t", "self_ta")]
    assert study.declaration.pairs == [("self_ta", "cross_ta")]


def test_the_main_comparison(guesses):
    study = guesses(["self_t", "uniform_tva", "self_va", "cross_va", "self_tva", "cross_tva"])
    with pytest.raises(mc.MmerError, match="two trained variants; trained so far: none"):
        study.main_comparison()
    study.select("self_tva").run(here(), progress=False)
    with pytest.raises(mc.MmerError, match="two trained variants; trained so far: self_tva"):
        study.main_comparison()
    study.select("uniform_*").run(here(), progress=False)
    assert asked([study.main_comparison()]) == [("uniform_tva", "self_tva")]
    assert study.main_comparison().exploratory == BY_HAND
    study.select("*_va").run(here(), progress=False)
    assert asked([study.main_comparison()]) == [("self_va", "cross_va")]
    study.run(here(), progress=False)
    assert asked([study.main_comparison()]) == DEFAULT[-1:] and study.main_comparison().exploratory == ""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(variants=[]), "needs variants"),
        (dict(variants=["cross_t"]), "cross_t"),
        (dict(variants="self_t"), "variants is a list"),
        (dict(variants=[5]), "'5'"),
        (dict(seeds=[]), "needs seeds"),
        (dict(seeds=["one"]), "whole numbers"),
        (dict(seeds=[True]), "whole numbers"),
        (dict(seeds=[-1]), "whole numbers"),
        (dict(folds=[9]), "folds"),
        (dict(folds=[1.0]), "folds"),
        (dict(primary_metric="WA"), "primary_metric"),
        (dict(margin=2), "margin"),
        (dict(margin=0), "margin"),
        (dict(comparisons=["self_t"]), "comparisons is a list of pairs"),
        (dict(comparisons=[["self_t", "self_v", "self_a"]]), "comparisons is a list of pairs"),
        (dict(comparisons=[["self_t", "self_t"]]), "with itself"),
        (dict(comparisons=[["self_t", "self_xyz"]]), "self_xyz"),
        (dict(ledger=5), "ledger is a path"),
        (dict(protocol=5), "protocol is a table"),
    ],
)
def test_settings_without_sense_are_refused_in_the_same_words(demo, declare, wrong, message):
    """Wherever they are said: as arguments, as changes, or in a file, which is named then."""
    told = []
    with pytest.raises(mc.MmerError, match=message) as error:
        mc.Study(**{"corpus": demo, "variants": ["self_t"], **wrong})
    told.append(str(error.value))
    with pytest.raises(mc.MmerError) as error:
        mc.open_study(declare(""), **wrong)
    told.append(str(error.value))
    ((setting, value),) = wrong.items()
    file = declare(f"{setting} = {json.dumps(value)}")
    with pytest.raises(mc.MmerError) as error:
        mc.open_study(file)
    assert str(error.value) == f"{file}: {told[0]}" and told[0] in told[1]


def test_numbers_of_numpy_are_whole_numbers(demo, tmp_path):
    numpy = mc.Study(demo, ["self_t"], np.arange(1, 3), np.array([2, 1]), SHORT, tmp_path, margin=np.float64(0.02))
    python = mc.Study(demo, ["self_t"], range(1, 3), (2, 1), SHORT, tmp_path, margin=0.02)
    assert numpy.declaration == python.declaration and numpy.runs == python.runs
    assert "0 of 4 runs done" in repr(numpy) and numpy.run(here(), progress=False).missing() == []
    assert len(python.results()) == 4


def test_a_declaration_needs_no_torch():
    code = """
import sys
from mmer_core import declaration
assert declaration.Declaration().pairs and declaration.read(sys.argv[1]).seeds == (1, 2)
assert not {"torch", "numba"} & set(sys.modules)
"""
    file = Path(__file__).parents[1] / "data" / "study.toml"
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, cwd=file.parents[1])
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------- study.toml


@pytest.fixture
def declare(tmp_path, demo):
    def write(text):
        file = tmp_path / "study.toml"
        file.write_text(f"corpus = {json.dumps(str(demo.path))}\n{text}")
        return file

    return write


def test_a_declaration_is_read(declare):
    file = declare(
        'variants = ["paper", "uniform_tva", {modalities = "ta", attention = "self", standardise_audio = true}]\n'
        'seeds = [3, 4]\nfolds = [2, 1]\nprimary_metric = "balanced_accuracy"\nmargin = 0.03\nledger = "kept/here"\n'
        'comparisons = [["uniform_tva", "self_tav"]]\n'
        "[protocol]\nmax_epochs = 7\n"
    )
    study = mc.open_study(file)
    assert len(study.variants) == 16 and "self_ta_standardised" in study.variants
    assert (study.seeds, study.folds, study.margin) == ([3, 4], [2, 1], 0.03)
    assert mc.open_study(file, primary_metric="weighted_f1").primary_metric == "weighted_f1"
    assert study.primary_metric == "balanced_accuracy" and study.protocol == Protocol(max_epochs=7)
    assert study.ledger.folder == file.parent / "kept" / "here"
    assert study.declaration.pairs == [("uniform_tva", "self_tva")]
    changed = mc.open_study(file, seeds=range(1, 3), variants=["self_t"])
    assert changed.seeds == [1, 2] and list(changed.variants) == ["self_t"]


def test_the_environment_can_name_the_file(declare, monkeypatch):
    monkeypatch.setenv("MMER_STUDY", str(declare("seeds = [6]")))
    assert mc.open_study().seeds == [6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedes = [1]", "unknown setting 'sedes'"),
        ("seeds = 3", "seeds is a list"),
        ('margin = "small"', "margin"),
        ('variants = ["self_xyz"]', "self_xyz"),
        ('variants = [{modality = "t"}]', "unknown setting 'modality'"),
        ('variants = [{attention = "self"}]', "modalities"),
        ('variants = [{modalities = "t", attention = "cross"}]', "two modalities"),
        ("corpus_ = 3", "unknown setting 'corpus_'"),
        ("store = 3", "store is a path"),
        ("folds = 1", "folds is a list"),
        ('comparisons = [["self_tva"]]', "comparisons"),
        ("[protocol]\nepochs = 3", "unknown setting 'epochs'"),
        ("[protocol]\nmax_epochs = 0", "max_epochs"),
        ("seeds = [1", "declaration of a study"),
        ('primary_metric = "UWA"', "primary_metric"),
    ],
)
def test_wrong_declarations_name_file_and_setting(declare, text, message):
    file = declare(text)
    with pytest.raises(mc.MmerError, match=message) as error:
        mc.open_study(file)
    assert str(file) in str(error.value)


def test_a_wrong_change_is_not_the_files_fault(declare):
    file = declare("")
    for wrong in (dict(sedes=[1]), dict(seeds=3), dict(folds=[-9]), dict(protocol=dict(epochs=3))):
        with pytest.raises(mc.MmerError, match=r"sedes|seeds|folds|epochs") as error:
            mc.open_study(file, **wrong)
        assert str(file) not in str(error.value)


def test_a_missing_declaration_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.toml"):
        mc.open_study(tmp_path / "nothing.toml")


def test_a_protocol_that_is_not_the_papers_shows(study):
    assert "max_epochs = 1 (paper: None)" in repr(study) and "learning_rate" not in repr(study)


def test_the_committed_study_is_the_demo():
    study = mc.open_study(Path(__file__).parents[1] / "data" / "study.toml", corpus=mc.open_study().corpus)
    assert set(study.variants) == {*mc.PAPER_VARIANTS, "uniform_tva"} and len(study.seeds) == 2
    assert study.margin and isinstance(study.results(), pd.DataFrame)
    assert study.declaration.pairs == DEFAULT and len(study.additions()) == 6
