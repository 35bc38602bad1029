"""x W^T + b for sequences, without products for the time steps that do not need any: most steps of a text are padding.

    a_t = W x_t + b        dL/dx_t = W^T dL/da_t        dL/dW = sum_t dL/da_t x_t^T        dL/db = sum_t dL/da_t

Without lengths, the steps of zeros are left out: they get a_t = b and add nothing to dL/dW, so no number changes. With
lengths, the steps beyond them are left out: they get b, too, on which nothing may depend, and their gradients are zero.
There is one form, in PyTorch, for every device.

Tested: values and gradients of the GRU and the convolution that use it, against torch's own and finite differences.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mmer_core.kernels.machinery import side_by_side, valid_steps


class _Linear(torch.autograd.Function):
    """x [B, T, D], length [B] or None (leave out zeros), W [n, D], b [n] -> a [B, T, n], and the rows of B T needed."""

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
        every, dx = len(rows) == len(flat), None
        x_needed, grad_needed = (flat, grad) if every else (y.index_select(0, rows) for y in (flat, grad))
        if ctx.needs_input_grad[0]:  # without lengths the steps where x is zero have one, too
            masked = ctx.masked and not every
            dx = torch.zeros_like(flat).index_copy_(0, rows, grad_needed @ W) if masked else grad @ W
            dx = dx.view_as(x)
        return dx, None, grad_needed.mT @ x_needed, grad.sum(0)

    @staticmethod
    def vmap(info, in_dims, x: Tensor, _, W: Tensor, b: Tensor):
        R, dims = info.batch_size, [in_dims[i] for i in (0, 2, 3)]
        x, W, b = (y.unflatten(0, (R, -1)) for y in side_by_side(R, dims, x, W, b))
        a = torch.baddbmm(b[:, None], x.flatten(1, 2), W.mT).unflatten(1, x.shape[1:3])
        return (a, a.new_empty(0)), (0, None)


def linear_where_needed(
    x: Float[Tensor, "B T D"], length: Int[Tensor, " B"] | None, W: Float[Tensor, "n D"], b: Float[Tensor, " n"]
) -> Float[Tensor, "B T n"]:
    """x W^T + b. Needed are the steps within the lengths (what others get means nothing), or else those not zero."""
    return _Linear.apply(x, length, W, b)[0]
