"""The bundle: every figure, table and text of a study, each made in one place under the name of its file."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from mmer_core import figures, stats, tables
from mmer_core.analyses import ANALYSES, Item, Table
from mmer_core.errors import MmerError
from mmer_core.explain import block_name, explain
from mmer_core.metrics import SOURCE, names_elsewhere
from mmer_core.study import Study

KINDS = {"scores_self": ("self", "uniform"), "scores": ("self", "uniform", "cross", "both")}
KINDS_OF_TABLES = {"results_self": ("self", "uniform"), "results_cross": ("cross", "both"), "results": KINDS["scores"]}


def contents(study: Study) -> dict[str, Callable[[], Item]]:
    """What there may be to show of a study so far: the name of its file, and a function that makes it.

    MmerError by such a function says why the runs do not allow it yet. Without any run there is only the corpus.
    """
    items = everything(study)
    return items if len(study.results()) else {name: make for name, make in items.items() if name.startswith("corpus_")}


def everything(study: Study) -> dict[str, Callable[[], Item]]:
    """As `contents`, with all that runs will allow."""
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
    items |= {name: partial(make, study) for name, make in ANALYSES.items()}
    items |= {name: partial(_scores, study, kinds) for name, kinds in KINDS.items()}
    items |= {name: partial(_results, study, kinds) for name, kinds in KINDS_OF_TABLES.items()}
    trained = list(dict.fromkeys(results["variant"]))
    best = [name for name in ("self_tva", "cross_tva") if name in trained] or trained[:1]
    items["learning_curves"] = lambda: learning_curves(study, best)
    declared = [name for name in ("self_tva", "cross_tva") if name in study.variants] or list(study.variants)[:1]
    for name in dict.fromkeys([*best, *declared]):
        items[f"confusion_{name}"] = partial(confusion, study, name)
        items[f"attention_{name}"] = partial(_attention, study, name)
    most_blocks = max(trained, key=lambda name: len(study.variants[name].blocks), default="")
    items["attention_example"] = lambda: _attention(study, most_blocks)
    items["forest"] = lambda: figures.forest(study.judged(), title)
    items["comparisons"] = lambda: Table(stats.verdict_table(study.judged()), f"Differences in points. {title}.")
    items["report"] = partial(_report, study)
    for pair in study.declaration.pairs:
        items["paired_{}_{}".format(*pair)] = partial(_paired, study, pair)
    return items


def show(study: Study, name: str) -> Figure | Styler | None:
    """One thing of a study for a notebook, and its files in figures/. Texts are printed, or why it cannot be made yet.

    MmerError for a name that no study has.
    """
    items = everything(study)
    if name not in items:
        raise MmerError(f"{study!r} has no {name!r} to show; it has {', '.join(items)}")
    try:
        item = items[name]()
    except MmerError as error:
        return print(f"Not yet: {error}")
    _save(item, name, None)
    if isinstance(item, Table):
        return tables.shown(item.frame).style.hide(axis="index")
    return print(item) if isinstance(item, str) else item


def export(study: Study, folder: str | Path | None = None) -> list[Path]:
    """Write all figures and tables that the runs of a study allow so far, into figures/ by default; returns the files.

    What cannot be made yet is named with the reason, on standard output. MmerError if nothing has been trained.
    """
    if study.results().empty:
        raise MmerError(f"{study!r}: train something first (python -m mmer_core run)")
    files = []
    for name, make in contents(study).items():
        try:
            files += _save(make(), name, folder)
        except MmerError as error:
            print(f"left out {name}: {error}")
    return files


def _save(item: Item, name: str, folder: str | Path | None) -> list[Path]:
    if isinstance(item, Figure):
        return figures.save_figure(item, name, folder)
    if isinstance(item, Table):
        return tables.save_table(item.frame, name, item.caption, folder)
    file = figures.output_folder(folder) / f"{name}.txt"
    file.write_text(item + "\n", encoding="utf-8")
    return [file]


def _scores(study: Study, kinds: Sequence[str]) -> Figure:
    """The runs of some kinds of attention; incomplete variants are marked."""
    results = _finished(study, kinds)
    return figures.scores(results, study.corpus, {name: study.marked(name) for name in results["variant"].unique()})


def _results(study: Study, kinds: Sequence[str]) -> Table:
    names = "; ".join(f"{ours} is called {names_elsewhere(ours)}" for ours in tables.scores_shown(study))
    caption = f"Test scores in %: {names}. {study.corpus.title}. Published numbers: IEMOCAP; {SOURCE}."
    return Table(tables.results_table(study, _finished(study, kinds)), caption)


def _finished(study: Study, kinds: Sequence[str]) -> pd.DataFrame:
    results = study.results()
    mine = results[results["attention"].isin(kinds)]
    if mine.empty:
        raise MmerError(f"no variant with {' or '.join(kinds)} attention has been trained")
    return mine


def _report(study: Study) -> str:
    """The verdicts in words, and the declared pairs that cannot be judged yet."""
    still_open = study.unjudged()
    judged = stats.prose(study.judged(), study.corpus.title, len(still_open))
    return "\n".join([judged, *(f"No verdict on {what}: {why}." for what, why in still_open.items())])


def _paired(study: Study, pair: tuple[str, str]) -> Figure:
    return figures.paired(study.comparison(*pair), study.corpus.title)


def _trained(study: Study, variant: str) -> pd.DataFrame:
    """All results; MmerError unless the variant is among them."""
    results = study.results()
    if variant not in set(results["variant"]):
        raise MmerError(f"{variant or 'nothing'} has {'not ' if variant else ''}been trained")
    return results


def learning_curves(study: Study, variants: Sequence[str]) -> Figure:
    if not variants:
        raise MmerError("nothing has been trained")
    title = ", ".join([*map(study.marked, variants), study.corpus.title])
    return figures.learning_curves(study.learning_curves(), variants, title)


def confusion(study: Study, variant: str) -> Figure:
    corpus = study.corpus
    _trained(study, variant)
    return figures.confusion(study.confusion(variant), corpus.classes, f"{study.marked(variant)}, {corpus.title}")


def _attention(study: Study, variant: str) -> Figure:
    """The first attention block of a variant's first run, on the first test utterance of its fold."""
    corpus, results = study.corpus, _trained(study, variant)
    fold, seed = results.loc[results["variant"] == variant, ["fold", "seed"]].iloc[0]
    explanation = explain(study.model(variant, fold, seed), corpus, int(corpus.folds[fold].test[0]), fold)
    block = next(iter(explanation.maps.values()))
    where = f"{variant}, fold {fold}, seed {seed}, {explanation.id}: {explanation.label}"
    title = f"{where}\n{block_name(block.block)}, mean of heads, {corpus.title}"
    return figures.attention_map(block, None, title, figures.attention_top(explanation.maps.values()))
