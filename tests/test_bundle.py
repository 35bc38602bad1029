"""The bundle: tables that a journal prints, words that claim no more than the study, and files that know their runs."""

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import mmer_core as mc
from mmer_core import bundle, figures, metrics, stats, tables, typeset
from mmer_core.__main__ import main
from mmer_core.bundle import article, items
from mmer_core.metrics import scores_from
from mmer_core.protocol import Protocol
from mmer_core.tables import Table

VARIANTS = ["self_ta", "cross_ta", "self_tva", "cross_tva", "uniform_ta", "self_ta_corrected"]
SETTINGS = dict(seeds=(1, 2), folds=(1, 2, 3), margin=0.02, protocol=Protocol(max_epochs=1))
HOSTILE = "\\input{secret} 50% $x^2$ a_b & #1 ~ {[*]} a|b <c> -- `` '' é ß 中文 \t\n\x07 \\\\ end"
TEX = pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no pdflatex on this machine")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> mc.Study:
    corpus = mc.make_demo_corpus(tmp_path_factory.mktemp("corpora") / "small", utterances=100)
    study = mc.Study(corpus, VARIANTS, ledger=tmp_path_factory.mktemp("ledger") / "runs", **SETTINGS)
    return study.run(progress=False, device="cpu")


@pytest.fixture(scope="module")
def quick():
    """Simulations of a few studies: how long they are is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "twins", lambda twins=stats.twins: twins(20))
        patch.setattr(stats, "across_calibration", lambda studies, f=stats.across_calibration: f(50))
        patch.setattr(stats, "calibration_table", lambda c, f=stats.calibration_table: f(c, studies=30))
        patch.setitem(matplotlib.rcParams, "svg.hashsalt", "mmer")  # until figures have one of their own
        yield


@pytest.fixture(scope="module")
def folder(study, quick, tmp_path_factory):
    place = tmp_path_factory.mktemp("bundle")
    mc.export(study, place)
    return place


@pytest.fixture
def unsaved(monkeypatch, quick):
    """Most of the time goes into drawing: an empty file has the same name."""

    def touch(fig, name, folder=None):
        assert isinstance(fig, Figure)
        file = figures.output_folder(folder) / f"{name}.png"
        file.touch()
        return [file]

    monkeypatch.setattr(figures, "save_figure", touch)


def part_of(study, place, keep=lambda run: True, **changes) -> mc.Study:
    """The same study with a ledger of its own, which holds the runs that `keep` keeps."""
    for run in study.runs:
        if keep(run):
            shutil.copytree(study.ledger.folder / run.folder, place / run.folder)
    place.mkdir(exist_ok=True)
    for noted in study.ledger.folder.glob("declared-*.json"):
        shutil.copy(noted, place)
    return mc.Study(study.corpus, **{"variants": VARIANTS, "ledger": place, **SETTINGS, **changes})


def set_in_tex(folder, body: str, name="test") -> str:
    """The log of pdflatex, twice, for an article as wide as the bundle's; fails where TeX does."""
    (folder / f"{name}.tex").write_text(article.HEAD + "\\begin{document}\n" + body + "\n\\end{document}\n")
    return pdflatex(folder, name)


def pdflatex(folder, name: str) -> str:
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def overfull(log: str) -> list[str]:
    return [
        line for line in log.splitlines() if (found := re.match(r"Overfull.*\((.*)pt", line)) and float(found[1]) > 1
    ]


# ------------------------------------------------------------------------------------------------------------- tables


