"""Parts of pictures: colours and marks that can be told apart, also in grey; rows, legends."""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from mmer_core.typeset import variants_named

COLOURS = {"self": "#0072B2", "cross": "#D55E00", "both": "#009E73", "uniform": "#666666"}  # Okabe and Ito; these four
SERIES = ("#56B4E9", "#E69F00", "#CC79A7", "#000000")  # mean attention everywhere, and these anything else
MARKS = {"self": "o", "cross": "s", "both": "^", "uniform": "D"}
SHAPES, LINES, HATCHES = "os^DvXP<>", ("-", "--", "-.", (0, (1, 1))), ("", "////", "....", "xxxx")


def series(n: int) -> dict[str, Any]:
    """Colour and mark of the n-th of a series; they repeat, so that every one is drawn."""
    return dict(color=SERIES[n % len(SERIES)], marker=SHAPES[n % len(SHAPES)])


def kinds(variants: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, mark and line of each variant: the colour says its attention; those of one kind differ in the rest."""
    looks: dict[str, dict[str, Any]] = {}
    seen, more = dict.fromkeys([*COLOURS, ""], 0), itertools.cycle("v<>XP*pdhH8")
    for name in variants:
        kind = name.split("_")[0] if name.split("_")[0] in COLOURS else ""
        n = seen[kind]
        mark, colour = next(more) if n or not kind else MARKS[kind], COLOURS.get(kind, SERIES[n % len(SERIES)])
        looks[name] = dict(color=colour, marker=mark, linestyle=LINES[n % len(LINES)])
        seen[kind] += 1
    return looks


def rows(ax: Axes, labels: Sequence[object]) -> None:
    """A row for each label, the first on top."""
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))


def squares(ax: Axes, labels: Sequence[object], start: float = 0) -> None:
    """The same labels for the rows and the columns of a table; those of columns stand upright."""
    places = [start + n for n in range(len(labels))]
    ax.set(xticks=places, yticks=places, xticklabels=labels, yticklabels=labels)
    ax.tick_params(axis="x", rotation=90)


def cell_size(width: float, n: int, ems: float) -> float:
    """The size of type, in points, for texts so many ems wide in the n columns of a picture so many inches wide."""
    return min(matplotlib.rcParams["font.size"], 0.75 * 72 * width / n / ems)


def legend_below(ax: Axes, alone: bool = True, depth: float = 0, handles: Sequence[Any] = ()) -> None:
    """A legend below a picture, in columns that fit; or below axes that stand in another one, `depth` in heights."""
    handles = handles or ax.get_legend_handles_labels()[0]
    longest = max(len(variants_named(str(handle.get_label()))) for handle in handles)
    fig = ax.figure.figure
    ems = 72 * (fig if alone else ax).bbox.width / fig.dpi / matplotlib.rcParams["legend.fontsize"]
    columns = min(len(handles), max(1, int(ems / (0.45 * longest + 4.5))))
    if alone:
        fig.legend(handles=handles, loc="outside lower center", ncols=columns)
    else:
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -depth), ncols=columns)
