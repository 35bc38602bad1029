"""Pictures of attention weights: one block and head, or all of them at a glance."""

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from mmer_core.explain import AttentionMap, Explanation, block_name
from mmer_core.figures.parts import SERIES
from mmer_core.figures.style import COLUMN, PAGE, styled, subplots


@styled
def attention_map(attention: AttentionMap, head: int | None, title: str, top: float | None = None) -> Figure:
    """Attention weights of one head (None: mean of heads): queries by keys, and the column mean below.

    Weights are shown as multiples of 1 / K, the weight of each of K keys in uniform attention, from 0 to `top`, the
    brightest. `top` is `attention_top` of all maps that shall be compared; None: of this block, the same for its heads.
    """
    queries, keys = attention.queries, attention.keys
    weights = attention.weights.mean(0) if head is None else attention.weights[head]
    mean = attention.column_mean.mean(0) if head is None else attention.column_mean[head]
    wide, top = len(keys.labels) > 26, top or attention_top([attention])
    fig, (above, low) = subplots(PAGE if wide else COLUMN, 2.6, 2, 1, sharex=True, height_ratios=[4, 1])
    look = dict(aspect="auto", cmap="viridis", vmin=0, vmax=top, interpolation="nearest")
    image = above.imshow(len(mean) * weights, **look)
    more = "max" if len(mean) * weights.max() > top else "neither"
    fig.colorbar(image, ax=(above, low), label="weight (1: uniform)", use_gridspec=False, fraction=0.05, extend=more)
    low.bar(range(len(mean)), len(mean) * mean, color=SERIES[0], width=0.9)
    low.axhline(1, color="black", linestyle=":", linewidth=0.8)
    low.set(xlabel=f"key: {keys.title}", ylabel="column\nmean", ylim=(0, max(2, 1.05 * len(mean) * mean.max())))
    above.set(ylabel=f"query: {queries.title}", title=title)
    for axis, labels, most in ((low.xaxis, keys.labels, 60 if wide else 26), (above.yaxis, queries.labels, 26)):
        step = -(-len(labels) // most)  # every n-th is labelled where there are more than fit
        axis.set_ticks(range(0, len(labels), step), labels[::step])
    low.tick_params(axis="x", rotation=90)
    above.tick_params(axis="x", bottom=False)
    return fig


def attention_top(maps: Iterable[AttentionMap]) -> float:
    """One scale for `attention_map`s to be compared: the largest weight of any head, as a multiple of 1 / K.

    At least 4, so that attention which is uniform, or nearly so, looks dark.
    """
    return max(4.0, *(float(attention.weights.max() * len(attention.keys.labels)) for attention in maps))


@styled
def attention_glance(explanation: Explanation, title: str, top: float | None = None) -> Figure:
    """All blocks (rows) and heads (columns, after their mean) of an explanation; each as in `attention_map`.

    They are small, so positions are not named. `top`: the brightest; None: `attention_top` of all of them.
    """
    top, maps = top or attention_top(explanation.maps.values()), explanation.maps
    heads = len(next(iter(maps.values())).weights)
    fig, axes = subplots(PAGE, 0.6 * len(maps), len(maps), 1 + heads, squeeze=False)
    for row, (block, attention) in zip(axes, maps.items(), strict=True):
        for ax, weights in zip(row, all_heads(attention), strict=True):
            image = ax.imshow(weights, aspect="auto", cmap="viridis", vmin=0, vmax=top, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(block_name(block), rotation=0, ha="right", va="center")
    for ax, name in zip(axes[0], ["mean", *(f"head {h + 1}" for h in range(heads))], strict=True):
        ax.set_title(name)
    fig.colorbar(image, ax=axes, label="weight (1: uniform)", use_gridspec=False, fraction=0.03)
    fig.suptitle(title)
    return fig


def all_heads(attention: AttentionMap) -> np.ndarray:
    """The mean of all heads, then each of them, as multiples of 1 / K: [1 + H, Q, K]."""
    weights = attention.weights * len(attention.keys.labels)
    return np.concatenate([weights.mean(0, keepdims=True), weights])
