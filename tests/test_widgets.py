"""The panels without a browser: what they offer, and that they tell what the ledger holds and nothing else."""

import base64
import dataclasses
import json
import random
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import IPython.display
import ipywidgets as W
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from panels import FOLDS, TRAINED, Panel, choices, content, in_colours, make_study, walk

import mmer_core as mc
from mmer_core import bundle, figures, widgets
from mmer_core.explain import block_name, explain
from mmer_core.metrics import METRICS
from mmer_core.stats import side_by_side
from mmer_core.typeset import variants_named as named
from mmer_core.widgets import attention, comparison, corpus, kit, results
from mmer_core.widgets.networks import Asked, Networks

NAMES = {"t": "text", "v": "video", "a": "audio"}


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> mc.Study:
    return make_study(tmp_path_factory.mktemp("widgets"))


@pytest.fixture(autouse=True)
def forgotten(study):
    """What was chosen last does not carry from test to test."""
    (study.ledger.folder / ".panels.json").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(kit, "png", content)


@pytest.fixture
def untrained(study, tmp_path) -> mc.Study:
    """The same study with a ledger that is empty and may be written to."""
    return mc.Study(study.corpus, TRAINED, [1], FOLDS, study.protocol, tmp_path / "runs", margin=0.02)


@pytest.fixture
def quick_run(monkeypatch):
    """Training on the spot happens in this process: starting others takes longer than the runs."""
    run = mc.Study.run

    def quick(study, progress=True, stop=None, retry=False):
        with ThreadPoolExecutor(1) as here:
            return run(study, here, progress, stop=stop, retry=retry)

    monkeypatch.setattr(mc.Study, "run", quick)


@pytest.fixture
def aside(monkeypatch):
    """Work is done in threads, as it is in a kernel."""
    monkeypatch.setattr(kit, "start", lambda work: threading.Thread(target=work, daemon=True).start())


def until(true, patience=60.0) -> None:
    last = time.monotonic() + patience
    while not true():
        assert time.monotonic() < last, "it does not come"
        time.sleep(0.01)


# ---------------------------------------------------------------------------------------------- results by modality


def tells(panel: Panel, study: mc.Study, variant: str, beside: str = "") -> None:
    """The panel shows the numbers and pictures of these variants in the ledger, and how they compare."""
    both = [variant, *([beside] if beside else [])]
    results, classes, metric = study.results(), study.corpus.classes, panel["metric"].value
    mine = {name: results[results["variant"] == name] for name in both}
    assert panel.message.startswith(f"{named(variant)}: {len(mine[variant])} of 3 runs")
    if beside:
        assert named(study.comparison(beside, variant, metric).sentence()) in panel.message
    assert panel.cells("Means of the runs") == [
        [cell for cell in row] for row in _scores(mine, panel.cells("Means of the runs"))
    ]
    headings = [h.get_text() for h in panel.page.select("h4")]
    assert headings[-2 * len(both) :: 2] == [named(study.marked(name)) for name in both]
    for matrix, name in zip(panel.page.select(".mmer-matrix"), both, strict=True):
        counts, cells = study.confusion(name), matrix.select("td[title]")
        shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        assert [cell.get_text() for cell in cells] == [f"{share:.0f}" for share in shares.ravel()]
        told = f"true {classes[1]}, predicted {classes[0]}: {counts[1, 0]} of {counts[1].sum()} predictions in 3 runs"
        assert cells[len(classes)]["title"] == told


def _scores(mine, shown) -> list[list[str]]:
    """Rows as they should be; names and published numbers are looked at elsewhere."""
    means = [[f"{100 * runs[metric].mean():.1f}" for runs in mine.values()] for metric in METRICS]
    return [[row[0], *mean, row[-1]] for row, mean in zip(shown, means, strict=True)]


