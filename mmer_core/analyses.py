"""The analyses of a study beside its verdicts: each makes a table, a text or a picture, or says why it cannot yet.

All raise MmerError with the reason while the runs do not allow them.
"""

import itertools
from collections.abc import Callable, Iterable

import pandas as pd
from matplotlib.figure import Figure

from mmer_core import figures, stats
from mmer_core.errors import MmerError
from mmer_core.metrics import published_results
from mmer_core.stats.across import FIXED, PREDICTION, RANDOM
from mmer_core.stats.calibration import variance_levels
from mmer_core.study import Study
from mmer_core.tables import Table

Item = Figure | Table | str


def _table(study: Study, frame: pd.DataFrame, what: str, per_cent: Iterable[str] = ()) -> Table:
    """A table with some columns in per cent; its caption names the corpus."""
    return Table(frame.assign(**{c: 100 * frame[c] for c in per_cent}), f"{what}. {study.corpus.title}.")


def _compared(study: Study, pairs: Iterable[tuple[str, str]], otherwise: str) -> list[stats.Comparison]:
    """Comparisons of pairs; MmerError if none can be judged yet."""
    if not (comparisons := study.comparisons(pairs)):
        raise MmerError(otherwise)
    return comparisons


def chances(study: Study) -> Table:
    """Probability of each verdict, in per cent, if the truth were 0 or the margin."""
    main = study.main_comparison()
    return _table(study, stats.chances_now(main), f"Chances of each verdict (%) on {main.label}", stats.VERDICTS)


def controls(study: Study) -> Table:
    """Learned attention against attention frozen to equal weights."""
    pairs = [
        (f"uniform_{variant.modalities}", name)
        for name, variant in study.variants.items()
        if name in (f"self_{variant.modalities}", f"cross_{variant.modalities}")
    ]
    none = "no variant with learned attention and its uniform control are both trained, on three folds or more"
    compared = stats.verdict_table(_compared(study, pairs, none))
    return _table(study, compared, "Learned against uniform attention, in points")


def additions(study: Study) -> Table:
    """What each modality adds to the others."""
    return _table(study, stats.verdict_table(_added(study)), "What each modality adds, in points")


def forest_additions(study: Study) -> Figure:
    return figures.forest(_added(study), f"what each modality adds, {study.corpus.title}")


def by_features(study: Study) -> Table:
    """Self against cross for each declared set of features."""
    made = [(name, c) for name, some in _by_features(study).items() for c in some]
    table = stats.verdict_table([c for _, c in made])  # Holm's correction is over all rows
    table.insert(0, "features", [name for name, _ in made])
    return _table(study, table, "Self against cross with each set of features, in points")


def forest_by_features(study: Study) -> Figure:
    return figures.forests(_by_features(study), study.corpus.title)


def _by_features(study: Study) -> dict[str, list[stats.Comparison]]:
    if len(every := study.by_features()) < 2:
        raise MmerError('one set of features is declared; data/study.toml may have several under "features"')
    made = {name: each.comparisons() for name, each in every.items()}
    if lacking := [name for name, some in made.items() if not some]:
        raise MmerError(f"with the features {', '.join(lacking)}, no declared pair has runs on three folds or more yet")
    return made


def _added(study: Study) -> list[stats.Comparison]:
    none = "no variant with all modalities and the same one without one of them share three folds"
    return _compared(study, study.additions(), none)


def pair_matrix(study: Study) -> Figure:
    """All pairs of trained variants, estimate, interval and verdict in each cell."""
    return figures.pair_matrix(_all_pairs(study), study.corpus.title, list(study.variants))


def all_pairs(study: Study) -> Table:
    return _table(study, stats.all_pairs(_all_pairs(study)), "All pairs, second minus first, in points")


def best_variants(study: Study) -> str:
    """Which variant, and which set of modalities, is best, within what can be said."""
    told = stats.not_shown_worse(_all_pairs(study), list(study.variants)).sentence
    return f"{study.corpus.title}, {study.primary_metric}: {told}"


