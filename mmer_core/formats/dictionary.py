"""dic.pkl of the AMH layout: a pickle from outside, read without executing anything in it."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmer_core.errors import CorpusError


class _Type:
    """Stands in for numpy.dtype in a pickle: only the names of whole-number types are understood."""

    def __init__(self, name: object, *_: object):
        text = name.decode("ascii") if isinstance(name, bytes) else str(name)
        if not re.fullmatch(r"[iu][1248]", text):
            raise pickle.UnpicklingError(f"numpy type {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1] if state[1] in ("<", ">") else "=")


def _scalar(kind: _Type, data: bytes | str) -> int:
    data = data.encode("latin1") if isinstance(data, str) else data
    return int(np.frombuffer(data, kind.dtype, count=1)[0])


_ALLOWED: dict[tuple[str, str], Callable] = {
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): lambda text, encoding: str(text).encode("latin1" if encoding == "latin1" else "ascii"),
}


class _AllowList(pickle.Unpickler):
    """Builds dict, str, int and numpy whole numbers; whatever else a pickle asks for is refused, never imported."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return lambda *given: _ALLOWED[module, name](*given)  # a fresh one: a pickle may set attributes on it


def read_dictionary(file: Path) -> dict[str, int]:
    """Read dic.pkl, {word: id}, often written by Python 2. It may come from anywhere, so nothing in it is executed.

    CorpusError if it is damaged, asks for anything but dict, str, int and numpy integers, or is no such dict.
    """
    try:
        with open(file, "rb") as f:
            words = _AllowList(f, encoding="latin1").load()  # latin1: Python 2 bytes arrive unchanged
    except Exception as error:  # a hostile pickle may raise anything
        found = f"{type(error).__name__}: {error}"[:200]
        raise CorpusError(file, "a pickle of words and ids, nothing else", found) from None
    if not isinstance(words, dict) or not all(isinstance(k, str) and type(v) is int for k, v in words.items()):
        raise CorpusError(file, "a dictionary {word: id}", f"{type(words).__name__} of other things")
    return {_as_text(word): i for word, i in words.items()}


def _as_text(word: str) -> str:
    try:
        return word.encode("latin1").decode("utf-8")
    except UnicodeError:
        return word