def test_results_are_those_of_the_ledger(study):
    panel = Panel(widgets.results_panel(study, ["self", "uniform"]))
    tells(panel, study, "self_tva", "cross_tva")
    panel["modalities"].value = False
    tells(panel, study, "self_va", "self_tva")
    panel["metric"].value = "balanced_accuracy"
    tells(panel, study, "self_va", "self_tva")
    panel["modalities"].value = True
    panel["attention"].value = "uniform"
    tells(panel, study, "uniform_tva", "self_tva")
    panel["beside"].value = "self_t"
    tells(panel, study, "uniform_tva", "self_t")
    assert panel.train.layout.display == "none"


def test_the_ladder_and_what_leaving_out_costs(study):
    panel, scores = Panel(widgets.results_panel(study)), study.results().groupby("variant")
    means = 100 * scores["accuracy"].mean()
    ladder = {row[0]: row[-1] for row in panel.cells("Sets of modalities")}
    sets = ["text", "video", "audio", "text + video", "text + audio", "video + audio", "text + video + audio"]
    assert list(ladder) == sets and panel.page.select_one("tr.mmer-chosen td").get_text() == sets[-1]
    for name, modalities in (("self_t", sets[0]), ("self_va", sets[-2]), ("self_tva", sets[-1])):
        assert ladder[modalities] == f"{means[name]:.1f}"
    assert ladder["video"] == "–" and "not trained" in panel.text
    dots = panel.page.select_one("tr.mmer-chosen").select("i")
    runs = study.results().query("variant == 'self_tva'")
    told = [f"fold {r.fold}, seed 1: {100 * r.accuracy:.1f}% of {r.n_test} utterances" for r in runs.itertuples()]
    assert [dot["title"] for dot in dots] == told

    costs, found = panel.cells("What leaving out costs"), study.comparison("self_tva", "self_va")
    assert [row[0] for row in costs] == ["without text", "without video", "without audio"]
    assert costs[0][2].replace("−", "-") == f"{100 * found.difference:+.1f}" and found.verdict in costs[0][3]
    assert costs[1][1] == costs[2][1] == "no verdict yet"
    band, line = (panel.page.select_one(f".mmer-strip {mark}") for mark in "su")
    assert "±2 points" in band["title"] and "95% interval" in line.parent["title"]


def test_published_numbers_stand_beside(study):
    cells = Panel(widgets.results_panel(study)).cells("Means of the runs")
    assert [row[-1] for row in cells] == ["64.2", "58.7", *4 * ["–"]]
    assert cells[0][0] == "accuracy (UWA)" and cells[1][0] == "balanced accuracy (WA)"


@pytest.mark.parametrize("attentions", [["self", "uniform"], ["cross", "both"], ["self", "cross", "uniform", "both"]])
def test_nothing_without_a_meaning_can_be_chosen(untrained, attentions):
    panel, rng, seen = Panel(widgets.results_panel(untrained, attentions)), np.random.default_rng(0), set()
    toggles = {m: panel[name] for m, name in NAMES.items()}
    for _ in range(300):
        control = rng.choice(["text", "video", "audio", "attention", "pooling", "preset"])
        if not panel[control].disabled:
            options = getattr(panel[control], "options", None)
            panel[control].value = str(rng.choice(options)) if options else not panel[control].value
        modalities = "".join(m for m, toggle in toggles.items() if toggle.value)
        pooling = None if len(modalities) == 1 else panel["pooling"].value
        variant = mc.Variant(modalities, panel["attention"].value, pooling, preset=panel["preset"].value)
        assert panel.message.startswith(f"{named(variant.name)} has not been trained")
        assert panel.train.description == f"Train {named(variant.name)} (3 of 3 runs missing)"
        seen.add((variant.attention, variant.modalities))
    single = sum(a in ("self", "uniform") for a in attentions)
    assert len(seen) == 4 * len(attentions) + 3 * single, "not everything that has a meaning can be reached"


