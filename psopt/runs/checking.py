"""`psopt check`: whether parts, recipes and problems of the user's own keep what psopt promises of all of theirs.

A line a promise: ok, or broken and why. What is checked is named by itself, or by a config, of which everything is
checked that is not built in, and then the whole for five rounds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from psopt import problems
from psopt.algorithm import ROW, Algorithm
from psopt.config import Checkpoint, Debug, Failure, RunConfig, Stop, load, overrides, own, parse
from psopt.config.building import Builder
from psopt.config.fields import REQUIRED
from psopt.config.sentences import Complaints, nearest, short
from psopt.contract import verdicts
from psopt.data import open_shards
from psopt.errors import ConfigError, IncompatibleParts, PsoptError
from psopt.parts import OWN_NAME, PROTOCOLS, families_of, kind_of, missing, name_of
from psopt.problems.base import Share
from psopt.problems.check import kept
from psopt.runs.experiment import Plan, simulate

ROUNDS = 5
Verdict = tuple[str, str | None]
"""A promise in words, and why it is broken; None where it is kept."""


def check(what: str, family: str | None, given: Sequence[str]) -> int:
    """Prints all verdicts on ``what``, a config's path or ``package.module:NAME``; 1 if a promise is broken, else 0.

    Raises `ConfigError` for what cannot be checked at all: no such file, module or class, or one of no family.
    """
    by_name = OWN_NAME.fullmatch(what) is not None
    if family is not None and not by_name:
        raise ConfigError("--family is for a class that is named by itself; a config tells by the key")
    if family is not None and family not in PROTOCOLS:
        raise ConfigError(f"--family: unknown family '{short(family, 60)}'; {nearest(family, PROTOCOLS)}")
    broken = total = 0
    for title, promises in _named(what, family, given) if by_name else _of_config(Path(what), given):
        print(title)
        for sentence, why in promises:
            total, broken = total + 1, broken + (why is not None)
            print(f"  broken  {sentence}: {why}" if why is not None else f"  ok      {sentence}", flush=True)
    if total:
        kept_all = f"all {total} promises are kept"
        print(f"{broken} of {total} promises {'is' if broken == 1 else 'are'} broken" if broken else kept_all)
    return int(broken > 0)


def _named(text: str, family: str | None, given: Sequence[str]) -> Iterator[tuple[str, Iterator[Verdict]]]:
    """What a name alone names: a class of parts, with the values that are given, or a recipe."""
    made = own.imported(text, "what is to be checked,")
    if own.is_recipe(made):
        if given:
            raise ConfigError("--set changes the keys of a class, or of a config, and this is a recipe")
        row = own.recipe_named(text).row
        yield from _of_row(row)
        yield f"{text}, a recipe", iter([_reads_back({"recipe": text}, row)])
        return
    family = family or _family_of(text, made)
    data: dict[str, Any] = {"kind": text}
    complaints = Complaints(text)
    for each in given:
        overrides.apply(data, each, complaints)
    part = Builder(complaints).part(family, data, (), REQUIRED)
    complaints.raise_any()
    yield _titled(family, part), _of_part(family, part)


def _family_of(text: str, made: Any) -> str:
    """The family whose members a class has.

    Raises `ConfigError` when it has those of none; with the nearest one, and what is lacking.
    """
    if not isinstance(made, type):
        raise ConfigError(f"'{text}' is a {type(made).__name__}, expected a class of parts, or a recipe")
    if hasattr(made, "value_and_gradient"):
        raise ConfigError(f"'{text}' is a problem, which needs data: name it in a config, and check that")
    found = families_of(made)
    if found:
        return found[0]
    lacking = {family: missing(family, made) for family in PROTOCOLS}
    near = min(lacking, key=lambda family: len(lacking[family]))
    raise ConfigError(
        f"'{text}' is a part of no family; nearest is {near}, of which it lacks {', '.join(lacking[near])}"
    )


def _of_config(path: Path, given: Sequence[str]) -> Iterator[tuple[str, Iterator[Verdict]]]:
    """Everything that the config names and that is not built in, and the whole."""
    config = load(path, given)
    theirs = [*_of_row(config.algorithm)]
    if own.is_own(config.recipe):
        theirs.append((f"{config.recipe}, a recipe", iter([_reads_back({"recipe": config.recipe})])))
    if own.is_own(config.problem.kind):
        own.imported(config.problem.kind, "problem")
        theirs.append((f"{config.problem.kind}, a problem, on the shard of worker 0", _of_problem(config)))
    if not theirs:
        print(f"{path}: names no part, recipe or problem of your own")
        return
    yield from theirs
    yield f"{path}, {ROUNDS} rounds in this process", _of_run(config)


def _of_row(row: Algorithm) -> Iterator[tuple[str, Iterator[Verdict]]]:
    seen = []
    for name in ROW:
        for family, part in own.own_parts(name, getattr(row, name)):
            if part not in seen:
                seen.append(part)
                yield _titled(family, part), _of_part(family, part)


def _titled(family: str, part: Any) -> str:
    values = ", ".join(f"{entry.name} {_short(getattr(part, entry.name))}" for entry in fields(part))
    return f"{kind_of(family, part)}, {own.with_article(family)}" + f" ({values})" * bool(values)


def _short(value: Any) -> str:
    return name_of(type(value)).rpartition(":")[2] if hasattr(value, "__dataclass_fields__") else str(value)


def _of_part(family: str, part: Any) -> Iterator[Verdict]:
    return ((promise.sentence, why) for promise, why in verdicts(family, part))


def _reads_back(algorithm: dict[str, Any], row: Algorithm | None = None) -> Verdict:
    """Whether a recipe means the same in a run's folder, or on another rank, as here."""
    sentence = "means the same when it is written out and read again"
    least = {"workers": 1, "problem": "least-squares", "data": "housing", "stop": {"max_steps": 1000}}
    config = parse({**least, "algorithm": algorithm})
    again = parse(config.resolved())
    same = again == config and again.sha256() == config.sha256() and row in (None, config.algorithm)
    return sentence, None if same else f"{config.algorithm!r} became {again.algorithm!r}"


