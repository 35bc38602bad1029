# ruff: noqa: F401  (what is imported here is the face of this room)
"""The bundle: every figure, table and text of a study, written for a paper, and what ties them to its runs."""

from mmer_core.bundle.items import confusion, contents, everything, learning_curves
from mmer_core.bundle.manifest import stale
from mmer_core.bundle.writing import export, gallery, show, tell
