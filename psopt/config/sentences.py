"""What is wrong with a config, in sentences: where it stands, what was found, what was expected, what is near."""

import difflib
import math
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from psopt.errors import ConfigError, printable
from psopt.records import record

Path = tuple[Any, ...]

FAULTY = object()  # in place of a value about which there is a complaint already


@record
class Complaint:
    """One sentence; ``order`` sorts complaints by line, those of flags last."""

    place: str
    path: Path
    sentence: str
    order: float

    def __str__(self) -> str:
        path = dotted(self.path)
        return f"{self.place}: {path}: {self.sentence}" if path else f"{self.place}: {self.sentence}"


class Complaints:
    """Gathers all that is wrong, so that it is told at once; knows the place of every path.

    Parameters
    ----------
    where : str
        The place of what has none of its own.
    """

    def __init__(self, where: str) -> None:
        self._places: dict[Path, tuple[str, float]] = {(): (where, 0)}
        self._all: list[Complaint] = []

    def __len__(self) -> int:
        return len(self._all)

    def note(self, path: Path, place: str, order: float = math.inf) -> None:
        """Where ``path`` stands, and so all below it until told otherwise."""
        self._places[path] = place, order

    def forget_below(self, path: Path) -> None:
        """The value at ``path`` is replaced: the places inside it are no more."""
        self._places = {p: place for p, place in self._places.items() if not p or p[: len(path)] != path}

    def add(self, path: Path, sentence: str, place: str = "", order: float = 0) -> None:
        """``sentence`` about ``path``, whose place is looked up unless given; the nearest parent's, if it has none."""
        known = path
        while not place:
            if known in self._places:
                place, order = self._places[known]
            known = known[:-1]
        self._all.append(Complaint(place, path, sentence, order))

    def raise_any(self) -> None:
        """Raises one `ConfigError` with a line a complaint, if there is any."""
        if self._all:
            ordered = sorted(self._all, key=lambda complaint: complaint.order)
            raise ConfigError("\n".join(dict.fromkeys(map(str, ordered))))


def dotted(path: Path) -> str:
    return ".".join(short(str(key), 60) for key in path)


def short(text: str, length: int) -> str:
    """One line of at most ``length`` characters."""
    text = printable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def show(value: Any) -> str:
    """A value found, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text '{short(value, 60)}'"
        case float() if not math.isfinite(value):
            return "a number that is not finite"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return "a list" if value else "an empty list"
        case dict():
            return "a mapping" if value else "an empty mapping"
    return f"a Python {type(value).__name__}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the valid one that is near, or all of them."""
    valid = list(valid)
    plain = {v.lower().replace("_", "-"): v for v in valid}
    near = difflib.get_close_matches(name.lower().replace("_", "-"), plain, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{plain[near[0]]}`?"
    return f"valid are {', '.join(valid)}" if valid else "none is valid here"


def wrong_value(value: Any, annotation: Any) -> str | None:
    """Found and expected, for a value that does not fit; None where the annotation has no words."""
    expected = describe(annotation)
    if expected is None:
        return None
    names = [name for name in _literals(annotation) if isinstance(name, str)]
    near = nearest(value, names) if isinstance(value, str) and names else ""
    if near.startswith("did"):
        return f"found {show(value)}; {near}"
    hint = ""
    if isinstance(value, str) and expected == "true or false" and value.lower() in ("yes", "no", "on", "off"):
        hint = "; YAML 1.2 takes yes, no, on and off as text"
    return f"found {show(value)}, expected {expected}{hint}"


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
_BOUNDS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
"""By the one attribute of `psopt.bounds` and of `annotated_types`."""


def describe(annotation: Any) -> str | None:
    """A type in words, such as ``a whole number above 0``; None if it has none."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        base = describe(arguments[0])
        if base is None:
            return None
        bounds = [
            f"{words} {getattr(bound, name)}"
            for bound in arguments[1:]
            for name, words in _BOUNDS.items()
            if getattr(bound, name, None) is not None
        ]
        return " ".join([base, " and ".join(bounds)]) if bounds else base
    if origin is Literal:
        names = [str(name) for name in arguments]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if origin in (Union, types.UnionType):
        words = [describe(argument) for argument in arguments if argument is not types.NoneType]
        return None if None in words else " or ".join(filter(None, words))
    if origin in (tuple, list):
        plural = _PLURALS.get(arguments[0])
        return f"a list of {plural}" if plural else "a list"
    return _WORDS.get(annotation)


def item_type(annotation: Any) -> Any:
    """The type of a list's items, where the annotation allows a list; else None."""
    if get_origin(annotation) in (tuple, list):
        return get_args(annotation)[0]
    inner = (item_type(argument) for argument in get_args(annotation) if get_origin(argument))
    return next(filter(None, inner), None)


def _literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [name for argument in get_args(annotation) if get_origin(argument) for name in _literals(argument)]
