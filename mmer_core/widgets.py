"""Every panel of the notebooks. A panel asks the study and draws with `figures`; it computes nothing itself."""

from __future__ import annotations

import html
import io
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import ipywidgets as W
import pandas as pd
from matplotlib.figure import Figure

from mmer_core import figures
from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.explain import explain
from mmer_core.formats import open_corpus
from mmer_core.metrics import METRICS, PUBLISHED_NAMES, published_results
from mmer_core.stats import PAIRS, cautions, compare, side_by_side
from mmer_core.study import Study
from mmer_core.variant import Variant

PIXELS = 116  # of the screen to an inch of a figure: its 8 point type is then as large as the notebook's own

# ------------------------------------------------------------------------------------------ what panels are made of


def png(fig: Figure) -> bytes:
    """The picture of a figure, twice as fine as it is shown, for screens that can."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=2 * PIXELS)
    return file.getvalue()


class Picture(W.Image):
    """A place for a figure. It changes in one step, without flicker; while it has no figure it takes no room."""

    def show(self, fig: Figure | None) -> None:
        if fig is not None:
            self.value = png(fig)
            self.layout.width, self.layout.max_width = f"{PIXELS * fig.get_figwidth():.0f}px", "100%"
        self.layout.display = "none" if fig is None else ""


def _callback(react: Callable[[], None], message: W.HTML, *pictures: Picture) -> Callable[..., None]:
    """`react` as widgets call it: not again while it sets a control itself, and its errors are told in the panel."""
    busy = [False]

    def call(_: object = None) -> None:
        if busy[0]:
            return
        busy[0] = True
        try:
            react()
        except Exception as error:  # whatever it is: out of a callback it would go to a log that nobody sees
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            message.value = f"<b>This cannot be done.</b> {html.escape(kind + str(error))}"
            for picture in pictures:
                picture.show(None)
        finally:
            busy[0] = False

    return call


def _follow(controls: Iterable[W.Widget], react: Callable[[], None], message: W.HTML, *pictures: Picture) -> None:
    """Call `react` now, and whenever a control changes."""
    call = _callback(react, message, *pictures)
    for control in controls:
        control.observe(call, "value")
    call()


def _table(frame: pd.DataFrame, **formats: str | Callable) -> str:
    """A frame as HTML in the look of JupyterLab: words to the left, numbers to the right, floats with one decimal."""
    words = [frame.columns.get_loc(c) for c in frame.select_dtypes(exclude="number")]
    left = [{"selector": f".col{i}", "props": "text-align: left"} for i in words]
    mine = {c: f for c, f in formats.items() if c in frame}
    style = frame.style.hide(axis="index").format(mine, precision=1, na_rep="–", escape="html").set_table_styles(left)
    table = style.to_html(table_attributes='style="margin-left: 0"')
    return f'<div class="jp-RenderedHTMLCommon">{table}</div>'


def _choice(description: str, options: Sequence = (), **more: object) -> W.Dropdown:
    look = dict(style={"description_width": "5em"}, layout=W.Layout(width="19em"))
    return W.Dropdown(options=options, description=description, **look, **more)


def _buttons(options: Sequence[str]) -> W.ToggleButtons:
    return W.ToggleButtons(options=options, style={"button_width": "7em"}, layout=W.Layout(width="auto"))


# ---------------------------------------------------------------------------------------------- 01: the corpus


def corpus_panel(corpus: Corpus) -> W.VBox:
    """Open a corpus by its path (building its store if need be) and read its report."""
    where, button = W.Text(str(corpus.path), layout=W.Layout(width="70%")), W.Button(description="Open")
    message = W.HTML(_report(corpus))

    def open_it() -> None:
        message.value = "reading …"
        found = open_corpus(where.value)
        message.value = _report(found)
        if found.path != corpus.path:
            line = html.escape(f'corpus = "{Path(where.value).expanduser().resolve()}"')
            message.value += f"To study this corpus, write <code>{line}</code> into data/study.toml and run all again."

    button.on_click(_callback(open_it, message))
    return W.VBox([W.HBox([where, button]), message])


def _report(corpus: Corpus) -> str:
    """What was found, and the tables."""
    headings = ("Utterances of each class", "Utterances in the parts of each fold", "Time steps", "Words")
    formats = {"share": "{:.1%}", "share of padding": "{:.1%}", "5%": "{:g}", "median": "{:g}", "95%": "{:g}"}
    frames = zip(headings, corpus.report().values(), strict=True)
    tables = "".join(f"<div><b>{heading}</b>{_table(frame, **formats)}</div>" for heading, frame in frames)
    findings = "".join(f"<li>{html.escape(s)}</li>" for s in corpus.findings)
    head = f"<b>{html.escape(corpus.title)}</b>: {len(corpus)} utterances, {len(corpus.classes)} classes"
    return f'{head}<ul>{findings}</ul><div style="display: flex; flex-wrap: wrap; gap: 1em 4em">{tables}</div>'


# ------------------------------------------------------------------------------------- 02, 03: results by modality


def results_panel(study: Study, attentions: Sequence[str] = ("self",)) -> W.VBox:
    """Toggle modalities, attention and pooling; see scores, learning curves and confusion matrix of that variant.

    Toggles that would lead to a variant without a meaning are switched off. A variant without all of its runs can be
    trained on the spot, with the study's seeds, folds and protocol.
    """
    toggles = {
        m: W.ToggleButton(value=True, description=name, tooltip=f"use {name}", layout=W.Layout(width="7em"))
        for m, name in MODALITIES.items()
    }
    attention, pooling, preset = map(_buttons, (tuple(attentions), ("statistical", "none"), ("published", "corrected")))
    train = W.Button(button_style="primary", tooltip="to stop, interrupt the kernel")
    train.layout.width, train.layout.align_self = "auto", "flex-start"
    summary, curves, confusion = W.HTML(), Picture(), Picture()
    alone = tuple(a for a in attentions if a in ("self", "uniform"))  # those that make sense of one modality

    def modalities() -> str:
        return "".join(m for m, toggle in toggles.items() if toggle.value)

    def restrict() -> None:
        """Offer only what has a meaning: cross-attention needs two modalities, and one modality has no pooling."""
        least = 1 if attention.value in alone else 2
        for toggle in toggles.values():
            toggle.disabled = toggle.value and len(modalities()) <= least
        pooling.disabled = len(modalities()) == 1
        fitting = alone if len(modalities()) == 1 else tuple(attentions)
        if fitting != attention.options:
            before, attention.options = attention.value, fitting  # this chooses the first one
            attention.value = before

    def chosen() -> Study:
        pools = None if len(modalities()) == 1 else pooling.value
        return study.with_variants([Variant(modalities(), attention.value, pools, preset=preset.value)])

    def draw() -> None:
        restrict()
        here = chosen()
        (variant,), results, missing = here.variants, here.results(), len(here.missing())
        train.layout.display = "" if missing else "none"
        train.description = f"Train {variant} ({missing} of {len(here.runs)} runs missing)"
        summary.value = _summary(variant, results, len(here.runs), study.corpus)
        curve, matrix, title = here.learning_curves(), here.confusion(variant), f"{variant}, {study.corpus.title}"
        curves.show(None if results.empty else figures.learning_curves(curve, [variant], title))
        confusion.show(None if results.empty else figures.confusion(matrix, study.corpus.classes, title))

    def train_missing() -> None:
        here, over = chosen(), threading.Event()
        wanted = len(here.missing())

        def count() -> None:
            while not over.wait(0.5):
                train.description = f"Training: {wanted - len(here.missing())} of {wanted} runs done"

        watch = threading.Thread(target=count)
        train.disabled = True
        watch.start()
        try:
            here.run(progress=False)
        except KeyboardInterrupt:
            pass  # what is done is in the ledger, and the button offers the rest
        finally:
            over.set()
            watch.join()
            train.disabled = False
            draw()

    train.on_click(_callback(train_missing, summary, curves, confusion))
    _follow((*toggles.values(), attention, pooling, preset), draw, summary, curves, confusion)
    rows = {"modalities": toggles.values(), "attention": [attention], "pooling": [pooling], "preset": [preset]}
    grid = [W.HBox([W.Label(name, layout=W.Layout(width="6em")), *controls]) for name, controls in rows.items()]
    return W.VBox([*grid, summary, train, curves, confusion])


def _summary(variant: str, results: pd.DataFrame, wanted: int, corpus: Corpus) -> str:
    """The scores of one variant as a small table, with the published ones and their names beside them."""
    title = html.escape(corpus.title)
    if results.empty:
        return f"<b>{variant}</b> has not been trained on the {title}."
    published = published_results().set_index("variant").reindex([variant]).iloc[0]
    mine = 100 * results[list(METRICS)]
    table = pd.DataFrame({"mean of runs": mine.mean(), "lowest run": mine.min(), "highest run": mine.max()})
    table.insert(0, "score (%)", [m.replace("_", " ") for m in METRICS])
    table["published, on IEMOCAP"] = 100 * published.reindex(METRICS).astype(float)
    table["its name there"] = [PUBLISHED_NAMES[m][0] for m in METRICS]
    head = f"<b>{variant}</b>: {len(results)} of {wanted} runs, {results['parameters'].iloc[0]:,} parameters, {title}"
    return head + _table(table)


# ----------------------------------------------------------------------------------------------- 04: attention maps


def attention_panel(study: Study) -> W.VBox:
    """Pick a finished run, an utterance of its test part, a block and a head; see the attention weights."""
    results, corpus = study.results(), study.corpus
    if results.empty:
        return W.VBox([W.HTML("No run of this study is finished yet: call <code>study.run()</code>.")])
    names = list(dict.fromkeys(results["variant"]))
    variant = _choice("variant", names, value="self_tva" if "self_tva" in names else names[0])
    fold, seed, utterance, block, head = map(_choice, ("fold", "seed", "utterance", "block", "head"))
    utterance.layout.width = "57em"
    message, picture = W.HTML(), Picture()
    load = lru_cache(maxsize=4)(study.model)

    def refill(box: W.Dropdown, options: dict[str, object]) -> None:
        """Offer other options, and stay with the one chosen before where it is still there."""
        before, box.options = box.value, tuple(options.items())
        box.value = before if before in options.values() else next(iter(options.values()))

    def draw() -> None:
        runs = results[results["variant"] == variant.value]
        refill(fold, {str(k): k for k in runs["fold"].unique().tolist()})
        refill(seed, {str(s): s for s in runs.loc[runs["fold"] == fold.value, "seed"].tolist()})
        said = {r: " ".join(corpus.transcript(r)) for r in corpus.folds[fold.value].test.tolist()}
        refill(
            utterance, {f"{corpus.ids[r]}  {corpus.classes[corpus.label[r]]}: {s}"[:100]: r for r, s in said.items()}
        )
        refill(block, {_block_name(b): b for b in study.variants[variant.value].blocks})

        found = explain(load(variant.value, fold.value, seed.value), corpus, utterance.value, fold.value)
        chosen = found.maps[block.value]
        refill(head, {"mean of heads": -1} | {f"head {i + 1}": i for i in range(len(chosen.weights))})
        message.value = (
            f"The network says <b>{html.escape(found.predicted)}</b> with probability {found.probability.max():.2f}; "
            f"the label is <b>{html.escape(found.label)}</b>: {'right' if found.label == found.predicted else 'wrong'}."
        )
        run = f"{variant.value}, fold {fold.value}, seed {seed.value}, {found.id}"
        title = f"{run}\n{block.label}, {head.label}, {corpus.title}"
        picture.show(figures.attention_map(chosen, None if head.value == -1 else head.value, title))

    _follow((variant, fold, seed, utterance, block, head), draw, message, picture)
    return W.VBox([W.HBox([variant, fold, seed]), utterance, W.HBox([block, head]), message, picture])


def _block_name(block: str) -> str:
    asks, asked = MODALITIES[block[-1]], MODALITIES[block[0]]  # "a_t": text asks audio
    return f"{asks} asks {'itself' if asks == asked else asked}"


# -------------------------------------------------------------------------------------------------- 05: comparisons


def comparison_panel(study: Study) -> W.VBox:
    """Choose two variants and a metric; see paired scores, the difference with its interval, and the verdict."""
    results = study.results()
    names = list(dict.fromkeys(results["variant"]))
    if len(names) < 2 or study.margin is None:
        return W.VBox([W.HTML("A verdict needs two variants that are trained, and a margin declared in the study.")])
    start = ("self_tva", "cross_tva") if {"self_tva", "cross_tva"} <= set(names) else names[:2]
    first, second = (_choice(d, names, value=v) for d, v in zip(("first", "second"), start, strict=True))
    metric = _choice("metric", [(m.replace("_", " "), m) for m in METRICS], value=study.primary_metric)
    message, picture, others = W.HTML(), Picture(), W.HTML()

    def draw() -> None:
        others.value = ""
        pair = first.value, second.value
        by_hand = "" if pair in PAIRS or pair[::-1] in PAIRS else "the comparison was picked by hand"
        why = ", and ".join(filter(None, (study.exploratory(metric.value), by_hand)))
        found = compare(results, *pair, metric.value, rope=study.margin, exploratory=why)
        verdict, rest = html.escape(found.sentence()).split(":", 1)
        message.value = f"<b>{verdict}</b>:{rest}" + "".join(
            f"<br>{html.escape(note)}" for note in (*found.notes, *cautions(found))
        )
        picture.show(figures.paired(found, study.corpus.title))
        tests = side_by_side(found).rename(columns={"estimate": "points", "keeps_level": "keeps 5%"})
        kept = {True: "yes", False: "no"}.get
        others.value = _table(tests, points=_points, interval=_points, p="{:.3f}", **{"keeps 5%": kept})

    _follow((first, second, metric), draw, message, picture)
    return W.VBox([W.HBox([first, second, metric]), message, picture, others])


def _points(x: float | tuple[float, float]) -> str:
    """A difference or an interval in points, on one line."""
    return "\u00a0to\u00a0".join(f"{100 * y:+.1f}" for y in (x if isinstance(x, tuple) else (x,)))
