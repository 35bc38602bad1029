"""From blocks to the decision: how much each block's vector speaks for a class (Shapley values).

A block a_t mixes two modalities: its value is that of "text asks audio", never that of audio.
"""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmer_core.corpus import Corpus
from mmer_core.explain.states import batches, states
from mmer_core.model import FusionModel


class Shapley(NamedTuple):
    """Values of the blocks for each class; values.sum(1) is all_blocks - no_block."""

    blocks: list[str]
    values: np.ndarray  # [B, blocks, C]
    all_blocks: np.ndarray  # [B, C]: logit minus the mean over classes
    no_block: np.ndarray  # [C]: the same where every block is replaced, mean over the draws


@torch.no_grad()
def shapley(model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int, draws: int = 64, seed: int = 0) -> Shapley:
    """Shapley values of the block vectors of utterances [B] (Lundberg and Lee, NeurIPS 2017, eq. 4; exact).

    Players are the blocks. One that is absent has the vector of another utterance, drawn from the train part of the
    fold (`draws` of them, all blocks of a draw from one utterance); the worth of a coalition is the logit minus the
    mean over classes, averaged over the draws.
    """
    drawn = np.random.default_rng(seed).choice(corpus.folds[fold].train, draws)
    others = states(model, corpus, drawn, fold).vectors  # (draws, blocks, d)
    return _values(model, states(model, corpus, np.asarray(rows), fold).vectors, others)


def _values(model: FusionModel, mine: Tensor, others: Tensor) -> Shapley:
    blocks = list(model.variant.blocks)
    n = len(blocks)

    def worth(present: tuple[int, ...]) -> Tensor:
        here = torch.tensor([i in present for i in range(n)], device=mine.device)[:, None]
        logits = model.classifier(model.embed(torch.where(here, mine[:, None], others))).mean(1)
        return logits - logits.mean(-1, keepdim=True)

    worths = {players: worth(players) for size in range(n + 1) for players in combinations(range(n), size)}
    values = torch.zeros(len(mine), n, model.sizes.classes, dtype=mine.dtype, device=mine.device)
    for players, value in worths.items():
        weight = 1 / (n * math.comb(n - 1, len(players))) if len(players) < n else 0.0
        for i in set(range(n)) - set(players):
            values[:, i] += weight * (worths[tuple(sorted((*players, i)))] - value)
    full, none = worths[tuple(range(n))], worths[()]
    return Shapley(blocks, *(x.cpu().numpy() for x in (values, full, none[0])))


def blocks(model: FusionModel, corpus: Corpus, fold: int) -> pd.DataFrame:
    """What the blocks of a network give to the class that it names, means over the test part of a fold.

    Tidy: block, check ("value", and "size", the mean of its absolute value), value, in logits.
    """
    parts = []
    for rows in batches(model, corpus.folds[fold].test):
        found = shapley(model, corpus, rows, fold)
        said = found.all_blocks.argmax(1)
        parts.append(found.values[np.arange(len(rows)), :, said])
    values = np.concatenate(parts)
    means = {"value": values.mean(0), "size": np.abs(values).mean(0)}
    rows_of = [(block, check, x[i]) for check, x in means.items() for i, block in enumerate(found.blocks)]
    return pd.DataFrame(rows_of, columns=["block", "check", "value"])
