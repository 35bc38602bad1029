"""The one style of all pictures: IEEE column width, 8 point type, colours that the colour-blind can tell apart."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmer_core.paths import root

P = ParamSpec("P")
COLUMN, PAGE = 3.5, 7.16  # inches: one and two columns of an IEEE paper
COLOURS = {"self": "#0072B2", "cross": "#D55E00", "both": "#009E73", "uniform": "#666666"}  # Okabe and Ito
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#000000")
MARKS = {"self": "o", "cross": "s", "both": "^", "uniform": "D"}
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "figure.titlesize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.prop_cycle": plt.cycler(color=SERIES),
    "figure.dpi": 116,
    "text.parse_math": False,  # a "$" in a transcript is a dollar
    "figure.constrained_layout.use": True,
    "lines.linewidth": 1,
    "pdf.fonttype": 42,  # fonts are embedded whole, as publishers ask
    "svg.fonttype": "path",
}


def styled(plot: Callable[P, Axes | Figure]) -> Callable[P, Figure]:
    """Draw in the paper's style, and return the whole figure in which the picture stands."""

    @functools.wraps(plot)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            drawn = plot(*args, **kwargs)
        return drawn.figure.figure if isinstance(drawn, Axes) else drawn  # twice: axes may stand in a part of one

    return wrapper


def subplots(width: float, height: float, *layout: int, **more: Any) -> tuple[Figure, Any]:
    """A new figure of so many inches with its axes; closed at once, so that a notebook shows it no second time."""
    fig, axes = plt.subplots(*layout, figsize=(width, height), **more)
    plt.close(fig)
    FigureCanvasAgg(fig)  # seaborn draws once to see which labels overlap; a closed figure may have lost its canvas
    return fig, axes


def place(ax: Axes | None, width: float, height: float) -> Axes:
    """Where to draw: the given axes, or those of a new figure of so many inches."""
    return subplots(width, height)[1] if ax is None else ax


def colour(n: int) -> str:
    """That of the n-th of a series; they repeat, so that every one is drawn."""
    return SERIES[n % len(SERIES)]


def output_folder(folder: str | Path | None) -> Path:
    """Where files for a paper are written: figures/ unless told otherwise; made if need be."""
    folder = Path(folder) if folder else root() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_figure(fig: Figure, name: str, folder: str | Path | None = None) -> list[Path]:
    """Write a figure as PDF, SVG and PNG (300 dpi) into figures/, fonts embedded; returns the files."""
    files = [output_folder(folder) / f"{name}.{kind}" for kind in ("pdf", "svg", "png")]
    with plt.rc_context(STYLE):
        for file in files:
            date = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix)  # same figure, same file
            fig.savefig(file, dpi=300, metadata=date)
    return files