def test_what_is_impossible_is_switched_off_and_says_why(untrained):
    panel = Panel(widgets.results_panel(untrained, ["self", "cross", "uniform"]))
    panel["video"].value = panel["audio"].value = False
    assert (panel["text"].disabled, panel["video"].disabled, panel["pooling"].disabled) == (True, False, True)
    assert panel["text"].tooltip == "one modality must stay" and "nothing to pool" in panel["pooling"].tooltip
    assert panel["attention"].options == ("self", "uniform")
    panel["attention"].value = "uniform"
    panel["video"].value = True
    assert panel["attention"].options == ("self", "cross", "uniform") and panel["attention"].value == "uniform"
    assert not panel["text"].disabled and not panel["pooling"].disabled
    panel["attention"].value = "cross"
    assert panel["text"].disabled and panel["text"].tooltip == "cross attention needs two modalities"


def test_the_subset_that_was_chosen_carries_over(study):
    panel = Panel(widgets.results_panel(study, ["self", "uniform"]))
    panel["text"].value = False
    assert Panel(widgets.results_panel(study, ["cross"])).message.startswith("Cross V+A has not been trained")
    assert Panel(widgets.attention_panel(study)).message.startswith("The network says")
    panel["video"].value = False  # audio alone: nothing that cross-attention can use
    assert Panel(widgets.results_panel(study, ["cross"])).message.startswith("Cross T+V+A: 3 of 3 runs")
    for damaged in ("{", "[]", '{"modalities": 3, "preset": []}'):
        (study.ledger.folder / ".panels.json").write_text(damaged)
        assert Panel(widgets.results_panel(study)).message.startswith("Self T+V+A: 3 of 3 runs")


def test_training_on_the_spot(untrained, quick_run):
    panel = Panel(widgets.results_panel(untrained))
    assert panel.shows() and panel.train.layout.display == "" and not panel.saves
    panel.train.click()
    tells(panel, untrained, "self_tva")
    assert len(untrained.missing()) == len(untrained.runs) - 3, "other variants were trained, too"
    assert panel.train.layout.display == "none" and panel["Stop"].layout.display == "none"
    panel["text"].value = False
    assert re.fullmatch(
        r"Train Self V\+A \(3 of 3 runs missing, about \d+ (second|minute)s?\)", panel.train.description
    ), panel.train.description


def test_a_training_is_told_and_can_be_stopped(untrained, aside):
    """In processes of its own, while another panel stays alive."""
    panel, other = (Panel(widgets.results_panel(untrained)) for _ in range(2))
    slow = mc.Protocol(max_epochs=2000, stop_patience=2000, learning_rate=0.005)
    panel.view.act(lambda: None)
    endless = mc.Study(untrained.corpus, TRAINED, [1], FOLDS, slow, untrained.ledger.folder, margin=0.02)
    panel = Panel(widgets.results_panel(endless))
    panel.train.click()
    told = panel.panel.children[1].line
    until(lambda: "Training Self T+V+A: 0 of 3 runs done" in told.value)
    assert panel.train.layout.display == "none" and panel["Stop"].layout.display == ""
    other["text"].value = False
    until(lambda: other.message.startswith("Self V+A has not been trained"))
    other.train.click()
    until(lambda: "another training of this notebook is going on" in other.view.notice.value)
    time.sleep(3)  # the processes have begun
    began = time.monotonic()
    panel["Stop"].click()
    until(lambda: panel["Stop"].layout.display == "none")
    assert time.monotonic() - began < 2
    until(lambda: panel.train.layout.display == "" and panel.train.description.startswith("Train Self T+V+A (3 of 3"))
    assert not list(untrained.ledger.folder.glob("self_*/*"))


def test_runs_that_are_done_stay_when_a_training_is_stopped(untrained, quick_run, monkeypatch):
    quick = mc.Study.run

    def stopped(study, progress, stop, retry):
        two = mc.Study(study.corpus, study.variants, [1], [1, 2], study.protocol, study.ledger.folder)
        quick(two, progress=False, stop=stop)
        panel["Stop"].click()
        assert stop.is_set()

    monkeypatch.setattr(mc.Study, "run", stopped)
    panel = Panel(widgets.results_panel(untrained))
    panel.train.click()
    assert panel.message.startswith("Self T+V+A: 2 of 3 runs")
    assert panel.train.description.startswith("Train Self T+V+A (1 of 3 runs missing")


