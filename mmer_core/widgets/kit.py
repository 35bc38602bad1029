"""What panels are made of: controls, and a `View` that shows what a function makes of the state of the controls.

The last state wins: whatever thread an event comes from, the view takes down the state of all controls at once, and
what it shows is always one state whole, as one piece of HTML: never new numbers above an old picture.
"""

import base64
import html
import io
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from itertools import zip_longest
from typing import Any, NamedTuple

import ipywidgets as W
import pandas as pd
from matplotlib.figure import Figure

from mmer_core import figures
from mmer_core.errors import MmerError

PIXELS = 116  # of the screen to an inch of a figure: its 8 point type is then as large as the notebook's own
LOOK = f"<style>{(files('mmer_core.widgets') / 'panel.css').read_text()}</style>"
# A dot that is not seen. That it was loaded starts the script which makes a panel's buttons work from the keyboard.
KEYS = html.escape((files("mmer_core.widgets") / "panel.js").read_text().replace("\n", " "))
KEYS = f'<img class="mmer-hidden" alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" onload="{KEYS}">'


class Picture(NamedTuple):
    """A figure of a panel: the name of its files when it is saved, how it is drawn, and what it shows, in words.

    Without words it is only offered to be saved, where the panel shows the same in HTML.
    """

    name: str
    draw: Callable[[], Any]
    words: str = ""


class Shown(NamedTuple):
    """What a panel shows for one state of its controls; message and details are HTML."""

    message: str
    pictures: Sequence[Picture] = ()
    details: str = ""


class View:
    """The place where a panel shows something, with a button to save each picture."""

    def __init__(self, saves: int = 1):
        self.page, self.notice = W.HTML(), W.HTML()
        self.page.add_class("mmer-page")
        self.buttons = [W.Button(layout=W.Layout(width="auto")) for _ in range(saves)]
        self.saves = W.HBox(self.buttons, layout=W.Layout(flex_flow="row wrap"))
        self._pictures: Sequence[Picture] = ()
        self._lock, self._wanted, self._setting, self._at_work = threading.RLock(), 0, False, False
        self._show: Callable[[], Shown] = lambda: Shown("")
        for n, button in enumerate(self.buttons):
            button.on_click(lambda _, n=n: self.act(lambda: self._save(n)))

    def follow(self, controls: Iterable[W.Widget], react: Callable[[], Callable[[], Shown]]) -> None:
        """Show the first state, and another whenever a control changes.

        `react` may set controls, which starts nothing anew; it returns the function, often a slow one, that makes of
        the state of the controls what is to be shown.
        """
        self._react = react
        for control in controls:
            control.observe(self.changed, "value")
        self._at_work = True
        self._ask()
        self._work()

    def changed(self, _: object = None) -> None:
        """Take down the state of all controls and have it shown; whoever is at work already sees to it."""
        with self._lock:
            if self._setting:
                return
            self._ask()
            if self._at_work:
                return
            self._at_work = True
            self.page.add_class("mmer-busy")
        start(self._work)

    def act(self, action: Callable[[], str | None]) -> None:
        """Do what a button asks for, aside; tell what it says, or what went wrong, and leave all else as it is."""

        def do() -> None:
            self.notice.value = _told(lambda: Shown(action() or "")).message

        start(do)

    def _ask(self) -> None:
        self._setting = True
        try:
            self._show = self._react()
        except Exception:
            self._show = partial(Shown, _trouble())
        finally:
            self._setting = False
            self._wanted += 1

    def _work(self) -> None:
        """Show the last state asked for: its text at once, its pictures when they are drawn."""
        done = False
        while not done:
            with self._lock:
                mine, show = self._wanted, self._show
            shown = _told(show)
            if any(picture.words for picture in shown.pictures):
                self._publish(mine, _page(shown, lambda p: f"<i>drawing: {html.escape(p.words)} …</i>"), shown)
            page = _complete(shown)
            with self._lock:
                done = self._publish(mine, page, shown)
                self._at_work = not done
                if done:
                    self.page.remove_class("mmer-busy")

    def _publish(self, mine: int, page: str, shown: Shown) -> bool:
        """Show the page of a state, unless another one has been asked for since."""
        with self._lock:
            if mine != self._wanted:
                return False
            self.page.value, self._pictures = page, shown.pictures
            for button, picture in zip_longest(self.buttons, shown.pictures):
                button.layout.display = "" if picture else "none"
                button.description = f"Save {picture.name}" if picture else ""
            return True

    def _save(self, n: int) -> str:
        picture = self._pictures[n]
        written = figures.save_figure(picture.draw(), picture.name)
        return f"Written: {html.escape(str(written[0].parent))}/{', '.join(file.name for file in written)}."