@TEX
def test_no_text_reaches_tex_as_a_command(tmp_path):
    """In cells, headings, captions, labels and the words of the article; and all of it is set."""
    (tmp_path / "secret.tex").write_text("LEAKED")
    frame = pd.DataFrame({HOSTILE: [HOSTILE, "*", "[x]"], 3: [1.5, -2.0, float("nan")]})
    tex = tables.save_table(frame, "a_{b}%", HOSTILE, tmp_path)[0]
    words = article.in_tex(f"{HOSTILE} [@holm1979] [@nobody]")
    assert (
        tex.read_bytes().isascii() and words.isascii() and words.count("\\cite{holm1979}") == words.count("\\cite") == 1
    )
    set_in_tex(tmp_path, tex.read_text() + words)
    text = subprocess.run(["pdftotext", "test.pdf", "-"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert "LEAKED" not in text and text.count("\\input{secret}") >= 3 and "U+4E2D" in text


def test_every_character_that_tex_knows_is_escaped():
    for c in map(chr, range(33, 127)):
        if not c.isalnum() and c not in "!()+,-./:;=?@'":
            assert typeset.tex(c) != c, c
    assert typeset.tex("a\n\nb") == "a b" and typeset.tex("−1") == "$-$1"


def test_markdown_keeps_its_columns(tmp_path):
    text = tables.save_table(pd.DataFrame({HOSTILE: [HOSTILE], 0: [1]}), "t", HOSTILE, tmp_path)[1].read_text()
    rows = text.split("\n\n")[0].split("\n")
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)
    assert "<c>" not in Table(pd.DataFrame({"a": [HOSTILE]}), HOSTILE)._repr_html_()


def test_numbers_are_printed_as_people_read_them():
    frame = pd.DataFrame(
        {"points": [-1.25, -1e-15, float("nan")], "p": [0.0001, 0.5, 1], "parameters": [1234567, 1, 2]}
    )
    frame[["95% low", "95% high"]] = [[-2.0, 0.3], [-1, 1], [float("nan")] * 2]
    shown = tables.shown(frame.assign(balanced_accuracy=[1234.5, 2, 3]))
    assert shown["points"].tolist() == ["−1.2", "0.0", "–"] and shown["p"].tolist() == ["<0.001", "0.500", "1.000"]
    assert shown["parameters"][0] == "1,234,567" and shown["balanced accuracy"][0] == "1,234.5"
    assert shown["95% interval"].tolist() == ["−2.0 to 0.3", "−1.0 to 1.0", "–"]


def test_names_are_readable_and_tell_all_variants_apart():
    names = [*mc.PAPER_VARIANTS, *(f"{n}_corrected" for n in mc.PAPER_VARIANTS), "uniform_t", "self_ta_mask_temporal"]
    names += ["cross_tva_3x4", "self_ta_standardised"]
    readable = {typeset.readable(mc.Variant.from_name(name).name) for name in names}
    assert len(readable) == len(names) and not any("_" in name for name in readable)
    assert {"Self T+V", "Cross T+V+A", "Both T+V+A", "Uniform T", "Self T+V+A (no SP)"} <= readable
    assert (
        typeset.readable("cross_ta - self_ta: -1.5; balanced_accuracy")
        == "Cross T+A − Self T+A: −1.5; balanced accuracy"
    )
    assert typeset.readable("confusion_self_ta 2026-11") == "confusion_self_ta 2026-11"


def of_scores(**means: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        dict(variant=name, fold=f, seed=s, accuracy=mean + rng.normal(0, 0.002), n_train=80, n_test=20)
        for name, mean in means.items()
        for f in range(5)
        for s in range(3)
    ]
    return pd.DataFrame(rows)


def test_bold_is_what_none_is_shown_better_than():
    """Two that the runs cannot tell apart are both bold, or neither; where nothing can be told, nothing is."""
    assert set(tables.not_shown_worse(of_scores(a=0.6, b=0.6005, c=0.4), ["accuracy"], 0.02)) == {
        (0, "accuracy"),
        (1, "accuracy"),
    }
    same = of_scores(a=0.6, b=0.6, c=0.6)
    assert not tables.not_shown_worse(same, ["accuracy"], 0.02)
    assert not tables.not_shown_worse(of_scores(a=0.6, c=0.4), ["accuracy"], None)
    assert not tables.not_shown_worse(of_scores(a=0.6, c=0.4).query("fold < 2"), ["accuracy"], 0.02)
    printed = tables.as_markdown(
        pd.DataFrame({"variant": ["a", "b"], "accuracy": ["1.0", "2.0"]}), "", [(1, "accuracy")]
    )
    assert "| b | **2.0** |" in printed and "| a | 1.0 |" in printed


def test_the_printed_results_are_those_of_the_long_form(study):
    table = tables.results_table(study)
    printed = tables.results_printed(table, tables.SCORES)
    for i, row in table.iterrows():
        parts = [float(x) for x in re.findall(r"[\d.]+", printed.loc[i, "accuracy"])]
        assert parts == pytest.approx(
            [row["accuracy"], row["accuracy: SD folds"], row["accuracy: SD seeds"]], abs=0.051
        )


@TEX
def test_tables_fit_and_are_as_wide_as_they_are(folder, tmp_path):
    """One column (252 pt) or two (516 pt), by the width that TeX itself finds."""
    for file in folder.glob("*.csv"):
        text = file.with_suffix(".tex").read_text()
        for n, part in enumerate(re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.S)):
            box = rf"\footnotesize\setlength{{\tabcolsep}}{{4pt}}\sbox0{{{part}}}\typeout{{WIDTH=\the\wd0}}"
            width = float(re.search(r"WIDTH=([\d.]+)pt", set_in_tex(tmp_path, box))[1])
            starred = "\\begin{table*}" in text
            assert width <= (516 if starred else 252), (file.stem, n, width)
            assert not starred or width > 200, (file.stem, n, width)
    assert "table*" in (folder / "results.tex").read_text()


