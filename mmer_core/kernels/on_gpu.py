"""The GRU's steps, the averaged attention weights and the masks of dropout for NVIDIA GPUs, in Triton.

The maths and the buffers are those of `gru`, `attention` and `dropout`, which call this where a tensor lies on such a
device. Sizes are padded to powers of two: U >= u units, E >= e numbers of a head. A product of float32 is made of three
products on tensor cores (TF32x3), which keep 21 of the 24 bits of each factor; sums are float32. A program works on

    steps        one direction of one run and ROWS utterances: state and weights stay on the chip through all steps
    lse, dq      one head of one utterance and QUERIES queries, against all keys
    abar, dk     one head of one utterance and KEYS keys, against all queries: no two programs add to one number, so
                 that the same inputs give the same bits

Tested: against the plain forms in float64 by Triton's interpreter on the CPU, alone and in a stack; compiled for sm_80
and sm_90 without spills. Not run on a GPU yet (tests/test_gpu.py does it where there is one).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, QUERIES, KEYS = 16, 64, 64
PRECISION = "tf32x3"


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _steps(a, W, b, length, h, before, cells, B, group, T, u, M: tl.constexpr, U: tl.constexpr, P: tl.constexpr):
    run, s = tl.program_id(0) // 2, tl.program_id(0) % 2
    r, i, j = tl.program_id(1) * M + tl.arange(0, M), tl.arange(0, U), tl.arange(0, U)
    row = (run * group + r).to(tl.int64)
    n = tl.load(length + row, r < group, 0)[:, None]
    square, here = (i[None, :] < u) & (j[:, None] < u), (r[:, None] < group) & (i[None, :] < u)
    gate = W + (run * 2 + s) * 3 * u * u + i[None, :] * u + j[:, None]  # (j, i): the transpose of each gate's weights
    W_r, W_z, W_n = tl.load(gate, square, 0), tl.load(gate + u * u, square, 0), tl.load(gate + 2 * u * u, square, 0)
    bias = b + (run * 2 + s) * 3 * u + i
    b_r, b_z, b_n = tl.load(bias, i < u, 0), tl.load(bias + u, i < u, 0), tl.load(bias + 2 * u, i < u, 0)
    state = tl.zeros((M, U), tl.float32)
    for step in range(T):
        t = step + s * (T - 1 - 2 * step)
        x = a + ((row[:, None] * T + t) * 2 + s) * 3 * u + i[None, :]
        a_r, a_z, a_n = tl.load(x, here, 0), tl.load(x + u, here, 0), tl.load(x + 2 * u, here, 0)
        reset = _sigmoid(a_r + b_r + tl.dot(state, W_r, input_precision=P))
        update = _sigmoid(a_z + b_z + tl.dot(state, W_z, input_precision=P))
        c_n = b_n + tl.dot(state, W_n, input_precision=P)
        new = 2 * _sigmoid(2 * (a_n + reset * c_n)) - 1  # tanh
        at = (s * B + row[:, None]) * T + t
        tl.store(before + at * u + i[None, :], state, here)
        cell = cells + at * 4 * u + i[None, :]
        tl.store(cell, reset, here)
        tl.store(cell + u, update, here)
        tl.store(cell + 2 * u, new, here)
        tl.store(cell + 3 * u, c_n, here)
        state = tl.where(t < n, new + update * (state - new), 0.0)
        tl.store(h + ((row[:, None] * T + t) * 2 + s) * u + i[None, :], state, here)


@triton.jit
def _steps_gradient(
    grad, W, length, before, cells, da, dc, B, group, T, u, M: tl.constexpr, U: tl.constexpr, P: tl.constexpr
):
    run, s = tl.program_id(0) // 2, tl.program_id(0) % 2
    r, i, j = tl.program_id(1) * M + tl.arange(0, M), tl.arange(0, U), tl.arange(0, U)
    row = (run * group + r).to(tl.int64)
    n = tl.load(length + row, r < group, 0)[:, None]
    square, here = (i[None, :] < u) & (j[:, None] < u), (r[:, None] < group) & (i[None, :] < u)
    gate = W + (run * 2 + s) * 3 * u * u + j[:, None] * u + i[None, :]
    W_r, W_z, W_n = tl.load(gate, square, 0), tl.load(gate + u * u, square, 0), tl.load(gate + 2 * u * u, square, 0)
    later = tl.zeros((M, U), tl.float32)  # what step t + 1 hands back to h_t
    for step in range(T):
        t = T - 1 - step - s * (T - 1 - 2 * step)
        at, out = (s * B + row[:, None]) * T + t, (row[:, None] * T + t) * 2 + s
        cell = cells + at * 4 * u + i[None, :]
        reset, update = tl.load(cell, here, 0), tl.load(cell + u, here, 0)
        new, c_n = tl.load(cell + 2 * u, here, 0), tl.load(cell + 3 * u, here, 0)
        start = tl.load(before + at * u + i[None, :], here, 0)
        dh = tl.where(t < n, tl.load(grad + out * u + i[None, :], here, 0) + later, 0.0)
        dn = dh * (1 - update) * (1 - new * new)
        dz = dh * (start - new) * update * (1 - update)
        dr = dn * c_n * reset * (1 - reset)
        to_a, to_c = da + out * 3 * u + i[None, :], dc + at * 3 * u + i[None, :]
        tl.store(to_a, dr, here)
        tl.store(to_a + u, dz, here)
        tl.store(to_a + 2 * u, dn, here)
        tl.store(to_c, dr, here)
        tl.store(to_c + u, dz, here)
        tl.store(to_c + 2 * u, dn * reset, here)
        later = dh * update
        later += tl.dot(dr, W_r, input_precision=P)
        later += tl.dot(dz, W_z, input_precision=P)
        later += tl.dot(dn * reset, W_n, input_precision=P)


def _sizes(x: Tensor, W: Tensor) -> tuple[tuple[int, int], dict]:
    """One program for each direction of a run and ROWS of its utterances; and the sizes that are compiled in."""
    group = len(x) // len(W)
    grid = 2 * len(W), triton.cdiv(group, ROWS)
    return grid, dict(M=ROWS, U=max(16, triton.next_power_of_2(W.shape[3])), P=PRECISION, num_warps=8)


def steps(a: Tensor, W: Tensor, b: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """h [B, T, 2, u], before [2, B, T, u] and cells [2, B, T, 4, u], for the gradient."""
    (B, T, S, _), u = a.shape, W.shape[3]
    h, before, cells = a.new_empty(B, T, S, u), a.new_empty(S, B, T, u), a.new_empty(S, B, T, 4, u)
    grid, sizes = _sizes(a, W)
    given = (x.contiguous() for x in (a, W, b, length))
    _steps[grid](*given, h, before, cells, B, B // len(W), T, u, **sizes)
    return h, before, cells


def steps_gradient(grad: Tensor, W: Tensor, length: Tensor, before: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """da [B, T, 2, 3u] and dc [2, B, T, 3u]."""
    S, B, T, u = before.shape
    da, dc = grad.new_empty(B, T, S, 3 * u), grad.new_empty(S, B, T, 3 * u)
    grid, sizes = _sizes(grad, W)
    given = (x.contiguous() for x in (grad, W, length, before, cells))
    _steps_gradient[grid](*given, da, dc, B, B // len(W), T, u, **sizes)
    return da, dc


# ----------------------------------------------------------------------------------------------------- attention
#
# dropout: the halves of the 64 bits of each row, low and high, as `dropout._row` makes them, one for each query


@triton.jit
def _stays(low, high, j, dropped):
    """Whether the elements j of rows stay, from the halves of the rows' bits."""
    x = (((j // 64) * 32 + j % 32).to(tl.uint32) * 0x9E3779B9).to(tl.uint32) + low
    x = ((x ^ (x >> 16)) * 0x7FEB352D).to(tl.uint32) ^ high
    x = ((x ^ (x >> 15)) * 0x846CA68B).to(tl.uint32)
    x = x ^ (x >> 16)
    return tl.where(j % 64 < 32, x & 0xFFFF, x >> 16) >= dropped


@triton.jit
def _head(x, i, n, e, d, E: tl.constexpr):
    """Rows i of one head [.., E]; rows from n on are zero."""
    c = tl.arange(0, E)[None, :]
    return tl.load(x + i[:, None] * d + c, (i[:, None] < n) & (c < e), 0)


@triton.jit
def _weights(q, k, lse, low, high, i, j, n_q, n_k, dropped: tl.constexpr, P: tl.constexpr):
    """P and P M / factor of the queries i and the keys j; zero where one is padding."""
    valid = (i[:, None] < n_q) & (j[None, :] < n_k)
    S = tl.dot(q, tl.trans(k), input_precision=P)
    p = tl.where(valid, tl.exp(S - tl.load(lse + i, i < n_q, 0)[:, None]), 0.0)
    kept = p
    if dropped > 0:
        row_low, row_high = tl.load(low + i, i < n_q, 0)[:, None], tl.load(high + i, i < n_q, 0)[:, None]
        kept = tl.where(_stays(row_low.to(tl.uint32), row_high.to(tl.uint32), j[None, :], dropped), p, 0.0)
    return p, kept


@triton.jit
def _lse(
    q, k, n_query, n_key, lse, Q, K, H, e, d, E: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, P: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64)
    b, first = at // H, at % H * e
    i = tl.program_id(1) * BQ + tl.arange(0, BQ)
    n_q, n_k = tl.minimum(tl.load(n_query + b), Q), tl.minimum(tl.load(n_key + b), K)
    mine = _head(q + b * Q * d + first, i, n_q, e, d, E)
    most = tl.full((BQ,), float("-inf"), tl.float32)
    total = tl.zeros((BQ,), tl.float32)
    for start in range(0, n_k, BK):
        j = start + tl.arange(0, BK)
        keys = _head(k + b * K * d + first, j, n_k, e, d, E)
        S = tl.dot(mine, tl.trans(keys), input_precision=P)
        S = tl.where(j[None, :] < n_k, S, float("-inf"))
        higher = tl.maximum(most, tl.max(S, 1))
        total = total * tl.exp(most - higher) + tl.sum(tl.exp(S - higher[:, None]), 1)
        most = higher
    tl.store(lse + at * Q + i, most + tl.log(total), i < Q)


@triton.jit
def _mean(
    q, k, n_query, n_key, lse, low, high, abar, Q, K, H, e, d,
    dropped: tl.constexpr, E: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64)
    b, first = at // H, at % H * e
    j = tl.program_id(1) * BK + tl.arange(0, BK)
    n_q, n_k = tl.minimum(tl.load(n_query + b), Q), tl.minimum(tl.load(n_key + b), K)
    keys = _head(k + b * K * d + first, j, n_k, e, d, E)
    total = tl.zeros((BK,), tl.float32)
    for start in range(0, n_q, BQ):
        i = start + tl.arange(0, BQ)
        mine = _head(q + b * Q * d + first, i, n_q, e, d, E)
        rows = at * Q
        _, kept = _weights(mine, keys, lse + rows, low + rows, high + rows, i, j, n_q, n_k, dropped, P)
        total += tl.sum(kept, 0)
    tl.store(abar + at * K + j, total / n_q, j < K)


@triton.jit
def _queries_gradient(
    q, k, n_query, n_key, lse, low, high, grad, inner, dq, Q, K, H, e, d,
    dropped: tl.constexpr, E: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64)
    b, first, rows = at // H, at % H * e, at * Q
    i = tl.program_id(1) * BQ + tl.arange(0, BQ)
    n_q, n_k = tl.minimum(tl.load(n_query + b), Q), tl.minimum(tl.load(n_key + b), K)
    mine = _head(q + b * Q * d + first, i, n_q, e, d, E)
    sum_j = tl.zeros((BQ,), tl.float32)  # sum over keys of P M g
    for start in range(0, n_k, BK):
        j = start + tl.arange(0, BK)
        keys = _head(k + b * K * d + first, j, n_k, e, d, E)
        _, kept = _weights(mine, keys, lse + rows, low + rows, high + rows, i, j, n_q, n_k, dropped, P)
        sum_j += tl.sum(kept * tl.load(grad + at * K + j, j < n_k, 0)[None, :], 1)
    tl.store(inner + rows + i, sum_j, i < Q)
    total = tl.zeros((BQ, E), tl.float32)
    for start in range(0, n_k, BK):
        j = start + tl.arange(0, BK)
        keys = _head(k + b * K * d + first, j, n_k, e, d, E)
        p, kept = _weights(mine, keys, lse + rows, low + rows, high + rows, i, j, n_q, n_k, dropped, P)
        g = tl.load(grad + at * K + j, j < n_k, 0)[None, :]
        dS = kept * g - p * sum_j[:, None]
        total += tl.dot(dS, keys, input_precision=P)
    c = tl.arange(0, E)[None, :]
    tl.store(dq + b * Q * d + first + i[:, None] * d + c, total / n_q, (i[:, None] < Q) & (c < e))


@triton.jit
def _keys_gradient(
    q, k, n_query, n_key, lse, low, high, grad, inner, dk, Q, K, H, e, d,
    dropped: tl.constexpr, E: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64)
    b, first, rows = at // H, at % H * e, at * Q
    j = tl.program_id(1) * BK + tl.arange(0, BK)
    n_q, n_k = tl.minimum(tl.load(n_query + b), Q), tl.minimum(tl.load(n_key + b), K)
    keys = _head(k + b * K * d + first, j, n_k, e, d, E)
    g = tl.load(grad + at * K + j, j < n_k, 0)[None, :]
    total = tl.zeros((BK, E), tl.float32)
    for start in range(0, n_q, BQ):
        i = start + tl.arange(0, BQ)
        mine = _head(q + b * Q * d + first, i, n_q, e, d, E)
        p, kept = _weights(mine, keys, lse + rows, low + rows, high + rows, i, j, n_q, n_k, dropped, P)
        dS = kept * g - p * tl.load(inner + rows + i, i < n_q, 0)[:, None]
        total += tl.dot(tl.trans(dS), mine, input_precision=P)
    c = tl.arange(0, E)[None, :]
    tl.store(dk + b * K * d + first + j[:, None] * d + c, total / n_q, (j[:, None] < K) & (c < e))


def _shape(q: Tensor, k: Tensor, heads: int) -> tuple[tuple[int, ...], dict]:
    """Q, K, H, e, d, and the sizes that are compiled in."""
    (_, Q, d), K = q.shape, k.shape[1]
    E = max(16, triton.next_power_of_2(d // heads))
    return (Q, K, heads, d // heads, d), dict(E=E, BQ=QUERIES, BK=KEYS, P=PRECISION)


def mean_weights(q, k, heads, n_query, n_key, halves, dropped, factor) -> tuple[Tensor, Tensor]:
    """abar [B, H, K] and lse [B, H, Q]; halves: low and high [B, H, Q] of the bits of each query's mask."""
    (shape, sizes), B = _shape(q, k, heads), len(q)
    (Q, K, *_), given = shape, [x.contiguous() for x in (q, k, n_query, n_key)]
    abar, lse = q.new_empty(B, heads, K), q.new_empty(B, heads, Q)
    _lse[B * heads, triton.cdiv(Q, QUERIES)](*given, lse, *shape, **sizes)
    _mean[B * heads, triton.cdiv(K, KEYS)](*given, lse, *halves, abar, *shape, dropped=dropped, **sizes)
    return abar.mul_(factor), lse


def mean_weights_gradient(q, k, heads, n_query, n_key, halves, dropped, factor, lse, grad) -> tuple[Tensor, Tensor]:
    """dq and dk from grad = dL/dabar."""
    (shape, sizes), B = _shape(q, k, heads), len(q)
    (Q, K, *_), given = shape, [x.contiguous() for x in (q, k, n_query, n_key, lse)]
    dq, dk, inner = torch.empty_like(given[0]), torch.empty_like(given[1]), torch.empty_like(given[4])
    rest, sizes = (*halves, (grad * factor).contiguous(), inner), {**sizes, "dropped": dropped}
    _queries_gradient[B * heads, triton.cdiv(Q, QUERIES)](*given, *rest, dq, *shape, **sizes)
    _keys_gradient[B * heads, triton.cdiv(K, KEYS)](*given, *rest, dk, *shape, **sizes)
    return dq, dk


@triton.jit
def _masks(low, high, dropped, factor, out, n, N: tl.constexpr):
    row, j = tl.program_id(0).to(tl.int64), tl.program_id(1) * N + tl.arange(0, N)
    kept = _stays(tl.load(low + row).to(tl.uint32), tl.load(high + row).to(tl.uint32), j, dropped)
    tl.store(out + row * n + j, tl.where(kept, factor, 0.0), j < n)


def masks(halves: tuple[Tensor, Tensor], n: int, dropped: int, factor: float, dtype: torch.dtype) -> Tensor:
    """The factors [.., n] of rows whose bits have these halves [..]."""
    out = torch.empty(*halves[0].shape, n, dtype=dtype, device=halves[0].device)
    _masks[halves[0].numel(), triton.cdiv(n, 256)](*halves, dropped, factor, out, n, N=256)
    return out
