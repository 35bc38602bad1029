"""Pictures of many comparisons at once: over corpora, and over all pairs of variants."""

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from mmer_core.errors import MmerError
from mmer_core.figures.parts import cell_size, legend_below, rows, squares
from mmer_core.figures.statistics import intervals, margin
from mmer_core.figures.style import COLUMN, PAGE, place, styled
from mmer_core.stats import VERDICTS, Difference, all_pairs
from mmer_core.stats.across import HETEROGENEITY, PREDICTION, SHARE, SPEAKS_OF
from mmer_core.stats.report import variants_of

TINTS = dict(zip(VERDICTS, ("#F3CC7F", "#9AD2F2", "#F7F1A0", "#EEEEEE"), strict=True))  # of Okabe and Ito, lighter
GREY = "#BBBBBB"


@styled
def forest_across(table: pd.DataFrame, title: str, ax: Axes | None = None) -> Axes:
    """The table of `stats.across`: corpora, then what all say together; margin shaded, verdicts at the right.

    Thin: 95% interval; thick: 90%; circles are corpora, diamonds means of corpora; dashed: the prediction interval.
    """
    shown, alone = table[~table["corpus"].isin([HETEROGENEITY, SHARE])], ax is None
    own = int((~table["corpus"].isin(SPEAKS_OF)).sum())
    ax = place(ax, PAGE, 0.25 * len(shown))
    margin(ax, shown["margin"].iloc[0])
    for y, (_, row) in enumerate(shown.iterrows()):
        if row["corpus"] == PREDICTION:
            ax.plot(100 * row[["low", "high"]], [y, y], "--|", color="black", label="95% prediction interval")
            continue
        c = Difference(*row[["first", "second", "metric", "margin", "difference", "se", "df"]])
        intervals(ax, c, y, y == 0, "o" if y < own else "D")
        stamp = " (exploratory)" if row["exploratory"] else ""
        ax.text(1.02, y, row["verdict"] + stamp, transform=ax.get_yaxis_transform(), va="center")
    ax.axhline(own - 0.5, color="black", linewidth=0.4)
    labels = shown["corpus"] + (":\n" + shown["speaks of"]).where(shown["speaks of"] != "this corpus", "")
    rows(ax, list(labels))
    ax.set_title(title)
    one, spread = shown.iloc[0], 100 * table.set_index("corpus").loc[HETEROGENEITY, ["difference", "low", "high"]]
    between = "SD between corpora {:.1f} ({:.1f} to {:.1f})".format(*spread)
    ax.set_xlabel(f"{one['second']} − {one['first']}, {shown['metric'].iloc[-1].replace('_', ' ')} (points)\n{between}")
    legend_below(ax, alone, 0.45)
    return ax


@styled
def pair_matrix(
    comparisons: Sequence[Difference], title: str, variants: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """All pairs of variants: the difference below the diagonal (row minus column), the verdict above it.

    Bold and starred: Holm's p over the pairs is below 5%. In brackets: exploratory. Hatched: not compared. `variants`
    are all there are, in the order wanted.
    """
    if not comparisons:
        raise MmerError("a matrix of pairs needs comparisons; none was given")
    table, names, alone = all_pairs(comparisons), variants_of(comparisons, variants), ax is None
    n, metric, rope = len(names), comparisons[0].metric.replace("_", " "), comparisons[0].rope
    width = COLUMN if n <= 5 else PAGE
    ax = place(ax, width, min(6.8, 0.36 * n))
    size = cell_size(width, n, 3.4)
    for a, b in itertools.product(range(n), repeat=2):
        _cell(ax, a, b, fill=a == b, color=GREY, hatch="////")
    for row in table.to_dict("records"):
        _pair(ax, row, names, size)
    squares(ax, names)
    gap = " " if n > 8 else "\n"
    caption = f"""below: row − column in points of {metric},{gap}± half the 95% interval
above: the verdict for a margin of {100 * rope:g} points
in brackets: exploratory; bold, *: Holm's p < 5%"""
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), title=title, xlabel=caption)
    keys = [Patch(facecolor=TINTS[v], edgecolor=GREY, label=f"{v[0].upper()}: {v}") for v in VERDICTS]
    keys.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", label="not compared"))
    if alone:
        legend_below(ax, handles=keys)
    else:
        ax.legend(handles=keys, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _pair(ax: Axes, row: dict, names: Sequence[str], size: float) -> None:
    """Both cells of a pair, a row of `all_pairs`."""
    first, second, sure = names.index(row["first"]), names.index(row["second"]), row["p (Holm)"] < 0.05
    low, high, star = min(first, second), max(first, second), "*" if sure else ""
    points = row["points"] if second > first else -row["points"]
    letter = f"({row['verdict'][0]}{star})" if row["exploratory"] == "yes" else row["verdict"][0] + star
    cells = [  # column, row, text, tint
        (low, high, f"{points:+.1f}{star}\n±{(row['95% high'] - row['95% low']) / 2:.1f}".replace("-", "−"), "white"),
        (high, low, letter.upper(), TINTS[row["verdict"]]),
    ]
    for x, y, text, tint in cells:
        _cell(ax, x, y, facecolor=tint, edgecolor=GREY)
        look: dict[str, Any] = dict(ha="center", va="center", fontsize=size, weight="bold" if sure else "normal")
        ax.text(x, y, text, in_layout=False, **look)


def _cell(ax: Axes, x: float, y: float, **look: Any) -> None:
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, linewidth=0.4, **look))
