"""The kernels in PyTorch, for any device: what `attention`, `gru` and `tiles.keep` compute, a formula a line."""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 2**26  # numbers of a score matrix that may exist at one time


def _shift(x: Tensor, n: int) -> Tensor:
    """x >> n for 64 bits without a sign."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def keep(keys: Tensor, firsts: Tensor, seconds: int, n: int, dropped: int, scale: float, dtype: torch.dtype) -> Tensor:
    """[N, seconds, n]: 0 where dropped, else `scale`; keys, firsts [N] name the rows together with 0 .. seconds."""
    row = (firsts[:, None] << 32) | torch.arange(seconds, device=keys.device)  # (N, seconds)
    x = keys[:, None] + row * _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    x = (x ^ _shift(x, 31))[..., None]
    low, high, mask = x & 0xFFFFFFFF, _shift(x, 32), 0xFFFFFFFF
    j = torch.arange(n, device=keys.device)
    word = ((j // 64 * 32 + j % 32) * 0x9E3779B9 + low) & mask  # (N, seconds, n)
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & mask
    word = word ^ high
    word = ((word ^ (word >> 15)) * 0x846CA68B) & mask
    word = word ^ (word >> 16)
    bits = torch.where(j % 64 < 32, word & 0xFFFF, word >> 16)
    return (bits >= dropped).to(dtype) * scale


def _blocks(q: Tensor, k: Tensor, heads: int, n_query: Tensor, n_key: Tensor, keys: Tensor, dropped: int, scale: float):
    """Some utterances at a time: slice, their q and k by head, scores, factors of dropout, 1/n of valid queries."""
    (B, Q, d), K = q.shape, k.shape[1]
    step, group = max(1, AT_ONCE // (heads * Q * K)), B // len(keys)
    for start in range(0, B, step):
        rows = torch.arange(start, min(start + step, B), device=q.device)
        some = slice(start, start + step)
        q_h = q[some].unflatten(2, (heads, d // heads)).transpose(1, 2)  # (b, H, Q, d/H)
        k_h = k[some].unflatten(2, (heads, d // heads)).transpose(1, 2)
        S = q_h @ k_h.mT  # (b, H, Q, K)
        S.masked_fill_(torch.arange(K, device=q.device) >= n_key[some, None, None, None], -torch.inf)
        M = 1.0
        if dropped:
            firsts = (rows[:, None] % group * heads + torch.arange(heads, device=q.device)).flatten()
            M = keep(keys[rows // group].repeat_interleave(heads), firsts, Q, K, dropped, scale, q.dtype).view_as(S)
        share = (torch.arange(Q, device=q.device) < n_query[some, None]).to(q.dtype) / n_query[some, None]  # (b, Q)
        yield some, q_h, k_h, S, M, share[:, None]


def attention(q, k, heads, n_query, n_key, keys, dropped, scale) -> tuple[Tensor, Tensor]:
    """abar [B, H, K] and lse [B, H, Q], as in `attention.attention`."""
    abar, lse = q.new_empty(len(q), heads, k.shape[1]), q.new_empty(len(q), heads, q.shape[1])
    for some, _, _, S, M, share in _blocks(q, k, heads, n_query, n_key, keys, dropped, scale):
        lse[some] = S.logsumexp(3)
        A = (S - lse[some, :, :, None]).exp_() * M
        abar[some] = (share[:, :, None] @ A).squeeze(2)
    return abar, lse


def attention_gradient(q, k, heads, n_query, n_key, keys, dropped, scale, lse, grad) -> tuple[Tensor, Tensor]:
    """dq, dk from grad = dL/dabar [B, H, K]."""
    dq, dk = torch.empty_like(q), torch.empty_like(k)
    for some, q_h, k_h, S, M, share in _blocks(q, k, heads, n_query, n_key, keys, dropped, scale):
        P = S.sub_(lse[some, :, :, None]).exp_()
        V = P * (M * grad[some, :, None])  # P M g
        dS = V.sub_(P.mul_(V.sum(3, keepdim=True))).mul_(share[..., None])  # P (M g - sum(P M g)) / n
        dq[some] = (dS @ k_h).transpose(1, 2).flatten(2)
        dk[some] = (dS.mT @ q_h).transpose(1, 2).flatten(2)
    return dq, dk


def _by_direction(x: Tensor, groups: int) -> Tensor:
    """[B, T, S, n] -> [T, groups S, B / groups, n] with time as each direction runs."""
    x = x.unflatten(0, (groups, -1)).permute(2, 0, 3, 1, 4)  # (T, G, S, b, n)
    return torch.stack([x[:, :, 0], x[:, :, 1].flip(0)], 2).flatten(1, 2)


def _by_row(x: Tensor, groups: int) -> Tensor:
    """The way back: [T, groups S, B / groups, n] -> [B, T, S, n]."""
    x = x.unflatten(1, (groups, 2))
    return torch.stack([x[:, :, 0], x[:, :, 1].flip(0)], 2).permute(1, 3, 0, 2, 4).flatten(0, 1)


def _valid(length: Tensor, T: int, groups: int, dtype: torch.dtype) -> Tensor:
    """[T, groups S, B / groups, 1]: 1 where a step is valid."""
    valid = (torch.arange(T, device=length.device) < length[:, None]).to(dtype)
    return _by_direction(valid[:, :, None, None].expand(-1, -1, 2, -1), groups)


def steps(a: Tensor, W: Tensor, b: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """h [B, T, 2, u] from a [B, T, 2, 3u], W [G, 2, 3u, u], b [G, 2, 3u]; and r, z, n, W_n h + b_n, h_t-1 to keep."""
    G, u = len(W), W.shape[3]
    a, valid = _by_direction(a, G), _valid(length, a.shape[1], G, a.dtype)
    T, S, B, _ = a.shape
    h, cells = a.new_zeros(T + 1, S, B, u), a.new_empty(T, S, B, 4 * u)
    W_t, b_row = W.flatten(0, 1).mT, b.flatten(0, 1)[:, None]
    for t in range(T):
        c = torch.baddbmm(b_row, h[t], W_t)
        r, z = torch.sigmoid(a[t, ..., : 2 * u] + c[..., : 2 * u]).chunk(2, -1)
        n = torch.addcmul(a[t, ..., 2 * u :], r, c[..., 2 * u :]).tanh_()
        torch.lerp(n, h[t], z, out=h[t + 1]).mul_(valid[t])
        torch.cat([r, z, n, c[..., 2 * u :]], -1, out=cells[t])
    return _by_row(h[1:], G), torch.cat([cells, h[:-1]], -1)


def steps_gradient(grad: Tensor, W: Tensor, length: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """da [B, T, 2, 3u], dW and db, from grad = dL/dh [B, T, 2, u]."""
    G, u = len(W), W.shape[3]
    grad, valid, W = _by_direction(grad, G), _valid(length, grad.shape[1], G, grad.dtype), W.flatten(0, 1)
    r, z, n, c_n, before = kept.split(u, -1)
    dn = (1 - z) * (1 - n * n) * valid  # dh_t / d(argument of tanh), for all steps at once, as are:
    dz = (before - n) * z * (1 - z) * valid  # dh_t / d(argument of z)
    dr = dn * c_n * r * (1 - r)  # dh_t / d(argument of r)
    to_c = torch.stack([dr, dz, dn * r], 3)  # dh_t / d(W h_t-1 + b): (T, S, B, 3, u)
    dh, dc, hand_on = torch.empty_like(n), torch.empty_like(to_c), z * valid
    later = torch.zeros_like(n[0])  # what step t + 1 hands back to h_t
    for t in reversed(range(len(n))):
        torch.add(grad[t], later, out=dh[t])
        torch.mul(dh[t][:, :, None], to_c[t], out=dc[t])
        later = torch.baddbmm(dh[t] * hand_on[t], dc[t].flatten(2), W)  # by z directly, by W through c
    dc = dc.flatten(3)
    da = torch.cat([dc[..., : 2 * u], dh * dn], 3)  # a enters n without the factor r
    dW = torch.einsum("tsbi,tsbj->sij", dc, before).unflatten(0, (G, 2))
    return _by_row(da, G), dW, dc.sum((0, 2)).unflatten(0, (G, 2))