def across_calibration(study: Study) -> Table:
    """What a comparison over several corpora may promise; it needs no runs."""
    frame = stats.across_calibration(studies=1000).query("unequal == 1 and r == 0.2").drop(columns=["unequal", "r"])
    frame = frame[frame["method"].isin([FIXED, RANDOM, PREDICTION])]
    frame[["false positives", "coverage", "false equivalence"]] *= 100
    what = "errors and coverage (%) of statements on several corpora, folds correlated by 0.2."
    return Table(frame.astype({"corpora": str, "heterogeneity": str}), f"Simulated sets of corpora: {what}")


def in_other_words(study: Study) -> str:
    """The main comparison by the Bayesian t, over utterances, by ensembles; and what it hinges on.

    Without a verdict over folds, as on an official split, what utterances and ensembles say is left.
    """
    names = two(study)
    if len(names) < 2:
        raise MmerError("two trained variants are needed")
    try:
        main = study.main_comparison()
        chances = ", ".join(f"P({name}) = {100 * p:.1f}%" for name, p in stats.bayesian(main).items())
        lines = [f"{main.label}: {chances}"]
        hinges = "would" if stats.hinges_on_overlap(main) else "would not"
        lines.append(f"Without the correction for overlapping train parts the verdict {hinges} be another one.")
    except MmerError as error:
        lines = [f"{study.marked(names[1])} − {study.marked(names[0])}. No verdict over folds: {error}."]
    first, second = map(study.predictions, names)
    for test in (stats.clustered(first, second), stats.ensembles(first, second)):
        p = "p < 0.001" if test.p is not None and test.p < 0.001 else f"p = {test.p:.3f}"
        lines.append(f"{test.method}: {100 * test.estimate:+.1f} points, {p}. {test.limit}")
    return "\n".join(lines)


def effect_sizes(study: Study) -> Table:
    main = study.main_comparison()
    frame = stats.effect_sizes(main)
    chance = frame["size"].str.startswith("P(")
    frame.loc[chance, "value"] *= 100  # as all the rest
    frame.loc[chance, "size"] += " (%)"
    frame["meaning"] = frame["meaning"].str.replace("0.5 is a coin", "50 is a coin")
    return _table(study, frame, f"Sizes of {main.label}")


def improvement(study: Study) -> Table:
    """Probability, in per cent, that the second variant beats the first."""
    main = study.main_comparison()
    what = f"Chance (%) that the second beats the first, run by run: {main.label}"
    return _table(study, stats.improvement(main), what, ["probability", "low", "high"])


def variance(study: Study) -> Figure:
    main = study.main_comparison()
    return figures.variance(stats.difference_components(main), f"{main.label}, {study.corpus.title}")


def score_components(study: Study) -> Table:
    main = study.main_comparison()
    frame = stats.score_components(study.results(), [main.first, main.second], main.metric)
    return _table(study, frame, f"Variance of single scores, squared points: {main.label}")


def seeds_and_sampling(study: Study) -> str:
    """What test sampling alone adds to the variance of folds, and whether runs with the same seed are alike."""
    main = study.main_comparison()
    first, second = study.predictions(main.first), study.predictions(main.second)
    alone = f"Test sampling alone: {stats.sampling_variance(first, second):.2f} squared points (accuracy)."
    return f"{alone}\nCorrelation of runs with the same seed: {stats.seed_correlation(main):+.2f}."


def calibration(study: Study) -> Figure:
    main = study.main_comparison()
    if variance_levels(main)["upper 80% limit"] == (0.0, 0.0):
        raise MmerError("all runs differ by the same amount: there is no scatter to simulate")
    title = f"simulated studies like {main.label}, {study.corpus.title}"
    return figures.calibration(stats.calibration_table(main), title)


def same_against_same(study: Study) -> str:
    main = study.main_comparison()
    return stats.same_against_same(study.results(), main.first, main.metric, main.rope).sentence()


def twins(study: Study) -> Table:
    frame = stats.twins()
    frame["different"] *= 100
    return Table(frame, "Learners that are equal by construction: on how many simulated corpora (%) a method differs.")


