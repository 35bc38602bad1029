"""Attention weights averaged over their queries, without the matrix queries x keys ever being stored.

    abar = mean over queries of A        A = M P        P = softmax(S)        S = q k^T

for each head, with the factors M of dropout. With g = dL/dabar and n valid queries, dL/dP_ij = M_ij g_j / n, so that by
the derivative of softmax, for query i and key j,

    dS_ij = P_ij (M_ij g_j - sum_l P_il M_il g_l) / n        dq = dS k        dk = dS^T q.

S, P and M are not kept: the gradient computes them again from q, k, the seed of dropout, and the logarithm of each
softmax's denominator (lse). Padded queries do not count in the mean, padded keys get no weight. q comes scaled.

Tested: gradients against finite differences with dropout replayed; the compiled form against the plain one for odd
sizes, lengths and several runs; large scores; strides; that nothing of the size queries x keys is kept. The plain form
was only run on the CPU yet.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmer_core.kernels.dropout import HALF, drop, law, plain_halves, plain_mask, row_halves, stays
from mmer_core.kernels.machinery import array, compiled, exp, inlined, on_cpu, on_gpu, side_by_side, valid_steps, within
from mmer_core.kernels.products import BLOCK, NARROW, ROWS, TILE, add_transposed_product, narrow_product, product, tile

AT_ONCE = 2**26  # numbers of a score matrix that may exist at one time in the plain form


class ColumnMean(torch.autograd.Function):
    """abar [B, H, K] and lse [B, H, Q]; the rows of B belong to as many runs as there are seeds."""

    @staticmethod
    def forward(
        q: Float[Tensor, "B Q d"],
        k: Float[Tensor, "B K d"],
        heads: int,
        n_query: Int[Tensor, " B"],
        n_key: Int[Tensor, " B"],
        seeds: Int[Tensor, " G"],
        rate: float,
    ) -> tuple[Float[Tensor, "B H K"], Float[Tensor, "B H Q"]]:
        if gpu := on_gpu(q, q.dtype):
            return gpu.mean_weights(q, k, heads, n_query, n_key, _halves(q, heads, seeds), *law(rate))
        if not on_cpu(q):
            return plain_mean_weights(q, k, heads, n_query, n_key, seeds, rate)
        within(n_query, q.shape[1], "queries")
        within(n_key, k.shape[1], "keys")
        abar, lse = q.new_empty(len(q), heads, k.shape[1]), q.new_empty(len(q), heads, q.shape[1])
        lengths = map(array, (n_query, n_key, seeds))
        _mean_weights(array(q), array(k), heads, *lengths, *law(rate), array(abar), array(lse))
        return abar, lse

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        q, k, ctx.heads, n_query, n_key, seeds, ctx.rate = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, n_query, n_key, seeds, output[1])

    @staticmethod
    def backward(ctx, grad: Float[Tensor, "B H K"] | None, _) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        q, k, n_query, n_key, seeds, lse = ctx.saved_tensors
        if gpu := on_gpu(q, q.dtype):
            halves = _halves(q, ctx.heads, seeds)
            inputs = q, k, ctx.heads, n_query, n_key, halves, *law(ctx.rate)
            dq, dk = gpu.mean_weights_gradient(*inputs, lse, grad)
        elif not on_cpu(q):
            dq, dk = plain_mean_weights_gradient(q, k, ctx.heads, n_query, n_key, seeds, ctx.rate, lse, grad)
        else:
            dq, dk = q.new_zeros(q.shape), k.new_zeros(k.shape)
            inputs = array(q), array(k), ctx.heads, *map(array, (n_query, n_key, seeds)), *law(ctx.rate)
            _mean_weights_gradient(*inputs, *map(array, (lse, grad, dq, dk)))
        return dq, dk, None, None, None, None, None

    @staticmethod
    def vmap(info, in_dims, q, k, heads, n_query, n_key, seeds, rate):
        dims = [in_dims[i] for i in (0, 1, 3, 4, 5)]
        q, k, n_query, n_key, seeds = side_by_side(info.batch_size, dims, q, k, n_query, n_key, seeds)
        abar, lse = ColumnMean.apply(q, k, heads, n_query, n_key, seeds, rate)
        return (abar.unflatten(0, (info.batch_size, -1)), lse), (0, None)


def _halves(q: Tensor, heads: int, seeds: Tensor) -> tuple[Tensor, ...]:
    """Lower and upper half [B, H, Q] of the bits from which the mask of each query is drawn."""
    first = torch.arange(len(q) // len(seeds) * heads, device=q.device)  # the same in each run
    halves = plain_halves(seeds.repeat_interleave(len(first)), first.repeat(len(seeds)), q.shape[1])
    return tuple(half.view(len(q), heads, -1) for half in halves)


def _blocks(q: Tensor, k: Tensor, heads: int, n_query: Tensor, n_key: Tensor, seeds: Tensor, rate: float):
    """Some utterances at a time: slice, their q and k by head, S, M, and 1/n for valid queries."""
    (B, Q, d), K = q.shape, k.shape[1]
    step, group = max(1, AT_ONCE // (heads * Q * K)), B // len(seeds)
    for start in range(0, B, step):
        some, rows = slice(start, start + step), torch.arange(start, min(start + step, B), device=q.device)
        q_h, k_h = (x[some].unflatten(2, (heads, d // heads)).transpose(1, 2) for x in (q, k))  # (b, H, Q or K, d/H)
        S = q_h @ k_h.mT  # (b, H, Q, K)
        S.masked_fill_(~valid_steps(n_key[some], K)[:, None, None], -torch.inf)
        M = torch.ones((), dtype=q.dtype, device=q.device)
        if rate:
            head = (rows[:, None] % group * heads + torch.arange(heads, device=q.device)).flatten()
            seed = seeds[rows // group].repeat_interleave(heads)
            M = plain_mask(seed, head, Q, K, rate, q.dtype).view_as(S)
        share = valid_steps(n_query[some], Q).to(q.dtype) / n_query[some, None]  # (b, Q)
        yield some, q_h, k_h, S, M, share[:, None]


def plain_mean_weights(q, k, heads, n_query, n_key, seeds, rate) -> tuple[Tensor, Tensor]:
    abar, lse = q.new_empty(len(q), heads, k.shape[1]), q.new_empty(len(q), heads, q.shape[1])
    for some, _, _, S, M, share in _blocks(q, k, heads, n_query, n_key, seeds, rate):
        lse[some] = S.logsumexp(3)
        A = (S - lse[some, :, :, None]).exp_() * M
        abar[some] = (share[:, :, None] @ A).squeeze(2)
    return abar, lse


def plain_mean_weights_gradient(q, k, heads, n_query, n_key, seeds, rate, lse, grad) -> tuple[Tensor, Tensor]:
    dq, dk = torch.empty_like(q), torch.empty_like(k)
    for some, q_h, k_h, S, M, share in _blocks(q, k, heads, n_query, n_key, seeds, rate):
        P = S.sub_(lse[some, :, :, None]).exp_()
        PMg = P * (M * grad[some, :, None])
        dS = PMg.sub_(P.mul_(PMg.sum(3, keepdim=True))).mul_(share[..., None])
        dq[some] = (dS @ k_h).transpose(1, 2).flatten(2)
        dk[some] = (dS.mT @ q_h).transpose(1, 2).flatten(2)
    return dq, dk


# ------------------------------------------------------------------------------------------------------ compiled
#
# One head of one utterance at a time, ROWS queries at a time against all keys. What is needed lies in buffers that stay
# in the cache; they are flat, shapes say how numbers lie. e: width of a head. Besides those described below:
#
#     scores    [tiles, ROWS, TILE]  S of these queries, then P, or dS; a tile holds TILE keys
#     weighted  [tiles, TILE]        P M g of one query
#     total, g  [tiles, TILE]        the sum of A over queries; dL/dabar / n


@inlined
def _query_rows(x, first, n, at, e, out):
    """out [ROWS, e] = the head that starts at column `at`, rows first .. of x [Q, d]; rows beyond n are zero."""
    for r in range(ROWS):
        for c in range(e):
            out[r * e + c] = x[first + r, at + c] if first + r < n else 0


@inlined
def _keys_in_tiles(x, n, at, e, out):
    """out [tiles, e, TILE] = the head that starts at column `at`, rows 0 .. n of x [K, d]; else zero."""
    out[:] = 0
    for k in range(n):
        row = x[k, at : at + e]
        for c in range(e):
            out[(k // TILE * e + c) * TILE + k % TILE] = row[c]


@inlined
def _keys_in_rows(x, n, at, e, blocks, out):
    """out [.., blocks, NARROW] = the same head, row by row; else zero."""
    out[:] = 0
    for k in range(n):
        row = x[k, at : at + e]
        for c in range(e):
            out[k * blocks * NARROW + c] = row[c]


@inlined
def _hide(scores, r, n):
    """Scores of -inf in row r where its last tile has no key; returns that tile."""
    t = -(-n // TILE) - 1
    last = tile(scores, t * ROWS + r)
    for j in range(n - t * TILE, TILE):
        last[j] = -np.inf
    return last


@inlined
def _softmax(scores, r, n, top):
    """exp(S - max) of row r in place, n keys; returns maximum and sum. top [TILE]: scratch."""
    tiles = -(-n // TILE)
    top[:] = _hide(scores, r, n)
    for t in range(tiles - 1):
        x = tile(scores, t * ROWS + r)
        for j in range(TILE):
            top[j] = x[j] if x[j] > top[j] else top[j]
    for width in (HALF, HALF // 2, HALF // 4, HALF // 8):
        for j in range(width):
            top[j] = top[width + j] if top[width + j] > top[j] else top[j]
    most = top[0]
    for j in range(HALF // 8):
        most = top[j] if top[j] > most else most
    total = scores.dtype.type(0)
    for t in range(tiles):
        x = tile(scores, t * ROWS + r)
        for j in range(TILE):
            v = exp(x[j] - most)
            x[j] = v
            total += v
    return most, total


@inlined
def _add_weights(scores, r, tiles, halves, dropped, share, total):
    """total += share M exp(S - max) of row r; share: factor of dropout / (denominator x valid queries)."""
    for t in range(tiles):
        a, o = tile(scores, t * ROWS + r), tile(total, t)
        if dropped:
            drop(a, t, halves, dropped, share)
            for j in range(TILE):
                o[j] += a[j]
        else:
            for j in range(TILE):
                o[j] += share * a[j]


@compiled
def _mean_weights(q, k, heads, n_query, n_key, seeds, dropped, factor, abar, lse):
    B, e = q.shape[0], q.shape[2] // heads
    most_tiles, group, kind = -(-k.shape[1] // TILE), B // len(seeds), q.dtype
    keys, scores = np.empty(most_tiles * e * TILE, kind), np.empty(most_tiles * BLOCK, kind)
    queries, top, total = np.empty(ROWS * e, kind), np.empty(TILE, kind), np.empty(most_tiles * TILE, kind)
    dropped, factor = np.uint32(dropped), kind.type(factor)
    for b in range(B):
        n, tiles = n_key[b], -(-n_key[b] // TILE)
        for h in range(heads):
            _keys_in_tiles(k[b], n, h * e, e, keys)
            total[:] = 0
            for first in range(0, n_query[b], ROWS):
                _query_rows(q[b], first, n_query[b], h * e, e, queries)
                product(queries, e, keys, tiles, scores)
                for r in range(min(ROWS, n_query[b] - first)):
                    most, norm = _softmax(scores, r, n, top)
                    lse[b, h, first + r] = most + math.log(norm)
                    halves = row_halves(seeds[b // group], b % group * heads + h, first + r)
                    share = q.dtype.type(factor / (norm * n_query[b]))
                    _add_weights(scores, r, tiles, halves, dropped, share, total)
            abar[b, h, :n] = total[:n]
            abar[b, h, n:] = 0


@inlined
def _score_gradient(scores, weighted, g, r, n, tiles, lse, halves, dropped, factor):
    """Row r of scores from S to its gradient dS = P (M g - sum(P M g)), for P = exp(S - lse)."""
    inner = zero = scores.dtype.type(0)  # a plain 0 would make float64 of float32
    _hide(scores, r, n)
    for t in range(tiles):
        p, v, w = tile(scores, t * ROWS + r), tile(weighted, t), tile(g, t)
        for j in range(TILE):
            p[j] = exp(p[j] - lse)
        for j in range(HALF):
            first, second = stays(t, j, halves, dropped)
            a, b = factor * p[j] * w[j], factor * p[HALF + j] * w[HALF + j]
            a = a if first else zero
            b = b if second else zero
            v[j], v[HALF + j] = a, b
            inner += a + b
    for t in range(tiles):
        p, v = tile(scores, t * ROWS + r), tile(weighted, t)
        for j in range(TILE):
            p[j] = v[j] - p[j] * inner


@compiled
def _mean_weights_gradient(q, k, heads, n_query, n_key, seeds, dropped, factor, lse, grad, dq, dk):
    """dq and dk are zero before: each head of each utterance fills in its own part."""
    B, e = q.shape[0], q.shape[2] // heads
    most_tiles, group, kind, blocks = -(-k.shape[1] // TILE), B // len(seeds), q.dtype, -(-e // NARROW)
    keys, scores = np.empty(most_tiles * e * TILE, kind), np.empty(most_tiles * BLOCK, kind)
    keys_gradient, key_rows = np.empty_like(keys), np.empty((k.shape[1] + 3) * blocks * NARROW, kind)
    weighted, g = np.empty(most_tiles * TILE, kind), np.empty(most_tiles * TILE, kind)
    queries, query_gradient = np.empty(ROWS * e, kind), np.empty(blocks * ROWS * NARROW, kind)
    dropped, factor = np.uint32(dropped), kind.type(factor)
    for b in range(B):
        n, tiles = n_key[b], -(-n_key[b] // TILE)
        for h in range(heads):
            _keys_in_tiles(k[b], n, h * e, e, keys)
            _keys_in_rows(k[b], n, h * e, e, blocks, key_rows)
            keys_gradient[:] = 0
            g[:] = 0
            for j in range(n):
                g[j] = grad[b, h, j] / n_query[b]
            for first in range(0, n_query[b], ROWS):
                rows = min(ROWS, n_query[b] - first)
                _query_rows(q[b], first, n_query[b], h * e, e, queries)
                product(queries, e, keys, tiles, scores)
                for r in range(rows):  # rows beyond the last keep their scores of 0, and so a gradient of 0
                    halves = row_halves(seeds[b // group], b % group * heads + h, first + r)
                    _score_gradient(scores, weighted, g, r, n, tiles, lse[b, h, first + r], halves, dropped, factor)
                add_transposed_product(queries, e, scores, tiles, keys_gradient)  # dk += dS^T q
                narrow_product(scores, n, key_rows, blocks, query_gradient)  # dq = dS k
                for r in range(rows):
                    for c in range(e):
                        dq[b, first + r, h * e + c] = query_gradient[(c // NARROW * ROWS + r) * NARROW + c % NARROW]
            for j in range(n):
                for c in range(e):
                    dk[b, j, h * e + c] = keys_gradient[(j // TILE * e + c) * TILE + j % TILE]
