"""The steps of a GRU on a CPU; `plain` says the same in PyTorch.

S = 2 directions: the first runs ahead in time, the second back. Rows of B belong to G runs with weights of their own.
"""

from __future__ import annotations

import numpy as np

from mmer_core.kernels.tiles import LANES, ROWS, TILE, compiled, exp, inlined, product


@inlined
def _gates(W, units, out):
    """out [tiles, 3, u, TILE] = the transpose of W [3u, u], each gate in tiles of its own; zero beyond the units."""
    u = W.shape[1]
    for v in range(-(-units // TILE)):
        for g in range(3):
            for k in range(u):
                for j in range(TILE):
                    i = v * TILE + j
                    out[((v * 3 + g) * u + k) * TILE + j] = W[g * units + i, k] if i < units else 0


@inlined
def _copy(x, first, out, at, n):
    """n numbers; a loop, because numba takes ten times as long to assign a slice."""
    x, out = x[first : first + n], out[at : at + n]
    for j in range(n):
        out[j] = x[j]


@inlined
def _step(x, c, b, v, r, h, at, cell, n):
    """Tile v of row r: x [3, TILE], c [.., 3, ROWS, TILE] = W h, b [.., 3, TILE]; cell [4, TILE] gets r, z, n, c_n."""
    c, b, h = c[(v * 3 * ROWS + r) * TILE :], b[v * 3 * TILE :], h[at : at + n]
    one = x.dtype.type(1)  # a plain 1 would make float64 of float32
    for j in range(TILE):
        reset = one / (one + exp(-(x[j] + c[j] + b[j])))
        update = one / (one + exp(-(x[TILE + j] + c[LANES + j] + b[TILE + j])))
        state = c[2 * LANES + j] + b[2 * TILE + j]
        twice = x[2 * TILE + j] + reset * state
        twice += twice
        new = one - (one + one) / (one + exp(twice))  # tanh
        cell[j] = reset
        cell[TILE + j] = update
        cell[2 * TILE + j] = new
        cell[3 * TILE + j] = state
    for j in range(n):
        h[j] = cell[2 * TILE + j] + cell[TILE + j] * (h[j] - cell[2 * TILE + j])


@compiled
def steps(a, W, b, length, h, before, cells):
    """h [B, T, S, u] from a [B, T, S, 3u], W [G, S, 3u, u], b [G, S, 3u].

    Kept for the gradient: before [S, B, T, u], the state that each step starts from; cells [S, B, T, tiles, 4, TILE].
    """
    B, T, S, u = h.shape
    G, tiles = len(W), cells.shape[3]
    group = B // G
    w, bias = np.empty(tiles * 3 * u * TILE, a.dtype), np.zeros(tiles * 3 * TILE, a.dtype)
    c, x = np.empty(tiles * 3 * LANES, a.dtype), np.zeros(3 * TILE, a.dtype)
    state, flat_a, flat_h = np.empty(ROWS * u, a.dtype), a.reshape(-1), h.reshape(-1)
    flat_before, flat_cells = before.reshape(-1), cells.reshape(-1)
    for s in range(S):
        for g in range(G):
            _gates(W[g, s], u, w)
            for i in range(3 * u):
                bias[((i % u) // TILE * 3 + i // u) * TILE + i % u % TILE] = b[g, s, i]
            order = g * group + np.argsort(length[g * group : (g + 1) * group])  # rows of like lengths together
            for first in range(0, group, ROWS):
                rows = min(ROWS, group - first)
                longest = length[order[first + rows - 1]]
                state[:] = 0
                for step in range(T):
                    t = step if s % 2 == 0 else T - 1 - step
                    if t < longest:
                        product(state, u, w, tiles * 3, c)
                    for r in range(rows):
                        row = order[first + r]
                        _copy(state, r * u, flat_before, ((s * B + row) * T + t) * u, u)
                        at = (row * T + t) * S + s
                        if t >= length[row]:
                            state[r * u : (r + 1) * u] = 0
                            _copy(state, r * u, flat_h, at * u, u)
                            continue
                        for v in range(tiles):
                            n = min(TILE, u - v * TILE)
                            for gate in range(3):
                                _copy(flat_a, (at * 3 + gate) * u + v * TILE, x, gate * TILE, n)
                            cell = (((s * B + row) * T + t) * tiles + v) * 4 * TILE
                            _step(x, c, bias, v, r, state, r * u + v * TILE, flat_cells[cell : cell + 4 * TILE], n)
                        _copy(state, r * u, flat_h, at * u, u)


@inlined
def _step_gradient(cell, dh, before, d):
    """d [4, TILE]: gradients of the arguments of r, z, n and of W_n h + b_n, from dh = dL/dh_t [TILE]."""
    one = dh.dtype.type(1)
    for j in range(TILE):
        reset, update, new, state = cell[j], cell[TILE + j], cell[2 * TILE + j], cell[3 * TILE + j]
        dn = dh[j] * (one - update) * (one - new * new)  # h = n + z (h' - n), n = tanh(a_n + r c_n)
        d[j] = dn * state * reset * (one - reset)  # of the argument of r: r' = r (1 - r)
        d[TILE + j] = dh[j] * (before[j] - new) * update * (one - update)  # of the argument of z
        d[2 * TILE + j] = dn  # of a_n
        d[3 * TILE + j] = dn * reset  # of c_n


@compiled
def steps_gradient(grad, W, length, before, cells, da, dc):
    """da [B, T, S, 3u] and dc [S, B, T, 3u], the gradient of W h + b, from grad = dL/dh [B, T, S, u]."""
    S, B, T, u = before.shape
    G, tiles = len(W), cells.shape[3]
    group = B // G
    w, c = np.empty(tiles * 3 * u * TILE, grad.dtype), np.empty(tiles * LANES, grad.dtype)
    later, x = np.empty(ROWS * tiles * TILE, grad.dtype), np.empty(ROWS * 3 * u, grad.dtype)
    start, dh, d = np.zeros(TILE, grad.dtype), np.zeros(TILE, grad.dtype), np.empty(4 * TILE, grad.dtype)
    flat_grad, flat_before, flat_cells = grad.reshape(-1), before.reshape(-1), cells.reshape(-1)
    flat_da, flat_dc = da.reshape(-1), dc.reshape(-1)
    for s in range(S):
        for g in range(G):
            for v in range(tiles):  # W [3u, u] in tiles of its columns
                for i in range(3 * u):
                    for j in range(TILE):
                        k = v * TILE + j
                        w[(v * 3 * u + i) * TILE + j] = W[g, s, i, k] if k < u else 0
            order = g * group + np.argsort(length[g * group : (g + 1) * group])  # rows of like lengths together
            for first in range(0, group, ROWS):
                rows = min(ROWS, group - first)
                longest = length[order[first + rows - 1]]
                later[:] = 0  # what step t + 1 hands back to h_t
                x[:] = 0
                for step in range(T):
                    t = T - 1 - step if s % 2 == 0 else step
                    for r in range(rows):
                        row = order[first + r]
                        at, kept = (row * T + t) * S + s, (s * B + row) * T + t
                        if t >= length[row]:
                            x[r * 3 * u : (r + 1) * 3 * u] = 0
                            later[r * tiles * TILE : (r + 1) * tiles * TILE] = 0
                            _copy(x, r * 3 * u, flat_da, at * 3 * u, 3 * u)
                            _copy(x, r * 3 * u, flat_dc, kept * 3 * u, 3 * u)
                            continue
                        for v in range(tiles):
                            n = min(TILE, u - v * TILE)
                            cell = flat_cells[(kept * tiles + v) * 4 * TILE : (kept * tiles + v + 1) * 4 * TILE]
                            hand = later[(r * tiles + v) * TILE :]
                            _copy(flat_grad, at * u + v * TILE, dh, 0, n)
                            _copy(flat_before, kept * u + v * TILE, start, 0, n)
                            for j in range(n):
                                dh[j] += hand[j]
                            _step_gradient(cell, dh, start, d)
                            for gate in range(3):
                                of_c = gate + gate // 2  # of the third gate: dn for a, dn r for c
                                _copy(d, gate * TILE, flat_da, (at * 3 + gate) * u + v * TILE, n)
                                _copy(d, of_c * TILE, flat_dc, (kept * 3 + gate) * u + v * TILE, n)
                                _copy(d, of_c * TILE, x, (r * 3 + gate) * u + v * TILE, n)
                            for j in range(TILE):
                                hand[j] = dh[j] * cell[TILE + j]  # through z
                    if t >= longest:
                        continue
                    product(x, 3 * u, w, tiles, c)  # through W
                    for r in range(rows):
                        for v in range(tiles):
                            hand, more = later[(r * tiles + v) * TILE :], c[(v * ROWS + r) * TILE :]
                            for j in range(TILE):
                                hand[j] += more[j]
