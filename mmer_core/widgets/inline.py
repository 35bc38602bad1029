"""Numbers as HTML and small pictures that are quick, sharp at any size, and tell what they are under the pointer."""

from collections.abc import Iterable
from typing import NamedTuple

import jinja2
import numpy as np
import pandas as pd

BLUE = (33, 102, 172)  # of the confusion matrices in print
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("mmer_core", "widgets"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


class Scale(NamedTuple):
    """The range of values that is shown from the left end to the right one."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> "Scale":
        found = [v for v in values if np.isfinite(v)] or [0.0, 1.0]
        reach = max(max(found) - min(found), 1e-9)
        return cls(min(found) - 0.04 * reach, max(found) + 0.04 * reach)

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def place(self, value: float) -> str:
        return f"{100 * min(max(self.share(value), 0), 1):.1f}%"


MOST = 60  # learning curves in one picture


class Axes(NamedTuple):
    """One small diagram by epoch, in pixels."""

    left: float
    width: float
    last: int
    scale: Scale
    top: float = 18
    bottom: float = 102

    def at(self, epoch: float, value: float) -> tuple[float, float]:
        x = self.left + self.width * (epoch - 1) / (self.last - 1)
        return round(x, 1), round(self.bottom - self.scale.share(value) * (self.bottom - self.top), 1)

    def points(self, epochs: Iterable[float], values: Iterable[float]) -> str:
        return " ".join("{},{}".format(*self.at(*point)) for point in zip(epochs, values, strict=True))


def tint(share: float) -> str:
    """The colour of a share in [0, 1]: white to blue."""
    return f"rgb({', '.join(f'{255 - share * (255 - c):.0f}' for c in BLUE)})"


def curves(frame: pd.DataFrame, colour: str) -> str:
    """SVG of the learning curves of one variant's runs: of all, or of `MOST` that are spread over them."""
    last, highest = max(int(frame["epoch"].max()), 2), float(frame[["train_loss", "dev_loss"]].max().max())
    loss = Axes(30, 80, last, Scale(0, max(highest, 1e-9)))
    accuracy = Axes(142, 82, last, Scale.around(100 * frame["dev_accuracy"]))
    runs = [run for _, run in frame.groupby(["fold", "seed"])]
    runs = runs[:: -(-len(runs) // MOST)]
    return TEMPLATES.get_template("curves.svg.j2").render(loss=loss, accuracy=accuracy, runs=runs, colour=colour)