def _of_problem(config: RunConfig) -> Iterator[Verdict]:
    problem = config.problem
    try:
        shards = open_shards(config.data, config.workers, config.seed, problem.dtype)
        tables = [shards.shard(m) for m in range(config.workers)]
        share = Share(0, config.workers, sum(table.samples for table in tables))
        built = problems.build(problem.kind, tables[0], share, problem.dtype, problem.options)
        for sentence in kept(built, np.random.default_rng(0), problem.dtype):
            yield sentence, None
    except ConfigError as error:
        yield "keeps the next promise", error.message
    except (Exception, SystemExit) as error:  # noqa: BLE001  (the problem is anybody's code)
        yield "keeps the next promise", own.words(error)


def _of_run(config: RunConfig) -> Iterator[Verdict]:
    """Some rounds with both ends compared in each, and again with answers in another order."""
    few = replace(
        config,
        stop=Stop(max_rounds=ROUNDS, max_steps=config.stop.max_steps),
        checkpoint=Checkpoint(keep=0),
        failure=Failure(),
        debug=Debug(check_mirror=True),
        repeat=1,
        faults=(),
        f_star="none",
    )
    yield _attempt("is written out and read again as the same config", lambda: _same_config(config))
    bits = "its rounds end with both ends equal, and with the same bits in whatever order answers arrive"
    yield _attempt(bits, lambda: _same_bits(few))


def _attempt(sentence: str, do: Any) -> Verdict:
    try:
        return sentence, do()
    except (IncompatibleParts, PsoptError) as error:
        return sentence, str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (parts are anybody's code)
        return sentence, own.words(error)


def _same_config(config: RunConfig) -> str | None:
    again = parse(config.resolved())
    return None if again == config and again.sha256() == config.sha256() else f"it became {again.resolved()}"


def _same_bits(config: RunConfig) -> str | None:
    one, other = (simulate(Plan(config, quiet=True), reorder) for reorder in (False, True))
    if np.array_equal(one.theta, other.theta) and np.array_equal(one.uploads, other.uploads):
        return None
    apart = float(np.abs(one.theta - other.theta).max())
    return f"theta is up to {apart:.3g} apart, and {int((one.uploads != other.uploads).sum())} uploads differ"
