"""Where the time of a training goes: attention pooled over its queries, the steps of a GRU, and dropout.

On a CPU they are compiled by numba (`attention`, `gru`, `tiles`), elsewhere PyTorch takes `plain`; both give the same
numbers but for rounding. The rows of a batch may belong to G runs, each with its own weights of the GRU and its own key
of dropout.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmer_core.kernels import attention, gru, plain, tiles


def dropout_law(rate: float) -> tuple[int, float]:
    """16 random bits below the first number drop an element; the second scales those that stay.

    The rate is rounded to a multiple of 2^-16, and the scale belongs to the rounded rate.
    """
    dropped = round(rate * 2**16)
    return dropped, 2**16 / (2**16 - dropped)


def keep_mask(keys: Tensor, shape: tuple[int, int, int], rate: float, dtype: torch.dtype) -> Tensor:
    """The factors of dropout [G, *shape]: 0 with probability `rate`, else 1 / (1 - rate); a function of keys [G]."""
    dropped, scale = dropout_law(rate)
    if _compiled(keys):
        mask = torch.empty(len(keys), *shape, dtype=dtype)
        tiles.keep(_array(keys), np.uint32(dropped), _number(scale, dtype), mask.numpy())
        return mask
    firsts = torch.arange(shape[0], device=keys.device).repeat(len(keys))
    mask = plain.keep(keys.repeat_interleave(shape[0]), firsts, *shape[1:], dropped, scale, dtype)
    return mask.view(len(keys), *shape)


def pooled(q: Tensor, k: Tensor, heads: int, n_query: Tensor, n_key: Tensor, keys: Tensor, rate: float):
    """abar [B, H, K] = mean over valid queries of dropout(softmax(q k^T)), and what its gradient needs again."""
    dropped, scale = dropout_law(rate)
    if not _compiled(q):
        return plain.attention(q, k, heads, n_query, n_key, keys, dropped, scale)
    abar, lse = q.new_empty(len(q), heads, k.shape[1]), q.new_empty(len(q), heads, q.shape[1])
    law = _array(keys), np.uint32(dropped), _number(scale, q.dtype)
    attention.attention(*map(_array, (q, k)), heads, *map(_array, (n_query, n_key)), *law, *map(_array, (abar, lse)))
    return abar, lse


def pooled_gradient(q, k, heads, n_query, n_key, keys, rate, lse, grad) -> tuple[Tensor, Tensor]:
    """dq, dk from grad = dL/dabar [B, H, K]."""
    dropped, scale = dropout_law(rate)
    if not _compiled(q):
        return plain.attention_gradient(q, k, heads, n_query, n_key, keys, dropped, scale, lse, grad)
    dq, dk = q.new_zeros(q.shape), k.new_zeros(k.shape)
    law = _array(keys), np.uint32(dropped), _number(scale, q.dtype)
    inputs = (*map(_array, (q, k)), heads, *map(_array, (n_query, n_key)), *law)
    attention.attention_gradient(*inputs, *map(_array, (lse, grad, dq, dk)))
    return dq, dk


def steps(a: Tensor, W: Tensor, b: Tensor, length: Tensor) -> tuple[Tensor, ...]:
    """States h [B, T, 2, u] of a GRU from a [B, T, 2, 3u], W [G, 2, 3u, u], b [G, 2, 3u]; and what is kept."""
    if not _compiled(a):
        return plain.steps(a, W, b, length)
    (B, T, S, _), u = a.shape, W.shape[3]
    h, before = a.new_empty(B, T, S, u), a.new_empty(S, B, T, u)
    cells = a.new_empty(S, B, T, -(-u // tiles.TILE), 4, tiles.TILE)
    gru.steps(*map(_array, (a, W, b, length, h, before, cells)))
    return h, before, cells


def steps_gradient(grad: Tensor, W: Tensor, length: Tensor, *kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """da, dW, db from grad = dL/dh [B, T, 2, u]."""
    if not _compiled(grad):
        return plain.steps_gradient(grad, W, length, *kept)
    before, cells = kept
    (S, B, T, u), G = before.shape, len(W)
    da, dc = grad.new_empty(B, T, S, 3 * u), grad.new_empty(S, B, T, 3 * u)
    gru.steps_gradient(*map(_array, (grad, W, length, before, cells, da, dc)))
    dc = dc.view(S, G, -1, 3 * u)
    dW = (before.view(S, G, -1, u).mT @ dc).mT  # (S, G, 3u, u); this order is 20% faster
    return da, dW.transpose(0, 1), dc.sum(2).transpose(0, 1)


def _compiled(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _array(x: Tensor) -> np.ndarray:
    return x.contiguous().numpy()


def _number(x: float, dtype: torch.dtype) -> np.floating:
    return np.float32(x) if dtype == torch.float32 else np.float64(x)
