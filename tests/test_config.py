"""Configs: what is accepted and what it means; every complaint with its place, path and nearest name; round trips."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt import config, problems
from psopt.algorithm import Algorithm
from psopt.config import yaml_source
from psopt.config.fields import keys_of
from psopt.config.sentences import Complaints
from psopt.data import DataSpec, Partition, Synthetic, open_shards
from psopt.errors import ConfigError
from psopt.parts import FAMILIES
from psopt.parts.schedules import Constant, Decaying
from psopt.parts.selections import SmoothnessDrift
from psopt.parts.triggers import Always, Innovation, MaxAge
from psopt.problems.base import Share
from psopt.problems.check import check_problem
from psopt.recipes import RECIPES

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
LEAST = {"workers": 3, "problem": "logistic", "data": "lag-logistic"}
LEAST_TEXT = "workers: 3\nproblem: logistic\ndata: lag-logistic\n"


def complaints(data: object) -> list[str]:
    """The lines of the error of a config given as data."""
    with pytest.raises(ConfigError) as caught:
        config.parse(data)
    return str(caught.value).splitlines()


def row(algorithm: object, **sections: object) -> Algorithm:
    return config.parse({**LEAST, "algorithm": algorithm, **sections}).algorithm


@pytest.fixture
def file_complaints(tmp_path, monkeypatch):
    """Loads a text as c.yaml and returns the lines of the error."""
    monkeypatch.chdir(tmp_path)

    def loaded(text: str | bytes, *overrides: str) -> list[str]:
        Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as caught:
            config.load("c.yaml", overrides)
        return str(caught.value).splitlines()

    return loaded


@pytest.fixture
def loaded(tmp_path):
    """Loads a text as a file."""

    def load(text: str, *overrides: str) -> config.RunConfig:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return config.load(path, overrides)

    return load


# What is accepted


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_survives_a_round_trip(path, tmp_path):
    made = config.load(path)
    assert made.name == path.stem.replace("_", "-")
    again = tmp_path / "again.yaml"
    again.write_text(made.to_yaml())
    sent = json.loads(json.dumps(made.resolved()))
    for copy in (config.parse(made.resolved()), config.parse_resolved(sent), config.load(again)):
        assert copy == made
        assert copy.sha256() == made.sha256()


def test_the_shipped_configs_are_those_promised():
    lag = ["cyc_iag", "gd", "lag_ps", "lag_wk", "lag_wk_linear", "num_iag"]
    stochastic = ["clag", "ef21", "lasg_ps", "lasg_wk1", "lasg_wk2", "sasg", "sasg_mnist", "sgd", "sparse"]
    stochastic += ["sasg_mnist_slow", "adamw_mnist", "diloco_mnist", "fedavg", "local_sgd", "local_top_k", "noisy_kink"]
    others = ["a9a", "own_problem", "parts", "sasg_lenet", "sasg_resnet18", "shards", "synthetic"]
    assert [path.stem for path in CONFIGS] == sorted([*lag, *stochastic, *others])
    assert [line for path in CONFIGS for line in path.read_text().splitlines() if len(line) > 120] == []


def test_the_class_in_own_problem_yaml_is_a_problem():
    lines = next(path for path in CONFIGS if path.stem == "own_problem").read_text().splitlines()
    code = "\n".join(line[6:] for line in lines if line.startswith("#     "))
    scope: dict = {}
    exec(code, scope)
    shard = open_shards(DataSpec("lag-linear"), 9, seed=1).shard(0)
    problem = scope["Huber"](shard, Share(0, 9, 1170), delta=1.0)
    check_problem(problem, np.random.default_rng(0))
    v, out = np.ones(problem.dim), np.empty(problem.dim)
    problem.curvature_product(v, out)
    assert v @ out <= problem.smoothness() * (v @ v) * (1 + 1e-12)


def test_defaults_of_the_least_config():
    made = config.parse(LEAST)
    assert made.algorithm == Algorithm()
    assert made.recipe is None
    assert made.stop == config.Stop(max_rounds=1000)
    assert (made.name, made.seed, made.f_star, made.trace.every) == ("run", 0, "auto", 1)
    assert made.problem == config.ProblemConfig(
        "logistic", "float64", {"l2": 0.0, "reduction": "sum", "initial_scale": 0.0, "zero_labels": False}
    )
    assert made.data == DataSpec("lag-logistic")
    assert made.debug.check_mirror is False


def test_null_means_left_out():
    null = dict.fromkeys(("seed", "algorithm", "stop", "trace", "f_star", "timeouts", "debug", "name"))
    assert config.parse({**LEAST, **null}) == config.parse(LEAST)
    assert config.parse({**LEAST, "stop": {"gap": None}}).stop == config.Stop(max_rounds=1000)
    assert row({"recipe": "lag-wk", "trigger": None}) == RECIPES["lag-wk"].row


def test_the_name_says_which_parts_are_not_the_recipes():
    def name(algorithm):
        return config.parse({**LEAST, "algorithm": algorithm, "stop": {"max_steps": 9}}).algorithm_name

    assert name("lag-wk") == "lag-wk"
    assert name({"recipe": "lag-wk", "step_size": "1/L"}) == "lag-wk"
    changed = {"recipe": "fedavgm", "update": "descent", "step_size": 0.5}
    assert name(changed) == "fedavgm with another update"
    assert name({**changed, "plan": "every"}) == "fedavgm with another plan, update"
    assert name({"trigger": "innovation"}) == "a row of parts"


def test_a_written_stop_gets_no_other_limit():
    assert config.parse({**LEAST, "stop": {"gap": 1e-3}}).stop.max_rounds is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_by_name_or_by_key(recipe):
    length = {"stop": {"max_steps": 100}}
    assert row(recipe, **length) == row({"recipe": recipe}, **length) == RECIPES[recipe].row
    assert config.parse({**LEAST, "algorithm": recipe, **length}).recipe == recipe


@pytest.mark.parametrize(
    ("family", "part"), [(family, kind) for family in FAMILIES if family != "compressor" for kind in FAMILIES[family]]
)
def test_every_part_by_name_and_by_kind(family, part):
    rest = {"work": "local_sgd", "step_size": 0.1} if family == "plan" or part.startswith("local_") else {}
    rest = {key: value for key, value in rest.items() if key != family}
    length = {"stop": {"max_steps": 100}}
    if part in NEEDED.get(family, {}):
        needed, keys = NEEDED[family][part]
        assert needed in "\n".join(complaints({**LEAST, "algorithm": {family: part, **rest}, **length}))
        made = row({family: {"kind": part, **keys}, **rest}, **length)
        assert type(getattr(made, family)) is FAMILIES[family][part]
    else:
        assert row({family: part, **rest}, **length) == row({family: {"kind": part}, **rest}, **length)


NEEDED = {
    "plan": {
        "fixed": ("exactly one of `local_steps` and `rounds`", {"local_steps": 5}),
        "list": ("plan.local_steps: missing", {"local_steps": [3, 1, 7]}),
    },
    "selection": {"sampled": ("exactly one of `fraction` and `count`", {"fraction": 0.5})},
    "step_size": {
        "polynomial": ("step_size.steps: missing", {"initial": 0.1, "steps": 100}),
        "cosine": ("step_size.steps: missing", {"initial": 0.1, "steps": 100}),
        "capped": ("step_size.of: missing", {"of": "inverse", "cap": 0.5}),
    },
}
"""Parts that do not go without keys: what is said of it, and keys that will do."""


def test_a_part_without_kind_changes_the_recipes_own():
    assert row({"recipe": "lag-wk", "trigger": {"xi": 0.2}}).trigger == Innovation(window=10, xi=0.2)
    assert row({"recipe": "lag-ps", "selection": {"window": 5}}).selection == SmoothnessDrift(window=5, xi=1.0)


def test_a_part_with_kind_starts_from_its_defaults():
    drift = row({"recipe": "lag-ps", "selection": {"kind": "smoothness_drift", "window": 5}}).selection
    assert drift == SmoothnessDrift(window=5)
    assert row({"recipe": "lag-wk", "trigger": {"kind": "always"}}).trigger == Always()


def test_nested_parts():
    wrapped = {"kind": "max_age", "of": {"kind": "innovation", "xi": [0.1] * 10}, "rounds": 5}
    assert row({"trigger": wrapped}).trigger == MaxAge(Innovation(xi=(0.1,) * 10), 5)
    assert row({"trigger": {"kind": "max_age", "of": {"window": 3}}}).trigger == MaxAge(Innovation(window=3))
    assert row({"trigger": {"kind": "max_age", "of": "innovation"}}).trigger == MaxAge()
    assert row({"codec": {"compressor": "identity"}}) == row({"codec": "overwrite"})


@pytest.mark.parametrize(
    ("step", "schedule"),
    [
        (0.1, Constant(0.1)),
        (1, Constant(1.0)),
        ("1/(2*sqrt(M)*L)", Constant("1/(2*sqrt(M)*L)")),
        ("decaying", Decaying()),
        ({"kind": "decaying", "initial": 2, "power": 0.5}, Decaying(2.0, power=0.5)),
        ({"initial": 0.5}, Constant(0.5)),
    ],
)
def test_step_sizes(step, schedule):
    assert row({"step_size": step}).step_size == schedule


def test_a_whole_number_may_stand_for_any_number_and_becomes_one():
    made = config.parse({**LEAST, "stop": {"gap": 1}, "timeouts": {"round_s": 5}, "f_star": 0})
    assert [type(x) for x in (made.stop.gap, made.timeouts.round_s, made.f_star)] == [float] * 3


def test_python_values_from_numpy_and_pathlib():
    given = {"source": "file", "path": Path("a/b.npz")}
    problem = {"kind": "logistic", "l2": np.float32(0.5)}
    made = config.parse({"workers": np.int64(3), "problem": problem, "data": given, "stop": {"gap": np.float64(0.1)}})
    assert (made.workers, made.data.path, made.problem.options["l2"], made.stop.gap) == (3, "a/b.npz", 0.5, 0.1)
    assert json.loads(json.dumps(made.resolved())) == made.resolved()


def test_a_users_problem_takes_any_options_and_is_not_imported():
    made = config.parse({**LEAST, "problem": {"kind": "no_such.module:Huber", "delta": 1, "table": {"a": [1, None]}}})
    assert made.problem.options == {"delta": 1, "table": {"a": [1, None]}}
    assert config.parse(made.resolved()) == made


def test_data_sections():
    made = config.parse({**LEAST, "data": {"source": "lag-logistic", "partition": "iid"}})
    assert made.data.partition == Partition("iid")
    made = config.parse({**LEAST, "data": {"source": "lag-linear", "partition": {"kind": "replicated"}}})
    assert made.data.partition == Partition("replicated")
    assert config.parse(made.resolved()) == made
    assert config.parse({**LEAST, "data": "synthetic"}).data.synthetic == Synthetic()


def test_yaml_is_1_2(loaded):
    made = loaded(
        LEAST_TEXT + "name: on\nstop: {gap: 1e-8, max_rounds: 0o17}\nf_star: none\n".replace("gap: 1e-8, ", "")
    )
    assert (made.name, made.stop.max_rounds, made.f_star) == ("on", 15, "none")
    assert loaded(LEAST_TEXT + "stop: {gap: 1e-8}").stop.gap == 1e-8


def test_aliases_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "my config!.yaml"
    text = f"{LEAST_TEXT}algorithm: {{recipe: lag-wk, trigger: &t {{xi: 0.5}}, selection: all}}\ntrace: {{every: 2}}\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert config.load(path).algorithm.trigger.xi == 0.5
    assert config.load(path).name == "my-config-"


def test_the_hash_tells_configs_apart_and_forgets_how_they_were_written(loaded):
    hashes = {
        config.parse({**LEAST, **more}).sha256()
        for more in ({}, {"seed": 1}, {"algorithm": "gd"}, {"stop": {"gap": 1e-8}}, {"workers": 6})
    }
    assert len(hashes) == 5
    assert loaded(LEAST_TEXT + "name: run").sha256() == config.parse({**LEAST, "trace": {"every": 1}}).sha256()
    assert re.fullmatch("[0-9a-f]{64}", hashes.pop())


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.parse(LEAST).seed = 2


# Complaints about values, names and keys

WRONG = {
    "text for a whole number": ({"workers": "3"}, "workers: found the text '3', expected a whole number of at least 1"),
    "true for a whole number": ({"seed": True}, "seed: found true, expected a whole number of at least 0"),
    "3.0 for a whole number": ({"workers": 3.0}, "workers: found 3.0, expected a whole number of at least 1"),
    "too small": ({"workers": 0}, "workers: found 0, expected a whole number of at least 1"),
    "not above": ({"stop": {"gap": 0}}, "stop.gap: found 0, expected a number above 0"),
    "not finite": ({"stop": {"gap": float("inf")}}, "stop.gap: found a number that is not finite, expected a finite"),
    "beyond 64 bits": ({"seed": 2**70}, "seed: found a whole number beyond 64 bits, expected at most 9223372036854775"),
    "text for a switch": (
        {"debug": {"check_mirror": "yes"}},
        "debug.check_mirror: found the text 'yes', expected true or false; YAML 1.2 takes yes, no, on and off as text",
    ),
    "f_star": ({"f_star": "atuo"}, "f_star: found the text 'atuo'; did you mean `auto`?"),
    "f_star, nothing near": ({"f_star": "5"}, "f_star: found the text '5', expected one of auto, none or a number"),
    "list for a section": ({"stop": [1]}, "stop: found a list, expected a mapping"),
    "name": ({"name": "a/b"}, "name: found the text 'a/b', expected up to 100 letters, digits, `.`, `_`, `+` and `-`"),
    "an object": (
        {"name": object()},
        "name: found a Python object, expected text, a number, true or false, a list or a",
    ),
    "half a character": ({"name": "\ud800"}, "name: found text with half a character (a lone surrogate)"),
    "a number as key": ({"stop": {3: 4}}, "stop: found 3 as a key, expected a name"),
    "near key": ({"stop": {"max_round": 3}}, "stop.max_round: unknown key; did you mean `max_rounds`?"),
    "far key": ({"trace": {"zzz": 3}}, "trace.zzz: unknown key; valid are every"),
    "key of another section": ({"max_rounds": 3}, "max_rounds: unknown key; it belongs under `stop`"),
    "key of the top": ({"stop": {"seed": 3}}, "stop.seed: unknown key; it belongs to the top level"),
    "near key for Slurm": ({"slurm": {"node": 2}}, "slurm.node: unknown key; did you mean `nodes`?"),
    "time of no form": ({"slurm": {"time": "soon"}}, "slurm.time: key 'time' is 'soon'; expected MINUTES, H:MM:SS"),
    "a partition that is shell": (
        {"slurm": {"partition": "a; b"}},
        "slurm.partition: key 'partition' is 'a; b'; expected one word",
    ),
    "no nodes": ({"slurm": {"nodes": 0}}, "slurm.nodes: found 0, expected"),
    "a downlink that is none": (
        {"downlink": "deltas"},
        "downlink.kind: found the text 'deltas', expected one of theta, changes",
    ),
    "accuracy without test rows": (
        {"stop": {"test_accuracy": 0.9}},
        "stop.test_accuracy: needs test rows: set `data.test`",
    ),
    "an accuracy in percent": ({"stop": {"test_accuracy": 98}}, "stop.test_accuracy: found 98, expected "),
    "a gap without the objective": (
        {"stop": {"gap": 1e-3}, "trace": {"objective": False}},
        "stop.gap: cannot be used with `trace.objective: false`",
    ),
    "nobody tells the unasked": (
        {"algorithm": "lag-ps", "downlink": "changes"},
        "downlink: `changes` cannot be used with selection `smoothness_drift`, because a worker that is not asked",
    ),
    "feedback of nothing": (
        {"algorithm": {"codec": {"kind": "overwrite", "feedback": True}}},
        "algorithm: error feedback cannot be used with `identity`, because it leaves nothing out",
    ),
    "an increment of what is too long": (
        {"algorithm": {"codec": {"kind": "increment", "compressor": {"kind": "random_k", "unbiased": True}}}},
        "algorithm: compressor `random_k` with `unbiased` cannot be used with codec `increment`",
    ),
    "innovation of what was scaled": (
        {"algorithm": {"recipe": "sasg", "trigger": "innovation"}},
        "algorithm: trigger `innovation` cannot be used with a codec that scales or feeds back",
    ),
    "L that no worker knows": (
        {"algorithm": {"recipe": "sasg", "step_size": "1/L"}},
        "algorithm: codec `overwrite` with `scale: step` cannot be used with a step size that is a formula in L",
    ),
    "a norm of steps": (
        {"algorithm": {"recipe": "sasg", "step_size": 0.1}, "stop": {"gradient_norm": 0.1}},
        "stop.gradient_norm: cannot be used with a codec of `scale: step`",
    ),
    "an anchor that is not there": (
        {"algorithm": {"recipe": "lasg-wk2", "start": "ones"}},
        "algorithm: trigger `same_sample` cannot be used with start `ones` without forced rounds",
    ),
    "a snapshot that is missed": (
        {"algorithm": {"recipe": "lasg-wk1", "selection": "cyclic"}},
        "algorithm: trigger `snapshot` cannot be used with selection `cyclic`",
    ),
    "a count and a fraction": (
        {"algorithm": {"recipe": "ef21", "codec": {"compressor": {"kind": "top_k", "count": 3, "fraction": 0.5}}}},
        "algorithm.codec.compressor: a compressor keeps a `count` or a `fraction`",
    ),
    "more than everything": (
        {"algorithm": {"recipe": "sasg", "codec": {"compressor": {"kind": "top_k", "fraction": 2}}}},
        "algorithm.codec.compressor.fraction: found 2, expected ",
    ),
    "recipe": ({"algorithm": "lag_wk"}, "algorithm: unknown recipe 'lag_wk'; did you mean `lag-wk`?"),
    "recipe by key": ({"algorithm": {"recipe": "x"}}, "algorithm.recipe: unknown recipe 'x'; valid are gd, lag-wk, "),
    "recipe no name": ({"algorithm": {"recipe": 3}}, "algorithm.recipe: found 3, expected one of gd, lag-wk, lag-ps,"),
    "algorithm no name": ({"algorithm": 3}, "algorithm: found 3, expected the name of a recipe or a mapping of parts"),
    "kind": (
        {"algorithm": {"trigger": "inovation"}},
        "algorithm.trigger: unknown trigger 'inovation'; did you mean `innovation`?",
    ),
    "kind by key": (
        {"algorithm": {"selection": {"kind": "some"}}},
        "algorithm.selection.kind: unknown selection 'some'; valid are all, cyclic, sampled, by_smoothness, "
        "smoothness_drift",
    ),
    "kind no name": (
        {"algorithm": {"plan": {"kind": 1}}},
        "algorithm.plan.kind: found 1, expected one of every",
    ),
    "part no name": (
        {"algorithm": {"plan": 1}},
        "algorithm.plan: found 1, expected the name of a plan or a mapping with `kind`",
    ),
    "part's key": (
        {"algorithm": {"recipe": "lag-wk", "trigger": {"windw": 3}}},
        "algorithm.trigger.windw: unknown key of trigger `innovation`; did you mean `window`?",
    ),
    "part's key of another kind": (
        {"algorithm": {"trigger": {"rounds": 3}}},
        "algorithm.trigger.rounds: unknown key of trigger `always`; `rounds` belongs to `kind: max_age`",
    ),
    "part's value": (
        {"algorithm": {"recipe": "lag-wk", "trigger": {"window": 0}}},
        "algorithm.trigger.window: found 0, expected a whole number above 0 and of at most 100000",
    ),
    "part's list": (
        {"algorithm": {"recipe": "lag-wk", "trigger": {"xi": [0.1, "a"]}}},
        "algorithm.trigger.xi.1: found the text 'a', expected a number",
    ),
    "part's number or list": (
        {"algorithm": {"recipe": "lag-wk", "trigger": {"xi": "a"}}},
        "algorithm.trigger.xi: found the text 'a', expected a number or a list of numbers",
    ),
    "nested kind": (
        {"algorithm": {"codec": {"kind": "overwrite", "compressor": "identiy"}}},
        "algorithm.codec.compressor: unknown compressor 'identiy'; did you mean `identity`?",
    ),
    "nested value": (
        {"algorithm": {"trigger": {"kind": "max_age", "of": {"kind": "innovation", "xi": True}}}},
        "algorithm.trigger.of.xi: found true, expected a number or a list of numbers",
    ),
    "formula": (
        {"algorithm": {"step_size": "1/K"}},
        "algorithm.step_size: '1/K' is not a step size; expected a number or a formula in L",
    ),
    "negative step": ({"algorithm": {"step_size": -1}}, "algorithm.step_size: the step size -1.0 comes out as -1.0"),
    "a formula too large": (
        {"algorithm": {"step_size": "9" * 400}},
        "algorithm.step_size: ",
    ),
    "step no number": (
        {"algorithm": {"step_size": [1]}},
        "algorithm.step_size: found a list, expected a number, a formula, the name of a step_size or a mapping with",
    ),
    "incompatible": (
        {"algorithm": {"recipe": "lag-wk", "start": "zero"}},
        "algorithm: start `zero` without forced rounds cannot be combined with a lazy trigger or selection, because",
    ),
    "problem": ({"problem": "logistik"}, "problem: unknown problem 'logistik'; did you mean `logistic`?"),
    "problem, far": (
        {"problem": {"kind": "x"}},
        "problem.kind: unknown problem 'x'; valid are least-squares, logistic",
    ),
    "problem without kind": ({"problem": {"l2": 1}}, "problem.kind: missing; expected one of least-squares, logistic,"),
    "problem's form": (
        {"problem": "my module:Huber"},
        "problem: found the text 'my module:Huber', expected the form `package.module:Class`",
    ),
    "problem's key": (
        {"problem": {"kind": "logistic", "l_2": 1}},
        "problem.l_2: unknown key of problem `logistic`; did you mean `l2`?",
    ),
    "problem's value": (
        {"problem": {"kind": "logistic", "zero_labels": 1}},
        "problem.zero_labels: found 1, expected true or false",
    ),
    "problem's number": (
        {"problem": {"kind": "logistic", "l2": -1}},
        "problem.l2: found -1, expected a number of at least 0",
    ),
    "problem's first iterate": (
        {"problem": {"kind": "least-squares", "initial_scale": -0.5}},
        "problem.initial_scale: found -0.5, expected a number of at least 0",
    ),
    "problem's name": (
        {"problem": {"kind": "least-squares", "reduction": "men"}},
        "problem.reduction: found the text 'men'; did you mean `mean`?",
    ),
    "user's option": (
        {"problem": {"kind": "a:B", "is it": 1}},
        "problem.is it: cannot be an option of a class: expected a Python name",
    ),
    "dtype": (
        {"problem": {"kind": "a:B", "dtype": "float46"}},
        "problem.dtype: found the text 'float46'; did you mean",
    ),
    "source": (
        {"data": {"source": "lag-logistc"}},
        "data.source: found the text 'lag-logistc'; did you mean `lag-logis",
    ),
    "source missing": ({"data": {}}, "data.source: missing; expected one of "),
    "source and key": (
        {"data": {"source": "lag-logistic", "positive": 1}},
        "data.positive: key 'positive' is not used by source 'lag-logistic': remove it",
    ),
    "source without path": ({"data": "file"}, "data: source 'file' needs a path"),
    "partition": (
        {"data": {"source": "housing", "partition": "block"}},
        "data.partition.kind: found the text 'block'; did you mean `blocks`?",
    ),
    "remainder of replicated": (
        {"data": {"source": "housing", "partition": {"kind": "replicated", "remainder": "drop"}}},
        "data.partition.remainder: key 'remainder' of partition 'replicated' must be left out, because every row is "
        "dealt, found 'drop'",
    ),
    "gap without f_star": (
        {"f_star": "none", "stop": {"gap": 1}},
        "stop.gap: cannot be used with `f_star: none`, because the gap is the distance of F from f_star",
    ),
    "timeouts": ({"timeouts": {"idle_s": -1}}, "timeouts.idle_s: found -1, expected a number above 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_sentence_for_one_fault(case):
    wrong, sentence = WRONG[case]
    lines = complaints({**LEAST, **wrong})
    assert len(lines) == 1
    assert lines[0].startswith(f"config: {sentence}")
    assert "pydantic" not in lines[0]
    assert "http" not in lines[0]


def test_required_keys():
    assert complaints({}) == [
        "config: workers: missing; expected a whole number of at least 1",
        "config: problem: missing; expected a mapping",
        "config: data: missing; expected a mapping",
    ]


@pytest.mark.parametrize("data", [None, 3, [], "gd"])
def test_no_mapping_at_all(data):
    (line,) = complaints(data)
    assert line.endswith("expected a mapping of keys such as `problem` and `data`")


def test_what_contains_itself_is_refused():
    loop: dict = {}
    loop["a"] = loop
    (line,) = complaints({**LEAST, "problem": {"kind": "a:B", "x": loop}})
    assert "more than 30 levels" in line


# Complaints about files


def test_all_faults_at_once_each_with_its_line(file_complaints):
    text = """\
