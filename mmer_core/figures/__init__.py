# ruff: noqa: F401  (what is imported here is the face of this room)
"""Every picture.

Plot functions take tidy frames, corpora or results and return the matplotlib Figure they drew in: a notebook shows it
as the last line of a cell, `save_figure` writes it. A picture of one axes has an argument `ax`, which puts it into a
figure of yours. Scores are shown in per cent, differences in points.
"""

from mmer_core.figures.attention import attention_glance, attention_map, attention_top
from mmer_core.figures.corpus import audio_scales, class_sizes, embedding_coverage, fold_sizes, lengths
from mmer_core.figures.explained import deletion_curves, noise_curves, weights_over_time
from mmer_core.figures.many import forest_across, pair_matrix
from mmer_core.figures.results import confusion, learning_curves, scores
from mmer_core.figures.statistics import (
    calibration,
    class_differences,
    confusion_difference,
    forest,
    forests,
    paired,
    variance,
)
from mmer_core.figures.style import COLUMN, PAGE, output_folder, save_figure, venue
