"""The short forms: a name in place of a mapping, and what each stands for."""

from typing import Any

from psopt.config.sentences import Path
from psopt.parts import FAMILIES, NESTED, OWN_NAME

# The key that a bare name fills.
_NAME_FILLS = {
    ("algorithm",): "recipe",
    ("problem",): "kind",
    ("data",): "source",
    ("downlink",): "kind",
    ("broadcast",): "kind",
    ("data", "partition"): "kind",
    ("data", "standardise"): "kind",
    ("data", "test"): "split",
}


def spelled_out(path: Path, value: Any, family: str | None = None) -> Any:
    """The mapping that a name stands for (at the step size also a number or a formula); other values as they are.

    ``family``: that of the part at ``path``, where the path alone does not tell.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    family = family or _family(path)
    if family == "step_size" and (number or isinstance(value, str)):
        named = value in FAMILIES["step_size"] or (isinstance(value, str) and OWN_NAME.fullmatch(value))
        return {"kind": value} if named else {"kind": "constant", "initial": value}
    if not isinstance(value, str):
        return value
    if path in _NAME_FILLS:
        return {_NAME_FILLS[path]: value}
    return {"kind": value} if family else value


def _family(path: Path) -> str | None:
    """The family that a part at ``path`` is of; None where no part stands."""
    if path[:1] != ("algorithm",) or len(path) < 2 or path[1] not in FAMILIES:
        return None
    family = path[1]
    for name in path[2:]:
        family = NESTED.get((family, name))
    return family
