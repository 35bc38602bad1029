"""Pictures of a corpus."""

from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_core.corpus import Corpus
from mmer_core.figures.parts import HATCHES, SERIES, legend_below, rows
from mmer_core.figures.style import COLUMN, PAGE, place, styled, subplots


@styled
def class_sizes(corpus: Corpus, ax: Axes | None = None) -> Axes:
    """Utterances of each class."""
    frame = corpus.report()["classes"]
    ax = place(ax, COLUMN, 0.2 * len(frame))
    labels = [f"{row.utterances} ({row.share:.0%})" for row in frame.itertuples()]
    ax.bar_label(ax.barh(range(len(frame)), frame["utterances"], color=SERIES[0]), labels, padding=2)
    ax.set(xlabel="utterances", title=corpus.title)
    rows(ax, frame["class"])
    return ax


@styled
def fold_sizes(corpus: Corpus, ax: Axes | None = None) -> Axes:
    """Utterances in the parts of each fold, and those left out because they have no video."""
    frame = corpus.report()["folds"].set_index("fold")
    alone, ax = ax is None, place(ax, COLUMN, 1.4)
    places, below = range(len(frame)), np.zeros(len(frame))
    for part, colour, hatch in zip(frame, (*SERIES[:3], "white"), HATCHES, strict=True):
        look: dict[str, Any] = dict(color=colour, edgecolor="black", linewidth=0.4, hatch=hatch)
        ax.bar(places, frame[part], width=0.7, bottom=below, label=part, **look)
        below += frame[part].to_numpy()
    ax.set(xlabel="fold", xticks=places, xticklabels=frame.index, xlim=(-0.6, len(frame) - 0.4))
    ax.set(ylabel="utterances", title=corpus.title)
    legend_below(ax, alone, 0.3)
    return ax


@styled
def lengths(corpus: Corpus) -> Figure:
    """How many of its time steps an utterance fills, in each modality."""
    fig, axes = subplots(PAGE, 1.2, 1, len(corpus.lengths), sharey=True, squeeze=False)
    for ax, (name, n) in zip(axes[0], corpus.lengths.items(), strict=True):
        full = getattr(corpus.sizes, name).length
        width = -(-full // 40)
        bins = np.arange(full % width or width, full + width + 1, width) - width + 0.5  # the last one ends behind T
        sns.histplot(x=n, bins=bins, ax=ax, color=SERIES[0], edgecolor="white", linewidth=0.3)
        ax.axvline(n.mean(), color="black", linestyle="--")
        ax.set(xlabel=f"{name}: valid time steps", ylabel="utterances", xlim=(0, full + width))
        ax.set_title(f"dashed: mean {n.mean():.0f} of {full}")
    fig.suptitle(corpus.title)
    return fig


@styled
def audio_scales(corpus: Corpus, fold: int) -> Figure:
    """Mean and deviation of each audio feature over valid train frames of a fold, as stored and standardised."""
    rows = corpus.folds[fold].train[:100]  # frames of so many utterances are enough
    valid = np.arange(corpus.sizes.audio.length) < corpus.lengths["audio"][rows, None]
    fig, axes = subplots(PAGE, 1.3, 1, 2)
    for ax, scaled in zip(axes, (None, fold), strict=True):
        frames = corpus.features("audio", rows, fold=scaled)[valid]
        look = dict(fmt=".", color="black", ecolor=SERIES[0], markersize=2, elinewidth=0.6)
        ax.errorbar(range(frames.shape[1]), frames.mean(0), frames.std(0), **look)
        ax.set(xlabel="audio feature (index)", ylabel="mean ± SD over frames")
        ax.set_title("as stored (published)" if scaled is None else "standardised by the train part (corrected)")
    fig.suptitle(f"{corpus.title}, fold {fold}, {len(rows)} train utterances")
    return fig


@styled
def embedding_coverage(corpus: Corpus, ax: Axes | None = None) -> Axes:
    """Share of the words and of the running text that have a vector which is not zero."""
    counts, known = corpus.token_counts()
    shares = {"words used": known[counts > 0].mean(), "running text": counts[known].sum() / counts.sum()}
    ax = place(ax, COLUMN, 0.5)
    bars = ax.barh(range(2), [100 * s for s in shares.values()], color=SERIES[0])
    ax.bar_label(bars, [f"{s:.1%}" for s in shares.values()], padding=2)
    ax.set(xlabel="with a vector that is not zero (%)", xlim=(0, 100), xticks=range(0, 101, 20), title=corpus.title)
    rows(ax, list(shares))
    return ax
