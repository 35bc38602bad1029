"""In a real JupyterLab every panel shows what its controls say and the ledger holds: with mouse and keys."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import lab
import pytest
from bs4 import BeautifulSoup
from conftest import CHECKOUT

import mmer_core as mc
from mmer_core import workbook
from mmer_core.explain import block_name
from mmer_core.typeset import variants_named as named
from mmer_core.variant import CHOICES
from mmer_core.widgets import attention, comparison, corpus, kit, pickers, results
from mmer_core.widgets.networks import Asked, Networks

STUDY = """
corpus = "demo"
variants = ["self_t", "self_v", "self_a", "self_tv", "self_ta", "self_va", "self_tva",
            "uniform_tva", "cross_va", "cross_tva"]
folds = [1, 2, 3]
seeds = [1]
primary_metric = "accuracy"
margin = 0.02
[protocol]
max_epochs = 1
"""
# Buttons that are pressed, and what stands in boxes, by the names before them.
STATE = """panel => {
    const boxes = [...panel.querySelectorAll('.widget-dropdown')].map(box =>
        [box.querySelector('label').textContent, box.querySelector('select').selectedOptions[0]?.textContent]);
    const pressed = [...panel.querySelectorAll('[aria-pressed=true]')].map(button => button.textContent);
    return [pressed, Object.fromEntries(boxes)];
}"""
SHOWN = "panel => panel.matches(':has(.mmer-busy)') ? '' : panel.querySelector('.mmer-shown').outerHTML"
CLICK_AT_RANDOM = """async (panel, [events, seed]) => {
    const chance = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
    for (let n = 0; n < events; n++) {
        const some = [...panel.querySelectorAll('[aria-pressed]:enabled, select:enabled')];
        const one = some[Math.floor(chance() * some.length)];
        if (one.matches('select')) {
            one.selectedIndex = Math.floor(chance() * one.options.length);
            one.dispatchEvent(new Event('change', {bubbles: true}));
        } else one.click();
        await new Promise(done => setTimeout(done, 30 * chance()));
    }
}"""
WIDE = """() => [...document.querySelectorAll('html, .jp-WindowedPanel-outer, .mmer-panel, .jp-OutputArea-output')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => [e.className, e.scrollWidth, e.clientWidth])"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A workbook with a small ledger, made once."""
    if reason := lab.lacking():
        (pytest.fail if os.environ.get("MMER_BROWSER") == "required" else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("workbook")
    (folder / "data").mkdir()
    (folder / "data" / "study.toml").write_text(STUDY)
    with ThreadPoolExecutor(1) as here:  # quicker than starting processes for runs this small
        mc.open_study(folder / "data" / "study.toml").run(here, progress=False)
    return folder


@pytest.fixture
def study(folder) -> mc.Study:
    return mc.open_study(folder / "data" / "study.toml")


@pytest.fixture(scope="session")
def jupyter(folder, tmp_path_factory):
    shutil.copytree(CHECKOUT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    with lab.jupyterlab(folder / "notebooks", tmp_path_factory.mktemp("lab"), {"MMER_ROOT": str(folder)}) as found:
        yield found


@pytest.fixture
def opened(jupyter, folder, monkeypatch):
    """Opens a notebook, runs it, and finds its panel; afterwards nothing may have gone wrong or be too wide."""
    monkeypatch.setenv("MMER_ROOT", str(folder))
    (folder / "data" / "runs" / "demo" / ".panels.json").unlink(missing_ok=True)
    with lab.browser() as browser:
        pages = []

        def open_it(name: str) -> Panel:
            page = lab.open_notebook(browser, *jupyter, name)
            pages.append(page)
            return Panel(page)

        yield open_it
        for page in pages:
            assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
            assert page.locator(".mmer-shown pre").count() == 0, page.locator(".mmer-shown pre").inner_text()
            assert page.evaluate(WIDE) == []
            assert page.mmer_errors == []
            page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")


class Panel:
    """The panel of a notebook as a reader has it."""

    def __init__(self, page):
        self.page, self.box = page, page.locator(".mmer-panel")
        self.box.locator(".mmer-shown").wait_for()
        self.box.evaluate("panel => panel.scrollIntoView({block: 'start'})")
        fits = self.box.bounding_box()
        assert fits["width"] <= 860 and fits["height"] <= 690, f"at 1280 x 800 it does not fit: {fits}"
        assert page.locator(".mmer-still").is_hidden(), "it is shown twice"

    def button(self, name: str | re.Pattern):
        return self.box.get_by_role("button", name=name, exact=True)

    def choose(self, box: str, label: str) -> None:
        self.box.get_by_label(box, exact=True).select_option(label=label)

    def state(self) -> tuple[set[str], dict[str, str]]:
        pressed, boxes = self.box.evaluate(STATE)
        return set(pressed), {name: " ".join(chosen.split()) for name, chosen in boxes.items() if chosen}

    def variant(self) -> mc.Variant:
        """That which the buttons say."""
        pressed, _ = self.state()
        modalities = "".join(m for m, name in (("t", "text"), ("v", "video"), ("a", "audio")) if name in pressed)
        (kind,), (preset,) = (pressed & set(some) for some in (CHOICES["attention"], ("published", "corrected")))
        pooling = None if len(modalities) == 1 else (pressed & set(CHOICES["pooling"])).pop()
        return mc.Variant(modalities, kind, pooling, preset=preset)

    def agrees(self, expected) -> None:
        """Wait until the panel shows just this: texts, pictures, and what is said under the pointer."""
        last, found, wanted = time.monotonic() + lab.PATIENCE, None, ("controls without a meaning",)
        while found != wanted:
            assert time.monotonic() < last, (found, wanted)
            time.sleep(0.05)
            with contextlib.suppress(ValueError, KeyError):  # the controls are just being set
                wanted, found = content(kit._complete(expected())), content(self.box.evaluate(SHOWN))


def content(page: str) -> tuple:
    soup = BeautifulSoup(page, "html.parser")
    return (
        " ".join(soup.get_text().split()),
        [i["src"] for i in soup.select("img")],
        [t["title"] for t in soup.select("[title]")],
    )


def results_of(panel: Panel, study: mc.Study) -> kit.Shown:
    """What the panel of 02 and 03 has to show in the state of its controls, from the ledger."""
    variant, boxes = panel.variant(), panel.state()[1]
    sets = ["t", "v", "a", "tv", "ta", "va", "tva"]
    pooling = "statistical" if "statistical" in panel.state()[0] else "none"
    subsets = [
        dataclasses.replace(variant, modalities=some, pooling=pooling if len(some) > 1 else "none")
        for some in sets
        if len(some) > 1 or variant.attention in pickers.ALONE
    ]
    trained = list(study.results()["variant"])
    beside = boxes["beside"]
    other = study.variants.get(identifier(study, beside)) or results.automatic(variant, subsets[-1], trained)
    return results.results_shown(study, variant, other, subsets, boxes["metric"].replace(" ", "_"))


def identifier(study: mc.Study, name: str) -> str:
    """Of the variant that people read as this name; "" if it is none."""
    return next((variant for variant in study.variants if named(variant) == name), "")


def test_the_results_panel(opened, study, folder):
    panel = opened("02_self_attention")

    def agrees(name: str) -> None:
        panel.agrees(lambda: results_of(panel, study))
        assert panel.variant().name == name
        for modality, letter in (("text", "t"), ("video", "v"), ("audio", "a")):
            assert panel.button(modality).is_disabled() == (panel.variant().modalities == letter)

    agrees("self_tva")
    for button, name in (
        ("text", "self_va"),
        ("video", "self_a"),
        ("text", "self_ta"),
        ("video", "self_tva"),
        ("uniform", "uniform_tva"),
        ("none", "uniform_tva_nosp"),
        ("statistical", "uniform_tva"),
        ("self", "self_tva"),
    ):
        panel.button(button).click()
        agrees(name)
    panel.choose("metric", "balanced accuracy")
    agrees("self_tva")
    panel.choose("beside", "Self T")
    agrees("self_tva")

    cells = panel.page.locator(".jp-Cell").count()  # now by the keys
    panel.button("self").focus()
    panel.page.keyboard.press("ArrowRight")
    agrees("uniform_tva")
    panel.page.keyboard.press("ArrowLeft")
    agrees("self_tva")
    panel.button("text").focus()
    panel.page.keyboard.press("ArrowRight")
    panel.page.keyboard.press("Space")
    agrees("self_ta")
    for key in "abdx":
        panel.page.keyboard.press(key)
    assert panel.page.locator(".jp-Cell").count() == cells, "a key that was meant for the panel changed the notebook"

    panel.button("Save confusion_self_ta").click()
    panel.box.get_by_text("Written: ").wait_for()
    assert (folder / "figures" / "confusion_self_ta.pdf").is_file()


@pytest.mark.parametrize("notebook", ["02_self_attention", "03_cross_attention"])
def test_after_300_quick_clicks_panel_and_controls_agree(opened, study, notebook):
    panel = opened(notebook)
    panel.box.evaluate(f"panel => ({CLICK_AT_RANDOM})(panel, [300, 17])")
    panel.agrees(lambda: results_of(panel, study))
    panel.choose("beside", "Self T+V+A")
    panel.agrees(lambda: results_of(panel, study))


def test_training_stops_and_other_controls_live(opened, study, folder):
    panel = opened("02_self_attention")
    panel.button("corrected").click()
    panel.agrees(lambda: results_of(panel, study))
    train = panel.button(re.compile(r"Train Self T\+V\+A \(corrected\) \(3 of 3 runs missing, about \d+ seconds?\)"))
    train.click()
    panel.box.get_by_text(re.compile(r"Training Self T\+V\+A \(corrected\): 0 of 3 runs done")).wait_for()
    panel.button("published").click()
    panel.agrees(lambda: results_of(panel, study))
    began = time.monotonic()
    panel.button("Stop").click()
    panel.button("Stop").wait_for(state="hidden")
    assert time.monotonic() - began < 2 + 1  # a second for the browser and back
    records = folder / "data" / "runs" / "demo" / "self_tva_corrected"
    assert all((run / "run.json").is_file() for run in records.glob("fold*"))

    panel.button("corrected").click()
    panel.button(re.compile(r"Train Self T\+V\+A \(corrected\)")).click()
    panel.box.get_by_text("Self T+V+A (corrected): 3 of 3 runs").wait_for()
    panel.agrees(lambda: results_of(panel, study))
    assert panel.button(re.compile("^Train")).count() == 0 and not study.with_variants(["self_tva_corrected"]).missing()


def test_the_attention_panel(opened, study):
    panel = opened("04_attention_maps")

    def expected() -> kit.Shown:
        variant, (_, boxes) = panel.variant(), panel.state()
        fold, seed = int(boxes["fold"]), int(boxes["seed"])
        row = study.corpus.ids.index(boxes["utterance"].split()[0])
        (block,) = (b for b in variant.blocks if block_name(b) == boxes["block"])
        (head,) = (h for h, name in attention.HEAD_NAMES.items() if name == boxes["head"])
        asked = Asked((variant,), fold, seed, row, block, head)
        return attention.attention_shown(Networks(study), asked)

    panel.agrees(expected)
    panel.button("cross").click()
    panel.agrees(expected)
    for box, label in (("fold", "2"), ("head", "head 3"), ("block", "audio asks video")):
        panel.choose(box, label)
        panel.agrees(expected)
    before = panel.state()[1]
    panel.button("text").click()
    panel.agrees(expected)
    assert panel.state()[1] == before, "what can stay stays when the variant changes"
    utterances = panel.box.get_by_label("utterance", exact=True).locator("option")
    panel.choose("utterance", utterances.nth(5).inner_text())
    panel.agrees(expected)

    panel.choose("head", "all blocks and heads")
    panel.agrees(expected)
    cells = panel.box.locator(".mmer-cells button")  # now the confusion matrix, by the keys
    number = max(range(cells.count()), key=lambda n: int(cells.nth(n).inner_text()))
    wanted = int(cells.nth(number).inner_text())
    cells.nth(number).focus()
    panel.page.keyboard.press("Enter")
    panel.box.locator(".mmer-cells button.mmer-here").and_(cells.nth(number)).wait_for()
    panel.agrees(expected)
    assert utterances.count() == wanted and "any" not in (panel.state()[1]["class"], panel.state()[1]["named"])
    assert panel.box.bounding_box()["height"] <= 690


def test_the_comparison_panel(opened, study):
    panel = opened("05_statistical_comparison")

    def expected() -> kit.Shown:
        boxes = panel.state()[1]
        first, second = (identifier(study, boxes[side]) for side in ("first", "second"))
        return comparison.comparison_shown(study, first, second, "_".join(boxes["metric"].split()))

    panel.agrees(expected)
    for box, label in (("first", "Cross V+A"), ("second", "Self T"), ("metric", "macro precision")):
        panel.choose(box, label)
        panel.agrees(expected)
    panel.box.evaluate(f"panel => ({CLICK_AT_RANDOM})(panel, [60, 5])")
    first, second = (panel.state()[1][side] for side in ("first", "second"))
    if first == second:
        panel.choose("second", "Self T" if first != "Self T" else "Self V")
    panel.agrees(expected)


def test_the_corpus_panel_and_what_a_saved_notebook_keeps(opened, study, folder):
    panel = opened("01_preprocessing")
    panel.agrees(lambda: corpus.corpus_shown(study.corpus, study.corpus))
    other = mc.make_demo_corpus(folder / "data" / "small", utterances=35)
    field = panel.box.get_by_role("textbox")
    field.fill("small")
    field.press("Enter")
    panel.agrees(lambda: corpus.corpus_shown(other, study.corpus))
    field.fill("not there")
    field.press("Enter")
    panel.box.get_by_text("This cannot be done").wait_for()
    panel.agrees(lambda: corpus.corpus_shown(other, study.corpus))

    panel.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save').then(() => null)")
    saved = json.loads((folder / "notebooks" / "01_preprocessing.ipynb").read_text())
    kept = str([cell["outputs"] for cell in saved["cells"] if cell["cell_type"] == "code"])
    assert "mmer-still" in kept and "700 utterances" in kept
    (folder / "data" / "executed").mkdir(exist_ok=True)
    shutil.copy(folder / "notebooks" / "01_preprocessing.ipynb", folder / "data" / "executed")
    assert workbook.main(["html"]) == 0
    page = panel.page.context.new_page()
    page.goto((folder / "data" / "html" / "01_preprocessing.html").as_uri())
    page.locator(".mmer-still", has_text="700 utterances").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.close()
