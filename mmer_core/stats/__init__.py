# ruff: noqa: F401  (what is imported here is the face of this room)
"""Statistics for folds x seeds: a verdict that survives review, and how far each method may be trusted."""

from mmer_core.stats.across import across, across_notes
from mmer_core.stats.across_calibration import across_calibration
from mmer_core.stats.calibration import calibration_table, same_against_same, twins
from mmer_core.stats.compare import VERDICTS, Comparison, Difference, Interval, compare, from_summaries
from mmer_core.stats.effects import effect_sizes, improvement, per_class, recall_interval
from mmer_core.stats.methods import bayesian, cautions, hinges_on_overlap, side_by_side
from mmer_core.stats.planner import advice, chances_now, plan
from mmer_core.stats.report import all_pairs, not_shown_worse, prose, self_and_cross, verdict_table
from mmer_core.stats.utterances import clustered, ensembles, on_each_split, on_one_split, sampling_variance
from mmer_core.stats.variance import difference_components, score_components, seed_correlation
