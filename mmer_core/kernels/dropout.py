"""Dropout whose mask is a function of a seed, so that it is never stored: the gradient draws it again.

    y = x M        M = 0 with probability p, else 1 / (1 - p)

The mask of one run, [I, K, n], is drawn row by row. For the element [i, k, j]:

    row    64 bits: splitmix64 of seed + golden (i 2^32 + k)
    place  32 (j // 64) + j % 32: the elements of a tile of 64 share 32 words
    word   32 bits: lowbias32 of golden place + lower half of the row; its upper half is mixed in between the rounds
    draw   16 bits: the lower half of the word for the first 32 elements of the tile, the upper half for the others
    M      0 where draw < p 2^16, so p is rounded to a multiple of 2^-16

So a mask does not depend on n, nor on what else is in the batch, nor on the device.

Sources: splitmix64 is due to Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, with
the factors of D. Stafford's mixer 13; lowbias32 to C. Wellons, "Prospecting for hash functions", 2018; golden: 2^64 and
2^32 divided by the golden ratio.

Tested: rate and mean of the mask; independence of neighbours, halves of a word, rows, utterances and seeds; the
compiled form against the plain one, bit by bit. The plain form was never run on a GPU yet, only on the CPU.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmer_core.kernels.machinery import array, compiled, inlined, on_cpu, on_gpu
from mmer_core.kernels.products import TILE

HALF = TILE // 2
GOLDEN = 0x9E3779B97F4A7C15 - 2**64, 0x9E3779B9  # for 64 bits (with a sign) and for 32
SPLITMIX64 = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
LOWBIAS32 = 0x7FEB352D, 0x846CA68B


def draw_seeds(n: int, generator: torch.Generator | None = None) -> Int[Tensor, " n"]:
    """Seeds of dropout, from torch's own generator by default: all that is random in a training step."""
    return torch.randint(2**62, (n,), generator=generator)


def law(rate: float) -> tuple[int, float]:
    """A draw below the first number drops an element; the second is the factor of those that stay."""
    dropped = round(rate * 2**16)
    return dropped, 2**16 / (2**16 - dropped)


def keep_mask(
    seeds: Int[Tensor, " G"], shape: tuple[int, int, int], rate: float, dtype: torch.dtype
) -> Float[Tensor, "G I K n"]:
    """The factors M of G runs, each of the shape I, K, n."""
    if on_cpu(seeds):
        mask = torch.empty(len(seeds), *shape, dtype=dtype)
        _masks(array(seeds), *law(rate), mask.numpy())
        return mask
    i = torch.arange(shape[0], device=seeds.device).repeat(len(seeds))
    if gpu := on_gpu(seeds, dtype):
        halves = plain_halves(seeds.repeat_interleave(shape[0]), i, shape[1])
        return gpu.masks(halves, shape[2], *law(rate), dtype).view(-1, *shape)
    return plain_mask(seeds.repeat_interleave(shape[0]), i, *shape[1:], rate, dtype).view(-1, *shape)


class _Mask(torch.autograd.Function):
    """`keep_mask` for one seed, or under torch.vmap for one seed a run."""

    @staticmethod
    def forward(seed: Tensor, shape: tuple[int, int, int], rate: float, dtype: torch.dtype) -> Tensor:
        return keep_mask(seed[None], shape, rate, dtype)[0]

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, seeds: Tensor, shape, rate, dtype) -> tuple[Tensor, int]:
        return keep_mask(seeds, shape, rate, dtype), 0


def dropout(x: Float[Tensor, "B T D"], rate: float, seed: Int[Tensor, ""]) -> Float[Tensor, "B T D"]:
    """x with elements set to zero with probability `rate`, the others divided by 1 - rate; the seed decides which."""
    return x * _Mask.apply(seed, tuple(x.shape), rate, x.dtype)


def _row(seed, i, k):
    """The 64 bits of a row, as whole numbers with a sign: the masks make shifts of numbers without one."""
    x = seed + ((i << 32) | k) * GOLDEN[0]
    x = (x ^ ((x >> 30) & (2**34 - 1))) * SPLITMIX64[0]
    x = (x ^ ((x >> 27) & (2**37 - 1))) * SPLITMIX64[1]
    return x ^ ((x >> 31) & (2**33 - 1))


def _draws_in(bits32):
    """The two draws of a word, in the arithmetic of 32 bits without a sign that is given."""

    def draws(place, row_low, row_high):
        x = bits32(bits32(bits32(place) * bits32(GOLDEN[1])) + row_low)
        x = bits32(bits32(x ^ bits32(x >> bits32(16))) * bits32(LOWBIAS32[0]))
        x = bits32(x ^ row_high)
        x = bits32(bits32(x ^ bits32(x >> bits32(15))) * bits32(LOWBIAS32[1]))
        x = bits32(x ^ bits32(x >> bits32(16)))
        return bits32(x & bits32(0xFFFF)), bits32(x >> bits32(16))

    return draws


_plain_draws = _draws_in(lambda x: x & 0xFFFFFFFF)
_compiled_draws, _compiled_row = inlined(_draws_in(np.uint32)), inlined(_row)


def plain_halves(seed: Tensor, i: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Lower and upper half [N, rows] of the bits of the rows 0, 1, .. of seed [N] and first index i [N]."""
    row = _row(seed[:, None], i[:, None], torch.arange(rows, device=seed.device))
    return row & 0xFFFFFFFF, (row >> 32) & 0xFFFFFFFF


def plain_mask(seed: Tensor, i: Tensor, rows: int, n: int, rate: float, dtype: torch.dtype) -> Tensor:
    """[N, rows, n] from seed [N] and the first index i [N] of its rows, which are 0, 1, .. by the second."""
    dropped, factor = law(rate)
    j, (low, high) = torch.arange(n, device=seed.device), plain_halves(seed, i, rows)
    lower, upper = _plain_draws(j // TILE * HALF + j % HALF, low[..., None], high[..., None])  # (N, rows, n)
    draw = torch.where(j % TILE < HALF, lower, upper)
    return (draw >= dropped).to(dtype) * factor


@inlined
def row_halves(seed, i, k):
    """Lower and upper half of a row's 64 bits."""
    row = _compiled_row(seed, i, k)
    return np.uint32(row), np.uint32(row >> 32)


@inlined
def stays(tile, j, halves, dropped):
    """Whether the elements j and HALF + j of a tile stay."""
    lower, upper = _compiled_draws(tile * HALF + j, halves[0], halves[1])
    return lower >= dropped, upper >= dropped


@inlined
def drop(x, tile, halves, dropped, factor):
    """Dropout of one tile [TILE] in place."""
    zero = x.dtype.type(0)
    for j in range(HALF):
        first, second = stays(tile, j, halves, dropped)
        a, b = factor * x[j], factor * x[HALF + j]
        x[j] = a if first else zero
        x[HALF + j] = b if second else zero


@compiled
def _masks(seeds, dropped, factor, out):
    """out [G, I, K, n]: the masks of G seeds."""
    G, I, K, n = out.shape  # noqa: E741
    x, dropped, factor = np.empty(TILE, out.dtype), np.uint32(dropped), out.dtype.type(factor)
    for g in range(G):
        for i in range(I):
            for k in range(K):
                halves = row_halves(seeds[g], i, k)
                for t in range(-(-n // TILE)):
                    x[:] = 1
                    drop(x, t, halves, dropped, factor)
                    for j in range(min(TILE, n - t * TILE)):
                        out[g, i, k, t * TILE + j] = x[j]
