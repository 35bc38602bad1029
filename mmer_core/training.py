"""One run: train a variant on one fold with one seed by the protocol of the paper, and score its test part once.

A `RunState` is a run between its epochs; a `Trainer` carries runs through their epochs.
"""

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.kernels.dropout import draw_seeds
from mmer_core.kernels.machinery import valid_steps
from mmer_core.model import FusionModel
from mmer_core.protocol import Protocol
from mmer_core.variant import Variant

_LOCK = threading.Lock()  # for what belongs to the whole process: torch's random numbers and its number of threads
_TRAINING: list[int] = []  # torch's number of threads as each training of this process found it


@dataclass(frozen=True)
class Trained:
    """What a run leaves: C classes, N utterances of the part."""

    weights: dict[str, Any]  # of the best epoch, under the published names
    curve: list[dict[str, int | float]]  # epoch, train_loss, dev_loss, dev_accuracy, learning_rate
    best_epoch: int  # counted from 1
    logits: dict[str, np.ndarray]  # dev, test: [N, C]
    parameters: int
    seconds: float
    device: str  # cpu or cuda
    made: dict[str, str] = field(default_factory=dict)  # where: see `provenance`


class RunState:
    """A run between its epochs: network, optimiser, schedule, random numbers, learning curve and best weights.

    The seed fixes initial weights, order of batches and dropout; the order of batches is the same for all variants.
    """

    PARTS, RANDOM = ("model", "optimiser", "schedule"), ("shuffle", "dropout")
    NOTES = ("curve", "best_epoch", "best_weights", "dev_logits", "seconds")

    def __init__(self, corpus: Corpus, variant: Variant, fold: int, seed: int, protocol: Protocol, device: str = "cpu"):
        self.fold, self.seed, self.protocol, self.rows = fold, seed, protocol, corpus.folds[fold]
        self.name = f"{variant.name} fold {fold} seed {seed}"
        with _LOCK, torch.random.fork_rng(devices=[]):  # initial weights come from torch's own random numbers
            torch.default_generator.manual_seed(seed)
            self.model = FusionModel(variant, corpus.sizes, dtype=getattr(torch, protocol.precision)).to(device)
            self.dropout = torch.Generator().set_state(torch.get_rng_state())
        self.shuffle = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.Adam(self.model.parameters(), protocol.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=protocol.plateau_factor, patience=protocol.plateau_patience
        )
        self.curve: list[dict[str, int | float]] = []
        self.best_epoch, self.best_weights, self.dev_logits = 0, self.model.state_dict(), torch.empty(0)
        self.seconds = 0.0
        self.error: FloatingPointError | None = None

    @property
    def stopped(self) -> bool:
        epochs = len(self.curve)
        return (
            self.error is not None
            or epochs == self.best_epoch + self.protocol.stop_patience
            or epochs == self.protocol.max_epochs
        )

    def shuffled(self) -> np.ndarray:
        """The train rows in the order of the next epoch."""
        return self.rows.train[torch.randperm(len(self.rows.train), generator=self.shuffle).numpy()]

    def end_epoch(self, train_loss: float, logits: np.ndarray, label: np.ndarray, seconds: float) -> None:
        """Note the mean train loss of an epoch and what dev logits [N, C] say, or the error if it is not finite."""
        dev_loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(label)).item()
        accuracy = float((logits.argmax(1) == label).mean())
        epoch, rate = len(self.curve) + 1, self.optimiser.param_groups[0]["lr"]
        if not np.isfinite([train_loss, dev_loss]).all():
            self.error = FloatingPointError(f"{self.name}: loss not finite in epoch {epoch}")
            return
        best = max((point["dev_accuracy"] for point in self.curve), default=-1.0)
        losses = dict(train_loss=train_loss, dev_loss=dev_loss)
        self.curve.append({"epoch": epoch, **losses, "dev_accuracy": accuracy, "learning_rate": rate})
        self.schedule.step(dev_loss)
        self.seconds += seconds
        if accuracy > best:
            self.best_epoch, self.dev_logits = epoch, torch.from_numpy(logits)
            self.best_weights = {name: w.clone() for name, w in self.model.state_dict().items()}

    def finish(self, test_logits: np.ndarray, seconds: float) -> Trained:
        """The run with its test part scored, which took so many seconds more."""
        weights = {name: w.cpu() for name, w in self.best_weights.items()}
        logits = {"dev": self.dev_logits.numpy(), "test": test_logits}
        parameters, device = self.model.count_parameters(), next(self.model.parameters()).device.type
        return Trained(weights, self.curve, self.best_epoch, logits, parameters, self.seconds + seconds, device)

    def state_dict(self) -> dict:
        """All that changes while the run is trained: with it, `load_state_dict` goes on as if nothing had happened."""
        parts = {name: getattr(self, name).state_dict() for name in self.PARTS}
        random = {name: getattr(self, name).get_state() for name in self.RANDOM}
        return copy.deepcopy({**parts, **random, **{name: getattr(self, name) for name in self.NOTES}})

    def load_state_dict(self, state: dict) -> None:
        """Go back to what `state_dict` noted of this run."""
        state = copy.deepcopy(state)
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])
        for name in self.RANDOM:
            getattr(self, name).set_state(state[name])
        for name in self.NOTES:
            setattr(self, name, state[name])


