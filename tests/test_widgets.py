"""The panels without a browser: what they offer, and that they tell what the ledger holds and nothing else."""

import dataclasses
import html
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import ipywidgets as W
import numpy as np
import pandas as pd
import pytest
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.text import Text

import mmer_core as mc
from mmer_core import figures, widgets
from mmer_core.explain import explain
from mmer_core.metrics import METRICS, names_elsewhere
from mmer_core.stats import side_by_side

TRAINED = ["self_t", "self_va", "self_tva", "cross_tva", "uniform_tva"]
FOLDS = [1, 2, 3]


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> mc.Study:
    """Five variants with one seed and two epochs on a small demo: all are trained."""
    folder = tmp_path_factory.mktemp("widgets")
    corpus = mc.make_demo_corpus(folder / "demo", utterances=140)
    settings = dict(
        folds=FOLDS, protocol=mc.Protocol(max_epochs=2, learning_rate=0.005), ledger=folder / "runs", margin=0.02
    )
    with ThreadPoolExecutor(1) as here:
        return mc.Study(corpus, TRAINED, seeds=[1], **settings).run(here, progress=False)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Most of the time would go into pixels: in place of a picture stands what there is to be drawn."""

    def is_field(artist) -> bool:
        return isinstance(artist, ScalarMappable)

    def content(fig) -> bytes:
        lines = [line.get_xydata().tolist() for line in fig.findobj(Line2D)]
        fields = [np.asarray(field.get_array()).tolist() for field in fig.findobj(is_field)]
        return repr((lines, fields, [text.get_text() for text in fig.findobj(Text)])).encode()

    monkeypatch.setattr(widgets.kit, "png", content)


@pytest.fixture
def untrained(study, tmp_path) -> mc.Study:
    """The same study with a ledger that is empty and may be written to."""
    return mc.Study(study.corpus, TRAINED, [1], FOLDS, study.protocol, tmp_path / "runs", margin=0.02)


@pytest.fixture
def quick_run(monkeypatch):
    """Training on the spot happens in this process: starting others takes longer than the runs."""
    run = mc.Study.run

    def quick(study, progress=True):
        with ThreadPoolExecutor(1) as here:
            return run(study, here, progress)

    monkeypatch.setattr(mc.Study, "run", quick)


class Panel:
    """A panel taken apart."""

    def __init__(self, panel: W.Widget):
        self.parts = list(_walk(panel))
        self.pictures = self.all(widgets.Picture)

    def all(self, kind: type) -> list:
        return [part for part in self.parts if isinstance(part, kind)]

    def __getitem__(self, name: str):
        """The control of that name: its own description, or the label before it."""
        for part in self.parts:
            if getattr(part, "description", None) == name:
                return part
            if isinstance(part, W.HBox) and getattr(part.children[0], "value", None) == name:
                return part.children[1]
        raise KeyError(name)

    @property
    def text(self) -> str:
        """All text that is shown, without marks."""
        return html.unescape(
            re.sub("<style.*?</style>|<[^>]*>", "", " ".join(h.value for h in self.all(W.HTML)), flags=re.S)
        )

    def column(self, number: int) -> list[str]:
        """The cells of one column of the first table."""
        return re.findall(
            rf'<td[^>]* col{number}"[^>]*>(.*?)</td>', next(h.value for h in self.all(W.HTML) if "<td" in h.value)
        )

    def shows(self, *expected) -> bool:
        """These figures, and no other."""
        shown = [picture.value for picture in self.pictures if picture.layout.display != "none"]
        return shown == [widgets.kit.png(figure) for figure in expected]

    @property
    def train(self) -> W.Button:
        return next(b for b in self.all(W.Button) if b.button_style == "primary")


def _walk(widget: W.Widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child)


def choices(dropdown: W.Dropdown) -> list:
    return [o[1] if isinstance(o, tuple) else o for o in dropdown.options]


# ---------------------------------------------------------------------------------------------- results by modality


def tells(panel: Panel, study: mc.Study, variant: str) -> bool:
    """The panel shows the numbers and pictures of this variant in the ledger."""
    runs = study.with_variants([variant])
    results, wanted = runs.results(), len(runs.runs)
    marked = variant if len(results) == wanted else f"{variant} ({len(results)} of {wanted} runs)"
    title = f"{marked}, {study.corpus.title}"
    assert f"{variant}: {len(results)} of {len(runs.runs)} runs" in panel.text
    for column, number in enumerate(("mean", "min", "max"), 1):
        assert panel.column(column) == [f"{getattr(100 * results[m], number)():.1f}" for m in METRICS]
    return panel.shows(
        figures.learning_curves(runs.learning_curves(), [variant], title),
        figures.confusion(runs.confusion(variant), study.corpus.classes, title),
    )


def test_results_are_those_of_the_ledger(study):
    panel = Panel(widgets.results_panel(study, ["self", "uniform"]))
    assert tells(panel, study, "self_tva")
    panel["text"].value = False
    assert tells(panel, study, "self_va")
    panel["text"].value = True
    panel["attention"].value = "uniform"
    assert tells(panel, study, "uniform_tva")
    assert panel.train.layout.display == "none"


def test_published_numbers_stand_beside(study):
    panel = Panel(widgets.results_panel(study))
    assert panel.column(4) == ["64.2", "58.7", *4 * ["–"]]
    assert panel.column(5) == [names_elsewhere(m) for m in METRICS] and panel.column(5)[0].startswith("UWA (Rajan")


@pytest.mark.parametrize("attentions", [["self", "uniform"], ["cross", "both"], ["self", "cross", "uniform", "both"]])
def test_nothing_without_a_meaning_can_be_chosen(untrained, attentions):
    panel, rng, seen = Panel(widgets.results_panel(untrained, attentions)), np.random.default_rng(0), set()
    toggles = {m: panel[name] for m, name in (("t", "text"), ("v", "video"), ("a", "audio"))}
    for _ in range(400):
        control = rng.choice(["text", "video", "audio", "attention", "pooling", "preset"])
        if not panel[control].disabled:
            options = getattr(panel[control], "options", None)
            panel[control].value = str(rng.choice(options)) if options else not panel[control].value
        modalities = "".join(m for m, toggle in toggles.items() if toggle.value)
        pooling = None if len(modalities) == 1 else panel["pooling"].value
        variant = mc.Variant(modalities, panel["attention"].value, pooling, preset=panel["preset"].value)
        assert panel.text.strip().startswith(f"{variant.name} has not been trained")
        assert panel.train.description == f"Train {variant.name} (3 of 3 runs missing)"
        seen.add((variant.attention, variant.modalities))
    single = sum(a in ("self", "uniform") for a in attentions)
    assert len(seen) == 4 * len(attentions) + 3 * single, "not everything that has a meaning can be reached"


def test_one_modality_stays(untrained):
    panel = Panel(widgets.results_panel(untrained))
    panel["video"].value = panel["audio"].value = False
    assert (panel["text"].disabled, panel["video"].disabled, panel["pooling"].disabled) == (True, False, True)
    assert panel.text.strip().startswith("self_t has not been trained")
    panel["video"].value = True
    assert not panel["text"].disabled and not panel["pooling"].disabled


def test_attention_stays_when_choices_become_fewer(untrained):
    panel = Panel(widgets.results_panel(untrained, ["self", "cross", "uniform"]))
    panel["attention"].value = "uniform"
    panel["text"].value = panel["video"].value = False
    assert panel["attention"].options == ("self", "uniform") and panel["attention"].value == "uniform"
    panel["text"].value = True
    assert panel["attention"].options == ("self", "cross", "uniform") and panel["attention"].value == "uniform"


def test_cross_attention_keeps_two(untrained):
    panel = Panel(widgets.results_panel(untrained, ["cross", "both"]))
    assert panel.text.strip().startswith("cross_tva has not been trained")
    panel["text"].value = False
    assert (panel["text"].disabled, panel["video"].disabled, panel["audio"].disabled) == (False, True, True)


def test_training_on_the_spot(untrained, quick_run):
    panel = Panel(widgets.results_panel(untrained))
    assert panel.shows() and panel.train.layout.display == ""
    panel.train.click()
    assert tells(panel, untrained, "self_tva")
    assert len(untrained.missing()) == len(untrained.runs) - 3, "other variants were trained, too"
    assert panel.train.layout.display == "none" and not panel.train.disabled


def test_progress_and_interruption(untrained, quick_run, monkeypatch):
    """Two runs, then the reader interrupts the kernel: the two are shown and the third is offered."""
    panel, quick, told = Panel(widgets.results_panel(untrained)), mc.Study.run, []

    def interrupted(study, progress):
        quick(mc.Study(study.corpus, study.variants, [1], [1, 2], study.protocol, study.ledger.folder), progress=False)
        patience = time.monotonic() + 30
        while "2 of 3 runs done" not in panel.train.description and time.monotonic() < patience:
            time.sleep(0.05)
        told.append(panel.train.description)
        raise KeyboardInterrupt

    monkeypatch.setattr(mc.Study, "run", interrupted)
    panel.train.click()
    assert told == ["Training: 2 of 3 runs done"]
    assert tells(panel, untrained, "self_tva")
    assert panel.train.description == "Train self_tva (1 of 3 runs missing)" and not panel.train.disabled


def test_failed_training_is_told(untrained, monkeypatch):
    def fail(study, progress):
        raise FloatingPointError("loss <not> finite")

    monkeypatch.setattr(mc.Study, "run", fail)
    panel = Panel(widgets.results_panel(untrained))
    panel.train.click()
    assert "FloatingPointError: loss &lt;not&gt; finite" in panel.all(W.HTML)[0].value
    assert "Traceback" in panel.text and panel.shows(), "a fault of the package shows where it is"
    assert not panel.train.disabled and panel.train.description == "Train self_tva (3 of 3 runs missing)"


# -------------------------------------------------------------------------------------------------------------- the kit


def test_what_a_user_can_mend_is_one_sentence_and_a_fault_shows_where_it_is():
    def react():
        raise errors.pop(0)

    view, errors = widgets.View(pictures=1), [mc.MmerError("no <such> thing"), ValueError("a <bug>"), KeyError("k")]
    call = view.callback(react)
    call()
    assert view.message.value == "<b>This cannot be done.</b> no &lt;such&gt; thing"
    for told in ("ValueError: a &lt;bug&gt;", "KeyError: &#x27;k&#x27;"):
        call()
        assert told in view.message.value and "in react" in view.message.value and "<bug>" not in view.message.value
        assert "cannot be done" not in view.message.value


def test_a_view_shows_one_state_at_a_time():
    view, control = widgets.View(pictures=2), W.IntText(1)
    pictures = [figures.forest([], "one"), figures.forest([], "two")]

    def react():
        control.value += 1  # a control that is set by the panel itself does not start it again
        return widgets.Shown(str(control.value), pictures[: control.value - 1], "details" * (control.value < 3))

    def shown():
        return sum(picture.layout.display != "none" for picture in view.pictures)

    view.follow([control], react)
    assert (view.message.value, shown(), view.details.value) == ("2", 1, "details")
    control.value = 2  # as before: nothing changes
    assert view.message.value == "2"
    control.value = 4
    assert (view.message.value, shown(), view.details.value) == ("5", 2, "")


def test_what_is_shown_is_a_function_of_the_state(study):
    """Without any widget, and for another panel to use."""
    panels = widgets.panels
    shown = panels.comparison_shown(study, "self_tva", "cross_tva", "accuracy")
    assert mc.compare(study.results(), "self_tva", "cross_tva", rope=0.02).verdict in shown.message
    assert len(shown.pictures) == 1 and "<td" in shown.details
    assert "self_va" in panels.results_shown(study.with_variants(["self_va"])).message
    row = int(study.corpus.folds[1].test[0])
    assert "The network says" in panels.attention_shown(study, "self_tva", 1, 1, row, "t", -1).message
    assert "140 utterances" in panels.corpus_shown(study.corpus).message
    with pytest.raises(mc.MmerError):
        panels.comparison_shown(study, "self_tva", "self_tva", "accuracy")


# --------------------------------------------------------------------------------------------------- attention maps


def test_attention_panel_offers_finished_runs_only(study):
    settings = (study.folds, study.protocol, study.ledger.folder)
    panel = Panel(widgets.attention_panel(mc.Study(study.corpus, [*TRAINED, "self_v"], [1, 2], *settings)))
    assert choices(panel["variant"]) == TRAINED and panel["variant"].value == "self_tva"
    assert choices(panel["fold"]) == FOLDS and choices(panel["seed"]) == [1]
    for fold in FOLDS:
        panel["fold"].value = fold
        assert choices(panel["utterance"]) == study.corpus.folds[fold].test.tolist()


def test_attention_maps_are_those_of_the_trained_network(study):
    panel, corpus = Panel(widgets.attention_panel(study)), study.corpus
    for variant, fold, place, block, head in (
        ("self_tva", 1, 0, "t", -1),
        ("cross_tva", 2, 3, "a_t", 0),
        ("uniform_tva", 3, -1, "v", 5),
    ):
        panel["variant"].value, panel["fold"].value = variant, fold
        panel["utterance"].value = row = corpus.folds[fold].test[place]
        panel["block"].value, panel["head"].value = block, head
        found = explain(study.model(variant, fold, 1), corpus, row, fold)
        assert f"says {found.predicted} with" in panel.text and f"label is {found.label}:" in panel.text
        title = f"{variant}, fold {fold}, seed 1, {corpus.ids[row]}\n"
        title += f"{panel['block'].label}, {panel['head'].label}, {corpus.title}"
        assert panel.shows(figures.attention_map(found.maps[block], None if head < 0 else head, title))


def test_choices_stay_where_they_can(study):
    panel = Panel(widgets.attention_panel(study))
    panel["block"].value, panel["head"].value = "v", 2
    panel["variant"].value = "self_va"
    assert (panel["block"].label, panel["head"].label) == ("video asks itself", "head 3")
    panel["variant"].value = "cross_tva"
    assert (panel["block"].label, panel["head"].label) == ("text asks audio", "head 3")


def test_lost_weights_are_told(study, tmp_path):
    copy = shutil.copytree(study.ledger.folder, tmp_path / "runs")
    for file in copy.glob("self_t/*/weights.safetensors"):
        file.unlink()
    panel = Panel(widgets.attention_panel(mc.Study(study.corpus, TRAINED, [1], FOLDS, study.protocol, copy)))
    panel["variant"].value = "self_t"
    assert "weights.safetensors" in panel.text and panel.shows()
    panel["variant"].value = "self_va"
    assert "The network says" in panel.text and not panel.shows()


# ------------------------------------------------------------------------------------------------------ comparisons


def test_verdicts_are_those_of_compare(study):
    panel, results = Panel(widgets.comparison_panel(study)), study.results()
    assert (panel["first"].value, panel["second"].value) == ("self_tva", "cross_tva")
    secondary, picked = "is secondary: accuracy was declared before the runs", "the comparison was picked by hand"
    for first, second, metric, why in (
        ("self_tva", "cross_tva", "accuracy", ""),
        ("cross_tva", "self_tva", "balanced_accuracy", f"balanced_accuracy {secondary}"),
        ("self_t", "uniform_tva", "accuracy", picked),
        ("cross_tva", "self_va", "macro_precision", f"macro_precision {secondary}, and {picked}"),
    ):
        panel["first"].value, panel["second"].value, panel["metric"].value = first, second, metric
        found = mc.compare(results, first, second, metric, rope=study.margin, exploratory=why)
        assert panel.text.strip().startswith(found.sentence())
        assert all(note in panel.text for note in found.notes)
        assert panel.column(3) == ["–" if pd.isna(p) else f"{p:.3f}" for p in side_by_side(found)["p"]]
        assert panel.shows(figures.paired(found, study.corpus.title))


def test_no_comparison_with_itself(study):
    panel = Panel(widgets.comparison_panel(study))
    panel["second"].value = "self_tva"
    assert "cannot be compared with itself" in panel.text and panel.shows() and "<td" not in panel.text
    panel["second"].value = "self_t"
    assert "self_t - self_tva" in panel.text and not panel.shows()


def test_panels_say_what_they_lack(study, untrained):
    for panel in (widgets.attention_panel(untrained), widgets.comparison_panel(untrained)):
        text = Panel(panel).text
        assert "0 of 15 runs" in text and "Notebooks 02 and 03" in text and "python -m mmer_core run" in text
    assert "two variants" in text
    no_margin = mc.Study(study.corpus, TRAINED, [1], FOLDS, study.protocol, study.ledger.folder)
    assert "a margin" in Panel(widgets.comparison_panel(no_margin)).text


# ------------------------------------------------------------------------------------------------------- the corpus


def test_corpus_report(study):
    panel, corpus = Panel(widgets.corpus_panel(study.corpus)), study.corpus
    assert f"{corpus.title}: 140 utterances, 7 classes" in panel.text
    assert panel.column(0)[:7] == corpus.classes
    assert all(finding in panel.text for finding in corpus.findings)


def test_another_corpus(study, tmp_path):
    panel = Panel(widgets.corpus_panel(study.corpus))
    other = mc.make_demo_corpus(tmp_path / "other", utterances=35)
    panel.all(W.Text)[0].value = str(other.path)
    panel["Open"].click()
    assert ": 35 utterances" in panel.text and f'corpus = "{other.path}"' in panel.text


@pytest.mark.parametrize("path", ["/no/<script>alert(1)</script>/here", "", "\0", "~nobody-of-that-name", __file__])
def test_impossible_paths_are_told(study, path, capsys):
    panel = Panel(widgets.corpus_panel(study.corpus))
    panel.all(W.Text)[0].value = path
    panel["Open"].click()
    assert panel.text.startswith("This cannot be done.") and "<script" not in panel.all(W.HTML)[0].value
    assert capsys.readouterr() == ("", "")
    panel.all(W.Text)[0].value = str(study.corpus.path)
    panel["Open"].click()
    assert ": 140 utterances" in panel.text, "the panel goes on after an error"


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
        shown = " ".join(part.value for part in Panel(panel).all(W.HTML))
        assert "<img" not in shown and "<i>" not in shown
    assert bad in Panel(widgets.corpus_panel(corpus)).text and classes[0] in Panel(widgets.corpus_panel(corpus)).text
