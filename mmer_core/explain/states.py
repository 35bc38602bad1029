"""What a network computes on its way to a decision, and what it would compute if a block attended otherwise.

B utterances, Q queries, K keys, H heads, d = 120, C classes; S alternatives of one utterance. Keys and queries are all
time steps of an encoder, padding too, unless the variant masks padding.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.kernels.machinery import valid_steps
from mmer_core.layers import all_steps
from mmer_core.model import HEADS, FusionModel
from mmer_core.training import feed

CELLS = 100_000  # slots and heads of a batch


class States(NamedTuple):
    """All there is to know of some utterances on the way through a network, in evaluation mode."""

    encoded: dict[str, Tensor]  # of each modality ("t", "v", "a"): [B, T', d]
    steps: dict[str, Tensor]  # how many of them take part: [B]
    weights: dict[str, Tensor]  # of each block: [B, H, Q, K], every row sums to 1
    column_mean: dict[str, Tensor]  # [B, H, K], over the queries that take part
    vectors: Tensor  # [B, blocks, d]
    logits: Tensor  # [B, C]

    def keys(self, block: str) -> Tensor:
        """Which keys of a block take part, [B, K]."""
        return valid_steps(self.steps[block[0]], self.encoded[block[0]].shape[1])


def states(model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int) -> States:
    """Run utterances [B] through a network, as far as its logits; gradients are kept if they are wanted."""
    return states_of(model.eval(), feed(model, corpus, rows, fold))


def batches(model: FusionModel, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Rows [N] in batches, of which several dozens of alternatives fit into memory."""
    slots = max(model.variant.time_slots(model.sizes).values())
    size = int(np.clip(CELLS // (HEADS * slots), 1, 64))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def states_of(model: FusionModel, batch: dict) -> States:
    """As `states`, of the arguments of `model.forward`."""
    x, n = model.encode(batch, batch["lengths"])
    every = {m: all_steps(h) for m, h in x.items()}
    steps = every | {m: length for m, length in n.items() if length is not None}
    weights, means, vectors = {}, {}, []
    for block in model.variant.blocks:
        source, target = block[0], block[-1]
        weights[block] = model.attention(block).weights(x[target], x[source], steps[source])
        taking_part = valid_steps(steps[target], x[target].shape[1])[:, None, :, None]
        means[block] = (weights[block] * taking_part).sum(2) / steps[target][:, None, None]
        vectors.append(vector(model, block, means[block], x[block[0]]))
    stack = torch.stack(vectors, 1)
    return States(x, steps, weights, means, stack, model.classifier(model.embed(stack)))


def with_frames(model: FusionModel, found: States, name: str, frames: Tensor, length: Tensor) -> Tensor:
    """Logits [B, C], had one modality ("audio") these frames [B, T, D] of such lengths; only what they reach is new."""
    m = next(m for m, full in MODALITIES.items() if full == name)
    encoded, n = model.encode_one(name, frames, length if model.variant.mask_padding else None)
    x, steps = {**found.encoded, m: encoded}, {**found.steps, m: all_steps(encoded) if n is None else n}
    stack = found.vectors.clone()
    for i, block in enumerate(model.variant.blocks):
        if m in block:
            source, target = block[0], block[-1]
            stack[:, i] = model.attention(block)(x[target], x[source], steps[target], steps[source]).vector
    return model.classifier(model.embed(stack))


def vector(model: FusionModel, block: str, column_mean: Tensor, source: Tensor) -> Tensor:
    """A block's vectors [B, d] or [B, S, d] for column means [B, H, K] or [B, S, H, K] of states [B, K, d]."""
    source = source if column_mean.dim() == 3 else source[:, None]
    return model.attention(block).output(column_mean @ source, column_mean.sum(-1, keepdim=True))


def decided(model: FusionModel, found: States, changed: dict[str, Tensor]) -> Tensor:
    """Logits [B, S, C], had some blocks the column means [B, S, H, K]; the vectors of all others stay."""
    blocks = list(model.variant.blocks)
    stack = found.vectors[:, None].repeat(1, next(iter(changed.values())).shape[1], 1, 1)
    for block, column_mean in changed.items():
        stack[:, :, blocks.index(block)] = vector(model, block, column_mean, found.encoded[block[0]])
    return model.classifier(model.embed(stack))


def with_keys(found: States, block: str, keep: Tensor) -> Tensor:
    """Column means [B, S, H, K] with only some keys, keep [B, S, K]: all others are masked before the softmax.

    As `key_padding_mask` of nn.MultiheadAttention does it: what a row keeps is scaled so that it sums to 1 again. A
    row that keeps none of its weight (in float64) has none left.
    """
    target, weights = block[-1], found.weights[block].double()
    keep = (keep & found.keys(block)[:, None]).double()
    queries = valid_steps(found.steps[target], weights.shape[2]).double() / found.steps[target][:, None]
    left = torch.einsum("bhqk,bsk->bhqs", weights, keep)
    share = queries[:, None, :, None] / left.where(left > 0, torch.inf)
    return (torch.einsum("bhqk,bhqs->bshk", weights, share) * keep[:, :, None]).to(found.vectors.dtype)


def centred(logits: Tensor, target: Tensor) -> Tensor:
    """The logit of a class [B] minus the mean over classes, of logits [B, .., C]: what a decision rests on."""
    index = target.view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    return logits.gather(-1, index)[..., 0] - logits.mean(-1)
