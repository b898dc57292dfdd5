"""YAML text to plain data and the line of every key; and plain data to YAML text.

Scalars follow the core schema of YAML 1.2: ``1e-8`` is a number, ``yes``, ``on`` and ``1_000`` are text. A key given
twice is an error, and so is a tag.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

from psopt.config.sentences import Complaints

DEEPEST = 30

_INT = re.compile(r"[-+]?[0-9]{1,100}")
_OTHER_BASE = re.compile(r"0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + name: float(sign + "inf") for sign in ("", "+", "-") for name in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+*()-]*")  # text that needs no quotes, unless it reads as something else


def scalar(text: str) -> Any:
    """What an unquoted scalar means."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def read(text: str, where: str, complaints: Complaints, at: tuple[str, ...] = (), numbered: bool = True) -> Any:
    """The data of one YAML document; complaints are made about the path ``at`` and below.

    Raises `ConfigError` at once where the text is no YAML, because nothing after that place can be trusted.
    """
    from psopt.config.yaml_reader import read as read_it  # with the YAML library, which ranks that read no text spare

    return read_it(text, where, complaints, at, numbered)


def dump(data: dict[str, Any]) -> str:
    """Block YAML of mappings, lists and scalars, which `read` turns into the same data again."""
    return "".join(f"{line}\n" for line in _lines(data))


def _lines(data: dict[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield f"{written(key)}:"
            yield from (f"  {line}" for line in _lines(value))
        else:
            yield f"{written(key)}: {written(value)}"


def written(value: Any) -> str:
    """Flow YAML of a mapping, a list or a scalar, which `read` turns into the same value again."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case str() if _PLAIN.fullmatch(value) and isinstance(scalar(value), str):
            return value
        case str():
            return '"' + "".join(map(_escaped, value)) + '"'
        case list():
            return "[" + ", ".join(map(written, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{written(k)}: {written(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 1 << 8 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"
