"""Every panel of the notebooks. A panel asks the study and draws with `figures`; it computes nothing itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import ipywidgets as W
import pandas as pd
from IPython.display import clear_output, display

from mmer_core import figures
from mmer_core.corpus import MODALITIES, Corpus, CorpusError
from mmer_core.explain import explain
from mmer_core.formats import open_corpus
from mmer_core.metrics import METRICS, PUBLISHED_NAMES, published_results
from mmer_core.stats import compare
from mmer_core.study import Study
from mmer_core.variant import Variant

_WIDE = {"description_width": "6em"}


def _show(out: W.Output, *things: object) -> None:
    """Replace what an output area shows, without flicker."""
    with out:
        clear_output(wait=True)
        for thing in things:
            display(thing)


def _choice(options: Sequence, description: str, **more) -> W.Dropdown:
    return W.Dropdown(options=options, description=description, style=_WIDE, **more)


# ---------------------------------------------------------------------------------------------- 01: the corpus


def corpus_panel(corpus: Corpus) -> W.VBox:
    """Open a corpus by its path (building its store if need be) and read its report."""
    where = W.Text(value=str(corpus.path), description="corpus", layout=W.Layout(width="70%"), style=_WIDE)
    button, message, out = W.Button(description="Open"), W.HTML(), W.Output()

    def report(found: Corpus) -> None:
        items = "".join(f"<li>{html.escape(s)}</li>" for s in found.findings)
        message.value = (
            f"<b>{html.escape(found.title)}</b>: {len(found)} utterances, {len(found.classes)} classes<ul>{items}</ul>"
        )
        _show(out, *found.report().values(), figures.class_sizes(found))

    def on_click(_: object) -> None:
        button.disabled, message.value = True, "reading …"
        try:
            found = open_corpus(where.value)
            report(found)
            if found.path != corpus.path:
                line = html.escape(f'corpus = "{Path(where.value).expanduser().resolve()}"')
                message.value += (
                    f"To study this corpus, write <code>{line}</code> into data/study.toml and run all again."
                )
        except CorpusError as error:
            message.value = f"<b>This cannot be opened.</b> {html.escape(str(error))}"
            with out:
                clear_output()
        finally:
            button.disabled = False

    button.on_click(on_click)
    report(corpus)
    return W.VBox([W.HBox([where, button]), message, out])


# ------------------------------------------------------------------------------------- 02, 03: results by modality


def results_panel(study: Study, attentions: Sequence[str] = ("self",)) -> W.VBox:
    """Toggle modalities, attention and pooling; see scores, learning curves and confusion matrix of that variant.

    Toggles that would lead to a variant without a meaning are switched off. A variant without all of its runs can be
    trained on the spot, with the study's seeds, folds and protocol.
    """
    toggles = {
        m: W.ToggleButton(value=True, description=name, tooltip=f"use {name}", layout=W.Layout(width="6em"))
        for m, name in MODALITIES.items()
    }
    attention = W.ToggleButtons(options=attentions, description="attention", style={**_WIDE, "button_width": "6em"})
    pooling = W.ToggleButtons(
        options=["statistical", "none"], description="pooling", style={**_WIDE, "button_width": "6em"}
    )
    preset = W.ToggleButtons(
        options=["published", "corrected"], description="preset", style={**_WIDE, "button_width": "6em"}
    )
    summary, train, out = W.HTML(), W.Button(button_style="primary", layout=W.Layout(width="auto")), W.Output()

    def modalities() -> str:
        return "".join(m for m, toggle in toggles.items() if toggle.value)

    def chosen() -> Variant:
        one = len(modalities()) == 1
        return Variant(modalities(), attention.value, None if one else pooling.value, preset=preset.value)

    def restrict() -> None:
        """Offer only what has a meaning: cross-attention needs two modalities, and one modality has no pooling."""
        alone = ("self", "uniform")
        least = 1 if attention.value in alone else 2
        for m, toggle in toggles.items():
            toggle.disabled = toggle.value and len(modalities().replace(m, "")) < least
        pooling.disabled = len(modalities()) == 1
        fitting = tuple(a for a in attentions if len(modalities()) > 1 or a in alone)
        if fitting != tuple(attention.options):
            before = attention.value
            attention.options = fitting  # this sets the first one
            attention.value = before

    def draw(_: object = None) -> None:
        variant = chosen()
        here = study.with_variants([variant])
        results, missing = here.results(), len(here.missing())
        train.layout.display = "" if missing else "none"
        train.description = f"Train the {missing} missing runs of {variant.name}"
        summary.value = _summary(variant, results, len(here.runs), study.corpus)
        if results.empty:
            with out:
                clear_output()
            return
        _show(
            out,
            figures.learning_curves(here.learning_curves(), [variant.name], f"{variant.name}, {study.corpus.title}"),
            figures.confusion(
                here.confusion(variant.name), study.corpus.classes, f"{variant.name}\n{study.corpus.title}"
            ),
        )

    def on_train(_: object) -> None:
        train.disabled = True
        try:
            with out:
                clear_output()
                study.with_variants([chosen()]).run()
        finally:
            train.disabled = False
        draw()

    busy = [False]

    def on_toggle(_: object) -> None:
        if not busy[0]:
            busy[0] = True
            restrict()
            busy[0] = False
            draw()

    for control in (*toggles.values(), attention, pooling, preset):
        control.observe(on_toggle, "value")
    train.on_click(on_train)
    restrict()
    draw()
    rows = [W.HBox([W.Label("modalities", layout=W.Layout(width="6em")), *toggles.values()])]
    rows += [attention] if len(attentions) > 1 else []
    return W.VBox([*rows, pooling, preset, summary, train, out])


def _summary(variant: Variant, results: pd.DataFrame, wanted: int, corpus: Corpus) -> str:
    """The scores of one variant as a small table, with the published ones and their names beside them."""
    title = html.escape(corpus.title)
    if results.empty:
        return f"<b>{variant.name}</b> has not been trained on the {title}."
    published = published_results().set_index("variant").reindex([variant.name]).iloc[0]
    table = pd.DataFrame(
        {
            "score (%)": METRICS,
            "mean of runs": [100 * results[m].mean() for m in METRICS],
            "lowest": [100 * results[m].min() for m in METRICS],
            "highest": [100 * results[m].max() for m in METRICS],
            "published, on IEMOCAP": [100 * published.get(m, float("nan")) for m in METRICS],
            "its name there": [PUBLISHED_NAMES[m][0] for m in METRICS],
        }
    )
    parameters = f"{results['parameters'].iloc[0]:,} parameters"
    head = f"<b>{variant.name}</b>: {len(results)} of {wanted} runs, {parameters}, {title}"
    return head + table.to_html(index=False, na_rep="–", float_format="{:.1f}".format, border=0)


# ----------------------------------------------------------------------------------------------- 04: attention maps


def attention_panel(study: Study) -> W.VBox:
    """Pick a finished run, an utterance of its test part, a block and a head; see the attention weights."""
    results, corpus = study.results(), study.corpus
    if results.empty:
        return W.VBox([W.HTML("No run of this study is finished yet: call <code>study.run()</code>.")])
    names = list(dict.fromkeys(results["variant"]))
    variant = _choice(names, "variant", value="self_tva" if "self_tva" in names else names[0])
    fold, seed, utterance, block, head = (_choice([], name) for name in ("fold", "seed", "utterance", "block", "head"))
    utterance.layout.width = "70%"
    message, out = W.HTML(), W.Output()
    load = lru_cache(maxsize=4)(study.model)
    quiet = [False]  # while one choice fills the next, nothing is drawn

    def refill(box: W.Dropdown, options: list) -> None:
        before = box.value
        box.options = options
        values = [o[1] if isinstance(o, tuple) else o for o in options]
        box.value = before if before in values else values[0]

    def fill(_: object = None) -> None:
        if quiet[0]:
            return
        quiet[0] = True
        mine = results[results["variant"] == variant.value]
        refill(fold, sorted(mine["fold"].unique().tolist()))
        refill(seed, sorted(mine.loc[mine["fold"] == fold.value, "seed"].tolist()))
        rows = corpus.folds[fold.value].test.tolist()
        refill(
            utterance,
            [
                (f"{corpus.ids[r]}  {corpus.classes[corpus.label[r]]}: {' '.join(corpus.transcript(r))}"[:110], r)
                for r in rows
            ],
        )
        refill(
            block, [(_block_name(b, study.variants[variant.value]), b) for b in study.variants[variant.value].blocks]
        )
        quiet[0] = False
        draw()

    def draw(_: object = None) -> None:
        if quiet[0]:
            return
        found = explain(load(variant.value, fold.value, seed.value), corpus, utterance.value, fold.value)
        quiet[0] = True
        chosen = found.maps[block.value]
        refill(head, [("mean of all", None), *((f"head {i + 1}", i) for i in range(len(chosen.weights)))])
        quiet[0] = False
        right = "right" if found.label == found.predicted else "wrong"
        message.value = (
            f"said <b>{html.escape(found.predicted)}</b> with probability {found.probability.max():.2f}; "
            f"the label is <b>{html.escape(found.label)}</b> ({right})"
        )
        which = "mean of heads" if head.value is None else f"head {head.value + 1}"
        run = f"{variant.value}, fold {fold.value}, seed {seed.value}"
        title = f"{run}, {found.id}, block {block.value}, {which}\n{corpus.title}"
        _show(out, figures.attention_map(chosen, head.value, title))

    for control, react in ((variant, fill), (fold, fill), (seed, draw), (utterance, draw), (block, draw), (head, draw)):
        control.observe(react, "value")
    fill()
    return W.VBox([W.HBox([variant, fold, seed]), utterance, W.HBox([block, head]), message, out])


def _block_name(block: str, variant: Variant) -> str:
    if "_" not in block:
        return f"{MODALITIES[block]} to itself"
    source, target = block.split("_")
    return f"{MODALITIES[target]} asks {MODALITIES[source]}"


# -------------------------------------------------------------------------------------------------- 05: comparisons


def comparison_panel(study: Study) -> W.VBox:
    """Choose two variants and a metric; see paired scores, the difference with its interval, and the verdict."""
    results = study.results()
    names = list(dict.fromkeys(results["variant"]))
    if len(names) < 2:
        return W.VBox([W.HTML("Fewer than two variants of this study are trained yet: call <code>study.run()</code>.")])
    start = ("self_tva", "cross_tva") if {"self_tva", "cross_tva"} <= set(names) else names[:2]
    first, second = (_choice(names, d, value=v) for d, v in zip(("first", "second"), start, strict=True))
    metric = _choice(list(METRICS), "metric", value=study.primary_metric)
    message, out = W.HTML(), W.Output()

    def draw(_: object = None) -> None:
        try:
            found = compare(results, first.value, second.value, metric.value, rope=study.margin)
        except ValueError as error:
            message.value = html.escape(str(error))
            with out:
                clear_output()
            return
        secondary = (
            ""
            if metric.value == study.primary_metric
            else f" (secondary: the study's metric is {study.primary_metric})"
        )
        notes = "".join(f"<br>{html.escape(note)}" for note in found.notes)
        message.value = f"<b>{html.escape(found.sentence())}</b>{secondary}{notes}"
        table = (
            found.other_tests()
            .style.hide(axis="index")
            .format({"estimate": "{:.4f}", "p": "{:.3f}", "interval": _interval})
        )
        _show(out, figures.paired(found, study.corpus.title), table)

    for control in (first, second, metric):
        control.observe(draw, "value")
    draw()
    return W.VBox([W.HBox([first, second, metric]), message, out])


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
