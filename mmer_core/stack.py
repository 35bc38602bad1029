"""Many runs of one variant trained at once, as one network with a leading run axis: what a GPU needs to be busy.

Each run keeps its own weights, order of batches, dropout, optimiser, schedule and early stop, and is what
`training.train` makes of it alone; one that has stopped leaves the stack. R runs, B utterances.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from mmer_core.corpus import Corpus
from mmer_core.kernels.machinery import valid_steps
from mmer_core.protocol import Protocol
from mmer_core.training import Batches, RunState, Trained, Trainer
from mmer_core.variant import Variant


def train_stack(
    corpus: Corpus,
    variant: Variant,
    runs: Sequence[tuple[int, int]],
    protocol: Protocol,
    device: str = "cuda",
    heard: Callable[[RunState], None] = lambda state: None,
) -> Iterator[tuple[tuple[int, int], Trained | FloatingPointError]]:
    """Train the runs (fold, seed) of one variant together; each is handed over as soon as it has stopped.

    `Trained.seconds` is a run's share of the stack's time. One whose loss is not finite comes with its error.
    """
    stack = Stack(corpus, variant, protocol, device, heard)
    states = [RunState(corpus, variant, fold, seed, protocol, device) for fold, seed in runs]
    for state, trained in stack.train(states):
        yield (state.fold, state.seed), trained


class _DeviceBatches(Batches):
    """Batches from a corpus that lies on the device whole."""

    def __init__(self, corpus: Corpus, variant: Variant, dtype: torch.dtype, device: str):
        super().__init__(corpus, variant, dtype, device)
        stored = {array for name in self.names for array in corpus.stored(name)}
        whole = {x: corpus.arrays[x] if x == "embedding" else corpus.column(x) for x in stored}
        self.arrays = {array: torch.tensor(x, device=device) for array, x in whole.items()}

    def features(self, name: str, rows: np.ndarray, steps: int | None) -> Tensor:
        stored, *vectors = self.corpus.stored(name)
        x = self.arrays[stored][torch.from_numpy(rows).to(self.device), :steps]
        return self.arrays[vectors[0]][x.long()] if vectors else x


# float32 means float32: without this, a GPU may round the inputs of a convolution to ten bits
_exact = partial(torch.backends.cudnn.flags, enabled=True, allow_tf32=False)


class Stack(Trainer):
    """Trains many runs: their weights lie side by side, and torch.vmap runs one network over them."""

    def __init__(self, corpus: Corpus, variant: Variant, protocol: Protocol, device: str, *heard: Callable):
        super().__init__(corpus, *heard)
        self.size, self.device = protocol.batch_size, device
        self.runs: list[str] = []  # whose weights lie side by side
        self.batches = _DeviceBatches(corpus, variant, getattr(torch, protocol.precision), device)

    def step(self, states: Sequence[RunState], rows: Sequence[np.ndarray], seeds: Sequence[Tensor]) -> Tensor:
        padded, count = _padded(rows)
        weights = self._side_by_side(states)
        label, n = (torch.from_numpy(x).to(self.device) for x in (self.corpus.label[padded], count))
        states[0].model.train()
        with _exact():
            logits = self._logits(states, weights, padded, torch.stack(list(seeds)).to(self.device))
            each = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view(padded.shape)
            losses = (each * valid_steps(n, padded.shape[1])).sum(1) / n
            grads = torch.autograd.grad(losses.sum(), list(weights.values()))
        runs = zip(*(grad.contiguous().unbind() for grad in grads), strict=True)  # fused Adam does not look at strides
        for state, own in zip(states, runs, strict=True):
            for p, grad in zip(state.model.parameters(), own, strict=True):
                p.grad = grad
            state.optimiser.step()
        return losses.detach()

    @torch.no_grad()
    def predict(self, states: Sequence[RunState], parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        padded, count = _padded(parts)
        weights, starts = self._side_by_side(states), range(0, padded.shape[1], self.size)
        states[0].model.eval()
        with _exact():
            batches = [self._logits(states, weights, padded[:, s : s + self.size], None) for s in starts]
        return [x[:n].cpu().numpy() for x, n in zip(torch.cat(batches, 1), count, strict=True)]

    def _side_by_side(self, states: Sequence[RunState]) -> dict[str, Tensor]:
        """The weights of these runs with a leading run axis; the runs' own are views of them from now on."""
        if self.runs != [state.name for state in states]:
            every = [dict(state.model.named_parameters()) for state in states]
            self.weights = {name: torch.stack([p[name].detach() for p in every]).requires_grad_() for name in every[0]}
            for name, joined in self.weights.items():
                for p, own in zip(every, joined.detach().unbind(), strict=True):
                    p[name].data = own
            self.runs = [state.name for state in states]
        return self.weights

    def _logits(self, states: Sequence[RunState], weights: dict, rows: np.ndarray, seeds: Tensor | None) -> Tensor:
        """[R, B, C]: every run's network on rows [R, B] of its own; the first one's is the template."""
        batch = self.batches(rows, [state.fold for state in states])

        def one(weights: dict[str, Tensor], batch: dict, seeds: Tensor | None) -> Tensor:
            return functional_call(states[0].model, weights, kwargs={**batch, "seeds": seeds}).logits

        return torch.vmap(one, in_dims=(0, 0, None if seeds is None else 0))(weights, batch, seeds)


def _padded(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows [R, B] of batches of different lengths, filled up with the first row of each; and their lengths [R]."""
    longest = max(map(len, parts))
    rows = np.stack([np.concatenate([p, np.repeat(p[:1], longest - len(p))]) for p in parts])
    return rows, np.array([len(p) for p in parts])
