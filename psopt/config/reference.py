"""The page `psopt/docs/config.md`: every key of a config, from the types and docstrings that `load` checks with.

``python -m psopt.config.reference > psopt/docs/config.md`` makes it again.
"""

import textwrap
from typing import Any

from psopt import data, problems
from psopt.algorithm import ROW, Algorithm
from psopt.config.faults import KINDS, Strike
from psopt.config.fields import REQUIRED, Key, keys_of, options_of, summary, typographic
from psopt.config.model import DEFAULT_ROUNDS, ProblemConfig, RunConfig
from psopt.config.sentences import describe
from psopt.data import DataSpec
from psopt.parts import FAMILIES, NESTED, kind_of
from psopt.recipes import RECIPES

WIDTH = 120

HEAD = """\
# The keys of a config

Every key: what may stand there, its default, what it means. This page is made from the source; `psopt docs stop.gap`
shows one key of it. A key that is left out, or null, has its default, and `psopt validate FILE --resolved` writes all
of them out. YAML 1.2 is meant: `1e-8` is a number, `yes`, `on` and `1_000` are text.

A name may stand for a mapping where the text says so: `data: lag-logistic` is `data: {source: lag-logistic}`, and
`trigger: innovation` is `trigger: {kind: innovation}`. On the command line a key is named by its path, as in `--set
stop.gap=1e-6` or `--set 'algorithm.plan={kind: fixed, local_steps: 10}'`.

## In an editor

An editor with a YAML language server, such as VS Code with the extension YAML, completes keys, shows these texts and
marks mistakes, if it knows the schema:

```sh
psopt schema > psopt.schema.json
```

and, as the first line of a config beside it:

```yaml
# yaml-language-server: $schema=psopt.schema.json
```

Make it again when psopt is updated. `psopt validate` knows more than the schema: what one key asks of another.
"""

NO_KIND = """\
Each may be a name, or a mapping with `kind` and the keys below. A mapping without `kind` changes the part that the
recipe has: `trigger: {xi: 0.05}`. A part of your own is `kind: package.module:Class`, a recipe of your own `recipe:
package.module:NAME`: `psopt docs adding_a_part`. What does not fit together: `psopt docs rows-that-make-no-sense`.
"""


def reference() -> str:
    """The page as Markdown, ending with a newline."""
    parts = [HEAD, *_top(), *_problem(), *_data(), *_algorithm()]
    for name, key in keys_of(RunConfig).items():
        if key.section and name not in ("problem", "data", "algorithm"):
            parts += [f"## {name}\n", _filled(summary(key.section)), *_keys(keys_of(key.section), f"{name}.")]
    return "\n".join([*parts, *_faults()])


def _top() -> list[str]:
    keys = {name: key for name, key in keys_of(RunConfig).items() if name != "recipe"}
    special = {"name": "the file's name", "stop": f"{DEFAULT_ROUNDS} rounds", "algorithm": "`gd`"}
    made = ["## At the top\n"]
    for name, key in keys.items():
        form = "a name or a mapping, below" if name in ("problem", "data", "algorithm") else _form(key)
        made.append(_item(name, form, special.get(name) or _default(key), key.description))
    return [*made, ""]


def _problem() -> list[str]:
    made = ["## problem\n", _filled("A name, or a mapping with `kind` and the problem's own keys.")]
    keys = keys_of(ProblemConfig)
    made += [_item("problem.kind", "one of those below", _default(keys["kind"]), keys["kind"].description)]
    made += [_item("problem.dtype", _form(keys["dtype"]), _default(keys["dtype"]), keys["dtype"].description), ""]
    made += [_bullet(f"`{kind}`: {entry.description}") for kind, entry in problems.PROBLEMS.items()]
    made += [_bullet("`package.module:Class`: your own; its keys are the keyword parameters of its constructor"), ""]
    for kind in problems.PROBLEMS:
        made += [f"### problem: {kind}\n", *_keys(options_of(kind), "problem.")]
    return made


