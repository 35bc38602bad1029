"""Three products of matrices for the compiled kernels, with one thread.

Rows are worked on ROWS at a time, and along a row in tiles of TILE numbers: then every inner loop has a constant
length and constant distances, and the compiler turns it into full vectors. A tile of weights or scores is used while it
lies in the cache, and nothing of the size queries x keys is ever stored. Shapes say how numbers lie; the arrays are
flat, since products of shaped ones took a third longer.
"""

from mmer_core.kernels.machinery import inlined

TILE, ROWS = 64, 4
BLOCK = ROWS * TILE
NARROW = 16  # tile of a product whose rows are as short as one head


@inlined
def tile(flat, i):
    """The i-th TILE numbers of a flat buffer."""
    return flat[i * TILE : (i + 1) * TILE]


@inlined
def _four(x, at, step):
    return x[at], x[at + step], x[at + 2 * step], x[at + 3 * step]


@inlined
def _add(a, b, c, d, p, gap, out, width):
    """out [4, width] += the matrix of the rows a, b, c, d times four rows of p, which are `gap` numbers apart."""
    (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3) = a, b, c, d
    for j in range(width):
        p0, p1, p2, p3 = p[j], p[gap + j], p[2 * gap + j], p[3 * gap + j]
        out[j] += a0 * p0 + a1 * p1 + a2 * p2 + a3 * p3
        out[width + j] += b0 * p0 + b1 * p1 + b2 * p2 + b3 * p3
        out[2 * width + j] += c0 * p0 + c1 * p1 + c2 * p2 + c3 * p3
        out[3 * width + j] += d0 * p0 + d1 * p1 + d2 * p2 + d3 * p3


@inlined
def product(x, e, y, tiles, out):
    """out [tiles, ROWS, TILE] = x [ROWS, e] times y [tiles, e, TILE]; four terms of the sum at a time."""
    for t in range(tiles):
        o = out[t * BLOCK : (t + 1) * BLOCK]
        o[:] = 0
        for c in range(0, e - 3, 4):
            p = y[(t * e + c) * TILE : (t * e + c + 4) * TILE]
            _add(_four(x, c, 1), _four(x, e + c, 1), _four(x, 2 * e + c, 1), _four(x, 3 * e + c, 1), p, TILE, o, TILE)
        for c in range(e - e % 4, e):
            p = tile(y, t * e + c)
            for r in range(ROWS):
                w = x[r * e + c]
                for j in range(TILE):
                    o[r * TILE + j] += w * p[j]


@inlined
def add_transposed_product(x, e, s, tiles, out):
    """out [tiles, e, TILE] += the transpose of x [ROWS, e] times s [tiles, ROWS, TILE]."""
    for t in range(tiles):
        p = s[t * BLOCK : (t + 1) * BLOCK]
        for c in range(0, e - 3, 4):
            o = out[(t * e + c) * TILE : (t * e + c + 4) * TILE]
            _add(_four(x, c, e), _four(x, c + 1, e), _four(x, c + 2, e), _four(x, c + 3, e), p, TILE, o, TILE)
        for c in range(e - e % 4, e):
            o = tile(out, t * e + c)
            a0, a1, a2, a3 = _four(x, c, e)
            for j in range(TILE):
                o[j] += a0 * p[j] + a1 * p[TILE + j] + a2 * p[2 * TILE + j] + a3 * p[3 * TILE + j]


@inlined
def narrow_product(s, n, y, blocks, out):
    """out [blocks, ROWS, NARROW] = s [tiles, ROWS, TILE] times y [n + 3, blocks, NARROW], zero from row n on."""
    for w in range(blocks):
        o = out[w * ROWS * NARROW : (w + 1) * ROWS * NARROW]
        o[:] = 0
        for k in range(0, n, 4):
            x, p = s[k // TILE * BLOCK + k % TILE :], y[(k * blocks + w) * NARROW :]
            rows = _four(x, 0, 1), _four(x, TILE, 1), _four(x, 2 * TILE, 1), _four(x, 3 * TILE, 1)
            _add(rows[0], rows[1], rows[2], rows[3], p, blocks * NARROW, o, NARROW)
