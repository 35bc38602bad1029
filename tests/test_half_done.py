"""Studies with some of their runs: notebooks 04 to 06 show what there is, say what is missing, and never train."""

import ast
import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CHECKOUT
from loky import get_reusable_executor

import mmer_core as mc
from mmer_core import bundle, figures, stats
from mmer_core.protocol import Protocol

VARIANTS = ["self_t", "self_ta", "cross_ta", "uniform_ta", "self_tv", "cross_tv"]
SETTINGS = dict(seeds=(1, 2), folds=(1, 2, 3), margin=0.02, protocol=Protocol(max_epochs=1))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> mc.Corpus:
    return mc.make_demo_corpus(tmp_path_factory.mktemp("corpora") / "small", utterances=100)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> mc.Study:
    return mc.Study(small, VARIANTS, ledger=tmp_path_factory.mktemp("whole"), **SETTINGS).run(progress=False)


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
    return out.getvalue()


def touch(fig, name, folder=None):
    """Most of the time goes into writing figures, which other tests look at: an empty file has the same name."""
    file = figures.output_folder(folder) / f"{name}.png"
    file.touch()
    return [file]


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
    "whole": (lambda r: True, {}),
}


OFTEN = ("no run", "one run", "one fold so far", "a variant lacks folds", "two splits")  # the others take minutes


@pytest.mark.parametrize("state", [s if s in OFTEN else pytest.param(s, marks=pytest.mark.slow) for s in STATES])
def test_notebooks_show_what_there_is_and_train_nothing(state, whole, tmp_path, monkeypatch):
    keep, changes = STATES[state]
    study = part_of(whole, tmp_path / "ledger", keep, **changes)
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    monkeypatch.setattr(mc.Study, "run", lambda *_, **__: pytest.fail("a training was started"))
    monkeypatch.setattr(stats, "twins", lambda twins=stats.twins: twins(20))
    monkeypatch.setattr(stats, "across_calibration", lambda studies, f=stats.across_calibration: f(50))
    monkeypatch.setattr(stats, "calibration_table", lambda c, f=stats.calibration_table: f(c, studies=30))
    monkeypatch.setattr(figures, "save_figure", touch)
    before = sorted(path for path in study.ledger.folder.rglob("*"))
    notebooks = ("04_attention_maps", "05_statistical_comparison", "06_paper_bundle")
    told = {name: execute(name, study, monkeypatch) for name in notebooks}
    assert sorted(path for path in study.ledger.folder.rglob("*")) == before
    for text in told.values():
        assert study.progress() in text and "Traceback" not in text and "nan" not in text.lower().split()
    compared = told["05_statistical_comparison"]
    assert "Not yet" in compared or state in ("whole", "a variant lacks folds")
    written = {file.stem for file in (tmp_path / "figures").glob("*")}
    if state in ("a split", "two splits"):
        assert "this split" in compared and {"forest", "report", "comparisons"} <= written
        rows = len(stats.verdict_table(study.judged()))
        assert rows == 2 * len(study.folds)
    elif state in ("one seed so far", "whole", "a variant lacks folds"):
        assert {"forest", "report", "comparisons"} <= written
    else:
        assert "forest" not in written
    if not study.results().empty:
        assert {"scores", "results", "learning_curves"} <= written


def test_what_is_missing_is_marked_and_said(whole, tmp_path):
    keep, _ = STATES["a variant lacks folds"]
    study = part_of(whole, tmp_path / "ledger", keep)
    assert study.marked("cross_ta") == "cross_ta (2 of 6 runs)" and study.marked("self_ta") == "self_ta"
    text = study.progress()
    assert (
        "32 of 36 runs" in text and "cross_ta (2 of 6 runs)" in text and "minutes" in text and "mmer_core run" in text
    )
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
    get_reusable_executor().shutdown()  # workers that were idle for long leave, and may do so just now with a warning
    study = mc.Study(small, variants, ledger=tmp_path / "ledger", **{**SETTINGS, "seeds": (1,), "folds": (1,)})
    for name in ("02_self_attention", "03_cross_attention"):
        execute(name, study, monkeypatch)
    assert not study.missing() and study.progress() == "All 1 runs of this study are trained."