def test_failed_training_is_told(untrained, monkeypatch):
    def fail(study, progress, stop, retry):
        raise FloatingPointError("loss <not> finite")

    monkeypatch.setattr(mc.Study, "run", fail)
    panel = Panel(widgets.results_panel(untrained))
    panel.train.click()
    assert "FloatingPointError: loss &lt;not&gt; finite" in panel.view.notice.value
    assert panel.train.layout.display == "" and panel["Stop"].layout.display == "none"


def test_runs_that_failed_are_named_and_tried_again_on_request(untrained, quick_run, monkeypatch):
    write = mc.Study._file
    monkeypatch.setattr(
        mc.Study,
        "_file",
        lambda self, run, done: write(self, run, ValueError("a <bad> day") if run.fold == 2 else done),
    )
    panel = Panel(widgets.results_panel(untrained))
    panel.train.click()
    told = panel.panel.children[1].line
    assert panel.train.description == "Try Self T+V+A again (1 of 3 runs failed)" and not panel.train.layout.display
    assert told.value == "1 failed, such as self_tva fold 2 seed 1: ValueError: a &lt;bad&gt; day"
    monkeypatch.setattr(mc.Study, "_file", write)
    Panel(widgets.results_panel(untrained)).train.click()  # as after a restart
    assert not untrained.with_variants(["self_tva"]).missing()
    panel["text"].value = False
    panel["text"].value = True
    assert panel.train.layout.display == "none" and told.value == ""


def test_every_picture_can_be_saved(study, tmp_path, monkeypatch):
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    names = ["learning_curves_self_tva_cross_tva", "confusion_self_tva", "confusion_cross_tva", "ladder_self"]
    for panel, saved in (
        (widgets.results_panel(study), names),
        (widgets.attention_panel(study), [f"attention_self_tva_fold1_seed1_row{_first(study)}_t_mean"]),
        (widgets.comparison_panel(study), ["paired_self_tva_cross_tva_accuracy"]),
    ):
        panel = Panel(panel)
        assert [button.description for button in panel.saves] == [f"Save {name}" for name in saved]
        panel.saves[-1].click()
        files = [f"{saved[-1]}.{kind}" for kind in ("pdf", "svg", "png")]
        assert panel.view.notice.value == f"Written: {tmp_path / 'figures'}/{', '.join(files)}."
        assert all((tmp_path / "figures" / file).stat().st_size > 1000 for file in files)
    Panel(widgets.results_panel(study)).saves[1].click()
    same = figures.save_figure(bundle.confusion(study, "self_tva"), "again", tmp_path)
    assert same[0].read_bytes() == (tmp_path / "figures" / "confusion_self_tva.pdf").read_bytes()
    (tmp_path / "figures").rename(tmp_path / "gone")
    (tmp_path / "figures").write_text("in the way")
    panel.saves[0].click()
    assert "cannot be done" in panel.view.notice.value and not panel.shows()


def _first(study) -> int:
    return int(study.corpus.folds[1].test[0])


def test_a_ledger_of_1500_runs_is_quick(demo, tmp_path, guessed):
    variants = ["self_t", "self_v", "self_a", "self_tv", "self_ta", "self_va", "self_tva", *TRAINED[3:]]
    variants += ["cross_tv", "cross_ta", "cross_va", "both_tva", "self_tva_nosp", "cross_tva_nosp"]
    study = mc.Study(demo, variants, range(20), ledger=tmp_path / "runs", margin=0.02)
    assert len(study.runs) == 1500
    with ThreadPoolExecutor(1) as here:
        study.run(here, progress=False)
    panel, spent = Panel(widgets.results_panel(study)), []
    for name in 4 * ["text", "video"]:
        began = time.process_time()
        panel[name].value = not panel[name].value
        spent.append(time.process_time() - began)
    assert panel.message.startswith("Self T+V+A: 100 of 100 runs")
    assert min(spent) < 0.5, spent  # seconds of this process: 0.33 to 0.37 beside no other work


