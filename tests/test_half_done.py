"""Studies with some of their runs: notebooks 04 to 06 show what there is, say what is missing, and never train."""

import ast
import contextlib
import functools
import io
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import CHECKOUT

import mmer_core as mc
from mmer_core import bundle, explained, figures, running, stats
from mmer_core.protocol import Protocol

VARIANTS = ["self_t", "self_ta", "cross_ta", "uniform_ta", "self_tv", "cross_tv"]
SETTINGS = dict(seeds=(1, 2), folds=(1, 2, 3), margin=0.02, protocol=Protocol(max_epochs=1))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> mc.Corpus:
    return mc.make_demo_corpus(tmp_path_factory.mktemp("corpora") / "small", utterances=100)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> mc.Study:
    return mc.Study(small, VARIANTS, ledger=tmp_path_factory.mktemp("whole"), **SETTINGS).run(
        progress=False, device="cpu"
    )


def part_of(whole: mc.Study, folder: Path, keep, **changes) -> mc.Study:
    """The same study with a ledger that holds only the runs that `keep` keeps."""
    for run in whole.runs:
        if keep(run):
            shutil.copytree(whole.ledger.folder / run.folder, folder / run.folder)
    folder.mkdir(exist_ok=True)
    for noted in whole.ledger.folder.glob("declared-*.json"):
        shutil.copy(noted, folder)
    return mc.Study(whole.corpus, **{"variants": VARIANTS, "ledger": folder, **SETTINGS, **changes})


