"""What a trained network attends to: the attention weights of one utterance, with axes that do not claim too much."""

from typing import NamedTuple

import numpy as np
import torch

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.model import FusionModel
from mmer_core.training import feed


class Axis(NamedTuple):
    """One side of an attention map."""

    title: str
    labels: list[str]  # one a position


class AttentionMap(NamedTuple):
    """Attention of one block on one utterance: H heads, Q queries, K keys (only valid ones, if padding is masked)."""

    block: str  # "t", or "a_t" (source_target)
    weights: np.ndarray  # [H, Q, K], every row sums to 1
    column_mean: np.ndarray  # [H, K]: mean over queries, the exact weight of each encoder state in the block's output
    queries: Axis
    keys: Axis


class Explanation(NamedTuple):
    """The prediction for one utterance and the attention behind it."""

    id: str
    label: str
    predicted: str
    probability: np.ndarray  # [C]
    maps: dict[str, AttentionMap]


def block_name(block: str) -> str:
    """A block in words: "a_t" (source_target) is "text asks audio"."""
    asks, asked = MODALITIES[block[-1]], MODALITIES[block[0]]
    return f"{asks} asks {'itself' if asks == asked else asked}"


@torch.no_grad()
def explain(model: FusionModel, corpus: Corpus, row: int, fold: int) -> Explanation:
    """Run one utterance through a trained network and keep its attention weights.

    Its row is one of the test part of the fold that the network was trained on; where the variant standardises audio,
    it does so by the statistics of that fold.
    """
    model.eval()
    out = model(**feed(model, corpus, np.array([row]), fold), keep_weights=True)
    probability = out.logits.softmax(-1)[0].numpy()
    axes = {m: axis(model, corpus, row, m) for m in model.variant.modalities}
    maps = {}
    for block, weights in out.weights.items():
        keys, queries = axes[block[0]], axes[block[-1]]
        weights = weights[0, :, : len(queries.labels), : len(keys.labels)].numpy()
        mean = out.column_mean[block][0, :, : len(keys.labels)].numpy()
        maps[block] = AttentionMap(block, weights, mean, queries, keys)
    label, predicted = corpus.classes[corpus.label[row]], corpus.classes[int(probability.argmax())]
    return Explanation(corpus.ids[row], label, predicted, probability, maps)


def axis(model: FusionModel, corpus: Corpus, row: int, modality: str) -> Axis:
    """What the positions of a modality are: words, frames, or slots that are no times at all."""
    variant, name = model.variant, MODALITIES[modality]
    length = int(corpus.lengths[name][row])
    if modality == "t":
        pads = 0 if variant.mask_padding else corpus.sizes.text.length - length
        return Axis("text (words)", corpus.transcript(row) + ["·"] * pads)
    slots = variant.time_slots(corpus.sizes)[modality]
    if variant.convolution == "time-mixing":
        return Axis(f"{name} slots (each mixes all frames)", [str(i + 1) for i in range(slots)])
    slots = (length + 1) // 2 if variant.mask_padding else slots
    return Axis(f"{name} (frames)", [str(2 * i + 1) for i in range(slots)])
