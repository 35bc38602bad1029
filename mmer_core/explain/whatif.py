"""What if: an utterance without a modality, without some words or frames. No recording is like that."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from mmer_core.corpus import Corpus
from mmer_core.errors import MmerError
from mmer_core.explain.states import states_of
from mmer_core.explain.weights import Explanation, explanation
from mmer_core.model import FusionModel
from mmer_core.training import feed


class Stretch(NamedTuple):
    """Words or frames of a modality, from the first to the last, counted from 1; by default all of them."""

    name: str  # "text", "video", "audio"
    first: int = 1
    last: int | None = None

    def __str__(self) -> str:
        return self.name if self.last is None else f"{self.name} {self.first}-{self.last}"


def stretches(told: str, lengths: Mapping[str, int]) -> tuple[Stretch, ...]:
    """The stretches that are told, such as "text 2-3, audio 10-40, text 5", of modalities of these lengths.

    MmerError: it is told in another way, or there is no such modality or position.
    """
    return tuple(_stretch(part.strip(), lengths) for part in told.split(",") if part.strip())


def _stretch(told: str, lengths: Mapping[str, int]) -> Stretch:
    found = re.fullmatch(r"(\w+)\s+([0-9]{1,9})(?:\s*[-–]\s*([0-9]{1,9}))?", told)
    if found and found[1] in lengths:
        first, last = int(found[2]), int(found[3] or found[2])
        if 1 <= first <= last <= lengths[found[1]]:
            return Stretch(found[1], first, last)
    there = ", ".join(f"{name} 1-{length}" for name, length in lengths.items())
    raise MmerError(f"delete: expected stretches within {there}, written as these are; found {told!r}")


@torch.no_grad()
def explain_without(
    model: FusionModel, corpus: Corpus, row: int, fold: int, gone: Iterable[Stretch] = ()
) -> Explanation:
    """`explain`, where the stretches that are gone are zeros; those of modalities that the network lacks do nothing."""
    batch = feed(model.eval(), corpus, np.array([row]), fold)
    for name, first, last in gone:
        if name in batch:
            batch[name][:, first - 1 : last] = 0
    return explanation(model, corpus, row, states_of(model, batch))
