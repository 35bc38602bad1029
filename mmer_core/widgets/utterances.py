"""Find an utterance in the test part of a run, by its words and by what a network says of it; and change it."""

from collections.abc import Iterable
from functools import lru_cache

import ipywidgets as W
import numpy as np

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.explain import Stretch, stretches
from mmer_core.variant import Variant
from mmer_core.widgets.kit import choice, refill


class Utterances:
    """Filters, and the utterances that pass all of them. Class and named together are a cell of the confusion."""

    def __init__(self, corpus: Corpus):
        self.corpus, names = corpus, [("any", -1), *((name, n) for n, name in enumerate(corpus.classes))]
        self.search = _field("search", "words, or an id", "11em")
        self.label, self.named = choice("class", names, "10em"), choice("named", names, "11em")
        self.answer = choice("answer", [("any", "any")], "17em")
        self.sure = choice("confidence", [("any", 0), ("below 50%", -1), ("50% and above", 1)], "13em")
        self.chosen = choice("utterance", width="60em")
        self.filters = [self.search, self.label, self.named, self.answer, self.sure]
        self._said = lru_cache(maxsize=None)(lambda row: " ".join(corpus.transcript(row)))

    def offer(self, fold: int, logits: np.ndarray, disputed: np.ndarray | None) -> None:
        """Offer those of the test part of a fold [N] that pass, by the logits of a run [N, C].

        disputed: bool [N], where self- and cross-attention disagree; None if one of them is not trained.
        """
        answers = {name: name for name in ("any", "right", "wrong")}
        refill(self.answer, answers | ({} if disputed is None else {"self and cross disagree": "disputed"}))
        corpus, test, named = self.corpus, self.corpus.folds[fold].test, logits.argmax(1)
        label, sure = (
            corpus.label[test],
            1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1),
        )  # softmax of the largest
        looks = {"any": named >= 0, "right": named == label, "wrong": named != label, "disputed": disputed}
        keep = (
            looks[self.answer.value] & (self.sure.value * (sure - 0.5) >= 0) & ((self.sure.value >= 0) | (sure < 0.5))
        )
        for box, which in ((self.label, label), (self.named, named)):
            keep = keep & ((box.value < 0) | (which == box.value))
        sought = self.search.value.strip().casefold()
        rows = [r for r in test[keep].tolist() if sought in f"{corpus.ids[r]} {self._said(r)}".casefold()]
        found = {f"{corpus.ids[r]}  {corpus.classes[corpus.label[r]]}: {self._said(r)}"[:100]: r for r in rows}
        if found:
            refill(self.chosen, found)
        else:
            self.chosen.options = ()


class WhatIf:
    """What is taken out of an utterance: whole modalities, words, stretches of frames."""

    def __init__(self, corpus: Corpus):
        self.corpus, names = corpus, [name for name in MODALITIES.values() if name in corpus.lengths]
        look = dict(layout=W.Layout(width="auto"))
        self.mutes = {name: W.ToggleButton(description=f"mute {name}", **look) for name in names}
        self.delete = _field("delete", "words or frames, such as: text 2-3, audio 10-40", "30em")
        self.all = [*self.mutes.values(), self.delete]

    def offer(self, variants: Iterable[Variant]) -> None:
        """Offer to mute what these variants hear."""
        heard = self._heard(variants)
        for name, mute in self.mutes.items():
            mute.disabled = name not in heard
            mute.tooltip = f"the network has no {name}" if mute.disabled else f"what if there were no {name}?"

    def gone(self, variants: Iterable[Variant], row: int) -> tuple[Stretch, ...]:
        """What is taken out of an utterance; MmerError where that cannot be understood."""
        heard = self._heard(variants)
        lengths = {name: int(self.corpus.lengths[name][row]) for name in heard}
        muted = tuple(Stretch(name) for name in heard if self.mutes[name].value)
        return muted + stretches(self.delete.value, lengths)

    def _heard(self, variants: Iterable[Variant]) -> list[str]:
        every = {m for variant in variants for m in variant.modalities}
        return [name for m, name in MODALITIES.items() if m in every]


def _field(description: str, placeholder: str, width: str) -> W.Text:
    look = dict(style={"description_width": "initial"}, layout=W.Layout(width=width))
    return W.Text(description=description, placeholder=placeholder, continuous_update=False, **look)
