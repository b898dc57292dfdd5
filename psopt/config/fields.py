"""What can be known of a class's keys: their types, defaults and descriptions. Nothing here is about one class."""

import inspect
import re
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from psopt import data, problems
from psopt.bounds import Ge, Gt, Le
from psopt.recipes import RECIPES
from psopt.records import record

REQUIRED = object()

# What the built-in problems ask of options whose parameters are annotated with a bare type: told here with the
# line, instead of by the constructor without one.
_NARROWER = {
    ("l2", float): Annotated[float, Ge(0)],
    ("initial_scale", float): Annotated[float, Ge(0)],
    ("reduction", str): Literal["sum", "mean"],
    ("curvature", tuple[float, ...]): tuple[Annotated[float, Gt(0)], ...],
    ("multiplicative", float): Annotated[float, Ge(0)],
    ("additive", float): Annotated[float, Ge(0)],
    ("noise", float): Annotated[float, Ge(0)],
    ("copies", int): Annotated[int, Ge(1), Le(100_000_000)],
}

# Types that the annotations leave open: the names are tables, known only once everything is imported.
_NAMED = {
    (data.DataSpec, "source"): lambda: Literal[tuple(name for name, _ in data.catalogue())],
    ("algorithm", "recipe"): lambda: Literal[tuple(RECIPES)],
}


@record
class Key:
    """One key of a mapping: its type, its default (`REQUIRED` if it has none) and what it means."""

    annotation: Any
    default: Any
    description: str

    @property
    def section(self) -> type[Any] | None:
        """The dataclass that the key's own mapping fills, if it is one."""
        candidates = (self.annotation, *_members(self.annotation))
        return next((c for c in candidates if isinstance(c, type) and is_dataclass(c)), None)


RECIPE_KEY = Key(_NAMED["algorithm", "recipe"](), None, "The row of parts to start from.")


@cache
def keys_of(cls: type[Any]) -> dict[str, Key]:
    """The keys of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    described = descriptions(cls)
    keys = {}
    for entry in fields(cls):
        annotation = _NAMED.get((cls, entry.name), lambda name=entry.name: hints[name])()
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        else:
            default = REQUIRED if entry.default is MISSING else entry.default
        keys[entry.name] = Key(annotation, default, described.get(entry.name, ""))
    return keys


@cache
def options_of(kind: str) -> dict[str, Key]:
    """The options of a built-in problem: its constructor's parameters but shard, share and dtype."""
    made = problems.load(kind)
    hints = get_type_hints(made.__init__, include_extras=True)
    described = descriptions(made)
    keys = {}
    for name, parameter in inspect.signature(made).parameters.items():
        if name in ("shard", "share", "dtype"):
            continue
        hint = hints.get(name, Any)
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        keys[name] = Key(_NARROWER.get((name, hint), hint), default, described.get(name, ""))
    return keys


@cache
def descriptions(cls: type[Any]) -> dict[str, str]:
    """Name -> text, from the Attributes and Parameters sections of a docstring; names may share an entry."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    lines = (inspect.getdoc(cls) or "").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if re.fullmatch(r"-{3,}", below):
            inside = line.strip() in ("Attributes", "Parameters")
        elif inside and (entry := re.match(r"(\w+(?:, \w+)*)(?: : (.*))?$", line)):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, "")
        elif inside and line.startswith(" "):
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found


def summary(cls: type[Any]) -> str:
    """The docstring's first paragraph, on one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def typographic(text: str) -> str:
    """A docstring's text as Markdown has it: names between single backquotes."""
    return text.replace("``", "`")


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
