"""Statistics for folds x seeds: a verdict that survives review, and how far each method may be trusted."""

from mmer_core.stats.calibration import calibration_table, same_against_same, twins
from mmer_core.stats.compare import VERDICTS, Comparison, Difference, Interval, compare
from mmer_core.stats.effects import effect_sizes, per_class, recall_interval
from mmer_core.stats.elsewhere import from_summaries, on_one_split
from mmer_core.stats.methods import bayesian, cautions, clustered, ensembles, hinges_on_overlap, side_by_side
from mmer_core.stats.planner import advice, chances_now, plan
from mmer_core.stats.report import PAIRS, family, prose, verdict_table
from mmer_core.stats.variance import difference_components, sampling_variance, score_components, seed_correlation

__all__ = [
    "PAIRS",
    "VERDICTS",
    "Comparison",
    "Difference",
    "Interval",
    "advice",
    "bayesian",
    "calibration_table",
    "cautions",
    "chances_now",
    "clustered",
    "compare",
    "difference_components",
    "effect_sizes",
    "ensembles",
    "family",
    "from_summaries",
    "hinges_on_overlap",
    "on_one_split",
    "per_class",
    "plan",
    "prose",
    "recall_interval",
    "same_against_same",
    "sampling_variance",
    "score_components",
    "seed_correlation",
    "side_by_side",
    "twins",
    "verdict_table",
]
