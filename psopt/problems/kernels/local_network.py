"""Many local steps of a network in one call: gather the batch's rows, pass them through, move theta.

Step s moves theta by a `steps.Rule` with step size step_sizes[s], along

    g = weight / B * sum of the gradients of loss(scores(x_i), y_i) + l2 theta

over the B samples i in rows[ends[s]:ends[s + 1]]. What has a path of its own is plain descent without l2, where the
gradient is added to theta as it is found and g is not written down: one pass over theta less to write, and two to read.
Nothing is checked but the loss: where it is not finite all of theta is NaN, and the walk is over.
"""

# links.py cd66843bcde0
# network.py d29731497d71
# rows.py 5b901b9f5cc3
# steps.py 0fa249932d84
# vector.py ee57d9191f88

import math

import numpy as np
from numba import njit

from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.network import network_pass
from psopt.problems.kernels.rows import take_csr, take_dense
from psopt.problems.kernels.steps import DESCENT, move
from psopt.problems.kernels.vector import regularise


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def goes_straight(rule, count, l2, room):
    """Whether a step adds its gradient to theta as it is found: a second block of samples would need the old theta."""
    return rule[0] == DESCENT and l2 == 0.0 and count <= room[1].size


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def pass_rows(labels, net, theta, rows, weight, room, out, fresh):
    """The summed losses of ``rows``, which lie in the room's panel, and their gradient, as `network_pass` gives it."""
    panel, own, up, down, unused = room
    for b in range(rows.size):
        own[b] = labels[rows[b]]
    X, chosen = panel[: rows.size], own[: rows.size]
    kind, widths, bias = net
    return network_pass(kind, widths, bias, theta, X, chosen, weight, up, down, unused, out, fresh, panel[:0])[0]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def finish_step(rule, theta, loss, step_size, l2, g, straight):
    """What is left of a step once its gradient is known; returns whether the walk goes on."""
    kind, coefficients, moments, count = rule
    if not math.isfinite(loss):
        theta[:] = np.nan
        return False
    if straight:
        count[0] += 1
        return True
    if l2 != 0.0:
        regularise(theta, 1.0, l2, g)
    move(kind, coefficients, moments, count, theta, g, step_size)
    return True


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def dense_network_steps(X, labels, net, rule, theta, rows, ends, step_sizes, weight, l2, g, room):
    """Local steps with dense features.

    Parameters
    ----------
    X : ndarray, shape (n, d), C-contiguous
    labels : ndarray, shape (n,), int64
    net : tuple
        kind, widths and bias, as `network_pass` takes them.
    rule : tuple
        The fields of a `steps.Rule`; its moments and its count are written into.
    theta : ndarray, shape (dim,); written into
    rows : ndarray, shape (total,), int64
    ends : ndarray, shape (steps + 1,), int64, from 0 to total; no step is without samples
    step_sizes : ndarray, shape (steps,), float64
    weight, l2 : float
        What multiplies the mean over a batch, and theta.
    g : ndarray, shape (dim,), the dtype of theta; overwritten
    room : tuple; overwritten
        panel, shape (block, d), the dtype of theta; labels, shape (block,), int64; and ``up``, ``down`` and ``unused``
        of `network_pass` for ``block`` rows. Larger batches go by blocks.
    """
    panel, block = room[0], room[1].size
    for s in range(step_sizes.size):
        batch = rows[ends[s] : ends[s + 1]]
        straight = goes_straight(rule, batch.size, l2, room)
        by = weight / batch.size * (-step_sizes[s] if straight else 1.0)
        loss = 0.0
        for start in range(0, batch.size, block):
            some = batch[start : start + block]
            take_dense(X, some, panel)
            fresh = start == 0 and not straight
            loss += pass_rows(labels, net, theta, some, by, room, theta if straight else g, fresh)
        if not finish_step(rule, theta, loss, step_sizes[s], l2, g, straight):
            return


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def csr_network_steps(data, indices, indptr, labels, net, rule, theta, rows, ends, step_sizes, weight, l2, g, room):
    """The same for the CSR matrix that `csr_value` takes, made dense block by block."""
    panel, block = room[0], room[1].size
    for s in range(step_sizes.size):
        batch = rows[ends[s] : ends[s + 1]]
        straight = goes_straight(rule, batch.size, l2, room)
        by = weight / batch.size * (-step_sizes[s] if straight else 1.0)
        loss = 0.0
        for start in range(0, batch.size, block):
            some = batch[start : start + block]
            take_csr(data, indices, indptr, some, panel[: some.size])
            fresh = start == 0 and not straight
            loss += pass_rows(labels, net, theta, some, by, room, theta if straight else g, fresh)
        if not finish_step(rule, theta, loss, step_sizes[s], l2, g, straight):
            return
