"""Pictures of finished runs: learning curves, scores, confusion."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mmer_core.corpus import Corpus
from mmer_core.figures.style import COLOURS, MARKS, PAGE, SERIES, styled
from mmer_core.metrics import published_results


@styled
def learning_curves(curves: pd.DataFrame, variants: Sequence[str], title: str) -> Figure:
    """Loss and dev accuracy by epoch: a line for each run, a dot at the epoch whose weights are kept."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.2))
    for colour, variant in zip(SERIES, variants, strict=False):
        mine = curves[curves["variant"] == variant]
        for n, (_, run) in enumerate(mine.groupby(["fold", "seed"])):
            left.plot(run["epoch"], run["train_loss"], ":", color=colour, alpha=0.6, linewidth=0.7)
            left.plot(run["epoch"], run["dev_loss"], "-", color=colour, alpha=0.6, linewidth=0.7)
            right.plot(run["epoch"], 100 * run["dev_accuracy"], "-", color=colour, alpha=0.5, linewidth=0.7)
            best = run.loc[run["dev_accuracy"].idxmax()]
            right.plot(
                best["epoch"], 100 * best["dev_accuracy"], "o", color=colour, markersize=3, label=None if n else variant
            )
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
def scores(results: pd.DataFrame, corpus: Corpus) -> Figure:
    """Accuracy and balanced accuracy of each variant: small marks are runs, large ones means, diamonds the paper's.

    Dotted lines: the scores of always naming the largest class of the corpus.

    Args:
        results: from `Study.results()`.
    """
    majority, classes = corpus.report()["classes"]["share"].max(), len(corpus.classes)
    variants = list(dict.fromkeys(results["variant"]))
    published = published_results().set_index("variant")
    fig, axes = plt.subplots(1, 2, figsize=(PAGE, 0.9 + 0.2 * len(variants)), sharey=True)
    for ax, metric, chance in zip(axes, ("accuracy", "balanced_accuracy"), (majority, 1 / classes), strict=True):
        for y, name in enumerate(variants):
            mine = results[results["variant"] == name]
            look = dict(color=COLOURS[mine["attention"].iloc[0]], marker=MARKS[mine["attention"].iloc[0]], linestyle="")
            ax.plot(100 * mine[metric], np.full(len(mine), y), markersize=2.5, alpha=0.45, markeredgewidth=0, **look)
            ax.plot(100 * mine[metric].mean(), y, markersize=6, markeredgecolor="white", **look)
            if name in published.index:
                ax.plot(100 * published.loc[name, metric], y, "d", markersize=5, markerfacecolor="none", color="black")
        ax.axvline(100 * chance, color="black", linestyle=":")
        ax.set(xlabel=f"{metric.replace('_', ' ')} (%)", yticks=range(len(variants)), yticklabels=variants)
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
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Confusion matrix: the share of each true class (row) that was given each name (column), in per cent."""
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = 1.6 + 0.27 * len(classes)
    fig, ax = plt.subplots(figsize=(size, size - 0.4))
    heat = dict(annot=True, fmt=".0f", annot_kws={"size": 6.5}, vmin=0, vmax=100, cmap="Blues", linewidths=0.5)
    sns.heatmap(
        share, ax=ax, xticklabels=classes, yticklabels=classes, cbar_kws={"label": "% of the true class"}, **heat
    )
    ax.set(xlabel="predicted", ylabel="true", title=title)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return fig