def execute(name: str, study: mc.Study, monkeypatch) -> str:
    """What the code cells of a notebook print and display for this study."""
    out = io.StringIO()
    monkeypatch.setattr(mc, "open_study", lambda: study, raising=False)
    space = {"display": lambda x: print(x)}
    with contextlib.redirect_stdout(out):
        for cell in json.loads((CHECKOUT / "notebooks" / f"{name}.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "code":
                *before, last = ast.parse("".join(cell["source"])).body
                exec(compile(ast.Module(before, []), name, "exec"), space)
                if isinstance(last, ast.Expr):
                    print(eval(compile(ast.Expression(last.value), name, "eval"), space))
                else:
                    exec(compile(ast.Module([last], []), name, "exec"), space)
    return " ".join(out.getvalue().split())  # sentences are broken into lines


def touch(fig, name, folder=None):
    """Most of the time goes into writing figures, which other tests look at: a small one has the same name."""
    file = figures.output_folder(folder) / f"{name}.png"
    plt.imsave(file, np.zeros((40, 40, 3)))
    return [file]


def made_once(everything):
    """The registry of a study whose runs do not change: an item that two notebooks show is made once."""
    known = {}

    def contents(study):
        if study not in known:
            known[study] = {name: functools.cache(make) for name, make in everything(study).items()}
        return known[study]

    return contents


def state_of(folder: Path) -> dict[Path, tuple]:
    """All that lies in a ledger; checks of its runs, which notebook 04 files beside them, are not part of it."""
    files = [p for p in sorted(folder.rglob("[!.]*")) if ".checks" not in p.parts]
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in files}


STATES = {
    "no run": (lambda r: False, {}),
    "one run": (lambda r: (r.variant.name, r.fold, r.seed) == ("self_ta", 1, 1), {}),
    "one fold so far": (lambda r: r.fold == 1, {}),
    "two folds so far": (lambda r: r.fold < 3, {}),
    "one seed so far": (lambda r: r.seed == 1, {}),
    "a variant lacks folds": (lambda r: r.variant.name != "cross_ta" or r.fold == 2, {}),
    "one variant": (lambda r: r.variant.name == "cross_tv", {}),
    "a split": (lambda r: True, {"folds": (1,)}),
    "two splits": (lambda r: True, {"folds": (1, 2)}),
    "a split, one seed": (lambda r: True, {"folds": (1,), "seeds": (1,)}),
    "no margin": (lambda r: True, {"margin": None}),
    "one pair lacks a split": (lambda r: r.variant.name != "cross_tv" or r.fold == 1, {"folds": (1, 2)}),
    "one variant declared": (lambda r: True, {"variants": ["self_ta"]}),
    "whole": (lambda r: True, {}),
}


# "whole" is what the executed notebooks are; the others resemble a state that is always tested
SELDOM = ("whole", "two splits", "a split, one seed", "one variant", "one run", "one pair lacks a split")


@pytest.mark.parametrize("state", [pytest.param(s, marks=pytest.mark.slow) if s in SELDOM else s for s in STATES])
def test_notebooks_show_what_there_is_and_train_nothing(state, whole, tmp_path, monkeypatch):
    keep, changes = STATES[state]
    study = part_of(whole, tmp_path / "ledger", keep, **changes)
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    monkeypatch.setattr(mc.Study, "run", lambda *_, **__: pytest.fail("a training was started"))
    monkeypatch.setattr(stats, "twins", lambda twins=stats.twins: twins(20))
    monkeypatch.setattr(stats, "across_calibration", lambda studies, f=stats.across_calibration: f(50))
    monkeypatch.setattr(stats, "calibration_table", lambda c, f=stats.calibration_table: f(c, studies=30))
    monkeypatch.setattr(figures, "save_figure", touch)
    monkeypatch.setattr("mmer_core.widgets.kit.PIXELS", 15)
    monkeypatch.setattr(explained, "SLOW", ("blocks",))  # the others say that they are not computed yet
    monkeypatch.setattr(explained, "TRUTH", ())
    monkeypatch.setattr(bundle.items, "everything", made_once(bundle.items.everything))
    before = state_of(study.ledger.folder)
    notebooks = ("04_attention_maps", "05_statistical_comparison", "06_paper_bundle")
    told = {name: execute(name, study, monkeypatch) for name in notebooks}
    assert state_of(study.ledger.folder) == before
    for text in told.values():
        assert study.progress() in text and "Traceback" not in text and not re.search(r"\bnan\b", text.lower())
    compared = told["05_statistical_comparison"]
    assert "Not yet" in compared or state in ("whole", "a variant lacks folds")
    written = {file.stem for file in (tmp_path / "figures").glob("*")}
    if state in ("a split", "two splits", "one pair lacks a split"):
        assert "this split" in compared and {"forest", "report", "comparisons"} <= written
        rows = len(stats.verdict_table(study.judged()))
        assert rows == 2 * len(study.folds) - (state == "one pair lacks a split")
    elif state in ("one seed so far", "whole", "a variant lacks folds"):
        assert {"forest", "report", "comparisons"} <= written
    elif state != "one variant declared":  # no pair is declared then, and the forest says so
        assert "forest" not in written
    if not study.results().empty:
        assert {"scores", "results", "learning_curves"} <= written


def test_what_is_missing_is_marked_and_said(whole, tmp_path):
    keep, _ = STATES["a variant lacks folds"]
    study = part_of(whole, tmp_path / "ledger", keep)
    assert study.marked("cross_ta") == "cross_ta (2 of 6 runs)" and study.marked("self_ta") == "self_ta"
    text = study.progress()
    assert "32 of 36 runs" in text and "cross_ta (2 of 6 runs)" in text and "mmer_core run" in text
    assert re.search(r"about \d+ (second|minute)s? here", text)
    assert [(c.first, c.second) for c in study.comparisons()] == [("self_tv", "cross_tv")]
    assert "cross_ta has folds 2" in study.open_pairs()["self_ta", "cross_ta"]
    report = bundle.contents(study)["report"]()
    assert "No verdict on cross_ta − self_ta" in report
    with pytest.raises(mc.MmerError, match="same folds"):
        study.comparison("self_ta", "cross_ta")
    table = mc.tables.results_table(study).set_index("variant")["runs"]
    assert table["cross_ta"] == "2 of 6" and table["self_ta"] == 6


def test_a_verdict_while_seeds_are_missing_is_marked_interim(whole, tmp_path):
    study = part_of(whole, tmp_path / "ledger", lambda r: r.seed == 1 or r.variant.name != "cross_ta")
    marked = {c.second: c.label for c in study.comparisons()}
    assert marked == {"cross_tv": "cross_tv − self_tv", "cross_ta": "cross_ta − self_ta (interim)"}
    assert "Interim" in bundle.contents(study)["report"]()


def test_stamps_do_not_change_while_runs_come_in(whole, tmp_path):
    pairs = [("self_ta", "cross_ta"), ("self_tv", "cross_tv"), ("uniform_ta", "self_ta")]
    rng = np.random.default_rng(0)
    order = {run.key: n for n, run in enumerate(rng.permutation(np.array(whole.runs, object)))}
    stamps = []
    for n, share in enumerate((0, 0.3, 0.6, 1)):
        study = part_of(whole, tmp_path / str(n), lambda r, share=share: order[r.key] < share * len(order))
        stamps.append([study.exploratory(pair=pair) for pair in pairs])
        for c in study.comparisons(pairs):
            assert c.exploratory == study.exploratory(pair=(c.first, c.second))
    assert stamps == [["", "", "the comparison was picked by hand"]] * 4


@pytest.mark.parametrize("variants", [["cross_ta"], ["uniform_t"]])
def test_notebooks_02_and_03_train_all_that_is_declared(variants, small, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    study = mc.Study(small, variants, ledger=tmp_path / "ledger", **{**SETTINGS, "seeds": (1,), "folds": (1,)})
    train = mc.Study.run
    monkeypatch.setattr(mc.Study, "run", lambda study, **more: train(study, progress=False, device="cpu", **more))
    for name in ("02_self_attention", "03_cross_attention"):
        execute(name, study, monkeypatch)
    assert not study.missing() and study.progress() == "All 1 runs of this study are trained."


def test_what_one_pair_lacks_on_a_split_does_not_silence_the_others(whole, tmp_path):
    lacks = part_of(whole, tmp_path / "lacks", *STATES["one pair lacks a split"][:1], folds=(1, 2))
    found = [(d.second, d.metric) for d in lacks.judged()]
    splits = [f"accuracy, this split (fold {fold})" for fold in (1, 2)]
    assert found == [("cross_tv", splits[0]), ("cross_ta", splits[0]), ("cross_ta", splits[1])]
    assert lacks.unjudged() == {"cross_tv − self_tv, fold 2": "cross_tv has no run on fold 2"}
    report = bundle.contents(lacks)["report"]()
    assert "No verdict on cross_tv − self_tv, fold 2: cross_tv has no run on fold 2." in report
    assert "Interim, while runs are missing: cross_tv (2 of 4 runs)." in report
    one_seed = part_of(whole, tmp_path / "seed", lambda r: r.variant.name != "cross_tv" or r.seed == 1, folds=(1,))
    assert [d.second for d in one_seed.judged()] == ["cross_ta"]
    assert "two seeds" in one_seed.unjudged()["cross_tv − self_tv, fold 1"]


def test_a_declared_metric_that_a_split_cannot_judge_is_told(whole, tmp_path):
    study = part_of(whole, tmp_path / "ledger", lambda r: True, folds=(1,), primary_metric="balanced_accuracy")
    told = "This split allows verdicts on accuracy only; none is given on the declared balanced_accuracy."
    assert told in bundle.contents(study)["report"]()
    usual = part_of(whole, tmp_path / "usual", lambda r: True, folds=(1,))
    assert "allows verdicts" not in bundle.contents(usual)["report"]()


@pytest.mark.parametrize("folds", [None, (1,)])
def test_networks_that_tell_nothing_apart_are_not_called_alike_in_silence(demo, tmp_path, monkeypatch, guessed, folds):
    guess = running.train

    def one_answer(corpus, variant, *more):
        made = guess(corpus, variant, *more)
        for x in made.logits.values() if variant.attention == "self" else ():
            x[:, 3] = 99
        return made

    monkeypatch.setattr(running, "train", one_answer)
    monkeypatch.setattr(running, "_open_once", lambda store: demo)
    study = mc.Study(demo, ["self_ta", "cross_ta"], [1, 2], folds, margin=0.02, ledger=tmp_path / "ledger")
    study.run(ThreadPoolExecutor(1), progress=False)
    told = "No run of self_ta tells any two utterances apart: each answers one class alone."
    assert told in bundle.contents(study)["report"]() and told in study.judged()[0].notes


def test_a_verdict_without_any_scatter_says_so_in_the_report():
    """Networks that answer one class all the time differ by nothing, in every fold."""
    rows = [(name, fold, seed, 0.5) for name in ("self_t", "self_v") for fold in (1, 2, 3) for seed in (1, 2)]
    runs = pd.DataFrame(rows, columns=["variant", "fold", "seed", "accuracy"])
    same = mc.compare(runs, "self_t", "self_v", "accuracy", rope=0.02)
    assert "so its interval is a point" in stats.prose([same], "demo corpus (synthetic)")


def test_a_split_by_itself_is_what_one_split_says(whole, tmp_path):
    """Each row is `stats.on_one_split` of that fold's runs, whatever the other folds hold."""
    study = part_of(whole, tmp_path / "two", lambda r: True, folds=(1, 2))
    for d, fold in zip(study.judged()[2:], (1, 2), strict=True):
        sides = [[p for (k, _), p in study.predictions(name).items() if k == fold] for name in ("self_ta", "cross_ta")]
        alone = stats.on_one_split(*sides, rope=0.02)
        assert (d.difference, d.se, d.df) == pytest.approx((alone.difference, alone.se, alone.df))
        assert f"fold {fold}" in d.label and "this split" in d.label


def test_the_report_claims_nothing_of_pairs_that_are_still_open():
    """Pairs that are close, with one more that cannot be judged: not "all", and not "this", are comparable."""
    close = [stats.Difference(f"self_{m}", f"cross_{m}", "accuracy", 0.02, 0.0, 0.001, 9) for m in ("ta", "tv")]
    assert "in all 2 sets" in stats.prose(close, "toy corpus")
    assert "in 2 of 3 sets of modalities, and not shown" in stats.prose(close, "toy corpus", still_open=1)
    assert "in 1 of 2 sets" in stats.prose(close[:1], "toy corpus", still_open=1)


def test_show_tells_a_name_that_awaits_runs_from_one_that_is_misspelt(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    study, none = whole, part_of(whole, tmp_path / "none", lambda r: False)
    for name in set(bundle.everything(study)) - {"twins", "across_calibration", "published_range", "methods"}:
        if not name.startswith("corpus_"):
            assert bundle.show(none, name) is None and "Not yet: " in capsys.readouterr().out, name
    with pytest.raises(mc.MmerError, match="no 'forrest' to show"):
        bundle.show(none, "forrest")


def test_any_subset_of_runs_gives_items_or_reasons(whole, tmp_path):
    rng, names = np.random.default_rng(5), ("twins", "across_calibration", "calibration", "pair_matrix")
    for n, (share, folds) in enumerate([(0.3, 3), (0.8, 3), (0.7, 2), (0.6, 1)]):
        kept = {run.key for run in whole.runs if rng.random() < share}
        study = part_of(whole, tmp_path / str(n), lambda r, kept=kept: r.key in kept, folds=tuple(range(1, folds + 1)))
        for name, make in bundle.contents(study).items():
            if name not in names and not name.startswith(("corpus_", "attention_", "confusion", "learning")):
                with contextlib.suppress(mc.MmerError):
                    item = make()
                    text = item if isinstance(item, str) else str(getattr(item, "caption", ""))
                    assert not re.search(r"\bnan\b", text), (name, text)


def test_an_interim_verdict_is_marked_where_it_stands(whole, tmp_path):
    study = part_of(whole, tmp_path / "ledger", lambda r: r.seed == 1 or r.variant.name != "cross_ta")
    verdicts = mc.tables.results_table(study).set_index("variant")["against self"]
    assert verdicts["cross_ta"].endswith(" (interim)") and "interim" not in verdicts["cross_tv"]
    paired = bundle.contents(study)["paired_self_ta_cross_ta"]()
    assert "(interim)" in paired.axes[1].get_xlabel()
    assert "(interim)" in bundle.contents(study)["improvement"]().caption


def test_what_cannot_be_judged_over_folds_is_said_of_the_declared_pair(whole, tmp_path):
    study = part_of(whole, tmp_path / "ledger", lambda r: True, folds=(1,))
    for name in ("plan", "calibration", "variance"):
        with pytest.raises(mc.MmerError, match="three or more; self_ta and cross_ta have 1"):
            bundle.contents(study)[name]()
    assert "clustered by" in bundle.contents(study)["in_other_words"]()


def test_the_time_left_is_that_of_the_runs_on_the_cores_they_can_use(whole, tmp_path, monkeypatch):
    """Known seconds for variants that were trained, in proportion to effort for others; never more cores than runs."""
    study = part_of(whole, tmp_path / "ledger", lambda r: r.variant.name != "cross_ta" or (r.fold, r.seed) != (1, 1))
    table = study.results().assign(seconds=7200.0)
    monkeypatch.setattr(study, "results", lambda: table)
    monkeypatch.setattr("mmer_core.watching.cpu_count", lambda: 8)
    assert "about 2.0 hours" in study.progress()
    untrained = part_of(whole, tmp_path / "new", lambda r: r.variant.name == "self_ta")
    known = untrained.results().assign(seconds=600.0)
    monkeypatch.setattr(untrained, "results", lambda: known)
    effort = {name: mc.running.effort(variant, whole.corpus.sizes) for name, variant in whole.variants.items()}
    hours = sum(6 * effort[name] for name in VARIANTS if name != "self_ta") * 600 / effort["self_ta"] / 8 / 3600
    assert f"about {mc.watching.duration(3600 * hours)} here" in untrained.progress()
    ta = [run for run in study.runs if run.variant.name == "self_ta"]
    assert (
        study.seconds_left(ta) == 7200.0 * len(ta) / min(8, len(ta)) and study.seconds_left(ta[:3], workers=1) == 21600
    )
    assert study.select("self_ta").seconds_left() == 0 and whole.select("cross_ta").seconds_left(ta) > 0
    none = part_of(whole, tmp_path / "none", lambda r: False)
    assert none.seconds_left() is None and "known when the first one is done" in none.progress()


def test_durations_read_as_one_says_them():
    told = [mc.watching.duration(seconds) for seconds in (0.2, 40, 89, 90, 720, 7199, 7200, 12600)]
    assert told[:4] == ["1 second", "40 seconds", "89 seconds", "2 minutes"]
    assert told[4:] == ["12 minutes", "120 minutes", "2.0 hours", "3.5 hours"]


def test_a_kind_of_attention_that_is_none_is_refused(whole):
    with pytest.raises(mc.MmerError, match="slef"):
        whole.run(attention=("slef",), progress=False)
