"""Encoders that take many recordings at a time, as a GPU wants them: read by threads, computed in batches.

The same recording gives the same bits, whatever else is extracted beside it: it is padded to a number of steps that
depends on it alone, and batches of so many steps always have the same shape (a recording is repeated to fill one).
"""

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from loky import cpu_count

from mmer_core.extract.found import Recording

AHEAD = 16  # recordings that threads read before they are wanted


@dataclass(frozen=True)
class Encoder:
    """A network in evaluation mode, and how recordings go through it."""

    network: torch.nn.Module
    read: Callable[[Recording], Any]  # what it gets of a recording; several threads call this at once
    steps: Callable[[Any], int]  # that it makes of this
    states: Callable[[list[Any], int], list[Float[np.ndarray, "T D"]]]  # of some recordings, padded to so many steps
    multiple: int  # of steps, to which recordings are padded
    most: int  # steps in a batch, unless one recording has more

    def alone(self, recording: Recording) -> Float[np.ndarray, "T D"]:
        """The states of one recording, without any padding."""
        x = self.read(recording)
        return self.states([x], self.steps(x))[0]

    def together(
        self, recordings: Iterable[Recording], device: str
    ) -> Generator[tuple[Recording, Float[np.ndarray, "T D"] | Exception], None, None]:
        """Each recording, in any order, with its states or with what went wrong."""
        waiting: dict[int, list] = defaultdict(list)  # by padded steps
        self.network.to(device)
        try:
            for recording, x in _read_ahead(self.read, recordings):
                if isinstance(x, Exception):
                    yield recording, x
                    continue
                to = -(-self.steps(x) // self.multiple) * self.multiple
                waiting[to].append((recording, x))
                if len(waiting[to]) == self._rows(to):
                    yield from self._batch(waiting.pop(to), to)
            for to, some in waiting.items():
                yield from self._batch(some, to)
        finally:
            self.network.to("cpu")

    def _rows(self, to: int) -> int:
        return max(1, self.most // to)

    def _batch(self, some: list[tuple[Recording, Any]], to: int) -> Iterator[tuple[Recording, Any]]:
        given = [x for _, x in some]
        given += given[-1:] * (self._rows(to) - len(given))
        try:  # convolutions in full float32, and none whose order of summing is left open
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
                found: list[Any] = self.states(given, to)
        except Exception as error:  # of the device, such as too little memory
            found = [error] * len(some)
        yield from ((recording, x) for (recording, _), x in zip(some, found, strict=False))


def _read_ahead(
    read: Callable[[Recording], Any], recordings: Iterable[Recording]
) -> Iterator[tuple[Recording, Any | Exception]]:
    """What is read of each recording, or what went wrong, in their order."""

    def attempt(recording: Recording) -> Any:
        try:
            return recording, read(recording)
        except Exception as error:
            return recording, error

    flight: deque = deque()
    pool = ThreadPoolExecutor(cpu_count())
    try:
        for recording in recordings:
            flight.append(pool.submit(attempt, recording))
            if len(flight) > AHEAD:
                yield flight.popleft().result()
        while flight:
            yield flight.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
