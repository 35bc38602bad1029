"""Pictures of finished runs: learning curves, scores, confusion."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_core.corpus import Corpus
from mmer_core.figures.parts import COLOURS, MARKS, cell_size, kinds, legend_below, rows, squares
from mmer_core.figures.style import COLUMN, PAGE, place, styled, subplots
from mmer_core.metrics import published_results


@styled
def learning_curves(curves: pd.DataFrame, variants: Sequence[str], title: str) -> Figure:
    """Loss and dev accuracy by epoch: a line for each run, a mark at the epoch whose weights are kept."""
    fig, (left, right) = subplots(PAGE, 1.7, 1, 2)
    for variant, look in kinds(variants).items():
        mine, dot = curves[curves["variant"] == variant], look | dict(markersize=3.5, linestyle="")
        line = look | dict(marker="", linewidth=0.7, alpha=0.6)
        for n, (_, run) in enumerate(mine.groupby(["fold", "seed"])):
            left.plot(run["epoch"], run["train_loss"], **line | {"linestyle": ":"})
            left.plot(run["epoch"], run["dev_loss"], **line)
            right.plot(run["epoch"], 100 * run["dev_accuracy"], **line)
            best, label = run.loc[run["dev_accuracy"].idxmax()], None if n else variant
            left.plot(best["epoch"], best["dev_loss"], **dot)
            right.plot(best["epoch"], 100 * best["dev_accuracy"], label=label, **dot)
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="dotted: train; other lines: dev")
    right.set(xlabel="epoch", ylabel="dev accuracy (%)", title="mark: the epoch whose weights are kept")
    legend_below(right)
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    fig.suptitle(title)
    return fig


@styled
def scores(results: pd.DataFrame, corpus: Corpus, marked: Mapping[str, str] | None = None) -> Figure:
    """Accuracy and balanced accuracy of each variant: small marks are runs, large ones means, diamonds the paper's.

    Dotted lines: the scores of always naming the largest class of the corpus. `results` is `Study.results()`;
    `marked` names variants as the picture shall, such as with the number of their runs.
    """
    majority, classes = corpus.report()["classes"]["share"].max(), len(corpus.classes)
    variants = list(dict.fromkeys(results["variant"]))
    published = published_results().set_index("variant")
    fig, axes = subplots(PAGE, 0.2 * len(variants), 1, 2, sharey=True)
    for ax, metric, chance in zip(axes, ("accuracy", "balanced_accuracy"), (majority, 1 / classes), strict=True):
        for y, name in enumerate(variants):
            mine = results[results["variant"] == name]
            look = dict(color=COLOURS[mine["attention"].iloc[0]], marker=MARKS[mine["attention"].iloc[0]], linestyle="")
            ax.plot(100 * mine[metric], np.full(len(mine), y), markersize=2.5, alpha=0.45, markeredgewidth=0, **look)
            ax.plot(100 * mine[metric].mean(), y, markersize=6, markeredgecolor="white", **look)
            if name in published.index:
                ax.plot(100 * published.loc[name, metric], y, "d", markersize=5, markerfacecolor="none", color="black")
        ax.axvline(100 * chance, color="black", linestyle=":")
        ax.set_xlabel(f"{metric.replace('_', ' ')} (%)")
        rows(ax, [(marked or {}).get(name, name) for name in variants])
        ax.grid(axis="y", linewidth=0.3)
    marks = (("o", 2.5, "full", "a run"), ("o", 6, "full", "mean of runs"), ("d", 5, "none", "published, on IEMOCAP"))
    for mark, size, fill, label in (*marks, (":", None, "full", "always the largest class")):
        axes[0].plot([], [], mark, color="black", markersize=size, fillstyle=fill, label=label)
    legend_below(axes[0])
    fig.suptitle(corpus.title)
    return fig


@styled
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str, ax: Axes | None = None) -> Axes:
    """Confusion matrix: the share of each true class (row) that was given each name (column), in per cent."""
    look = dict(vmin=0, vmax=100, cmap="Blues")
    return heatmap(ax, per_cent(matrix), classes, title, "% of the true class", ".0f", **look)


def per_cent(matrix: np.ndarray) -> np.ndarray:
    """A confusion matrix as per cent of each true class."""
    return 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


def heatmap(
    ax: Axes | None, table: np.ndarray, classes: Sequence[str], title: str, unit: str, form: str, **look: object
) -> Axes:
    """A table of classes by classes as colours with numbers in them; no minus before a zero."""
    n, width = len(classes), COLUMN if len(classes) <= 8 else PAGE
    ax, size = place(ax, width, 0.24 * n), cell_size(width, n, 2.4)
    numbers = [[f"{x.round() + 0:{form}}".replace("-", "−") for x in row] for row in table]
    look |= dict(annot=numbers if size > 4 else False, fmt="", annot_kws={"size": size, "in_layout": False})
    bar = dict(label=unit, use_gridspec=False)
    sns.heatmap(table, ax=ax, xticklabels=False, yticklabels=False, linewidths=0.5, cbar_kws=bar, **look)
    squares(ax, classes, 0.5)
    ax.set(xlabel="predicted", ylabel="true", title=title)
    return ax
