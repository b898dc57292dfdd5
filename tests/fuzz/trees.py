"""Mutations of a config as data, and of what is said on the command line."""

import copy
import datetime
import decimal
import math
import pathlib
import random
from typing import Any

import numpy as np

from psopt.parts import FAMILIES
from psopt.problems import PROBLEMS
from psopt.recipes import RECIPES

PLAIN = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 1000, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63)),
    *(10**40, 0.0, -0.0, 0.5, 1.0, 1.5, 1e-8, 1e-300, 5e-324, 1e17, 1e300, 1.7976931348623157e308),
    *(math.nan, math.inf, -math.inf),
    *(
        "",
        " ",
        "~",
        "null",
        "yes",
        "1",
        "1e-8",
        "auto",
        "none",
        "NaN",
        "gd",
        "sasg",
        "M",
        "L",
        "1/L",
        "1/0",
        "sqrt(-1)",
    ),
    *("M**M**M", "9**9**9", "1/(M*L)", "__import__('os')", "0x10", "1_000", "2024-01-01", "١٢", "é", "\u2028", "a\nb"),
    *("\0", "\ud800", "x" * 10_000, "../..", "/", "/dev/null", ".", "{worker}", "{worker:0999999999d}", "{worker!r}"),
    *("math:sqrt", "json:JSONDecoder", "no_such:Thing", ".x:y", "a..b:c", "a:b:c", ":", "math:", "x:y\0", "é:é"),
    *("collections:OrderedDict", "psopt.errors:ConfigError", "psopt.problems.torch_models:lenet"),
    *([], [1], [[]], [1, "a", None], [1.5, -1], [2**63 - 1], [0.1] * 10, ["x"] * 50, [[[[[[1]]]]]]),
    *({}, {"kind": "gd"}, {"kind": []}, {"kind": {}}, {"kind": None}, {"a": {"b": {}}}, {"kind": "fixed", "divide": 0}),
]

ODD = [
    *(b"bytes", (1,), {1}, frozenset(), 1j, object(), len, pathlib.Path("x"), decimal.Decimal(1), range(3), ...),
    *(datetime.date(2024, 1, 1), {1: 2}, {None: 1}, {(1,): 1}, {"\ud800": 1}, {"": 1}, {"a.b": 1}, {"\n": 1}),
    *(
        np.float32("nan"),
        np.float64(0.5),
        np.int8(3),
        np.uint64(2**64 - 1),
        np.array([1.0]),
        np.array(5),
        np.bool_(True),
    ),
    *(np.array(["a"]), np.array([object()]), np.datetime64("2024-01-01"), np.str_("gd"), np.zeros((0,)), np.array(1j)),
]

NAMES = [
    *(kind for kinds in FAMILIES.values() for kind in kinds),
    *(
        *RECIPES,
        *PROBLEMS,
        "memory",
        "synthetic",
        "shards",
        "file",
        "housing",
        "lag-linear",
        "lag-uniform",
        "mnist",
        "idx",
    ),
    *("epoch", "replace", "keep", "tensor", "theta", "float32", "float16", "changes", "iid", "by_label", "dirichlet"),
    *(
        "replicated",
        "blocks",
        "max-abs",
        "z-score",
        "min-max",
        "fixed",
        "drop",
        "spread",
        "official",
        "mean",
        "sum",
        "relu",
    ),
    *(
        "1/L",
        "1/(M*L)",
        "sqrt(M)",
        "M",
        "0.01*M",
        "csv",
        "npz",
        "libsvm",
        "npy",
        "train.csv",
        "train.libsvm",
        "shard_0.npz",
    ),
]

KEYS = [
    *("kind", "recipe", "batch", "window", "xi", "rounds", "step_size", "l2", "classes", "hidden", "source", "path"),
    *(
        "test",
        "seed",
        "of",
        "count",
        "fraction",
        "feedback",
        "compressor",
        "trigger",
        "work",
        "plan",
        "",
        "a.b",
        "Kind",
    ),
    *("kind ", "ключ", "__init__", "self", "dtype", "shard", "\n", "x" * 300),
]


