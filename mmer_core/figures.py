"""Every picture, in one style: IEEE column width, 8 point type, colours that the colour-blind can tell apart.

Plot functions take tidy frames, corpora or results and return a closed matplotlib Figure: a notebook shows it as the
last line of a cell, `save_figure` writes it. Scores are shown in per cent, differences in points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mmer_core.corpus import Corpus
from mmer_core.explain import AttentionMap
from mmer_core.metrics import published_results
from mmer_core.paths import root
from mmer_core.stats import Comparison

COLUMN, PAGE = 3.5, 7.16  # inches: one and two columns of an IEEE paper
COLOURS = {"self": "#0072B2", "cross": "#D55E00", "both": "#009E73", "uniform": "#666666"}  # Okabe and Ito
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#000000")
MARKS = {"self": "o", "cross": "s", "both": "^", "uniform": "D"}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=SERIES),
    "figure.titlesize": 8,
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "lines.linewidth": 1,
    "pdf.fonttype": 42,  # fonts are embedded whole, as publishers ask
    "svg.fonttype": "path",
}


def styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the paper's style, and close the figure so that a notebook shows it once."""

    @functools.wraps(plot)
    def wrapper(*args, **kwargs) -> Figure:
        with plt.rc_context(STYLE):
            fig = plot(*args, **kwargs)
            plt.close(fig)
        return fig

    return wrapper


def save_figure(fig: Figure, name: str, folder: str | Path | None = None) -> list[Path]:
    """Write a figure as PDF, SVG and PNG (300 dpi) into figures/, fonts embedded; returns the files."""
    folder = Path(folder) if folder else root() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.{kind}" for kind in ("pdf", "svg", "png")]
    with plt.rc_context(STYLE):
        for file in files:
            date = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix)  # same figure, same file
            fig.savefig(file, dpi=300, metadata=date)
    return files


# --------------------------------------------------------------------------------------------------- the corpus


@styled
def class_sizes(corpus: Corpus) -> Figure:
    """Utterances of each class."""
    frame = corpus.report()["classes"]
    fig, ax = plt.subplots(figsize=(COLUMN, 0.7 + 0.22 * len(frame)))
    bars = ax.barh(frame["class"], frame["utterances"], color=SERIES[0])
    ax.bar_label(
        bars, [f"{n} ({s:.0%})" for n, s in zip(frame["utterances"], frame["share"], strict=True)], padding=2, size=7
    )
    ax.set(xlabel="utterances", title=corpus.title, xlim=(0, 1.25 * frame["utterances"].max()))
    ax.invert_yaxis()
    return fig


@styled
def fold_sizes(corpus: Corpus) -> Figure:
    """Utterances in the parts of each fold, and those left out because they have no video."""
    frame = corpus.report()["folds"].set_index("fold")
    fig, ax = plt.subplots(figsize=(COLUMN, 2))
    frame.plot.bar(stacked=True, ax=ax, color=[SERIES[0], SERIES[5], SERIES[4], SERIES[7]], rot=0, width=0.7)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set(ylabel="utterances", title=corpus.title)
    return fig


@styled
def lengths(corpus: Corpus) -> Figure:
    """How many of its time steps an utterance fills, in each modality."""
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 1.9), sharey=True)
    for ax, (name, n) in zip(axes, corpus.lengths.items(), strict=True):
        full = getattr(corpus.sizes, name).length
        width = -(-full // 40)
        sns.histplot(x=n, binwidth=width, binrange=(0.5, full + width), ax=ax, color=SERIES[0], linewidth=0.3)
        ax.axvline(n.mean(), color=SERIES[1], linestyle="--", label=f"mean {n.mean():.0f} of {full}")
        ax.set(xlabel=f"{name}: valid time steps", ylabel="utterances", xlim=(0, full * 1.02))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2))
    fig.suptitle(corpus.title)
    return fig


@styled
def audio_scales(corpus: Corpus, fold: int, sample: int = 100) -> Figure:
    """Mean and deviation of each audio feature over valid train frames of a fold, as stored and standardised."""
    rows = corpus.folds[fold].train[:sample]
    valid = np.arange(corpus.sizes.audio.length) < corpus.lengths["audio"][rows, None]
    fig, axes = plt.subplots(1, 2, figsize=(PAGE, 2))
    for ax, scaled in zip(axes, (None, fold), strict=True):
        frames = corpus.features("audio", rows, fold=scaled)[valid]
        ax.errorbar(range(frames.shape[1]), frames.mean(0), frames.std(0), fmt=".", markersize=3, elinewidth=0.6)
        ax.set(xlabel="audio feature (index)", ylabel="mean ± SD over frames")
        ax.set_title("as stored (published)" if scaled is None else "standardised by the train part (corrected)")
    fig.suptitle(f"{corpus.title}, fold {fold}, {len(rows)} train utterances")
    return fig


