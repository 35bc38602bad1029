"""The two layers of the study: a bidirectional GRU, and multi-head attention averaged over its queries.

Shapes: B utterances, T time steps, Q queries, K keys, H heads, d model width (120), and d/H per head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Pooled(NamedTuple):
    """What one attention block says of an utterance."""

    vector: Float[Tensor, "B d"]  # the block's output, averaged over its (valid) queries
    column_mean: Float[Tensor, "B H K"]  # abar: the exact weight of each encoder state in that average


def valid_steps(length: Int[Tensor, " B"], steps: int) -> Bool[Tensor, "B T"]:
    """True where a time step is no padding."""
    return torch.arange(steps, device=length.device) < length[:, None]


def keep_mask(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
    """The factors of dropout: 0 with probability `rate`, else 1 / (1 - rate).

    Each 64-bit random number serves four elements, so fewer are drawn than by bernoulli_; the rate is rounded to a
    multiple of 2^-16, and the scale belongs to the rounded rate.
    """
    n, levels = math.prod(shape), 2**16
    dropped = round(rate * levels)
    bits = torch.empty(-(-n // 4), dtype=torch.int64, device=like.device).random_(torch.iinfo(torch.int64).min, None)
    keep = bits.view(torch.int16)[:n].view(shape) >= dropped - levels // 2
    return keep.to(like.dtype).mul_(levels / (levels - dropped))


class BiGRU(nn.Module):
    """A one-layer bidirectional GRU: nn.GRU(dim, units, batch_first=True, bidirectional=True), with a shorter path.

    Parameters have the names, shapes and initialisation of nn.GRU (uniform in +-1/sqrt(units)); gates are in the order
    reset, update, new. Both directions take each time step as one batched product, and the gradient is derived by hand
    (`_GRUSteps`), which makes fewer and larger products of it.
    """

    def __init__(self, dim: int, units: int):
        super().__init__()
        for suffix in ("", "_reverse"):
            for name, shape in (
                ("weight_ih_l0", (3 * units, dim)),
                ("weight_hh_l0", (3 * units, units)),
                ("bias_ih_l0", (3 * units,)),
                ("bias_hh_l0", (3 * units,)),
            ):
                bound = 1 / math.sqrt(units)
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))

    def forward(self, x: Float[Tensor, "B T D"], length: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B T d"]:
        """States of both directions side by side.

        With lengths the backward direction starts at the last valid step, and states at padded steps are zero.
        """
        B, T, _ = x.shape
        x = x.transpose(0, 1).contiguous()  # (T, B, D)
        order = _backwards(B, T, length, x.device)
        ahead = F.linear(x, self.weight_ih_l0, self.bias_ih_l0)  # (T, B, 3u)
        back = _Reorder.apply(F.linear(x, self.weight_ih_l0_reverse, self.bias_ih_l0_reverse), order)
        W = torch.stack([self.weight_hh_l0, self.weight_hh_l0_reverse])  # (2, 3u, u)
        b = torch.stack([self.bias_hh_l0, self.bias_hh_l0_reverse])
        ahead, back = _GRUSteps.apply(torch.stack([ahead, back], 1), W, b).unbind(1)  # (T, B, u)
        out = torch.cat([ahead, _Reorder.apply(back, order)], 2).transpose(0, 1)  # (B, T, 2u)
        return out if length is None else out * valid_steps(length, T)[..., None]


def _backwards(batch: int, steps: int, length: Tensor | None, device: torch.device) -> Int[Tensor, " TB"]:
    """Rows of [T, B] in the order of the backward direction: valid steps reversed, padding where it was."""
    t = torch.arange(steps, device=device)[:, None].expand(steps, batch)
    order = t.flip(0) if length is None else torch.where(t < length, length - 1 - t, t)
    return (order * batch + torch.arange(batch, device=device)).flatten()


class _Reorder(torch.autograd.Function):
    """Rows of x [T, B, n] in another order that is its own inverse, so that the gradient takes the same way back."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return x.flatten(0, 1).index_select(0, order).view(x.shape)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad.flatten(0, 1).index_select(0, *ctx.saved_tensors).view(grad.shape), None


