"""The panels: controls, and pure functions `..._shown` of their state. All numbers are the study's own."""

import html
import threading
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as W
import pandas as pd

from mmer_core import bundle, figures
from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.explain import explain
from mmer_core.formats import open_corpus
from mmer_core.metrics import METRICS, names_elsewhere, published_results
from mmer_core.model import HEADS
from mmer_core.stats import cautions, side_by_side
from mmer_core.study import Study
from mmer_core.variant import Variant
from mmer_core.widgets.kit import Shown, View, choice, refill, table


def corpus_panel(corpus: Corpus) -> W.VBox:
    """Open a corpus by its path (building its store if need be) and read its report."""
    where, button = W.Text(str(corpus.path), layout=W.Layout(width="70%")), W.Button(description="Open")
    view = View()

    def open_it() -> Shown:
        view.message.value = "reading …"
        opened = open_corpus(where.value)
        told = corpus_shown(opened).message
        if opened.path != corpus.path:
            line = html.escape(f'corpus = "{Path(where.value).expanduser().resolve()}"')
            told += f"To study this corpus, write <code>{line}</code> into data/study.toml and run all again."
        return Shown(told)

    button.on_click(view.callback(open_it))
    view.show(corpus_shown(corpus))
    return W.VBox([W.HBox([where, button]), view.message])


def corpus_shown(corpus: Corpus) -> Shown:
    """The findings and tables of a corpus's report."""
    headings = ("Utterances of each class", "Utterances in the parts of each fold", "Time steps", "Words")
    formats = {"share": "{:.1%}", "share of padding": "{:.1%}", "5%": "{:g}", "median": "{:g}", "95%": "{:g}"}
    frames = zip(headings, corpus.report().values(), strict=True)
    tables = "".join(f"<div><b>{heading}</b>{table(frame, **formats)}</div>" for heading, frame in frames)
    findings = "".join(f"<li>{html.escape(s)}</li>" for s in corpus.findings)
    head = f"<b>{html.escape(corpus.title)}</b>: {len(corpus)} utterances, {len(corpus.classes)} classes"
    grid = f'<div style="display: flex; flex-wrap: wrap; gap: 1em 4em">{tables}</div>'
    return Shown(f"{head}<ul>{findings}</ul>{grid}")


def results_panel(study: Study, attentions: Sequence[str] = ("self",)) -> W.VBox:
    """Toggle modalities, attention, pooling and preset; see how that variant fares, and train the runs it lacks."""
    controls, train, view = VariantControls(attentions), TrainButton(), View(pictures=2)

    def draw() -> Shown:
        controls.restrict()
        chosen = study.with_variants([controls.variant()])
        train.offer(chosen)
        return results_shown(chosen)

    def train_missing() -> Shown:
        train.run(study.with_variants([controls.variant()]))
        return draw()

    train.on_click(view.callback(train_missing))
    view.follow(controls.all, draw)
    return W.VBox([*controls.rows, view.message, train, *view.pictures])


class VariantControls:
    """Toggles for one variant. Those that would lead to a variant without a meaning are switched off."""

    def __init__(self, attentions: Sequence[str]):
        self.attentions = tuple(attentions)
        self.alone = tuple(a for a in attentions if a in ("self", "uniform"))  # those that make sense of one modality
        self.toggles = {
            m: W.ToggleButton(value=True, description=name, tooltip=f"use {name}", layout=W.Layout(width="7em"))
            for m, name in MODALITIES.items()
        }
        choices = (self.attentions, ("statistical", "none"), ("published", "corrected"))
        look = dict(style={"button_width": "7em"}, layout=W.Layout(width="auto"))
        self.attention, self.pooling, self.preset = (W.ToggleButtons(options=some, **look) for some in choices)
        rows = {"modalities": list(self.toggles.values()), "attention": [self.attention]}
        rows |= {"pooling": [self.pooling], "preset": [self.preset]}
        self.all = [control for row in rows.values() for control in row]
        self.rows = [W.HBox([W.Label(name, layout=W.Layout(width="6em")), *row]) for name, row in rows.items()]

    def modalities(self) -> str:
        return "".join(m for m, toggle in self.toggles.items() if toggle.value)

    def variant(self) -> Variant:
        pooling = None if len(self.modalities()) == 1 else self.pooling.value
        return Variant(self.modalities(), self.attention.value, pooling, preset=self.preset.value)

    def restrict(self) -> None:
        """Offer only what has a meaning: cross-attention needs two modalities, and one modality has no pooling."""
        number, least = len(self.modalities()), 1 if self.attention.value in self.alone else 2
        for toggle in self.toggles.values():
            toggle.disabled = toggle.value and number <= least
        self.pooling.disabled = number == 1
        fitting = self.alone if number == 1 else self.attentions
        if fitting != self.attention.options:
            before, self.attention.options = self.attention.value, fitting  # this chooses the first one
            self.attention.value = before


