"""Modality reliance: what is lost at test time where one modality is missing, replaced or noisy."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.explain.states import States, states_of, with_frames
from mmer_core.kernels.machinery import valid_steps
from mmer_core.metrics import scores
from mmer_core.model import FusionModel
from mmer_core.training import feed

NOISE = tuple(round(0.2 * k, 1) for k in range(1, 11))  # SDs of a feature, over the valid frames of the train part
BATCH = 64
Make: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # frames [B, T, D] of frames, and of what is valid, [B, T, 1]


@torch.no_grad()
def reliance(model: FusionModel, corpus: Corpus, fold: int, seed: int = 0) -> pd.DataFrame:
    """Scores on the test part of a fold with one modality changed. Tidy: modality, change, level, and the scores.

    Changes: "none"; "zeros"; "mean" of each feature over the train part, in all valid frames; "shuffled", that of
    another utterance, and "shuffled within class", of one with the same label, as long as they are; "noise", normal,
    of `level` SDs of each feature.
    """
    rng, test = np.random.default_rng(seed), corpus.folds[fold].test
    parts = [(rows, feed(model.eval(), corpus, rows, fold)) for rows in _batches(test)]
    known = [(rows, batch, states_of(model, batch)) for rows, batch in parts]
    own = [found.logits for _, _, found in known]
    table = [{"modality": "none", "change": "none", "level": 0.0, **_scores(corpus, test, own)}]
    for m in model.variant.modalities:
        name = MODALITIES[m]
        mean, sd = _train_moments(model, corpus, fold, name)
        for change, level, make in _changes(mean, sd, rng):
            logits = [_made(model, found, name, batch, make) for _, batch, found in known]
            table.append({"modality": name, "change": change, "level": level, **_scores(corpus, test, logits)})
        for change, other in (
            ("shuffled", rng.permutation(test)),
            ("shuffled within class", within_class(corpus, test, rng)),
        ):
            theirs = (feed(model, corpus, rows, fold) for rows in _batches(other))
            pairs = zip(known, theirs, strict=True)
            logits = [with_frames(model, found, name, t[name], t["lengths"][name]) for (_, _, found), t in pairs]
            table.append({"modality": name, "change": change, "level": 0.0, **_scores(corpus, test, logits)})
    return pd.DataFrame(table)


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def _changes(mean: Tensor, sd: Tensor, rng: np.random.Generator) -> Iterator[tuple[str, float, Make]]:
    """Changes of frames: their names, levels, and what makes them."""
    yield "zeros", 0.0, lambda x, valid: 0 * x
    yield "mean", 0.0, lambda x, valid: mean * valid
    for level in NOISE:
        random = torch.Generator().manual_seed(int(rng.integers(2**31)))
        yield "noise", level, partial(_noisy, level * sd, random)


def _noisy(sd: Tensor, random: torch.Generator, x: Tensor, valid: Tensor) -> Tensor:
    return x + sd * valid * torch.randn(x.shape, generator=random).to(x)


def _made(model: FusionModel, found: States, name: str, batch: dict, make: Make) -> Tensor:
    """Logits with frames made of an utterance's own."""
    x, length = batch[name], batch["lengths"][name]
    return with_frames(model, found, name, make(x, valid_steps(length, x.shape[1])[..., None]), length)


def _scores(corpus: Corpus, test: np.ndarray, logits: list[Tensor]) -> dict:
    return scores(corpus.label[test], torch.cat(logits).argmax(1).cpu().numpy(), len(corpus.classes))


def _train_moments(model: FusionModel, corpus: Corpus, fold: int, name: str) -> tuple[Tensor, Tensor]:
    """Mean and SD of each feature over the valid frames of the train part, as the network is given them: [D]."""
    train, total, squares, n = corpus.folds[fold].train, torch.zeros(()), torch.zeros(()), 0
    for start in range(0, len(train), BATCH):
        batch = feed(model, corpus, train[start : start + BATCH], fold)
        valid = valid_steps(batch["lengths"][name], batch[name].shape[1])
        x = batch[name][valid].double()
        total, squares, n = total + x.sum(0), squares + x.square().sum(0), n + len(x)
    mean = total / n
    return mean.to(batch[name].dtype), (squares / n - mean.square()).clamp_min(0).sqrt().to(batch[name].dtype)


def within_class(corpus: Corpus, test: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows of a test part, those of each class among themselves in another order."""
    other = test.copy()
    for label in np.unique(corpus.label[test]):
        mine = corpus.label[test] == label
        other[mine] = rng.permutation(test[mine])
    return other