class Batches:
    """Utterances as the arguments of a network, for R runs at once, each with rows of its own.

    With masks, time is cut to the longest utterance of the batch: that is exact then, and faster.
    """

    def __init__(self, corpus: Corpus, variant: Variant, dtype: torch.dtype, device: str = "cpu"):
        self.corpus, self.variant, self.dtype, self.device = corpus, variant, dtype, device
        self.names = [MODALITIES[m] for m in variant.modalities]

    def __call__(self, rows: np.ndarray, folds: Sequence[int]) -> dict:
        """Arguments of the model for the rows [R, B], with a leading run axis; folds [R] say what scales the audio."""
        batch: dict = {"lengths": {}}
        for name in self.names:
            length = self.corpus.lengths[name][rows]
            x = self.features(name, rows, int(length.max()) if self.variant.mask_padding else None)
            batch["lengths"][name] = n = torch.from_numpy(length).to(self.device)
            if name == "audio" and self.variant.standardise_audio:
                at = [list(self.corpus.folds).index(fold) for fold in folds]
                scale = torch.from_numpy(self.corpus.arrays["audio_scale"][at]).to(self.device)
                mean, std = scale[:, :, None, None].unbind(1)  # (R, 1, 1, D)
                valid = valid_steps(n.flatten(), x.shape[2]).view(x.shape[:3])
                x = x.sub_(mean).div_(std).masked_fill_(~valid[..., None], 0)
            batch[name] = x.to(self.dtype)
        return batch

    def features(self, name: str, rows: np.ndarray, steps: int | None) -> Tensor:
        """[R, B, T, D] of one modality, a fresh array."""
        x = torch.from_numpy(self.corpus.features(name, rows.ravel(), steps=steps))
        return x.unflatten(0, rows.shape).to(self.device)


