"""Numbers as HTML that a reader can point at: runs on a line, confusion as a table, curves as a small picture.

They are quick, sharp at any size, and tell the value, the run and the number of utterances under the pointer.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd

BLUE = (33, 102, 172)  # of the confusion matrices in print


class Scale(NamedTuple):
    """The range of values that a strip shows from its left end to its right."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> "Scale":
        found = [v for v in values if np.isfinite(v)] or [0.0, 1.0]
        reach = max(max(found) - min(found), 1e-9)
        return cls(min(found) - 0.04 * reach, max(found) + 0.04 * reach)

    def place(self, value: float) -> str:
        return f"{100 * min(max((value - self.low) / (self.high - self.low), 0), 1):.1f}%"


def rows(cells: Sequence[Sequence[str]], head: Sequence[str] = (), marked: Sequence[str] = ()) -> str:
    """A table of ready-made HTML cells; `marked` is the class of each row."""
    top = f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>" if head else ""
    body = "".join(
        f'<tr class="{mark}">{"".join(f"<td>{cell}</td>" for cell in row)}</tr>'
        for row, mark in zip(cells, marked or [""] * len(cells), strict=True)
    )
    return f'<table class="mmer-table">{top}{body}</table>'


def runs_strip(runs: pd.DataFrame, metric: str, scale: Scale, colour: str) -> str:
    """The runs of one variant as dots, their mean as a bar; under the pointer the run."""
    dots = "".join(
        f'<i style="left: {scale.place(value)}; background: {colour}"'
        f' title="fold {fold}, seed {seed}: {100 * value:.1f}% of {n} utterances"></i>'
        for fold, seed, value, n in runs[["fold", "seed", metric, "n_test"]].itertuples(index=False)
    )
    mean = runs[metric].mean()
    bar = f'<b style="left: {scale.place(mean)}; background: {colour}" title="mean: {100 * mean:.1f}%"></b>'
    return f'<div class="mmer-strip">{dots}{bar}</div>'


def interval_strip(low: float, estimate: float, high: float, margin: float, scale: Scale, colour: str) -> str:
    """An estimate with its interval, on the band of differences that do not matter; all in the same unit."""

    def span(a: float, b: float) -> str:
        left, right = scale.place(a), scale.place(b)
        return f"left: {left}; width: calc({right} - {left})"

    band = f'<s style="{span(-margin, margin)}" title="the margin: ±{100 * margin:g} points"></s>'
    line = f'<u style="{span(low, high)}; color: {colour}"></u>'
    dot = f'<b style="left: {scale.place(estimate)}; background: {colour}"></b>'
    told = f"{100 * estimate:+.1f} points, 95% interval {100 * low:+.1f} to {100 * high:+.1f}"
    return f'<div class="mmer-strip" title="{told}">{band}{line}{dot}</div>'


def confusion_table(counts: np.ndarray, classes: Sequence[str], runs: int) -> str:
    """The share of each true class (row) that was given each name (column), in per cent; counts under the pointer."""
    names = [escape(name) for name in classes]
    totals, body = counts.sum(1), ""
    for label, row, total in zip(names, counts, totals, strict=True):
        cells = ""
        for predicted, n in zip(names, row, strict=True):
            share = n / max(total, 1)
            told = f"true {label}, predicted {predicted}: {n} of {total} predictions in {runs} runs"
            ink = "white" if share > 0.55 else "black"
            tint = ", ".join(f"{255 - share * (255 - c):.0f}" for c in BLUE)
            cells += f'<td style="background: rgb({tint}); color: {ink}" title="{told}">{100 * share:.0f}</td>'
        body += f"<tr><td>{label}</td>{cells}</tr>"
    head = "".join(f"<th><span>{name}</span></th>" for name in names)
    return f'<table class="mmer-table mmer-matrix"><tr><th></th>{head}</tr>{body}</table>'


def curves_image(curves: pd.DataFrame, colour: str, words: str) -> str:
    """Loss (dotted: train, drawn: dev) and dev accuracy of each run by epoch, with a dot at the epoch that is kept."""
    width, height, last = 232, 118, max(int(curves["epoch"].max()), 2)
    accuracy = 100 * curves["dev_accuracy"]
    highest = float(curves[["train_loss", "dev_loss"]].max().max())
    left = _Axes(30, 80, Scale(0, max(highest, 1e-9)), last, height, "loss")
    right = _Axes(142, 82, Scale.around([accuracy.min(), accuracy.max()]), last, height, "dev accuracy (%)")
    drawn = left.frame() + right.frame()
    for _, run in curves.groupby(["fold", "seed"]):
        for name, dash in (("train_loss", "1.5 2"), ("dev_loss", "")):
            drawn += left.line(run["epoch"], run[name], colour, dash)
        drawn += right.line(run["epoch"], 100 * run["dev_accuracy"], colour, "")
        best = run.loc[run["dev_accuracy"].idxmax()]
        x, y = right.at(best["epoch"], 100 * best["dev_accuracy"])
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>'
    text = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="10" '
    text += f'font-family="sans-serif">{drawn}</svg>'
    data = base64.b64encode(text.encode()).decode()
    return f'<img alt="{escape(words)}" width="{width}" height="{height}" src="data:image/svg+xml;base64,{data}">'


class _Axes(NamedTuple):
    """One small diagram by epoch."""

    left: float
    width: float
    scale: Scale
    last: int
    height: float
    title: str

    def at(self, epoch: float, value: float) -> tuple[float, float]:
        share = (value - self.scale.low) / (self.scale.high - self.scale.low)
        return self.left + self.width * (epoch - 1) / (self.last - 1), self.height - 16 - share * (self.height - 34)

    def line(self, epochs: Iterable[float], values: Iterable[float], colour: str, dash: str) -> str:
        points = " ".join("{:.1f},{:.1f}".format(*self.at(*point)) for point in zip(epochs, values, strict=True))
        look = f'stroke="{colour}" stroke-opacity="0.55" stroke-dasharray="{dash}"'
        return f'<polyline points="{points}" fill="none" {look}/>'

    def frame(self) -> str:
        x0, y0 = self.at(1, self.scale.low)
        x1, y1 = self.at(self.last, self.scale.high)
        lines = f'<path d="M{x0:.0f} {y1:.0f}V{y0:.0f}H{x1:.0f}" fill="none" stroke="black"/>'
        texts = [(x0 - 3, y1 + 8, "end", f"{self.scale.high:.2g}"), (x0 - 3, y0, "end", f"{self.scale.low:.2g}")]
        texts += [(x0, y0 + 12, "middle", "1"), (x1, y0 + 12, "middle", str(self.last))]
        texts += [((x0 + x1) / 2, y0 + 13, "middle", "epoch"), ((x0 + x1) / 2, 11, "middle", self.title)]
        return lines + "".join(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{a}">{t}</text>' for x, y, a, t in texts)
