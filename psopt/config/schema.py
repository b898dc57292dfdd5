"""The JSON Schema of a config, for editors; made from the same types and docstrings that `load` checks with."""

from typing import Any

from psopt import problems
from psopt.algorithm import ROW, Algorithm
from psopt.config.faults import KINDS
from psopt.config.fields import RECIPE_KEY, REQUIRED, Key, keys_of, options_of, summary, typographic
from psopt.config.model import Downlink, ProblemConfig, RunConfig
from psopt.data import HeldOut, Partition, Standardise
from psopt.parts import FAMILIES, NESTED
from psopt.recipes import RECIPES
from psopt.transports.spreading import Spreading

Schema = dict[str, Any]

OWN: Schema = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"}
"""`package.module:Class`."""

# Sections that a bare name may stand for, and the key that it fills (see `shorthand`).
_NAMED_BY = {Partition: "kind", Standardise: "kind", HeldOut: "split", Downlink: "kind", Spreading: "kind"}


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a whole config."""
    special = {"problem": _problem, "algorithm": _algorithm, "faults": _faults}
    properties = {}
    for name, key in keys_of(RunConfig).items():
        if name != "recipe":
            made = special[name]() if name in special else _value(key)
            properties[name] = _described(made, key.description)
    properties["data"] = _or_name(properties["data"], properties["data"]["properties"]["source"])
    required = [name for name in properties if keys_of(RunConfig)[name].default is REQUIRED]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "psopt config",
        **_object(properties, required),
        "$defs": {family: _family(family) for family in FAMILIES},
    }


def _object(properties: Schema, required: list[str] | tuple[str, ...] = (), description: str = "") -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return _described(schema, description)


def _described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": typographic(description)} if description else schema


def _value(key: Key) -> Schema:
    if key.section:
        made = _section(key.section)
        if key.section in _NAMED_BY:
            made = _or_name(made, made["properties"][_NAMED_BY[key.section]])
        if key.default is None:
            made = {"anyOf": [made, {"type": "null"}]}
    else:
        from pydantic import TypeAdapter

        made = TypeAdapter(key.annotation).json_schema()
        if isinstance(key.default, bool | int | float | str):
            made["default"] = key.default
    return _described(made, key.description)


def _section(cls: type[Any]) -> Schema:
    keys = keys_of(cls)
    required = [name for name, key in keys.items() if key.default is REQUIRED]
    return _object({name: _value(key) for name, key in keys.items()}, required, summary(cls))


def _or_name(schema: Schema, name: Schema) -> Schema:
    return _described({"anyOf": [name, schema]}, schema.get("description", ""))


def _family(family: str) -> Schema:
    kinds = FAMILIES[family]
    forms: list[Schema] = [_described({"const": kind}, summary(cls)) for kind, cls in kinds.items()]
    if family == "step_size":
        forms += [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "[LM]|^[0-9.]"}]
    own = _described(OWN, f"A {family} of your own: package.module:Class.")
    forms.append(own)
    shared: Schema = {}
    for kind, cls in kinds.items():
        properties = {name: _part_value(family, name, key) for name, key in keys_of(cls).items()}
        shared |= properties
        forms.append(_object({"kind": {"const": kind}, **properties}, ["kind"], summary(cls)))
    forms.append({"type": "object", "properties": {"kind": own}, "required": ["kind"]})
    forms.append(_object(shared, description="Without `kind`: changes the part that the recipe has."))
    return {"anyOf": forms}


def _part_value(family: str, name: str, key: Key) -> Schema:
    inner = NESTED.get((family, name))
    return _described({"$ref": f"#/$defs/{inner}"}, key.description) if inner else _value(key)


def _algorithm() -> Schema:
    named = [_described({"const": name}, recipe.title) for name, recipe in RECIPES.items()]
    named.append(_described(OWN, "A recipe of your own: package.module:NAME."))
    recipe = _described({"anyOf": named}, RECIPE_KEY.description)
    mapped = _described({"anyOf": [*named, {"type": "null"}]}, RECIPE_KEY.description)
    keys = keys_of(Algorithm)
    parts = {family: _described({"$ref": f"#/$defs/{family}"}, keys[family].description) for family in ROW}
    return {"anyOf": [recipe, _object({"recipe": mapped, **parts})]}


def _problem() -> Schema:
    dtype = _value(keys_of(ProblemConfig)["dtype"])
    own = _described(OWN, "Your own class: package.module:Class.")
    forms: list[Schema] = [{"enum": list(problems.PROBLEMS)}, own]
    for kind, entry in problems.PROBLEMS.items():
        options = {name: _value(key) for name, key in options_of(kind).items()}
        forms.append(_object({"kind": {"const": kind}, "dtype": dtype, **options}, ["kind"], entry.description))
    forms.append({"type": "object", "properties": {"kind": own, "dtype": dtype}, "required": ["kind"]})
    return {"anyOf": forms}


def _faults() -> Schema:
    forms: list[Schema] = []
    for kind, cls in KINDS.items():
        form = _section(cls)
        form["properties"]["kind"] = {"const": kind}
        forms.append(form)
    return {"type": "array", "items": {"anyOf": forms}, "default": []}
