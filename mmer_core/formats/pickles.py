"""Pickles from outside, read by an allow-list: plain containers, text, numbers and numpy arrays, and nothing else.

Nothing in a pickle is executed or imported, and none may take more memory than a few times its size: Python's own
unpickler in Python reads it (the one in C lets a few bytes ask for gigabytes), and arrays are built here.
"""

import math
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from mmer_core.errors import CorpusError

TYPES = r"([iu][1248]|f[248]|b1|[SUO]\d*)"


class _Type:
    """Stands in for numpy.dtype in a pickle: only the names of plain types are understood."""

    def __init__(self, name: object, *_: object):
        text = name.decode("ascii") if isinstance(name, bytes) else str(name)
        if not re.fullmatch(TYPES, text):
            raise pickle.UnpicklingError(f"numpy type {text!r}")
        self.dtype = np.dtype("O" if text[0] == "O" else text)

    def __setstate__(self, state: tuple) -> None:
        if self.dtype.kind in "SU" and isinstance(state[5], int) and 0 < state[5] < 2**20:  # "S0", and its size here
            self.dtype = np.dtype(f"{self.dtype.kind}{state[5] // (4 if self.dtype.kind == 'U' else 1)}")
        if state[1] in ("<", ">", b"<", b">"):
            self.dtype = self.dtype.newbyteorder(">" if state[1] in (">", b">") else "<")


class _Array:
    """Stands in for a numpy array until all is read."""

    def __init__(self, *_: object):
        self.made: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, data = state
        self.made = _array(kind, shape, data, "F" if fortran else "C")


def _array(kind: _Type, shape: tuple, data: Any, order: str) -> Any:
    if not isinstance(kind, _Type) or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise pickle.UnpicklingError("an array without type or shape")
    if kind.dtype.kind == "O":
        if not isinstance(data, list) or len(shape) > 1 or len(data) != math.prod(shape):
            raise pickle.UnpicklingError("an array of objects that is no list")
        return data if shape else data[0]
    data = data.encode("latin1") if isinstance(data, str) else data
    if (
        not kind.dtype.itemsize
        or not isinstance(data, (bytes, bytearray))
        or len(data) != math.prod(shape) * kind.dtype.itemsize
    ):
        raise pickle.UnpicklingError(f"an array {shape} of {kind.dtype} with other than its bytes")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order) if data else np.empty(shape, kind.dtype)  # type: ignore[call-overload]


def _from_buffer(data: bytes, kind: _Type, shape: tuple, order: str = "C") -> _Array:
    whole = _Array()
    whole.made = _array(kind, shape, data, order if order in ("C", "F") else "C")
    return whole


def _scalar(kind: _Type, data: bytes | str) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype, count=1)[0].item()


class _AllowList(pickle._Unpickler):  # type: ignore[name-defined]
    """Builds what is listed below; whatever else a pickle asks for is refused, never imported."""

    def __init__(self, file: BinaryIO, size: int):
        super().__init__(_Bounded(file, size), encoding="latin1")  # latin1: Python 2 bytes arrive unchanged
        self.left = 4 * size
        self.allowed: dict[tuple[str, str], Callable] = {("_codecs", "encode"): self.encode, ("numpy", "dtype"): _Type}
        for home in ("numpy.core", "numpy._core"):
            self.allowed[f"{home}.multiarray", "scalar"] = _scalar
            self.allowed[f"{home}.multiarray", "_reconstruct"] = _Array
            self.allowed[f"{home}.numeric", "_frombuffer"] = _from_buffer
        self.allowed["numpy", "ndarray"] = _Array
        for home in ("builtins", "__builtin__"):
            self.allowed |= {(home, "set"): set, (home, "frozenset"): frozenset, (home, "bytes"): lambda: b""}
            self.allowed[home, "bytearray"] = lambda text="", encoding="": bytearray(self.encode(text, encoding))
        self.allowed["collections", "OrderedDict"] = lambda items=(): dict(items)

    def load_bytearray8(self) -> None:
        (n,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(n)))  # type: ignore[attr-defined]

    dispatch: ClassVar[dict] = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}  # type: ignore

    def encode(self, text: str, encoding: str) -> bytes:
        self.left -= len(text)
        if self.left < 0:
            raise pickle.UnpicklingError("more bytes than the file has")
        return str(text).encode("latin1" if encoding == "latin1" else "ascii")

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return lambda *given: self.allowed[module, name](*given)  # a fresh one: a pickle may set attributes on it


class _Bounded:
    """A file of which nobody can read more than there is: a length that a pickle states is no reason to make room."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size, self.readline, self.readinto = file, size, file.readline, None

    def read(self, n: int) -> bytes:
        if n > self.size - self.file.tell():
            raise EOFError("truncated")
        return self.file.read(n)


def read_pickle(file: Path, expected: str) -> Any:
    """What a pickle holds. CorpusError if it is damaged, or asks for anything but data."""
    try:
        with open(file, "rb") as f:
            return load(f, os.fstat(f.fileno()).st_size)
    except Exception as error:  # a hostile pickle may raise anything
        found = f"{type(error).__name__}: {error}"[:200]
        raise CorpusError(file, expected, found) from None


def load(file: BinaryIO, size: int) -> Any:
    """What a pickle of so many bytes holds, from where the file stands; whatever is wrong with it may be raised."""
    whole, room = _finished(_AllowList(file, size).load(), {})
    if room > 64 * size + 2**20:  # lists of one list, in lists: as an array they would be gigabytes
        raise pickle.UnpicklingError("the same things many times")
    return whole


def _finished(x: Any, known: dict[int, tuple[Any, int]]) -> tuple[Any, int]:
    """The same with arrays in the place of what stood in for them, and the bytes it takes where nothing is shared."""
    if isinstance(x, _Array):
        return (x.made, x.made.nbytes) if isinstance(x.made, np.ndarray) else _finished(x.made, known)
    if not isinstance(x, (dict, list, tuple, set, frozenset)):
        if not isinstance(x, (str, bytes, bytearray, int, float, type(None))):
            raise pickle.UnpicklingError(f"an object of {type(x).__name__}")
        if isinstance(x, int) and x.bit_length() > 1000:
            raise pickle.UnpicklingError("a number of more digits than can be shown")
        return x, 8 if x is None or isinstance(x, (int, float)) else len(x)
    if id(x) not in known:
        known[id(x)] = None, 0  # of one that holds itself
        inner = (
            [_finished(v, known) for v in (*x, *x.values())]
            if isinstance(x, dict)
            else [_finished(v, known) for v in x]
        )
        values, room = [value for value, _ in inner], sum(size for _, size in inner) + 8 * len(inner)
        n = len(values) // 2
        made = dict(zip(values[:n], values[n:], strict=True)) if isinstance(x, dict) else type(x)(values)
        known[id(x)] = made, room
    return known[id(x)]


def read_dictionary(file: Path) -> dict[str, int]:
    """Read dic.pkl of an AMH tree, {word: id}, often written by Python 2; CorpusError if it is no such dictionary."""
    words = read_pickle(file, "a pickle of words and ids, nothing else")
    if not isinstance(words, dict) or not all(isinstance(k, str) and type(v) is int for k, v in words.items()):
        raise CorpusError(file, "a dictionary {word: id}", f"{type(words).__name__} of other things")
    return {_as_text(word): i for word, i in words.items()}


def _as_text(word: str) -> str:
    try:
        return word.encode("latin1").decode("utf-8")
    except UnicodeError:
        return word
