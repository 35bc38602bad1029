"""Pooled attention on a CPU; `plain` says the same in PyTorch. The matrix queries x keys is never stored."""

from __future__ import annotations

import math

import numpy as np

from mmer_core.kernels.tiles import (
    HALF,
    LANE,
    LANES,
    ROWS,
    TILE,
    compiled,
    drop,
    exp,
    inlined,
    narrow_product,
    outer,
    product,
    random_word,
    row_bits,
)


@inlined
def _rows(x, b, i, n, h, e, out):
    """out [ROWS, e] = head h of rows i .. of x [B, n, d]; rows beyond n are zero."""
    for r in range(ROWS):
        for c in range(e):
            out[r * e + c] = x[b, i + r, h * e + c] if i + r < n else 0


@inlined
def _columns(x, b, n, h, e, out):
    """out [tiles, e, TILE] = head h of rows 0 .. n of x [B, K, d]; the rest of the last tile is zero."""
    out[:] = 0
    for k in range(n):
        row = x[b, k, h * e : (h + 1) * e]
        for c in range(e):
            out[(k // TILE * e + c) * TILE + k % TILE] = row[c]


@inlined
def _padded(x, b, n, h, e, blocks, out):
    """out [.., blocks, LANE] = head h of rows 0 .. n of x [B, K, d], each followed by zeros; and rows of zeros."""
    out[:] = 0
    for k in range(n):
        row = x[b, k, h * e : (h + 1) * e]
        for c in range(e):
            out[k * blocks * LANE + c] = row[c]


@inlined
def _hide(s, r, n):
    """Scores of -inf in row r of s [tiles, ROWS, TILE] where its last tile has no key; returns that tile."""
    first = (-(-n // TILE) - 1) * TILE
    last = s[first * ROWS + r * TILE : first * ROWS + (r + 1) * TILE]
    for j in range(n - first, TILE):
        last[j] = -np.inf
    return last


@inlined
def _softmax(s, r, n, top):
    """exp(s - max) of row r of s [tiles, ROWS, TILE] in place, n keys; returns maximum and sum. top: scratch."""
    tiles = -(-n // TILE)
    top[:] = _hide(s, r, n)
    for t in range(tiles - 1):
        x = s[(t * ROWS + r) * TILE : (t * ROWS + r + 1) * TILE]
        for j in range(TILE):
            top[j] = x[j] if x[j] > top[j] else top[j]
    for width in (HALF, HALF // 2, HALF // 4, HALF // 8):
        for j in range(width):
            top[j] = top[width + j] if top[width + j] > top[j] else top[j]
    most = top[0]
    for j in range(HALF // 8):
        most = top[j] if top[j] > most else most
    total = s.dtype.type(0)
    for t in range(tiles):
        x = s[(t * ROWS + r) * TILE : (t * ROWS + r + 1) * TILE]
        for j in range(TILE):
            v = exp(x[j] - most)
            x[j] = v
            total += v
    return most, total


@compiled
def attention(q, k, heads, n_query, n_key, keys, dropped, scale, abar, lse):
    """abar [B, H, K] = mean over queries of dropout(softmax(q k^T)), and lse [B, H, Q] = log of the sum of exp(q k^T).

    q [B, Q, d] (scaled), k [B, K, d]; n_query, n_key [B]: valid steps; keys [G]: the rows of B belong to G runs.
    """
    B, e = q.shape[0], q.shape[2] // heads
    all_tiles, group = -(-k.shape[1] // TILE), B // len(keys)
    y, s = np.empty(all_tiles * e * TILE, q.dtype), np.empty(all_tiles * LANES, q.dtype)
    x, top, total = np.empty(ROWS * e, q.dtype), np.empty(TILE, q.dtype), np.empty(all_tiles * TILE, q.dtype)
    for b in range(B):
        n, tiles = n_key[b], -(-n_key[b] // TILE)
        for h in range(heads):
            _columns(k, b, n, h, e, y)
            total[:] = 0
            for i in range(0, n_query[b], ROWS):
                _rows(q, b, i, n_query[b], h, e, x)
                product(x, e, y, tiles, s)
                for r in range(min(ROWS, n_query[b] - i)):
                    most, norm = _softmax(s, r, n, top)
                    lse[b, h, i + r] = most + math.log(norm)
                    share = q.dtype.type(scale / (norm * n_query[b]))
                    bits = row_bits(keys[b // group], b % group * heads + h, i + r)
                    low, high = np.uint32(bits), np.uint32(bits >> np.uint64(32))
                    for t in range(tiles):
                        a, o = s[(t * ROWS + r) * TILE : (t * ROWS + r + 1) * TILE], total[t * TILE : (t + 1) * TILE]
                        if dropped:
                            drop(a, t * HALF, low, high, dropped, share)
                            for j in range(TILE):
                                o[j] += a[j]
                        else:
                            for j in range(TILE):
                                o[j] += share * a[j]
            abar[b, h, :n] = total[:n]
            abar[b, h, n:] = 0


@inlined
def _score_gradient(s, u, g, r, n, tiles, lse, low, high, dropped, scale):
    """Row r of s from scores to their gradient: dS = P (M g - sum(P M g)), for P = exp(s - lse) and factors M."""
    inner = zero = s.dtype.type(0)  # a plain 0 would make float64 of float32
    _hide(s, r, n)
    for t in range(tiles):
        p, v = s[(t * ROWS + r) * TILE : (t * ROWS + r + 1) * TILE], u[t * TILE : (t + 1) * TILE]
        w = g[t * TILE : (t + 1) * TILE]
        for j in range(TILE):
            p[j] = exp(p[j] - lse)  # P
        for j in range(HALF):  # P M g, with the bits of dropout as in `drop`
            word = random_word(t * HALF + j, low, high)
            a, b = scale * p[j] * w[j], scale * p[HALF + j] * w[HALF + j]
            a = a if np.uint32(word & np.uint32(0xFFFF)) >= dropped else zero
            b = b if np.uint32(word >> np.uint32(16)) >= dropped else zero
            v[j], v[HALF + j] = a, b
            inner += a + b
    for t in range(tiles):
        p, v = s[(t * ROWS + r) * TILE : (t * ROWS + r + 1) * TILE], u[t * TILE : (t + 1) * TILE]
        for j in range(TILE):
            p[j] = v[j] - p[j] * inner


@compiled
def attention_gradient(q, k, heads, n_query, n_key, keys, dropped, scale, lse, grad, dq, dk):
    """dq, dk (zero before) from grad = dL/dabar; scores and dropout are computed again, row by row."""
    B, e = q.shape[0], q.shape[2] // heads
    all_tiles, group = -(-k.shape[1] // TILE), B // len(keys)
    y, s = np.empty(all_tiles * e * TILE, q.dtype), np.empty(all_tiles * LANES, q.dtype)
    dy, u, g = np.empty_like(y), np.empty(all_tiles * TILE, q.dtype), np.empty(all_tiles * TILE, q.dtype)
    blocks = -(-e // LANE)
    x, dx = np.empty(ROWS * e, q.dtype), np.empty(ROWS * blocks * LANE, q.dtype)
    z = np.empty((k.shape[1] + 3) * blocks * LANE, q.dtype)
    for b in range(B):
        n, tiles = n_key[b], -(-n_key[b] // TILE)
        for h in range(heads):
            _columns(k, b, n, h, e, y)
            _padded(k, b, n, h, e, blocks, z)
            dy[:] = 0
            g[:] = 0
            for j in range(n):
                g[j] = grad[b, h, j] / n_query[b]  # d(mean over queries)
            for i in range(0, n_query[b], ROWS):
                rows = min(ROWS, n_query[b] - i)
                _rows(q, b, i, n_query[b], h, e, x)
                product(x, e, y, tiles, s)
                for r in range(rows):  # rows beyond the last keep their scores of 0, and so a gradient of 0
                    bits = row_bits(keys[b // group], b % group * heads + h, i + r)
                    low, high = np.uint32(bits), np.uint32(bits >> np.uint64(32))
                    _score_gradient(s, u, g, r, n, tiles, lse[b, h, i + r], low, high, dropped, scale)
                outer(x, e, s, tiles, dy)  # dk += dS^T q
                narrow_product(s, n, z, blocks, dx)  # dq = dS k
                for r in range(rows):
                    for c in range(e):
                        dq[b, i + r, h * e + c] = dx[(c // LANE * ROWS + r) * LANE + c % LANE]
            for j in range(n):
                for c in range(e):
                    dk[b, j, h * e + c] = dy[(j // TILE * e + c) * TILE + j % TILE]
