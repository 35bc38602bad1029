"""Pictures of what notebook 04 says of all test utterances: weights over time, deletion curves, noise."""

import itertools

import pandas as pd
from matplotlib.figure import Figure

from mmer_core.figures.parts import LINES, SERIES, kinds, legend_below, series
from mmer_core.figures.style import PAGE, styled, subplots


def _look(n: int) -> dict:
    """Of the n-th line: where colours repeat, its line is broken."""
    return dict(linewidth=0.8, linestyle=LINES[n // len(SERIES) % len(LINES)], **series(n))


@styled
def weights_over_time(means: pd.DataFrame, title: str) -> Figure:
    """Mean weight over normalised time, with 95% intervals: a panel a block, a line in a band a class.

    Columns: variant, block, class, time (0 to 1), mean, low, high (1: uniform).
    """
    blocks = list(dict.fromkeys(zip(means["variant"], means["block"], strict=True)))
    columns, classes = min(3, len(blocks)), list(dict.fromkeys(means["class"]))
    rows, thin = -(-len(blocks) // columns), min(0.15, 0.7 / len(classes))  # where many bands lie on each other
    fig, axes = subplots(PAGE, 1.2 * rows, rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (variant, block) in zip(axes.flat, blocks, strict=False):
        mine = means[(means["variant"] == variant) & (means["block"] == block)]
        for n, name in enumerate(classes):
            one = mine[mine["class"] == name]
            ax.plot(one["time"], one["mean"], label=name, markersize=2.5, **_look(n))
            ax.fill_between(one["time"], one["low"], one["high"], color=series(n)["color"], alpha=thin, linewidth=0)
        ax.axhline(1, color="black", linestyle=":", linewidth=0.6)
        ax.set_title(f"{variant}: {block}")
    for ax in axes.flat[len(blocks) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("weight\n(1: uniform)")
    for ax in axes[-1]:
        ax.set_xlabel("share of the utterance")
    legend_below(axes.flat[0])
    fig.suptitle(title)
    return fig


@styled
def deletion_curves(means: pd.DataFrame, title: str) -> Figure:
    """Lost probability by the share that is taken away or kept, with 95% intervals: a line a measure.

    A row of panels for each of `what`, a column a variant. Columns: what, variant, measure, share, mean, low, high (of
    probability).
    """
    variants, measures, what = (list(dict.fromkeys(means[c])) for c in ("variant", "measure", "what"))
    fig, axes = subplots(PAGE, 1.5 * len(what), len(what), len(variants), sharex=True, sharey="row", squeeze=False)
    for (row, part), (column, variant) in itertools.product(enumerate(what), enumerate(variants)):
        ax, mine = axes[row, column], means[(means["what"] == part) & (means["variant"] == variant)]
        for n, measure in enumerate(measures):
            one = mine[mine["measure"] == measure]
            x, bars = 100 * one["share"] * 1.03 ** (n - len(measures) / 2), 100 * (one["mean"] - one["low"])
            ax.errorbar(x, 100 * one["mean"], bars, label=measure, markersize=3, elinewidth=0.5, **_look(n))
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(xscale="log", xticks=(1, 5, 10, 20, 50), xticklabels=(1, 5, 10, 20, 50))
        ax.minorticks_off()
        ax.set_title(f"{variant}: {part}")
    for ax in axes[:, 0]:
        ax.set_ylabel("lost probability of\nthe named class (points)")
    for ax in axes[-1]:
        ax.set_xlabel("share (%)")
    legend_below(axes[0, 0])
    fig.suptitle(title)
    return fig


@styled
def noise_curves(means: pd.DataFrame, title: str) -> Figure:
    """Change of balanced accuracy (points) under noise, with 95% intervals; a panel a modality, a line a variant.

    Columns: variant, modality, level (SDs of each feature), mean, low, high.
    """
    modalities, looks = list(dict.fromkeys(means["modality"])), kinds(list(dict.fromkeys(means["variant"])))
    fig, axes = subplots(PAGE, 1.7, 1, len(modalities), sharey=True, squeeze=False)
    for ax, modality in zip(axes[0], modalities, strict=True):
        for variant, look in looks.items():
            one = means[(means["variant"] == variant) & (means["modality"] == modality)]
            ax.plot(one["level"], one["mean"], label=variant, markersize=3, **look)
            ax.fill_between(one["level"], one["low"], one["high"], color=look["color"], alpha=0.15, linewidth=0)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(xlabel="noise (SDs of a feature)", title=modality)
    axes[0, 0].set_ylabel("change of balanced\naccuracy (points)")
    legend_below(axes[0, 0])
    fig.suptitle(title)
    return fig
