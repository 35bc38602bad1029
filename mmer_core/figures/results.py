"""Pictures of finished runs: learning curves, scores, confusion, attention weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_core.corpus import Corpus
from mmer_core.explain import AttentionMap
from mmer_core.figures.style import COLOURS, COLUMN, MARKS, PAGE, SERIES, colour, place, styled, subplots
from mmer_core.metrics import published_results


@styled
def learning_curves(curves: pd.DataFrame, variants: Sequence[str], title: str) -> Figure:
    """Loss and dev accuracy by epoch: a line for each run, a dot at the epoch whose weights are kept."""
    fig, (left, right) = subplots(PAGE, 2.2, 1, 2)
    for v, variant in enumerate(variants):
        mine = curves[curves["variant"] == variant]
        for n, (_, run) in enumerate(mine.groupby(["fold", "seed"])):
            line = dict(color=colour(v), linewidth=0.7)
            left.plot(run["epoch"], run["train_loss"], ":", alpha=0.6, **line)
            left.plot(run["epoch"], run["dev_loss"], "-", alpha=0.6, **line)
            right.plot(run["epoch"], 100 * run["dev_accuracy"], "-", alpha=0.5, **line)
            best, label = run.loc[run["dev_accuracy"].idxmax()], None if n else variant
            right.plot(best["epoch"], 100 * best["dev_accuracy"], "o", color=colour(v), markersize=3, label=label)
    left.plot([], [], "k:", label="train")
    left.plot([], [], "k-", label="dev")
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)")
    right.set(xlabel="epoch", ylabel="dev accuracy (%)")
    for ax in (left, right)[: 1 + (len(variants) > 1)]:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
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
    fig, axes = subplots(PAGE, 0.9 + 0.2 * len(variants), 1, 2, sharey=True)
    for ax, metric, chance in zip(axes, ("accuracy", "balanced_accuracy"), (majority, 1 / classes), strict=True):
        for y, name in enumerate(variants):
            mine = results[results["variant"] == name]
            look = dict(color=COLOURS[mine["attention"].iloc[0]], marker=MARKS[mine["attention"].iloc[0]], linestyle="")
            ax.plot(100 * mine[metric], np.full(len(mine), y), markersize=2.5, alpha=0.45, markeredgewidth=0, **look)
            ax.plot(100 * mine[metric].mean(), y, markersize=6, markeredgecolor="white", **look)
            if name in published.index:
                ax.plot(100 * published.loc[name, metric], y, "d", markersize=5, markerfacecolor="none", color="black")
        ax.axvline(100 * chance, color="black", linestyle=":")
        ax.set(xlabel=f"{metric.replace('_', ' ')} (%)", yticks=range(len(variants)))
        ax.set_yticklabels([(marked or {}).get(name, name) for name in variants])
        ax.grid(axis="y", linewidth=0.3)
    axes[0].invert_yaxis()
    axes[0].plot([], [], "o", color="black", markersize=2.5, label="a run")
    axes[0].plot([], [], "o", color="black", markersize=6, label="mean of runs")
    axes[0].plot([], [], "d", color="black", markerfacecolor="none", markersize=5, label="published, on IEMOCAP")
    axes[0].plot([], [], ":", color="black", label="always the largest class")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    fig.suptitle(corpus.title)
    return fig


@styled
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str, ax: Axes | None = None) -> Axes:
    """Confusion matrix: the share of each true class (row) that was given each name (column), in per cent."""
    look = dict(fmt=".0f", vmin=0, vmax=100, cmap="Blues")
    return heatmap(ax, per_cent(matrix), classes, title, "% of the true class", **look)


def per_cent(matrix: np.ndarray) -> np.ndarray:
    """A confusion matrix as per cent of each true class."""
    return 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


def heatmap(ax: Axes | None, table: np.ndarray, classes: Sequence[str], title: str, unit: str, **look: object) -> Axes:
    """A table of classes by classes as colours with numbers in them."""
    size = 1.6 + 0.27 * len(classes)
    ax = place(ax, size, size - 0.4)
    look |= dict(annot=True, annot_kws={"size": 6.5}, linewidths=0.5, cbar_kws={"label": unit})
    sns.heatmap(table, ax=ax, xticklabels=classes, yticklabels=classes, **look)
    ax.set(xlabel="predicted", ylabel="true", title=title)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return ax


@styled
def attention_map(attention: AttentionMap, head: int | None, title: str) -> Figure:
    """Attention weights of one head (None: mean of heads): queries by keys, and the column mean below."""
    queries, keys = attention.queries, attention.keys
    weights = attention.weights.mean(0) if head is None else attention.weights[head]
    mean = attention.column_mean.mean(0) if head is None else attention.column_mean[head]
    wide = len(keys.labels) > 26
    look = dict(sharex=True, height_ratios=[4, 1], gridspec_kw={"hspace": 0.02})
    fig, (top, low) = subplots(PAGE if wide else COLUMN, 3.6, 2, 1, **look)
    image = top.imshow(weights, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
    fig.colorbar(image, ax=(top, low), label="attention weight", fraction=0.05)
    low.bar(range(len(mean)), mean, color=SERIES[0], width=0.9)
    low.axhline(1 / len(mean), color="black", linestyle=":", linewidth=0.8)
    low.set(xlabel=f"key: {keys.title}", ylabel="column\nmean", ylim=(0, None))
    top.set(ylabel=f"query: {queries.title}", title=title)
    for axis, labels, most in ((low.xaxis, keys.labels, 60 if wide else 26), (top.yaxis, queries.labels, 26)):
        step = -(-len(labels) // most)  # every n-th is labelled where there are more than fit
        axis.set_ticks(range(0, len(labels), step), labels[::step])
    low.tick_params(axis="x", rotation=90)
    top.tick_params(axis="x", bottom=False)
    return fig
