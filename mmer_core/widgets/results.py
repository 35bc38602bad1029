"""The panel of notebooks 02 and 03: two variants side by side, and the ladder of all sets of modalities."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape

import numpy as np
import pandas as pd

from mmer_core import bundle
from mmer_core.corpus import MODALITIES
from mmer_core.declaration import Pair
from mmer_core.errors import MmerError
from mmer_core.figures.parts import COLOURS
from mmer_core.metrics import METRICS, PUBLISHED_NAMES, SOURCE, published_results
from mmer_core.stats import Comparison
from mmer_core.study import Study
from mmer_core.typeset import variants_named
from mmer_core.variant import CHOICES, Variant
from mmer_core.widgets import inline
from mmer_core.widgets.kit import Panel, Picture, Shown, View, choice, refill, table
from mmer_core.widgets.pickers import VariantPicker, metric_choice, rows
from mmer_core.widgets.training import Training

AUTOMATIC = "chosen by itself"


def results_panel(study: Study, attentions: Sequence[str] = ("self",)) -> Panel:
    """Toggle modalities, attention, pooling and preset; see how that variant fares beside another, and train it."""
    picker, metric = (VariantPicker(study, attentions), metric_choice(study))
    beside, view = choice("beside", [(AUTOMATIC, "")], width="17em"), View(saves=4)
    training = Training(view, study, view.changed)

    def react() -> partial[Shown]:
        picker.restrict()
        variant, subsets = picker.variant(), picker.subsets()
        trained = list(dict.fromkeys(study.results()["variant"]))
        refill(beside, {AUTOMATIC: "", **{variants_named(name): name for name in trained}})
        training.offer(study.with_variants([variant]))
        other = study.variants[beside.value] if beside.value else automatic(variant, subsets[-1], trained)
        return partial(results_shown, study, variant, other, subsets, metric.value)

    view.follow([*picker.all, metric, beside], react)
    return Panel([rows(*picker.groups, beside, metric), training], view, partial(all_variants, study, attentions))


def automatic(variant: Variant, whole: Variant, trained: Sequence[str]) -> Variant:
    """What a variant stands beside: the one with all modalities; and that one beside another kind of attention."""
    if variant != whole:
        return whole
    kinds = [replace(variant, attention=kind) for kind in CHOICES["attention"] if kind != variant.attention]
    return next((other for other in kinds if other.name in trained), variant)


def results_shown(study: Study, variant: Variant, other: Variant, subsets: Sequence[Variant], metric: str) -> Shown:
    """One variant beside another: verdict, scores, curves, confusion; the ladder of its subsets, what each adds."""
    shown = study.with_variants(dict.fromkeys([*subsets, other, variant]))
    results, title = shown.results(), escape(study.corpus.title)
    both = [v for v in dict.fromkeys([variant, other]) if v.name in set(results["variant"])]
    lesser = {m: v for v in subsets for m in variant.modalities if v.modalities == variant.modalities.replace(m, "")}
    pairs = [(other.name, variant.name)] if other != variant else []
    found = verdicts(shown, [*pairs, *((variant.name, v.name) for v in lesser.values())], metric)
    message = f"{_trained(shown, results, variant)} {title}. {_in_words(found[pairs[0]] if pairs else None)}"
    values = results.loc[results["variant"].isin([v.name for v in subsets]), metric]
    details = inline.TEMPLATES.get_template("results.html.j2").render(
        metric=metric.replace("_", " "),
        colour=COLOURS[variant.attention],
        ladder=[_rung(results, v, metric, {other: "mmer-beside", variant: "mmer-chosen"}) for v in subsets],
        ladder_scale=inline.Scale.around(values),
        **_costs(variant, lesser, found),
        names=[variants_named(v.name) for v in both],
        scores=[_score(results, both, name) for name in METRICS],
        source=SOURCE,
        columns=[_column(shown, v) for v in both],
        classes=study.corpus.classes,
        tint=inline.tint,
    )
    return Shown(variants_named(message), _to_save(shown, both), variants_named(details))


def _trained(study: Study, results: pd.DataFrame, variant: Variant) -> str:
    mine = results[results["variant"] == variant.name]
    if mine.empty:
        return f"<b>{variant.name}</b> has not been trained on the"
    done = f"{len(mine)} of {len(study.folds) * len(study.seeds)} runs"
    return f"<b>{variant.name}</b>: {done}, {mine['parameters'].iloc[0]:,} parameters,"


def verdicts(study: Study, pairs: Sequence[Pair], metric: str) -> dict[Pair, Comparison | str]:
    """The verdict on each pair, or why there is none."""
    try:
        why = study.open_pairs(pairs)
        judged = study.comparisons([pair for pair in pairs if pair not in why], metric)
    except MmerError as error:
        return dict.fromkeys(pairs, str(error))
    return {**why, **{(c.first, c.second): c for c in judged}}


def _in_words(verdict: Comparison | str | None) -> str:
    if not isinstance(verdict, Comparison):
        return f"No verdict: {escape(verdict)}." if verdict else "To see another variant beside it, choose one."
    said, rest = escape(verdict.sentence()).split(":", 1)
    return f"<b>{said}</b>:{rest}"


def _rung(results: pd.DataFrame, variant: Variant, metric: str, marks: Mapping[Variant, str]) -> dict:
    """One line of the ladder of sets of modalities."""
    mine = results.loc[results["variant"] == variant.name, ["fold", "seed", metric, "n_test"]]
    runs = list(mine.itertuples(index=False, name=None))
    name = " + ".join(MODALITIES[m] for m in variant.modalities)
    return dict(name=name, mark=marks.get(variant, ""), runs=runs, mean=mine[metric].mean())


def _costs(variant: Variant, lesser: Mapping[str, Variant], found: Mapping[Pair, Comparison | str]) -> dict:
    """What the variant loses without each of its modalities, or why that cannot be said."""
    names = {m: (variant.name, v.name) for m, v in lesser.items()}
    two = f"{variant.attention} attention needs two modalities"
    costs = [(MODALITIES[m], found[names[m]] if m in names else two) for m in variant.modalities]
    judged = [c for _, c in costs if isinstance(c, Comparison)]
    ends = (x for c in judged for x in (*c.interval95, -c.rope, c.rope))
    return dict(costs=costs, costs_scale=inline.Scale.around(ends))


def _score(results: pd.DataFrame, variants: Sequence[Variant], metric: str) -> dict:
    """A score of the runs of one or two variants, with the published one."""
    runs = [results.loc[results["variant"] == v.name, metric] for v in variants]
    published = published_results().set_index("variant")
    known = variants and variants[0].name in published.index and metric in published
    theirs = published.loc[variants[0].name, metric] if known else None
    name = PUBLISHED_NAMES[metric].get("Rajan et al.")
    return dict(name=metric.replace("_", " "), theirs=name, runs=runs, published=theirs)


def _column(study: Study, variant: Variant) -> dict:
    """Learning curves and confusion matrix of one variant."""
    one, counts, classes = study.with_variants([variant]), study.confusion(variant.name), study.corpus.classes
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    matrix = [(name, list(zip(classes, *row, strict=True))) for name, *row in zip(classes, counts, shares, strict=True)]
    curves = base64.b64encode(inline.curves(one.learning_curves(), COLOURS[variant.attention]).encode()).decode()
    runs = len(one.results())
    drawn = f"Curves of at most {inline.MOST} of {runs} runs" * (runs > inline.MOST)
    return dict(name=study.marked(variant.name), curves=curves, drawn=drawn, matrix=matrix, runs=runs)


def all_variants(study: Study, attentions: Sequence[str]) -> str:
    """The mean scores of every variant that a panel can show."""
    results = study.results().query("attention in @attentions")
    means = (100 * results.groupby("variant", sort=False)[list(METRICS)].mean()).reset_index()
    means.columns = [str(name).replace("_", " ") for name in means.columns]
    means["variant"] = [variants_named(study.marked(name)) for name in means["variant"]]
    return f"<h4>Means of all variants (%)</h4>{table(means)}" if len(means) else ""


def _to_save(study: Study, variants: Sequence[Variant]) -> list[Picture]:
    """The pictures of the bundle that show the same, for a paper."""
    if not variants:
        return []
    names = [v.name for v in variants]
    pictures = [Picture(f"learning_curves_{'_'.join(names)}", partial(bundle.learning_curves, study, names))]
    pictures += [Picture(f"confusion_{name}", partial(bundle.confusion, study, name)) for name in names]
    return [*pictures, Picture(f"ladder_{variants[0].attention}", bundle.everything(study)["scores"])]
