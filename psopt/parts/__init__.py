"""The families of parts an algorithm is a row of, and the names of their members in YAML.

A part of somebody else's is named ``package.module:Class``; `psopt.config.own` finds and checks it.
"""

import re
from typing import Any

from psopt.parts import (
    aggregators,
    codecs,
    compressors,
    local_work,
    plans,
    schedules,
    selections,
    starts,
    triggers,
    updates,
    work,
)

FAMILIES: dict[str, dict[str, type[Any]]] = {
    "plan": {
        "every": plans.Every,
        "fixed": plans.Fixed,
        "growing": plans.Growing,
        "decreasing": plans.Decreasing,
        "one_shot": plans.OneShot,
        "list": plans.Listed,
    },
    "start": {"gradient": starts.Gradient, "zero": starts.Zero, "ones": starts.Ones},
    "selection": {
        "all": selections.All,
        "cyclic": selections.Cyclic,
        "sampled": selections.Sampled,
        "by_smoothness": selections.BySmoothness,
        "smoothness_drift": selections.SmoothnessDrift,
    },
    "work": {
        "full_gradient": work.FullGradient,
        "minibatch": work.Minibatch,
        "local_sgd": local_work.LocalSGD,
        "local_momentum": local_work.LocalMomentum,
        "local_adamw": local_work.LocalAdamW,
    },
    "trigger": {
        "always": triggers.Always,
        "innovation": triggers.Innovation,
        "same_sample": triggers.SameSample,
        "snapshot": triggers.Snapshot,
        "relative": triggers.Relative,
        "max_age": triggers.MaxAge,
    },
    "codec": {"overwrite": codecs.Overwrite, "increment": codecs.Increment},
    "compressor": {
        "identity": compressors.Identity,
        "cast": compressors.Cast,
        "top_k": compressors.TopK,
        "random_k": compressors.RandomK,
    },
    "aggregator": {"lazy": aggregators.Lazy, "fresh_mean": aggregators.FreshMean},
    "update": {
        "descent": updates.Descent,
        "momentum": updates.Momentum,
        "nesterov": updates.Nesterov,
        "adamw": updates.AdamW,
    },
    "step_size": {
        "constant": schedules.Constant,
        "decaying": schedules.Decaying,
        "inverse": schedules.Inverse,
        "multi_step": schedules.MultiStep,
        "polynomial": schedules.Polynomial,
        "cosine": schedules.Cosine,
        "capped": schedules.Capped,
        "warm_up": schedules.WarmUp,
    },
}
"""Family -> kind -> class."""

NESTED = {
    ("codec", "compressor"): "compressor",
    ("trigger", "of"): "trigger",
    ("step_size", "of"): "step_size",
}
"""Family and field of a part that holds another part -> the family that one comes from."""


PROTOCOLS: dict[str, type[Any]] = {
    "plan": plans.Plan,
    "start": starts.Start,
    "selection": selections.Selection,
    "work": work.LocalWork,
    "trigger": triggers.Trigger,
    "codec": codecs.Codec,
    "compressor": compressors.Compressor,
    "aggregator": aggregators.Aggregator,
    "update": updates.ServerUpdate,
    "step_size": schedules.Schedule,
}
"""Family -> what each member has to have."""

OWN_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""`package.module:Class`: the name of what is not built in."""


def kind_of(family: str, part: Any) -> str:
    """The YAML name of a part."""
    builtin = (kind for kind, cls in FAMILIES[family].items() if type(part) is cls)
    return next(builtin, None) or name_of(type(part))


def name_of(cls: type[Any]) -> str:
    """``package.module:Class``, from where the class is defined."""
    return f"{cls.__module__}:{cls.__qualname__}"


def members(family: str) -> list[str]:
    """The names that every part of the family has, in the order of its protocol."""
    protocol = PROTOCOLS[family]
    found = [*protocol.__annotations__, *vars(protocol)]
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def missing(family: str, cls: type[Any]) -> list[str]:
    """What a class lacks of them."""
    having = {*dir(cls), *getattr(cls, "__dataclass_fields__", vars(cls).get("__annotations__", ()))}
    return [name for name in members(family) if name not in having]


def families_of(cls: type[Any]) -> list[str]:
    """The families whose members the class has, all of them."""
    return [family for family in PROTOCOLS if not missing(family, cls)]
