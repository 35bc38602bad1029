"""The bundle: every figure, table and text of a study, each made in one place under the name of its file."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from mmer_core import figures, stats, tables
from mmer_core.errors import MmerError
from mmer_core.explain import explain
from mmer_core.metrics import SOURCE, names_elsewhere
from mmer_core.study import Study


class Table(NamedTuple):
    frame: pd.DataFrame
    caption: str


Item = Figure | Table | str


def contents(study: Study) -> dict[str, Callable[[], Item]]:
    """What there is to show of a study so far: the name of its file, and a function that makes it."""
    corpus, results, title = study.corpus, study.results(), study.corpus.title
    items: dict[str, Callable[[], Item]] = {
        "corpus_classes": lambda: figures.class_sizes(corpus),
        "corpus_folds": lambda: figures.fold_sizes(corpus),
        "corpus_lengths": lambda: figures.lengths(corpus),
    }
    if "audio" in corpus.lengths:
        items["corpus_audio"] = lambda: figures.audio_scales(corpus, study.folds[0])
    if "tokens" in corpus.arrays:
        items["corpus_words"] = lambda: figures.embedding_coverage(corpus)
    if results.empty:
        return items
    without_cross = results[results["attention"].isin(["self", "uniform"])]
    if len(without_cross):
        items["scores_self"] = lambda: figures.scores(without_cross, corpus)
    trained = list(dict.fromkeys(results["variant"]))
    best = [name for name in ("self_tva", "cross_tva") if name in trained] or trained[:1]
    names = "; ".join(f"{ours} is called {names_elsewhere(ours)}" for ours in tables.scores_shown(study))
    caption = f"Test scores in %: {names}. {title}. Published numbers: IEMOCAP; {SOURCE}."
    items["scores"] = lambda: figures.scores(results, corpus)
    items["results"] = lambda: Table(tables.results_table(study), caption)
    items["learning_curves"] = lambda: learning_curves(study, best)
    for name in best:
        items[f"confusion_{name}"] = partial(confusion, study, name)
        items[f"attention_{name}"] = partial(_attention, study, name)
    most_blocks = max(trained, key=lambda name: len(study.variants[name].blocks))
    items["attention_example"] = lambda: _attention(study, most_blocks)
    if not tables.has_verdicts(study):
        return items
    items["forest"] = lambda: figures.forest(study.comparisons(), title)
    items["comparisons"] = lambda: Table(stats.verdict_table(study.comparisons()), f"Differences in points. {title}.")
    items["report"] = lambda: stats.prose(study.comparisons(), title)
    for pair in study.declaration.pairs:
        if set(pair) <= set(trained):
            items["paired_{}_{}".format(*pair)] = partial(
                lambda pair: figures.paired(study.comparisons([pair])[0], title), pair
            )
    if len(trained) > 1 and not study.missing():  # simulated studies are as balanced as this one has to be
        items["calibration"] = lambda: _calibration(study)
    return items


def show(study: Study, name: str) -> Figure | Styler | None:
    """One thing of a study for a notebook, and its files in figures/. A text is printed."""
    items = contents(study)
    if name not in items:
        raise MmerError(f"{study!r} has no {name!r} to show; it has {', '.join(items)}")
    item = items[name]()
    _save(item, name, None)
    if isinstance(item, Table):
        return tables.shown(item.frame).style.hide(axis="index")
    return print(item) if isinstance(item, str) else item


def export(study: Study, folder: str | Path | None = None) -> list[Path]:
    """Write all figures and tables of what has been trained of a study, into figures/ by default; returns the files."""
    if study.results().empty:
        raise MmerError(f"{study!r}: train something first (python -m mmer_core run)")
    return [file for name, make in contents(study).items() for file in _save(make(), name, folder)]


def _save(item: Item, name: str, folder: str | Path | None) -> list[Path]:
    if isinstance(item, Figure):
        return figures.save_figure(item, name, folder)
    if isinstance(item, Table):
        return tables.save_table(item.frame, name, item.caption, folder)
    file = figures.output_folder(folder) / f"{name}.txt"
    file.write_text(item + "\n", encoding="utf-8")
    return [file]


def learning_curves(study: Study, variants: Sequence[str]) -> Figure:
    title = study.corpus.title if len(variants) > 1 else f"{variants[0]}, {study.corpus.title}"
    return figures.learning_curves(study.learning_curves(), variants, title)


def confusion(study: Study, variant: str) -> Figure:
    corpus = study.corpus
    return figures.confusion(study.confusion(variant), corpus.classes, f"{variant}, {corpus.title}")


def _attention(study: Study, variant: str) -> Figure:
    """The first attention block of a variant's first run, on the first test utterance of its fold."""
    results, corpus = study.results(), study.corpus
    fold, seed = results.loc[results["variant"] == variant, ["fold", "seed"]].iloc[0]
    explanation = explain(study.model(variant, fold, seed), corpus, int(corpus.folds[fold].test[0]), fold)
    block = next(iter(explanation.maps.values()))
    where = f"{variant}, fold {fold}, seed {seed}, {explanation.id}: {explanation.label}"
    return figures.attention_map(block, None, f"{where}\nblock {block.block}, mean of heads, {corpus.title}")


def _calibration(study: Study) -> Figure:
    main = study.main_comparison()
    title = f"simulated studies like {main.second} − {main.first}, {study.corpus.title}"
    return figures.calibration(stats.calibration_table(main), title)
