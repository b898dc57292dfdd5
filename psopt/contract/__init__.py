"""What every part of a family promises, as checks that psopt's own tests and `psopt check` both run.

A promise is a sentence and a function that is given a part and raises `ContractBroken`, with the numbers that it found,
unless the part keeps it. All random numbers are drawn from fixed seeds, so that a verdict is the same each time.
"""

from collections.abc import Iterator
from typing import Any

from psopt.contract import clocks, saying, serving, working
from psopt.contract.promises import PROMISES, ContractBroken, Promise

__all__ = ["ContractBroken", "Promise", "promises_of", "verdicts"]

assert {promise.family for promise in PROMISES} - {"every"}, (clocks, saying, serving, working)  # imported to be listed


def promises_of(family: str) -> list[Promise]:
    """The promises of a family, those of all parts first."""
    return [promise for promise in PROMISES if promise.family in ("every", family)]


def verdicts(family: str, part: Any) -> Iterator[tuple[Promise, str | None]]:
    """Each promise of the family, and why the part does not keep it; None where it does.

    What the part's own code raises is a broken promise as well.
    """
    for promise in promises_of(family):
        try:
            promise.check(part)
        except ContractBroken as broken:
            yield promise, str(broken)
        except Exception as error:  # noqa: BLE001  (the part is anybody's code)
            yield promise, f"it raised {type(error).__name__}: {error}"
        else:
            yield promise, None
