"""The families of parts an algorithm is a row of, and the names of their members in YAML."""

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


def kind_of(family: str, part: Any) -> str:
    """The YAML name of a part."""
    return next(kind for kind, cls in FAMILIES[family].items() if type(part) is cls)
