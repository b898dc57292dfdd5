"""The shipped pages, `psopt/docs/*.md`: which there are, a section of one, and showing it."""

import io
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from psopt.config.sentences import nearest
from psopt.errors import ConfigError

HEADING = re.compile(r"(#{1,4}) (.+)")
KEY = re.compile(r"\* `([\w.]+)` \(")
LOWEST = 9
"""The level of a key of a config, as its reference lists them: below every heading."""

WIDEST = 100
"""Columns of a page in a terminal: longer lines are hard to read."""


def folder() -> Path:
    """Where the pages lie."""
    return Path(str(files("psopt") / "docs"))


def topics() -> dict[str, str]:
    """Topic -> title of its page, by name."""
    pages = sorted(folder().glob("*.md"))
    return {page.stem: _heading(_text(page).splitlines()[0])[1] for page in pages}


def path_of(topic: str) -> Path:
    """The file of a topic."""
    known = topics()
    if topic not in known:
        raise ConfigError(f"there is no page '{topic}'; {nearest(topic, known)}")
    return folder() / f"{topic}.md"


def page_of(wanted: str) -> str:
    """The Markdown of a topic, of TOPIC#SECTION, or of a section that has this name on whatever page.

    A section is named by its heading or by the part of it before a colon, in any case and with any punctuation:
    ``lag-wk`` is `lag-wk: the workers decide`. A key of a config is a section too. Raises `ConfigError`, with the
    nearest name, when there is none.
    """
    known = topics()
    topic, _, section = wanted.partition("#")
    if not section and topic in known:
        return _text(path_of(topic))
    names: dict[str, str] = {}
    for page in [topic] if section else known:
        for name, text in _sections(_text(path_of(page))):
            names.setdefault(_plain(name), text)
    asked = _plain(section or topic)
    if asked in names:
        return names[asked]
    if section:
        raise ConfigError(f"page '{topic}' has no section '{section}'; {_near(asked, names, topic)}")
    raise ConfigError(f"there is no page or section '{wanted}'; {_near(wanted, [*known, *names])}")


def _near(name: str, valid: Iterable[str], topic: str = "") -> str:
    """The end of a sentence about a section that is not there; all names would be too many."""
    told = nearest(name, valid)
    if told.startswith("did"):
        return told
    return f"`psopt docs {topic}` shows it" if topic else "`psopt docs` lists the pages"


def show(markdown: str) -> None:
    """In a terminal typeset and through a pager; else the Markdown as it is."""
    if not sys.stdout.isatty():
        sys.stdout.write(markdown)
        return
    import click
    from rich.console import Console
    from rich.markdown import Markdown

    made = io.StringIO()
    width = min(WIDEST, shutil.get_terminal_size().columns)
    Console(file=made, force_terminal=True, width=width).print(Markdown(markdown, hyperlinks=False))
    os.environ.setdefault("LESS", "FRX")  # colours pass, and a short page does not wait for a key
    click.echo_via_pager(made.getvalue(), color=True)


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of each section, down to the next heading as high as its own; a heading with several names counts
    for each. Lines between ``` are no headings.
    """
    lines, fenced = text.splitlines(keepends=True), False
    found: list[tuple[int, int, str]] = []
    for number, line in enumerate(lines):
        fenced ^= line.lstrip().startswith("```")
        key = KEY.match(line)
        level, title = (0, "") if fenced else (LOWEST, key[1]) if key else _heading(line)
        if level:
            found.append((number, level, title))
    for begin, level, title in sorted(
        found, key=lambda entry: entry[1] == LOWEST
    ):  # `stop` is the section, not the key
        end = next((number for number, other, _ in found if number > begin and other <= level), len(lines))
        body = "".join(lines[begin:end])
        named = title.partition(":")[0]
        for name in dict.fromkeys((title, named, *re.split(r", | and ", named))):
            yield name, body


def _heading(line: str) -> tuple[int, str]:
    """Level and title; level 0 for what is no heading."""
    match = HEADING.match(line.rstrip())
    return (len(match[1]), match[2]) if match else (0, "")


def _plain(name: str) -> str:
    """A heading as it is compared: words and dashes alone, as in the anchors of a web page."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
