"""Run-time state as plain data, and back: what a checkpoint holds.

A tree is a JSON value whose leaves may be arrays as well. An object tells by ``SAVED`` which of its fields are state;
all else about it is made anew, by the same code from the same config, or is scratch. After its fields are back, its
method ``resumed``, if it has one, makes what follows from them.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

Tree = Any

_PLAIN = (bool, int, float, str, type(None), np.ndarray)


def state_of(value: Any) -> Tree:
    """The state of an object, a generator, an array (the array itself, not a copy), or a collection of such.

    Raises `TypeError` for an object that does not tell what of it is state.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, _PLAIN):
        return value
    saved = getattr(type(value), "SAVED", None)
    if saved is not None:
        return {name: state_of(getattr(value, name)) for name in saved}
    if isinstance(value, np.random.Generator):
        return state_of(value.bit_generator.state)
    if isinstance(value, list | tuple | deque):
        return [state_of(inner) for inner in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: state_of(inner) for key, inner in value.items()}
        return [[key, state_of(inner)] for key, inner in value.items()]
    raise TypeError(f"{type(value).__name__} does not tell what of it is state")


def restored(value: Any, tree: Tree) -> Any:
    """What takes the place of ``value``, whose state was ``tree``: itself, changed in place, wherever that can be.

    An array of the same shape and dtype is written into, so that its views stay views; objects and generators keep
    their identity; a tuple is made anew.
    """
    if isinstance(value, np.ndarray):
        if value.shape == tree.shape and value.dtype == tree.dtype:
            value[...] = tree
            return value
        return tree.copy()
    saved = getattr(type(value), "SAVED", None)
    if saved is not None:
        for name in saved:
            setattr(value, name, restored(getattr(value, name), tree[name]))
        if hasattr(value, "resumed"):
            value.resumed()
        return value
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = tree
        return value
    if isinstance(value, deque):
        return deque(tree, value.maxlen)
    if isinstance(value, list | tuple):
        inner = [restored(old, new) for old, new in zip(value, tree, strict=True)] if len(value) == len(tree) else tree
        return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    if isinstance(value, Mapping) and isinstance(tree, list):
        return dict(tree)
    return tree