class TrainButton(W.Button):
    """Offers the missing runs of a study of one variant, and counts them while they are trained."""

    def __init__(self):
        layout = W.Layout(width="auto", align_self="flex-start")
        super().__init__(button_style="primary", tooltip="to stop, interrupt the kernel", layout=layout)

    def offer(self, study: Study) -> None:
        (variant,), missing = study.variants, len(study.missing())
        self.layout.display = "" if missing else "none"
        self.description = f"Train {variant} ({missing} of {len(study.runs)} runs missing)"

    def run(self, study: Study) -> None:
        over, wanted = threading.Event(), len(study.missing())

        def count() -> None:
            while not over.wait(0.5):
                self.description = f"Training: {wanted - len(study.missing())} of {wanted} runs done"

        watch = threading.Thread(target=count)
        self.disabled = True
        watch.start()
        try:
            study.run(progress=False)
        except KeyboardInterrupt:
            pass  # what is done is in the ledger, and the button offers the rest
        finally:
            over.set()
            watch.join()
            self.disabled = False
            self.offer(study)


def results_shown(study: Study) -> Shown:
    """Scores, learning curves and confusion matrix of a study of one variant, with the published scores beside."""
    (variant,), results, title = study.variants, study.results(), html.escape(study.corpus.title)
    if results.empty:
        return Shown(f"<b>{variant}</b> has not been trained on the {title}.")
    published = published_results().set_index("variant").reindex([variant]).iloc[0]
    mine = 100 * results[list(METRICS)]
    scores = pd.DataFrame({"mean of runs": mine.mean(), "lowest run": mine.min(), "highest run": mine.max()})
    scores.insert(0, "score (%)", [m.replace("_", " ") for m in METRICS])
    scores["published, on IEMOCAP"] = 100 * published.reindex(METRICS).astype(float)
    scores["its names elsewhere"] = [names_elsewhere(m) for m in METRICS]
    runs = f"{len(results)} of {len(study.runs)} runs, {results['parameters'].iloc[0]:,} parameters"
    pictures = (bundle.learning_curves(study, [variant]), bundle.confusion(study, variant))
    return Shown(f"<b>{variant}</b>: {runs}, {title}{table(scores)}", pictures)


def attention_panel(study: Study) -> W.VBox:
    """Pick a finished run, an utterance of its test part, a block and a head; see the attention weights."""
    results, corpus = study.results(), study.corpus
    if results.empty:
        return W.VBox([W.HTML(html.escape(study.progress()))])
    names = list(dict.fromkeys(results["variant"]))
    variant = choice("variant", names, value="self_tva" if "self_tva" in names else names[0])
    fold, seed, utterance, block = map(choice, ("fold", "seed", "utterance", "block"))
    head = choice("head", [(head_name(h), h) for h in range(-1, HEADS)])
    utterance.layout.width = "57em"
    view = View(pictures=1)

    def draw() -> Shown:
        runs = results[results["variant"] == variant.value]
        refill(fold, {str(k): k for k in runs["fold"].unique().tolist()})
        refill(seed, {str(s): s for s in runs.loc[runs["fold"] == fold.value, "seed"].tolist()})
        said = {r: " ".join(corpus.transcript(r)) for r in corpus.folds[fold.value].test.tolist()}
        named = {f"{corpus.ids[r]}  {corpus.classes[corpus.label[r]]}: {words}"[:100]: r for r, words in said.items()}
        refill(utterance, named)
        refill(block, {block_name(b): b for b in study.variants[variant.value].blocks})
        return attention_shown(study, variant.value, fold.value, seed.value, utterance.value, block.value, head.value)

    view.follow((variant, fold, seed, utterance, block, head), draw)
    chosen = [W.HBox([variant, fold, seed]), utterance, W.HBox([block, head])]
    return W.VBox([*chosen, view.message, *view.pictures])