# ------------------------------------------------------------------------------------------------------ what is written


def test_the_bundle_is_whole(study, folder):
    kinds = {f.suffix for f in folder.iterdir()}
    assert {".pdf", ".svg", ".png", ".tex", ".md", ".csv", ".txt", ".bib", ".json"} <= kinds
    tex = (folder / "results.tex").read_text()
    assert r"\toprule" in tex and "Self T+V+A" in tex and "synthetic" in tex
    saved = pd.read_csv(folder / "results.csv").fillna({"against self": ""})
    pd.testing.assert_frame_equal(saved, tables.results_table(study), check_dtype=False)
    for file in folder.glob("*.md"):
        assert not re.search(r"\bnan\b|\bNone\b|\{'", file.read_text()), file.name


def test_no_picture_is_there_twice(folder):
    pictures = [hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("*.png")]
    assert len(set(pictures)) == len(pictures)


def test_the_same_runs_give_the_same_files(study, folder, quick, tmp_path):
    """Whatever the folder; without a date or a path of this machine in them."""
    files = mc.export(study, tmp_path / "other")
    for file in files:
        assert file.read_bytes() == (folder / file.name).read_bytes(), file.name
        if file.suffix in (".tex", ".md", ".csv", ".txt", ".bib", ".json"):
            text = file.read_text()
            assert not re.search(r"/tmp|/work|/home|/root", text), file.name
            assert not re.search(r"\d\d:\d\d:\d\d", text), file.name


@TEX
def test_the_article_holds_everything_and_compiles(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "copy")
    log = pdflatex(place, "article")
    assert not overfull(log) and "undefined" not in log
    assert re.search(r"newlabel\{appendix\}\{\{\w*\}\{3\}", (place / "article.aux").read_text()), "not two pages"
    text = (place / "article.tex").read_text()
    for file in folder.glob("*.pdf"):
        assert f"{{{file.name}}}" in text, file.name
    for file in folder.glob("*.csv"):
        assert rf"\input{{{file.stem}.tex}}" in text, file.name
    fonts = subprocess.run(["pdffonts", "article.pdf"], cwd=place, capture_output=True, text=True).stdout
    assert "Type 3" not in fonts
    cited = set(re.findall(r"\\cite\{(\w+)\}", (place / "methods.tex").read_text()))
    assert (
        cited == set(re.findall(r"@\w+\{(\w+),", (place / "references.bib").read_text())) >= {"rajan2022", "holm1979"}
    )


