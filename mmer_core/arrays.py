"""Arrays in files: mapped, checked and told apart; and the scale of frames, from moments of each utterance."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmer_core.errors import CorpusError


def load_array(file: Path) -> np.ndarray:
    """Map one .npy file; CorpusError if it is missing, truncated, or holds Python objects."""
    if not file.is_file():
        raise CorpusError(file, "a file", "none")
    try:
        return np.lib.format.open_memmap(file, mode="r")  # unlike np.load, never reads a zip or a pickle
    except Exception as error:  # a broken header may raise anything
        raise CorpusError(file, "a whole .npy array of numbers", f"{type(error).__name__}: {error}") from None


def read_rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Some rows of a mapped array, read and not mapped: pages of a map would stay in the memory of this process."""
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous or not array.size:
        return np.asarray(array[start:stop])
    each = array.size // len(array)  # numbers in a row
    count = (min(stop, len(array)) - start) * each
    with open(str(array.filename), "rb") as file:
        file.seek(array.offset + start * each * array.itemsize)
        found = np.fromfile(file, array.dtype, count)
        if hasattr(os, "posix_fadvise"):  # the disk may go on with the next rows
            os.posix_fadvise(file.fileno(), file.tell(), found.nbytes, os.POSIX_FADV_WILLNEED)
    return found.reshape(-1, *array.shape[1:])


def check_range(file: object, what: str, x: np.ndarray, low: int, high: int, which: str = "") -> None:
    """CorpusError unless all numbers of an array are in low..high."""
    if x.size and not low <= x.min() <= x.max() <= high:
        raise CorpusError(file, f"{what} in {low}..{high}{which}", f"{x.min()}..{x.max()}")


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
    return np.stack([mean, np.square(x - mean).sum(0)])


def frame_scale(each: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Mean and standard deviation over all frames of utterances with `moments` [B, 2, D] and n [B] frames: [2, D].

    As float32. A feature that does not vary gets the deviation 1, so that dividing by it is harmless.
    """
    weight = (n / n.sum())[:, None]
    mean = (weight * each[:, 0]).sum(0)
    std = np.sqrt((each[:, 1].sum(0)) / n.sum() + (weight * np.square(each[:, 0] - mean)).sum(0))
    std[std <= 1e-6 * np.abs(mean)] = 1
    return np.stack([mean, std]).astype(np.float32)
