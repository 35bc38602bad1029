"""Pictures of attention weights."""

from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.figure import Figure

from mmer_core.explain import AttentionMap
from mmer_core.figures.style import COLUMN, PAGE, SERIES, styled, subplots


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
    _thin(low.xaxis, keys.labels, 60 if wide else 26)
    _thin(top.yaxis, queries.labels, 26)
    low.tick_params(axis="x", rotation=90)
    top.tick_params(axis="x", bottom=False)
    return fig


def _thin(axis: Axis, labels: Sequence[str], most: int) -> None:
    """Label every position, or every n-th where there are more than fit."""
    step = -(-len(labels) // most)
    axis.set_ticks(range(0, len(labels), step), labels[::step])