def test_methods_say_what_was_declared_and_what_differs(study, tmp_path):
    said = article.plain(article.methods(study))
    assert "100 utterances" in said and "synthetic" in said and "made by a program" in said
    assert "36 runs" in said and "max epochs is 1, not unlimited" in said and "both were declared before" in said
    moved = mc.Study(study.corpus, VARIANTS, ledger=study.ledger.folder, **{**SETTINGS, "margin": 0.03})
    assert "exploratory: the margin was 0.02" in article.methods(moved)
    few = part_of(study, tmp_path / "few", lambda run: run.seed == 1, folds=(1, 2), margin=0.02)
    assert "one split only" in article.methods(few) and "12 of them are missing" in article.methods(few)
    assert "12 of 24 runs are missing" in article.findings(few, "no verdict")
    none = mc.Study(study.corpus, VARIANTS, ledger=study.ledger.folder, **{**SETTINGS, "margin": None})
    assert "no margin was declared" in article.methods(none)
    licensed = mc.Study(
        replace(study.corpus, name="IEMOCAP", synthetic=False), VARIANTS, ledger=tmp_path / "x", **SETTINGS
    )
    assert "[@busso2008]" in article.methods(licensed) and "made by a program" not in article.methods(licensed)


def test_findings_are_the_verdicts(study, folder):
    said = (folder / "findings.txt").read_text()
    for c in study.comparisons():
        low, high = c.interval95
        interval = f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−")
        assert c.verdict in said.lower() and interval in said and typeset.readable(c.second) in said
    report = (folder / "report.txt").read_text()
    assert report.index("margin of 2 points") < report.find("Left out:") or "Left out" not in report


# ------------------------------------------------------------------------------------------------- unfinished and stale


def test_without_weights_the_rest_is_written(study, unsaved, tmp_path):
    bare = part_of(study, tmp_path / "runs")
    for file in bare.ledger.folder.rglob("weights.safetensors"):
        file.unlink()
    names = {file.stem for file in mc.export(bare, tmp_path / "out")}
    assert {
        "scores",
        "results",
        "confusion_self_tva",
        "forest",
        "article",
    } <= names and "attention_self_tva" not in names
    report = (tmp_path / "out" / "report.txt").read_text()
    assert re.search(r"Left out:\n(.*\n)*attention_self_tva: .*weights", report) and str(tmp_path) not in report


@pytest.mark.parametrize("change", [dict(margin=None), dict(folds=[1, 2])])
def test_without_verdicts_there_is_all_the_rest(study, tmp_path, unsaved, change):
    few = mc.Study(study.corpus, VARIANTS, ledger=study.ledger.folder, **{**SETTINGS, **change})
    names = {file.stem for file in mc.export(few, tmp_path)}
    assert {"scores", "results", "confusion_self_tva", "attention_cross_tva", "learning_curves", "report"} <= names
    assert not names & {"calibration", "paired_self_tva_cross_tva", "pair_matrix"}
    assert {"forest", "comparisons"} & names == ({"forest", "comparisons"} if few.margin else set())
    report = (tmp_path / "report.txt").read_text()
    assert ("this split" if few.margin else "No verdict: a verdict needs a margin") in report
    assert "pair_matrix: " in report.split("Left out:")[1]


def test_without_declared_comparisons_that_is_said(study, tmp_path, unsaved):
    none = mc.Study(study.corpus, VARIANTS, comparisons=[], ledger=study.ledger.folder, **SETTINGS)
    mc.export(none, tmp_path)
    assert "no declared comparison has been trained" in (tmp_path / "report.txt").read_text()
    assert "has been trained" in (tmp_path / "comparisons.tex").read_text()
    assert (tmp_path / "calibration.png").is_file(), "the main comparison is then an exploratory one"


def test_nothing_to_export_and_no_place_for_it_are_said(study, tmp_path):
    with pytest.raises(mc.MmerError, match="train something first"):
        mc.export(study.with_variants(["self_v"]), tmp_path)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(mc.MmerError, match=r"/file(/below)?: expected a folder that can be made"):
            mc.export(study, place)


def with_other_scores(study, variants) -> mc.Study:
    for file in (file for variant in variants for file in (study.ledger.folder / variant).rglob("run.json")):
        summary = json.loads(file.read_text())
        confusion = np.roll(summary["confusion"], 1, axis=1)  # what the network said, one class further
        changed = summary | {"confusion": confusion.tolist(), "scores": scores_from(confusion)}
        file.write_text(json.dumps({k: v for k, v in changed.items() if k not in ("files", "digest")}))  # as an old one
    return study


