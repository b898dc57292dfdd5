"""The list of promises, and what their checks share."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from psopt.core.state import restored, state_of
from psopt.errors import PsoptError
from psopt.parts import missing
from psopt.parts.thresholds import Threshold

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))


class ContractBroken(PsoptError):
    """A part breaks a promise of its family: says how, and with what numbers."""


class Promise(NamedTuple):
    """What the parts of a family promise (``every``: those of all), and the check, which raises `ContractBroken`."""

    family: str
    sentence: str
    check: Callable[[Any], None]


PROMISES: list[Promise] = []


def promise(family: str, sentence: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Lists the function below as the check of a promise."""

    def listed(check: Callable[[Any], None]) -> Callable[[Any], None]:
        PROMISES.append(Promise(family, sentence, check))
        return check

    return listed


def demand(kept: Any, sentence: str) -> None:
    if not kept:
        raise ContractBroken(sentence)


def demand_same(before: np.ndarray, after: np.ndarray, what: str) -> None:
    """Both arrays hold the same numbers, bit for bit."""
    if np.array_equal(before, after, equal_nan=True):
        return
    if before.shape != after.shape:
        raise ContractBroken(f"{what}: shape {before.shape} became {after.shape}")
    at = np.flatnonzero(~((before == after) | (np.isnan(before) & np.isnan(after))))
    raise ContractBroken(
        f"{what}: {at.size} of {before.size} numbers differ, the first at {at[0]}: {before[at[0]]!r} became "
        f"{after[at[0]]!r}"
    )


def demand_near(expected: np.ndarray, found: np.ndarray, within: Any, what: str) -> None:
    """No number is farther from the expected one than ``within``, one bound or one for each."""
    with np.errstate(invalid="ignore"):
        over = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)) - within
    worst = int(np.argmax(np.where(np.isnan(over), math.inf, over)))
    if not over[worst] <= 0:
        raise ContractBroken(f"{what}: at {worst} expected {expected[worst]!r}, found {found[worst]!r}")


FACTS: dict[str, Mapping[str, tuple[type[Any], ...]]] = {
    "plan": {"single": (bool,), "needs_steps": (bool,)},
    "start": {"fill": (float, int), "forced_rounds": (int,), "silent_rounds": (int,)},
    "selection": {
        "everyone": (bool,),
        "needs_smoothness": (bool,),
        "needs_anchors": (bool,),
        "threshold": (Threshold, NoneType),
    },
    "work": {"needs": (tuple,), "whole": (bool,), "local": (bool,), "replays": (bool,)},
    "trigger": {"lazy": (bool,), "looks_back": (bool,), "threshold": (Threshold, NoneType)},
    "codec": {"replaces": (bool,), "scaled": (bool,)},
    "compressor": {"sparse": (bool,), "exact": (bool,), "contraction": (bool,)},
    "step_size": {"initial": (float, int, str)},
}
"""What a part tells of itself -> its types."""


def tells(family: str) -> None:
    """Lists the promise that parts of the family tell what others go by."""
    facts = FACTS[family]

    @promise(family, f"tells {', '.join(facts)}")
    def check(part: Any) -> None:
        for name, kinds in facts.items():
            found = getattr(part, name)
            fits = isinstance(found, kinds) and (bool in kinds or not isinstance(found, bool))
            words = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            demand(fits, f"`{name}` is {found!r}, expected {words}")


@promise("every", "is frozen, equal to its copy, and hashed alike")
def _is_a_value(part: Any) -> None:
    again = replace(part)
    demand(again == part, f"a copy of {part!r} is not equal to it")
    demand(hash(again) == hash(part), f"a copy of {part!r} has another hash")
    for name in [entry.name for entry in fields(part)] or ["anything"]:
        try:
            setattr(part, name, None)
        except AttributeError:
            continue
        raise ContractBroken(f"`{name}` could be set: what changes belongs into the state that `init` makes")


def saved(state: Any, what: str = "its state") -> Any:
    """A copy of what a checkpoint would hold of the state."""
    try:
        return copy.deepcopy(state_of(state))
    except (TypeError, AttributeError) as error:
        raise ContractBroken(
            f"{what} cannot be saved in a checkpoint: {error}; let its class tell by `SAVED = (...)` which fields are "
            "state: numbers, texts, arrays, generators, or lists, tuples and mappings of these"
        ) from None


def gone_on(fresh: Any, tree: Any) -> Any:
    """A state as a checkpoint gives it back: a fresh one, filled."""
    try:
        return restored(fresh, copy.deepcopy(tree))
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise ContractBroken(f"its state cannot be restored from a checkpoint: {error}") from None


def same_tree(one: Any, other: Any) -> bool:
    """Whether two saved states are equal, bit for bit."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.array_equal(one, other, True)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_tree(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_tree, one, other))
    return one == other or (one != one and other != other)


def has(family: str, part: Any) -> bool:
    """Whether the part has all that its family has."""
    return not missing(family, type(part))
