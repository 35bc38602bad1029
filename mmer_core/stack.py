"""Many runs of one variant trained at once, as one network with a leading run axis: what a GPU needs to be busy.

Each run keeps its own weights, order of batches, dropout, optimiser, schedule and early stop, and is what
`training.train` makes of it alone; one that has stopped leaves the stack. R runs, B utterances.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.layers import draw_keys, valid_steps
from mmer_core.model import FusionModel
from mmer_core.training import ONE_AT_A_TIME, Progress, Protocol, Trained
from mmer_core.variant import Variant


@dataclass
class _Member:
    """One run of the stack: its random numbers, and its progress by the protocol."""

    fold: int
    seed: int
    model: FusionModel
    shuffle: torch.Generator
    dropout: torch.Generator
    progress: Progress

    @classmethod
    def begin(cls, corpus: Corpus, variant: Variant, fold: int, seed: int, protocol: Protocol, device: str) -> _Member:
        """The same initial weights, and the same random numbers after them, as `training.train`."""
        with ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = FusionModel(variant, corpus.sizes, dtype=getattr(torch, protocol.precision)).to(device)
            dropout = torch.Generator().set_state(torch.get_rng_state())
        shuffle = torch.Generator().manual_seed(seed)
        return cls(fold, seed, model, shuffle, dropout, Progress(model, protocol))


def train_stack(
    corpus: Corpus, variant: Variant, runs: Sequence[tuple[int, int]], protocol: Protocol, device: str = "cuda"
) -> Iterator[tuple[tuple[int, int], Trained]]:
    """Train the runs (fold, seed) of one variant together; each is handed over as soon as it has stopped.

    `Trained.seconds` is a run's share of the time that the stack has taken.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    data = _Data(corpus, variant, device, getattr(torch, protocol.precision))
    members = [_Member.begin(corpus, variant, fold, seed, protocol, device) for fold, seed in runs]
    blocks, size = len(variant.blocks), protocol.batch_size
    while members:
        started = time.perf_counter()
        orders = [
            corpus.folds[m.fold].train[torch.randperm(len(corpus.folds[m.fold].train), generator=m.shuffle).numpy()]
            for m in members
        ]
        totals = [0.0] * len(members)
        for start in range(0, max(map(len, orders)), size):
            active = [i for i, order in enumerate(orders) if start < len(order)]
            some = [members[i] for i in active]
            keys = torch.stack([draw_keys(1 + blocks, m.dropout) for m in some]).to(device)
            losses = _step(some, data, [orders[i][start : start + size] for i in active], keys)
            for i, loss in zip(active, losses.tolist(), strict=True):
                totals[i] += loss * len(orders[i][start : start + size])
        dev = _predict(members, data, [corpus.folds[m.fold].dev for m in members], size)
        share = (time.perf_counter() - started) / len(members)
        for m, total, order, logits in zip(members, totals, orders, dev, strict=True):
            name = f"{variant.name} fold {m.fold} seed {m.seed}"
            m.progress.end_epoch(total / len(order), logits, corpus.label[corpus.folds[m.fold].dev], share, name)
        stopped = [m for m in members if m.progress.stopped]
        members = [m for m in members if not m.progress.stopped]
        for m in stopped:
            started = time.perf_counter()
            m.model.load_state_dict(m.progress.best_weights)
            (test,) = _predict([m], data, [corpus.folds[m.fold].test], size)
            yield (m.fold, m.seed), m.progress.finish(test, time.perf_counter() - started)