@styled
def embedding_coverage(corpus: Corpus) -> Figure:
    """Share of the words and of the running text that have a vector which is not zero."""
    counts, has_vector = corpus.token_counts()
    shares = {
        "words used": has_vector[counts > 0].mean(),
        "running text": counts[has_vector].sum() / counts.sum(),
    }
    fig, ax = plt.subplots(figsize=(COLUMN, 1.2))
    bars = ax.barh(list(shares), [100 * s for s in shares.values()], color=SERIES[0])
    ax.bar_label(bars, [f"{s:.1%}" for s in shares.values()], padding=2, size=7)
    ax.set(xlabel="with a vector that is not zero (%)", xlim=(0, 115), xticks=range(0, 101, 20), title=corpus.title)
    ax.invert_yaxis()
    return fig


# -------------------------------------------------------------------------------------------------- the results


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
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
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


@styled
def attention_map(found: AttentionMap, head: int | None, title: str) -> Figure:
    """Attention weights of one head (None: mean of heads): queries by keys, and the column mean below."""
    weights = found.weights.mean(0) if head is None else found.weights[head]
    mean = found.column_mean.mean(0) if head is None else found.column_mean[head]
    wide = len(found.keys.labels) > 26
    fig, (top, low) = plt.subplots(
        2, 1, figsize=(PAGE if wide else COLUMN, 3.6), sharex=True, height_ratios=[4, 1], gridspec_kw={"hspace": 0.02}
    )
    image = top.imshow(weights, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
    fig.colorbar(image, ax=(top, low), label="attention weight", fraction=0.05)
    low.bar(range(len(mean)), mean, color=SERIES[0], width=0.9)
    low.axhline(1 / len(mean), color="black", linestyle=":", linewidth=0.8)
    low.set(xlabel=f"key: {found.keys.title}", ylabel="column\nmean", ylim=(0, None))
    top.set(ylabel=f"query: {found.queries.title}", title=title)
    _thin(low.xaxis, found.keys.labels, 60 if wide else 26)
    _thin(top.yaxis, found.queries.labels, 26)
    low.tick_params(axis="x", rotation=90)
    top.tick_params(axis="x", bottom=False)
    return fig


def _thin(axis, labels: Sequence[str], most: int) -> None:
    """Label every position, or every n-th where there are more than fit."""
    step = -(-len(labels) // most)
    axis.set_ticks(range(0, len(labels), step), labels[::step])


@styled
def paired(comparison: Comparison, title: str) -> Figure:
    """Left: the scores of both variants in every run. Right: the differences by fold, the interval and the margin."""
    c = comparison
    name = c.metric.replace("_", " ")
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.5), width_ratios=[2, 3])
    for colour, (fold, mine) in zip(SERIES * 9, c.pairs.groupby("fold"), strict=False):
        for n, (_, run) in enumerate(mine.iterrows()):
            label = None if n else f"fold {fold}"
            left.plot(
                [0, 1],
                [100 * run["first"], 100 * run["second"]],
                "o-",
                color=colour,
                markersize=3,
                linewidth=0.6,
                label=label,
            )
    left.set(xticks=[0, 1], xticklabels=[c.first, c.second], xlim=(-0.3, 1.3), ylabel=f"{name} (%)")
    left.legend(loc="center right", bbox_to_anchor=(-0.35, 0.5))

    right.axvspan(-100 * c.rope, 100 * c.rope, color="#DDDDDD", label=f"margin ±{100 * c.rope:g} points")
    right.axvline(0, color="black", linewidth=0.6)
    folds = list(c.folds["fold"])
    right.plot(
        100 * c.pairs["difference"],
        c.pairs["fold"].map(folds.index),
        "o",
        color="black",
        alpha=0.4,
        markersize=2.5,
        label="a run",
    )
    right.plot(100 * c.folds["difference"], range(len(folds)), "|", color="black", markersize=9, label="fold mean")
    y = len(folds) + 0.3
    right.plot([100 * x for x in c.interval95], [y, y], color=SERIES[1], linewidth=1.2, label="95% interval")
    right.plot([100 * x for x in c.interval90], [y, y], color=SERIES[1], linewidth=3.5, label="90% interval")
    right.plot(100 * c.difference, y, "o", color="white", markeredgecolor=SERIES[1], markersize=5)
    right.set(yticks=[*range(len(folds)), y], yticklabels=[*(f"fold {k}" for k in folds), "all"])
    right.set(xlabel=f"{c.second} − {c.first}, {name} (points)")
    right.invert_yaxis()
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    fig.suptitle(f"{title}: {c.verdict}")
    return fig
