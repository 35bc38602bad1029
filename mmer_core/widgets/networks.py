"""The trained networks of a study, and what they say of utterances, kept while a panel is open."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mmer_core.corpus import MODALITIES
from mmer_core.explain import Explanation, Stretch, explain_without
from mmer_core.ledger import Run
from mmer_core.model import FusionModel
from mmer_core.study import Study
from mmer_core.training import one_thread
from mmer_core.variant import Variant

ALL = -2  # instead of a head: all blocks and heads at a glance


class Asked(NamedTuple):
    """What the controls ask for."""

    variants: tuple[Variant, ...]  # one, or two side by side
    fold: int
    seed: int
    row: int
    block: str
    head: int  # -1: mean of heads; or ALL
    gone: tuple[Stretch, ...] = ()  # what is taken out of the utterance


class Side(NamedTuple):
    """What one network says of the utterance, before and after parts of it are gone (if none are: the same)."""

    variant: Variant
    before: Explanation
    after: Explanation
    gone: tuple[Stretch, ...]


class Networks:
    """The trained networks of a study and what they say; what was asked last is kept, so that it is there at once."""

    def __init__(self, study: Study):
        self.study = study
        self.network = lru_cache(maxsize=8)(self._network)
        self.logits = lru_cache(maxsize=32)(self._logits)
        self.explained = lru_cache(maxsize=16)(self._explained)  # some MB each where utterances are long

    def trained(self, variant: Variant, fold: int, seed: int) -> bool:
        return self.study.ledger.has(Run(self.study.corpus.fingerprint, variant, fold, seed, self.study.protocol))

    def disputed(self, variant: Variant, fold: int, seed: int) -> np.ndarray | None:
        """Where self- and cross-attention on these modalities disagree, bool [N]; None: one of them is not trained."""
        if len(variant.modalities) == 1:
            return None
        both = [replace(variant, attention=kind) for kind in ("self", "cross")]
        if not all(self.trained(kind, fold, seed) for kind in both):
            return None
        one, other = (self.logits(kind, fold, seed).argmax(1) for kind in both)
        return one != other

    def confusion(self, variant: Variant, fold: int, seed: int) -> np.ndarray:
        """[C, C] of one run; rows are labels."""
        return self.study.with_variants([variant]).record(variant.name, fold, seed).confusion

    def side(self, variant: Variant, asked: Asked) -> Side:
        """What one variant says of the utterance that is asked for; only what it hears can be gone for it."""
        run, heard = (variant, asked.fold, asked.seed), [MODALITIES[m] for m in variant.modalities]
        gone = tuple(part for part in asked.gone if part.name in heard)
        return Side(variant, self.explained(*run, asked.row, ()), self.explained(*run, asked.row, gone), gone)

    def _network(self, variant: Variant, fold: int, seed: int) -> FusionModel:
        return self.study.with_variants([variant]).model(variant.name, fold, seed)

    def _logits(self, variant: Variant, fold: int, seed: int) -> np.ndarray:
        return self.study.with_variants([variant]).record(variant.name, fold, seed).predictions()["logits"]

    def _explained(self, variant: Variant, fold: int, seed: int, row: int, gone: tuple[Stretch, ...]) -> Explanation:
        with one_thread():  # quicker for a single utterance
            return explain_without(self.network(variant, fold, seed), self.study.corpus, row, fold, gone)
