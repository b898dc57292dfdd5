"""Standard normal numbers of a sample, by its number: the same sample, the same numbers, and nothing is remembered.

SplitMix64's mixing of (sample, pair) gives 64 bits, and these, by Box and Muller, two normals: the upper half makes the
radius, the lower one the angle. The loop has no branch and no libm call, so that LLVM makes vectors of it. Logarithm,
sine and cosine are polynomials through Chebyshev's points, off by less than 3e-10; no normal exceeds 6.77.
"""

# links.py cd66843bcde0

import numpy as np
from numba import njit

from psopt.problems.kernels.links import FAST

# Unsigned throughout: Numba makes a float of an int64 and a uint64, and AVX2 has no arithmetic shift of 64 bits.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32, _52 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32), np.uint64(52)

_ONE = np.uint64(0x3FF0000000000000)  # the bits of 1.0
_SIGN = np.uint64(0x8000000000000000)
_EXPONENT = np.uint64(0x7FF0000000000000)
_FROM_ROOT = np.uint64(0x00095F6200000000)  # the bits of 1.0 less those of 0.70710659, just below sqrt(1/2)
_HALF_20, _20 = np.uint64(1 << 19), np.uint64(20)
_LOWER, _HALF_21, _21 = np.uint64(0x7FFFFFFF), np.uint64(1 << 20), np.uint64(21)
_INTEGER = np.uint64(0x4330000000000000)  # the bits of 2^52: those of 2^52 + k are these and k
_BIASED = 4503599627370496.0 + 1023.0
_MINUS_2_LN2 = -1.3862943611198906


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def mix(bits):
    """SplitMix64's mixing of 64 bits, uint64: every bit in changes each bit out with probability 1/2."""
    bits = (bits ^ (bits >> _30)) * _FIRST
    bits = (bits ^ (bits >> _27)) * _SECOND
    return bits ^ (bits >> _31)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def minus_two_log(u):
    """-2 log(u) for 2^-33 <= u < 1, float64, above zero.

    u = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2): near u = 1 there is no k, and so nothing is cancelled.
    """
    bits = np.float64(u).view(np.uint64)
    power = (bits + _FROM_ROOT) & _EXPONENT
    f = np.uint64(bits - power + _ONE).view(np.float64) - 1.0
    k = np.uint64((power >> _52) | _INTEGER).view(np.float64) - _BIASED
    f2 = f * f
    f4 = f2 * f2
    p01 = -2.000000000096024 + f * 1.0000000061691077
    p23 = -0.6666666169256104 + f * 0.49999873171629633
    p45 = -0.4000033927588508 + f * 0.3334076730475459
    p67 = -0.28567596790540506 + f * 0.24821771331922843
    p89 = -0.22085472079438018 + f * 0.21796225155754365
    pab = -0.21273084751159907 + f * 0.11691342670179275
    p = (p01 + f2 * p23) + f4 * ((p45 + f2 * p67) + f4 * (p89 + f2 * pab))
    return k * _MINUS_2_LN2 + f * p


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def pair(state):
    """Two independent standard normals, float64, from a state of 64 bits, uint64."""
    bits = mix(state)
    u = np.uint64(((bits >> _32) << _20) | _HALF_20 | _ONE).view(np.float64) - 1.0  # (upper + 1/2) / 2^32
    radius = np.sqrt(minus_two_log(u))
    # half a turn by 31 bits, -1/2 < x < 1/2; the 32nd is the sign of both, which makes it a whole turn
    x = np.uint64(((bits & _LOWER) << _21) | _HALF_21 | _ONE).view(np.float64) - 1.5
    signed = np.uint64(np.float64(radius).view(np.uint64) | ((bits << _32) & _SIGN)).view(np.float64)
    w = x * x
    w2 = w * w
    s01 = 3.141592653536132 + w * -5.167712764593
    s23 = 2.550163317938427 + w * -0.599252186531583
    s45 = 0.08205035020147247 + w * -0.007028303855203096
    c01 = 0.999999999779154 + w * -4.934802136928946
    c23 = 4.058709154763134 + w * -1.3352119493905503
    c45 = 0.2349370685950865 + w * -0.024395932097550446
    sine = x * (s01 + w2 * (s23 + w2 * s45))
    cosine = c01 + w2 * (c23 + w2 * c45)
    return signed * cosine, signed * sine


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def sum_normals(rows, first, second):
    """first[j], second[j] <- the two normals of pair j, summed over the samples ``rows``.

    Parameters
    ----------
    rows : ndarray, shape (B,), int64
    first, second : ndarray, shape (pairs,), float64
        Pair j is the same however many there are.
    """
    first[:] = 0.0
    second[:] = 0.0
    for b in range(rows.size):
        state = mix(np.uint64(rows[b]) * _GOLDEN)
        for j in range(first.size):
            one, other = pair(state)
            state += _GOLDEN
            first[j] += one
            second[j] += other
