"""The steps of a bidirectional GRU, with a gradient derived by hand.

    c_t = W h_t-1 + b        r, z = sigmoid(a_rz + c_rz)        n = tanh(a_n + r c_n)        h_t = n + z (h_t-1 - n)

a_t = W_i x_t + b_i is given. The second direction runs from the end of an utterance to its start; at padded steps the
state is zero. With dh = dL/dh_t, the gradients of the arguments of n, z and r are

    dn = dh (1 - z) (1 - n^2)        dz = dh (h_t-1 - n) z (1 - z)        dr = dn c_n r (1 - r)

so that da = (dr, dz, dn), dc = (dr, dz, dn r), and step t hands dh z + dc W back to step t - 1 (in its direction).

Buffers. B utterances of G runs, T time steps, S = 2 directions, u units, gates in the order r, z, n (torch's):

    a        [B, T, S, 3u]              given
    W, b     [G, S, 3u, u], [G, S, 3u]  a set for each run
    h        [B, T, S, u]               the result
    before   [S, B, T, u]               kept for the gradient: h_t-1, the state that each step starts from
    cells    [S, B, T, tiles, 4, TILE]  kept for the gradient: r, z, n and c_n; unit v TILE + j stands at [v, :, j]
                                        (by Triton's form: [S, B, T, 4, u])
    da, dc   [B, T, S, 3u], [S, B, T, 3u]

Tested: against nn.GRU with and without lengths (values and gradients, 1e-12), finite differences, and the compiled form
against the plain one for several runs, also with more units than a tile. The plain form was only run on the CPU yet.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mmer_core.kernels.machinery import array, compiled, exp, inlined, on_cpu, on_gpu, side_by_side, valid_steps
from mmer_core.kernels.products import ROWS, TILE, product


class Recurrence(torch.autograd.Function):
    """h, and what is kept for the gradient (but by the plain form: before, cells), from a, W, b and lengths [B]."""

    @staticmethod
    def forward(
        a: Float[Tensor, "B T S gates"],
        W: Float[Tensor, "G S gates u"],
        b: Float[Tensor, "G S gates"],
        length: Int[Tensor, " B"],
    ) -> tuple[Tensor, ...]:
        if not on_cpu(a):
            gpu = on_gpu(a, a.dtype)
            return gpu.steps(a, W, b, length) if gpu else plain_steps(a, W, b, length)
        (B, T, S, _), u = a.shape, W.shape[3]
        h, before = a.new_empty(B, T, S, u), a.new_empty(S, B, T, u)
        cells = a.new_empty(S, B, T, -(-u // TILE), 4, TILE)
        weights = _in_tiles(W.unflatten(2, (3, u)).mT).movedim(4, 2)  # (G, S, tiles, 3, u, TILE)
        bias = _in_tiles(b.unflatten(2, (3, u))).movedim(3, 2)  # (G, S, tiles, 3, TILE)
        _steps(*map(array, (a, weights, bias, length, h, before, cells)))
        return h, before, cells

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # else zeros of the size of all that is kept are made for nothing
        ctx.save_for_backward(inputs[1], inputs[3], *output[1:])

    @staticmethod
    def backward(ctx, grad: Float[Tensor, "B T S u"] | None, *_) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        W, length, *kept = ctx.saved_tensors
        if len(kept) == 1:
            return *plain_steps_gradient(grad, W, length, *kept), None
        before, cells = kept
        (S, B, T, u), G = before.shape, len(W)
        if gpu := on_gpu(grad, grad.dtype):
            da, dc = gpu.steps_gradient(grad, W, length, before, cells)
        else:
            da, dc = grad.new_empty(B, T, S, 3 * u), grad.new_empty(S, B, T, 3 * u)
            weights = _in_tiles(W).movedim(3, 2)  # (G, S, tiles, 3u, TILE)
            _steps_gradient(*map(array, (grad, weights, length, before, cells, da, dc)))
        dc = dc.view(S, G, -1, 3 * u)
        dW = (before.view(S, G, -1, u).mT @ dc).mT  # (S, G, 3u, u); the other way round it takes longer
        return da, dW.transpose(0, 1), dc.sum(2).transpose(0, 1), None

    @staticmethod
    def vmap(info, in_dims, a: Tensor, W: Tensor, b: Tensor, length: Tensor):
        h, *kept = Recurrence.apply(*side_by_side(info.batch_size, in_dims, a, W, b, length))
        return (h.unflatten(0, (info.batch_size, -1)), *kept), (0, *[None] * len(kept))


def _in_tiles(x: Tensor) -> Tensor:
    """[.., n] -> [.., tiles, TILE]; zero beyond n."""
    return F.pad(x, (0, -x.shape[-1] % TILE)).unflatten(-1, (-1, TILE))


def _by_direction(x: Tensor, groups: int) -> Tensor:
    """[B, T, S, n] -> [T, groups S, B / groups, n] with time as each direction runs."""
    x = x.unflatten(0, (groups, -1)).permute(2, 0, 3, 1, 4)  # (T, G, S, b, n)
    return torch.stack([x[:, :, 0], x[:, :, 1].flip(0)], 2).flatten(1, 2)


def _by_row(x: Tensor, groups: int) -> Tensor:
    """The way back: [T, groups S, B / groups, n] -> [B, T, S, n]."""
    x = x.unflatten(1, (groups, 2))
    return torch.stack([x[:, :, 0], x[:, :, 1].flip(0)], 2).permute(1, 3, 0, 2, 4).flatten(0, 1)


def plain_steps(a: Tensor, W: Tensor, b: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """h, and r, z, n, c_n and h_t-1 side by side, to be kept."""
    G, u = len(W), W.shape[3]
    valid = _by_direction(valid_steps(length, a.shape[1]).to(a.dtype)[:, :, None, None].expand(-1, -1, 2, -1), G)
    a = _by_direction(a, G)
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


def plain_steps_gradient(grad: Tensor, W: Tensor, length: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """da, dW, db from grad = dL/dh."""
    G, u = len(W), W.shape[3]
    valid = _by_direction(valid_steps(length, grad.shape[1]).to(grad.dtype)[:, :, None, None].expand(-1, -1, 2, -1), G)
    grad, W = _by_direction(grad, G), W.flatten(0, 1)
    r, z, n, c_n, before = kept.split(u, -1)
    dn = (1 - z) * (1 - n * n) * valid  # what dh_t is multiplied by: for all steps at once, as are:
    dz = (before - n) * z * (1 - z) * valid
    dr = dn * c_n * r * (1 - r)
    to_c = torch.stack([dr, dz, dn * r], 3)  # (T, S, B, 3, u)
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


# ------------------------------------------------------------------------------------------------------ compiled
#
# ROWS utterances of like length go through time together. What they need lies in buffers that stay in the cache:
#
#     weights  forward: W transposed, each gate in tiles of its own; backward: W in tiles of its columns
#     states   [ROWS, u]           h_t of each row
#     c        [tiles, 3, ROWS, TILE] forward: W h_t-1; [tiles, ROWS, TILE] backward: dc W
#     later    [tiles, ROWS, TILE] what step t + 1 hands back to h_t
#     row_dc   [ROWS, 3u]          dc of each row at this step


@inlined
def _row_step(a, row, t, s, c, r, bias, x, cells, states):
    """One step of row r: its state becomes the next one, tile by tile. x [3, TILE]: a of the tile."""
    u, one = states.shape[1], a.dtype.type(1)  # a plain 1 would make float64 of float32
    for v in range(len(bias)):
        n, at, cell = min(TILE, u - v * TILE), v * TILE, cells[s, row, t, v]
        c_r, c_z, c_n, b = c[v, 0, r], c[v, 1, r], c[v, 2, r], bias[v]
        for gate in range(3):
            for j in range(n):
                x[gate, j] = a[row, t, s, gate * u + at + j]
        for j in range(TILE):
            reset = one / (one + exp(-(x[0, j] + c_r[j] + b[0, j])))
            update = one / (one + exp(-(x[1, j] + c_z[j] + b[1, j])))
            state = c_n[j] + b[2, j]
            twice = x[2, j] + reset * state
            twice += twice
            new = one - (one + one) / (one + exp(twice))  # tanh
            cell[0, j], cell[1, j], cell[2, j], cell[3, j] = reset, update, new, state
        for j in range(n):
            states[r, at + j] = cell[2, j] + cell[1, j] * (states[r, at + j] - cell[2, j])


@compiled
def _steps(a, weights, bias, length, h, before, cells):
    B, T, S, u = h.shape
    G, tiles = len(weights), cells.shape[3]
    group = B // G
    c, x = np.empty((tiles, 3, ROWS, TILE), a.dtype), np.zeros((3, TILE), a.dtype)
    states = np.empty((ROWS, u), a.dtype)
    flat_states, flat_c = states.reshape(-1), c.reshape(-1)
    for s in range(S):
        for g in range(G):
            flat_weights = weights[g, s].reshape(-1)
            order = g * group + np.argsort(length[g * group : (g + 1) * group])  # rows of like lengths together
            for first in range(0, group, ROWS):
                rows = order[first : first + ROWS]
                longest = length[rows[-1]]
                states[:] = 0
                for step in range(T):
                    t = step if s == 0 else T - 1 - step
                    if t < longest:
                        product(flat_states, u, flat_weights, 3 * tiles, flat_c)
                    for r in range(len(rows)):
                        row = rows[r]
                        for i in range(u):
                            before[s, row, t, i] = states[r, i]
                        if t < length[row]:
                            _row_step(a, row, t, s, c, r, bias[g, s], x, cells, states)
                        else:
                            states[r] = 0
                        for i in range(u):
                            h[row, t, s, i] = states[r, i]


@inlined
def _row_step_gradient(grad, row, t, s, cells, before, later, r, dh, start, d, da, dc, row_dc):
    """One step of row r: da and dc; later becomes what goes to h_t-1 through z. d [4, TILE]: dr, dz, dn and dn r."""
    u, one = before.shape[3], grad.dtype.type(1)
    for v in range(len(later)):
        n, at, cell = min(TILE, u - v * TILE), v * TILE, cells[s, row, t, v]
        for j in range(n):
            dh[j] = grad[row, t, s, at + j] + later[v, r, j]
            start[j] = before[s, row, t, at + j]
        for j in range(TILE):
            reset, update, new, state = cell[0, j], cell[1, j], cell[2, j], cell[3, j]
            dn = dh[j] * (one - update) * (one - new * new)
            d[0, j] = dn * state * reset * (one - reset)
            d[1, j] = dh[j] * (start[j] - new) * update * (one - update)
            d[2, j], d[3, j] = dn, dn * reset
        for gate in range(3):
            of_c = gate + gate // 2  # of the third gate: dn for a, dn r for c
            for j in range(n):
                da[row, t, s, gate * u + at + j] = d[gate, j]
                dc[s, row, t, gate * u + at + j] = d[of_c, j]
                row_dc[r, gate * u + at + j] = d[of_c, j]
        for j in range(TILE):
            later[v, r, j] = dh[j] * cell[1, j]


@compiled
def _steps_gradient(grad, weights, length, before, cells, da, dc):
    S, B, T, u = before.shape
    G, tiles = len(weights), cells.shape[3]
    group = B // G
    c, later = np.empty((tiles, ROWS, TILE), grad.dtype), np.empty((tiles, ROWS, TILE), grad.dtype)
    row_dc = np.empty((ROWS, 3 * u), grad.dtype)
    flat_c, flat_later, flat_dc = c.reshape(-1), later.reshape(-1), row_dc.reshape(-1)
    start, dh, d = np.zeros(TILE, grad.dtype), np.zeros(TILE, grad.dtype), np.empty((4, TILE), grad.dtype)
    for s in range(S):
        for g in range(G):
            flat_weights = weights[g, s].reshape(-1)
            order = g * group + np.argsort(length[g * group : (g + 1) * group])  # rows of like lengths together
            for first in range(0, group, ROWS):
                rows = order[first : first + ROWS]
                longest = length[rows[-1]]
                later[:] = 0
                row_dc[:] = 0
                for step in range(T):
                    t = T - 1 - step if s == 0 else step
                    for r in range(len(rows)):
                        row = rows[r]
                        if t < length[row]:
                            _row_step_gradient(grad, row, t, s, cells, before, later, r, dh, start, d, da, dc, row_dc)
                            continue
                        later[:, r] = 0
                        for i in range(3 * u):
                            da[row, t, s, i] = dc[s, row, t, i] = row_dc[r, i] = 0
                    if t < longest:
                        product(flat_dc, 3 * u, flat_weights, tiles, flat_c)  # through W
                        for i in range(len(flat_c)):
                            flat_later[i] += flat_c[i]
