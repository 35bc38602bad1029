"""The pickers that panels share: one variant by its modalities; and what was chosen last, for the next panel."""

import contextlib
import itertools
import json
from collections.abc import Sequence

import ipywidgets as W

from mmer_core.corpus import MODALITIES
from mmer_core.metrics import METRICS
from mmer_core.paths import write_whole
from mmer_core.study import Study
from mmer_core.variant import CHOICES, Variant
from mmer_core.widgets.kit import choice

ALONE = ("self", "uniform")  # the kinds of attention that make sense of one modality
METRIC_NAMES = [(metric.replace("_", " "), metric) for metric in METRICS]


class VariantPicker:
    """Toggles for one variant. Those that would lead to a variant without a meaning are switched off, and say why."""

    def __init__(self, study: Study, attentions: Sequence[str]):
        self.study, corpus = study, study.corpus
        self.attentions = tuple(a for a in attentions if len(corpus.lengths) > 1 or a in ALONE) or ALONE
        self.here = {m: name for m, name in MODALITIES.items() if name in corpus.lengths}
        self.toggles = {
            m: W.ToggleButton(value=True, description=name, layout=W.Layout(width="5em"))
            for m, name in self.here.items()
        }
        choices = (self.attentions, CHOICES["pooling"], ("published", "corrected"))
        look = dict(style={"button_width": "7em"}, layout=W.Layout(width="auto"))
        self.attention, self.pooling, self.preset = (W.ToggleButtons(options=some, **look) for some in choices)
        self.pooling.value = "statistical"
        rows = {"modalities": list(self.toggles.values()), "attention": [self.attention]}
        rows |= {"pooling": [self.pooling], "preset": [self.preset]}
        self.all = [control for row in rows.values() for control in row]
        self.groups = [named(name, *row) for name, row in rows.items()]
        self.groups[0].add_class("mmer-group")
        self._recall()
        self._last = self.modalities()
        for control in (*self.toggles.values(), self.preset):
            control.observe(lambda _: remember(study, modalities=self.modalities(), preset=self.preset.value), "value")

    def modalities(self) -> str:
        return "".join(m for m, toggle in self.toggles.items() if toggle.value)

    def variant(self) -> Variant:
        return self.like(self.modalities())

    def like(self, modalities: str) -> Variant:
        """The variant that differs from the chosen one in its modalities only."""
        pooling = None if len(modalities) == 1 else self.pooling.value
        return Variant(modalities, self.attention.value, pooling, preset=self.preset.value)

    def subsets(self) -> list[Variant]:
        """The chosen variant with every set of modalities that has a meaning: one, two, three of them."""
        sets = ["".join(some) for n in (1, 2, 3) for some in itertools.combinations(self.here, n)]
        return [self.like(s) for s in sets if len(s) > 1 or self.attention.value in ALONE]

    def restrict(self) -> None:
        """Offer only what has a meaning: cross-attention needs two modalities, and one modality has no pooling."""
        least = 1 if self.attention.value in ALONE else 2
        if len(self.modalities()) < least:  # by two quick clicks, the second before its toggle was switched off
            for m, toggle in self.toggles.items():
                toggle.value = m in self._last
        self._last, number = self.modalities(), len(self.modalities())
        why = "one modality must stay" if least == 1 else f"{self.attention.value} attention needs two modalities"
        for m, toggle in self.toggles.items():
            toggle.disabled = toggle.value and number <= least
            toggle.tooltip = why if toggle.disabled else f"use {self.here[m]}"
        self.pooling.disabled = number == 1
        self.pooling.tooltip = "one modality has nothing to pool" if number == 1 else ""
        fitting = tuple(a for a in self.attentions if number > 1 or a in ALONE)
        if fitting != self.attention.options:
            before, self.attention.options = self.attention.value, fitting  # this chooses the first one
            self.attention.value = before

    def _recall(self) -> None:
        """Begin with the modalities that were chosen last, here or in another notebook, where they have a meaning."""
        chosen = remembered(self.study)
        wanted = str(chosen.get("modalities", ""))
        least = 1 if set(self.attentions) & set(ALONE) else 2
        if len(set(wanted) & set(self.here)) >= least:
            for m, toggle in self.toggles.items():
                toggle.value = m in wanted
        if chosen.get("preset") in self.preset.options:
            self.preset.value = chosen["preset"]


def named(name: str, *controls: W.Widget) -> W.HBox:
    """Controls with their name before them."""
    return W.HBox([W.Label(name), *controls], layout=W.Layout(margin="0 12px 0 0"))


def rows(*controls: W.Widget) -> W.HBox:
    """Controls beside each other, in as many rows as they need."""
    return W.HBox(controls, layout=W.Layout(flex_flow="row wrap"))


def metric_choice(study: Study) -> W.Dropdown:
    return choice("metric", METRIC_NAMES, value=study.primary_metric, width="15em")


def remembered(study: Study) -> dict:
    """What was chosen last in a panel on this ledger; empty where nothing was, or it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads((study.ledger.folder / ".panels.json").read_text(encoding="utf-8"))
        return noted if isinstance(noted, dict) else {}
    return {}


def remember(study: Study, **chosen: object) -> None:
    """Note what was chosen, for the next panel or notebook; a ledger that cannot be written to forgets it."""
    file, before = study.ledger.folder / ".panels.json", remembered(study)
    if before == (after := {**before, **chosen}):
        return
    with contextlib.suppress(OSError):
        write_whole(file, json.dumps(after).encode())
