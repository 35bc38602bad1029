"""Texts that can be read: lines are broken where they end, and a picture is as high as its labels need."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mmer_core.figures.letters import has_words

HIGHEST, UPRIGHT = 9.0, 1.3  # inches: of a printed page, and of a line of a label that stands upright


def fit(fig: Any) -> None:
    """Break the texts of a `Picture` into lines that fit, and make it so high that its axes have their `room`.

    To lay a picture out takes as long as to draw it, so that is done as rarely as can be: not by matplotlib, which
    does so at each drawing, and not again after texts that fit as they were.
    """
    axes = [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]
    across, layout = axes[0].get_subplotspec().get_gridspec().ncols, ConstrainedLayoutEngine()
    for ax in axes:
        _break_ticks(ax.yaxis, 0.36 * fig.bbox.width / across)
        if ax.xaxis.get_tick_params().get("labelrotation") == 90:
            _break_ticks(ax.xaxis, UPRIGHT * fig.dpi)
    layout.execute(fig)
    if _break_words(fig, axes, across):
        layout.execute(fig)
    high = _height(axes)
    room = max(fig.room, 1.02 * high * max(_crowding(ax.yaxis) for ax in axes))
    fig.set_figheight(min(HIGHEST, fig.get_figheight() + room - high))  # what stands around the axes stays as high
    layout.execute(fig)
    for ax, axis in itertools.product(axes, ("xaxis", "yaxis")):
        _thin(getattr(ax, axis))


def _break_words(fig: Any, axes: list[Axes], across: int) -> bool:
    """Break what stands around axes that have their width but are too high as yet; whether there was any need."""
    spread, changed = _height(axes) / fig.room, False
    for ax in fig.axes:
        box = ax.get_window_extent()
        middle = (box.x0 + box.x1) / 2
        wide = box.width if across > 1 else 1.75 * min(middle, fig.bbox.width - middle)
        lines = [(ax.title, wide), (ax.xaxis.label, wide), (ax.yaxis.label, box.height / spread)]
        for text, room in lines + [(text, wide) for text in ax.texts if not ax.axison]:
            changed |= _break(text, room)
    if fig._suptitle:
        changed |= _break(fig._suptitle, 0.97 * fig.bbox.width)
    for ax in axes:
        if _crowding(ax.xaxis) > 1 and has_words(ax.xaxis):  # labels that do not stand side by side stand upright
            ax.tick_params(axis="x", rotation=90)
            _break_ticks(ax.xaxis, UPRIGHT * fig.dpi)
            changed = True
    return changed


def _height(axes: list[Axes]) -> float:
    """Inches from the top to the bottom of some axes."""
    boxes = [ax.get_window_extent() for ax in axes]
    return (max(box.y1 for box in boxes) - min(box.y0 for box in boxes)) / axes[0].figure.figure.dpi


def broken(text: str, room: float, wide: Callable[[str], float]) -> str:
    """A text in lines that are at most `room` wide: broken behind spaces, underscores and hyphens, else anywhere."""
    lines = []
    for line in text.split("\n"):
        words = [line] if wide(line) <= room else re.findall(r"[^\s_-]*[\s_-]|[^\s_-]+", line)
        lines.append("")
        for piece in itertools.chain(*(word if wide(word.rstrip()) > room else [word] for word in words)):
            if lines[-1] and wide((lines[-1] + piece).rstrip()) > room:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _measure(text: Any) -> Callable[[str], float]:
    """The width in pixels of a line in the font of a text."""
    renderer = text.figure.figure.canvas.get_renderer()
    return lambda line: renderer.get_text_width_height_descent(line, text.get_fontproperties(), False)[0]


def _break(text: Text, room: float) -> bool:
    before = text.get_text()
    text.set_text(broken(before, room, _measure(text)))
    return text.get_text() != before


def _break_ticks(axis: Axis, room: float) -> None:
    labels = axis.get_ticklabels() if has_words(axis) else []
    new = [broken(label.get_text(), room, _measure(label)) for label in labels]
    if any("\n" in label for label in new):
        axis.set_ticklabels(new)


def _labels(axis: Axis) -> list[Bbox]:
    """Where the labels of the ticks stand that can be seen."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=False)  # no labels, where other axes have them
    return [label.get_window_extent() for label, at in ticks if label.get_text() and low <= at <= high]


def _crowding(axis: Axis) -> float:
    """How much more room neighbouring labels need than they have: above 1 they overlap."""
    low, high = ("x0", "x1") if isinstance(axis, XAxis) else ("y0", "y1")
    spans = sorted((getattr(box, low), getattr(box, high)) for box in _labels(axis))
    pairs = itertools.pairwise(spans)
    return max((((b1 - b0 + a1 - a0) + 4) / (b1 + b0 - a1 - a0) for (a0, a1), (b0, b1) in pairs), default=0)


def _thin(axis: Axis) -> None:
    """Label every n-th tick only, where there is no room for more."""
    if (step := math.ceil(_crowding(axis))) > 1:
        labels = [label.get_text() for label in axis.get_ticklabels()]
        axis.set_ticks(axis.get_ticklocs()[::step], labels[::step] if has_words(axis) else None)
