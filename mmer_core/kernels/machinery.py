"""What the operations share: which form runs where, how rows of several runs lie side by side, and numba's settings."""

import hashlib
import importlib.util
import inspect
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Bool, Int
from numba import config, njit, types
from numba.extending import overload
from torch import Tensor

from mmer_core.errors import MmerError
from mmer_core.paths import own_folder, writable


def on_cpu(x: Tensor) -> bool:
    """numba's form of an operation serves tensors on the CPU; others have Triton's (`on_gpu`) or the plain one."""
    return x.device.type == "cpu"


def on_gpu(x: Tensor, dtype: torch.dtype) -> ModuleType | None:
    """Triton's forms (`on_gpu`), for float32 on the GPUs that they were compiled for; it comes with torch for CUDA."""
    return _triton_forms(x.device) if dtype == torch.float32 else None


@lru_cache
def _triton_forms(device: torch.device) -> ModuleType | None:
    if device.type != "cuda" or torch.version.hip or not importlib.util.find_spec("triton"):
        return None
    if torch.cuda.get_device_capability(device) not in ((8, 0), (9, 0)):  # A100; H100 and H200: others have less memory
        return None  # on the chip
    return importlib.import_module("mmer_core.kernels.on_gpu")


def array(x: Tensor) -> np.ndarray:
    return x.contiguous().numpy()


def valid_steps(length: Int[Tensor, " B"], steps: int) -> Bool[Tensor, "B T"]:
    """True where a time step is no padding."""
    return torch.arange(steps, device=length.device) < length[:, None]


def within(length: Int[Tensor, " B"], steps: int, what: str) -> None:
    """MmerError unless all lengths are in 1..steps: compiled loops would read and write beyond their arrays."""
    low, high = torch.aminmax(length)
    if not 1 <= low <= high <= steps:
        raise MmerError(f"lengths of {what} are in 1..{steps}, the steps of their array; got {low}..{high}")


def side_by_side(runs: int, dims: Sequence[int | None], *tensors: Tensor) -> list[Tensor]:
    """What torch.vmap hands over, [R, B, ..], or [B, ..] where all runs share it, as rows of one batch: [R B, ..]."""
    every = [x.expand(runs, *x.shape) if d is None else x.movedim(d, 0) for x, d in zip(tensors, dims, strict=True)]
    return [x.flatten(0, 1) for x in every]


# Sums may be taken in any order, so that loops become vectors; NaN and infinity keep their sense.
_OPTIONS = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}


def cache_folder() -> str:
    """The folder of compiled kernels: one for each state of all files of this package.

    numba notices that the file of a kernel has changed, but not that of another function which the kernel calls.
    """
    here = Path(__file__).parent
    state = hashlib.blake2b(b"".join(file.read_bytes() for file in sorted(here.glob("*.py"))), digest_size=6)
    own = here / "__pycache__" if writable(here / "__pycache__") else own_folder()
    return str(Path(config.CACHE_DIR or own) / f"kernels-{state.hexdigest()}")  # type: ignore[attr-defined]


def inlined(function: Callable) -> Callable:
    """A part of a kernel. It becomes part of the kernel's own code.

    Were it called, the process that compiles and those that load the compiled kernel from the cache might run copies of
    it that were optimised differently, and differ in the last bit.
    """
    return njit(**_OPTIONS, forceinline=True)(inspect.unwrap(function))  # type: ignore[call-overload]


def compiled(function: Callable) -> Callable:
    """A kernel, compiled when it is first called, and kept for later processes; other Python threads run meanwhile."""
    before, config.CACHE_DIR = config.CACHE_DIR, cache_folder()  # type: ignore[attr-defined]
    try:
        return njit(**_OPTIONS, cache=True, nogil=True)(inspect.unwrap(function))  # type: ignore[call-overload]
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]


def exp(x):
    """e^x in a kernel: in float32 by a series that the compiler turns into vectors, exact to 5e-7."""
    return math.exp(x)


@overload(exp, jit_options={"error_model": "numpy", "forceinline": True})
def _exp_by_type(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def exp32(x):  # x = n ln 2 + f with |f| <= ln 2 / 2;  exp x = 2^n exp f;  exp f by its series, to 1e-7
        x = np.float32(-87) if x < np.float32(-87) else x
        x = np.float32(88) if x > np.float32(88) else x
        n = np.int32(np.int32(x * np.float32(1 / math.log(2)) + np.float32(128.5)) - np.int32(128))
        f = x - np.float32(n) * np.float32(0.693359375)  # ln 2 in two parts
        f = f - np.float32(n) * np.float32(math.log(2) - 0.693359375)
        p = np.float32(1 / 720)
        p = p * f + np.float32(1 / 120)
        p = p * f + np.float32(1 / 24)
        p = p * f + np.float32(1 / 6)
        p = p * f + np.float32(1 / 2)
        p = p * (f * f) + f + np.float32(1)
        return p * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)

    return exp32