class Panel(W.VBox):
    """Controls, and the view that they rule. A notebook keeps its picture where no kernel can show the panel itself.

    `more` makes HTML to be kept with it: what the other states of the controls would show, where that is small.
    """

    def __init__(self, rows: Sequence[W.Widget], view: View, more: Callable[[], str] = str):
        super().__init__()
        self.view, self.more, self._still = view, more, f"mmer-still-{self.model_id}"
        once = W.HTML(f"{LOOK}<style>.{self._still} {{display: none}}</style>{KEYS}", layout=W.Layout(height="0"))
        self.children = [*rows, view.notice, view.page, view.saves, once]
        self.add_class("mmer-panel")

    def _ipython_display_(self, **_: object) -> None:
        """The panel, and beside it what is seen of it without a kernel; where the panel is alive it hides that."""
        from IPython.display import display

        plain = {"text/plain": "A panel of mmer; run the notebook to use it."}
        display({**self._repr_mimebundle_(), **plain}, raw=True)
        kept = self.view.page.value + _page(_told(lambda: Shown(self.more())), str)
        still = f'<div class="mmer-still {self._still}">{LOOK}{kept}</div>'
        display({"text/html": still, **plain}, raw=True)


def start(work: Callable[[], None]) -> None:
    """Do it aside where a page waits for the kernel, so that it goes on listening; else here and now."""
    kernel = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if hasattr(kernel, "kernel"):
        threading.Thread(target=work, daemon=True).start()
    else:
        work()


def png(fig: Figure) -> bytes:
    """The picture of a figure, twice as fine as it is shown, for screens that can."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=2 * PIXELS)
    return file.getvalue()


def _drawn(picture: Picture) -> str:
    fig = picture.draw()
    data = base64.b64encode(png(fig)).decode()
    size = f"width: {PIXELS * fig.get_figwidth():.0f}px"
    return f'<img alt="{html.escape(picture.words)}" style="{size}" src="data:image/png;base64,{data}">'


def _page(shown: Shown, draw: Callable[[Picture], str]) -> str:
    pictures = "".join(draw(picture) for picture in shown.pictures if picture.words)
    message = f'<div class="mmer-message" aria-live="polite">{shown.message}</div>'
    return f'<div class="mmer-shown">{message}<div class="mmer-pictures">{pictures}</div>{shown.details}</div>'


def _complete(shown: Shown) -> str:
    """The page with its pictures, or what went wrong while they were drawn."""
    return _told(lambda: Shown(_page(shown, _drawn))).message


def _told(show: Callable[[], Shown]) -> Shown:
    """What is to be shown, or what went wrong, in words."""
    try:
        return show()
    except Exception:  # out of a callback it would go to a log that nobody sees
        return Shown(_trouble())


def _trouble() -> str:
    """The exception that is being handled, in words."""
    if isinstance(error := sys.exc_info()[1], MmerError):
        return f"<b>This cannot be done.</b> {html.escape(str(error))}"
    return f"<b>This is a fault of mmer.</b> Please report it:<pre>{html.escape(traceback.format_exc())}</pre>"


def table(frame: pd.DataFrame, **formats: str | Callable) -> str:
    """A frame as HTML: words to the left, numbers to the right, floats with one decimal."""
    words = [frame.columns.get_loc(c) for c in frame.select_dtypes(exclude="number")]
    left = [{"selector": f".col{i}", "props": "text-align: left"} for i in words]
    mine = {c: f for c, f in formats.items() if c in frame}
    style = frame.style.hide(axis="index").format(mine, precision=1, na_rep="–", escape="html").set_table_styles(left)
    return style.to_html(table_attributes='class="mmer-table mmer-words"')


def choice(description: str, options: Sequence = (), width: str = "13em", **more: object) -> W.Dropdown:
    look = dict(style={"description_width": "initial"}, layout=W.Layout(width=width))
    return W.Dropdown(options=options, description=description, **look, **more)


def refill(box: W.Dropdown, options: Mapping[str, Any]) -> None:
    """Offer other options, and stay with the one chosen before where it is still there."""
    if tuple(options.items()) == box.options:
        return
    before, box.options = box.value, tuple(options.items())
    box.value = before if before in options.values() else next(iter(options.values()))
