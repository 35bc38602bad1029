"""Attention maps for the screen: the same weights and colours as in `figures`, drawn in milliseconds."""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.image import imsave

from mmer_core.explain import AttentionMap, Axis, Explanation, block_name
from mmer_core.figures.attention import all_heads
from mmer_core.widgets.inline import TEMPLATES

HEIGHT, BARS, LETTER, LONGEST = 300, 36, 5.6, 12  # pixels: of a map, its bars, a letter; letters of a label
VIRIDIS = ", ".join(matplotlib.colors.to_hex(c) for c in matplotlib.colormaps["viridis"](np.linspace(0, 1, 9)))


def attention(shown: AttentionMap, head: int, top: float, width: int) -> str:
    """One head (-1: mean of heads) of a block as `figures.attention_map` shows it, as the address of an SVG."""
    K, weights = len(shown.keys.labels), all_heads(shown)[head + 1]
    mean = K * (shown.column_mean.mean(0) if head < 0 else shown.column_mean[head])
    left, below = (22 + LETTER * max(map(len, map(_short, axis.labels))) for axis in (shown.queries, shown.keys))
    wide, high = width - left - 2, HEIGHT - below - BARS - 8
    x, limit, low = wide / K, max(2, 1.05 * mean.max()), high + 6 + BARS
    heights = (BARS * mean / limit).round(1)
    bars = "".join(f"M{left + x * (i + 0.05):.1f} {low:.1f}v{-h}h{0.9 * x:.2f}v{h}z" for i, h in enumerate(heights))
    return _address(
        "map.svg.j2",
        **dict(width=width, height=HEIGHT, left=left, wide=wide, high=high, low=low, bars=bars),
        image=png(weights, top, int(wide), int(high)),
        uniform=low - BARS / limit,
        queries=_ticks(shown.queries, high),
        keys=_ticks(shown.keys, wide),
        titles=(f"query: {shown.queries.title}", f"key: {shown.keys.title}"),
        middle=max(high / 2, 3.1 * (7 + len(shown.queries.title))),  # a long title begins at the top
    )


def glance(explanation: Explanation, top: float, width: int) -> str:
    """All blocks and heads of an explanation as `figures.attention_glance` shows them, as the address of an SVG."""
    left, rows = 98, [(block_name(b), all_heads(m)) for b, m in explanation.maps.items()]
    columns = len(rows[0][1])
    wide, high = (width - left) // columns - 3, min(60, (HEIGHT - 18) // len(rows) - 3)
    images = [(name, [png(weights, top, wide, high) for weights in heads]) for name, heads in rows]
    height, names = 18 + len(rows) * (high + 3), ["mean", *map(str, range(1, columns))]
    return _address(
        "glance.svg.j2", width=width, height=height, left=left, wide=wide, high=high, rows=images, names=names
    )


def png(weights: np.ndarray, top: float, wide: int, high: int) -> str:
    """Weights [Q, K] in colours from 0 to top, as the address of a PNG; no more pixels than `high` times `wide`.

    Where there are more weights than pixels, a pixel shows the largest of its weights.
    """
    for axis, most in enumerate((high, wide)):
        starts = np.unique(
            np.linspace(0, weights.shape[axis], min(most, weights.shape[axis]), endpoint=False).astype(int)
        )
        weights = np.maximum.reduceat(weights, starts, axis=axis)
    file = io.BytesIO()
    imsave(file, weights, vmin=0, vmax=top, cmap="viridis", format="png", origin="upper")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _ticks(axis: Axis, extent: float) -> Sequence[tuple[float, str]]:
    """Where labels stand, and which: every n-th where there are more than fit."""
    n = len(axis.labels)
    step = -(-n // max(1, int(extent / 12)))
    return [((i + 0.5) * extent / n, _short(axis.labels[i])) for i in range(0, n, step)]


def _short(label: str) -> str:
    shown = "".join(c if c.isprintable() else "�" for c in label)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _address(template: str, **more: object) -> str:
    svg = TEMPLATES.get_template(template).render(**more)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