# -------------------------------------------------------------------------------------------------------------- the kit


def test_what_a_user_can_mend_is_one_sentence_and_a_fault_shows_where_it_is():
    errors = [mc.MmerError("no <such> thing"), ValueError("a <bug>"), KeyError("k")]

    def broken():
        raise errors[number.value]

    for place in ("in the state", "in the numbers", "in the picture"):
        number, view = W.IntText(0), kit.View()
        view.follow(
            [number],
            {
                "in the state": broken,
                "in the numbers": lambda: broken,
                "in the picture": lambda: lambda: kit.Shown("", [kit.Picture("p", broken, "a picture")]),
            }[place],
        )
        assert "<b>This cannot be done.</b> no &lt;such&gt; thing" in view.page.value, place
        for n, told in ((1, "ValueError: a &lt;bug&gt;"), (2, "KeyError: &#x27;k&#x27;")):
            number.value = n
            assert told in view.page.value and "in broken" in view.page.value and "<bug>" not in view.page.value
            assert "cannot be done" not in view.page.value
        number.value = 0
        assert "no &lt;such&gt; thing" in view.page.value, "it goes on after a fault"


def test_controls_that_a_panel_sets_itself_start_nothing():
    control, view, states = W.IntText(1), kit.View(), []

    def react():
        control.value += 1
        states.append(control.value)
        return lambda: kit.Shown(str(control.value))

    view.follow([control], react)
    control.value = 7
    assert states == [2, 8] and ">8<" in view.page.value


@pytest.mark.parametrize("order", range(3))
def test_the_last_of_300_quick_events_wins(aside, order):
    """Whatever thread they come from: and what is shown on the way is always one state whole."""
    chance = random.Random(order)
    a, b, view, pages = W.IntText(0), W.IntText(0), kit.View(), []
    view.page.observe(lambda change: pages.append(change["new"]), "value")

    def react():
        if a.value % 7 == 0:
            b.value = 0  # a control that the panel sets
        state = (a.value, b.value)

        def draw() -> Figure:
            time.sleep(chance.random() / 100)
            fig = Figure()
            fig.text(0, 0, f"state {state}")
            return fig

        def show() -> kit.Shown:
            time.sleep(chance.random() / 200)
            return kit.Shown(f"state {state}", [kit.Picture("p", draw, "a picture")], f"details {state}")

        return show

    view.follow([a, b], react)

    def events(n: int) -> None:
        mine = random.Random(n)
        for _ in range(75):
            mine.choice([a, b]).value = mine.randrange(1, 100)
            time.sleep(mine.random() / 40)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(events, range(4)))
    wanted = f"state {(a.value, b.value)}"
    until(lambda: wanted in view.page.value and "drawing" not in view.page.value)
    time.sleep(0.1)
    assert wanted in view.page.value and "mmer-busy" not in view.page._dom_classes
    for page in pages:
        drawn = "".join(base64.b64decode(p).decode() for p in re.findall('base64,([^"]*)', page))
        told = set(re.findall(r"\(\d+, \d+\)", page + drawn))
        assert len(told) == 1 and ("drawing" in page or drawn), page
    assert len(pages) > 10


def test_while_something_is_computed_the_panel_says_so(aside):
    number, view, may = W.IntText(0), kit.View(), threading.Event()

    def show() -> kit.Shown:
        may.wait(20)
        return kit.Shown("there")

    may.set()
    view.follow([number], lambda: show)
    may.clear()
    number.value = 1
    until(lambda: "mmer-busy" in view.page._dom_classes)
    may.set()
    until(lambda: "mmer-busy" not in view.page._dom_classes)
    assert "there" in view.page.value


