"""What panels are made of: controls, a `View`, and a function from the state of the controls to what is `Shown`."""

import html
import io
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import ipywidgets as W
import pandas as pd
from matplotlib.figure import Figure

from mmer_core.errors import MmerError

PIXELS = 116  # of the screen to an inch of a figure: its 8 point type is then as large as the notebook's own


def png(fig: Figure) -> bytes:
    """The picture of a figure, twice as fine as it is shown, for screens that can."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=2 * PIXELS)
    return file.getvalue()


class Picture(W.Image):
    """A place for a figure. It changes in one step, without flicker; while it has no figure it takes no room."""

    def show(self, fig: Figure | None) -> None:
        if fig is not None:
            self.value = png(fig)
            self.layout.width, self.layout.max_width = f"{PIXELS * fig.get_figwidth():.0f}px", "100%"
        self.layout.display = "none" if fig is None else ""


class Shown(NamedTuple):
    """What a panel shows for one state of its controls."""

    message: str  # HTML
    pictures: Sequence[Figure] = ()
    details: str = ""  # HTML, below the pictures


class View:
    """The places where a panel shows something; whoever makes a panel arranges them."""

    def __init__(self, pictures: int = 0):
        self.message, self.details = W.HTML(), W.HTML()
        self.pictures = [Picture() for _ in range(pictures)]
        self._busy = False

    def show(self, shown: Shown) -> None:
        self.message.value, self.details.value = shown.message, shown.details
        for picture, fig in zip_longest(self.pictures, shown.pictures):
            picture.show(fig)

    def callback(self, react: Callable[[], Shown]) -> Callable[..., None]:
        """`react` as controls call it, but not again while it sets a control itself; what goes wrong is told, too."""

        def call(_: object = None) -> None:
            if self._busy:
                return
            self._busy = True
            try:
                self.show(react())
            except MmerError as error:
                self.show(Shown(f"<b>This cannot be done.</b> {html.escape(str(error))}"))
            except Exception:  # out of a callback it would go to a log that nobody sees
                told = html.escape(traceback.format_exc())
                self.show(Shown(f"<b>This is a fault of mmer.</b> Please report it:<pre>{told}</pre>"))
            finally:
                self._busy = False

        return call

    def follow(self, controls: Iterable[W.Widget], react: Callable[[], Shown]) -> None:
        """Show what `react` returns now, and again whenever a control changes."""
        call = self.callback(react)
        for control in controls:
            control.observe(call, "value")
        call()


def table(frame: pd.DataFrame, **formats: str | Callable) -> str:
    """A frame as HTML in the look of JupyterLab: words to the left, numbers to the right, floats with one decimal."""
    words = [frame.columns.get_loc(c) for c in frame.select_dtypes(exclude="number")]
    left = [{"selector": f".col{i}", "props": "text-align: left"} for i in words]
    mine = {c: f for c, f in formats.items() if c in frame}
    style = frame.style.hide(axis="index").format(mine, precision=1, na_rep="–", escape="html").set_table_styles(left)
    table = style.to_html(table_attributes='style="margin-left: 0"')
    return f'<div class="jp-RenderedHTMLCommon">{table}</div>'


def choice(description: str, options: Sequence = (), **more: object) -> W.Dropdown:
    look = dict(style={"description_width": "5em"}, layout=W.Layout(width="19em"))
    return W.Dropdown(options=options, description=description, **look, **more)


def refill(box: W.Dropdown, options: Mapping[str, Any]) -> None:
    """Offer other options, and stay with the one chosen before where it is still there."""
    before, box.options = box.value, tuple(options.items())
    box.value = before if before in options.values() else next(iter(options.values()))
