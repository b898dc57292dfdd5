"""What the source itself must look like: one file knows MPI, no room knows an algorithm, imports point one way."""

import ast
import functools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import psopt
from psopt.config import load, parse_resolved
from psopt.recipes import RECIPES

ROOT = Path(psopt.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
LONGEST = 400

LAYERS = [
    ("psopt",),  # its version
    ("errors", "lines", "records"),
    ("bounds",),
    ("capacity", "data", "launch", "signals", "slurm"),
    ("problems",),
    ("parts",),
    ("algorithm",),
    ("recipes",),
    ("core",),
    ("contract",),
    ("transports",),
    ("config",),
    ("runs",),
    ("views",),
    ("commands", "doctor", "bench"),
    ("submitting",),
    ("api",),
    ("docs",),  # the example there is a program like a user's
    ("cli",),
    ("__main__",),
]
"""From what knows nothing to what knows all; a file may import from its own layer and from earlier ones."""

READS_DATA = {"data", "problems", "config", "runs", "commands", "bench", "api"}
"""Who may import psopt.data; of these `problems` only for the type of a table."""

KNOWS_RECIPES = {"recipes", "config", "commands"}


def room(module):
    """psopt.core.server -> core; psopt -> psopt."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "psopt"


def module_of(path):
    parts = ("psopt", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), str(path))


def imported(path):
    """Every module that a file imports anywhere; `from psopt import x` counts as psopt.x."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names if node.module == "psopt"}
            found |= {name for name in inner if name in MODULES} or {node.module}
    return found


def on_import(path):
    """Modules imported as soon as the file is: not within functions, not under TYPE_CHECKING."""
    found, todo = set(), list(tree(path).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += ast.iter_child_nodes(node)
    return found


MODULES = {module_of(path) for path in FILES}
each_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])


def test_there_is_something_to_look_at():
    assert len(FILES) > 50
    assert imported(ROOT / "core" / "server.py") >= {"psopt.algorithm", "psopt.parts", "numpy"}


def test_mpi4py_is_imported_in_one_file():
    knowing = [path for path in FILES if any(name.split(".")[0] == "mpi4py" for name in imported(path))]
    assert [str(path.relative_to(ROOT)) for path in knowing] == ["transports/mpi.py"]


def test_no_algorithms_name_in_core_or_transports():
    plain = {"wk", "ps", "cyc", "num", "local", "one", "shot", "top", "k"}
    names = {*RECIPES, *(part for name in RECIPES for part in name.split("-"))} - plain
    names |= {"lag", "iag", "sasg", "lasg", "sgd", "fedavg", "wk", "cyc", "gradient descent"}
    pattern = re.compile(rf"(?<![A-Za-z])({'|'.join(sorted(names))})(?![A-Za-z])", re.IGNORECASE)
    assert pattern.search("LAG (7a)")
    assert pattern.search("lag_wk")
    for part in ("core", "transports"):
        for path in (ROOT / part).rglob("*.py"):
            found = [line for line in path.read_text().splitlines() if pattern.search(line)]
            assert not found, f"{path.name}: {found}"


def test_parts_know_no_recipe():
    for part in ("core", "transports", "parts", "algorithm", "problems", "data"):
        for path in FILES:
            if room(module_of(path)) == part:
                assert "psopt.recipes" not in imported(path), path


@each_file
def test_imports_point_one_way(path):
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    mine = room(module_of(path))
    assert mine in level, f"{mine} has no layer yet: give it one in LAYERS"
    if mine == "psopt":
        assert on_import(path) <= {"typing"}  # the front door; it opens api when asked to
        return
    for module in imported(path):
        if module.split(".")[0] == "psopt":
            assert level[room(module)] <= level[mine], f"{module} is above {module_of(path)}"