def test_a_saved_notebook_keeps_picture_table_and_the_small_states(study, monkeypatch):
    shown: list[dict] = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    for make, told in (
        (widgets.results_panel, ["Self T+V+A: 3 of 3 runs", "Means of all variants", "Self V+A"]),
        (widgets.comparison_panel, ["All 10 pairs", "Cross T+V+A", "interval"]),
        (widgets.attention_panel, ["The network says"]),
    ):
        shown.clear()
        panel = make(study)
        panel._ipython_display_()
        alive, still = shown
        assert "application/vnd.jupyter.widget-view+json" in alive and list(still) == ["text/html", "text/plain"]
        page = BeautifulSoup(still["text/html"], "html.parser")
        assert all(words in page.get_text() for words in told), page.get_text()
        assert page.select("img") and all(i["src"].startswith("data:") and i["alt"] for i in page.select("img"))
        assert not re.search("https?://(?!www.w3.org)|<script", still["text/html"])
        (once,) = [w.value for w in walk(panel) if isinstance(w, W.HTML) and "display: none" in w.value]
        assert re.search(r"\.(mmer-still-\w+) {display: none}", once)[1] in page.div["class"]


def test_what_is_shown_is_a_function_of_the_state(study):
    """Without any widget, and for another panel to use."""
    shown = comparison.comparison_shown(study, "self_tva", "cross_tva", "accuracy")
    assert mc.compare(study.results(), "self_tva", "cross_tva", rope=0.02).verdict in shown.message
    assert len(shown.pictures) == 1 and "<td" in shown.details
    variant = study.variants["self_va"]
    assert "Self V+A" in results.results_shown(study, variant, variant, [variant], "accuracy").message
    asked = Asked((study.variants["self_tva"],), 1, 1, _first(study), "t", -1)
    assert "The network says" in attention.attention_shown(Networks(study), asked).message
    assert "140 utterances" in corpus.corpus_shown(study.corpus).message
    with pytest.raises(mc.MmerError):
        comparison.comparison_shown(study, "self_tva", "self_tva", "accuracy")


# --------------------------------------------------------------------------------------------------- attention maps


def test_attention_panel_offers_finished_runs_only(study):
    settings = (study.folds, study.protocol, study.ledger.folder)
    panel = Panel(widgets.attention_panel(mc.Study(study.corpus, TRAINED, [1, 2], *settings)))
    assert choices(panel["fold"]) == FOLDS and choices(panel["seed"]) == [1]
    for fold in FOLDS:
        panel["fold"].value = fold
        assert choices(panel["utterance"]) == study.corpus.folds[fold].test.tolist()
    panel["preset"].value = "corrected"
    assert "Self T+V+A (corrected) has not been trained" in panel.message and panel["fold"].disabled
    assert panel.shows() and not panel.maps and panel["delete"].disabled and panel["mute text"].disabled
    assert panel.train.description.startswith("Train Self T+V+A (corrected) (6 of 6 runs missing")


def test_attention_maps_are_those_of_the_trained_network(study):
    panel, corpus = Panel(widgets.attention_panel(study)), study.corpus
    for attention_kind, fold, place, block, head in (("self", 1, 0, "t", -1), ("cross", 2, 3, "a_t", 0)):
        panel["attention"].value, panel["fold"].value = attention_kind, fold
        panel["utterance"].value = row = corpus.folds[fold].test[place]
        panel["block"].value, panel["head"].value = block, head
        variant = f"{attention_kind}_tva"
        found = explain(study.model(variant, fold, 1), corpus, row, fold)
        assert f"says {found.predicted} with" in panel.message and f"label is {found.label}:" in panel.message
        title = f"{variant}, fold {fold}, seed 1, {corpus.ids[row]}\n"
        title += f"{panel['block'].label}, {panel['head'].label}, {corpus.title}"
        assert panel["block"].label == block_name(block)
        top = figures.attention_top(found.maps.values())  # one scale for all blocks and heads of an utterance
        one = found.maps[block]
        weights = len(one.keys.labels) * (one.weights.mean(0) if head < 0 else one.weights[head])
        ((texts, (pixels,)),) = panel.maps
        assert (pixels == in_colours(weights, top)).all()
        assert texts == [*one.queries.labels, *one.keys.labels, f"query: {one.queries.title}", f"key: {one.keys.title}"]
        (saved,) = panel.view._pictures
        same = figures.attention_map(one, None if head < 0 else head, title, top)
        assert content(saved.draw()) == content(same)


