"""Records beside the frozen dataclasses that they stand for."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

import psopt
from psopt.records import record


def plain(decorator):
    @decorator
    class Made:
        """Something."""

        name: str
        size: float = 1.0
        inner: list = field(default_factory=list)
        kind: ClassVar[str] = "made"

        def __post_init__(self):
            if self.size < 0:
                raise ValueError("negative")

    return Made


@record
class Pair:
    """Two values, at the top of a module as pickle wants them."""

    left: int
    right: tuple = ()

    @property
    def both(self):
        return self.left, self.right


Record, Twin = plain(record), plain(dataclass(frozen=True))
CALLS = [
    ((), {"name": "a"}),
    (("a",), {}),
    (("a", 2), {"inner": [1]}),
    (("a", 2, [3]), {}),
    ((), {"size": 0, "name": 1}),
]


@pytest.mark.parametrize(("given", "named"), CALLS)
def test_a_record_is_made_as_its_twin_is(given, named):
    mine, twin = Record(*given, **named), Twin(*given, **named)
    assert vars(mine) == vars(twin)
    assert list(vars(mine)) == list(vars(twin))
    assert repr(mine) == repr(twin)
    assert dataclasses.asdict(mine) == dataclasses.asdict(twin)
    assert vars(dataclasses.replace(mine, size=7)) == vars(dataclasses.replace(twin, size=7))


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        ((), {}, "missing a required argument: 'name'"),
        (("a", 1, [], 4), {}, "too many positional arguments"),
        (("a",), {"name": "b"}, "multiple values for argument 'name'"),
        (("a",), {"colour": 3}, "got an unexpected keyword argument 'colour'"),
        (("a",), {"kind": 3}, "got an unexpected keyword argument 'kind'"),
    ],
)
def test_what_it_cannot_be_made_of_is_refused_as_by_its_twin(given, named, said):
    with pytest.raises(TypeError):
        Twin(*given, **named)
    with pytest.raises(TypeError, match=rf"^Made\(\): {said}$"):
        Record(*given, **named)


def test_each_has_a_default_of_its_own():
    assert Record("a").inner is not Record("a").inner


def test_post_init_is_called():
    with pytest.raises(ValueError, match="negative"):
        Record("a", -1)


def test_equal_values_make_equal_records():
    assert Pair(1) == Pair(1, ())
    assert Pair(1) != Pair(2)
    assert Pair(1) != (1, ())
    assert hash(Pair(1)) == hash(Pair(1, ())) == hash((1, ()))
    assert {Pair(1), Pair(1, ()), Pair(2)} == {Pair(1), Pair(2)}
    assert Twin("a") != Record("a")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Record("a"))  # it holds a list


def test_nothing_is_set_afterwards():
    made = Pair(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"^cannot assign to field 'left'$"):
        made.left = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.another = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"^cannot delete field 'left'$"):
        del made.left
    assert made == Pair(1)


def test_copies_are_equal():
    made = Pair(1, (2, "x"))
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other == made
        assert other is not made
        assert other.both == (1, (2, "x"))


def test_what_a_class_has_itself_stays():
    class Loud:
        """A record with words of its own."""

        volume: int = 1

        def __repr__(self):
            return "LOUD"

        def __eq__(self, other):
            return isinstance(other, Loud)

    mine, twin = record(Loud), Loud
    assert (repr(mine()), mine(1) == twin(2), hash(mine(3))) == ("LOUD", True, hash((3,)))


def test_patterns_match():
    match Pair(3, (4,)):
        case Pair(left, (right,)):
            assert (left, right) == (3, 4)
        case _:
            raise AssertionError


def test_a_frozen_dataclass_may_follow_a_record_and_no_other():
    @dataclass(frozen=True)
    class Triple(Pair):
        """A third value."""

        third: str = "c"

    made = Triple(1, third="x")
    assert (made.both, made.third) == ((1, ()), "x")
    assert made == Triple(1, (), "x") != Triple(1)
    assert str(inspect.signature(Triple)) == "(left: int, right: tuple = (), third: str = 'c') -> None"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.third = "y"
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
        dataclass(type("Other", (Pair,), {"__annotations__": {"third": str}, "third": "c"}))


def test_a_record_may_follow_a_record():
    @record
    class Triple(Pair):
        """A third value."""

        third: str = "c"

    assert Triple(1, third="x") == Triple(1, (), "x") != Triple(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Triple(1).third = "y"


def test_a_plain_class_below_a_record_has_attributes_and_a_constructor_of_its_own():
    class Counting(Pair):
        """Counts."""

        def __init__(self, left: int) -> None:
            super().__init__(left)
            self.count = 0

    made = Counting(3)
    made.count += 1
    assert (made.left, made.count) == (3, 1)
    assert str(inspect.signature(Counting)) == "(left: int) -> None"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.left = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.right
    del made.count
    assert not hasattr(made, "count")


def records():
    for module in pkgutil.walk_packages(psopt.__path__, "psopt."):
        if module.name in ("psopt.__main__", "psopt.docs.example_notebook") or ".peers." in module.name:
            continue
        try:
            loaded = importlib.import_module(module.name)
        except ModuleNotFoundError:  # PyTorch
            continue
        for made in vars(loaded).values():
            if isinstance(made, type) and made.__module__ == module.name and "__signature__" in vars(made):
                yield made


def test_every_record_could_be_a_dataclass():
    """Which would refuse a field without a default after one with; and all fields are the constructor's."""
    found = list(records())
    assert len(found) > 90
    for made in found:
        told = inspect.signature(made).parameters
        assert list(told) == list(made.__match_args__) == [entry.name for entry in dataclasses.fields(made)], made
