"""Products with a skinny matrix, such as a batch of ten rows: what BLAS does at half its speed or less.

One load of a row of weights serves five rows of the batch, and each load of the batch two rows of weights; what is
summed stays in registers. Weights are read once and their gradient is written once; long rows meet few weights by
pieces. The order of every sum depends on the shapes alone, and nothing is skipped for being zero, so that a NaN or an
infinity always comes out again.

What is to be worked on next can be fetched from memory meanwhile, a share beside each piece: all at once would keep the
second-level cache from answering.
"""

# fetching.py cf06c7c622e4
# links.py cd66843bcde0

from numba import njit

from psopt.problems.kernels.fetching import fetch
from psopt.problems.kernels.links import FAST

SKINNY = 16  # rows of the batch, or of the weights, up to which these kernels are the fastest
_PIECE_NBYTES = 3200  # of a row: five rows and two of weights fit the first-level cache


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def cut(X, H, times, ahead):
    """Columns of the pieces that rows of X are cut into, and elements of ``ahead`` to fetch beside each piece.

    Parameters
    ----------
    X : ndarray, shape (any, d)
    H : int
        Rows of weights; a large matrix of them streams faster by whole rows.
    times : int
        How often each piece of five rows meets two of weights.
    ahead : ndarray
    """
    pieces = max(1, -(-X.shape[1] * X.itemsize // _PIECE_NBYTES)) if H <= SKINNY else 1
    width = 8 * max(1, -(-X.shape[1] // (8 * pieces)))
    lines = -(-ahead.size // max(1, times * pieces * 16))
    return width, 16 * lines


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def rows_by_rows(X, W, out, ahead):
    """out[b, h] <- x_b.w_h, that is X W^T.

    Parameters
    ----------
    X : ndarray, shape (B, d), C-contiguous
    W : ndarray, shape (H, d), C-contiguous
    out : ndarray, shape (B, H)
    ahead : ndarray, shape (any, d), C-contiguous
        Rows to `fetch` meanwhile.
    """
    B, H = X.shape[0], W.shape[0]
    d = W.shape[1]
    fives, pairs = B - B % 5, H - H % 2
    zero = out.dtype.type(0)
    width, share = cut(W, H, fives * pairs // 10, ahead)
    at = 0
    out[:fives, :pairs] = zero
    for start in range(0, d, width):
        stop = min(start + width, d)
        b = h = 0
        for _ in range(fives * pairs // 10):
            fetch(ahead, at, at + share)
            at += share
            x0, x1, x2 = X[b, start:stop], X[b + 1, start:stop], X[b + 2, start:stop]
            x3, x4 = X[b + 3, start:stop], X[b + 4, start:stop]
            u, v = W[h, start:stop], W[h + 1, start:stop]
            r0 = r1 = r2 = r3 = r4 = s0 = s1 = s2 = s3 = s4 = zero
            for j in range(u.size):
                p, q = u[j], v[j]
                r0 += x0[j] * p
                s0 += x0[j] * q
                r1 += x1[j] * p
                s1 += x1[j] * q
                r2 += x2[j] * p
                s2 += x2[j] * q
                r3 += x3[j] * p
                s3 += x3[j] * q
                r4 += x4[j] * p
                s4 += x4[j] * q
            g = h + 1
            out[b, h] += r0
            out[b, g] += s0
            out[b + 1, h] += r1
            out[b + 1, g] += s1
            out[b + 2, h] += r2
            out[b + 2, g] += s2
            out[b + 3, h] += r3
            out[b + 3, g] += s3
            out[b + 4, h] += r4
            out[b + 4, g] += s4
            # Few weights stay in the cache and rows come once; otherwise rows stay and weights come once.
            if H <= SKINNY:
                h += 2
                if h == pairs:
                    b, h = b + 5, 0
            else:
                b += 5
                if b == fives:
                    b, h = 0, h + 2
    for h in range(0, pairs, 2):
        u, v = W[h], W[h + 1]
        for b in range(fives, B):
            x = X[b]
            r = s = zero
            for j in range(u.size):
                r += x[j] * u[j]
                s += x[j] * v[j]
            out[b, h], out[b, h + 1] = r, s
    if H % 2:
        u = W[H - 1]
        for b in range(B):
            x = X[b]
            r = zero
            for j in range(u.size):
                r += x[j] * u[j]
            out[b, H - 1] = r


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def weighted_sums(D, X, out, fresh, ahead):
    """out[h] <- sum_b D[b, h] x_b, that is D^T X, for ``fresh``; otherwise that is added to ``out``.

    Parameters
    ----------
    D : ndarray, shape (B, H)
    X : ndarray, shape (B, d), C-contiguous
    out : ndarray, shape (H, d), C-contiguous
    fresh : bool
    ahead : ndarray, shape (any, d), C-contiguous
        Rows to `fetch` meanwhile.
    """
    B, H = D.shape
    fives = B - B % 5
    d = X.shape[1]
    width, share = cut(X, H, fives * (H - H % 2) // 10, ahead)
    at = 0
    if fresh and not fives:
        out[:] = 0
    for h in range(0, H - 1, 2):
        for b in range(0, fives, 5):
            r0, r1, r2, r3, r4 = D[b, h], D[b + 1, h], D[b + 2, h], D[b + 3, h], D[b + 4, h]
            g = h + 1
            s0, s1, s2, s3, s4 = D[b, g], D[b + 1, g], D[b + 2, g], D[b + 3, g], D[b + 4, g]
            for start in range(0, d, width):
                fetch(ahead, at, at + share)
                at += share
                stop = min(start + width, d)
                x0, x1, x2 = X[b, start:stop], X[b + 1, start:stop], X[b + 2, start:stop]
                x3, x4 = X[b + 3, start:stop], X[b + 4, start:stop]
                u, v = out[h, start:stop], out[g, start:stop]
                if fresh and b == 0:
                    for j in range(u.size):
                        y0, y1, y2, y3, y4 = x0[j], x1[j], x2[j], x3[j], x4[j]
                        u[j] = r0 * y0 + r1 * y1 + r2 * y2 + r3 * y3 + r4 * y4
                        v[j] = s0 * y0 + s1 * y1 + s2 * y2 + s3 * y3 + s4 * y4
                else:
                    for j in range(u.size):
                        y0, y1, y2, y3, y4 = x0[j], x1[j], x2[j], x3[j], x4[j]
                        u[j] += r0 * y0 + r1 * y1 + r2 * y2 + r3 * y3 + r4 * y4
                        v[j] += s0 * y0 + s1 * y1 + s2 * y2 + s3 * y3 + s4 * y4
        u, v = out[h], out[h + 1]
        for b in range(fives, B):
            x, r, s = X[b], D[b, h], D[b, h + 1]
            for j in range(u.size):
                u[j] += r * x[j]
                v[j] += s * x[j]
    if H % 2:
        u = out[H - 1]
        if fresh and fives:
            u[:] = 0
        for b in range(B):
            x, r = X[b], D[b, H - 1]
            for j in range(u.size):
                u[j] += r * x[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def rows_by_columns(D, W, out):
    """out[b] <- sum_h D[b, h] w_h, that is D W.

    Parameters
    ----------
    D : ndarray, shape (B, H)
    W : ndarray, shape (H, d), C-contiguous
    out : ndarray, shape (B, d), C-contiguous
    """
    B, H = D.shape
    fives = H - H % 5
    for b in range(0, B - 1, 2):
        u, v, r, s = out[b], out[b + 1], D[b], D[b + 1]
        u[:] = 0
        v[:] = 0
        for h in range(0, fives, 5):
            w0, w1, w2, w3, w4 = W[h], W[h + 1], W[h + 2], W[h + 3], W[h + 4]
            r0, r1, r2, r3, r4 = r[h], r[h + 1], r[h + 2], r[h + 3], r[h + 4]
            s0, s1, s2, s3, s4 = s[h], s[h + 1], s[h + 2], s[h + 3], s[h + 4]
            for j in range(u.size):
                y0, y1, y2, y3, y4 = w0[j], w1[j], w2[j], w3[j], w4[j]
                u[j] += r0 * y0 + r1 * y1 + r2 * y2 + r3 * y3 + r4 * y4
                v[j] += s0 * y0 + s1 * y1 + s2 * y2 + s3 * y3 + s4 * y4
        for h in range(fives, H):
            w, p, q = W[h], r[h], s[h]
            for j in range(u.size):
                u[j] += p * w[j]
                v[j] += q * w[j]
    if B % 2:
        u, r = out[B - 1], D[B - 1]
        u[:] = 0
        for h in range(H):
            w, p = W[h], r[h]
            for j in range(u.size):
                u[j] += p * w[j]
