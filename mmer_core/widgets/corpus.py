"""The panel of notebook 01: open a corpus and read its report."""

import json
import os
from functools import partial
from html import escape
from pathlib import Path

import ipywidgets as W

from mmer_core.corpus import Corpus
from mmer_core.folds import crossing, lacking, leaks
from mmer_core.formats import open_corpus
from mmer_core.paths import root
from mmer_core.widgets.kit import Panel, Shown, View, table


def corpus_panel(corpus: Corpus) -> Panel:
    """Open a corpus by its path (building its store if need be) and read its report."""
    where = W.Text(str(corpus.path), layout=W.Layout(width="70%"), continuous_update=False)
    button, view, opened = W.Button(description="Open"), View(saves=0), [corpus]

    def open_it() -> None:
        view.notice.value = "reading …"
        opened[0] = open_corpus(find(where.value))
        view.changed()

    button.on_click(lambda _: view.act(open_it))
    where.observe(lambda _: view.act(open_it), "value")  # as Enter does, too
    view.follow([], lambda: partial(corpus_shown, opened[0], corpus))
    return Panel([W.HBox([where, button])], view)


def find(path: str) -> Path:
    """The folder that a path means: as data/study.toml does, which counts from its own folder, or as you stand."""
    given = Path(os.path.expanduser(path))
    places = [root() / "data" / given, root() / given]
    return next((place for place in places if path.strip() and not given.is_absolute() and place.exists()), given)


def corpus_shown(corpus: Corpus, studied: Corpus | None = None) -> Shown:
    """The findings and tables of a corpus's report; how to study it, if another one is studied."""
    names = ("Utterances of each class", "Utterances in the parts of each fold", "Time steps", "Words")
    shown = [*zip(names, corpus.report().values(), strict=True), ("In two parts of a fold", crossing(corpus))]
    formats = {"share": "{:.1%}", "share of padding": "{:.1%}", "5%": "{:g}", "median": "{:g}", "95%": "{:g}"}
    shown = [(name, frame) for name, frame in shown if len(frame.columns) > 1]  # not what cannot be counted
    tables = "".join(f"<div><b>{name}</b>{table(frame, **formats)}</div>" for name, frame in shown)
    findings = "".join(f"<li>{escape(s)}</li>" for s in [*corpus.findings, *lacking(corpus), *leaks(corpus)])
    head = f"<b>{escape(corpus.title)}</b>: {len(corpus)} utterances, {len(corpus.classes)} classes"
    if studied is not None and corpus.path != studied.path:
        lines = [f"corpus = {json.dumps(str(corpus.path), ensure_ascii=False)}"]  # TOML quotes as JSON does
        lines += [] if corpus.folds else ['folds_from = {k = 5, by = "speaker"}']
        said = " and ".join(f"<code>{escape(line)}</code>" for line in lines)
        head += f"<br>To study this corpus, write {said} into data/study.toml and run all again."
    return Shown(f"{head}<ul>{findings}</ul>", details=f'<div class="mmer-pictures">{tables}</div>')
