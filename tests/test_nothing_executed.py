"""Configs and data are read, never run: no pickle, tag or formula. Only what a config names is imported: parts and
recipes by who reads the config, a problem by a run alone, and nothing by who reads a finished run.
"""

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

import psopt
from psopt import config
from psopt.cli import cli
from psopt.config.overrides import apply
from psopt.config.sentences import Complaints
from psopt.data import DataSpec, HeldOut, open_shards
from psopt.errors import ConfigError
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import load_run
from psopt.runs.grid import axes_of
from psopt.runs.shard_smoothness import worker_smoothness

LEAST = "workers: 2\nproblem: least-squares\ndata: housing\n"


class Evil:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.fixture(autouse=True)
def untouched(tmp_path, monkeypatch):
    """In an empty folder, where nothing may have been made by what was read."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "executed").exists()


def evil(path):
    """A file of the given name whose content is a pickle, plain or in an array."""
    objects = np.array([Evil(), Evil()], dtype=object)
    if path.endswith(".npz"):
        np.savez(path, X=np.eye(2), y=objects)
    elif path.endswith(".npy"):
        np.save(path, objects, allow_pickle=True)
    else:
        with open(path, "wb") as file:
            pickle.dump(Evil(), file)
    return path


def test_the_pickles_here_would_do_harm(tmp_path):
    with pytest.raises(FileExistsError):
        np.load(evil("e.npy"), allow_pickle=True)
    assert (tmp_path / "executed").is_dir()
    os.rmdir("executed")


def spec(path, **keys):
    labels = {"labels_path": evil("labels.npy")} if path.endswith(".npy") else {}
    return DataSpec(source="file", path=path, **labels, **keys)


@pytest.mark.parametrize("name", ["f.npz", "f.npy", "f", "f.csv", "f.pkl", "f.csv.gz"])
def test_no_data_file_is_unpickled(name):
    with pytest.raises(ConfigError, match=name):
        open_shards(spec(evil(name)), 1, 0)


@pytest.mark.parametrize("name", ["raw.npz", "raw.npy"])
def test_a_pickle_by_the_name_of_numpys_files(name):
    with open(name, "wb") as file:
        pickle.dump(Evil(), file)
    with pytest.raises(ConfigError, match=name):
        open_shards(spec(name), 1, 0)


def test_labels_shards_and_test_rows_are_not_unpickled():
    np.save("x.npy", np.eye(2))
    with pytest.raises(ConfigError, match=r"labels\.npy: the file holds Python objects, which psopt never unpickles"):
        open_shards(DataSpec(source="file", path="x.npy", labels_path=evil("labels.npy")), 1, 0)
    shards = open_shards(DataSpec(source="shards", path="s{worker}.npz"), 1, 0)
    evil("s0.npz")
    with pytest.raises(ConfigError, match=r"s0\.npz: y holds Python objects, which psopt never unpickles"):
        shards.shard(0)
    np.savez("train.npz", X=np.eye(2), y=[1, 2])
    with pytest.raises(ConfigError, match=r"test\.npz: y holds Python objects"):
        open_shards(DataSpec(source="file", path="train.npz", test=HeldOut(path=evil("test.npz"))), 1, 0)
    os.mkdir("images")
    for part in ("images-idx3", "labels-idx1"):
        evil(f"images/train-{part}-ubyte")
    with pytest.raises(ConfigError, match="begins with the bytes"):
        open_shards(DataSpec(source="idx", path="images"), 1, 0)


def test_objects_that_nobody_asks_for_are_left_alone():
    np.savez("f.npz", X=np.eye(2), y=[1, 2], names=np.array([Evil()], dtype=object))
    assert open_shards(spec("f.npz"), 1, 0).shard(0).samples == 2


def test_no_run_folder_is_unpickled(tmp_path):
    made = config.parse({"workers": 2, "problem": "least-squares", "data": "housing", "stop": {"max_rounds": 2}})
    simulate(Plan(made, tmp_path / "run", quiet=True))
    assert load_run(tmp_path / "run").rounds == 2
    evil(str(tmp_path / "run" / "theta.npy"))
    with pytest.raises(ConfigError, match="holds a broken run"):
        load_run(tmp_path / "run")


TAGS = [
    "!!python/object/apply:os.mkdir [executed]",
    "!!python/object/apply:os.mkdir\n  - executed",
    "!!python/object/new:os.mkdir [executed]",
    "!!python/name:os.mkdir",
    "!!python/module:os",
    "!!python/object:collections.OrderedDict {}",
    "!!python/tuple [1, 2]",
    "!<tag:yaml.org,2002:python/object/apply:os.mkdir> [executed]",
    "!mine {a: 1}",
]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_make_no_objects(tag, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"{LEAST}seed: {tag}\n")
    with pytest.raises(ConfigError, match=r"c.yaml:4: seed: the tag `.*` is not used in configs: remove it"):
        config.load(path)
    path.write_text(LEAST)
    with pytest.raises(ConfigError, match=r"--set seed=.*: the tag `.*` is not used"):
        config.load(path, [f"seed={tag}"])
    if "\n" not in tag:
        with pytest.raises(ConfigError, match=r"--grid seed=.*: the tag `.*` is not used"):
            axes_of([f"seed={tag}"])


def test_values_of_flags_are_plain_data():
    data, complaints = {}, Complaints("c")
    apply(data, "a=!!python/object/apply:os.mkdir [executed]", complaints)
    assert data == {"a": ["executed"]}
    assert len(complaints) == 1


@pytest.mark.parametrize(
    "formula", ["__import__('os').mkdir('executed')", "exec('1')", "(lambda: 1)()", "L.real", "M[0]"]
)
def test_formulas_call_nothing(formula):
    with pytest.raises(ConfigError, match="is not a step size; expected a number or a formula"):
        config.parse({**config.yaml_source.read(LEAST, "c", Complaints("c")), "algorithm": {"step_size": formula}})


# `package.module:Class`

PROBLEM = """
import pathlib
pathlib.Path("imported-{name}").touch()
import numpy as np

