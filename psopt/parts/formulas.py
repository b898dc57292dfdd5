"""Numbers given as formulas in what is known once the workers have said hello.

``L`` is the smoothness of the whole objective, ``M`` the number of workers: ``1/L``, ``1/(M*L)``,
``1/(2*sqrt(M)*L)``, ``M**0.75``.
"""

import ast
import math
import operator
import sys

from psopt.errors import ConfigError

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}

_EXAMPLES = {
    "step size": "L (smoothness) and M (workers), such as 1/L or 1/(2*sqrt(M)*L)",
    "number of rounds": "M (workers), such as M or sqrt(M)",
}
"""What is given by formulas -> the end of the sentence about one that is none."""

LONGEST = 200
"""Characters of a formula; more would only nest too deeply or hold a number too large."""


def names_in(formula: float | str, what: str = "step size") -> set[str]:
    """The variables that a formula uses; raises `ConfigError` when it is none."""
    if not isinstance(formula, str):
        return set()
    names: set[str] = set()
    _value(_parse(formula, what), formula, what, None, names)
    return names


def evaluate(formula: float | str, known: dict[str, float], what: str = "step size") -> float:
    """The value of a formula, a positive number; raises `ConfigError` when it is not one."""
    text = isinstance(formula, str)
    value = _value(_parse(formula, what), formula, what, known, set()) if text else float(formula)
    if not (isinstance(value, float) and math.isfinite(value) and value > 0):
        raise ConfigError(f"the {what} {formula!r} comes out as {value}; expected a positive number")
    return value


def _parse(formula: str, what: str) -> ast.expr:
    if len(formula) > LONGEST:
        raise _bad(f"{formula[:40]}...", what)
    try:
        return ast.parse(formula, mode="eval").body
    except (SyntaxError, ValueError):
        raise _bad(formula, what) from None


def _bad(formula: str, what: str) -> ConfigError:
    return ConfigError(f"{formula!r} is not a {what}; expected a number or a formula in {_EXAMPLES[what]}")


def _value(node: ast.expr, formula: str, what: str, known: dict[str, float] | None, names: set[str]) -> float:
    """Walks the few kinds of node a formula may hold; without ``known``, only checks and collects names."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return float(node.value) if node.value <= sys.float_info.max else math.inf
        case ast.Name(id="L" | "M"):
            names.add(node.id)
            return known[node.id] if known is not None else 1.0
        case ast.BinOp(op=op) if type(op) in _OPERATORS:
            left = _value(node.left, formula, what, known, names)
            right = _value(node.right, formula, what, known, names)
            try:
                value = _OPERATORS[type(op)](left, right)
            except (ZeroDivisionError, OverflowError):
                return math.nan
            return value if isinstance(value, float) else math.nan  # a root of a negative number is complex
        case ast.Call(func=ast.Name(id="sqrt"), args=[argument], keywords=[]):
            inner = _value(argument, formula, what, known, names)
            return math.sqrt(inner) if inner >= 0 else math.nan
    raise _bad(formula, what)
