# ruff: noqa: F401  (what is imported here is the face of this room)
"""Every panel of the notebooks, and the kit that panels are made of."""

from mmer_core.widgets.attention import attention_panel
from mmer_core.widgets.comparison import comparison_panel
from mmer_core.widgets.corpus import corpus_panel
from mmer_core.widgets.kit import Panel, Picture, Shown, View, png
from mmer_core.widgets.results import results_panel
