"""Pictures of comparisons: pairs, forests, where the variance is, classes, calibration."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_core.figures.parts import legend_below, rows, series
from mmer_core.figures.results import heatmap, per_cent
from mmer_core.figures.style import COLUMN, PAGE, place, styled, subplots
from mmer_core.stats import Comparison, Difference


def margin(ax: Axes, rope: float) -> None:
    """Shade what is smaller than the margin, and mark zero; in points."""
    ax.axvspan(-100 * rope, 100 * rope, color="#DDDDDD", zorder=0, label=f"margin ±{100 * rope:g} points")
    ax.axvline(0, color="black", linewidth=0.6)


def intervals(ax: Axes, c: Difference, y: float, label: bool = False, mark: str = "o") -> None:
    """Estimate, 95% interval (thin) and 90% interval (thick), in points."""
    names = ("95% interval", "90% interval") if label else (None, None)
    ax.plot([100 * x for x in c.interval95], [y, y], color="black", linewidth=1.2, label=names[0])
    ax.plot([100 * x for x in c.interval90], [y, y], color="black", linewidth=3.5, label=names[1])
    ax.plot(100 * c.difference, y, mark, color="white", markeredgecolor="black", markersize=5)


@styled
def paired(comparison: Comparison, title: str) -> Figure:
    """Left: the scores of both variants in every run. Right: the differences by fold, the interval and the margin."""
    c = comparison
    name = c.metric.replace("_", " ")
    folds = list(c.folds["fold"])
    fig, (left, right) = subplots(PAGE, max(1.5, 0.17 * (len(folds) + 1)), 1, 2, width_ratios=[2, 3])
    for k, (fold, mine) in enumerate(c.pairs.groupby("fold")):
        for n, (_, run) in enumerate(mine.iterrows()):
            look = dict(markersize=3, linewidth=0.6, markeredgecolor="black", markeredgewidth=0.3, **series(k))
            left.plot([0, 1], [100 * run["first"], 100 * run["second"]], label=None if n else f"fold {fold}", **look)
    left.set(xticks=[0, 1], xticklabels=[c.first, c.second], xlim=(-0.3, 1.3), ylabel=f"{name} (%)")
    if len(folds) <= 40:
        left.legend(loc="center right", bbox_to_anchor=(-0.35, 0.5), labelspacing=0.2)

    margin(right, c.rope)
    y = c.pairs["fold"].map(folds.index)
    right.plot(100 * c.pairs["difference"], y, "o", color="black", alpha=0.4, markersize=2.5, label="a run")
    right.plot(100 * c.folds["difference"], range(len(folds)), "|", color="black", markersize=9, label="fold mean")
    intervals(right, c, len(folds), label=True)
    rows(right, [*(f"fold {k}" for k in folds), "all"])
    right.set_xlabel(f"{c.label}, {name} (points)")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    fig.suptitle(f"{title}: {c.verdict}")
    return fig


@styled
def forest(comparisons: Sequence[Difference], title: str, ax: Axes | None = None) -> Axes:
    """One row a comparison: estimate with both intervals, the margin shaded, the verdict at the right."""
    n, alone = len(comparisons), ax is None
    ax = place(ax, PAGE, max(0.6, 0.22 * n))
    if not comparisons:
        ax.set_axis_off()
        ax.text(
            0.5,
            0.5,
            f"{title}: no such comparison has been trained.",
            transform=ax.transAxes,
            ha="center",
            in_layout=False,
        )
        return ax
    margin(ax, comparisons[0].rope)
    for y, c in enumerate(comparisons):
        intervals(ax, c, y, label=y == 0)
        ax.text(1.02, y, c.verdict, transform=ax.get_yaxis_transform(), va="center")
    rows(ax, [c.label for c in comparisons])
    ax.set(xlabel=f"difference in {comparisons[0].metric.partition(',')[0].replace('_', ' ')} (points)", title=title)
    legend_below(ax, alone, 0.3)
    return ax


@styled
def forests(sets: Mapping[str, Sequence[Difference]], title: str) -> Figure:
    """The same comparisons with several sets of features, one forest above the other on one scale."""
    rooms = [max(0.6, 0.22 * len(made)) for made in sets.values()]
    fig, axes = subplots(PAGE, sum(rooms), len(sets), 1, sharex=True, height_ratios=rooms, squeeze=False)
    for ax, (name, made) in zip(axes[:, 0], sets.items(), strict=True):
        forest(made, name, ax)
        ax.get_legend().remove()
    for ax in axes[:-1, 0]:
        ax.set_xlabel("")
    fig.suptitle(title)
    legend_below(axes[-1, 0], handles=axes[0, 0].get_legend_handles_labels()[0])
    return fig


@styled
def variance(components: pd.DataFrame, title: str, ax: Axes | None = None) -> Axes:
    """Variance components of a difference with their 95% intervals, in squared points; negative ones as they are."""
    ax = place(ax, COLUMN, 0.2 * len(components))
    for y, row in enumerate(components.itertuples()):
        ax.plot([row.low, row.high], [y, y], color="black")
        ax.plot(row.variance, y, "o", color="black")
    ax.axvline(0, color="black", linewidth=0.6)
    rows(ax, components["component"])
    ax.set(xlabel="variance (squared points)", title=title)
    return ax


@styled
def class_differences(table: pd.DataFrame, title: str, rope: float, ax: Axes | None = None) -> Axes:
    """Difference in recall of each class with its 95% interval; filled where Holm's p is below 5%."""
    table = table.dropna(subset="difference")
    ax = place(ax, COLUMN, 0.2 * len(table))
    margin(ax, rope)
    for y, row in enumerate(table.itertuples()):
        ax.plot([100 * row.low, 100 * row.high], [y, y], color="black")
        sure = table["p (Holm)"].iloc[y] < 0.05
        ax.plot(100 * row.difference, y, "o", color="black", markerfacecolor="black" if sure else "white")
    rows(ax, table["class"])
    ax.set(xlabel="difference in recall (points)", title=title)
    return ax


