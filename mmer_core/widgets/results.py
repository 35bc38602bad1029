"""The panel of notebooks 02 and 03: two variants side by side, and the ladder of all sets of modalities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from typing import cast

import pandas as pd
from matplotlib.figure import Figure

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
    picker, metric = VariantPicker(study, attentions), metric_choice(study)
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
    left = f"<h4>Sets of modalities, {metric.replace('_', ' ')} (%)</h4>"
    left += ladder(results, subsets, variant, other, metric, study.corpus.classes)
    left += f"<h4>What leaving out costs (points)</h4>{costs(variant, lesser, found)}"
    left += f"<h4>Means of the runs (%)</h4>{scores(results, both)}" if both else ""
    columns = "".join(f"<div>{column(shown, v)}</div>" for v in both)
    details = f'<div class="mmer-columns"><div>{left}</div>{columns}</div>'
    return Shown(variants_named(message), _to_save(shown, both), variants_named(details))


def _trained(study: Study, results: pd.DataFrame, variant: Variant) -> str:
    mine = results[results["variant"] == variant.name]
    if mine.empty:
        return f"<b>{variant.name}</b> has not been trained on the"
    wanted = len(study.folds) * len(study.seeds)
    return f"<b>{variant.name}</b>: {len(mine)} of {wanted} runs, {mine['parameters'].iloc[0]:,} parameters,"


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


def modality_set(variant: Variant) -> str:
    return " + ".join(MODALITIES[m] for m in variant.modalities)


def ladder(
    results: pd.DataFrame, subsets: Sequence[Variant], chosen: Variant, other: Variant, metric: str, classes: Sequence
) -> str:
    """All sets of modalities of one kind of network, a line each: its runs and their mean."""
    known = results[results["variant"].isin([v.name for v in subsets])]
    scale, cells, marks = inline.Scale.around(known[metric]), [], []
    for variant in subsets:
        mine = known[known["variant"] == variant.name]
        colour = COLOURS[variant.attention]
        strip = inline.runs_strip(mine, metric, scale, colour) if len(mine) else "not trained"
        cells.append([modality_set(variant), strip, f"{100 * mine[metric].mean():.1f}" if len(mine) else "–"])
        marks.append("mmer-chosen" if variant == chosen else "mmer-beside" if variant == other else "")
    return inline.rows(cells, marked=marks)


def costs(variant: Variant, lesser: Mapping[str, Variant], found: Mapping[Pair, Comparison | str]) -> str:
    """What the variant loses without each of its modalities: difference, interval, verdict."""
    compared = [c for (first, _), c in found.items() if first == variant.name and isinstance(c, Comparison)]
    scale = inline.Scale.around(x for c in compared for x in (*c.interval95, -c.rope, c.rope))
    cells = []
    for m in variant.modalities:
        name = f"without {MODALITIES[m]}"
        needs_two = f"{variant.attention} attention needs two modalities"
        c = found[variant.name, lesser[m].name] if m in lesser else needs_two
        if isinstance(c, str):
            cells.append([name, f'<span title="{escape(c)}">no verdict yet</span>', "", ""])
            continue
        strip = inline.interval_strip(c.interval95.low, c.difference, c.interval95.high, c.rope, scale, "#333333")
        why = f"{c.verdict}; exploratory: {c.exploratory}" if c.exploratory else c.verdict
        word = f"({c.verdict})" if c.exploratory else c.verdict
        points = f"{100 * c.difference:+.1f}".replace("-", "−")
        cells.append([name, strip, points, f'<span title="{escape(why)}">{word}</span>'])
    return inline.rows(cells) if len(cells) > 1 else "one modality: nothing can be left out"


def scores(results: pd.DataFrame, variants: Sequence[Variant]) -> str:
    """All scores of one or two variants, with the published ones; lowest and highest run under the pointer."""
    published = published_results().set_index("variant")
    names = [variants_named(v.name).replace(" ", "<br>") for v in variants]
    cells, head = [], ["score", *names, "published,<br>IEMOCAP"]
    for metric in METRICS:
        name = metric.replace("_", " ")
        theirs = PUBLISHED_NAMES[metric].get("Rajan et al.")
        row = [f'{name} <span title="{escape(SOURCE)}">({theirs})</span>' if theirs else name]
        for v in variants:
            mine = 100 * results.loc[results["variant"] == v.name, metric]
            told = f"{len(mine)} runs, {mine.min():.1f} to {mine.max():.1f}"
            row.append(f'<span title="{told}">{mine.mean():.1f}</span>')
        known = variants[0].name in published.index and metric in published
        row.append(f"{100 * published.loc[variants[0].name, metric]:.1f}" if known else "–")
        cells.append(row)
    return inline.rows(cells, head)


def all_variants(study: Study, attentions: Sequence[str]) -> str:
    """The mean scores of every variant that a panel can show."""
    results = study.results().query("attention in @attentions")
    means = (100 * results.groupby("variant", sort=False)[list(METRICS)].mean()).reset_index()
    means.columns = [str(name).replace("_", " ") for name in means.columns]
    means["variant"] = [variants_named(study.marked(name)) for name in means["variant"]]
    return f"<h4>Means of all variants (%)</h4>{table(means)}" if len(means) else ""


def column(study: Study, variant: Variant) -> str:
    """Learning curves and confusion matrix of one variant."""
    one = study.with_variants([variant])
    words = f"learning curves of {variant.name}: loss and dev accuracy by epoch"
    curves = inline.curves_image(one.learning_curves(), COLOURS[variant.attention], words)
    table = inline.confusion_table(one.confusion(variant.name), study.corpus.classes, len(one.results()))
    return f"<h4>{study.marked(variant.name)}</h4>{curves}<h4>Row: true, column: predicted (%)</h4>{table}"


def _to_save(study: Study, variants: Sequence[Variant]) -> list[Picture]:
    """The pictures of the bundle that show the same, for a paper."""
    if not variants:
        return []
    names = [v.name for v in variants]
    pictures = [Picture(f"learning_curves_{'_'.join(names)}", partial(bundle.learning_curves, study, names))]
    pictures += [Picture(f"confusion_{name}", partial(bundle.confusion, study, name)) for name in names]
    return [
        *pictures,
        Picture(f"ladder_{variants[0].attention}", cast(Callable[[], Figure], bundle.everything(study)["scores"])),
    ]
