"""A long run that is killed goes on where it was, with the same bits: its state is kept between epochs."""

import contextlib
import hashlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch

from mmer_core.corpus import Corpus
from mmer_core.paths import own_folder
from mmer_core.provenance import made_here
from mmer_core.training import RunState, Trained, Trainer

_EVERY = 600.0  # seconds from one to the next: a run that takes less never writes any
_KEPT = 60 * 86400.0  # seconds that what was left behind waits for its study to go on
_DIGEST = 16  # bytes before the state, of the state


@lru_cache
def _here() -> str:
    """What decides the bits beside the run itself: versions, type of processor, and every line of this package."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return repr(sorted(made_here().items())) + hashlib.blake2b(b"".join(f.read_bytes() for f in files)).hexdigest()


class Resuming(Trainer):
    """Trains one run, by the name of its identity; what a killed process left of it, it takes up.

    A file that cannot be read or written costs time and no run: a warning says so. `resumed` counts the epochs that
    were found done.
    """

    def __init__(self, corpus: Corpus, identity: str, heard: Callable[[RunState], None] = lambda state: None):
        super().__init__(corpus, heard)
        name = hashlib.blake2b(f"{identity}{_here()}".encode(), digest_size=_DIGEST).hexdigest()
        self.file, self.written, self.resumed = own_folder() / "unfinished" / name, time.monotonic(), 0

    def train(self, states: Sequence[RunState]) -> Iterator[tuple[RunState, Trained | FloatingPointError]]:
        (state,) = states
        if self.file.is_file():
            self._read(state)
        yield from super().train(states)
        with contextlib.suppress(OSError):
            self.file.unlink()

    def epoch(self, states: Sequence[RunState]) -> None:
        super().epoch(states)
        (state,) = states
        if not state.stopped and time.monotonic() - self.written >= _EVERY:
            self._write(state)
            _tidy(self.file.parent)
            self.written = time.monotonic()

    def _read(self, state: RunState) -> None:
        before = state.state_dict()
        try:
            data = self.file.read_bytes()
            if _digest(data[_DIGEST:]) != data[:_DIGEST]:
                raise ValueError("it is not as it was written")
            state.load_state_dict(torch.load(io.BytesIO(data[_DIGEST:]), weights_only=True))
            self.resumed = len(state.curve)
        except Exception as error:  # torch and its zip reader have many
            state.load_state_dict(before)
            warnings.warn(f"{state.name} begins anew, {self.file} cannot be used: {error}", stacklevel=2)

    def _write(self, state: RunState) -> None:
        scratch, data = self.file.with_name(f"{self.file.name}-{os.urandom(4).hex()}"), io.BytesIO()
        torch.save(state.state_dict(), data)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(_digest(data.getbuffer()) + data.getbuffer())
            os.replace(scratch, self.file)
        except OSError as error:
            with contextlib.suppress(OSError):
                scratch.unlink()
            warnings.warn(f"{state.name} could not be resumed if it were killed: {error}", stacklevel=2)


def _tidy(folder: Path) -> None:
    """Take away what studies left that nobody went on with."""
    with contextlib.suppress(OSError):
        for left in folder.iterdir():
            if time.time() - left.stat().st_mtime > _KEPT:
                left.unlink()


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
