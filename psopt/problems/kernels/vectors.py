"""What kernels that are written for the machine's vectors share: their loads and sums, and functions that stay whole.

Sums that stay in registers over a whole loop, several of them side by side, are what LLVM does not find by itself.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

VECTOR_NBYTES = 32  # of AVX2, which has 16 registers; a machine with shorter ones takes two for each
LINE_NBYTES = 64  # of the cache; where lines are longer, some are fetched twice
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
        self._none = ir.Constant(self._kind, ir.Undefined)
        self._everywhere = ir.Constant(ir.VectorType(_NUMBER, self.lanes), [_NUMBER(0)] * self.lanes)

    def at(self, pointer: Any, *terms: Any) -> Any:
        """The pointer moved on by so many numbers."""
        for term in terms:
            pointer = self.builder.gep(pointer, [PLACE(term) if isinstance(term, int) else term])
        return pointer

    def load(self, pointer: Any) -> Any:
        return self.builder.load(self.builder.bitcast(pointer, self._kind.as_pointer()), align=self.nbytes)

    def rows(self, start: Any, apart: Any, first: Any, count: Any, number: int) -> list[Any]:
        """Where ``number`` rows begin, from row ``first`` on; those that are not among ``count`` are the last one."""
        builder, last, starts = self.builder, self.builder.sub(count, PLACE(1)), []
        for i in range(number):
            row = builder.add(first, PLACE(i))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            starts.append(self.at(start, builder.mul(row, apart)))
        return starts

    def spread(self, pointer: Any) -> Any:
        """The number at the pointer in every place."""
        alone = self.builder.insert_element(self._none, self.builder.load(pointer), _NUMBER(0))
        return self.builder.shuffle_vector(alone, self._none, self._everywhere)

    def sums(self, rows: int, columns: int) -> list[list[Any]]:
        """Places of rows x columns sums, which LLVM keeps in registers."""
        return [[cgutils.alloca_once(self.builder, self._kind) for _ in range(columns)] for _ in range(rows)]

    def clear(self, sums: list[list[Any]]) -> None:
        for row in sums:
            for place in row:
                self.builder.store(ir.Constant(self._kind, None), place)

    def add_product(self, place: Any, a: Any, b: Any) -> None:
        term = self.builder.fmul(a, b, flags=("contract",))
        self.builder.store(self.builder.fadd(self.builder.load(place), term, flags=("contract",)), place)

    def settle(self, place: Any, pointer: Any, fresh: Any) -> None:
        """A sum goes over what is at the pointer, or is added to it."""
        found = self.builder.load(place)
        wide = self.builder.bitcast(pointer, self._kind.as_pointer())
        with self.builder.if_else(fresh) as (over, onto):
            with over:
                self.builder.store(found, wide, align=self.nbytes)
            with onto:
                more = self.builder.fadd(self.builder.load(wide, align=self.nbytes), found)
                self.builder.store(more, wide, align=self.nbytes)

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
        """From ``ahead`` on, asks for ``lines`` lines of memory and goes on by ``step`` numbers, each time."""
        builder = self.builder
        at = cgutils.alloca_once_value(builder, ahead)

        def fetch() -> None:
            start = builder.load(at)
            with cgutils.for_range(builder, lines) as line:
                ask(builder, self.at(start, builder.mul(line.index, PLACE(self.line))), FIRST_LEVEL)
            builder.store(self.at(start, step), at)

        return fetch


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