@styled
def confusion_difference(
    first: np.ndarray, second: np.ndarray, classes: Sequence[str], title: str, ax: Axes | None = None
) -> Axes:
    """Second minus first confusion matrix, in points of the true class: blue where the second says it more often."""
    change = per_cent(second) - per_cent(first)
    limit = max(1.0, np.abs(change).max())
    return heatmap(ax, change, classes, title, "points", "+.0f", vmin=-limit, vmax=limit, cmap="RdBu")


@styled
def calibration(table: pd.DataFrame, title: str) -> Figure:
    """False positives and coverage of each method in simulated studies; dashed: what they promise.

    Colour and mark tell the variances that were simulated; the larger the mark, the larger the correlation r.
    """
    methods, levels, correlations = (list(dict.fromkeys(table[c])) for c in ("method", "variances", "r"))
    marks = len(levels) * len(correlations)  # of a method, one above the other
    fig, axes = subplots(PAGE, len(methods) * max(0.2, 0.055 * marks), 1, 2, sharey=True)
    for ax, column, promised in zip(axes, ("false positives", "coverage"), (5, 95), strict=True):
        for n, ((variances, r), mine) in enumerate(table.groupby(["variances", "r"], sort=False)):
            level, size = levels.index(variances), correlations.index(r) / max(len(correlations) - 1, 1)  # size: 0 to 1
            y = [methods.index(m) - 0.4 + 0.8 * (n + 0.5) / marks for m in mine["method"]]
            look = dict(markersize=2.5 + 2.5 * size, linestyle="", markeredgecolor="black", markeredgewidth=0.3)
            ax.plot(100 * mine[column], y, label=f"{variances}, r = {r:g}", **series(level), **look)
        ax.axvline(promised, color="black", linestyle="--", linewidth=0.8)
        ax.set_xlabel(f"{column} (% of studies)")
        rows(ax, methods)
        ax.set_yticks(np.arange(len(methods) - 1) + 0.5, minor=True)
        ax.grid(axis="y", which="minor", linewidth=0.3)
        ax.tick_params(axis="y", which="minor", length=0)
    legend_below(axes[0])
    fig.suptitle(title)
    return fig