class _Data:
    """The corpus on a device; batches have a leading run axis."""

    def __init__(self, corpus: Corpus, variant: Variant, device: str, dtype: torch.dtype):
        self.corpus, self.variant, self.device, self.dtype = corpus, variant, device, dtype
        self.names = [MODALITIES[m] for m in variant.modalities]
        stored = [x for name in self.names for x in ((name,) if name in corpus.arrays else ("tokens", "embedding"))]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)  # nobody writes there
            self.arrays = {x: torch.from_numpy(corpus.arrays[x]).to(device) for x in stored}
            scale = torch.from_numpy(corpus.arrays["audio_scale"])
        self.scale = dict(zip(corpus.folds, scale.to(device), strict=True))  # by fold: mean and deviation of audio

    def batch(self, members: Sequence[_Member], rows: np.ndarray) -> dict:
        """Arguments of the model for rows [R, B] of the corpus, as `training.feed` makes them for one run."""
        there, masked = torch.from_numpy(rows).to(self.device), self.variant.mask_padding
        batch: dict = {"lengths": {}}
        for name in self.names:
            length = self.corpus.lengths[name][rows]
            steps = int(length.max()) if masked else None
            if name in self.arrays:
                x = self.arrays[name][there, :steps]
            else:
                x = self.arrays["embedding"][self.arrays["tokens"][there, :steps].long()]
            batch["lengths"][name] = torch.from_numpy(length).to(self.device)
            if name == "audio" and self.variant.standardise_audio:
                mean, std = torch.stack([self.scale[m.fold] for m in members])[:, :, None, None].unbind(1)
                valid = valid_steps(batch["lengths"][name].flatten(), x.shape[2]).view(*x.shape[:3], 1)
                x = (x - mean) / std * valid
            batch[name] = x.to(self.dtype)
        return batch


def _logits(members: Sequence[_Member], weights: dict[str, Tensor], batch: dict, keys: Tensor | None) -> Tensor:
    """[R, B, C]: every run's network on its own utterances."""
    template = members[0].model

    def one(weights: dict[str, Tensor], batch: dict, keys: Tensor | None) -> Tensor:
        return functional_call(template, weights, kwargs={**batch, "keys": keys}).logits

    return torch.vmap(one, in_dims=(0, 0, None if keys is None else 0))(weights, batch, keys)


def _stacked(members: Sequence[_Member]) -> dict[str, Tensor]:
    states = [dict(m.model.named_parameters()) for m in members]
    return {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}


def _padded(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows [R, B] of batches of different lengths, filled up with the first row of each; and their lengths [R]."""
    longest = max(map(len, parts))
    rows = np.stack([np.concatenate([p, np.repeat(p[:1], longest - len(p))]) for p in parts])
    return rows, np.array([len(p) for p in parts])


def _exact():
    """float32 means float32: without this, a GPU may round the inputs of a convolution to ten bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _step(members: Sequence[_Member], data: _Data, batches: Sequence[np.ndarray], keys: Tensor) -> Tensor:
    """One step of every run's optimiser; returns the losses [R]."""
    rows, count = _padded(batches)
    weights = {name: w.requires_grad_() for name, w in _stacked(members).items()}
    label, n = (torch.from_numpy(x).to(data.device) for x in (data.corpus.label[rows], count))
    with _exact():
        logits = _logits(members, weights, data.batch(members, rows), keys)
        each = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view(rows.shape)
        losses = (each * valid_steps(n, rows.shape[1])).sum(1) / n
        grads = torch.autograd.grad(losses.sum(), list(weights.values()))
    for i, m in enumerate(members):
        for p, grad in zip(m.model.parameters(), grads, strict=True):
            p.grad = grad[i].contiguous()  # the fused optimiser does not look at strides
        m.progress.optimiser.step()
    return losses.detach()


@torch.no_grad()
def _predict(members: Sequence[_Member], data: _Data, parts: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """Logits [N, C] of each run's own part, in evaluation mode."""
    rows, count = _padded(parts)
    weights, starts = _stacked(members), range(0, rows.shape[1], size)
    members[0].model.eval()
    with _exact():
        batches = [_logits(members, weights, data.batch(members, rows[:, s : s + size]), None) for s in starts]
    members[0].model.train()
    return [x[:n].cpu().numpy() for x, n in zip(torch.cat(batches, 1), count, strict=True)]
