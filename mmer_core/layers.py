"""The two layers of the study: a bidirectional GRU, and multi-head attention averaged over its queries.

Shapes: B utterances, T time steps, Q queries, K keys, H heads, d model width (120), and d/H per head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_core import kernels


class Pooled(NamedTuple):
    """What one attention block says of an utterance."""

    vector: Float[Tensor, "B d"]  # the block's output, averaged over its (valid) queries
    column_mean: Float[Tensor, "B H K"]  # abar: the exact weight of each encoder state in that average


def valid_steps(length: Int[Tensor, " B"], steps: int) -> Bool[Tensor, "B T"]:
    """True where a time step is no padding."""
    return torch.arange(steps, device=length.device) < length[:, None]


def draw_keys(n: int, generator: torch.Generator | None = None) -> Int[Tensor, " n"]:
    """Keys of dropout, from torch's own generator by default: all that is random in a training step."""
    return torch.randint(2**62, (n,), generator=generator)


class _Keep(torch.autograd.Function):
    """`kernels.keep_mask` for one key, or under torch.vmap for one key a run."""

    @staticmethod
    def forward(key: Tensor, shape: tuple[int, int, int], rate: float, dtype: torch.dtype) -> Tensor:
        return kernels.keep_mask(key[None], shape, rate, dtype)[0]

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, keys: Tensor, shape, rate, dtype) -> tuple[Tensor, int]:
        return kernels.keep_mask(keys, shape, rate, dtype), 0


def dropout(x: Float[Tensor, "B T D"], rate: float, key: Int[Tensor, ""]) -> Float[Tensor, "B T D"]:
    """x with elements set to zero with probability `rate`, the others divided by 1 - rate; the key decides which."""
    return x * _Keep.apply(key, tuple(x.shape), rate, x.dtype)


