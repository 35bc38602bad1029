"""In a real JupyterLab, the toggles of notebook 02 change picture and numbers to what the ledger says."""

import base64
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lab
import pytest
from conftest import CHECKOUT

import mmer_core as mc
from mmer_core import figures, widgets
from mmer_core.metrics import METRICS

STUDY = """
corpus = "demo"
variants = ["self_t", "self_v", "self_a", "self_tv", "self_ta", "self_va", "self_tva", "uniform_tva"]
folds = [1, 2, 3]
seeds = [1]
primary_metric = "accuracy"
margin = 0.02
[protocol]
max_epochs = 1
"""
IS_NEW = "([image, seen]) => image.complete && image.naturalWidth > 100 && !seen.includes(image.src)"
CONTENT = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
}"""


class Panel:
    """The results panel of notebook 02, as a reader sees it, beside the study it should tell about."""

    def __init__(self, page, study: mc.Study):
        self.page, self.study = page, study
        self.box = page.locator(".jp-OutputArea-output", has=page.get_by_role("button", name="text", exact=True))
        self.pictures = self.box.locator("img")
        self.seen: list[str] = []

    def button(self, name: str | re.Pattern):
        return self.box.get_by_role("button", name=name, exact=True)

    def tells(self, variant: str) -> None:
        """Wait until the panel shows a variant; numbers and pictures are then those of its runs, and new ones."""
        from playwright.sync_api import expect

        runs = self.study.with_variants([variant])
        results = runs.results()
        assert len(results) == 3 and not runs.missing()
        expect(self.box.locator(".widget-html b")).to_have_text(variant)
        expect(self.box.locator("td.col0")).to_have_text([m.replace("_", " ") for m in METRICS])
        expect(self.box.locator("td.col1")).to_have_text([f"{(100 * results[m]).mean():.1f}" for m in METRICS])

        title = f"{variant}, {runs.corpus.title}"
        expected = (
            figures.learning_curves(runs.learning_curves(), [variant], title),
            figures.confusion(runs.confusion(variant), runs.corpus.classes, title),
        )
        expect(self.pictures).to_have_count(len(expected))
        for place, figure in zip(self.pictures.all(), expected, strict=True):
            self.page.wait_for_function(IS_NEW, arg=[place.element_handle(), self.seen])
            assert base64.b64decode(place.evaluate(CONTENT)) == widgets.png(figure), f"another picture for {variant}"
            self.seen.append(place.get_attribute("src"))


def test_toggles_show_what_the_ledger_says(tmp_path):
    if reason := lab.lacking():
        (pytest.fail if os.environ.get("MMER_BROWSER") == "required" else pytest.skip)(reason)
    from playwright.sync_api import expect

    for folder in ("data", "notebooks", "scratch"):
        (tmp_path / folder).mkdir()
    declaration = tmp_path / "data" / "study.toml"
    declaration.write_text(STUDY)
    with ThreadPoolExecutor(1) as here:  # quicker than starting processes for runs this small
        study = mc.open_study(declaration).run(here, progress=False)
    notebook = shutil.copy(CHECKOUT / "notebooks" / "02_self_attention.ipynb", tmp_path / "notebooks")

    with lab.open_notebook(Path(notebook), tmp_path / "scratch", MMER_ROOT=str(tmp_path)) as page:
        panel = Panel(page, study)
        panel.tells("self_tva")
        page.screenshot(path=tmp_path / "start.png")
        for toggle, variant in (
            ("text", "self_va"),
            ("video", "self_a"),
            ("text", "self_ta"),
            ("video", "self_tva"),
            ("uniform", "uniform_tva"),
            ("self", "self_tva"),
        ):
            panel.button(toggle).click()
            panel.tells(variant)
            for modality, letter in (("text", "t"), ("video", "v"), ("audio", "a")):
                last = variant == f"self_{letter}"
                expect(panel.button(modality)).to_be_disabled() if last else expect(
                    panel.button(modality)
                ).to_be_enabled()
        page.screenshot(path=tmp_path / "toggled.png")

        panel.button("corrected").click()
        expect(panel.box).to_contain_text("self_tva_corrected has not been trained")
        expect(panel.pictures.first).to_be_hidden()
        panel.button("Train self_tva_corrected (3 of 3 runs missing)").click()
        expect(panel.button(re.compile("Training: [0-3] of 3 runs done"))).to_be_disabled()
        page.screenshot(path=tmp_path / "training.png")
        expect(panel.box).to_contain_text("3 of 3 runs")
        panel.tells("self_tva_corrected")
        expect(panel.button(re.compile("Train"))).to_be_hidden()
        expect(page.locator("[data-mime-type='application/vnd.jupyter.error']")).to_have_count(0)
        page.screenshot(path=tmp_path / "trained.png")