def test_choices_stay_where_they_can(study):
    panel = Panel(widgets.attention_panel(study))
    panel["block"].value, panel["head"].value = "v", 2
    panel["text"].value = False
    assert (panel["block"].label, panel["head"].label) == ("video asks itself", "head 3")
    panel["text"].value, panel["attention"].value = True, "cross"
    assert (panel["block"].label, panel["head"].label) == ("text asks audio", "head 3")


def test_lost_weights_are_told(study, tmp_path):
    copy = shutil.copytree(study.ledger.folder, tmp_path / "runs")
    for file in copy.glob("self_va/*/weights.safetensors"):
        file.unlink()
    panel = Panel(widgets.attention_panel(mc.Study(study.corpus, TRAINED, [1], FOLDS, study.protocol, copy)))
    panel["text"].value = False
    assert "weights.safetensors" in panel.text and not panel.maps and not panel.saves
    panel["text"].value = True
    assert "The network says" in panel.message and panel.maps and panel.saves


# ------------------------------------------------------------------------------------------------------ comparisons


def test_verdicts_are_those_of_compare(study):
    panel, results = Panel(widgets.comparison_panel(study)), study.results()
    assert (panel["first"].value, panel["second"].value) == ("self_tva", "cross_tva")
    secondary, picked = "is secondary: accuracy was declared before the runs", "the comparison was picked by hand"
    for looked_at, (first, second, metric, why) in enumerate(
        (
            ("self_tva", "cross_tva", "accuracy", ""),
            ("cross_tva", "self_tva", "balanced_accuracy", f"balanced_accuracy {secondary}"),
            ("self_t", "uniform_tva", "accuracy", picked),
            ("cross_tva", "self_va", "macro_precision", f"macro_precision {secondary}, and {picked}"),
        )
    ):
        for name, value in dict(first=first, second=second, metric=metric).items():
            with panel.panel.view._lock:
                panel[name].value = value
        found = mc.compare(results, first, second, metric, rope=study.margin, exploratory=why)
        assert panel.message.startswith(named(found.sentence()))
        assert all(named(note) in panel.message for note in found.notes)
        assert panel.column(3) == ["–" if pd.isna(p) else f"{p:.3f}" for p in side_by_side(found)["p"]]
        assert panel.shows(figures.paired(found, study.corpus.title))
        assert ("not declared have been looked at" in panel.message) == (looked_at > 0)


def test_undeclared_comparisons_are_counted_once_each(study):
    def looked_at(*pair):
        said = comparison.comparison_shown(study, *pair, "accuracy").message
        return re.findall(r"(\d+) comparisons? that were not declared", said)

    assert looked_at("self_tva", "cross_tva") == []
    assert looked_at("self_t", "self_va") == looked_at("self_va", "self_t") == ["1"]
    assert looked_at("self_t", "uniform_tva") == ["2"] and looked_at("self_tva", "cross_tva") == ["2"]
    noted = json.loads((study.ledger.folder / ".panels.json").read_text())["looked"]
    assert noted == [["self_t", "self_va", "accuracy"], ["self_t", "uniform_tva", "accuracy"]]


def test_no_comparison_with_itself(study):
    panel = Panel(widgets.comparison_panel(study))
    panel["second"].value = "self_tva"
    assert "cannot be compared with itself" in panel.text and panel.shows() and not panel.page.select("td")
    panel["second"].value = "self_t"
    assert "Self T - Self T+V+A" in panel.text and not panel.shows()


