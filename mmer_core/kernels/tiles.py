"""What the compiled kernels are made of: exp, dropout, and two products of matrices (numba, for one CPU thread).

Rows are worked on ROWS at a time, and along a row in tiles of TILE numbers: then every inner loop has a constant
length and constant distances, and the compiler turns it into full vectors. A tile of weights or scores is used while
it lies in the cache, and nothing of the size queries x keys is ever stored.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import numpy as np
from numba import config, njit, types
from numba.extending import overload

TILE, ROWS = 64, 4
LANE, HALF, LANES = 16, TILE // 2, ROWS * TILE

# numba's cache sees a change of a function's own file, but not of another that it calls from: one folder a state of all
# of the package's own, or of the user where that cannot be written
_STATE = hashlib.blake2b(b"".join(f.read_bytes() for f in sorted(Path(__file__).parent.glob("*.py"))), digest_size=6)
_OWN = Path(__file__).parent / "__pycache__"
_PLACE = config.CACHE_DIR or (_OWN if os.access(_OWN.parent, os.W_OK) else Path.home() / ".cache" / "mmer")
_CACHE = str(Path(_PLACE) / f"kernels-{_STATE.hexdigest()}")


# sums may be taken in any order, so that loops become vectors; NaN and infinity keep their sense
_OPTIONS = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}

# Becomes part of the kernel that calls it. Were it called, the process that compiles and those that load the compiled
# kernel from the cache might run copies of it that were optimised differently, and differ in the last bit.
inlined = njit(**_OPTIONS, forceinline=True)


def compiled(function):
    """A kernel, compiled when it is first called, and kept for later processes."""
    before, config.CACHE_DIR = config.CACHE_DIR, _CACHE
    try:
        return njit(**_OPTIONS, cache=True, nogil=True)(function)
    finally:
        config.CACHE_DIR = before


def exp(x):
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


@inlined
def row_bits(key, first, second):
    """64 bits for one row of random numbers: splitmix64 of the key and the two indices of the row."""
    x = np.uint64(key) + ((np.uint64(first) << np.uint64(32)) | np.uint64(second)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inlined
def random_word(j, low, high):
    """32 random bits, the j-th of a row: two rounds of multiply and shift, each with half of the row's bits."""
    x = np.uint32(np.uint32(np.uint32(j) * np.uint32(0x9E3779B9)) + low)
    x = np.uint32(np.uint32(x ^ np.uint32(x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ high)
    x = np.uint32(np.uint32(x ^ np.uint32(x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@inlined
def drop(x, first, low, high, dropped, scale):
    """Dropout of one tile in place: element j takes the lower 16 bits of word j, element HALF + j the upper."""
    zero = x.dtype.type(0)
    for j in range(HALF):
        word = random_word(first + j, low, high)
        a, b = scale * x[j], scale * x[HALF + j]
        x[j] = a if np.uint32(word & np.uint32(0xFFFF)) >= dropped else zero
        x[HALF + j] = b if np.uint32(word >> np.uint32(16)) >= dropped else zero


@compiled
def keep(keys, dropped, scale, out):
    """out [G, first, second, n]: 0 where dropped, else `scale`."""
    n = out.shape[3]
    x = np.empty(TILE, out.dtype)
    for g in range(out.shape[0]):
        for i in range(out.shape[1]):
            for k in range(out.shape[2]):
                bits = row_bits(keys[g], i, k)
                low, high = np.uint32(bits), np.uint32(bits >> np.uint64(32))
                for t in range(-(-n // TILE)):
                    x[:] = 1
                    drop(x, t * HALF, low, high, dropped, scale)
                    for j in range(min(TILE, n - t * TILE)):
                        out[g, i, k, t * TILE + j] = x[j]


@inlined
def _four(x, at, step):
    return x[at], x[at + step], x[at + 2 * step], x[at + 3 * step]


@inlined
def _add(a, b, c, d, p, o):
    """o [4, TILE] += the matrix of the rows a, b, c, d times p [4, TILE]."""
    (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3) = a, b, c, d
    for j in range(TILE):
        p0, p1, p2, p3 = p[j], p[TILE + j], p[2 * TILE + j], p[3 * TILE + j]
        o[j] += a0 * p0 + a1 * p1 + a2 * p2 + a3 * p3
        o[TILE + j] += b0 * p0 + b1 * p1 + b2 * p2 + b3 * p3
        o[2 * TILE + j] += c0 * p0 + c1 * p1 + c2 * p2 + c3 * p3
        o[3 * TILE + j] += d0 * p0 + d1 * p1 + d2 * p2 + d3 * p3


@inlined
def product(x, e, y, tiles, out):
    """out [tiles, ROWS, TILE] = x [ROWS, e] times y [tiles, e, TILE]; four terms of the sum at a time.

    Here and below the shapes say how the numbers lie; the arrays themselves are flat.
    """
    for t in range(tiles):
        o = out[t * LANES : (t + 1) * LANES]
        o[:] = 0
        for c in range(0, e - 3, 4):
            p = y[(t * e + c) * TILE : (t * e + c + 4) * TILE]
            _add(_four(x, c, 1), _four(x, e + c, 1), _four(x, 2 * e + c, 1), _four(x, 3 * e + c, 1), p, o)
        for c in range(e - e % 4, e):
            p = y[(t * e + c) * TILE : (t * e + c + 1) * TILE]
            for r in range(ROWS):
                w = x[r * e + c]
                for j in range(TILE):
                    o[r * TILE + j] += w * p[j]


@inlined
def outer(x, e, s, tiles, out):
    """out [tiles, e, TILE] += the transpose of x [ROWS, e] times s [tiles, ROWS, TILE]."""
    for t in range(tiles):
        p = s[t * LANES : (t + 1) * LANES]
        for c in range(0, e - 3, 4):
            o = out[(t * e + c) * TILE : (t * e + c + 4) * TILE]
            _add(_four(x, c, e), _four(x, c + 1, e), _four(x, c + 2, e), _four(x, c + 3, e), p, o)
        for c in range(e - e % 4, e):
            o = out[(t * e + c) * TILE : (t * e + c + 1) * TILE]
            a, b, c_, d = _four(x, c, e)
            for j in range(TILE):
                o[j] += a * p[j] + b * p[TILE + j] + c_ * p[2 * TILE + j] + d * p[3 * TILE + j]


@inlined
def narrow_product(s, n, y, blocks, out):
    """out [ROWS, blocks, LANE] = s [tiles, ROWS, TILE] times y [n, blocks, LANE]; four of the n keys at a time."""
    for w in range(blocks):
        o = out[w * ROWS * LANE : (w + 1) * ROWS * LANE]
        o[:] = 0
        for k in range(0, n, 4):
            t, j = k // TILE, k % TILE
            x = s[t * ROWS * TILE + j : (t + 1) * ROWS * TILE]
            (a0, a1, a2, a3), (b0, b1, b2, b3) = _four(x, 0, 1), _four(x, TILE, 1)
            (c0, c1, c2, c3), (d0, d1, d2, d3) = _four(x, 2 * TILE, 1), _four(x, 3 * TILE, 1)
            p, q = y[(k * blocks + w) * LANE :], blocks * LANE
            p0, p1, p2, p3 = p[:LANE], p[q : q + LANE], p[2 * q : 2 * q + LANE], p[3 * q : 3 * q + LANE]
            for j in range(LANE):
                o[j] += a0 * p0[j] + a1 * p1[j] + a2 * p2[j] + a3 * p3[j]
                o[LANE + j] += b0 * p0[j] + b1 * p1[j] + b2 * p2[j] + b3 * p3[j]
                o[2 * LANE + j] += c0 * p0[j] + c1 * p1[j] + c2 * p2[j] + c3 * p3[j]
                o[3 * LANE + j] += d0 * p0[j] + d1 * p1[j] + d2 * p2[j] + d3 * p3[j]
