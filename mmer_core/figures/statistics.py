"""Pictures of comparisons: pairs, forests, where the variance is, classes, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_core.figures.style import COLUMN, PAGE, SERIES, styled
from mmer_core.stats import Comparison, Difference

MARGIN = "#DDDDDD"


def _margin(ax: Axes, rope: float) -> None:
    ax.axvspan(-100 * rope, 100 * rope, color=MARGIN, zorder=0, label=f"margin ±{100 * rope:g} points")
    ax.axvline(0, color="black", linewidth=0.6)


def _intervals(ax: Axes, c: Difference, y: float, label: bool = False) -> None:
    """Estimate, 95% interval (thin) and 90% interval (thick), in points."""
    names = ("95% interval", "90% interval") if label else (None, None)
    ax.plot([100 * x for x in c.interval95], [y, y], color=SERIES[1], linewidth=1.2, label=names[0])
    ax.plot([100 * x for x in c.interval90], [y, y], color=SERIES[1], linewidth=3.5, label=names[1])
    ax.plot(100 * c.difference, y, "o", color="white", markeredgecolor=SERIES[1], markersize=5)


@styled
def paired(comparison: Comparison, title: str) -> Figure:
    """Left: the scores of both variants in every run. Right: the differences by fold, the interval and the margin."""
    c = comparison
    name = c.metric.replace("_", " ")
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.5), width_ratios=[2, 3])
    for colour, (fold, mine) in zip(SERIES * 9, c.pairs.groupby("fold"), strict=False):
        for n, (_, run) in enumerate(mine.iterrows()):
            scores, label = [100 * run["first"], 100 * run["second"]], None if n else f"fold {fold}"
            left.plot([0, 1], scores, "o-", color=colour, markersize=3, linewidth=0.6, label=label)
    left.set(xticks=[0, 1], xticklabels=[c.first, c.second], xlim=(-0.3, 1.3), ylabel=f"{name} (%)")
    left.legend(loc="center right", bbox_to_anchor=(-0.35, 0.5))

    _margin(right, c.rope)
    folds = list(c.folds["fold"])
    y = c.pairs["fold"].map(folds.index)
    right.plot(100 * c.pairs["difference"], y, "o", color="black", alpha=0.4, markersize=2.5, label="a run")
    right.plot(100 * c.folds["difference"], range(len(folds)), "|", color="black", markersize=9, label="fold mean")
    _intervals(right, c, len(folds) + 0.3, label=True)
    right.set(yticks=[*range(len(folds)), len(folds) + 0.3], yticklabels=[*(f"fold {k}" for k in folds), "all"])
    right.set(xlabel=f"{c.second} − {c.first}, {name} (points)")
    right.invert_yaxis()
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    fig.suptitle(f"{title}: {c.verdict}")
    return fig


@styled
def forest(comparisons: Sequence[Difference], title: str) -> Figure:
    """One row a comparison: estimate with both intervals, the margin shaded, the verdict at the right."""
    n = len(comparisons)
    fig, ax = plt.subplots(figsize=(PAGE, 0.9 + 0.3 * n))
    _margin(ax, comparisons[0].rope)
    for y, c in enumerate(comparisons):
        _intervals(ax, c, y, label=y == 0)
        ax.text(1.02, y, c.verdict, transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    ax.set(yticks=range(n), yticklabels=[f"{c.second} − {c.first}" for c in comparisons], ylim=(n - 0.5, -0.5))
    ax.set(xlabel=f"difference in {comparisons[0].metric.replace('_', ' ')} (points)", title=title)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


@styled
def variance(components: pd.DataFrame, title: str) -> Figure:
    """Variance components of a difference with their 95% intervals, in squared points; negative ones as they are."""
    fig, ax = plt.subplots(figsize=(COLUMN, 1.3))
    for y, row in enumerate(components.itertuples()):
        ax.plot([row.low, row.high], [y, y], color=SERIES[0])
        ax.plot(row.variance, y, "o", color=SERIES[0])
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set(yticks=range(len(components)), yticklabels=components["component"], ylim=(len(components) - 0.5, -0.5))
    ax.set(xlabel="variance (squared points)", title=title)
    return fig


@styled
def class_differences(table: pd.DataFrame, title: str, rope: float) -> Figure:
    """Difference in recall of each class with its 95% interval; filled where Holm's p is below 5%."""
    table = table.dropna(subset="difference")
    fig, ax = plt.subplots(figsize=(COLUMN, 0.9 + 0.22 * len(table)))
    _margin(ax, rope)
    for y, row in enumerate(table.itertuples()):
        ax.plot([100 * row.low, 100 * row.high], [y, y], color=SERIES[0])
        sure = table["p (Holm)"].iloc[y] < 0.05
        ax.plot(100 * row.difference, y, "o", color=SERIES[0], markerfacecolor=SERIES[0] if sure else "white")
    ax.set(yticks=range(len(table)), yticklabels=table["class"], ylim=(len(table) - 0.5, -0.5))
    ax.set(xlabel="difference in recall (points)", title=title)
    return fig


@styled
def confusion_difference(first: np.ndarray, second: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Second minus first confusion matrix, in points of the true class: blue where the second says it more often."""
    share = [100 * m / np.maximum(m.sum(1, keepdims=True), 1) for m in (first, second)]
    change = share[1] - share[0]
    limit = max(1.0, np.abs(change).max())
    size = 1.6 + 0.27 * len(classes)
    fig, ax = plt.subplots(figsize=(size, size - 0.4))
    heat = dict(annot=True, fmt="+.0f", annot_kws={"size": 6.5}, vmin=-limit, vmax=limit, cmap="RdBu", linewidths=0.5)
    sns.heatmap(change, ax=ax, xticklabels=classes, yticklabels=classes, cbar_kws={"label": "points"}, **heat)
    ax.set(xlabel="predicted", ylabel="true", title=title)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return fig


@styled
def calibration(table: pd.DataFrame, title: str) -> Figure:
    """False positives and coverage of each method in simulated studies; dashed: what they promise."""
    methods = list(dict.fromkeys(table["method"]))
    fig, axes = plt.subplots(1, 2, figsize=(PAGE, 0.9 + 0.27 * len(methods)), sharey=True)
    for ax, column, promised in zip(axes, ("false positives", "coverage"), (5, 95), strict=True):
        for (colour, (variances, part)), mark in zip(
            zip(SERIES, table.groupby("variances", sort=False), strict=False), "os", strict=False
        ):
            for size, (r, mine) in zip((3, 4.5, 6), part.groupby("r"), strict=False):
                y = [methods.index(m) + 0.06 * (size - 4.5) + (0.17 if mark == "s" else -0.17) for m in mine["method"]]
                label = f"{variances}, r = {r:g}"
                ax.plot(
                    100 * mine[column], y, mark, color=colour, markersize=size, alpha=0.7, label=label, linestyle=""
                )
        ax.axvline(promised, color="black", linestyle="--", linewidth=0.8)
        ax.set(xlabel=f"{column} (% of studies)", yticks=range(len(methods)), yticklabels=methods)
        ax.grid(axis="y", linewidth=0.3)
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    fig.suptitle(title)
    return fig