def test_panels_say_what_they_lack(study, untrained):
    assert "has not been trained" in Panel(widgets.attention_panel(untrained)).text
    text = Panel(widgets.comparison_panel(untrained)).text
    assert "0 of 15 runs" in text and "Notebooks 02 and 03" in text and "python -m mmer_core run" in text
    assert "two variants" in text
    no_margin = mc.Study(study.corpus, TRAINED, [1], FOLDS, study.protocol, study.ledger.folder)
    assert "a margin" in Panel(widgets.comparison_panel(no_margin)).text
    assert "No verdict: a verdict needs a margin" in Panel(widgets.results_panel(no_margin)).message


# ------------------------------------------------------------------------------------------------------- the corpus


def test_corpus_report(study):
    panel, corpus = Panel(widgets.corpus_panel(study.corpus)), study.corpus
    assert f"{corpus.title}: 140 utterances, 7 classes" in panel.text
    assert panel.column(0)[:7] == corpus.classes
    assert all(finding in panel.text for finding in corpus.findings)


def test_another_corpus(study, tmp_path):
    panel = Panel(widgets.corpus_panel(study.corpus))
    other = mc.make_demo_corpus(tmp_path / "other", utterances=35)
    panel.all(W.Text)[0].value = str(other.path)  # as Enter does
    assert ": 35 utterances" in panel.text and f'corpus = "{other.path}"' in panel.text
    panel.all(W.Text)[0].value = str(study.corpus.path)
    assert ": 140 utterances" in panel.text and "corpus =" not in panel.text
    panel["Open"].click()
    assert ": 140 utterances" in panel.text


@pytest.mark.parametrize("place", ["near", "data/near"])
def test_a_path_means_what_it_means_in_the_study(study, tmp_path, monkeypatch, place):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    mc.make_demo_corpus(tmp_path / "data" / "near", utterances=35)
    panel = Panel(widgets.corpus_panel(study.corpus))
    panel.all(W.Text)[0].value = place
    assert ": 35 utterances" in panel.text


@pytest.mark.parametrize("path", ["/no/<script>alert(1)</script>/here", "", "\0", "~nobody-of-that-name", __file__])
def test_impossible_paths_are_told_and_the_report_stays(study, path, capsys):
    panel = Panel(widgets.corpus_panel(study.corpus))
    panel.all(W.Text)[0].value = path
    assert "This cannot be done." in panel.view.notice.value and "<script" not in panel.view.notice.value
    assert ": 140 utterances" in panel.text and capsys.readouterr() == ("", "")
    panel.all(W.Text)[0].value = str(study.corpus.path)
    assert ": 140 utterances" in panel.text and not BeautifulSoup(panel.view.notice.value, "html.parser").get_text()


def test_markup_in_a_corpus_is_text(study):
    classes, bad = [f"<i>{c}</i>" for c in study.corpus.classes], "<img src=x onerror=alert(1)>"
    corpus = dataclasses.replace(study.corpus, name=bad, classes=classes, findings=[bad])
    settings = ([1], FOLDS, study.protocol, study.ledger.folder, "accuracy", 0.02)
    marked = mc.Study(corpus, TRAINED, *settings)
    for panel in (
        widgets.corpus_panel(corpus),
        widgets.results_panel(marked),
        widgets.results_panel(marked, ["both"]),  # not trained
        widgets.attention_panel(marked),
        widgets.comparison_panel(marked),
    ):
        page = Panel(panel).page
        assert not page.select("img[onerror]") and not page.select("i > b, td i:not([style])")
        assert "<img src=x" not in panel.view.page.value and "<i>angry" not in panel.view.page.value
    assert bad in Panel(widgets.corpus_panel(corpus)).text and classes[0] in Panel(widgets.corpus_panel(corpus)).text
