"""A few rows through a whole network and back in one call: for a batch of ten, calls from Python cost a tenth.

The same steps as `psopt.problems.perceptron` takes by tiles for many rows of wide layers.
"""

# links.py cd66843bcde0
# layers.py 70459b2614aa
# products.py 11127dfdf22e
# softmax.py a6f60dbd66bb

from numba import njit

from psopt.problems.kernels.layers import LINEAR, activate, descend_layer
from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.products import rows_by_columns, rows_by_rows, weighted_sums
from psopt.problems.kernels.softmax import settle_softmax


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def network_pass(kind, widths, bias, theta, X, labels, weight, up, down, unused, out, fresh, ahead):
    """The summed losses of the rows X, the number of right predictions, and the gradient times ``weight``.

    Parameters
    ----------
    kind : LINEAR, RELU or TANH
        Of the hidden layers.
    widths : ndarray, shape (layers + 1,), int64
        Features, units of each hidden layer, classes.
    bias : bool
        Whether theta holds a bias after each layer's weights.
    theta : ndarray, shape (dim,)
    X : ndarray, shape (B, widths[0]), C-contiguous
    labels : ndarray, shape (B,), int64
    weight : float
    up, down : ndarray, shape (B times the sum of widths[1:],) or longer
        Overwritten.
    unused : ndarray, shape (the largest of widths[1:],)
        Overwritten; stands for the biases that are missing.
    out : ndarray, shape (dim,), or (0,) to leave the gradient out
        Where it is added, theta itself will do: each layer is read for the last time before it is written.
    fresh : bool
        The gradient goes over ``out``; otherwise it is added to it.
    ahead : ndarray, shape (any, widths[0]), C-contiguous
        Rows that are fetched from memory meanwhile, those of the next pass; none where these are at hand.
    """
    B, layers = X.shape[0], widths.size - 1
    below, poison = X, 0.0
    # half of them on the way up, the others on the way down
    early = ahead.shape[0] // 2 if out.size else ahead.shape[0]
    place = first = 0  # where the layer starts in theta, and in up
    loss, right = 0.0, 0
    for layer in range(layers):
        inputs, units = widths[layer], widths[layer + 1]
        W = theta[place : place + units * inputs].reshape((units, inputs))
        place += units * inputs
        if bias:
            b = theta[place : place + units]
            place += units
        else:
            b = unused[:units]
            b[:] = 0
        z = up[first : first + B * units].reshape((B, units))
        first += B * units
        rows_by_rows(below, W, z, ahead[:early] if layer == 0 else ahead[:0])
        if layer < layers - 1:
            poison += activate(kind, z, b)
        else:
            loss, right = settle_softmax(z, b, labels, weight)
        below = z
    if out.size:
        bend, d = LINEAR, up[first - B * widths[-1] : first].reshape((B, widths[-1]))
        for layer in range(layers - 1, -1, -1):
            inputs, units = widths[layer], widths[layer + 1]
            first -= B * units
            a = up[first : first + B * units].reshape((B, units))
            if bias:
                place -= units
                g = out[place : place + units]
            else:
                g = unused[:units]
            place -= units * inputs
            W = theta[place : place + units * inputs].reshape((units, inputs))
            G = out[place : place + units * inputs].reshape((units, inputs))
            descend_layer(bend, a, d, g, fresh)
            a_below, later = X, ahead[early:]
            if layer > 0:
                under = first - B * inputs
                a_below, later = up[under:first].reshape((B, inputs)), ahead[:0]
                d_below = down[under:first].reshape((B, inputs))
                rows_by_columns(d, W, d_below)  # before G changes, which W may be
            weighted_sums(d, a_below, G, fresh, later)
            if layer > 0:
                bend, d = kind, d_below
    return loss + poison, right


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def network_blocks(kind, widths, bias, theta, X, labels, weight, block, up, down, unused, out, fresh):
    """`network_pass` over all rows of X, ``block`` at a time: hundreds of calls from Python would cost a tenth.

    Parameters
    ----------
    block : int
        Rows worked on together; ``up`` and ``down`` have room for as many.
    out : ndarray
        Not theta itself, if there is more than one block.
    """
    loss, right = 0.0, 0
    for start in range(0, X.shape[0], block):
        x, y = X[start : start + block], labels[start : start + block]
        first = fresh and start == 0
        ahead = X[start + block : start + 2 * block]
        part, hits = network_pass(kind, widths, bias, theta, x, y, weight, up, down, unused, out, first, ahead)
        loss += part
        right += hits
    return loss, right
