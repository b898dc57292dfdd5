"""Ascending indices packed without loss: the gaps between them, in a Rice code whose parameter fits them.

The gap before index i is what lies between it and the one before it, g = i - before - 1. Its b low bits come in a field
of b bits, its high part q = g >> b as q zeros and a one. All fields come first, then all high parts, lowest bit first,
in words of 64 bits; what the last word has left is zero. With the fields apart from the rest, reading needs no look at
every bit (Elias 1974 and Fano 1971 split the numbers themselves so; Rice 1979 is the code of the gaps).

b is the number that makes the bits fewest, found from floor(log2((d - k) / k)) downwards or upwards. Where k of d
indices fall evenly a code takes close to the entropy (k = 0.01 d: 8.1 bits an index); where they cluster, less.
"""

import numpy as np
from numba import njit

from psopt.errors import ProtocolError

WORD_NBYTES = 8

# Numba makes float64 of int64 mixed with uint64: what meets a bit pattern below is unsigned, and so are these.
_ONE, _SIX, _WORD, _LAST = np.uint64(1), np.uint64(6), np.uint64(64), np.uint64(63)
_NONE = np.uint64(0)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

# A number whose 64 windows of six bits all differ tells from the top six of its product with 2^n what n is.
_DE_BRUIJN, _TOP_SIX = np.uint64(0x03F79D71B4CB0A89), np.uint64(58)
_PLACE = np.zeros(64, np.uint64)
_PLACE[[((1 << n) * int(_DE_BRUIJN) & (2**64 - 1)) >> 58 for n in range(64)]] = np.arange(64)

_FINE, _TOO_FEW, _OUTSIDE, _LEFT_OVER = range(4)
_WRONG = {
    _TOO_FEW: "names {k} indices and holds fewer",
    _OUTSIDE: "has an index beyond {last}",
    _LEFT_OVER: "has bits left behind its last index",
}


def most_words(k: int, dim: int) -> int:
    """The most words of 64 bits that k of ``dim`` indices can take."""
    if k == 0:
        return 0
    b = _first_guess(k, dim)
    return (k * (b + 1) + ((dim - k) >> b) + 63) // 64


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _first_guess(k, dim):
    """floor(log2((d - k) / k)), or 0."""
    b = 0
    while b < 62 and (dim - k) >> (b + 1) >= k:
        b += 1
    return b


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _high_parts(indices, b):
    """The sum of g >> b."""
    total = np.int64(indices[0]) >> b
    for i in range(1, indices.size):
        total += (np.int64(indices[i]) - np.int64(indices[i - 1]) - 1) >> b
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _parameter(indices, dim):
    """b, and the bits that all codes take with it; from the first guess on they can only be fewer."""
    k = np.int64(indices.size)
    b = first = _first_guess(k, np.int64(dim))
    bits = k * (b + 1) + _high_parts(indices, b)
    for step in (-1, 1):
        while 0 <= b + step <= 62 and (step < 0 or b >= first):
            other = k * (b + step + 1) + _high_parts(indices, b + step)
            if other >= bits:
                break
            b, bits = b + step, other
    return b, bits


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def pack(indices, dim, words):
    """Write the code of ascending indices, each from 0 to ``dim`` - 1, into ``words``, uint64; returns how many words
    it takes, of at most `most_words`, and b.
    """
    if indices.size == 0:
        return 0, 0
    b, bits = _parameter(indices, dim)
    used = (bits + 63) // 64
    words[:used] = 0
    width, mask = np.uint64(b), (_ONE << np.uint64(b)) - _ONE
    field, place = _NONE, np.uint64(indices.size * b)
    before = np.int64(-1)
    for i in range(indices.size):
        gap = np.uint64(np.int64(indices[i]) - before - 1)
        before = np.int64(indices[i])
        low, shift = gap & mask, field & _LAST
        words[field >> _SIX] |= low << shift
        if shift + width > _WORD:
            words[(field >> _SIX) + _ONE] |= low >> (_WORD - shift)
        field += width
        place += gap >> width
        words[place >> _SIX] |= _ONE << (place & _LAST)
        place += _ONE
    return used, b


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _unpack(words, b, dim, indices):
    """Fill ``indices``, of which there is one at least, from the words; returns what is wrong with them.

    They come from outside: nothing is read beyond them, whatever they hold. k b + k must not be beyond 2^63.
    """
    k, width, mask = np.uint64(indices.size), np.uint64(b), (_ONE << np.uint64(b)) - _ONE
    field, place = _NONE, k * width
    if place + k > np.uint64(words.size) * _WORD:
        return _TOO_FEW
    w, last = place >> _SIX, np.uint64(words.size - 1)
    word = words[w] & (_ALL << (place & _LAST))
    highest = np.uint64(dim) >> width  # so that nothing is shifted out below
    index = np.int64(-1)
    for i in range(indices.size):
        while word == _NONE:
            if w == last:
                return _TOO_FEW
            w += _ONE
            word = words[w]
        lowest = word & (~word + _ONE)
        word ^= lowest
        here = (w << _SIX) + _PLACE[lowest * _DE_BRUIJN >> _TOP_SIX]
        high = here - place
        place = here + _ONE
        if high > highest:
            return _OUTSIDE
        shift = field & _LAST
        low = words[field >> _SIX] >> shift
        if shift + width > _WORD:
            low |= words[(field >> _SIX) + _ONE] << (_WORD - shift)
        field += width
        index += np.int64(1) + np.int64((high << width) | (low & mask))
        if index >= dim:
            return _OUTSIDE
        indices[i] = index
    return _LEFT_OVER if word != _NONE or w != last else _FINE


def unpack(words: np.ndarray, b: int, dim: int, indices: np.ndarray) -> None:
    """Read a code from the wire.

    Parameters
    ----------
    words : ndarray, uint64
        The whole code.
    b : int
        From 0 to 62.
    dim : int
        The indices are below it.
    indices : ndarray, shape (k,), int32 or int64
        Written; they ascend by construction.

    Raises
    ------
    ProtocolError
        The words are no code of k such indices.
    """
    k = indices.size
    wrong = _unpack(words, b, dim, indices) if k else (_LEFT_OVER if words.size else _FINE)
    if wrong != _FINE:
        raise ProtocolError(f"a packed sparse message {_WRONG[wrong].format(k=k, last=dim - 1)}")
