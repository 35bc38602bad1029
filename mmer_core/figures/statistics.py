"""Pictures of comparisons: pairs, forests, where the variance is, classes, calibration."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_core.figures.results import heatmap, per_cent
from mmer_core.figures.style import COLUMN, PAGE, SERIES, colour, place, styled, subplots
from mmer_core.stats import Comparison, Difference


def margin(ax: Axes, rope: float) -> None:
    """Shade what is smaller than the margin, and mark zero; in points."""
    ax.axvspan(-100 * rope, 100 * rope, color="#DDDDDD", zorder=0, label=f"margin ±{100 * rope:g} points")
    ax.axvline(0, color="black", linewidth=0.6)


def intervals(ax: Axes, c: Difference, y: float, label: bool = False, colour: str = SERIES[1], mark: str = "o") -> None:
    """Estimate, 95% interval (thin) and 90% interval (thick), in points."""
    names = ("95% interval", "90% interval") if label else (None, None)
    ax.plot([100 * x for x in c.interval95], [y, y], color=colour, linewidth=1.2, label=names[0])
    ax.plot([100 * x for x in c.interval90], [y, y], color=colour, linewidth=3.5, label=names[1])
    ax.plot(100 * c.difference, y, mark, color="white", markeredgecolor=colour, markersize=5)


def legend_below(ax: Axes, alone: bool, depth: float, columns: int) -> Axes:
    """Put the legend below: of a figure of our own, or of axes that stand in another one; `depth` in their heights."""
    if alone:
        ax.figure.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    else:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -depth), ncols=min(columns, 3))
    return ax


@styled
def paired(comparison: Comparison, title: str) -> Figure:
    """Left: the scores of both variants in every run. Right: the differences by fold, the interval and the margin."""
    c = comparison
    name = c.metric.replace("_", " ")
    fig, (left, right) = subplots(PAGE, 2.5, 1, 2, width_ratios=[2, 3])
    for k, (fold, mine) in enumerate(c.pairs.groupby("fold")):
        for n, (_, run) in enumerate(mine.iterrows()):
            scores, label = [100 * run["first"], 100 * run["second"]], None if n else f"fold {fold}"
            left.plot([0, 1], scores, "o-", color=colour(k), markersize=3, linewidth=0.6, label=label)
    left.set(xticks=[0, 1], xticklabels=[c.first, c.second], xlim=(-0.3, 1.3), ylabel=f"{name} (%)")
    left.legend(loc="center right", bbox_to_anchor=(-0.35, 0.5))

    margin(right, c.rope)
    folds = list(c.folds["fold"])
    y = c.pairs["fold"].map(folds.index)
    right.plot(100 * c.pairs["difference"], y, "o", color="black", alpha=0.4, markersize=2.5, label="a run")
    right.plot(100 * c.folds["difference"], range(len(folds)), "|", color="black", markersize=9, label="fold mean")
    intervals(right, c, len(folds) + 0.3, label=True)
    right.set(yticks=[*range(len(folds)), len(folds) + 0.3], yticklabels=[*(f"fold {k}" for k in folds), "all"])
    right.set(xlabel=f"{c.label}, {name} (points)")
    right.invert_yaxis()
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    fig.suptitle(f"{title}: {c.verdict}")
    return fig


@styled
def forest(comparisons: Sequence[Difference], title: str, ax: Axes | None = None) -> Axes:
    """One row a comparison: estimate with both intervals, the margin shaded, the verdict at the right."""
    n, alone = len(comparisons), ax is None
    ax = place(ax, PAGE, 0.9 + 0.3 * n)
    if not comparisons:
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"{title}: no such comparison has been trained.", transform=ax.transAxes, ha="center")
        return ax
    margin(ax, comparisons[0].rope)
    for y, c in enumerate(comparisons):
        intervals(ax, c, y, label=y == 0)
        ax.text(1.02, y, c.verdict, transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    ax.set(yticks=range(n), yticklabels=[c.label for c in comparisons], ylim=(n - 0.5, -0.5))
    ax.set(xlabel=f"difference in {comparisons[0].metric.partition(',')[0].replace('_', ' ')} (points)", title=title)
    return legend_below(ax, alone, 0.3, 3)


@styled
def variance(components: pd.DataFrame, title: str, ax: Axes | None = None) -> Axes:
    """Variance components of a difference with their 95% intervals, in squared points; negative ones as they are."""
    ax = place(ax, COLUMN, 1.3)
    for y, row in enumerate(components.itertuples()):
        ax.plot([row.low, row.high], [y, y], color=SERIES[0])
        ax.plot(row.variance, y, "o", color=SERIES[0])
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set(yticks=range(len(components)), yticklabels=components["component"], ylim=(len(components) - 0.5, -0.5))
    ax.set(xlabel="variance (squared points)", title=title)
    return ax


@styled
def class_differences(table: pd.DataFrame, title: str, rope: float, ax: Axes | None = None) -> Axes:
    """Difference in recall of each class with its 95% interval; filled where Holm's p is below 5%."""
    table = table.dropna(subset="difference")
    ax = place(ax, COLUMN, 0.9 + 0.22 * len(table))
    margin(ax, rope)
    for y, row in enumerate(table.itertuples()):
        ax.plot([100 * row.low, 100 * row.high], [y, y], color=SERIES[0])
        sure = table["p (Holm)"].iloc[y] < 0.05
        ax.plot(100 * row.difference, y, "o", color=SERIES[0], markerfacecolor=SERIES[0] if sure else "white")
    ax.set(yticks=range(len(table)), yticklabels=table["class"], ylim=(len(table) - 0.5, -0.5))
    ax.set(xlabel="difference in recall (points)", title=title)
    return ax


@styled
def confusion_difference(
    first: np.ndarray, second: np.ndarray, classes: Sequence[str], title: str, ax: Axes | None = None
) -> Axes:
    """Second minus first confusion matrix, in points of the true class: blue where the second says it more often."""
    change = per_cent(second) - per_cent(first)
    limit = max(1.0, np.abs(change).max())
    return heatmap(ax, change, classes, title, "points", fmt="+.0f", vmin=-limit, vmax=limit, cmap="RdBu")


@styled
def calibration(table: pd.DataFrame, title: str) -> Figure:
    """False positives and coverage of each method in simulated studies; dashed: what they promise.

    Colour and mark tell the variances that were simulated; the larger the mark, the larger the correlation r.
    """
    methods, levels, correlations = (list(dict.fromkeys(table[c])) for c in ("method", "variances", "r"))
    fig, axes = subplots(PAGE, 0.9 + 0.27 * len(methods), 1, 2, sharey=True)
    for ax, column, promised in zip(axes, ("false positives", "coverage"), (5, 95), strict=True):
        for (variances, r), mine in table.groupby(["variances", "r"], sort=False):
            level, size = levels.index(variances), correlations.index(r) / max(len(correlations) - 1, 1)  # size: 0 to 1
            y = [methods.index(m) + 0.34 * level - 0.17 + 0.18 * size - 0.09 for m in mine["method"]]
            look = dict(color=colour(level), marker="os^D"[level % 4], markersize=3 + 3 * size, alpha=0.7, linestyle="")
            ax.plot(100 * mine[column], y, label=f"{variances}, r = {r:g}", **look)
        ax.axvline(promised, color="black", linestyle="--", linewidth=0.8)
        ax.set(xlabel=f"{column} (% of studies)", yticks=range(len(methods)), yticklabels=methods)
        ax.grid(axis="y", linewidth=0.3)
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    fig.suptitle(title)
    return fig
