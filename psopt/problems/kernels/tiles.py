"""Products of matrices whose sums stay in registers: six rows of one times sixteen float32, or eight float64, of the
other at a time, a cache line.

The second factor is cut into strips one line wide, each stored as one run of memory, so that it is read straight ahead
out of the second-level cache while six rows of the first stay in the first. BLAS packs both factors at every call, and
is at half its speed or less where one has few rows. Every element is one sum, from the first term to the last, whatever
the width of the machine's vectors.
"""

# links.py cd66843bcde0

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from psopt.problems.kernels.links import FAST

ROWS = 6
LINE_NBYTES = 64
_VECTOR_NBYTES = 32  # 6 x 2 sums, two of a line and a factor take 15 of the 16 registers that AVX2 has
_PLACE = ir.IntType(64)
_NUMBER = ir.IntType(32)


def _apart(builder: Any, name: str, real: Any, body: Any) -> Any:
    """A function that LLVM leaves one: copied to wherever it is called from, it took seconds to compile."""
    found = builder.module.globals.get(name)
    if found is None:
        vector = real.as_pointer()
        kinds = [vector, *4 * [_PLACE], vector, _PLACE, vector, _PLACE, _PLACE, ir.IntType(1)]
        found = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
        found.linkage = "internal"
        found.attributes.add("noinline")
        own = ir.IRBuilder(found.append_basic_block())
        body(own, real, *found.args)
        own.ret_void()
    return found


def _products(builder: Any, real: Any, A: Any, apart: Any, step: Any, rows: Any, terms: Any, P: Any, strips: Any,
              C: Any, below: Any, beside: Any, fresh: Any) -> None:  # fmt: skip
    """`multiply`, tile by tile."""
    nbytes = 4 if isinstance(real, ir.FloatType) else 8
    line, lanes = LINE_NBYTES // nbytes, _VECTOR_NBYTES // nbytes
    vector = ir.VectorType(real, lanes)
    across = range(0, line, lanes)
    none = ir.Constant(vector, ir.Undefined)
    everywhere = ir.Constant(ir.VectorType(_NUMBER, lanes), [_NUMBER(0)] * lanes)

    def wide(pointer: Any, by: int) -> Any:
        return builder.bitcast(builder.gep(pointer, [_PLACE(by)]), vector.as_pointer())

    sums = [[cgutils.alloca_once(builder, vector) for _ in across] for _ in range(ROWS)]
    with cgutils.for_range_slice(builder, _PLACE(0), rows, _PLACE(ROWS), _PLACE, inc=True) as (first, _):
        last = builder.sub(rows, _PLACE(1))
        starts = []
        for i in range(ROWS):  # rows that are not there repeat the last one
            row = builder.add(first, _PLACE(i))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            starts.append(builder.gep(A, [builder.mul(row, apart)]))
        with cgutils.for_range(builder, strips) as outer:
            strip = builder.gep(P, [builder.mul(outer.index, builder.mul(terms, _PLACE(line)))])
            for row in sums:
                for place in row:
                    builder.store(ir.Constant(vector, None), place)
            with cgutils.for_range(builder, terms) as inner:
                at = builder.gep(strip, [builder.mul(inner.index, _PLACE(line))])
                factors = [builder.load(wide(at, by), align=nbytes) for by in across]
                along = builder.mul(inner.index, step)
                for start, row in zip(starts, sums, strict=True):
                    alone = builder.insert_element(none, builder.load(builder.gep(start, [along])), _NUMBER(0))
                    weight = builder.shuffle_vector(alone, none, everywhere)
                    for place, factor in zip(row, factors, strict=True):
                        term = builder.fmul(weight, factor, flags=("contract",))
                        builder.store(builder.fadd(builder.load(place), term, flags=("contract",)), place)
            corner = builder.gep(C, [builder.mul(outer.index, beside)])
            for i, row in enumerate(sums):
                number = builder.add(first, _PLACE(i))
                with builder.if_then(builder.icmp_signed("<", number, rows)):
                    target = builder.gep(corner, [builder.mul(number, below)])
                    for by, place in zip(across, row, strict=True):
                        found, pointer = builder.load(place), wide(target, by)
                        with builder.if_else(fresh) as (over, onto):
                            with over:
                                builder.store(found, pointer, align=nbytes)
                            with onto:
                                more = builder.fadd(builder.load(pointer, align=nbytes), found)
                                builder.store(more, pointer, align=nbytes)


@intrinsic
def _multiply(_typing: Any, A: Any, apart: Any, step: Any, rows: Any, terms: Any, P: Any, strips: Any, C: Any,
              below: Any, beside: Any, fresh: Any) -> tuple:  # fmt: skip
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        real = pointers[0].type.pointee
        builder.call(_apart(builder, f"psopt_multiply_{real}", real, _products), pointers)
        return context.get_dummy_value()

    place = types.intp
    return types.void(A, place, place, place, place, P, place, C, place, place, types.boolean), generate


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def line_of(array):
    """Elements of a line, the width of strips."""
    return LINE_NBYTES // array.itemsize


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def multiply(A, apart, step, rows, terms, P, strips, C, below, beside, fresh):
    """C[s beside + i below + c] <- sum_k A[i apart + k step] P[(s terms + k) line + c], or that is added for not
    ``fresh``; for i < rows, s < strips and c < line.

    Parameters
    ----------
    A, C : ndarray, flat
    apart, step : int
        From row to row of A, and from term to term.
    rows, terms, strips : int
    P : ndarray, flat
        Strips, one behind the other.
    below, beside : int
        From row to row of C, and from strip to strip.
    fresh : bool
    """
    _multiply(A, apart, step, rows, terms, P, strips, C, below, beside, fresh)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def strips_of_columns(X, out):
    """Strips of X, shape (B, d): ``out`` gets, for each run of columns a line long, these of row 0, of row 1, ...

    Where columns end within a line, zeros follow.
    """
    B, d = X.shape
    line = line_of(X)
    whole = d - d % line
    for b in range(B):
        x = X[b]
        for j in range(0, whole, line):
            y, place = x[j : j + line], out[j * B + b * line : j * B + (b + 1) * line]
            for c in range(place.size):
                place[c] = y[c]
        if whole < d:
            place = out[whole * B + b * line : whole * B + (b + 1) * line]
            place[:] = 0
            for j in range(whole, d):
                place[j - whole] = x[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def strips_of_rows(X, out):
    """Strips of the transpose of X, shape (B, d): for each run of rows a line long, their elements in column 0, in
    column 1, ... Where rows end within a line, the last one is repeated.
    """
    B, d = X.shape
    line = line_of(X)
    for b in range(0, -(-B // line) * line, 4):
        x0, x1 = X[min(b, B - 1)], X[min(b + 1, B - 1)]
        x2, x3 = X[min(b + 2, B - 1)], X[min(b + 3, B - 1)]
        first = b - b % line
        fours = out[first * d + b % line : (first + line) * d]
        for j in range(x0.size):
            place = fours[j * line : j * line + 4]
            y0, y1, y2, y3 = x0[j], x1[j], x2[j], x3[j]
            place[0], place[1], place[2], place[3] = y0, y1, y2, y3
