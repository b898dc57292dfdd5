"""What kernels that are written for the machine's vectors share: their loads and sums, and functions that stay whole.

Sums that stay in registers over a whole loop, several of them side by side, are what LLVM does not find by itself.
"""

# links.py cd66843bcde0

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from psopt.lines import LINE_NBYTES, VECTOR_NBYTES
from psopt.problems.kernels.links import FAST

PLACE = ir.IntType(64)
_TURNS = 4  # of a loop, written out one after the other
_NUMBER = ir.IntType(32)
_READ, _DATA = 0, 1  # llvm.prefetch: for reading; data, not code
FIRST_LEVEL, SECOND_LEVEL = 3, 2  # of the cache, for the same


class Vectors:
    """Loads, stores and sums of vectors of one kind of number.

    Parameters
    ----------
    builder : ir.IRBuilder
    real : ir.FloatType or ir.DoubleType
    """

    def __init__(self, builder: Any, real: Any) -> None:
        self.builder = builder
        self.nbytes = 4 if isinstance(real, ir.FloatType) else 8
        self.lanes = VECTOR_NBYTES // self.nbytes
        self.line = LINE_NBYTES // self.nbytes
        self._kind = ir.VectorType(real, self.lanes)
        self.zero = ir.Constant(self._kind, None)
        self._everywhere = ir.Constant(ir.VectorType(_NUMBER, self.lanes), [_NUMBER(0)] * self.lanes)

    def at(self, pointer: Any, *terms: Any) -> Any:
        """The pointer moved on by so many numbers."""
        for term in terms:
            pointer = self.builder.gep(pointer, [PLACE(term) if isinstance(term, int) else term])
        return pointer

    def load(self, pointer: Any) -> Any:
        """The vector at the pointer; float32 where these are float64 are made so."""
        narrow = ir.VectorType(pointer.type.pointee, self.lanes)
        nbytes = 4 if isinstance(pointer.type.pointee, ir.FloatType) else 8
        found = self.builder.load(self.builder.bitcast(pointer, narrow.as_pointer()), align=nbytes)
        return found if narrow == self._kind else self.builder.fpext(found, self._kind)

    def store(self, vector: Any, pointer: Any) -> None:
        self.builder.store(vector, self.builder.bitcast(pointer, vector.type.as_pointer()), align=self.nbytes)

    def last(self, count: Any) -> Any:
        """Which places of a vector are its last ``count``."""
        places = ir.Constant(self._everywhere.type, [_NUMBER(place) for place in range(self.lanes)])
        first = self.builder.sub(_NUMBER(self.lanes), self.builder.trunc(count, _NUMBER))
        return self.builder.icmp_signed(">=", places, self._in_all(first))

    def rows(self, start: Any, apart: Any, first: Any, count: Any, number: int) -> list[Any]:
        """Where ``number`` rows begin, from row ``first`` on; those that are not among ``count`` are the last one."""
        builder, last, starts = self.builder, self.builder.sub(count, PLACE(1)), []
        for i in range(number):
            row = builder.add(first, PLACE(i))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            starts.append(self.at(start, builder.mul(row, apart)))
        return starts

    def spread(self, pointer: Any) -> Any:
        """The number at the pointer in every place; float64 where these are float32 are rounded."""
        number, real = self.builder.load(pointer), self._kind.element
        return self._in_all(number if number.type == real else self.builder.fptrunc(number, real))

    def totals(self, vectors: list[Any]) -> Any:
        """The sum of each vector's elements, of as many vectors as a vector has places, in a vector."""
        width = 1
        while len(vectors) > 1:
            vectors = [self._fold(a, b, width) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
            width *= 2
        return vectors[0]

    def sums(self, rows: int, columns: int) -> list[list[Any]]:
        """Places of rows x columns sums, which LLVM keeps in registers."""
        return [[cgutils.alloca_once(self.builder, self._kind) for _ in range(columns)] for _ in range(rows)]

    def clear(self, sums: list[list[Any]]) -> None:
        for row in sums:
            for place in row:
                self.builder.store(self.zero, place)

    def add_product(self, place: Any, a: Any, b: Any) -> None:
        self.builder.store(self.plus_product(self.builder.load(place), a, b), place)

    def plus_product(self, total: Any, a: Any, b: Any) -> Any:
        return self.builder.fadd(total, self.builder.fmul(a, b, flags=("contract",)), flags=("contract",))

    def settle(self, place: Any, pointer: Any, fresh: Any) -> None:
        """A sum goes over what is at the pointer, or is added to it."""
        found = self.builder.load(place)
        with self.builder.if_else(fresh) as (over, onto):
            with over:
                self.store(found, pointer)
            with onto:
                self.store(self.builder.fadd(self.load(pointer), found), pointer)

    def repeat(self, count: Any, before: Callable[[], None], body: Callable[[], None]) -> None:
        """A loop of ``count`` turns, four at a time with ``before`` ahead of each four, and then what is left over."""
        builder = self.builder
        with cgutils.for_range(builder, builder.sdiv(count, PLACE(_TURNS))):
            before()
            for _ in range(_TURNS):
                body()
        with cgutils.for_range(builder, builder.srem(count, PLACE(_TURNS))):
            body()

    def walk(self, start: Any, step: Any) -> Callable[[], Any]:
        """Pointers from ``start`` on, ``step`` numbers apart, one each time it is emitted."""
        place = cgutils.alloca_once(self.builder, start.type)
        self.builder.store(start, place)

        def go() -> Any:
            here = self.builder.load(place)
            self.builder.store(self.at(here, step), place)
            return here

        return go

    def fetching(self, ahead: Any, step: Any, lines: Any) -> Callable[[], None]:
        """From ``ahead`` on, asks for ``lines`` lines of memory, one at least, and goes on by ``step`` numbers."""
        builder = self.builder
        at = cgutils.alloca_once_value(builder, ahead)

        def fetch() -> None:
            start = builder.load(at)
            ask(builder, start, SECOND_LEVEL)
            with cgutils.for_range(builder, builder.sub(lines, PLACE(1))) as line:  # mostly none: a loop costs a tenth
                after = self.at(start, self.line, builder.mul(line.index, PLACE(self.line)))
                ask(builder, after, SECOND_LEVEL)
            builder.store(self.at(start, step), at)

        return fetch

    def _in_all(self, number: Any) -> Any:
        """A vector of so many places with the number in each."""
        none = ir.Constant(ir.VectorType(number.type, self.lanes), ir.Undefined)
        return self.builder.shuffle_vector(
            self.builder.insert_element(none, number, _NUMBER(0)), none, self._everywhere
        )

    def _fold(self, a: Any, b: Any, width: int) -> Any:
        """Where places l of ``a`` hold terms of its sum l mod ``width``, and those of ``b`` of its own: half as many
        terms of both, in places l those of sum l mod 2 ``width``, where ``b`` comes second.
        """
        first = []
        for place in range(self.lanes):
            run, number = divmod(place, 2 * width)
            first.append(2 * run * width + number + (self.lanes - width if number >= width else 0))
        masks = [ir.Constant(self._everywhere.type, [_NUMBER(place + by) for place in first]) for by in (0, width)]
        return self.builder.fadd(*(self.builder.shuffle_vector(a, b, mask) for mask in masks))


def ask(builder: Any, pointer: Any, level: int) -> None:
    """The machine's instruction that has the line at the pointer brought into a cache."""
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _NUMBER, _NUMBER, _NUMBER])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    address = builder.bitcast(pointer, cgutils.voidptr_t)
    builder.call(prefetch, [address, _NUMBER(_READ), _NUMBER(level), _NUMBER(_DATA)])


def apart(builder: Any, name: str, body: Callable[..., None], values: list[Any]) -> None:
    """Call ``body`` as a function that LLVM leaves one: copied to wherever it is called, it took seconds to compile.

    Parameters
    ----------
    builder : ir.IRBuilder
    name : str
        Of the function, to which the kind of number is added.
    body : callable
        Given a builder, the kind of number and the arguments, emits the instructions.
    values : list
        The arguments; the first points to numbers.
    """
    real = values[0].type.pointee
    name = f"psopt_{name}_{real}"
    found = builder.module.globals.get(name)
    if found is None:
        found = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [value.type for value in values]), name)
        found.linkage = "internal"
        found.attributes.add("noinline")
        own = ir.IRBuilder(found.append_basic_block())
        body(own, real, *found.args)
        own.ret_void()
    builder.call(found, values)


def called(name: str, body: Callable[..., None], *kinds: Any) -> tuple[Any, Callable[..., Any]]:
    """What an intrinsic returns that calls ``body``, `apart`, with the data of its arrays and its other arguments."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        apart(builder, name, body, values)
        return context.get_dummy_value()

    return types.void(*kinds), generate


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def lanes_of(array):
    """Elements of a vector of this array's."""
    return VECTOR_NBYTES // array.itemsize
