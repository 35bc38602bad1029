# ruff: noqa: F401  (what is imported here is the face of this room)
"""What trained networks attend to, what that weighs in their decisions, and whether it may be called an explanation."""

from mmer_core.explain.decision import Shapley, shapley
from mmer_core.explain.filed import CHECKS, checked
from mmer_core.explain.rivals import on_inputs, on_keys
from mmer_core.explain.states import States, states
from mmer_core.explain.weights import AttentionMap, Axis, Explanation, block_name, explain
from mmer_core.explain.whatif import Stretch, explain_without, stretches
