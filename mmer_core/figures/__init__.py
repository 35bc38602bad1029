"""Every picture.

Plot functions take tidy frames, corpora or results and return a closed matplotlib Figure: a notebook shows it as the
last line of a cell, `save_figure` writes it. Scores are shown in per cent, differences in points.
"""

from mmer_core.figures.attention import attention_map
from mmer_core.figures.corpus import audio_scales, class_sizes, embedding_coverage, fold_sizes, lengths
from mmer_core.figures.results import confusion, learning_curves, scores
from mmer_core.figures.statistics import calibration, class_differences, confusion_difference, forest, paired, variance
from mmer_core.figures.style import COLUMN, PAGE, save_figure

__all__ = [
    "COLUMN",
    "PAGE",
    "attention_map",
    "audio_scales",
    "calibration",
    "class_differences",
    "class_sizes",
    "confusion",
    "confusion_difference",
    "embedding_coverage",
    "fold_sizes",
    "forest",
    "learning_curves",
    "lengths",
    "paired",
    "save_figure",
    "scores",
    "variance",
]
