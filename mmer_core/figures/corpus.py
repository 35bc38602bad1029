"""Pictures of a corpus."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from mmer_core.corpus import Corpus
from mmer_core.figures.style import COLUMN, PAGE, SERIES, styled


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
        bins = np.arange(full % width or width, full + width + 1, width) - width + 0.5  # the last one ends behind T
        sns.histplot(x=n, bins=bins, ax=ax, color=SERIES[0], edgecolor="white", linewidth=0.3)
        ax.axvline(n.mean(), color=SERIES[1], linestyle="--", label=f"mean {n.mean():.0f} of {full}")
        ax.set(xlabel=f"{name}: valid time steps", ylabel="utterances", xlim=(0, full + width))
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
