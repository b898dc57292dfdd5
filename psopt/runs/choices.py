"""Command-line options that are lists: names out of a table, and whole numbers, by commas."""

from collections.abc import Iterable

from psopt.errors import ConfigError


def names(option: str, text: str, valid: Iterable[str]) -> tuple[str, ...]:
    """The names in ``text``, each once; raises `ConfigError` for one that is none of the valid ones."""
    valid = tuple(valid)
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found or set(found) - set(valid):
        raise ConfigError(f"--{option} {text!r}: expected a list of {', '.join(valid)}")
    return found


def whole_numbers(option: str, text: str, least: int) -> tuple[int, ...]:
    """The numbers in ``text``, each once; raises `ConfigError` for one below ``least``, and for anything else."""
    try:
        found = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        found = (least - 1,)
    if min(found) < least:
        raise ConfigError(f"--{option} {text!r}: expected whole numbers, {least} or above, as in 1,8,64")
    return found
