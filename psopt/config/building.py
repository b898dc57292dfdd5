"""Plain data to a `RunConfig`; goes on after a fault, so that all of them are told at once."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path as Folder
from typing import Any, TypeVar

from psopt import problems
from psopt.algorithm import ROW, Algorithm
from psopt.config import faults, own
from psopt.config.crossing import cross_check
from psopt.config.fields import REQUIRED, Key, keys_of, options_of
from psopt.config.model import (
    NAME,
    ProblemConfig,
    RunConfig,
    Stop,
    plain_part,
)
from psopt.config.own import OWN_CLASS_FORM, OWN_RECIPE_FORM, is_own
from psopt.config.sentences import (
    FAULTY,
    Complaints,
    Path,
    describe,
    dotted,
    item_type,
    nearest,
    short,
    show,
    wrong_value,
)
from psopt.config.shorthand import spelled_out
from psopt.config.values import fitted
from psopt.data import DataSpec, Synthetic
from psopt.errors import ConfigError, IncompatibleParts
from psopt.parts import FAMILIES, OWN_NAME, kind_of
from psopt.recipes import RECIPES

T = TypeVar("T")


class NamesOwn(Exception):
    """The config names a part or a recipe of the user's, and nothing may be imported."""


class Builder:
    """Builds one config. Each method returns `FAULTY` after a complaint.

    With ``imports`` false nothing of the user's is imported: what names it raises `NamesOwn`. With ``checked`` every
    value is known to have its type, and is not held against it again.
    """

    def __init__(
        self, complaints: Complaints, folder: Folder | None = None, imports: bool = True, checked: bool = False
    ) -> None:
        self.complaints, self.folder, self.imports, self.checked = complaints, folder, imports, checked

    def config(self, data: Any, default_name: str) -> RunConfig:
        """The whole; raises `ConfigError` with all complaints."""
        data = self.mapping(data, (), "a mapping of keys such as `problem` and `data`")
        if data is None:
            self.complaints.raise_any()
        keys = {name: key for name, key in keys_of(RunConfig).items() if name != "recipe"}
        values = {"name": default_name}
        for name, value in self.given(data, keys, ()).items():
            values[name] = self.top(name, keys[name], value)
        self.require(values, keys, ())
        values["algorithm"], values["recipe"] = values.get("algorithm", (Algorithm(), None))
        name = values["name"]
        if isinstance(name, str) and not NAME.fullmatch(name):
            self.complaints.add(
                ("name",),
                f"found {show(name)}, expected up to 100 letters, digits, `.`, `_`, `+` and `-`, first a letter or a "
                "digit, because files are named after it",
            )
        cross_check(self.complaints, values)
        faults.cross_check(self, values)
        self.complaints.raise_any()
        return RunConfig(**values)

    def top(self, name: str, key: Key, value: Any) -> Any:
        """The value of a top-level key; of ``algorithm``, the row and the recipe's name."""
        match name:
            case "problem":
                return self.problem(value)
            case "data":
                return self.data(value)
            case "algorithm":
                return self.algorithm(value)
            case "stop":
                return self.stop(value)
            case "faults":
                return faults.built(self, value)
        if key.section:
            return self.fill(key.section, value, (name,))
        return self.check(key.annotation, value, (name,))

    def given(self, data: dict[str, Any], valid: Iterable[str], path: Path, family: str = "", kind: str = "") -> Any:
        """The entries of known keys that are not null; unknown keys, of a part or a section, are complained about."""
        for name in data:
            if name not in valid:
                of = f" of {family} `{kind}`" if kind else ""
                hint = _elsewhere(name, path, family) or nearest(name, valid)
                self.complaints.add((*path, name), f"unknown key{of}; {hint}")
        return {name: value for name, value in data.items() if name in valid and value is not None}

    def require(self, values: Iterable[str], keys: dict[str, Key], path: Path) -> None:
        for name, key in keys.items():
            if key.default is REQUIRED and name not in values:
                self.complaints.add((*path, name), f"missing; expected {describe(key.annotation) or 'a mapping'}")

    def known(self, name: Any, valid: Iterable[str], what: str, path: Path) -> bool:
        """Whether a name is one of the valid ones; if not, there is a complaint."""
        if isinstance(name, str) and name in valid:
            return True
        if isinstance(name, str):
            self.complaints.add(path, f"unknown {what} '{short(name, 60)}'; {nearest(name, valid)}")
        elif name is not FAULTY:
            self.complaints.add(path, f"found {show(name)}, expected one of {', '.join(valid)}")
        return False

    def mapping(
        self, value: Any, path: Path, expected: str = "a mapping", family: str | None = None
    ) -> dict[str, Any] | None:
        value = spelled_out(path, value, family)
        if isinstance(value, dict):
            return value
        if value is not FAULTY:
            self.complaints.add(path, f"found {show(value)}, expected {expected}")
        return None

    def check(self, annotation: Any, value: Any, path: Path) -> Any:
        """``value`` as that type, strictly: a whole number may stand for any number, nothing else is converted."""
        if value is FAULTY:
            return FAULTY
        given = _tupled(value)
        made, faults = (given, []) if self.checked else fitted(annotation, given)
        if not faults:
            return made
        of_items = item_type(annotation)
        items = sorted({at for fault in faults for at in fault["loc"] if isinstance(at, int)})
        if isinstance(value, list) and of_items and items:
            for index in items:
                self.complaints.add((*path, index), _said(value[index], of_items, faults))
        else:
            self.complaints.add(path, _said(value, annotation, faults))
        return FAULTY

    def fill(self, cls: type[Any], value: Any, path: Path, family: str = "", kind: str = "", base: Any = None) -> Any:
        """An instance of dataclass ``cls`` from a mapping; keys left out are those of ``base``, or of the class."""
        data = self.mapping(value, path)
        if data is None:
            return FAULTY
        faults = len(self.complaints)
        keys = keys_of(cls)
        given = self.given(data, keys, path, family, kind)
        values = {name: self.value(cls, name, keys[name], given[name], path, base, family) for name in given}
        if base is None:
            self.require(values, keys, path)
        if len(self.complaints) > faults or FAULTY in values.values():
            return FAULTY
        if base is None and is_own(kind):
            left = {name: key for name, key in keys.items() if name not in values and not own.nested(cls, name)}
            values |= {name: own.normal_default(key) for name, key in left.items()}
        one_of = getattr(cls, "one_of", ())
        if base is not None and any(name in values for name in one_of):
            values = {**dict.fromkeys(one_of), **values}  # the one that the recipe had set gives way
        try:
            if is_own(kind):
                return own.made(cls, values, base)
            return cls(**values) if base is None else replace(base, **values)
        except ConfigError as error:
            named = re.match(r"key '(\w+)'", error.message)
            self.complaints.add((*path, named[1]) if named and named[1] in given else path, error.message)
        except (ArithmeticError, TypeError, ValueError, RecursionError, MemoryError):  # of a formula, say
            self.complaints.add(path, f"cannot be used: {', '.join(f'{n} is {show(v)}' for n, v in values.items())}")
        return FAULTY

    def value(self, cls: type[Any], name: str, key: Key, value: Any, path: Path, base: Any, family: str) -> Any:
        inner = own.nested(cls, name) if family else None
        if inner:
            return self.part(inner, value, (*path, name), key.default if base is None else getattr(base, name))
        if key.section:
            return self.fill(key.section, value, (*path, name))
        return self.check(key.annotation, value, (*path, name))

    def part(self, family: str, value: Any, path: Path, base: Any) -> Any:
        """A part. A mapping with ``kind`` starts from that kind's defaults, one without from ``base``."""
        kinds = FAMILIES[family]
        numbers = "a number, a formula, " if family == "step_size" else ""
        data = self.mapping(value, path, f"{numbers}the name of a {family} or a mapping with `kind`", family)
        if data is None:
            return FAULTY
        kind = data.get("kind")
        rest = {name: inner for name, inner in data.items() if name != "kind"}
        if kind is None and base is REQUIRED:
            self.complaints.add((*path, "kind"), f"missing; expected one of {', '.join(kinds)}, {OWN_CLASS_FORM}")
            return FAULTY
        if kind is None:
            return self.fill(type(base), rest, path, family, kind_of(family, base), base)
        place = (*path, "kind") if isinstance(value, dict) else path
        if is_own(kind):
            cls = self.found(kind, lambda: own.part_class(family, kind), place)
            return FAULTY if cls is None else self.fill(cls, rest, path, family, kind)
        if not self.known(kind, [*kinds, OWN_CLASS_FORM], family, place):
            return FAULTY
        return self.fill(kinds[kind], rest, path, family, kind)

    def found(self, name: str, find: Callable[[], T], place: Path) -> T | None:
        """What the user's own code has under that name; None after a complaint. Nothing else here imports."""
        if not self.imports:
            raise NamesOwn(name)
        try:
            return find()
        except problems.NoSuchModule as error:
            self.complaints.add(place, error.message + self.beside(name))
        except ConfigError as error:
            self.complaints.add(place, error.message)
        return None

    def beside(self, name: str) -> str:
        """That the module which was not found stands beside the config."""
        file = None if self.folder is None else self.folder / (name.partition(":")[0].replace(".", "/") + ".py")
        if file is None or not file.is_file():
            return ""
        return f"; but there is {file}: start psopt in its folder, or put that on PYTHONPATH"

    def recipe(self, name: Any, place: Path) -> Algorithm | None:
        """The row of a recipe. One of the user's is read as if it stood in the config, so that it is checked alike."""
        if not is_own(name):
            known = self.known(name, [*RECIPES, OWN_RECIPE_FORM], "recipe", place)
            return RECIPES[name].row if known else None
        found = self.found(name, lambda: own.recipe_named(name), place)
        if found is None:
            return None
        parts = {f: self.part(f, plain_part(f, getattr(found.row, f)), (*place, f), REQUIRED) for f in ROW}
        return None if FAULTY in parts.values() else replace(found.row, **parts)

    def algorithm(self, value: Any) -> tuple[Any, str | None]:
        """The row, and the name of the recipe it comes from."""
        path: Path = ("algorithm",)
        data = self.mapping(value, path, "the name of a recipe or a mapping of parts")
        if data is None:
            return FAULTY, None
        faults = len(self.complaints)
        row = Algorithm()
        given = self.given(data, ["recipe", *ROW], path)
        recipe = given.pop("recipe", None)
        if recipe is not None:
            found = self.recipe(recipe, (*path, "recipe") if isinstance(value, dict) else path)
            if found is not None:
                row = found
            else:  # parts that change the recipe's cannot be judged without it
                given = {f: part for f, part in given.items() if not isinstance(part, dict) or part.get("kind")}
        parts = {f: self.part(f, part, (*path, f), getattr(row, f)) for f, part in given.items()}
        if len(self.complaints) > faults or FAULTY in parts.values():
            return FAULTY, None
        try:
            return replace(row, **parts), recipe
        except IncompatibleParts as error:
            self.complaints.add(path, str(error))
        except ConfigError as error:
            self.complaints.add(path, error.message)
        return FAULTY, None

    def problem(self, value: Any) -> Any:
        path: Path = ("problem",)
        data = self.mapping(value, path, "the name of a problem or a mapping with `kind`")
        if data is None:
            return FAULTY
        faults = len(self.complaints)
        kind = data.get("kind")
        valid = [*problems.PROBLEMS, OWN_CLASS_FORM]
        place = (*path, "kind") if isinstance(value, dict) else path
        if kind is None:
            self.complaints.add((*path, "kind"), f"missing; expected one of {', '.join(valid)}")
        elif isinstance(kind, str) and ":" in kind:
            if not OWN_NAME.fullmatch(kind):
                self.complaints.add(place, f"found {show(kind)}, expected the form {OWN_CLASS_FORM}")
        else:
            self.known(kind, valid, "problem", place)
        dtype = "float64" if data.get("dtype") is None else data["dtype"]
        dtype = self.check(keys_of(ProblemConfig)["dtype"].annotation, dtype, (*path, "dtype"))
        options = {name: option for name, option in data.items() if name not in ("kind", "dtype")}
        if isinstance(kind, str) and kind in problems.PROBLEMS:
            options = self.options(options, kind, path)
        else:
            for name in options:
                if not name.isidentifier():
                    self.complaints.add((*path, name), "cannot be an option of a class: expected a Python name")
        return FAULTY if len(self.complaints) > faults else ProblemConfig(kind, dtype, options)

    def options(self, options: dict[str, Any], kind: str, path: Path) -> dict[str, Any]:
        """The options of a built-in problem, with its defaults."""
        keys = options_of(kind)
        given = self.given(options, keys, path, "problem", kind)
        made = {name: self.check(keys[name].annotation, option, (*path, name)) for name, option in given.items()}
        self.require(given, keys, path)
        return {name: made.get(name, key.default) for name, key in keys.items()}

    def data(self, value: Any) -> Any:
        spec = self.fill(DataSpec, value, ("data",))
        if spec is not FAULTY and spec.source == "synthetic" and spec.synthetic is None:
            return replace(spec, synthetic=Synthetic())  # so that `resolved` says what is drawn
        return spec

    def stop(self, value: Any) -> Any:
        data = self.mapping(value, ("stop",))
        if data is None:
            return FAULTY
        if all(limit is None for limit in data.values()) and set(data) <= set(keys_of(Stop)):
            return keys_of(RunConfig)["stop"].default
        return self.fill(Stop, data, ("stop",))


