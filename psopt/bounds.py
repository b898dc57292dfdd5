"""Bounds of numbers in annotations: ``Annotated[int, Ge(1)]``.

They mean what those of `annotated_types` mean, and Pydantic unfolds them into those, by that package's protocol of
grouped metadata. It is loaded only then: a rank that is given a checked config has no use for it.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from psopt.records import record


class _Bound:
    __is_annotated_types_grouped_metadata__: ClassVar[bool] = True

    def __iter__(self) -> Iterator[Any]:
        import annotated_types

        yield getattr(annotated_types, type(self).__name__)(*vars(self).values())


@record
class Gt(_Bound):
    """Above ``gt``."""

    gt: float


@record
class Ge(_Bound):
    """At least ``ge``."""

    ge: float


@record
class Lt(_Bound):
    """Below ``lt``."""

    lt: float


@record
class Le(_Bound):
    """At most ``le``."""

    le: float
