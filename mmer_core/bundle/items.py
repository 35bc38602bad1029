"""Every figure, table and text of a study, each made in one place under the name of its file."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mmer_core import figures, stats, tables
from mmer_core.analyses import ANALYSES, MAIN, Item, two
from mmer_core.bundle import article
from mmer_core.corpus import Corpus
from mmer_core.errors import MmerError
from mmer_core.explain import block_name, explain
from mmer_core.explained import EXPLAINED
from mmer_core.metrics import SOURCE, names_elsewhere
from mmer_core.study import Study
from mmer_core.tables import Table

KINDS = {"scores_self": ("self", "uniform"), "scores": ("self", "uniform", "cross", "both")}
KINDS_OF_TABLES = {"results_self": ("self", "uniform"), "results_cross": ("cross", "both"), "results": KINDS["scores"]}
ALL_KINDS = {**KINDS, **KINDS_OF_TABLES}
# Of figures, by their names or the first word of them.
CAPTIONS = pd.read_csv(Path(__file__).with_name("captions.csv"), index_col="figure")["caption"].to_dict()


def contents(study: Study) -> dict[str, Callable[[], Item]]:
    """What there may be to show of a study so far, each once: the name of its file, and a function that makes it.

    MmerError by such a function says why the runs do not allow it yet. Without any run there is only the corpus.
    """
    items, trained = everything(study), set(study.results()["attention"])
    if not trained:
        return {name: make for name, make in items.items() if name.startswith("corpus_")}
    same = [name for name, kinds in ALL_KINDS.items() if trained <= set(kinds) and name not in ("scores", "results")]
    once = {id(make): name for name, make in reversed(items.items())}  # of two names for one thing, the first
    return {name: make for name, make in items.items() if once[id(make)] == name and name not in same}


def caption(study: Study, name: str) -> str:
    """That of a figure."""
    known = name if name in CAPTIONS else name.partition("_")[0]
    about = "" if known == name or known == "scores" else f": {name.partition('_')[2].replace('_cross', ', cross')}"
    return f"{CAPTIONS[known]}{about}. {study.corpus.title}."


def subjects(study: Study) -> dict[str, list[str]]:
    """Of each item, by its name, the variants whose runs it is made from; none if it needs no runs."""
    results, pairs = study.results(), study.declaration.pairs
    trained = dict(zip(results["variant"], results["attention"], strict=True))
    declared = list(dict.fromkeys(itertools.chain(*pairs)))
    about = dict.fromkeys(("forest", "comparisons", "report", "findings"), declared)
    about |= {name: list(trained) for name in ("all_pairs", "pair_matrix", "best_variants", "controls", "methods")}
    added = list(dict.fromkeys(itertools.chain(*study.additions())))
    about |= dict.fromkeys(("additions", "forest_additions"), added)
    about |= dict.fromkeys((*MAIN, *EXPLAINED), two(study) if trained else [])
    for name, kinds in ALL_KINDS.items():
        mine = [variant for variant, attention in trained.items() if attention in kinds]
        verdicts = [pair for pair in pairs if set(pair) & set(mine) and name in KINDS_OF_TABLES]
        about[name] = list(dict.fromkeys([*mine, *itertools.chain(*verdicts)]))
    about["learning_curves"] = _best(study.corpus, list(trained))
    for name, make in everything(study).items():
        about.setdefault(name, [v for v in make.args[1:] if v] if isinstance(make, partial) else [])  # of one or two
    return about


def _best(corpus: Corpus, trained: list[str]) -> list[str]:
    return [name for name in _whole(corpus) if name in trained] or trained[:1]


def _whole(corpus: Corpus) -> list[str]:
    """Self- and cross-attention on all modalities that there are."""
    return [f"{kind}_{corpus.modalities}" for kind in ("self", "cross")]


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
    items["forest"] = lambda: figures.forest(study.judged(), title)
    items["comparisons"] = lambda: Table(stats.verdict_table(study.judged()), f"Differences in points. {title}.")
    items["report"] = partial(_report, study)
    items["methods"] = lambda: article.plain(article.methods(study))
    items["findings"] = lambda: article.plain(article.findings(study, _report(study)))
    items |= {name: partial(_scores, study, kinds) for name, kinds in KINDS.items()}
    items |= {name: partial(_results, study, kinds) for name, kinds in KINDS_OF_TABLES.items()}
    trained = list(dict.fromkeys(results["variant"]))
    best = _best(corpus, trained)
    items["learning_curves"] = lambda: learning_curves(study, best)
    declared = [name for name in _whole(corpus) if name in study.variants] or list(study.variants)[:1]
    for name in dict.fromkeys([*best, *declared]):
        items[f"confusion_{name}"] = partial(confusion, study, name)
        items[f"attention_{name}"] = partial(_attention, study, name)
    most_blocks = max(trained, key=lambda name: len(study.variants[name].blocks), default="")
    items["attention_example"] = items.get(f"attention_{most_blocks}") or partial(_attention, study, most_blocks)
    for pair in study.declaration.pairs:
        items["paired_{}_{}".format(*pair)] = partial(_paired, study, *pair)
    items |= {name: partial(make, study) for name, make in (ANALYSES | EXPLAINED).items()}
    return items


def _scores(study: Study, kinds: Sequence[str]) -> Figure:
    """The runs of some kinds of attention; incomplete variants are marked."""
    results = _finished(study, kinds)
    return figures.scores(results, study.corpus, {name: study.marked(name) for name in results["variant"].unique()})


def _results(study: Study, kinds: Sequence[str]) -> Table:
    names = "; ".join(f"{ours} is {names_elsewhere(ours)}" for ours in tables.scores_shown(study))
    results, metrics = _finished(study, kinds), tables.scores_shown(study)
    bold = tables.not_shown_worse(results, metrics, study.margin, study.comparison)
    frame = tables.results_table(study, results)
    caption = f"Test scores in %: mean (SD over folds, SD over seeds). Names elsewhere: {names}. {study.corpus.title}."
    caption += f" Published numbers: IEMOCAP; {SOURCE}."
    if bold:
        caption += " Bold: not shown worse than any other variant of this table (Holm's 5% over all pairs)."
    return Table(frame, caption, tables.results_printed(frame, metrics), bold)


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


def _paired(study: Study, first: str, second: str) -> Figure:
    return figures.paired(study.comparison(first, second), study.corpus.title)


def _trained(study: Study, variant: str) -> pd.DataFrame:
    """All results; MmerError unless the variant is among them."""
    results = study.results()
    if variant not in set(results["variant"]):
        raise MmerError(f"{variant} has not been trained" if variant else "nothing has been trained")
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
    """An attention block of a variant's first run, on the first test utterance of its fold."""
    corpus, results = study.corpus, _trained(study, variant)
    fold, seed = results.loc[results["variant"] == variant, ["fold", "seed"]].iloc[0]
    explanation = explain(study.model(variant, fold, seed), corpus, int(corpus.folds[fold].test[0]), fold)
    maps = explanation.maps.values()
    mixed = [found for found in maps if "_" in found.block]  # of two modalities
    block = (mixed or list(maps))[0]
    where = f"{variant}, fold {fold}, seed {seed}, {explanation.id}: {explanation.label}"
    title = f"{where}\n{block_name(block.block)}, mean of heads, {corpus.title}"
    return figures.attention_map(block, None, title, figures.attention_top(maps))