def _data() -> list[str]:
    made = [
        "## data\n",
        _filled("The name of a source, or a mapping with `source`. A key that the source does not use is refused."),
    ]
    keys = keys_of(DataSpec)
    sections = {name: key.section for name, key in keys.items() if key.section}
    for name, key in keys.items():
        form = "a mapping, or its key `split` alone" if name == "test" else _form(key)
        if name in ("standardise", "partition"):
            form = "a mapping, or its key `kind` alone"
        made.append(
            _item(f"data.{name}", "one of those below" if name == "source" else form, _default(key), key.description)
        )
    made += ["", "### The sources\n", *(_bullet(f"`{name}`: {text}") for name, text in data.catalogue()), ""]
    for name, section in sections.items():
        made += [f"### data.{name}\n", _filled(summary(section)), *_keys(keys_of(section), f"data.{name}.")]
    return made


def _algorithm() -> list[str]:
    recipe = "The recipe's name, or a mapping with `recipe` and the parts to change, or parts alone, which change `gd`."
    made = ["## algorithm\n", _filled(recipe)]
    made += [_bullet(f"`{name}`: {recipe.title}") for name, recipe in RECIPES.items()]
    made += [
        "",
        _filled("`psopt docs lag-wk` shows the rule of a recipe, where it comes from, and when to use it."),
        NO_KIND,
    ]
    described = {name: key.description for name, key in keys_of(Algorithm).items()}
    described["compressor"] = "What codecs send: which entries of a vector. It stands in `codec`."
    for family in (*ROW, "compressor"):
        place = "codec.compressor" if family == "compressor" else family
        made += [f"### algorithm.{place}\n", _filled(described[family])]
        for kind, cls in FAMILIES[family].items():
            made += [_bullet(f"**`{kind}`**: {summary(cls)}"), *_part_keys(family, keys_of(cls))]
        made.append("")
    return made


def _part_keys(family: str, keys: dict[str, Key]) -> list[str]:
    made = []
    for name, key in keys.items():
        inner = NESTED.get((family, name))
        default = _default(key)
        if inner and key.default is not REQUIRED:
            default = f"`{kind_of(inner, key.default)}`"
        made.append(_item(name, f"a {inner}" if inner else _form(key), default, key.description, indent="  "))
    return made


def _faults() -> list[str]:
    made = ["## faults\n", _filled("A list of mappings with `kind`; `psopt docs faults` shows each at work.")]
    for cls in dict.fromkeys(KINDS.values()):
        kinds = ", ".join(f"`{kind}`" for kind, of in KINDS.items() if of is cls)
        made += [_bullet(f"**{kinds}**: {summary(cls)}")]
        keys = {name: key for name, key in keys_of(cls).items() if name != "kind" or cls is Strike}
        for name, key in keys.items():
            made.append(
                _item(name, kinds if name == "kind" else _form(key), _default(key), key.description, indent="  ")
            )
    return [*made, ""]


def _keys(keys: dict[str, Key], prefix: str) -> list[str]:
    if not keys:
        return []
    return [*(_item(prefix + name, _form(key), _default(key), key.description) for name, key in keys.items()), ""]


def _form(key: Key) -> str:
    if key.section:
        return "a mapping, below"
    return describe(key.annotation) or "a mapping"


def _default(key: Key) -> str:
    """A default as it would stand in YAML; empty where there is nothing to tell."""
    value = key.default
    if value is REQUIRED:
        return "required"
    if value is None or value == () or key.section or isinstance(value, dict):
        return ""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case tuple():
            return f"[{', '.join(map(_yaml, value))}]"
    return str(value)


def _item(name: str, form: str, default: str, description: str, indent: str = "") -> str:
    told = default if default in ("", "required") else f"default {default}"
    return _bullet(f"`{name}` ({'; '.join(filter(None, (form, told)))}): {description}", indent)


def _bullet(text: str, indent: str = "") -> str:
    return _wrapped(_sentence(text), f"{indent}* ", f"{indent}  ")


def _filled(text: str) -> str:
    return _wrapped(text) + "\n"


def _wrapped(text: str, first: str = "", later: str = "") -> str:
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.fill(typographic(text))


def _sentence(text: str) -> str:
    """``text`` with a full stop."""
    return text if text.endswith((".", ":")) else f"{text}."


if __name__ == "__main__":
    print(reference(), end="")