@each_file
def test_who_reads_data_and_recipes(path):
    mine, modules = room(module_of(path)), imported(path)
    data = {module for module in modules if module.startswith("psopt.data")}
    assert not data or mine in READS_DATA
    if mine == "problems":
        assert data <= {"psopt.data.table"}
    assert "psopt.recipes" not in modules or mine in KNOWS_RECIPES


@each_file
def test_kernels_alone_compile(path):
    if "numba" in imported(path):
        assert module_of(path).startswith("psopt.problems.kernels.")


@each_file
def test_files_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) < LONGEST
    assert (not text.strip() and path.name == "__init__.py") or ast.get_docstring(tree(path))


@each_file
def test_no_fixed_sleeps_no_pickle_no_bare_except(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "sleep":
            assert not any(isinstance(argument, ast.Constant) for argument in node.args), ast.unparse(node)
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)
        if isinstance(node, ast.Attribute) and node.attr in ("send", "recv", "bcast", "gather", "isend", "irecv"):
            assert "comm" not in ast.unparse(node.value).lower(), f"{ast.unparse(node)} pickles"
    assert "pickle" not in imported(path)


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("numpy", "numba", "mpi4py", "scipy", "pydantic", "rich", "ruamel.yaml", "click")


def test_importing_psopt_is_light():
    loaded = python("import sys, psopt; print(psopt.__version__); print(*sys.modules)").split()
    assert loaded[0] == psopt.__version__
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize(
    "module", ["psopt.runs.experiment", "psopt.api", "psopt.commands", "psopt.transports.inprocess"]
)
def test_mpi_is_loaded_by_runs_over_mpi_alone(module):
    assert "mpi4py" not in python(f"import sys, {module}; print(*sys.modules)").split()


CONFIGS = sorted((ROOT.parent / "configs").glob("*.yaml"))


def test_a_job_is_started_without_numba():
    code = "import sys; from psopt import commands; from psopt.config import load; import psopt.runs.checkpoint; "
    loaded = python(f"{code}[load(path) for path in {[str(CONFIGS[0])]!r}]; print(*sys.modules)").split()
    assert "pydantic" in loaded  # which shows that the config was checked
    assert not {"numba", "llvmlite", "scipy", "mpi4py"} & set(loaded)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_that_was_checked_is_the_same_without_a_check(path):
    config = load(path)
    again = parse_resolved(json.loads(json.dumps(config.resolved())))
    assert again == config
    assert again.sha256() == config.sha256()


def test_ranks_take_a_config_that_was_checked_without_what_checks_it():
    resolved = json.dumps(load(CONFIGS[0]).resolved())
    code = (
        f"import json, sys; from psopt import commands; from psopt.config import parse_resolved; data = {resolved!r}; "
    )
    loaded = python(f"{code}print(parse_resolved(json.loads(data)).sha256(), *sys.modules)").split()
    assert loaded[0] == load(CONFIGS[0]).sha256()
    assert not {"numba", "llvmlite", "scipy", "pydantic", "ruamel.yaml"} & set(loaded)


@pytest.mark.alone
def test_help_is_quick():
    times = []
    for _ in range(5):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "psopt", "--help"], capture_output=True, text=True, timeout=30)
        times.append(time.perf_counter() - began)
        assert done.returncode == 0
        assert "Usage: psopt" in done.stdout
    assert min(times) < 0.4


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["run", "--help"], ["sweep", "--help"], ["reproduce", "lag-real", "--help"]],
)
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys
sys.argv = ["psopt", *{arguments!r}]
from psopt.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code
print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert done.stderr.split() == ["click"]


def test_each_process_gives_files_of_compiled_code_names_of_its_own():
    """Else the index of one process could stand for the code of another, for good."""
    code = (
        "from psopt.problems import kernels; kernels.vector; from numba.core.caching import IndexDataCacheFile as F; "
    )
    first, second = (python(f"{code}print(F('folder', 'kernel', 0)._data_name(1))").strip() for _ in range(2))
    assert first.endswith(".nbc")
    assert first != second