def paths(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value below the root."""
    found: list[tuple[Any, ...]] = []
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in pairs:
        found += [(*at, key), *paths(inner, (*at, key))]
    return found


def _parent(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def replace(rng: random.Random, tree: dict, others: list[dict], pool: list[Any]) -> None:
    path = rng.choice(paths(tree))
    _parent(tree, path)[path[-1]] = copy.deepcopy(rng.choice(pool))


def alike(rng: random.Random, tree: dict, others: list[dict], pool: list[Any]) -> None:
    """A value gives way to another of its own type, which goes deeper than one of a wrong type."""
    path = rng.choice([path for path in paths(tree) if not isinstance(_parent(tree, path)[path[-1]], dict)])
    parent, last = _parent(tree, path), path[-1]
    number = isinstance(parent[last], int | float) and not isinstance(parent[last], bool)
    kinds = (int, float) if number else type(parent[last])
    fitting = [value for value in pool if isinstance(value, kinds) and isinstance(value, bool) <= (not number)]
    if isinstance(parent[last], str) and rng.random() < 0.7:
        fitting = NAMES
    parent[last] = copy.deepcopy(rng.choice(fitting or pool))


def drop(rng: random.Random, tree: dict, others: list[dict], pool: list[Any]) -> None:
    path = rng.choice(paths(tree))
    del _parent(tree, path)[path[-1]]


def _mapping(rng: random.Random, tree: dict) -> dict:
    inner = [_parent(tree, path)[path[-1]] for path in paths(tree)]
    return rng.choice([tree, *(value for value in inner if isinstance(value, dict))])


def add(rng: random.Random, tree: dict, others: list[dict], pool: list[Any]) -> None:
    _mapping(rng, tree)[rng.choice(KEYS)] = copy.deepcopy(rng.choice(pool))


def rename(rng: random.Random, tree: dict, others: list[dict], pool: list[Any]) -> None:
    path = rng.choice([path for path in paths(tree) if isinstance(path[-1], str)])
    parent, name = _parent(tree, path), path[-1]
    other = rng.choice([name.upper(), name + "s", name[:-1], name.replace("_", "-"), rng.choice(KEYS)])
    parent[other] = parent.pop(name)


def exchange(rng: random.Random, tree: dict, others: list[dict], pool: list[Any]) -> None:
    """A part or a section of another config, here or elsewhere."""
    other = rng.choice(others)
    path = rng.choice(paths(other))
    taken = copy.deepcopy(_parent(other, path)[path[-1]])
    same = [mine for mine in paths(tree) if mine[-1] == path[-1]]
    if same and rng.random() < 0.8:
        mine = rng.choice(same)
        _parent(tree, mine)[mine[-1]] = taken
    elif len(path) > 1 and isinstance(tree.get(path[0]), dict) and isinstance(path[-1], str):
        tree[path[0]][path[-1]] = taken
    else:
        tree[path[0]] = copy.deepcopy(other[path[0]])


def move(rng: random.Random, tree: dict, others: list[dict], pool: list[Any]) -> None:
    path = rng.choice(paths(tree))
    taken = copy.deepcopy(_parent(tree, path)[path[-1]])
    _mapping(rng, tree)[str(path[-1])] = taken


MUTATIONS = {
    "replaced": (replace, alike, alike, alike, alike),
    "keys": (drop, add, rename),
    "exchanged": (exchange, move),
}


def mutated(rng: random.Random, base: dict, others: list[dict], kind: str, odd: bool) -> dict:
    """A copy with one to three mutations of that kind."""
    tree = copy.deepcopy(base)
    pool = PLAIN + ODD if odd else PLAIN
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if paths(tree):
            rng.choice(MUTATIONS[kind])(rng, tree, others, pool)
    return tree


FLAG_VALUES = [
    *("", "1", "-1", "0.5", "1e400", ".nan", "null", "~", "[]", "[1", "{", "{}", "{kind: gd}", "*a", "&a 1", "!!int 1"),
    *(
        "a: b",
        "- 1",
        "# x",
        "x # y",
        "'",
        '"',
        "\t",
        "\n",
        "a\nb: c",
        "1,2,3",
        "1,,2",
        ",",
        "[1,2],[3]",
        "é",
        "\0",
        "\ud800",
    ),
    *(
        "9" * 500,
        "x" * 5000,
        "[" * 100,
        "2147483648",
        "1,1,1",
        "true,false",
        "gd,sasg",
        "{a: 1},{b: 2}",
        "---",
        "...",
        "%",
    ),
    *("a\n---\nb", "? x", "|\n x", "]", "}", "1]", "1}, {2", "1] # ", "\u2028", "a\x00b", "lag-wk", "1/L", "@", "`"),
]

FLAG_KEYS = [
    *("seed", "workers", "name", "algorithm", "algorithm.recipe", "algorithm.step_size", "algorithm.trigger.xi"),
    *("algorithm.work.batch", "stop.gap", "stop", "problem.l2", "problem", "data.source", "data", "data.test.fraction"),
    *(
        "",
        ".",
        "a..b",
        "seed.",
        ".seed",
        "a" * 300,
        ".".join("a" * 100),
        "seed.x",
        " seed ",
        "é",
        "0",
        "a b",
        "data.[0]",
    ),
    *(
        "\n",
        "seed\n",
        "stop.max_rounds",
        "repeat",
        "f_star",
        "debug.check_mirror",
        "trace.every",
        "downlink",
        "-",
        "\0",
    ),
]


def flag(rng: random.Random) -> str:
    """What could stand behind ``--set`` or ``--grid``."""
    if rng.random() < 0.05:
        return rng.choice(["", "=", "==", "seed", "seed:1", "=1", "a=b=c", "\n=1"])
    return f"{rng.choice(FLAG_KEYS)}={rng.choice(FLAG_VALUES)}"