class Trainer:
    """Trains runs of one variant and protocol: here one, its network as it is; `stack.Stack` trains many at once."""

    def __init__(self, corpus: Corpus, heard: Callable[[RunState], None] = lambda state: None):
        self.corpus, self.heard = corpus, heard  # who hears of each run after each of its epochs

    def train(self, states: Sequence[RunState]) -> Iterator[tuple[RunState, Trained | FloatingPointError]]:
        """Each run is handed over as soon as it has stopped; one whose loss is not finite, with its error."""
        while states:
            self.epoch(states)
            for state in states:
                self.heard(state)
            for state in [s for s in states if s.stopped]:
                if state.error is not None:
                    yield state, state.error
                    continue
                started = time.perf_counter()
                state.model.load_state_dict(state.best_weights)
                (test,) = self.predict([state], [state.rows.test])
                yield state, state.finish(test, time.perf_counter() - started)
            states = [s for s in states if not s.stopped]

    def epoch(self, states: Sequence[RunState]) -> None:
        """One epoch of every run: its train part in its own order, then its dev part."""
        started, size = time.perf_counter(), states[0].protocol.batch_size
        orders, losses = [state.shuffled() for state in states], []
        for start in range(0, max(map(len, orders)), size):
            active = [i for i, order in enumerate(orders) if start < len(order)]
            some, rows = [states[i] for i in active], [orders[i][start : start + size] for i in active]
            seeds = [draw_seeds(1 + len(state.model.variant.blocks), state.dropout) for state in some]
            losses.append((active, [len(batch) for batch in rows], self.step(some, rows, seeds)))
        totals = [0.0] * len(states)
        for active, sizes, loss in losses:
            for i, size, mean in zip(active, sizes, loss.tolist(), strict=True):
                totals[i] += mean * size
        dev = self.predict(states, [state.rows.dev for state in states])
        share = (time.perf_counter() - started) / len(states)
        for state, total, order, logits in zip(states, totals, orders, dev, strict=True):
            state.end_epoch(total / len(order), logits, self.corpus.label[state.rows.dev], share)

    def step(self, states: Sequence[RunState], rows: Sequence[np.ndarray], seeds: Sequence[Tensor]) -> Tensor:
        """One step of every run's optimiser on rows [B] of its own; returns the mean losses [R]."""
        (state,), (batch,), (seed,) = states, rows, seeds
        state.model.train()
        state.optimiser.zero_grad()
        logits = state.model(**feed(state.model, self.corpus, batch, state.fold), seeds=seed).logits
        loss = F.cross_entropy(logits, torch.from_numpy(self.corpus.label[batch]))
        loss.backward()
        state.optimiser.step()
        return loss.detach()[None]

    def predict(self, states: Sequence[RunState], parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits [N, C] of the rows [N] of each run, in evaluation mode."""
        (state,), (rows,) = states, parts
        return [predict(state.model, self.corpus, rows, state.fold, state.protocol.batch_size)]


def train(
    corpus: Corpus, variant: Variant, fold: int, seed: int, protocol: Protocol, trainer: Trainer | None = None
) -> Trained:
    """Train one run on one thread, by a plain `Trainer` or another; FloatingPointError if a loss is not finite.

    The same seed gives the same bits on the same type of processor.
    """
    with one_thread():
        ((_, trained),) = (trainer or Trainer(corpus)).train([RunState(corpus, variant, fold, seed, protocol)])
    if isinstance(trained, FloatingPointError):
        raise trained
    return trained


def feed(model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int) -> dict:
    """The arguments of `model.forward` for some utterances [B] of the corpus, as its variant wants them."""
    weight = model.classifier.weight
    batch = Batches(corpus, model.variant, weight.dtype, str(weight.device))(rows[None], [fold])
    lengths = {name: n[0] for name, n in batch.pop("lengths").items()}
    return {**{name: x[0] for name, x in batch.items()}, "lengths": lengths}


@torch.no_grad()
def predict(model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int, batch_size: int = 32) -> np.ndarray:
    """Logits [N, C] of some utterances [N], in evaluation mode."""
    model.eval()
    starts = range(0, len(rows), batch_size)
    return np.concatenate(
        [model(**feed(model, corpus, rows[s : s + batch_size], fold)).logits.cpu().numpy() for s in starts]
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: fastest with one process per core, and the same bits whatever the machine is set to.

    The number of threads belongs to the whole process: of trainings that overlap, the last one to end sets it back.
    """
    with _LOCK:
        _TRAINING.append(torch.get_num_threads() if not _TRAINING else _TRAINING[0])
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            before = _TRAINING.pop()
            if not _TRAINING:
                torch.set_num_threads(before)