def test_items_depend_on_the_runs_that_the_manifest_names_and_on_no_other(study, quick, tmp_path):
    """The scores of all other runs are changed: every table and text stays what it was."""
    about = items.subjects(study)
    made = {name: make for name, make in items.contents(study).items() if name not in ("twins", "across_calibration")}
    checked, known = 0, {}
    for name, make in made.items():
        others = tuple(variant for variant in VARIANTS if variant not in about[name])
        if name.startswith(("attention", "corpus", "confusion")) or not others:
            continue
        with contextlib.suppress(mc.MmerError):
            before = make()
            if isinstance(before, Figure):
                continue
            if others not in known:
                known[others] = with_other_scores(part_of(study, tmp_path / name), others)
            assert str(items.contents(known[others])[name]()) == str(before), name
            checked += 1
    assert checked > 8


def test_cells_and_sentences_depend_on_the_runs_that_the_manifest_ties_them_to(study, folder, tmp_path):
    """The scores of one variant are changed: the cells and sentences that do not name it stay what they were."""
    told = json.loads((folder / "manifest.json").read_text())["items"]
    other = with_other_scores(part_of(study, tmp_path / "runs"), ["self_ta"])
    changed = 0
    for name in ("results", "comparisons", "additions"):
        before, after = (items.contents(s)[name]().frame.map(str) for s in (study, other))
        entry = told[name]
        for row, names in enumerate(entry["rows"]):
            for column in before:
                behind = entry["cells"].get(column, entry["rows"])
                if behind != "all rows" and "self_ta" not in (behind[row] if isinstance(behind, list) else ()):
                    assert after[column][row] == before[column][row], (name, column, row)
            changed += "self_ta" in names and not after.loc[row].equals(before.loc[row])
    assert changed >= 3
    assert told["results"]["cells"]["published accuracy"] == metrics.SOURCE
    said = told["findings"]["sentences"]
    assert all(names == ["cross_ta", "self_ta"] for text, names in said.items() if "Cross T+A" in text)
    assert " ".join(said) == (folder / "findings.txt").read_text().strip()


def test_what_new_runs_have_outdated_is_named(study, unsaved, tmp_path):
    early = part_of(study, tmp_path / "runs", lambda run: run.variant.name != "uniform_ta" and run.seed == 1)
    out = tmp_path / "out"
    mc.export(early, out)
    assert mc.stale(out, early) == {}
    for run in early.runs:
        if run.variant.name == "uniform_ta":
            shutil.copytree(study.ledger.folder / run.folder, early.ledger.folder / run.folder)
    found = mc.stale(out, early)
    assert {"scores", "results", "all_pairs", "controls", "scores_self", "methods"} <= set(found)
    assert not {"corpus_classes", "forest", "comparisons", "confusion_self_tva", "results_cross", "twins"} & set(found)
    assert "left out" in found["controls"] and "uniform_ta" in found["results"]
    (out / "forest.png").unlink()
    (out / "comparisons.csv").write_text("by hand")
    found = mc.stale(out, early)
    assert found["forest"] == "forest.png is missing" and found["comparisons"] == "comparisons.csv was changed since"
    mc.export(early, out)
    assert mc.stale(out, early) == {}
    other = mc.Study(study.corpus, VARIANTS, ledger=early.ledger.folder, **{**SETTINGS, "margin": 0.05})
    assert "margin" in mc.stale(out, other)["forest"] and "corpus_classes" not in mc.stale(out, other)
    with pytest.raises(mc.MmerError, match="of another one"):
        mc.stale(out, mc.Study(replace(study.corpus, fingerprint="other"), VARIANTS, ledger=tmp_path / "n", **SETTINGS))


def test_what_is_made_no_longer_is_named(study, unsaved, tmp_path, capsys):
    mc.export(study, tmp_path)
    mc.export(study.with_variants(["self_ta", "cross_ta"]), tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "made no longer" in said
        and "confusion_self_tva.png" in said
        and (tmp_path / "confusion_self_tva.png").is_file()
    )


