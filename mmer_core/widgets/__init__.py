# ruff: noqa: F401  (what is imported here is the face of this room)
"""Every panel of the notebooks, and the kit that panels are made of."""

from mmer_core.widgets.kit import Picture, Shown, View, png
from mmer_core.widgets.panels import attention_panel, comparison_panel, corpus_panel, results_panel
