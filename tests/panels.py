"""Panels taken apart, and a study for them to show."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import ipywidgets as W
import matplotlib.image
import numpy as np
from bs4 import BeautifulSoup
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.text import Text

import mmer_core as mc

TRAINED = ["self_t", "self_va", "self_tva", "cross_tva", "uniform_tva"]
FOLDS = [1, 2, 3]


def make_study(folder) -> mc.Study:
    """Five variants with one seed and two epochs on a small demo: all are trained."""
    corpus = mc.make_demo_corpus(folder / "demo", utterances=140)
    settings = dict(
        folds=FOLDS, protocol=mc.Protocol(max_epochs=2, learning_rate=0.005), ledger=folder / "runs", margin=0.02
    )
    with ThreadPoolExecutor(1) as here:
        return mc.Study(corpus, TRAINED, seeds=[1], **settings).run(here, progress=False)


def content(fig) -> bytes:
    """What there is to be drawn: most of the time would go into pixels."""
    lines = [line.get_xydata().tolist() for line in fig.findobj(Line2D)]
    fields = fig.findobj(lambda artist: isinstance(artist, ScalarMappable))
    shown = [(np.asarray(field.get_array()).tolist(), field.get_clim()) for field in fields]
    return repr((lines, shown, [text.get_text() for text in fig.findobj(Text)])).encode()


class Panel:
    """A panel taken apart."""

    def __init__(self, panel: W.Widget):
        self.panel, self.view, self.parts = panel, panel.view, list(walk(panel))

    def all(self, kind: type) -> list:
        return [part for part in self.parts if isinstance(part, kind)]

    def __getitem__(self, name: str):
        """The control of that name: its own description, or the label before it."""
        for part in self.parts:
            if getattr(part, "description", None) == name:
                return part
            if isinstance(part, W.HBox) and part.children and getattr(part.children[0], "value", None) == name:
                return part.children[1]
        raise KeyError(name)

    @property
    def page(self) -> BeautifulSoup:
        return BeautifulSoup(self.view.page.value, "html.parser")

    @property
    def text(self) -> str:
        return self.page.get_text()

    @property
    def message(self) -> str:
        return self.page.select_one(".mmer-message").get_text()

    def cells(self, heading: str) -> list[list[str]]:
        """The rows of the table under a heading."""
        table = next(h for h in self.page.select("h4") if heading in h.get_text()).find_next("table")
        return [[cell.get_text() for cell in row.select("td")] for row in table.select("tr") if row.select("td")]

    def column(self, number: int) -> list[str]:
        return [cell.get_text() for cell in self.page.select(f"td.col{number}")]

    def shows(self, *expected) -> bool:
        """These figures, and no other."""
        png = [image["src"].partition("base64,")[2] for image in self.page.select("img") if "png" in image["src"]]
        return [base64.b64decode(picture) for picture in png] == [content(figure) for figure in expected]

    @property
    def maps(self) -> list[tuple[list[str], list[np.ndarray]]]:
        """The texts and the pixels, RGB [Q, K, 3] in 0 to 255, of each picture of attention maps."""
        return [_taken_apart(i["src"]) for i in self.page.select("img") if "svg" in i["src"].partition(",")[0]]

    @property
    def train(self) -> W.Button:
        return next(b for b in self.all(W.Button) if b.button_style == "primary")

    @property
    def saves(self) -> list[W.Button]:
        return [b for b in self.all(W.Button) if b.description.startswith("Save ") and b.layout.display != "none"]


def walk(widget: W.Widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def _taken_apart(address: str) -> tuple[list[str], list[np.ndarray]]:
    svg = ElementTree.fromstring(base64.b64decode(address.partition("base64,")[2]))
    drawn = [pixels(image.get("href")) for image in svg.iterfind(".//{*}image")]
    return [text.text for text in svg.iterfind(".//{*}text")], drawn


def pixels(address: str) -> np.ndarray:
    """Of a PNG as an address: RGB, 0 to 255."""
    png = base64.b64decode(address.partition("base64,")[2])
    return (255 * matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]).round().astype(int)


def in_colours(weights: np.ndarray, top: float) -> np.ndarray:
    """Weights [Q, K] as the pixels that show them."""
    return matplotlib.colormaps["viridis"](np.clip(weights / top, 0, 1), bytes=True)[..., :3].astype(int)


def choices(dropdown: W.Dropdown) -> list:
    return [o[1] if isinstance(o, tuple) else o for o in dropdown.options]