def test_the_command_checks(study, unsaved, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mc, "open_study", lambda path=None: study, raising=False)
    out = str(tmp_path / "out")
    assert main(["export", "--check", "--to", out]) == 2
    assert "manifest.json: expected the manifest of an export" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["export", "--to", out]) == 0 and main(["export", "--check", "--to", out]) == 0
    (tmp_path / "out" / "results.md").unlink()
    assert main(["export", "--check", "--to", out]) == 1
    assert "results: results.md is missing\n1 outdated" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ notebooks


def test_what_is_shown_is_what_the_bundle_writes(study, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    for name in ("corpus_classes", "results", "comparisons", "report"):
        bundle.show(study, name)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    assert " ".join(said.split()) in " ".join((folder / "report.txt").read_text().split())
    shown = list((tmp_path / "figures").iterdir())
    assert len(shown) == 9
    for file in shown:
        assert file.read_bytes() == (folder / file.name).read_bytes(), file.name
    with pytest.raises(mc.MmerError, match="no 'forrest' to show; it has corpus_classes"):
        bundle.show(study, "forrest")


def test_before_any_run_the_corpus_can_be_shown(study):
    found = bundle.contents(study.with_variants(["self_v"]))
    assert found and all(name.startswith("corpus_") for name in found)


def test_tables_are_as_wide_as_a_notebook(study, folder, quick):
    """In a browser, with the font and the padding of JupyterLab, and no cell of numbers broken."""
    import lab

    if why := lab.lacking():
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    look = (
        "body {margin: 0; width: 848px; font: 12px sans-serif} td, th {padding: 6px} table {border-collapse: collapse}"
    )
    made = items.contents(study)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=lab.CHROMIUM, args=lab.FLAGS)
        page = browser.new_page()
        names = [file.stem for file in folder.glob("*.csv")]
        page.set_content(f"<style>{look}</style>" + "".join(made[name]()._repr_html_() for name in names))
        widths = page.evaluate(
            "() => [...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().width)"
        )
        browser.close()
    assert len(widths) == len(names) > 10 and max(widths) <= 848


# ----------------------------------------------------------------------------------------------------- tables' numbers


def test_the_table_separates_folds_from_seeds(study):
    table = tables.results_table(study).set_index("variant")
    mine = study.results().query("variant == 'self_tva'").pivot(index="fold", columns="seed", values="accuracy") * 100
    assert table.loc["self_tva", "accuracy"] == pytest.approx(mine.to_numpy().mean())
    assert table.loc["self_tva", "accuracy: SD folds"] == pytest.approx(mine.mean(axis=1).std())
    assert table.loc["self_tva", "accuracy: SD seeds"] == pytest.approx(np.sqrt(mine.var(axis=1).mean()))
    assert table.loc["self_tva", "published accuracy"] == pytest.approx(64.2)
    assert np.isnan(table.loc["self_ta_corrected", "published accuracy"])


def test_verdicts_in_the_table_are_those_of_compare(study):
    table = tables.shown(stats.verdict_table(study.comparisons())).set_index("comparison")
    found = mc.compare(study.results(), "self_tva", "cross_tva", rope=0.02)
    row = table.loc["Cross T+V+A − Self T+V+A"].str.replace("−", "-")
    assert row["verdict"] == found.verdict
    printed = [float(row["points"]), *map(float, row["95% interval"].split(" to "))]
    assert printed == pytest.approx([100 * x for x in (found.difference, *found.interval95)], abs=0.051)


def test_only_verdicts_on_self_and_cross_stand_in_the_table(study):
    pairs = [("self_ta_corrected", "cross_tva"), ("cross_tva", "self_tva"), ("self_ta_corrected", "self_tva")]
    asked = mc.Study(study.corpus, VARIANTS, comparisons=pairs, ledger=study.ledger.folder, **SETTINGS)
    told = tables.results_table(asked).set_index("variant")["against self"].to_dict()
    assert told.pop("cross_tva") == mc.compare(study.results(), "self_tva", "cross_tva", rope=0.02).verdict
    assert set(told.values()) == {""}
