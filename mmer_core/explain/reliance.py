"""Modality reliance: what is lost at test time where one modality is missing, replaced or noisy."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.kernels.machinery import valid_steps
from mmer_core.metrics import scores
from mmer_core.model import FusionModel
from mmer_core.training import feed

NOISE = tuple(round(0.2 * k, 1) for k in range(1, 11))  # SDs of a feature, over the valid frames of the train part
BATCH = 64
Rows: TypeAlias = np.ndarray | None  # of other utterances, one for each
Make: TypeAlias = Callable[[Tensor, Tensor], Tensor] | None  # frames [B, T, D] of these and of what is valid, [B, T, 1]


@torch.no_grad()
def reliance(model: FusionModel, corpus: Corpus, fold: int, seed: int = 0) -> pd.DataFrame:
    """Scores on the test part of a fold with one modality changed. Tidy: modality, change, level, and the scores.

    Changes: "none"; "zeros"; "mean" of each feature over the train part, in all valid frames; "shuffled", that of
    another utterance, and "shuffled within class", of one with the same label, as long as they are; "noise", normal,
    of `level` SDs of each feature.
    """
    rng, test = np.random.default_rng(seed), corpus.folds[fold].test
    found = [{"modality": "none", "change": "none", "level": 0.0, **_scores(model, corpus, fold, test)}]
    for m in model.variant.modalities:
        name = MODALITIES[m]
        mean, sd = _train_moments(model, corpus, fold, name)
        sources = {"shuffled": rng.permutation(test), "shuffled within class": _within_class(corpus, test, rng)}
        changes: list[tuple[str, float, Rows, Make]] = [("zeros", 0.0, None, _constant(0 * mean))]
        changes += [("mean", 0.0, None, _constant(mean)), *((how, 0.0, rows, None) for how, rows in sources.items())]
        for level in NOISE:
            random = torch.Generator().manual_seed(int(rng.integers(2**31)))
            changes.append(("noise", level, None, _noisy(level * sd, random)))
        for change, level, other, make in changes:
            got = _scores(model, corpus, fold, test, name, other, make)
            found.append({"modality": name, "change": change, "level": level, **got})
    return pd.DataFrame(found)


def _constant(value: Tensor) -> Make:
    return lambda x, valid: value * valid


def _noisy(sd: Tensor, random: torch.Generator) -> Make:
    return lambda x, valid: x + sd * valid * torch.randn(x.shape, generator=random).to(x)


def _scores(
    model: FusionModel,
    corpus: Corpus,
    fold: int,
    test: np.ndarray,
    name: str = "",
    other: Rows = None,
    make: Make = None,
) -> dict:
    """Scores with the modality `name` of other utterances, or made of its own by `make(x, valid)`."""
    logits = []
    for start in range(0, len(test), BATCH):
        rows = test[start : start + BATCH]
        batch = feed(model.eval(), corpus, rows, fold)
        if other is not None:
            theirs = feed(model, corpus, other[start : start + BATCH], fold)
            batch[name], batch["lengths"][name] = theirs[name], theirs["lengths"][name]
        if make is not None:
            valid = valid_steps(batch["lengths"][name], batch[name].shape[1])[..., None]
            batch[name] = make(batch[name], valid)
        logits.append(model(**batch).logits.cpu())
    return scores(corpus.label[test], torch.cat(logits).argmax(1).numpy(), len(corpus.classes))


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


def _within_class(corpus: Corpus, test: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows of a test part, those of each class among themselves in another order."""
    other = test.copy()
    for label in np.unique(corpus.label[test]):
        mine = corpus.label[test] == label
        other[mine] = rng.permutation(test[mine])
    return other
