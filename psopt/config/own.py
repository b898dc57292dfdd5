"""What a config names that is not built in: parts and recipes in modules of the user's own.

Nothing but the module that is named is imported. What is found is checked as far as that can be without running it, so
that a mistake is one sentence about a line of the config.
"""

import importlib
import os
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import psopt
from psopt import problems
from psopt.algorithm import ROW, Algorithm
from psopt.config.fields import REQUIRED, Key, keys_of
from psopt.config.sentences import short
from psopt.config.values import fitted
from psopt.errors import ConfigError, IncompatibleParts
from psopt.parts import FAMILIES, OWN_NAME, PROTOCOLS, families_of, kind_of, missing, name_of
from psopt.recipes import RECIPES, Recipe

OWN_CLASS_FORM = "`package.module:Class`"
OWN_RECIPE_FORM = "`package.module:NAME`"
SPARSE = ("read", "entries", "value_dtype")
"""What else a compressor has whose payloads are indices and values; see `psopt.parts.compressors.TopK`."""


def is_own(name: Any) -> bool:
    """Whether a name is meant for something of the user's: it has a colon."""
    return isinstance(name, str) and ":" in name


def part_class(family: str, text: str) -> type[Any]:
    """The class that ``package.module:Class`` names, a part of that family.

    Raises `ConfigError`: there is no such module or class, its import raises, or it is no such part.
    """
    cls = imported(text, family)
    if not isinstance(cls, type):
        raise ConfigError(f"{family} '{text}' is {with_article(type(cls).__name__)}, expected a class")
    check_class(family, cls)
    return cls


def check_class(family: str, cls: type[Any]) -> None:
    """Raises `ConfigError` unless the class can be a part of the family, its fields keys of a config."""
    if cls in FAMILIES[family].values():
        return
    named = f"{family} '{name_of(cls)}'"
    lacking, others = missing(family, cls), families_of(cls)
    if lacking and others:
        raise ConfigError(
            f"{named} is {with_article(others[0])}, not {with_article(family)}: it belongs under `{others[0]}`"
        )
    if lacking:
        raise ConfigError(f"{named} lacks {', '.join(lacking)}, which every {family} has to have")
    if not is_dataclass(cls):
        raise ConfigError(f"{named} is not a dataclass: write `@dataclass(frozen=True)` above the class")
    if not (cls.__dataclass_params__.frozen and cls.__dataclass_params__.eq):
        raise ConfigError(f"{named} is not frozen, or cannot be compared: write `@dataclass(frozen=True)` alone")
    if _again(cls) is not cls:
        raise ConfigError(
            f"{named} cannot be found by the name that it gives itself, as other ranks have to find it: define the "
            "class at the top of its module, under its own name"
        )
    if family == "compressor" and getattr(cls, "sparse", False) is True:
        lacking = [name for name in SPARSE if not hasattr(cls, name)]
        if lacking:
            raise ConfigError(f"{named} is `sparse` but lacks {', '.join(lacking)}: add them, or set `sparse` to False")
    _check_keys(named, cls)


def made(cls: type[Any], values: dict[str, Any], base: Any) -> Any:
    """The part, by the user's own constructor; raises `ConfigError` from whatever that raises."""
    try:
        return cls(**values) if base is None else replace(base, **values)
    except ConfigError:
        raise
    except Exception as error:  # a user's `__post_init__` may raise anything
        raise ConfigError(f"cannot be made: {words(error)}") from error


def _check_keys(named: str, cls: type[Any]) -> None:
    try:
        keys = keys_of(cls)
    except Exception as error:  # annotations may be text that is evaluated, which may raise anything
        raise ConfigError(f"{named}: its annotations or defaults cannot be read: {words(error)}") from error
    for entry in fields(cls):
        key, field = keys[entry.name], f"{named}: field `{entry.name}`"
        inner = nested(cls, entry.name)
        if entry.name == "kind":
            raise ConfigError(f"{field} cannot be a key, because `kind` names the class: call it otherwise")
        if not entry.init:
            raise ConfigError(f"{field} has `init=False` and so cannot be a key: make it a property")
        if inner is None and not _is_checkable(key.annotation):
            raise ConfigError(
                f"{field} is annotated with {short(_type_name(key.annotation), 60)}, which cannot be checked: use int, "
                "float, str, bool, None, Literal, tuple[..., ...] of these, bounds by Annotated, or the protocol of a "
                "family of parts"
            )
        if key.default is not REQUIRED:
            _check_default(field, key, inner)


def _check_default(field: str, key: Key, inner: str | None) -> None:
    if inner is None:
        _, faults = fitted(key.annotation, key.default)
        if faults:
            raise ConfigError(f"{field} has a default that it may not have: {faults[0]['msg']}")
        return
    if missing(inner, type(key.default)):
        raise ConfigError(f"{field} has a default that is not {with_article(inner)}")
    check_class(inner, type(key.default))


