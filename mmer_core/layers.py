"""The three layers of the study: a bidirectional GRU, attention averaged over its queries, a convolution along time.

Shapes: B utterances, T time steps, Q queries, K keys, H heads, d model width (120), and d/H per head. What takes the
time is in `kernels`, an operation a file, with its maths and its gradient.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_core.errors import MmerError
from mmer_core.kernels.attention import ColumnMean
from mmer_core.kernels.gru import Recurrence
from mmer_core.kernels.linear import linear_where_needed
from mmer_core.kernels.machinery import on_cpu, valid_steps


def all_steps(x: Float[Tensor, "B T D"]) -> Int[Tensor, " B"]:
    """The lengths of utterances that have no padding."""
    return torch.full((len(x),), x.shape[1], device=x.device)


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
        a = linear_where_needed(x, length, W_i, b_i).view(B, T, 2, -1)  # (B, T, 2, 3u)
        W_h, b_h = W_h.view(1, 2, -1, W_h.shape[1]), b_h.view(1, 2, -1)
        h, *_ = Recurrence.apply(a, W_h, b_h, all_steps(x) if length is None else length)  # (B, T, 2, u)
        return h.flatten(2)


class TimeMixing(nn.Conv1d):
    """The published convolution: kernel 1 with time as the channel, so that every slot mixes all frames."""

    def __init__(self, steps: int, slots: int):
        super().__init__(steps, slots, kernel_size=1)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B slots D"]:  # type: ignore[override]
        if on_cpu(x):
            return super().forward(x)
        assert self.bias is not None
        return self.weight[..., 0] @ x + self.bias[:, None]  # many runs' convolutions are slow on a GPU, products not


class TemporalConvolution(nn.Conv1d):
    """The corrected convolution: kernel 3, stride 2, padding 1 along time, so that every slot is a time.

    Parameters are those of nn.Conv1d. It is computed as one product, in which padding takes no part.
    """

    def __init__(self, dim: int, width: int):
        super().__init__(dim, width, kernel_size=3, stride=2, padding=1)

    def forward(  # type: ignore[override]  # time comes second, and lengths come along
        self, x: Float[Tensor, "B T D"], length: Int[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B slots d"], Int[Tensor, " B"] | None]:
        """Slots [B, ceil(T/2), d], and how many of them are valid: ceil(length / 2) (None: all)."""
        if length is not None:
            x, length = x * valid_steps(length, x.shape[1])[..., None], (length + 1) // 2
        frames = F.pad(x, (0, 0, 1, 1)).unfold(1, 3, 2).mT.flatten(2)  # (B, ceil(T/2), 3 D)
        W, b = self.weight.mT.flatten(1), self.bias  # (d, 3 D), (d)
        assert b is not None
        return linear_where_needed(frames, length, W, b), length


class Averaged(NamedTuple):
    """What one attention block says of an utterance."""

    vector: Float[Tensor, "B d"]  # the block's output, averaged over its (valid) queries
    column_mean: Float[Tensor, "B H K"]  # abar: the exact weight of each encoder state in that average


class AveragedAttention(nn.Module):
    """Multi-head attention and the temporal average after it (the paper's method section), in one step.

    For one head with weights A = dropout(softmax(Q K^T / sqrt(d/H))) and source states X, the published network takes

        mean_q(A (X W_v + b_v)) W_o + b_o  =  (abar X) W_v W_o + (sum_j abar_j) b_v W_o + b_o,   abar = mean_q A,

    so the output of every single query need never be computed: only abar is. Parameters have the names, shapes and
    initialisation of torch.nn.MultiheadAttention. Dropout is applied if, and only if, its seed is given.

    Args:
        width: d, a multiple of `heads`; MmerError if it is not.
        uniform: every valid key gets the same weight (control arm; the parameters of queries and keys lie idle).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.1, uniform: bool = False):
        super().__init__()
        if width % heads:
            raise MmerError(f"{heads} heads do not divide the width {width}")
        self.heads, self.dropout, self.uniform = heads, dropout, uniform
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def idle_parameters(self) -> int:
        """How many trainable numbers the output does not depend on: queries and keys where weights are uniform."""
        return 2 * (self.in_proj_weight.numel() + self.in_proj_bias.numel()) // 3 if self.uniform else 0

    def _queries_and_keys(
        self, query: Tensor, source: Tensor, n_query: Tensor | None, n_key: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[B, Q, d] and [B, K, d], queries divided by sqrt(d/H); of no width (d = 0) if all scores are to be equal."""
        if self.uniform:
            return query[..., :0], source[..., :0]
        (W_q, W_k, _), (b_q, b_k, _) = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        scale = math.sqrt(self.heads / query.shape[2])
        W_q, b_q = W_q * scale, b_q * scale
        q = F.linear(query, W_q, b_q) if n_query is None else linear_where_needed(query, n_query, W_q, b_q)
        k = F.linear(source, W_k, b_k) if n_key is None else linear_where_needed(source, n_key, W_k, b_k)
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
        seed: Int[Tensor, ""] | None = None,
    ) -> Averaged:
        """Args: valid steps of query and source (None: all), and the seed of dropout (None: no dropout)."""
        q, k = self._queries_and_keys(query, source, n_query, n_key)
        n_query = all_steps(query) if n_query is None else n_query
        n_key = all_steps(source) if n_key is None else n_key
        rate, seed = (0.0, n_key.new_zeros(())) if seed is None else (self.dropout, seed)
        abar, _ = ColumnMean.apply(q, k, self.heads, n_query, n_key, seed[None], rate)  # (B, H, K)
        return Averaged(self.output(abar @ source, abar.sum(2, keepdim=True)), abar)

    def output(self, context: Float[Tensor, "*B H d"], mass: Float[Tensor, "*B H 1"]) -> Float[Tensor, "*B d"]:
        """The block's vector, from the states that each head has averaged (abar X) and the sum of its weights."""
        value = torch.einsum("...hd,hed->...he", context, self._values()[0]) + mass * self._values()[1]  # (.., H, d/H)
        return self.out_proj(value.flatten(-2))

    def contributions(
        self, abar: Float[Tensor, "B H K"], source: Float[Tensor, "B K d"]
    ) -> tuple[Float[Tensor, "B H K d"], Float[Tensor, " d"]]:
        """What each state adds to the vector through each head, abar_j x_j W_v W_o, and what is added without states.

        Both summed up are the vector, if the weights of each head sum to 1. The norm of one is the norm-based view of
        Kobayashi et al., "Attention is not only a weight", EMNLP 2020.
        """
        W_v, b_v = self._values()
        W_o = self.out_proj.weight.unflatten(1, (self.heads, -1))  # (d, H, d/H)
        added = torch.einsum("bkd,hed,nhe->bhkn", source, W_v, W_o) * abar[..., None]
        return added, F.linear(b_v.flatten(), self.out_proj.weight, self.out_proj.bias)

    def _values(self) -> tuple[Tensor, Tensor]:
        """W_v and b_v of each head: [H, d/H, d] and [H, d/H]."""
        d, heads = self.out_proj.in_features, (self.heads, -1)
        return self.in_proj_weight[2 * d :].unflatten(0, heads), self.in_proj_bias[2 * d :].unflatten(0, heads)
