"""The one style of all pictures: a venue's widths, 8 point Times, the same wherever they are drawn, shown or saved."""

import functools
import importlib
import inspect
import io
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib.style
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmer_core.errors import MmerError
from mmer_core.figures.fit import fit
from mmer_core.figures.letters import FAMILIES, TIMES, spell
from mmer_core.figures.parts import SERIES
from mmer_core.paths import root

P = ParamSpec("P")
COLUMN, PAGE = 3.5, 7.16  # inches: one and two columns of an IEEE paper; another venue has others in their place
DATELESS: dict[str, dict] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # same figure, same file
PACKED: dict[str, Any] = {"pil_kwargs": {"compress_type": zlib.Z_RLE}}  # twice as quick, for a tenth of the size
STYLE: dict[Any, Any] = {
    **matplotlib.rc_params_from_file(Path(__file__).with_name("mmer.mplstyle"), use_default_template=False),
    **{"font.family": FAMILIES, "font.serif": TIMES, "axes.prop_cycle": cycler(color=SERIES)},
}


class Venue(NamedTuple):
    """Where a picture is printed: inches of a column and of the page, and font sizes in points as rcParams."""

    column: float
    page: float
    sizes: dict[str, Any]


IEEE = Venue(COLUMN, PAGE, {})
_venue = ContextVar("venue", default=IEEE)
_settings = threading.RLock()


@contextmanager
def venue(name: str | None) -> Iterator[None]:
    """Inside of this, pictures have the widths and font sizes of a venue that tueplots knows, such as "neurips2024".

    Where a page has one column, COLUMN is 3.5 inches of it at most. The font stays ours: tueplots' own need TeX. None
    leaves things as they are, "ieee" is the default. MmerError: no such venue, or tueplots is not installed.
    """
    token = _venue.set(_read_venue(name) if name else _venue.get())
    try:
        yield
    finally:
        _venue.reset(token)


def _read_venue(name: str) -> Venue:
    if name == "ieee":
        return IEEE
    try:
        bundles = importlib.import_module("tueplots.bundles")
    except ImportError:
        raise MmerError(f"the venue {name!r} needs tueplots: pip install 'mmer_core[venues]'") from None
    known = {n: f for n, f in vars(bundles).items() if re.fullmatch(r"[a-z]+\d{4}", n) and callable(f)}
    if name not in known:
        raise MmerError(f"venue: expected one of ieee, {', '.join(sorted(known))}; found {name!r}")
    make, two = known[name], "column" in inspect.signature(known[name]).parameters
    page = make(column="full") if two else make()
    width = page["figure.figsize"][0]
    column = make(column="half")["figure.figsize"][0] if two else min(COLUMN, width)
    sizes = {key: size for key, size in page.items() if key in STYLE and key.endswith("size")}
    return Venue(column, width, sizes | {"figure.titlesize": sizes["axes.titlesize"]})


class Canvas(FigureCanvasAgg):
    """What saves a `Picture`, for `savefig` as for a notebook: in our style and without a date."""

    figure: "Picture"

    def print_figure(self, filename: Any, *args: Any, **more: Any) -> Any:
        """As matplotlib's; `dpi` and `metadata` that are given win."""
        suffix = os.path.splitext(filename)[1] if isinstance(filename, (str, os.PathLike)) else ""
        dateless = DATELESS.get((more.get("format") or suffix[1:]).lower(), {})
        more["metadata"] = {**dateless, **(more.get("metadata") or {})} or None
        with self.figure.look():
            return super().print_figure(filename, *args, **more)


class Picture(Figure):
    """A figure that looks the same wherever it is drawn, shown or saved, whatever the user's settings are.

    Its width is the venue's; `fit` makes it as high as its axes (`room`, inches from top to bottom) and texts need.
    """

    def __init__(self, width: float, room: float):
        self.venue, self.room = _venue.get(), room
        wide = {COLUMN: self.venue.column, PAGE: self.venue.page}[width]
        super().__init__(figsize=(wide, room + 4))
        Canvas(self)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        Canvas(self)

    def look(self) -> AbstractContextManager:
        return look(self.venue)

    def draw(self, renderer: Any) -> None:
        with self.look():
            super().draw(renderer)

    def savefig(self, fname: Any, **more: Any) -> None:
        """As matplotlib's, but in our style: 600 dpi unless `dpi` is given, TrueType fonts, no dates."""
        with self.look():
            super().savefig(fname, **more)

    def _repr_png_(self) -> bytes:
        """For a notebook in which nothing has asked matplotlib yet to show figures."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=self.dpi)
        return file.getvalue()


@contextmanager
def look(venue: Venue) -> Iterator[None]:
    """Our settings upon matplotlib's own, and then the user's again; threads share them, so one draws at a time."""
    with _settings, matplotlib.style.context(["default", STYLE | venue.sizes]):
        yield


def styled(plot: Callable[P, Axes | Figure]) -> Callable[P, Figure]:
    """Draw in the paper's style, make all texts fit, and return the whole figure in which the picture stands."""

    @functools.wraps(plot)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with look(_venue.get()):
            drawn = plot(*args, **kwargs)
            fig = drawn.figure.figure if isinstance(drawn, Axes) else drawn  # twice: axes may stand in a part of one
            spell(fig if isinstance(fig, Picture) else drawn)
            if isinstance(fig, Picture):
                fit(fig)
        return fig

    return wrapper


def subplots(width: float, room: float, *layout: int, **more: Any) -> tuple[Picture, Any]:
    """A new picture with its axes: COLUMN or PAGE wide, the axes together so many inches high."""
    fig = Picture(width, room)
    return fig, fig.subplots(*layout, **more)


def place(ax: Axes | None, width: float, room: float) -> Axes:
    """Where to draw: the given axes, or new ones of so many inches."""
    return subplots(width, room)[1] if ax is None else ax


def output_folder(folder: str | Path | None) -> Path:
    """Where files for a paper are written: figures/ unless told otherwise; made if need be. MmerError if it cannot."""
    try:
        folder = Path(folder).expanduser() if folder else root() / "figures"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no such home
        raise MmerError(f"{folder}: expected a folder that can be made, found: {error}") from None
    return folder


def save_figure(fig: Figure, name: str, folder: str | Path | None = None) -> list[Path]:
    """Write a figure as PDF, SVG and PNG (600 dpi) into figures/; returns the files.

    MmerError: the name is empty or has a separator of paths, or the folder cannot be written.
    """
    if not name.strip(" .") or re.search(r"[/\\\0]", name):
        raise MmerError(f"name of a figure: expected one of a file without folder and ending, found {name!r}")
    files = [output_folder(folder) / f"{name}.{kind}" for kind in ("pdf", "svg", "png")]
    with look(_venue.get()):
        for file in files:
            more = PACKED if file.suffix == ".png" else {"metadata": DATELESS[file.suffix[1:]]}
            try:
                fig.savefig(file, dpi=STYLE["savefig.dpi"], **more)
            except OSError as error:
                raise MmerError(f"{file}: expected a file that can be written, found: {error}") from None
    return files