def nested(cls: type[Any], name: str) -> str | None:
    """The family of the part that a field of a part holds, by its annotation; None where it holds none."""
    annotation = keys_of(cls)[name].annotation
    return next((other for other, protocol in PROTOCOLS.items() if annotation is protocol), None)


def normal_default(key: Key) -> Any:
    """A default as a config would give it, so that written out and read again it is the same: 1.0 for a float of 1."""
    value, _ = fitted(key.annotation, key.default)
    return value


def _is_checkable(annotation: Any) -> bool:
    """Whether plain data can be held against the annotation, and the values can be hashed."""
    if not _is_plain(annotation):
        return False
    try:
        for value in (0, 0.0, "", True, None, ()):
            fitted(annotation, value)
    except Exception:  # noqa: BLE001  (Pydantic has many; a bound that its type cannot have, say)
        return False
    return True


def _is_plain(annotation: Any) -> bool:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_plain(arguments[0])
    if origin is Literal:
        return all(isinstance(name, str | int) for name in arguments)
    if origin in (Union, types.UnionType, tuple):
        return all(each is Ellipsis or _is_plain(each) for each in arguments)
    return annotation in (int, float, str, bool, None, types.NoneType)


def is_recipe(made: Any) -> bool:
    """Whether it is what a recipe's name may stand for."""
    return isinstance(made, Recipe | Algorithm)


def recipe_named(text: str) -> Recipe:
    """A recipe: built in, or ``package.module:NAME``, a `Recipe` or the `Algorithm` of one.

    Raises `ConfigError` where there is none of that name, or something else.
    """
    if text in RECIPES:
        return RECIPES[text]
    made = imported(text, "recipe")
    if isinstance(made, Algorithm):
        made = Recipe(text, "", made)
    if not (isinstance(made, Recipe) and isinstance(made.row, Algorithm)):
        raise ConfigError(
            f"recipe '{text}' is {with_article(type(made).__name__)}, expected a `psopt.recipes.Recipe` or a "
            "`psopt.algorithm.Algorithm`"
        )
    for family in ROW:
        check_part(family, getattr(made.row, family), f"recipe '{text}'")
    return made


def check_part(family: str, part: Any, where: str) -> None:
    """Raises `ConfigError` unless a part that was made in Python is one of that family, with all parts within."""
    if isinstance(part, type) or missing(family, type(part)):
        found = part.__name__ if isinstance(part, type) else type(part).__name__
        raise ConfigError(
            f"{where}: `{family}` is {found}{' itself' * isinstance(part, type)}, expected {with_article(family)}"
        )
    check_class(family, type(part))
    for entry in fields(part):
        inner = nested(type(part), entry.name)
        if inner:
            check_part(inner, getattr(part, entry.name), where)


def own_parts(family: str, part: Any) -> Iterator[tuple[str, Any]]:
    """Family and part of what is not built in: the part itself, and the parts within it."""
    if is_own(kind_of(family, part)):
        yield family, part
    for entry in fields(part):
        inner = nested(type(part), entry.name)
        if inner:
            yield from own_parts(inner, getattr(part, entry.name))


def imported(text: str, what: str) -> Any:
    """What the name names; ``what`` begins the sentence of the `ConfigError` that is raised where that cannot be."""
    if not OWN_NAME.fullmatch(text):
        raise ConfigError(f"found the text '{short(text, 60)}', expected the form {OWN_CLASS_FORM}")
    try:
        return problems.found(text, what)
    except problems.NoSuchModule:
        raise
    except (ConfigError, IncompatibleParts) as error:
        said = str(error)
        raise ConfigError(said if said.startswith(f"{what} {text!r}") else f"{what} '{text}': {said}") from error
    except (Exception, SystemExit) as error:  # a module is anybody's code
        raise ConfigError(f"{what} '{text}': its module cannot be imported: {words(error)}") from error


def _again(cls: type[Any]) -> Any:
    return getattr(sys.modules.get(cls.__module__), cls.__qualname__, None)


def words(error: BaseException) -> str:
    """What was raised and where, in words on one line."""
    said = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    if isinstance(error, SyntaxError) and error.filename:
        return short(f"{said} ({error.filename}:{error.lineno})", 300)
    ours = ("<", os.path.dirname(psopt.__file__), os.path.dirname(importlib.__file__))
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    place = f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""
    return short(said + place, 300)


def _type_name(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if plain else str(annotation)


def with_article(noun: str) -> str:
    """``a trigger``, ``an update``, ``a step size``."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun.replace('_', ' ')}"
