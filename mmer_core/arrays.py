"""Arrays in files: mapped, checked and told apart; and the scale of frames, from moments of each utterance."""

import hashlib
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmer_core.errors import CorpusError


def load_array(file: Path) -> np.ndarray:
    """Map one .npy file; CorpusError if it is missing, truncated, or holds Python objects."""
    if not os.path.isfile(file):  # unlike Path.is_file, also for names that are too long
        raise CorpusError(file, "a file", "none")
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # unlike np.load, never reads a zip or a pickle
        behind = os.path.getsize(file) - array.offset - array.nbytes
    except Exception as error:  # a broken header may raise anything
        raise CorpusError(file, "a whole .npy array of numbers", f"{type(error).__name__}: {error}"[:300]) from None
    if behind:
        raise CorpusError(file, f"an array {list(array.shape)}, as its head says", f"{behind} bytes more")
    return array


class Archive:
    """An .npz file, none of whose arrays takes more memory than `largest` bytes, whatever the zip says of itself."""

    def __init__(self, file: Path, largest: int):
        self.file, self.largest = file, largest
        try:
            self.zip = zipfile.ZipFile(file)
            infos = self.zip.infolist()
        except Exception as error:  # zipfile has many
            raise CorpusError(file, "an archive of arrays", f"{type(error).__name__}: {error}") from None
        self.sizes = {i.filename: i.file_size for i in infos}
        if len(self.sizes) < len(infos):
            raise CorpusError(file, "an archive of arrays", "one that holds an array twice")
        if odd := [i for i in infos if i.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]:
            raise CorpusError(file / odd[0].filename, "an array stored or deflated", "other compression")  # no bound

    def head(self, name: str) -> tuple[tuple, np.dtype]:
        """Shape and type of an array of numbers."""
        return self._read(name, lambda f: self._head(name, f))[:2]

    def array(self, name: str) -> np.ndarray:
        shape, dtype, order, data = self._read(name, lambda f: (*self._head(name, f), f.read(self.sizes[f.name])))
        return np.frombuffer(data, dtype).reshape(shape, order=order)

    def content(self, name: str) -> bytes:
        """All bytes of a member."""
        return self._read(name, lambda f: f.read(self.sizes[f.name]))

    def _read(self, name: str, read: Callable[[IO[bytes]], Any]) -> Any:
        where = self.file / f"{name}.npy"
        try:
            if (size := self.sizes[f"{name}.npy"]) > self.largest:
                raise CorpusError(where, f"at most {self.largest} bytes", f"{size}")
            with self.zip.open(f"{name}.npy") as f:
                return read(f)
        except CorpusError:
            raise
        except Exception as error:  # zipfile, zlib and numpy have many
            raise CorpusError(where, "a whole array", f"{type(error).__name__}: {error}"[:200]) from None

    def _head(self, name: str, f: IO[bytes]) -> tuple[tuple, np.dtype, Any]:
        old = np.lib.format.read_magic(f) == (1, 0)
        shape, fortran, dtype = (np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0)(f)
        there = self.sizes[f"{name}.npy"] - f.tell()
        if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != there:
            expected, found = "as many numbers as its head says", f"{dtype} {list(shape)} in {there} bytes"
            raise CorpusError(self.file / f"{name}.npy", expected, found)
        return shape, dtype, "F" if fortran else "C"


def read_rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Some rows of a mapped array, read and not mapped: pages of a map would stay in the memory of this process."""
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous or not array.size:
        return np.asarray(array[start:stop])
    each = array.size // len(array)  # numbers in a row
    count = (min(stop, len(array)) - start) * each
    with open(str(array.filename), "rb") as file:
        file.seek(array.offset + start * each * array.itemsize)
        found = np.fromfile(file, array.dtype, count)
    return found.reshape(-1, *array.shape[1:])


def check_range(file: object, what: str, x: np.ndarray, low: int, high: int, which: str = "") -> None:
    """CorpusError unless all numbers of an array are in low..high."""
    if x.size and not low <= x.min() <= x.max() <= high:
        raise CorpusError(file, f"{what} in {low}..{high}{which}", f"{x.min()}..{x.max()}")


def not_finite(x: np.ndarray) -> str:
    """The first step of [T, ..] that is NaN or infinite somewhere, as "step 3"; "" if none is."""
    return "" if np.isfinite(x).all() else f"step {np.argwhere(~np.isfinite(x))[0][0]}"


def digest(*arrays: np.ndarray) -> bytes:
    """A fingerprint of some arrays (16 bytes): the same numbers of the same types give the same digest everywhere."""
    found = hashlib.blake2b(digest_size=16)
    for a in arrays:
        found.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data)
    return found.digest()


def frames_digest(frames: Mapping[str, np.ndarray]) -> np.ndarray:
    """[16] bytes that tell the valid frames [n, D] of the modalities of an utterance from all others."""
    heads = [np.frombuffer(f"{m} {x.shape}".encode(), np.uint8) for m, x in frames.items()]
    return np.frombuffer(digest(*heads, *(np.asarray(x, "<f4") for x in frames.values())), np.uint8)


def moments(frames: np.ndarray) -> np.ndarray:
    """Mean of each feature of frames [n, D], and sum of the squared deviations from it: [2, D] float64."""
    x = frames.astype(np.float64)
    mean = x.mean(0)
    x -= mean
    return np.stack([mean, np.square(x, out=x).sum(0)])


def frame_scale(each: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Mean and standard deviation over all frames of utterances with `moments` [B, 2, D] and n [B] frames: [2, D].

    As float32. A feature that does not vary gets the deviation 1, so that dividing by it is harmless.
    """
    weight = (n / n.sum())[:, None]
    mean = (weight * each[:, 0]).sum(0)
    std = np.sqrt((each[:, 1].sum(0)) / n.sum() + (weight * np.square(each[:, 0] - mean)).sum(0))
    std[std <= 1e-6 * np.abs(mean)] = 1
    return np.stack([mean, std]).astype(np.float32)