class Squares:
    def __init__(self, shard, share):
        self.samples, self.dim = shard.samples, 2

    def value(self, theta):
        return 0.5 * float(theta @ theta)

    def value_and_gradient(self, theta, out):
        out[:] = theta
        return self.value(theta)
"""


def started(*arguments):
    """Python's -P: the folder is not on the path before psopt puts it there, at its end."""
    command = [sys.executable, "-P", "-m", "psopt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_only_the_module_that_the_config_names_is_imported_and_only_by_a_run(tmp_path):
    for name in ("mine", "other", "numpy", "json", "conftest", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(PROBLEM.format(name=name))
    (tmp_path / "c.yaml").write_text(
        LEAST.replace("least-squares", "mine:Squares") + "stop: {max_rounds: 2}\nalgorithm: {step_size: 0.1}\n"
    )
    done = started("validate", "c.yaml")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("imported-*"))
    done = started("simulate", "c.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("imported-*")] == ["imported-mine"]


TRIGGER = """
import pathlib
pathlib.Path("imported-{name}").touch()
from dataclasses import dataclass
from psopt.parts.triggers import Innovation

@dataclass(frozen=True)
class Mine(Innovation):
    "As it is."
"""


def test_parts_are_imported_by_who_reads_the_config_and_nothing_else_is(tmp_path):
    for name in ("part", "other", "numpy", "conftest"):
        (tmp_path / f"{name}.py").write_text(TRIGGER.format(name=name))
    (tmp_path / "mine.py").write_text(PROBLEM.format(name="mine"))
    (tmp_path / "c.yaml").write_text(
        LEAST.replace("least-squares", "mine:Squares")
        + "stop: {max_rounds: 2}\nf_star: none\nalgorithm: {step_size: 0.1, trigger: part:Mine}\n"
    )
    done = started("validate", "c.yaml")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("imported-*")] == ["imported-part"]
    done = started("simulate", "c.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("imported-*")) == ["imported-mine", "imported-part"]
    for path in tmp_path.glob("imported-*"):
        path.unlink()
    assert load_run(tmp_path / "run").rounds == 2
    assert not list(tmp_path.glob("imported-*"))


OWN_FORMS = [
    "own:ROW",
    {"recipe": "own:ROW"},
    {"recipe": "gd", "trigger": "own:Mine"},
    {"trigger": {"kind": "own:Mine"}},
    {"update": "own:Mine"},
    {"step_size": "own:Mine"},
    {"step_size": {"kind": "own:Mine", "initial": 1}},
    {"codec": {"kind": "overwrite", "compressor": "own:Mine"}},
    {"codec": {"compressor": {"kind": "own:Mine"}}},
    {"recipe": "own:ROW", "work": "own:Mine"},
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    made = config.parse({"workers": 2, "problem": "least-squares", "data": "housing", "stop": {"max_rounds": 2}})
    simulate(Plan(made, folder / "run", quiet=True))
    return folder / "run"


def test_who_reads_a_run_imports_nothing_in_whatever_form_it_is_named(finished, tmp_path, capsys):
    """As of folders that somebody sent."""
    summary = json.loads((finished / "summary.json").read_text())
    for number, form in enumerate(OWN_FORMS):
        raising = "raise OSError('out of order')\n" * (number % 2)
        (tmp_path / f"own{number}.py").write_text(TRIGGER.format(name=number) + raising)
        folder = shutil.copytree(finished, tmp_path / "runs" / f"run-{number}")
        (folder / "summary.json").write_text(json.dumps({**summary, "worker_smoothness": None}))
        problem = {"kind": "own:Mine" if number == 2 else "least-squares", "dtype": "float64"}
        text = json.dumps({**load_run(finished).config, "problem": problem, "algorithm": form})
        (folder / "config.yaml").write_text(text.replace("own:", f"own{number}:"))
        told = json.dumps(load_run(folder).config["algorithm"]).replace(f"own{number}:", "own:")
        assert json.loads(told) == ({"recipe": form} if isinstance(form, str) else form)
    assert len(psopt.load_runs("runs")) == len(OWN_FORMS)
    for command in (["export", "runs"], ["watch", "runs", "--once"], ["report", "runs", "--out", "r.html"]):
        assert cli.main(command, standalone_mode=False) == 0
    said = capsys.readouterr()
    assert said.out.count("ended: max_rounds") == len(OWN_FORMS)
    assert f"r.html: {len(OWN_FORMS) - 1} runs" in said.out
    assert "run-0 holds a broken run: config.yaml is no resolved config" in (tmp_path / "r.html").read_text()
    assert not list(tmp_path.glob("imported-*"))
    assert not any(name.startswith("own") and name[3:].isdigit() for name in sys.modules)


def test_the_modules_here_would_be_imported(finished, tmp_path):
    for number, form in enumerate(OWN_FORMS):
        (tmp_path / f"would{number}.py").write_text(TRIGGER.format(name=number))
        text = json.dumps({**load_run(finished).config, "algorithm": form}).replace("own:", f"would{number}:")
        with contextlib.suppress(ConfigError):  # most are no part of that family
            config.parse(json.loads(text))
        assert (tmp_path / f"imported-{number}").exists(), form


def test_a_report_computes_smoothness_whatever_the_algorithm_is():
    own = {"workers": 2, "seed": 0, "problem": "least-squares", "data": "housing"}
    known = worker_smoothness(own)
    for form in OWN_FORMS:
        np.testing.assert_array_equal(worker_smoothness({**own, "algorithm": form}), known)
    with pytest.raises(ConfigError, match="problem `own:Mine` is code of its own"):
        worker_smoothness({**own, "problem": {"kind": "own:Mine"}})
    with pytest.raises(ConfigError, match="its problem and data are none of this version's"):
        worker_smoothness({**own, "data": {"source": "from-the-future"}})


@pytest.mark.parametrize(
    "kind",
    ["part", "part:Mine()", "part;os:x", "/tmp/part.py:Mine", "..part:Mine", "part:", ":", "part: Mine", "a b:C"],
)
def test_what_is_no_name_of_a_part_is_not_imported(kind, tmp_path):
    (tmp_path / "part.py").write_text(TRIGGER.format(name="part"))
    for algorithm in ({"trigger": kind}, {"codec": {"compressor": kind}}, {"recipe": kind}, {"trigger": {"of": kind}}):
        with pytest.raises(ConfigError, match=r"unknown |expected the form"):
            config.parse({"workers": 2, "problem": "least-squares", "data": "housing", "algorithm": algorithm})
    assert not list(tmp_path.glob("imported-*"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("mine", "unknown problem 'mine'"),
        ("mine:Squares()", "found the text 'mine:Squares()', expected the form `package.module:Class`"),
        ("mine;os:x", "expected the form `package.module:Class`"),
        ("/tmp/mine.py:Squares", "expected the form `package.module:Class`"),
        ("..mine:Squares", "expected the form `package.module:Class`"),
    ],
)
def test_what_is_no_name_of_a_class_is_not_imported(kind, said, tmp_path):
    (tmp_path / "mine.py").write_text(PROBLEM.format(name="mine"))
    with pytest.raises(ConfigError) as caught:
        config.parse({"workers": 2, "problem": kind, "data": "housing"})
    assert said in str(caught.value)
    assert not list(tmp_path.glob("imported-*"))
