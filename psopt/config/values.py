"""Values held against types by Pydantic, which is loaded with the first value that has to be checked."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def fitted(annotation: Any, value: Any) -> tuple[Any, list[Any]]:
    """``value`` as that type, strictly, and Pydantic's words on what is wrong with it: either of the two.

    A whole number may stand for any number, nothing else is converted.
    """
    from pydantic import ValidationError

    try:
        return _adapter(annotation).validate_python(value), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_context=False)


@cache
def _adapter(annotation: Any) -> "TypeAdapter[Any]":
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
