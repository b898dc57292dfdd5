"""The data of a YAML document, from the events of ruamel.yaml's parser; `yaml_source` says what is allowed."""

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from psopt.config.sentences import Complaints, show
from psopt.config.yaml_source import DEEPEST, scalar
from psopt.errors import ConfigError


def read(text: str, where: str, complaints: Complaints, at: tuple[str, ...], numbered: bool) -> Any:
    """As `psopt.config.yaml_source.read`."""
    try:
        return _Reader(text, where, complaints, numbered).document(at)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark and numbered else where
        column = f"column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{column}{_what(error)}", place) from None
    except YAMLError as error:  # a character that YAML forbids
        character, position = getattr(error, "character", None), getattr(error, "position", None)
        if character is None or position is None:
            raise ConfigError(f"is not YAML: {str(error).splitlines()[0]}", where) from None
        code = ord(character) if isinstance(character, str) else int(character)
        line = text.count("\n", 0, position) + 1
        raise ConfigError(
            f"holds the character U+{code:04X}, which YAML does not allow", f"{where}:{line}" if numbered else where
        ) from None


def _what(error: MarkedYAMLError) -> str:
    problem = " ".join((error.problem or "this cannot be read").split())
    context = " ".join((error.context or "").split())
    return f"is not YAML: {problem}" + (f" ({context})" if context else "")


def _parsed(text: str, where: str) -> Iterator[Event]:
    """The parser's events; what it does not foresee, as an escape beyond Unicode, is a fault of the text as well."""
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except YAMLError:
        raise
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"is not YAML: {' '.join(str(error).split())[:200]}", where) from None


class _Reader:
    """Builds data from the parser's events; an alias stands for the very object of its anchor."""

    def __init__(self, text: str, where: str, complaints: Complaints, numbered: bool) -> None:
        self._events: Iterator[Event] = _parsed(text, where)
        self._where = where
        self._complaints = complaints
        self._numbered = numbered
        self._anchors: dict[str, Any] = {}
        self._depth = 0

    def document(self, at: tuple[str, ...]) -> Any:
        data, seen = None, False
        self._depth = len(at)
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if seen:
                    raise ConfigError("a second document begins; expected one", self._place(event))
                seen = True
                data = self._node(next(self._events), at)
        return data

    def _place(self, event: Event) -> str:
        return f"{self._where}:{event.start_mark.line + 1}" if self._numbered else self._where

    def _node(self, event: Event, path: tuple[Any, ...]) -> Any:
        self._depth += 1  # more than the path is long, where keys are mappings themselves
        if self._depth > DEEPEST + 1:
            raise ConfigError(f"is nested deeper than {DEEPEST} levels", self._place(event))
        data = self._content(event, path)
        self._depth -= 1
        return data

    def _content(self, event: Event, path: tuple[Any, ...]) -> Any:
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise ConfigError(f"the alias `*{event.anchor}` stands for nothing", self._place(event))
            return self._anchors[event.anchor]
        if event.tag not in (None, "!"):
            self._complaints.add(path, f"the tag `{event.tag}` is not used in configs: remove it")
        match event:
            case MappingStartEvent():
                data: Any = self._mapping(path)
            case SequenceStartEvent():
                data = []
                while not isinstance(item := next(self._events), SequenceEndEvent):
                    self._note((*path, len(data)), item)
                    data.append(self._node(item, (*path, len(data))))
            case ScalarEvent():
                data = scalar(event.value) if event.style is None and event.tag is None else event.value
        if event.anchor:
            self._anchors[event.anchor] = data
        return data

    def _mapping(self, path: tuple[Any, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._node(event, path)
            place, line = self._place(event), event.start_mark.line + 1
            if isinstance(key, str) and key not in data:
                self._note((*path, key), event)
                lines[key] = line
                data[key] = self._node(next(self._events), (*path, key))
                continue
            if isinstance(key, str):
                first = f", first on line {lines[key]}" if self._numbered else ""
                self._complaints.add((*path, key), f"this key is given twice{first}: keep one", place, line)
            else:
                self._complaints.add(path, f"found {show(key)} as a key, expected a name", place, line)
            self._skip(path)
        return data

    def _skip(self, path: tuple[Any, ...]) -> None:
        """Reads past a value, whose own lines and faults do not matter."""
        aside = _Reader("", self._where, Complaints(self._where), self._numbered)
        aside._events, aside._anchors, aside._depth = self._events, self._anchors, self._depth
        aside._node(next(self._events), path)

    def _note(self, path: tuple[Any, ...], event: Event) -> None:
        if self._numbered:
            line = event.start_mark.line + 1
            self._complaints.note(path, f"{self._where}:{line}", line)