class _GRUSteps(torch.autograd.Function):
    """The recurrence of a GRU, S directions side by side. a = inputs [T, S, B, 3u] (products with W_ih, biases added).

    c = W h_{t-1} + b        r, z = sigmoid(a_rz + c_rz)        n = tanh(a_n + r c_n)        h_t = n + z (h_{t-1} - n)
    """

    @staticmethod
    def forward(ctx, a: Tensor, W: Tensor, b: Tensor) -> Tensor:
        (T, S, B, _), u = a.shape, W.shape[2]
        h = a.new_zeros(T + 1, S, B, u)  # h[t] is the state before step t
        rz, n, c = a.new_empty(T, S, B, 2 * u), a.new_empty(T, S, B, u), a.new_empty(T, S, B, 3 * u)
        W_t, b_row = W.transpose(1, 2), b[:, None].expand(S, B, 3 * u)
        (a_rz, a_n), (c_rz, c_n), (r, z) = a.split([2 * u, u], 3), c.split([2 * u, u], 3), rz.split(u, 3)
        steps = zip(*(x.unbind() for x in (a_rz, a_n, c, c_rz, c_n, rz, r, z, n, h[:-1], h[1:])), strict=True)
        for a_rz_t, a_n_t, c_t, c_rz_t, c_n_t, rz_t, r_t, z_t, n_t, before, after in steps:
            torch.baddbmm(b_row, before, W_t, out=c_t)
            torch.add(a_rz_t, c_rz_t, out=rz_t).sigmoid_()
            torch.addcmul(a_n_t, r_t, c_n_t, out=n_t).tanh_()
            torch.lerp(n_t, before, z_t, out=after)
        ctx.save_for_backward(W, h, rz, n, c)
        return h[1:]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        W, h, rz, n, c = ctx.saved_tensors
        (T, S, B, u), c_n = n.shape, c[..., 2 * n.shape[3] :]
        r, z = rz.split(u, 3)
        dn = (1 - z) * (1 - n * n)  # dh_t / d(argument of tanh), for all steps at once, as are:
        dz = (h[:-1] - n) * z * (1 - z)  # dh_t / d(argument of z)
        dr = dn * c_n * r * (1 - r)  # dh_t / d(argument of r)
        to_c = torch.stack([dr, dz, dn * r], 3)  # dh_t / dc_t: (T, S, B, 3, u)
        dh, dc = torch.empty_like(n), torch.empty_like(to_c)
        later = torch.zeros_like(n[0])  # what step t + 1 hands back to h_t
        wide = dh[:, :, :, None]
        steps = zip(*(x.unbind() for x in (grad, z, to_c, dh, wide, dc, dc.flatten(3))), strict=True)
        for grad_t, z_t, to_c_t, dh_t, wide_t, dc_t, dc_flat in reversed(list(steps)):
            torch.add(grad_t, later, out=dh_t)
            torch.mul(wide_t, to_c_t, out=dc_t)
            later = torch.baddbmm(dh_t * z_t, dc_flat, W)  # by z directly, by W through c
        dc = dc.flatten(3)
        da = torch.cat([dc[..., : 2 * u], dh * dn], 3)  # a enters n without the factor r
        rows = dc.transpose(0, 1).reshape(S, T * B, 3 * u)
        dW = rows.transpose(1, 2) @ h[:-1].transpose(0, 1).reshape(S, T * B, u)
        return da, dW, rows.sum(1)


class PooledAttention(nn.Module):
    """Multi-head attention and the temporal average after it (the paper's method section), in one step.

    For one head with weights A = dropout(softmax(Q K^T / sqrt(d/H))) and source states X, the published network takes

        mean_q(A (X W_v + b_v)) W_o + b_o  =  (abar X) W_v W_o + (sum_j abar_j) b_v W_o + b_o,   abar = mean_q A,

    so the output of every single query need never be computed: only abar is. Parameters have the names, shapes and
    initialisation of torch.nn.MultiheadAttention.

    Args:
        width: d, a multiple of `heads`.
        uniform: every valid key gets the same weight (control arm; the parameters of queries and keys lie idle).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.1, uniform: bool = False):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads, self.dropout, self.uniform = heads, dropout, uniform
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def weights(
        self,
        query: Float[Tensor, "B Q d"],
        source: Float[Tensor, "B K d"],
        key_valid: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B H Q K"]:
        """Attention weights before dropout; every row sums to 1, padded keys get 0."""
        (B, Q, d), K, H = query.shape, source.shape[1], self.heads
        if self.uniform:
            scores = query.new_zeros(B, H, Q, K)
        else:
            (W_q, W_k, _), (b_q, b_k, _) = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
            q = F.linear(query, W_q, b_q).view(B, Q, H, d // H).transpose(1, 2)  # (B, H, Q, d/H)
            k = F.linear(source, W_k, b_k).view(B, K, H, d // H).permute(0, 2, 3, 1)  # (B, H, d/H, K)
            scores = (q / math.sqrt(d // H)) @ k  # (B, H, Q, K)
        if key_valid is not None:
            scores = scores.masked_fill(~key_valid[:, None, None], -math.inf)
        return scores.softmax(-1)

    def forward(
        self,
        query: Float[Tensor, "B Q d"],
        source: Float[Tensor, "B K d"],
        query_valid: Bool[Tensor, "B Q"] | None = None,
        key_valid: Bool[Tensor, "B K"] | None = None,
    ) -> Pooled:
        (B, _, d), H = query.shape, self.heads
        A = self.weights(query, source, key_valid)  # (B, H, Q, K)
        if self.training and self.dropout:
            A = A * keep_mask(A.shape, self.dropout, like=A)
        if query_valid is None:
            abar = A.mean(2)  # (B, H, K)
        else:
            valid = query_valid.to(A.dtype)
            share = valid / valid.sum(1, keepdim=True)  # (B, Q): 1/n where valid
            abar = (share[:, None, None] @ A).squeeze(2)
        W_v, b_v = self.in_proj_weight.chunk(3)[2], self.in_proj_bias.chunk(3)[2]
        context = abar @ source  # (B, H, d)
        value = torch.einsum("bhd,hed->bhe", context, W_v.view(H, d // H, d))  # (B, H, d/H)
        value = value + abar.sum(2, keepdim=True) * b_v.view(H, d // H)
        return Pooled(self.out_proj(value.reshape(B, d)), abar)