def attention_shown(study: Study, variant: str, fold: int, seed: int, row: int, block: str, head: int) -> Shown:
    """What a trained network says of one utterance, and where one of its blocks attends (head -1: mean of heads)."""
    explanation = explain(study.model(variant, fold, seed), study.corpus, row, fold)
    predicted, label = html.escape(explanation.predicted), html.escape(explanation.label)
    message = f"The network says <b>{predicted}</b> with probability {explanation.probability.max():.2f}; "
    message += f"the label is <b>{label}</b>: {'right' if label == predicted else 'wrong'}."
    title = f"{variant}, fold {fold}, seed {seed}, {explanation.id}\n"
    title += f"{block_name(block)}, {head_name(head)}, {study.corpus.title}"
    return Shown(message, [figures.attention_map(explanation.maps[block], None if head < 0 else head, title)])


def block_name(block: str) -> str:
    asks, asked = MODALITIES[block[-1]], MODALITIES[block[0]]  # "a_t": text asks audio
    return f"{asks} asks {'itself' if asks == asked else asked}"


def head_name(head: int) -> str:
    return "mean of heads" if head < 0 else f"head {head + 1}"


def comparison_panel(study: Study) -> W.VBox:
    """Choose two variants and a metric; see paired scores, the difference with its interval, and the verdict."""
    names = list(dict.fromkeys(study.results()["variant"]))
    if len(names) < 2 or study.margin is None:
        need = "A verdict needs two variants that are trained, and a margin declared in the study."
        return W.VBox([W.HTML(f"{need} {html.escape(study.progress())}")])
    start = ("self_tva", "cross_tva") if {"self_tva", "cross_tva"} <= set(names) else names[:2]
    first, second = (choice(d, names, value=v) for d, v in zip(("first", "second"), start, strict=True))
    metric = choice("metric", [(m.replace("_", " "), m) for m in METRICS], value=study.primary_metric)
    view = View(pictures=1)
    view.follow((first, second, metric), lambda: comparison_shown(study, first.value, second.value, metric.value))
    return W.VBox([W.HBox([first, second, metric]), view.message, *view.pictures, view.details])


def comparison_shown(study: Study, first: str, second: str, metric: str) -> Shown:
    """The verdict on two variants with what to beware of, their runs in pairs, and what other methods say."""
    comparison = study.comparison(first, second, metric)
    verdict, rest = html.escape(comparison.sentence()).split(":", 1)
    notes = "".join(f"<br>{html.escape(note)}" for note in (*comparison.notes, *cautions(comparison)))
    tests = side_by_side(comparison).rename(columns={"estimate": "points", "keeps_level": "keeps 5%"})
    kept = {True: "yes", False: "no"}.get
    others = table(tests, points=_points, interval=_points, p="{:.3f}", **{"keeps 5%": kept})
    return Shown(f"<b>{verdict}</b>:{rest}{notes}", [figures.paired(comparison, study.corpus.title)], others)


def _points(x: float | tuple[float, float]) -> str:
    """A difference or an interval in points, on one line."""
    return "\u00a0to\u00a0".join(f"{100 * y:+.1f}" for y in (x if isinstance(x, tuple) else (x,)))
