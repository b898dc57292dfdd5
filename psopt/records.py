"""Records: frozen dataclasses that share their methods.

`dataclasses` writes the methods of each class as text, and has Python compile it: a millisecond for a frozen one by
Python 3.11, and every rank of a job makes a hundred of them as it starts.
"""

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass(frozen=True)
class _Pattern:
    """What `dataclasses` takes to be frozen."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Makes a class what ``@dataclass(frozen=True)`` makes it, a record of its annotations, in a twentieth of the time.

    Each field is one of the constructor's parameters, and compared. The constructor takes longer than a dataclass's,
    microseconds instead of one: what is made in every round had better be one of those.
    """
    own = vars(cls)
    methods = {name: method for name, method in _METHODS.items() if own.get(name) is None}
    if any(map(is_dataclass, cls.__mro__[1:])):
        return dataclass(frozen=True)(cls)
    cls = dataclass(init=False, repr=False, eq=False)(cls)
    for name, method in methods.items():
        setattr(cls, name, method)
    cls.__dataclass_params__ = _Pattern.__dataclass_params__
    return cls


def _init(self: Any, *given: Any, **named: Any) -> None:
    cls, own, others = type(self), self.__dict__, 0
    names, entries = cls.__match_args__, cls.__dataclass_fields__
    own.update(zip(names, given))  # noqa: B905  (too many are told of below)
    for name in names[len(given) :]:
        if name in named:
            own[name] = named[name]
            others += 1
        elif (default := entries[name].default) is not MISSING:
            own[name] = default
        elif (factory := entries[name].default_factory) is not MISSING:
            own[name] = factory()
        else:
            _refuse(cls, given, named)
    if others < len(named) or len(given) > len(names):
        _refuse(cls, given, named)
    if hasattr(cls, "__post_init__"):
        self.__post_init__()


def _refuse(cls: type[Any], given: tuple[Any, ...], named: dict[str, Any]) -> None:
    try:
        cls.__signature__.bind(*given, **named)
    except TypeError as error:
        raise TypeError(f"{cls.__name__}(): {error}") from None


def _values(self: Any) -> tuple[Any, ...]:
    own = self.__dict__
    return tuple([own[name] for name in self.__match_args__])


def _eq(self: Any, other: Any) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    said = zip(self.__match_args__, _values(self), strict=True)
    return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in said)})"


def _setattr(self: Any, name: str, value: Any) -> None:
    if _is_frozen(self, name):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delattr(self: Any, name: str) -> None:
    if _is_frozen(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _is_frozen(self: Any, name: str) -> bool:
    """A plain class below a record may have attributes of its own."""
    return "__match_args__" in vars(type(self)) or name in self.__match_args__


class _Signature:
    """What a record's constructor takes, for `inspect` and so for `help`: told when somebody asks."""

    def __get__(self, instance: Any, owner: type[Any]) -> Signature:
        if owner.__init__ is not _init:
            own = signature(owner.__init__)
            return own.replace(parameters=list(own.parameters.values())[1:])
        return Signature([_parameter(entry) for entry in fields(owner)], return_annotation=None)


def _parameter(entry: Field[Any]) -> Parameter:
    default = Parameter.empty if entry.default is MISSING else entry.default
    if entry.default_factory is not MISSING:
        default = entry.default_factory()
    return Parameter(entry.name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=entry.type)


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__signature__": _Signature(),
}
