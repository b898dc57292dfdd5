"""Rows through a whole network and back by `tiles`, which takes what BLAS is slow at: batches of tens or hundreds.

Activations and derivatives are held transposed, in strips: for each run of rows a line long, unit 0 of all of them,
then unit 1, ... So the rows of weights are the rows of every tile, and what comes out of one layer goes into the next.
"""

# links.py cd66843bcde0
# layers.py 70459b2614aa
# softmax.py a6f60dbd66bb
# tiles.py 729f16a8d33e

import numpy as np
from numba import njit

from psopt.problems.kernels.layers import LINEAR, RELU, tanh
from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.softmax import settle_softmax
from psopt.problems.kernels.tiles import line_of, multiply, strips_of_columns, strips_of_rows


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _activate(kind, Z, bias, line):
    """`layers.activate` for strips of all units, each a line after the other."""
    zero = Z.dtype.type(0)
    poison = zero
    for start in range(0, Z.size, bias.size * line):
        for h in range(bias.size):
            z, b = Z[start + h * line : start + (h + 1) * line], bias[h]
            if kind == RELU:
                for c in range(z.size):
                    value = z[c] + b
                    poison += value * zero
                    z[c] = zero if value < zero else value
            else:
                for c in range(z.size):
                    value = z[c] + b
                    poison += value * zero
                    z[c] = tanh(np.float64(value))
    return np.float64(poison)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _descend(kind, A, D, B, out, fresh, turned):
    """`layers.descend_layer` for strips; ``turned`` gets D as rows of units, each as long as the strips together."""
    zero, one = D.dtype.type(0), D.dtype.type(1)
    line, units = line_of(D), out.size
    length = -(-B // line) * line
    for h in range(units):
        total = zero
        for first in range(0, B, line):
            at = first * units + h * line
            d, place = D[at : at + line], turned[h * length + first : h * length + first + line]
            if kind == RELU:
                a = A[at : at + line]
                for c in range(d.size):
                    d[c] = d[c] if a[c] > zero else zero
            elif kind != LINEAR:
                a = A[at : at + line]
                for c in range(d.size):
                    d[c] = d[c] * (one - a[c] * a[c])
            for c in range(place.size):
                place[c] = d[c]
            own = d[: min(line, B - first)]
            for c in range(own.size):
                total += own[c]
        out[h] = total if fresh else out[h] + total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _turned_strips(A, units, B, out):
    """`strips_of_columns` of what is held as strips of rows."""
    line = line_of(A)
    for h in range(-(-units // line) * line):
        for first in range(0, B, line):
            place = out[(h - h % line) * B + first * line + h % line :]
            a = A[first * units + h * line : first * units + h * line + min(line, B - first)]
            for c in range(min(line, B - first)):
                place[c * line] = a[c] if h < units else 0


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _weight_gradient(turned, length, packed, B, G, inputs, units, fresh, room):
    """G <- or += D^T A, where ``packed`` has A by `strips_of_columns`; ``room`` has a line for each unit."""
    line = line_of(G)
    whole = inputs // line
    multiply(turned, length, 1, units, B, packed, whole, G, inputs, line, fresh)
    rest = inputs - whole * line
    if rest:
        multiply(turned, length, 1, units, B, packed[whole * B * line :], 1, room, line, 0, True)
        for h in range(units):
            g, found = G[h * inputs + whole * line : (h + 1) * inputs], room[h * line : h * line + rest]
            for c in range(g.size):
                g[c] = found[c] if fresh else g[c] + found[c]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def tiled_pass(kind, widths, bias, theta, X, labels, weight, scores, up, down, turned, packed, unused, out, fresh):
    """The summed losses of the rows X, the number of right predictions, and the gradient times ``weight``.

    With B rows, L the elements of a `line_of` theta, and B' the next multiple of L:

    Parameters
    ----------
    kind, widths, bias, theta, X, labels, weight, unused, out, fresh
        As `network.network_pass` takes them.
    scores : ndarray, shape (B, classes) or longer
        Overwritten, as are the following ones, all flat.
    up : ndarray, shape (B' times the sum of widths[1:],) or longer
    down : ndarray, shape (2, B' times the largest of widths[1:]) or longer
    turned : ndarray, shape (B' times the largest of widths[1:],) or longer
    packed : ndarray, shape (B' times the largest of widths[:-1], that being rounded up to a multiple of L,) or longer
    """
    B, layers, line = X.shape[0], widths.size - 1, line_of(theta)
    strips = -(-B // line)
    length = strips * line
    classes = widths[layers]
    poison = 0.0
    strips_of_rows(X, packed)
    below = packed
    place = first = 0
    for layer in range(layers):
        inputs, units = widths[layer], widths[layer + 1]
        z = up[first : first + length * units]
        first += z.size
        multiply(theta[place:], inputs, 1, units, inputs, below, strips, z, line, units * line, True)
        place += units * inputs
        b = theta[place : place + units] if bias else unused[:units]
        if bias:
            place += units
        else:
            b[:] = 0
        if layer < layers - 1:
            poison += _activate(kind, z, b, line)
        below = z
    own = scores[:B]
    for i in range(B):
        for k in range(classes):
            own[i, k] = z[(i - i % line) * classes + k * line + i % line]
    loss, right = settle_softmax(own, b, labels, weight)
    if out.size == 0:
        return loss + poison, right
    d = down[0, : length * classes]
    d[:] = 0
    for i in range(B):
        for k in range(classes):
            d[(i - i % line) * classes + k * line + i % line] = own[i, k]
    bend = np.int64(LINEAR)  # the type of `kind`: else Numba would compile `_descend` twice
    for layer in range(layers - 1, -1, -1):
        inputs, units = widths[layer], widths[layer + 1]
        first -= length * units
        a = up[first : first + length * units]
        if bias:
            place -= units
            g = out[place : place + units]
        else:
            g = unused[:units]
        place -= units * inputs
        _descend(bend, a, d, B, g, fresh, turned)
        if layer > 0:
            d_below = down[(layers - layer) % 2, : length * inputs]
            # before the gradient is written, which may be where the weights are
            multiply(theta[place:], 1, inputs, inputs, units, d, strips, d_below, line, inputs * line, True)
            _turned_strips(up[first - length * inputs : first], inputs, B, packed)
        else:
            strips_of_columns(X, packed)
            d_below = d
        _weight_gradient(
            turned, length, packed, B, out[place:], inputs, units, fresh, up[first : first + length * units]
        )
        bend, d = kind, d_below
    return loss + poison, right