def plan(study: Study) -> Table:
    main, results = study.main_comparison(), study.results()
    hours = results.loc[results["variant"].isin([main.first, main.second]), "seconds"].sum() / 3600
    sampled = stats.sampling_variance(study.predictions(main.first), study.predictions(main.second))
    frame = stats.plan(main, hours, sampled)
    shares = {name: f"{name} (%)" for name in frame.columns[4:6]}
    return _table(study, frame.rename(columns=shares), f"What more runs would buy for {main.label}", shares.values())


def advice(study: Study) -> str:
    return stats.advice(study.main_comparison())


def recalls(study: Study) -> Table:
    """Recall of each class, in per cent, of both sides of the main comparison, or of what is trained."""
    names = two(study)
    parts = [stats.recall_interval(study.recalls(), name).assign(variant=study.marked(name)) for name in names]
    frame = pd.concat(parts, ignore_index=True)
    frame.insert(0, "variant", frame.pop("variant"))
    return _table(study, frame, "Recall (%) with 95% intervals; n counts utterances", ["recall", "low", "high"])


def class_differences(study: Study) -> Figure:
    main = study.main_comparison()
    table = stats.per_class(study.recalls(), main.first, main.second, main.rope)
    if table["difference"].isna().all():
        raise MmerError("every class is missing in the test part of some fold")
    return figures.class_differences(table, f"{main.label}\n{study.corpus.title}", main.rope)


def confusion_difference(study: Study) -> Figure:
    names = two(study)
    if len(names) < 2:
        raise MmerError("two trained variants are needed")
    first, second = (study.confusion(name) for name in names)
    title = f"{study.marked(names[1])} − {study.marked(names[0])}\n{study.corpus.title}"
    return figures.confusion_difference(first, second, study.corpus.classes, title)


def published_range(study: Study) -> Table:
    """The verdicts that the published means and SDs of self and cross allow, by the study's margin."""
    if study.margin is None:
        raise MmerError("a verdict needs a margin: declare it in the study before the runs")
    published = published_results().set_index("variant")[["accuracy", "accuracy_std"]]
    first, second = (tuple(published.loc[name]) for name in ("self_tva", "cross_tva"))
    frame = stats.from_summaries(first, second, folds=5, rope=study.margin)
    frame[["se", "low", "high"]] *= 100
    return Table(frame, "Published cross_tva - self_tva on IEMOCAP, in points: one row for each possible correlation.")


def _all_pairs(study: Study) -> list[stats.Comparison]:
    pairs = itertools.combinations(dict.fromkeys(study.results()["variant"]), 2)
    return _compared(study, pairs, "no two variants have the same three folds or more")


def two(study: Study) -> list[str]:
    """Both sides of the main comparison, or where there is none the first trained variants, two at most."""
    try:
        main = study.main_comparison()
        return [main.first, main.second]
    except MmerError:
        trained = list(dict.fromkeys(study.results()["variant"]))
        pairs = [list(pair) for pair in study.declaration.pairs if set(pair) <= set(trained)]
        if not trained:
            raise MmerError("nothing has been trained") from None
        return pairs[-1] if pairs else trained[:2]


MAIN = (  # those of the main comparison
    *("chances", "in_other_words", "effect_sizes", "improvement", "variance", "score_components"),
    *("seeds_and_sampling", "calibration", "same_against_same", "plan", "advice", "recalls"),
    *("class_differences", "confusion_difference"),
)
ANALYSES: dict[str, Callable[[Study], Item]] = {
    made.__name__: made
    for made in (
        *(
            forest_by_features,
            by_features,
            forest_additions,
            additions,
            chances,
            controls,
            in_other_words,
            effect_sizes,
            improvement,
            variance,
        ),
        *(score_components, seeds_and_sampling, calibration, same_against_same, twins, plan, advice, recalls),
        *(class_differences, confusion_difference, published_range, pair_matrix, all_pairs, best_variants),
        across_calibration,
    )
}