def _said(value: Any, annotation: Any, faults: list[Any]) -> str:
    """The sentence about a value of a wrong type; Pydantic's own words only where the type has none."""
    return wrong_value(value, annotation) or f"found {show(value)}; {faults[0]['msg']}"


def _elsewhere(name: str, path: Path, family: str) -> str:
    """Where a key belongs that is unknown at ``path``: to another kind of the same family, or another section."""
    having = [kind for kind, cls in FAMILIES.get(family, {}).items() if name in keys_of(cls)]
    if having:
        return f"`{name}` belongs to {' and '.join(f'`kind: {kind}`' for kind in having)}"
    homes = [home for home, names in homes_of().items() if name in names and home != path]
    if homes:
        return f"it belongs under `{dotted(homes[0])}`" if homes[0] else "it belongs to the top level"
    return ""


@cache
def homes_of() -> dict[Path, list[str]]:
    """Path of each section -> its keys, to tell where a key that stands elsewhere belongs."""
    top = keys_of(RunConfig)
    homes: dict[Path, list[str]] = {(): [name for name in top if name != "recipe"], ("algorithm",): ["recipe", *ROW]}
    for name, key in top.items():
        if key.section and name not in ("algorithm", "problem"):
            homes[name,] = list(keys_of(key.section))
    homes["problem",] = ["dtype", *(name for kind in problems.PROBLEMS for name in options_of(kind))]
    return homes


def _tupled(value: Any) -> Any:
    """The value with tuples for lists, of any depth."""
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
