"""One run: train a variant on one fold with one seed by the protocol of the paper, and score its test part once."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.model import FusionModel
from mmer_core.protocol import Protocol
from mmer_core.variant import Variant

ONE_AT_A_TIME = threading.Lock()  # torch's random numbers belong to the whole process


@dataclass(frozen=True)
class Trained:
    """What a run leaves: C classes, N utterances of the part."""

    weights: dict[str, Tensor]  # of the best epoch, under the published names
    curve: list[dict[str, float]]  # epoch, train_loss, dev_loss, dev_accuracy, learning_rate
    best_epoch: int  # counted from 1
    logits: dict[str, np.ndarray]  # dev, test: [N, C]
    parameters: int
    seconds: float
    device: str  # cpu or cuda


class Progress:
    """A run between its epochs: optimiser, schedule, learning curve, best weights and early stop of the protocol."""

    def __init__(self, model: FusionModel, protocol: Protocol):
        self.model, self.protocol = model, protocol
        self.optimiser = torch.optim.Adam(model.parameters(), protocol.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=protocol.plateau_factor, patience=protocol.plateau_patience
        )
        self.curve: list[dict[str, float]] = []
        self.best, self.best_epoch, self.best_weights, self.dev_logits = -1.0, 0, {}, np.empty(0)
        self.seconds = 0.0

    @property
    def stopped(self) -> bool:
        epochs = len(self.curve)
        return epochs == self.best_epoch + self.protocol.stop_patience or epochs == self.protocol.max_epochs

    def end_epoch(self, train_loss: float, logits: np.ndarray, label: np.ndarray, seconds: float, name: str) -> None:
        """Note the mean train loss of an epoch and what dev logits [N, C] say; FloatingPointError if not finite."""
        dev_loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(label)).item()
        accuracy = float((logits.argmax(1) == label).mean())
        epoch, rate = len(self.curve) + 1, self.optimiser.param_groups[0]["lr"]
        if not np.isfinite([train_loss, dev_loss]).all():
            raise FloatingPointError(f"{name}: loss not finite in epoch {epoch}")
        self.curve.append(
            dict(epoch=epoch, train_loss=train_loss, dev_loss=dev_loss, dev_accuracy=accuracy, learning_rate=rate)
        )
        self.schedule.step(dev_loss)
        self.seconds += seconds
        if accuracy > self.best:
            self.best, self.best_epoch, self.dev_logits = accuracy, epoch, logits
            self.best_weights = copy.deepcopy(self.model.state_dict())

    def finish(self, test_logits: np.ndarray, seconds: float) -> Trained:
        """The run with its test part scored, which took so many seconds more."""
        weights = {name: w.cpu() for name, w in self.best_weights.items()}
        logits = {"dev": self.dev_logits, "test": test_logits}
        parameters, device = self.model.count_parameters(), next(self.model.parameters()).device.type
        return Trained(weights, self.curve, self.best_epoch, logits, parameters, self.seconds + seconds, device)


def train(corpus: Corpus, variant: Variant, fold: int, seed: int, protocol: Protocol) -> Trained:
    """Train one run on one thread. The same seed gives the same bits on the same type of processor.

    The seed fixes initial weights, order of batches and dropout; the order of batches is the same for all variants.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    rows, size, name = corpus.folds[fold], protocol.batch_size, f"{variant.name} fold {fold} seed {seed}"
    with ONE_AT_A_TIME, one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shuffle = torch.Generator().manual_seed(seed)
        model = FusionModel(variant, corpus.sizes, dtype=getattr(torch, protocol.precision))
        progress = Progress(model, protocol)
        while not progress.stopped:
            started = time.perf_counter()
            model.train()
            order = rows.train[torch.randperm(len(rows.train), generator=shuffle).numpy()]
            total = 0.0
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                progress.optimiser.zero_grad()
                logits = model(**feed(model, corpus, batch, fold)).logits
                loss = F.cross_entropy(logits, torch.from_numpy(corpus.label[batch]))
                loss.backward()
                progress.optimiser.step()
                total += loss.item() * len(batch)
            dev = predict(model, corpus, rows.dev, fold, size)
            seconds = time.perf_counter() - started
            progress.end_epoch(total / len(order), dev, corpus.label[rows.dev], seconds, name)
        started = time.perf_counter()
        model.load_state_dict(progress.best_weights)
        test = predict(model, corpus, rows.test, fold, size)
    return progress.finish(test, time.perf_counter() - started)


def feed(model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int) -> dict:
    """The arguments of `model.forward` for some utterances [B] of the corpus, as this variant wants them.

    With masks, time is cut to the longest utterance of the batch: that is exact then, and faster.
    """
    variant, dtype = model.variant, next(model.parameters()).dtype
    batch: dict = {"lengths": {}}
    for name in (MODALITIES[m] for m in variant.modalities):
        length = corpus.lengths[name][rows]
        x = corpus.features(
            name,
            rows,
            fold=fold if variant.standardise_audio else None,
            steps=int(length.max()) if variant.mask_padding else None,
        )
        batch[name] = torch.from_numpy(x).to(dtype)
        batch["lengths"][name] = torch.from_numpy(length)
    return batch


@torch.no_grad()
def predict(model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int, batch_size: int = 32) -> np.ndarray:
    """Logits [N, C] of some utterances [N], in evaluation mode."""
    model.eval()
    starts = range(0, len(rows), batch_size)
    return np.concatenate([model(**feed(model, corpus, rows[s : s + batch_size], fold)).logits.numpy() for s in starts])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: fastest with one process per core, and the same bits whatever the machine is set to."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
