"""The analyses of a study beside its verdicts: each makes a table, a text or a picture, or says why it cannot yet.

All raise MmerError with the reason while the runs do not allow them.
"""

import itertools
from collections.abc import Callable, Iterable
from functools import lru_cache

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


def _per_cent(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    return frame.assign(**{column: 100 * frame[column] for column in columns})


def _table(frame: pd.DataFrame, what: str, study: Study, main: stats.Comparison) -> Table:
    return Table(frame, f"{what} {main.label}. {study.corpus.title}.")


def controls(study: Study) -> Table:
    """Learned attention against attention frozen to equal weights."""
    plain = {f"{kind}_{v.modalities}": v for v in study.variants.values() for kind in ("self", "cross")}
    pairs = [(f"uniform_{plain[name].modalities}", name) for name in study.variants if name in plain]
    if comparisons := study.comparisons(pairs):
        caption = f"Learned against uniform attention, in points. {study.corpus.title}."
        return Table(stats.verdict_table(comparisons), caption)
    raise MmerError(
        "no variant with learned attention and its uniform control are both trained, on three folds or more"
    )


def in_other_words(study: Study) -> str:
    """The main comparison by the Bayesian t, over utterances, by ensembles; and what it hinges on.

    Without a verdict over folds, as on an official split, what utterances and ensembles say is left.
    """
    names = _pair(study)
    try:
        main = study.main_comparison()
        chances = ", ".join(f"P({name}) = {100 * p:.1f}%" for name, p in stats.bayesian(main).items())
        hinges = "would" if stats.hinges_on_overlap(main) else "would not"
        without = f"Without the correction for overlapping train parts the verdict {hinges} be another one."
        lines = [f"{main.label}: {chances}", without]
    except MmerError as error:
        lines = [f"{study.marked(names[1])} − {study.marked(names[0])}. No verdict over folds: {error}."]
    first, second = map(study.predictions, names)
    for test in (stats.clustered(first, second), stats.ensembles(first, second)):
        p = "p < 0.001" if test.p is not None and test.p < 0.001 else f"p = {test.p:.3f}"
        lines.append(f"{test.method}: {100 * test.estimate:+.1f} points, {p}. {test.limit}")
    return "\n".join(lines)


def effect_sizes(study: Study, main: stats.Comparison) -> Table:
    frame = stats.effect_sizes(main)
    chance = frame["size"].str.startswith("P(")
    frame.loc[chance, "value"] *= 100  # as all the rest
    frame.loc[chance, "size"] += " (%)"
    frame["meaning"] = frame["meaning"].str.replace("0.5 is a coin", "50 is a coin")
    return _table(frame, "Sizes of", study, main)


def seeds_and_sampling(study: Study, main: stats.Comparison) -> str:
    """What test sampling alone adds to the variance of folds, and whether runs with the same seed are alike."""
    alone = f"Test sampling alone: {_sampling(study, main):.2f} squared points (accuracy)."
    return f"{alone}\nCorrelation of runs with the same seed: {stats.seed_correlation(main):+.2f}."


def calibration(study: Study, main: stats.Comparison) -> Figure:
    if variance_levels(main)["upper 80% limit"] == (0.0, 0.0):
        raise MmerError("all runs differ by the same amount: there is no scatter to simulate")
    title = f"simulated studies like {main.label}, {study.corpus.title}"
    return figures.calibration(stats.calibration_table(main), title)


def plan(study: Study, main: stats.Comparison) -> Table:
    results = study.results()
    hours = results.loc[results["variant"].isin([main.first, main.second]), "seconds"].sum() / 3600
    frame = stats.plan(main, hours, _sampling(study, main))
    shares = frame.columns[4:6]
    frame = _per_cent(frame, shares).rename(columns={name: f"{name} (%)" for name in shares})
    return _table(frame, "What more runs would buy for", study, main)


def recalls(study: Study) -> Table:
    parts = [stats.recall_interval(study.recalls(), name).assign(variant=study.marked(name)) for name in two(study)]
    frame = _per_cent(pd.concat(parts, ignore_index=True), ("recall", "low", "high"))
    frame.insert(0, "variant", frame.pop("variant"))
    return Table(frame, f"Recall (%) with 95% intervals; n counts utterances. {study.corpus.title}.")


def class_differences(study: Study, main: stats.Comparison) -> Figure:
    table = stats.per_class(study.recalls(), main.first, main.second, main.rope)
    if table["difference"].isna().all():
        raise MmerError("every class is missing in the test part of some fold")
    return figures.class_differences(table, f"{main.label}\n{study.corpus.title}", main.rope)


def confusion_difference(study: Study) -> Figure:
    names = _pair(study)
    first, second = map(study.confusion, names)
    title = f"{study.marked(names[1])} − {study.marked(names[0])}\n{study.corpus.title}"
    return figures.confusion_difference(first, second, study.corpus.classes, title)


def published_range(study: Study) -> Table:
    """The verdicts that the published means and SDs of self and cross allow, by the study's margin."""
    if study.margin is None:
        raise MmerError("a verdict needs a margin: declare it in the study before the runs")
    published = published_results().set_index("variant")[["accuracy", "accuracy_std"]]
    first, second = (tuple(published.loc[name]) for name in ("self_tva", "cross_tva"))
    frame = _per_cent(stats.from_summaries(first, second, folds=5, rope=study.margin), ("se", "low", "high"))
    return Table(frame, "Published cross_tva - self_tva on IEMOCAP, in points: one row for each possible correlation.")


def best_variants(study: Study) -> str:
    """Which variant, and which set of modalities, is best, within what can be said."""
    told = stats.not_shown_worse(_all_pairs(study), list(study.variants)).sentence
    return f"{study.corpus.title}, {study.primary_metric}: {told}"


def across_calibration(study: Study) -> Table:
    """What a comparison over several corpora may promise; it needs no runs."""
    frame = stats.across_calibration(studies=1000).query("unequal == 1 and r == 0.2").drop(columns=["unequal", "r"])
    frame = frame[frame["method"].isin([FIXED, RANDOM, PREDICTION])]
    frame = _per_cent(frame, ("false positives", "coverage", "false equivalence"))
    caption = "Simulated sets of corpora: errors and coverage (%) of statements on several corpora, folds correlated by"
    return Table(frame.astype({"corpora": str, "heterogeneity": str}), f"{caption} 0.2.")


def _sampling(study: Study, main: stats.Comparison) -> float:
    return stats.sampling_variance(study.predictions(main.first), study.predictions(main.second))


def _all_pairs(study: Study) -> list[stats.Comparison]:
    names = tuple(dict.fromkeys(study.results()["variant"]))
    if comparisons := _compared(study, names, study.results().to_csv()):
        return comparisons
    raise MmerError("no two variants have the same three folds or more")


@lru_cache(maxsize=1)
def _main(study: Study, results: str) -> stats.Comparison:
    """Of many items of a bundle; the results tell whether it is still the same."""
    return study.main_comparison()


@lru_cache(maxsize=1)
def _compared(study: Study, names: tuple[str, ...], results: str) -> list[stats.Comparison]:
    """All pairs; three items of a bundle want them."""
    return study.comparisons(itertools.combinations(names, 2))


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


def _pair(study: Study) -> list[str]:
    if len(names := two(study)) < 2:
        raise MmerError("two trained variants are needed")
    return names


def _judged(make: Callable[[Study, stats.Comparison], Item]) -> Callable[[Study], Item]:
    return lambda study: make(study, _main(study, study.results().to_csv()))


OF_MAIN: dict[str, Callable[[Study, stats.Comparison], Item]] = {
    "chances": lambda study, main: _table(  # if the truth were 0 or the margin
        _per_cent(stats.chances_now(main), stats.VERDICTS), "Chances of each verdict (%) on", study, main
    ),
    "effect_sizes": effect_sizes,
    "improvement": lambda study, main: _table(
        _per_cent(stats.improvement(main), ("probability", "low", "high")),
        *("Chance (%) that the second beats the first, run by run:", study, main),
    ),
    "variance": lambda study, main: figures.variance(
        stats.difference_components(main), f"{main.label}, {study.corpus.title}"
    ),
    "score_components": lambda study, main: _table(
        stats.score_components(study.results(), [main.first, main.second], main.metric),
        *("Variance of single scores, squared points:", study, main),
    ),
    "seeds_and_sampling": seeds_and_sampling,
    "calibration": calibration,
    "same_against_same": lambda study, main: stats.same_against_same(
        study.results(), main.first, main.metric, main.rope
    ).sentence(),
    "plan": plan,
    "advice": lambda study, main: stats.advice(main),
    "class_differences": class_differences,
}
OF_BOTH = {made.__name__: made for made in (in_other_words, recalls, confusion_difference)}  # these need no verdict
MAIN = (*OF_MAIN, *OF_BOTH)  # those of the main comparison
ANALYSES: dict[str, Callable[[Study], Item]] = {
    "controls": controls,
    **{name: _judged(make) for name, make in OF_MAIN.items()},
    **OF_BOTH,
    "twins": lambda study: Table(
        _per_cent(stats.twins(), ["different"]),
        "Learners that are equal by construction: on how many simulated corpora (%) a method differs.",
    ),
    "published_range": published_range,
    "pair_matrix": lambda study: figures.pair_matrix(_all_pairs(study), study.corpus.title, list(study.variants)),
    "all_pairs": lambda study: Table(
        stats.all_pairs(_all_pairs(study)), f"All pairs, second minus first, in points. {study.corpus.title}."
    ),
    "best_variants": best_variants,
    "across_calibration": across_calibration,
}
