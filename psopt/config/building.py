"""Plain data to a `RunConfig`; goes on after a fault, so that all of them are told at once."""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from psopt import problems
from psopt.algorithm import ROW, Algorithm
from psopt.config import faults
from psopt.config.fields import REQUIRED, Key, keys_of, options_of
from psopt.config.model import MOST_WORKERS, NAME, Checkpoint, Failure, ProblemConfig, RunConfig, Stop, Trace
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
from psopt.data import DataSpec, Synthetic
from psopt.errors import ConfigError, IncompatibleParts
from psopt.parts import FAMILIES, NESTED, kind_of
from psopt.parts.plans import Rounds
from psopt.parts.selections import Sampled
from psopt.recipes import RECIPES

OWN_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
LARGEST_F_STAR = 1e300  # gaps are averaged
OWN_CLASS_FORM = "`package.module:Class`"


class Builder:
    """Builds one config. Each method returns `FAULTY` after a complaint."""

    def __init__(self, complaints: Complaints) -> None:
        self.complaints = complaints

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
        self.cross_check(values)
        self.complaints.raise_any()
        return RunConfig(**values)

    def cross_check(self, values: dict[str, Any]) -> None:
        """What one section asks of another."""
        stop, trace, data = values.get("stop"), values.get("trace"), values.get("data")
        row = values["algorithm"]
        self.check_source(values.get("problem"), data)
        faults.cross_check(self, values)
        f_star = values.get("f_star")
        if isinstance(f_star, int | float) and abs(f_star) > LARGEST_F_STAR:
            self.complaints.add(("f_star",), f"found {f_star!r}, expected at most {LARGEST_F_STAR:g} in magnitude")
        if isinstance(values.get("workers"), int) and values["workers"] > MOST_WORKERS:
            self.complaints.add(("workers",), f"found {values['workers']}, expected at most {MOST_WORKERS}")
        if values.get("downlink") == "changes" and isinstance(row, Algorithm) and not row.selection.everyone:
            self.complaints.add(
                ("downlink",),
                f"`changes` cannot be used with selection `{row.name('selection')}`, because a worker that is not "
                "asked would not hear what the others said",
            )
        if isinstance(row, Algorithm):
            self.cross_check_row(row, values)
        self.cross_check_failure(values)
        repeat, saved = values.get("repeat"), values.get("checkpoint", Checkpoint())
        if isinstance(repeat, int) and repeat > 1 and isinstance(saved, Checkpoint) and saved != Checkpoint():
            self.complaints.add(
                ("checkpoint",),
                "cannot be used with `repeat`, where a replica that is done is kept and another begins again",
            )
        if not isinstance(stop, Stop):
            return
        if stop.gradient_norm is not None and isinstance(row, Algorithm) and row.workers_step:
            who = f"work `{row.name('work')}`" if row.work.local else "a codec of `scale: step`"
            self.complaints.add(
                ("stop", "gradient_norm"),
                f"cannot be used with {who}, because the aggregate then holds steps and no gradients",
            )
        if stop.gap is not None and values.get("f_star") == "none":
            self.complaints.add(
                ("stop", "gap"), "cannot be used with `f_star: none`, because the gap is the distance of F from f_star"
            )
        if stop.gap is not None and isinstance(trace, Trace) and not trace.objective:
            self.complaints.add(("stop", "gap"), "cannot be used with `trace.objective: false`, which leaves no gap")
        if stop.test_accuracy is not None and isinstance(data, DataSpec) and data.test is None:
            self.complaints.add(("stop", "test_accuracy"), "needs test rows: set `data.test`")

    def cross_check_failure(self, values: dict[str, Any]) -> None:
        """What a run that is to survive the loss of workers cannot be."""
        failure, repeat, path = values.get("failure"), values.get("repeat"), ("failure", "policy")
        if not (isinstance(failure, Failure) and failure.survives):
            return
        if values.get("downlink") == "changes":
            self.complaints.add(
                path,
                f"`{failure.policy}` cannot be used with `downlink: changes`, because the ranks' copies of theta are "
                "made of what all workers say",
            )
        if isinstance(repeat, int) and repeat > 1:
            self.complaints.add(
                path,
                f"`{failure.policy}` cannot be used with `repeat`, because a replica lives in one process",
            )

    def cross_check_row(self, row: Algorithm, values: dict[str, Any]) -> None:
        """What the row asks of the length of the run and the number of workers."""
        stop, workers = values.get("stop", Stop(max_rounds=1)), values.get("workers")
        if row.plan.needs_steps and isinstance(stop, Stop) and stop.max_steps is None:
            self.complaints.add(
                ("algorithm", "plan"), f"`{row.name('plan')}` needs the length of the run: set `stop.max_steps`"
            )
        elif isinstance(stop, Stop) and isinstance(workers, int):
            try:
                Rounds(row.plan, stop.max_steps, workers)
            except ConfigError as error:
                self.complaints.add(("algorithm", "plan"), f"{error.message}, with M = {workers}")
        kind = getattr(values.get("problem"), "kind", None)
        if kind in problems.PROBLEMS and not problems.PROBLEMS[kind].data and getattr(row.work, "draw", "") == "epoch":
            self.complaints.add(
                ("algorithm", "work", "draw"),
                f"`epoch` cannot be used with problem `{kind}`, because its samples have no end: set `replace`",
            )
        if isinstance(row.selection, Sampled) and isinstance(workers, int) and (row.selection.count or 0) > workers:
            self.complaints.add(
                ("algorithm", "selection", "count"), f"found {row.selection.count}, but there are {workers} workers"
            )

    def check_source(self, problem: Any, data: Any) -> None:
        """A built-in problem learns from data or has none; a class may do either."""
        if not (isinstance(problem, ProblemConfig) and isinstance(data, DataSpec)):
            return
        entry = problems.PROBLEMS.get(problem.kind)
        if entry and entry.data and data.source == "none":
            self.complaints.add(
                ("data",), f"`none` cannot be used with problem `{problem.kind}`, because that learns from data"
            )
        elif entry and not entry.data and data.source != "none":
            self.complaints.add(
                ("data",),
                f"`{data.source}` cannot be used with problem `{problem.kind}`, because that draws samples of its own: "
                "set `data: none`",
            )

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

    def mapping(self, value: Any, path: Path, expected: str = "a mapping") -> dict[str, Any] | None:
        value = spelled_out(path, value)
        if isinstance(value, dict):
            return value
        if value is not FAULTY:
            self.complaints.add(path, f"found {show(value)}, expected {expected}")
        return None

    def check(self, annotation: Any, value: Any, path: Path) -> Any:
        """``value`` as that type, strictly: a whole number may stand for any number, nothing else is converted."""
        if value is FAULTY:
            return FAULTY
        try:
            return _adapter(annotation).validate_python(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False)
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
        values = {name: self.value(cls, name, keys[name], given[name], path, base) for name in given}
        if base is None:
            self.require(values, keys, path)
        if len(self.complaints) > faults or FAULTY in values.values():
            return FAULTY
        one_of = getattr(cls, "one_of", ())
        if base is not None and any(name in values for name in one_of):
            values = {**dict.fromkeys(one_of), **values}  # the one that the recipe had set gives way
        try:
            return cls(**values) if base is None else replace(base, **values)
        except ConfigError as error:
            named = re.match(r"key '(\w+)'", error.message)
            self.complaints.add((*path, named[1]) if named and named[1] in given else path, error.message)
        except (ArithmeticError, TypeError, ValueError, RecursionError, MemoryError):  # of a formula, say
            self.complaints.add(path, f"cannot be used: {', '.join(f'{n} is {show(v)}' for n, v in values.items())}")
        return FAULTY

    def value(self, cls: type[Any], name: str, key: Key, value: Any, path: Path, base: Any) -> Any:
        inner = NESTED.get((_families().get(cls), name))
        if inner:
            return self.part(inner, value, (*path, name), key.default if base is None else getattr(base, name))
        if key.section:
            return self.fill(key.section, value, (*path, name))
        return self.check(key.annotation, value, (*path, name))

    def part(self, family: str, value: Any, path: Path, base: Any) -> Any:
        """A part. A mapping with ``kind`` starts from that kind's defaults, one without from ``base``."""
        kinds = FAMILIES[family]
        numbers = "a number, a formula, " if family == "step_size" else ""
        data = self.mapping(value, path, f"{numbers}the name of a {family} or a mapping with `kind`")
        if data is None:
            return FAULTY
        kind = data.get("kind")
        rest = {name: inner for name, inner in data.items() if name != "kind"}
        if kind is None and base is REQUIRED:
            self.complaints.add((*path, "kind"), f"missing; expected one of {', '.join(kinds)}")
            return FAULTY
        if kind is None:
            return self.fill(type(base), rest, path, family, kind_of(family, base), base)
        if not self.known(kind, kinds, family, (*path, "kind") if isinstance(value, dict) else path):
            return FAULTY
        return self.fill(kinds[kind], rest, path, family, kind)

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
            if self.known(recipe, RECIPES, "recipe", (*path, "recipe") if isinstance(value, dict) else path):
                row = RECIPES[recipe].row
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
            if not OWN_CLASS.fullmatch(kind):
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


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


@cache
def _families() -> dict[type[Any], str]:
    return {cls: family for family, kinds in FAMILIES.items() for cls in kinds.values()}