workers: nine
problem:
  kind: logistic
  l2: 'much'
data:
  source: lag-logistic
  partition: {kind: block}
algorithm:
  recipe: lag-wk
  trigger:
    window: 10
    xi:
      - 0.1
      - many
  codec: zip
stop: {gap: 1e-8, max_round: 3}
"""
    assert file_complaints(text, "trace.every=0", "stop.gap=-1", "seed=a") == [
        "c.yaml:1: workers: found the text 'nine', expected a whole number of at least 1",
        "c.yaml:4: problem.l2: found the text 'much', expected a number of at least 0",
        "c.yaml:7: data.partition.kind: found the text 'block'; did you mean `blocks`?",
        "c.yaml:14: algorithm.trigger.xi.1: found the text 'many', expected a number",
        "c.yaml:15: algorithm.codec: unknown codec 'zip'; valid are overwrite, increment, `package.module:Class`",
        "c.yaml:16: stop.max_round: unknown key; did you mean `max_rounds`?",
        "--set stop.gap=-1: stop.gap: found -1, expected a number above 0",
        "--set trace.every=0: trace.every: found 0, expected a whole number of at least 1",
        "--set seed=a: seed: found the text 'a', expected a whole number of at least 0",
    ]


def test_missing_keys_are_reported_at_their_section(file_complaints):
    assert file_complaints("name: a\ndata:\n  labels: signed\n") == [
        "c.yaml:1: workers: missing; expected a whole number of at least 1",
        "c.yaml:1: problem: missing; expected a mapping",
        "c.yaml:2: data.source: missing; expected one of " + ", ".join(keys_of(DataSpec)["source"].annotation.__args__),
    ]


def test_incompatible_parts_at_the_line_of_algorithm(file_complaints):
    (line,) = file_complaints(LEAST_TEXT + "\nalgorithm:\n  trigger:\n    kind: max_age\n    of: always\n")
    assert line.startswith("c.yaml:5: algorithm: trigger `max_age` cannot wrap `always`, because that never skips and")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "c.yaml: holds nothing; expected a mapping of keys such as `problem` and `data`"),
        ("# a\n---\n", "c.yaml: holds nothing; expected a mapping of keys such as `problem` and `data`"),
        ("- 1\n", "c.yaml:1: found a list, expected a mapping of keys such as `problem` and `data`"),
        ("gd", "c.yaml:1: found the text 'gd', expected a mapping of keys such as `problem` and `data`"),
        (b"name: \xff\n", "c.yaml: is not UTF-8 text: byte 6 is 0xff"),
        ("a: 1\nb: x: y\n", "c.yaml:2: column 5: is not YAML: mapping values are not allowed here"),
        ("a:\n  b: [1, 2\n", "c.yaml:3: column 1: is not YAML: expected ',' or ']', but got '<stream end>' (while"),
        ("a:\n\tb: 1\n", "c.yaml:2: column 1: is not YAML: found character '\\t' that cannot start any token (while"),
        ("a: 1\nb: \x01\n", "c.yaml:2: holds the character U+0001, which YAML does not allow"),
        ("a: *b\n", "c.yaml:1: the alias `*b` stands for nothing"),
        ("a: &b [*b]\n", "c.yaml:1: the alias `*b` stands for nothing"),
        ("a: 1\n---\nb: 1\n", "c.yaml:2: a second document begins; expected one"),
        ("a: " + "[" * 3000 + "]" * 3000, "c.yaml:1: is nested deeper than 30 levels"),
        (LEAST_TEXT + "\nseed: 1\nseed: 2\n", "c.yaml:6: seed: this key is given twice, first on line 5: keep one"),
        (LEAST_TEXT + "stop: {gap: 1, gap: [{a: 2}]}", "c.yaml:4: stop.gap: this key is given twice, first on line 4"),
        (LEAST_TEXT + "seed: !!int 3\n", "c.yaml:4: seed: the tag `tag:yaml.org,2002:int` is not used in configs"),
        (LEAST_TEXT + "1: 3\n", "c.yaml:4: found 1 as a key, expected a name"),
        (LEAST_TEXT + "[a, b]: 3\n", "c.yaml:4: found a list as a key, expected a name"),
        (LEAST_TEXT + "seed: 1_000\n", "c.yaml:4: seed: found the text '1_000', expected a whole number"),
        (LEAST_TEXT + "seed: 2026-01-01\n", "c.yaml:4: seed: found the text '2026-01-01', expected a whole number"),
        ("? " * 3000, "c.yaml:1: is nested deeper than 30 levels"),
        ("%YAML 1.9\n---\na: 1\n", "c.yaml: is not YAML: version minor part can only be 2 or 1"),
        ("%YAML 3.1\n---\na: 1\n", "c.yaml:1: column 1: is not YAML: found incompatible YAML document"),
        ('a: "\\UFFFFFFFF"\n', "c.yaml: is not YAML: "),
        ("#" * (1 << 19) + "\n", "c.yaml: is larger than 524288 bytes, the most that a config may have"),
        ("seed: 1\nx\x1b[31m: 1\n", "c.yaml:2: holds the character U+001B, which YAML does not allow"),
        ('"x\\e[31m": 1\n', "c.yaml:1: x?[31m: unknown key"),
        (LEAST_TEXT + "f_star: -1.1e300\n", "c.yaml:4: f_star: found -1.1e+300, expected at most 1e+300 in magnitude"),
        (LEAST_TEXT.replace("3", "9999999"), "c.yaml:1: workers: found 9999999, expected at most 1000000"),
        (LEAST_TEXT + "seed: " + "1" * 5000, "c.yaml:4: seed: found a number that is not finite"),
    ],
)
def test_files_that_are_no_configs(file_complaints, text, line):
    first = file_complaints(text)[0]
    assert first.startswith(line)


def test_many_aliases_are_refused_in_time(file_complaints):
    text = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 25))
    (line,) = file_complaints(text)
    assert "100000 values" in line


def test_missing_file_directory_and_the_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lag_wk.yaml").write_text(LEAST_TEXT)
    Path("empty").mkdir()
    sentences = {
        "lag-wk.yaml": "lag-wk.yaml: there is no such file; did you mean `lag_wk.yaml`?",
        "x": "x: there is no such file",
        "no/where.yaml": "no/where.yaml: there is no such file",
        "empty": "empty: is a folder, expected a YAML file",
        "lag_wk.yaml/x": "lag_wk.yaml/x: cannot be read: Not a directory",
        "a\0b": "a?b: cannot be read: embedded null byte",
    }
    for path, sentence in sentences.items():
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert str(caught.value) == sentence


def test_a_config_is_an_ordinary_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert str(caught.value) == f"{path}: is a pipe or device, expected a YAML file"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"trigger": {"kind": "same_sample", "step_power": 2**31}},
            "step_power: found 2147483648, expected a whole number",
        ),
        (
            {"trigger": {"kind": "snapshot", "worker_power": 11}},
            "worker_power: found 11, expected a whole number of at le",
        ),
        (
            {"trigger": {"kind": "innovation", "window": 2**63 - 1}},
            "window: found 9223372036854775807, expected a whole n",
        ),
        (
            {"selection": {"kind": "smoothness_drift", "window": 10**9}},
            "window: found 1000000000, expected a whole number",
        ),
    ],
)
def test_loops_and_tables_of_absurd_size_are_refused(data, line):
    assert line in complaints({**LEAST, "algorithm": data})[0]


# --set


def test_overrides_are_yaml_and_the_last_one_counts(loaded):
    made = loaded(LEAST_TEXT, "stop.gap=1e-6", "seed=1", "seed=2", "name=on", "data.partition={kind: iid}")
    assert (made.stop.gap, made.seed, made.name, made.data.partition.kind) == (1e-6, 2, "on", "iid")


def test_overrides_go_through_names(loaded):
    made = loaded(LEAST_TEXT + "algorithm: lag-wk\n", "algorithm.step_size=0.1", "problem.l2=1", "data.labels=signed")
    assert made.recipe == "lag-wk"
    assert made.algorithm == dataclasses.replace(RECIPES["lag-wk"].row, step_size=Constant(0.1))
    assert made.problem.options["l2"] == 1.0
    text = LEAST_TEXT + "algorithm: {trigger: innovation, step_size: 0.5}\n"
    assert loaded(text, "algorithm.trigger.xi=0.2").algorithm.trigger == Innovation(xi=0.2)
    assert loaded(text, "algorithm.trigger={xi: 0.2, kind: innovation}").algorithm.trigger == Innovation(xi=0.2)
    assert loaded(text, "algorithm.step_size.initial=1/L").algorithm.step_size == Constant("1/L")
    nested = ("algorithm.trigger={kind: max_age, of: innovation}", "algorithm.trigger.of.xi=3")
    assert loaded(text, *nested).algorithm.trigger == MaxAge(Innovation(xi=3.0))
    assert loaded(LEAST_TEXT, "algorithm.codec.compressor=identity").algorithm == Algorithm()


def test_null_on_the_command_line_takes_a_key_away(loaded):
    made = loaded(LEAST_TEXT + "stop: {gap: 1, max_rounds: 3}", "stop.gap=null", "f_star=none")
    assert made.stop == config.Stop(max_rounds=3)


def test_an_override_through_an_alias_changes_one_place(loaded):
    text = "workers: 3\ndata: lag-logistic\nproblem: {kind: 'a:B', x: &x {u: 1}, y: *x}\n"
    assert loaded(text, "problem.y.u=2").problem.options == {"x": {"u": 1}, "y": {"u": 2}}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("workers", "--set workers: expected KEY.KEY=VALUE, as in stop.gap=1e-6"),
        ("=3", "--set =3: expected KEY.KEY=VALUE, as in stop.gap=1e-6"),
        ("a..b=3", "--set a..b=3: expected KEY.KEY=VALUE, as in stop.gap=1e-6"),
        ("workers.x=3", "--set workers.x=3: cannot set a key inside `workers`, which is 3"),
        ("seed={", "--set seed={: column 2: is not YAML: expected the node content, but found '<stream end>' (while"),
        ("seed={a: 1, a: 2}", "--set seed={a: 1, a: 2}: seed.a: this key is given twice: keep one"),
        ("stop.max_round=3", "--set stop.max_round=3: stop.max_round: unknown key; did you mean `max_rounds`?"),
        (
            "algorithm.trigger.xi=3",
            "--set algorithm.trigger.xi=3: algorithm.trigger.xi: unknown key of trigger `always`",
        ),
        (
            "algorithm={trigger: {x: 3}}",
            "--set algorithm={trigger: {x: 3}}: algorithm.trigger.x: unknown key of trigger",
        ),
    ],
)
def test_overrides_that_cannot_be(file_complaints, override, line):
    assert file_complaints(LEAST_TEXT, override)[0].startswith(line)


def test_an_overridden_line_is_not_blamed(file_complaints):
    text = LEAST_TEXT + "algorithm:\n  recipe: lag-wk\n  trigger:\n    xi: 1\n"
    (line,) = file_complaints(text, "algorithm.trigger={xi: a}")
    assert line.startswith("--set algorithm.trigger={xi: a}: algorithm.trigger.xi: ")


# Around it


def test_json_schema_covers_every_key():
    schema = json.loads(json.dumps(config.json_schema()))
    assert schema["required"] == ["workers", "problem", "data"]
    assert set(schema["properties"]) == set(config.parse(LEAST).resolved())
    for name in ("workers", "seed", "name", "f_star", "stop", "algorithm"):
        assert schema["properties"][name]["description"]
    stop = schema["properties"]["stop"]
    assert set(stop["properties"]) == {key.name for key in dataclasses.fields(config.Stop)}
    assert all(key["description"] for key in stop["properties"].values())
    assert set(schema["$defs"]) == set(FAMILIES)
    for family, kinds in FAMILIES.items():
        forms = schema["$defs"][family]["anyOf"]
        named = [form for form in forms if "kind" in form.get("properties", {})]
        mappings = {form["properties"]["kind"].get("const"): form for form in named}
        assert set(mappings) == {*kinds, None}  # nothing is told of a class of the user's
        for kind, cls in kinds.items():
            assert set(mappings[kind]["properties"]) == {"kind", *(key.name for key in dataclasses.fields(cls))}
    kinds = [form["properties"]["kind"].get("const") for form in schema["properties"]["problem"]["anyOf"][2:]]
    assert kinds == [*problems.PROBLEMS, None]


def test_importing_it_imports_no_mpi():
    code = "import sys, psopt.config; sys.exit('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Whatever comes, a config or a ConfigError

NAMES = sorted(
    {key for cls in (config.RunConfig, config.Stop, DataSpec, Algorithm) for key in keys_of(cls)}
    | {"kind", "recipe", "of", "xi", "window", "initial", "compressor", "rounds", "path", "l2", "dtype"}
)
WORDS = sorted(
    {
        *NAMES,
        *RECIPES,
        *problems.PROBLEMS,
        "auto",
        "none",
        "1/L",
        "lag-linear",
        "file",
        "shards",
        "a:B",
        "sqrt((0-1)**.5)",
    }
    | {kind for kinds in FAMILIES.values() for kind in kinds}
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(WORDS), st.just(object())
)
keys = st.one_of(st.sampled_from(NAMES), st.text(max_size=4), st.integers())
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
sections = st.fixed_dictionaries(
    {},
    optional={
        "algorithm": st.dictionaries(st.sampled_from(["recipe", *keys_of(Algorithm)]), values, max_size=3),
        "stop": st.dictionaries(st.sampled_from([*keys_of(config.Stop)]), scalars, max_size=3),
        "data": st.dictionaries(st.sampled_from([*keys_of(DataSpec)]), values, max_size=4),
        "problem": st.fixed_dictionaries({"kind": st.sampled_from(["logistic", "a:B"])}, optional={"x": values}),
        "name": st.text(max_size=5),
    },
)


def survives(data: object) -> None:
    try:
        made = config.parse(data)
    except ConfigError as error:
        sentence = str(error)
    else:
        assert config.parse(made.resolved()) == made
        sent = config.parse_resolved(json.loads(json.dumps(made.resolved())))
        assert sent == made
        assert sent.sha256() == made.sha256()
        assert yaml_source.read(made.to_yaml(), "x", Complaints("x")) == made.resolved()
        return
    assert sentence.startswith("config: ")
    assert not re.search("pydantic|https://", sentence)


@settings(max_examples=300, deadline=None)
@given(data=values)
def test_fuzz_anything(data):
    survives(data)


@settings(max_examples=300, deadline=None)
@given(data=sections)
def test_fuzz_near_configs(data):
    survives({**LEAST, **data})


@settings(max_examples=300, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists, max_leaves=5
    )
)
def test_dumped_yaml_reads_as_itself(value):
    told = Complaints("x")
    data = {"a": value, "b": {"c": value}}
    assert yaml_source.read(yaml_source.dump(data), "x", told) == data
    assert not len(told)


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="ab:&*!{}[],\n -'\"|>#?%@`~1.e\t", max_size=30))
def test_fuzz_text(text):
    with contextlib.suppress(ConfigError):
        yaml_source.read(text, "x", Complaints("x"))
