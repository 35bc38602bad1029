"""What a trained network attends to: the exact weights of one utterance, on axes that do not claim too much."""

from typing import NamedTuple

import numpy as np
import torch

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.explain.states import States, states
from mmer_core.model import FusionModel

PADDING = "·"  # the label of a position that holds nothing of the utterance


class Axis(NamedTuple):
    """One side of an attention map."""

    title: str
    labels: list[str]  # one a position; `PADDING` where there is nothing


class AttentionMap(NamedTuple):
    """Attention of one block on one utterance: H heads, Q queries, K keys (only valid ones, if padding is masked)."""

    block: str  # "t", or "a_t" (source_target)
    weights: np.ndarray  # [H, Q, K], every row sums to 1
    column_mean: np.ndarray  # [H, K]: mean over queries, the exact weight of each encoder state in the block's output
    queries: Axis
    keys: Axis
    contribution: np.ndarray | None = None  # [H, K]: norm of what each state adds to the block's vector through a head


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
    return explanation(model, corpus, row, states(model, corpus, np.array([row]), fold))


def explanation(model: FusionModel, corpus: Corpus, row: int, found: States) -> Explanation:
    """`explain`, of what a network computed of the utterance, or of what was made of it."""
    probability = found.logits.softmax(-1)[0].cpu().numpy()
    axes = {m: axis(model, corpus, row, m) for m in model.variant.modalities}
    maps = {}
    for block, weights in found.weights.items():
        keys, queries = axes[block[0]], axes[block[-1]]
        Q, K, mean = len(queries.labels), len(keys.labels), found.column_mean[block]
        added, _ = model.attention(block).contributions(mean, found.encoded[block[0]])
        parts = (weights[0, :, :Q, :K], mean[0, :, :K], added[0, :, :K].norm(dim=-1))
        exact, mean_of_column, norm = (x.cpu().numpy() for x in parts)
        maps[block] = AttentionMap(block, exact, mean_of_column, queries, keys, norm)
    label, predicted = corpus.classes[corpus.label[row]], corpus.classes[int(probability.argmax())]
    return Explanation(corpus.ids[row], label, predicted, probability, maps)


def axis(model: FusionModel, corpus: Corpus, row: int, modality: str) -> Axis:
    """What the positions of a modality are: words, frames or seconds, or slots that are no times at all."""
    variant, name = model.variant, MODALITIES[modality]
    length, slots = int(corpus.lengths[name][row]), variant.time_slots(corpus.sizes)[modality]
    if modality != "t" and variant.convolution == "time-mixing":
        return Axis(f"{name} slots (each mixes all frames)", [str(i + 1) for i in range(slots)])
    if modality == "t":
        title, labels = "text (words)", corpus.transcript(row)
    else:  # a slot covers three frames, of which the middle one is named
        frames, rate = range(0, length, 2), (corpus.rates or {}).get(name)
        title = f"{name} (seconds)" if rate else f"{name} (frames)"
        labels = [f"{i / rate:.1f}" if rate else str(i + 1) for i in frames]
    return Axis(title, labels if variant.mask_padding else labels + [PADDING] * (slots - len(labels)))


def receptive_field(model: FusionModel, modality: str) -> np.ndarray | None:
    """Which frames each slot of a modality covers, bool [slots, T]; None if its convolution mixes all frames.

    A slot is one word of text; of the temporal convolution (kernel 3, stride 2, padding 1) slot i covers the frames
    2i - 1 to 2i + 1, counted from 0. The encoder's recurrence, which carries a state's neighbours, is left out.
    """
    if modality == "t":
        return np.eye(model.sizes.text.length, dtype=bool)
    if model.variant.convolution == "time-mixing":
        return None
    T = getattr(model.sizes, MODALITIES[modality]).length
    return np.abs(np.arange(T) - 2 * np.arange((T + 1) // 2)[:, None]) <= 1