class BiGRU(nn.Module):
    """A one-layer bidirectional GRU: nn.GRU(dim, units, batch_first=True, bidirectional=True), with a shorter path.

    Parameters have the names, shapes and initialisation of nn.GRU (uniform in +-1/sqrt(units)); gates are in the order
    reset, update, new.
    """

    NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

    def __init__(self, dim: int, units: int):
        super().__init__()
        bound, shapes = 1 / math.sqrt(units), ((3 * units, dim), (3 * units, units), (3 * units,), (3 * units,))
        for suffix in ("", "_reverse"):
            for name, shape in zip(self.NAMES, shapes, strict=True):
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))

    def forward(self, x: Float[Tensor, "B T D"], length: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B T d"]:
        """States of both directions side by side.

        With lengths the backward direction starts at the last valid step, and states at padded steps are zero.
        """
        B, T, _ = x.shape
        both = (torch.cat([getattr(self, name), getattr(self, name + "_reverse")]) for name in self.NAMES)
        W_i, W_h, b_i, b_h = both  # (6u, D), (6u, u), (6u), (6u)
        a = linear(x, length, W_i, b_i).view(B, T, 2, -1)  # (B, T, 2, 3u)
        W_h, b_h = W_h.view(1, 2, -1, W_h.shape[1]), b_h.view(1, 2, -1)
        return _Steps.apply(a, W_h, b_h, _length(length, x))[0].flatten(2)  # (B, T, 2u)


def _length(length: Tensor | None, x: Tensor) -> Int[Tensor, " B"]:
    return torch.full((len(x),), x.shape[1], device=x.device) if length is None else length


def _by_run(runs: int, dims: Sequence[int | None], *tensors: Tensor) -> list[Tensor]:
    """What torch.vmap hands over, [R, B, ..], or [B, ..] where all runs share it, with runs side by side: [R B, ..]."""
    every = [x.expand(runs, *x.shape) if d is None else x.movedim(d, 0) for x, d in zip(tensors, dims, strict=True)]
    return [x.flatten(0, 1) for x in every]


class _Linear(torch.autograd.Function):
    """x W^T + b, with products only for the valid steps, or where x is not zero if all are: most of text is padding.

    The other steps get b. With lengths nobody reads them, so that their gradient is zero.
    """

    @staticmethod
    def forward(x: Tensor, length: Tensor | None, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        needed = x.abs().sum(2) != 0 if length is None else valid_steps(length, x.shape[1])
        flat, rows = x.flatten(0, 1), needed.flatten().nonzero().squeeze(1)
        if len(rows) == len(flat):
            return F.linear(x, W, b), rows
        a = b.repeat(len(flat), 1).index_copy_(0, rows, F.linear(flat.index_select(0, rows), W, b))
        return a.view(*x.shape[:2], -1), rows

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, length, W, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, W, output[1])
        ctx.masked = length is not None

    @staticmethod
    def backward(ctx, grad: Tensor | None, _) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        x, W, rows = ctx.saved_tensors
        flat, grad = x.flatten(0, 1), grad.flatten(0, 1)
        every, dx = len(rows) == len(flat), None  # index_select is several times faster than flat[rows]
        some, its_grad = (flat, grad) if every else (y.index_select(0, rows) for y in (flat, grad))
        if ctx.needs_input_grad[0]:  # without lengths the steps where x is zero have one, too
            dx = torch.zeros_like(flat).index_copy_(0, rows, its_grad @ W) if ctx.masked and not every else grad @ W
            dx = dx.view_as(x)
        return dx, None, its_grad.mT @ some, grad.sum(0)

    @staticmethod
    def vmap(info, in_dims, x: Tensor, _, W: Tensor, b: Tensor):
        R, dims = info.batch_size, [in_dims[i] for i in (0, 2, 3)]
        x, W, b = (y.unflatten(0, (R, -1)) for y in _by_run(R, dims, x, W, b))
        a = torch.baddbmm(b[:, None], x.flatten(1, 2), W.mT).unflatten(1, x.shape[1:3])
        return (a, a.new_empty(0)), (0, None)


def linear(
    x: Float[Tensor, "B T D"], length: Int[Tensor, " B"] | None, W: Float[Tensor, "n D"], b: Float[Tensor, " n"]
) -> Float[Tensor, "B T n"]:
    """x W^T + b, where steps beyond the lengths cost nothing, and nothing may depend on what they get."""
    return _Linear.apply(x, length, W, b)[0]


class _Steps(torch.autograd.Function):
    """The recurrence of a GRU in both directions, with a gradient derived by hand.

    c = W h_{t-1} + b        r, z = sigmoid(a_rz + c_rz)        n = tanh(a_n + r c_n)        h_t = n + z (h_{t-1} - n)
    """

    @staticmethod
    def forward(a: Tensor, W: Tensor, b: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        return kernels.steps(a, W, b, length)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # else zeros of the size of all that is kept are made for nothing
        ctx.save_for_backward(inputs[1], inputs[3], *output[1:])

    @staticmethod
    def backward(ctx, grad: Tensor | None, *_) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        return *kernels.steps_gradient(grad, *ctx.saved_tensors), None

    @staticmethod
    def vmap(info, in_dims, a: Tensor, W: Tensor, b: Tensor, length: Tensor):
        h, *kept = _Steps.apply(*_by_run(info.batch_size, in_dims, a, W, b, length))
        return (h.unflatten(0, (info.batch_size, -1)), *kept), (0, *[None] * len(kept))


class _Pooled(torch.autograd.Function):
    """abar = mean over queries of A = M * P, with P = softmax(S), S = q k^T and M the factors of dropout.

    With g = dL/dabar and n valid queries, dP = M g / n, so that by the derivative of softmax, for query i and key j,

        dS_ij = P_ij (M_ij g_j - sum_l P_il M_il g_l) / n        dq = dS k        dk = dS^T q.

    Neither S nor P nor M is kept: the gradient computes them again from q, k and the key of dropout.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, heads: int, n_query: Tensor, n_key: Tensor, keys: Tensor, rate: float):
        return kernels.pooled(q, k, heads, n_query, n_key, keys, rate)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        q, k, ctx.heads, n_query, n_key, keys, ctx.rate = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, n_query, n_key, keys, output[1])

    @staticmethod
    def backward(ctx, grad: Tensor | None, _) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        q, k, n_query, n_key, keys, lse = ctx.saved_tensors
        dq, dk = kernels.pooled_gradient(q, k, ctx.heads, n_query, n_key, keys, ctx.rate, lse, grad)
        return dq, dk, None, None, None, None, None

    @staticmethod
    def vmap(info, in_dims, q, k, heads, n_query, n_key, keys, rate):
        d = [in_dims[i] for i in (0, 1, 3, 4, 5)]
        q, k, n_query, n_key, keys = _by_run(info.batch_size, d, q, k, n_query, n_key, keys)
        abar, lse = _Pooled.apply(q, k, heads, n_query, n_key, keys, rate)
        return (abar.unflatten(0, (info.batch_size, -1)), lse), (0, None)


class PooledAttention(nn.Module):
    """Multi-head attention and the temporal average after it (the paper's method section), in one step.

    For one head with weights A = dropout(softmax(Q K^T / sqrt(d/H))) and source states X, the published network takes

        mean_q(A (X W_v + b_v)) W_o + b_o  =  (abar X) W_v W_o + (sum_j abar_j) b_v W_o + b_o,   abar = mean_q A,

    so the output of every single query need never be computed: only abar is. Parameters have the names, shapes and
    initialisation of torch.nn.MultiheadAttention. Dropout is applied if, and only if, its key is given.

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

    def _queries_and_keys(
        self, query: Tensor, source: Tensor, n_query: Tensor | None, n_key: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[B, Q, d] and [B, K, d], queries divided by sqrt(d/H); of no width (d = 0) if all scores are to be equal."""
        if self.uniform:
            return query[..., :0], source[..., :0]
        (W_q, W_k, _), (b_q, b_k, _) = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        scale = math.sqrt(self.heads / query.shape[2])
        inputs = (query, n_query, W_q * scale, b_q * scale), (source, n_key, W_k, b_k)
        q, k = (F.linear(x, W, b) if n is None else linear(x, n, W, b) for x, n, W, b in inputs)
        return q, k

    def weights(
        self, query: Float[Tensor, "B Q d"], source: Float[Tensor, "B K d"], n_key: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B H Q K"]:
        """Attention weights before dropout; every row sums to 1, padded keys get 0."""
        q, k = self._queries_and_keys(query, source, None, n_key)
        q, k = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (q, k))
        scores = q @ k.mT  # (B, H, Q, K)
        if n_key is not None:
            scores = scores.masked_fill(~valid_steps(n_key, source.shape[1])[:, None, None], -math.inf)
        return scores.softmax(-1)

    def forward(
        self,
        query: Float[Tensor, "B Q d"],
        source: Float[Tensor, "B K d"],
        n_query: Int[Tensor, " B"] | None = None,
        n_key: Int[Tensor, " B"] | None = None,
        key: Int[Tensor, ""] | None = None,
    ) -> Pooled:
        """Args: valid steps of query and source (None: all), and the key of dropout (None: no dropout)."""
        (B, _, d), H = query.shape, self.heads
        W_v, b_v = self.in_proj_weight[2 * d :], self.in_proj_bias[2 * d :]
        q, k = self._queries_and_keys(query, source, n_query, n_key)
        rate, key = (0.0, q.new_zeros((), dtype=torch.int64)) if key is None else (self.dropout, key)
        abar, _ = _Pooled.apply(q, k, H, _length(n_query, query), _length(n_key, source), key[None], rate)  # (B, H, K)
        context = abar @ source  # (B, H, d)
        value = torch.einsum("bhd,hed->bhe", context, W_v.view(H, d // H, d))  # (B, H, d/H)
        value = value + abar.sum(2, keepdim=True) * b_v.view(H, d // H)
        return Pooled(self.out_proj(value.reshape(B, d)), abar)
