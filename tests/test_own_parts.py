"""Parts and recipes of the user's own: how a config finds them, what is said of wrong ones, and which broken promises
`psopt check` sees.
"""

import json
import sys
import textwrap
from dataclasses import replace

import pytest

from psopt import config, contract
from psopt.cli import cli
from psopt.config.overrides import apply
from psopt.config.own import part_class
from psopt.config.sentences import Complaints
from psopt.errors import ConfigError
from psopt.parts import FAMILIES, PROTOCOLS, families_of, kind_of, members
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import load_run
from psopt.runs.own_code import changed_code, check_same_code, own_code
from psopt.runs.resume import going_on

LEAST = {"workers": 3, "problem": "least-squares", "data": "housing", "stop": {"max_rounds": 6}}

HEAD = """
import numpy as np
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal
from annotated_types import Ge, Gt
from psopt.algorithm import Algorithm
from psopt.parts.codecs import Overwrite
from psopt.parts.compressors import Identity, TopK
from psopt.parts.plans import Every
from psopt.parts.selections import All
from psopt.parts.starts import Zero
from psopt.parts.thresholds import Threshold
from psopt.parts.triggers import Always, Innovation, SameSample, Trigger
from psopt.parts.updates import Descent
from psopt.parts.work import Minibatch
from psopt.recipes import Recipe
"""

TRIGGER = """
@dataclass(frozen=True)
class Mine:
    '''Uploads what has moved.'''
    xi: Annotated[float, Gt(0)] = 1
    norm: Literal["two", "max"] = "two"

    lazy: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True

    @property
    def threshold(self):
        return Threshold(10, self.xi)

    def init(self, dim, dtype):
        return np.zeros(1)

    def decide(self, state, view):
        return view.compare(float(((view.contribution - view.mirror) ** 2).sum()), view.limit)

    def commit(self, state, view, uploaded):
        state += uploaded
"""

STEP = """
@dataclass(frozen=True)
class Half:
    initial: float | str = 0.1
    def at(self, initial, k):
        return initial / 2 + 0 * k
"""

EITHER = """
@dataclass(frozen=True)
class Either:
    '''Uploads when one of two triggers would.'''
    first: Trigger = field(default_factory=Innovation)
    second: Trigger = field(default_factory=Innovation)
    lazy: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True
    @property
    def threshold(self): return self.first.threshold
    def init(self, dim, dtype): return [self.first.init(dim, dtype), self.second.init(dim, dtype)]
    def decide(self, state, view):
        return self.first.decide(state[0], view) or self.second.decide(state[1], view)
    def commit(self, state, view, uploaded):
        self.first.commit(state[0], view, uploaded)
        self.second.commit(state[1], view, uploaded)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder as the current one; what is imported from it is forgotten."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not name.startswith(("psopt", "numba", "numpy")):
            del sys.modules[name]


def write(place, text, name="mine"):
    (place / f"{name}.py").write_text(HEAD + text)


def parse(algorithm, **sections):
    return config.parse({**LEAST, "algorithm": algorithm, **sections})


def refusal(algorithm):
    with pytest.raises(ConfigError) as caught:
        parse(algorithm)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Finding them


def test_a_part_by_name_and_by_mapping(place):
    write(place, TRIGGER)
    made = parse({"trigger": {"kind": "mine:Mine", "xi": 2}}).algorithm.trigger
    assert (type(made).__name__, made.xi, made.norm) == ("Mine", 2.0, "two")
    assert parse({"trigger": "mine:Mine"}).algorithm.trigger == replace(made, xi=1.0)
    assert kind_of("trigger", made) == "mine:Mine"
    assert parse({"recipe": "lag-wk", "trigger": "mine:Mine"}).algorithm_name == "lag-wk with another trigger"


def test_resolved_it_says_all_and_reads_back_with_the_same_hash(place):
    write(place, TRIGGER + STEP + EITHER)
    either = {"kind": "mine:Either", "first": {"kind": "mine:Mine", "xi": 3}, "second": "innovation"}
    for algorithm in (
        {"trigger": "mine:Mine"},
        {"trigger": {"kind": "max_age", "of": {"kind": "mine:Mine", "xi": 3}}},
        {"step_size": "mine:Half"},
        {"step_size": {"kind": "capped", "of": "mine:Half", "cap": 1}},
        {"trigger": either},
    ):
        made = parse(algorithm)
        again = config.parse(json.loads(json.dumps(made.resolved())))
        assert again == made
        assert again.sha256() == made.sha256()
    assert parse({"trigger": "mine:Mine"}).resolved()["algorithm"]["trigger"] == {
        "kind": "mine:Mine",
        "xi": 1.0,  # as a config would give it, for the class says 1
        "norm": "two",
    }
    assert parse({"trigger": either}).resolved()["algorithm"]["trigger"]["second"]["kind"] == "innovation"


def test_the_hash_is_of_name_and_values(place):
    write(place, TRIGGER)
    hashes = {parse({"trigger": t}).sha256() for t in ("mine:Mine", {"kind": "mine:Mine", "xi": 1}, "innovation")}
    assert len(hashes) == 2
    assert parse({"trigger": {"kind": "mine:Mine", "xi": 2}}).sha256() not in hashes


def test_a_built_in_class_by_its_long_name_is_the_built_in_part():
    made = parse({"trigger": "psopt.parts.triggers:Innovation"})
    assert made == parse({"trigger": "innovation"})
    assert made.resolved()["algorithm"]["trigger"]["kind"] == "innovation"


def test_overrides_reach_into_them(place):
    write(place, TRIGGER)
    data = {**LEAST, "algorithm": {"trigger": "mine:Mine"}}
    apply(data, "algorithm.trigger.xi=7", Complaints("c"))
    assert config.parse(data).algorithm.trigger.xi == 7.0


@pytest.mark.parametrize("made", ["Algorithm(trigger=Mine(2))", 'Recipe("mine", "me", Algorithm(trigger=Mine(2)))'])
def test_a_recipe_of_ones_own(place, made):
    write(place, f"{TRIGGER}\nROW = {made}")
    found = parse("mine:ROW")
    assert (found.recipe, found.algorithm_name, found.algorithm.trigger.xi) == ("mine:ROW", "mine:ROW", 2.0)
    assert config.parse(found.resolved()) == found
    other = parse({"recipe": "mine:ROW", "trigger": {"xi": 3}, "codec": "increment"})
    assert other.algorithm.trigger.xi == 3.0
    assert other.algorithm_name == "mine:ROW with another trigger, codec"


def test_a_recipe_found_by_a_sweeps_axis(place):
    write(place, f"{TRIGGER}\nROW = Algorithm(trigger=Mine(2))")
    (place / "c.yaml").write_text("workers: 3\nproblem: least-squares\ndata: housing\nstop: {max_rounds: 4}\n")
    grid = ["sweep", "c.yaml", "--grid", "algorithm=gd,mine:ROW", "--grid", "seed=0,1", "--out", "s"]
    assert cli.main(grid, standalone_mode=False) == 0
    table = json.loads((place / "s" / "table.json").read_text())
    assert [row["status"] for row in table["rows"]] == ["ok"] * 4


def test_the_schema_allows_them(place):
    schema = config.json_schema()
    for family in FAMILIES:
        forms = schema["$defs"][family]["anyOf"]
        assert sum(":" in form.get("pattern", "") for form in forms) == 1
        assert [form for form in forms if "pattern" in form.get("properties", {}).get("kind", {})]
    named = schema["properties"]["algorithm"]["anyOf"][0]["anyOf"]
    assert [form for form in named if "pattern" in form]


def test_families_are_told_apart_by_their_members():
    for family, kinds in FAMILIES.items():
        assert len(members(family)) >= 2
        for cls in kinds.values():
            assert families_of(cls) == [family]
    assert set(PROTOCOLS) == set(FAMILIES)


# What is said of wrong ones

NO_TRIGGER = "found the text '{}', expected the form `package.module:Class`"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (":", NO_TRIGGER),
        (":Mine", NO_TRIGGER),
        ("mine:", NO_TRIGGER),
        ("mine:Mine:x", NO_TRIGGER),
        ("./mine.py:Mine", NO_TRIGGER),
        ("/tmp/mine.py:Mine", NO_TRIGGER),
        ("..mine:Mine", NO_TRIGGER),
        ("mine:Mine()", NO_TRIGGER),
        ("mine:Mine.x", NO_TRIGGER),
        ("C:\\mine.py", NO_TRIGGER),
        ("mine.py", "unknown trigger 'mine.py'; valid are always, innovation"),
        ("nowhere:Mine", "trigger 'nowhere:Mine': there is no module 'nowhere', neither installed nor in "),
        ("mine.inner:Mine", "there is no module 'mine.inner'"),
        ("mine:Mime", "the module 'mine' has no 'Mime'; did you mean 'Mine'?"),
        ("mine:TABLE", "trigger 'mine:TABLE' is a dict, expected a class"),
        ("mine:Bare", "trigger 'mine:Bare' lacks looks_back, threshold, init, commit, which every trigger has to have"),
        ("mine:Plain", "trigger 'mine:Plain' is not a dataclass: write `@dataclass(frozen=True)` above the class"),
        ("mine:Thawed", "trigger 'mine:Thawed' is not frozen, or cannot be compared"),
        ("mine:Apart", "trigger 'mine:Apart' is not frozen, or cannot be compared"),
        ("psopt.parts.selections:All", "is a selection, not a trigger: it belongs under `selection`"),
        ("mine:Anything", "Any, which cannot be checked: use int, float"),
        ("mine:Calls", "field `x` is annotated with Callable, which cannot be checked"),
        ("mine:Lists", "field `x` is annotated with list[int], which cannot be checked"),
        ("mine:Bounds", "field `x` is annotated with typing.Annotated[str, Gt(gt=0)], which cannot be checked"),
        ("mine:Unknown", "its annotations or defaults cannot be read: NameError: name 'Nothing' is not defined"),
        ("mine:Default", "field `x` has a default that it may not have: Input should be greater than 0"),
        ("mine:NoTrigger", "field `x` has a default that is not a trigger"),
        ("mine:Kind", "field `kind` cannot be a key, because `kind` names the class"),
        ("mine:Hides", "field `x` has `init=False` and so cannot be a key: make it a property"),
        ("mine:Alias", "cannot be found by the name that it gives itself, as other ranks have to find it"),
        ("mine:Refuses", "cannot be made: RuntimeError: not today (/"),
        ("mine:Doubts", "cannot be made: ValueError: not today (/"),
        ("raises:Mine", "its module cannot be imported: ZeroDivisionError: division by zero (/"),
        ("leaves:Mine", "its module cannot be imported: SystemExit: 3 (/"),
        ("broken:Mine", "its module cannot be imported: SyntaxError: "),
        ("vain:Mine", "its module cannot be imported: ModuleNotFoundError: No module named 'nothing_of_the_sort' (/"),
        ("csv:Mine", "the module 'csv' has no 'Mine'; {here}/csv.py is hidden by the module "),
    ],
)
def test_one_sentence_for_a_class_that_is_no_part(kind, sentence, place):
    lines = "\n".join(TRIGGER.strip().splitlines()[1:])
    members_ = lines[lines.index("    lazy") :]

    def like(name, head, decorator="@dataclass(frozen=True)", body=members_):
        return f"\n{decorator}\nclass {name}:\n    {head}\n{body.replace('self.xi', '1.0')}\n"

    bad = "    def __post_init__(self): raise RuntimeError('not today')\n"
    write(
        place,
        "TABLE = {}\n"
        + TRIGGER
        + like("Bare", "lazy: ClassVar[bool] = True", body="    def decide(self, state, view): return True")
        + like("Plain", "x = 1", "")
        + like("Thawed", "x: int = 1", "@dataclass")
        + like("Apart", "x: int = 1", "@dataclass(frozen=True, eq=False)")
        + like("Anything", "x: Any = 1")
        + like("Calls", "x: Callable = print")
        + like("Lists", "x: list[int] = field(default_factory=list)")
        + like("Bounds", "x: Annotated[str, Gt(0)] = ''")
        + like("Unknown", "x: 'Nothing' = 1")
        + like("Default", "x: Annotated[int, Gt(0)] = 0")
        + like("NoTrigger", "x: Trigger = field(default_factory=All)")
        + like("Kind", "kind: int = 1")
        + like("Hides", "x: int = field(default=1, init=False)")
        + f"\ndef made():\n{textwrap.indent(like('Inner', 'x: int = 1'), '    ')}\n    return Inner\nAlias = made()\n"
        + like("Refuses", "x: int = 1", body=bad + members_)
        + like("Doubts", "x: int = 1", body=bad.replace("RuntimeError", "ValueError") + members_),
    )
    (place / "raises.py").write_text("x = 1\n1 / 0\n")
    (place / "leaves.py").write_text("raise SystemExit(3)\n")
    (place / "broken.py").write_text("class Mine(:\n")
    (place / "vain.py").write_text("import nothing_of_the_sort\n")
    (place / "csv.py").write_text("class Mine: pass\n")
    said = refusal({"trigger": {"kind": kind}})
    assert said.startswith("config: algorithm.trigger")
    assert sentence.replace("{here}", str(place)).replace("{}", kind) in said


def test_the_place_of_a_raising_import_is_told(place):
    (place / "raises.py").write_text("x = 1\n1 / 0\n")
    assert f"({place}/raises.py:2)" in refusal({"trigger": "raises:Mine"})
    (place / "broken.py").write_text("\nclass Mine(:\n")
    assert f"({place}/broken.py:2)" in refusal({"trigger": "broken:Mine"})


def test_a_module_beside_the_config_but_not_here_is_told_of(place, monkeypatch):
    write(place, TRIGGER)
    (place / "c.yaml").write_text(
        "workers: 2\nproblem: least-squares\ndata: housing\nalgorithm: {trigger: mine:Mine}\n"
    )
    (place / "below").mkdir()
    monkeypatch.chdir(place / "below")
    with pytest.raises(
        ConfigError, match=r"nor in .*/below; but there is \.\./mine\.py: start psopt in its folder, or"
    ):
        config.load("../c.yaml")


def test_line_and_path_are_told(place):
    write(place, TRIGGER)
    text = "workers: 2\nproblem: least-squares\ndata: housing\n"
    text += "algorithm:\n  trigger:\n    kind: mine:Mine\n    xi: -1\n"
    (place / "c.yaml").write_text(text)
    for old, new, said in [
        ("", "", "c.yaml:7: algorithm.trigger.xi: found -1, expected a number above 0"),
        ("xi: -1", "x: 1", "c.yaml:7: algorithm.trigger.x: unknown key of trigger `mine:Mine`; did you mean `xi`?"),
        ("xi: -1", "norm: one", "c.yaml:7: algorithm.trigger.norm: found the text 'one', expected one of two, max"),
        ("kind: mine:Mine", "kind: mine:Nine", "c.yaml:6: algorithm.trigger.kind: trigger 'mine:Nine': the module "),
    ]:
        (place / "c.yaml").write_text(text.replace(old, new))
        with pytest.raises(ConfigError) as caught:
            config.load("c.yaml")
        assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("1", "recipe 'mine:ROW' is an int, expected a `psopt.recipes.Recipe`"),
        ("Algorithm", "recipe 'mine:ROW' is a type, expected"),
        ("Recipe('a', 'b', 'gd')", "recipe 'mine:ROW' is a Recipe, expected"),
        ("Algorithm(update=Mine())", "recipe 'mine:ROW': `update` is Mine, expected an update"),
        ("Algorithm(update=Descent)", "recipe 'mine:ROW': `update` is Descent itself, expected an update"),
        ("Algorithm(trigger=Innovation(-1))", "algorithm.trigger.window: found -1, expected a whole number above 0"),
        ("Algorithm(trigger=Mine(norm='a'))", "algorithm.trigger.norm: found the text 'a', expected one of two, max"),
        ("Algorithm(codec=Overwrite(Every()))", "recipe 'mine:ROW': `compressor` is Every, expected a compressor"),
        ("Algorithm(trigger=SameSample(), start=Zero())", "recipe 'mine:ROW': trigger `same_sample` cannot"),
    ],
)
def test_a_recipe_that_is_none(place, row, sentence):
    write(place, f"{TRIGGER}\nROW = {row}")
    assert sentence in refusal("mine:ROW")


def test_a_name_that_is_no_recipe():
    assert "unknown recipe 'mine'; valid are gd, " in refusal("mine")
    assert "did you mean `lag-wk`?" in refusal("lag-wks")
    assert "expected the form `package.module:Class`" in refusal("./mine.py:ROW")


def test_a_sparse_compressor_has_to_be_readable(place):
    write(place, "@dataclass(frozen=True)\nclass C(Identity):\n    sparse: ClassVar[bool] = True\n")
    assert "is `sparse` but lacks read, entries, value_dtype" in refusal({"codec": {"compressor": "mine:C"}})


def test_parts_in_a_row_that_makes_no_sense_are_named(place):
    write(place, TRIGGER)
    with pytest.raises(ConfigError, match="trigger `mine:Mine` cannot be used with a codec that scales"):
        parse({"trigger": "mine:Mine", "codec": {"kind": "overwrite", "scale": "step"}, "step_size": 0.1})


# Running them


def test_a_run_goes_on_from_its_checkpoint_and_tells_of_changed_code(place, capsys):
    write(place, TRIGGER)
    short = {"stop": {"max_rounds": 6}, "f_star": "none"}
    whole = simulate(Plan(parse({"trigger": "mine:Mine"}, **{**short, "stop": {"max_rounds": 12}}), quiet=True))
    made = parse({"trigger": "mine:Mine"}, **short)
    simulate(Plan(made, place / "run", quiet=True))
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    assert manifest["own_code"] == own_code(made)
    assert list(manifest["own_code"]) == ["mine:Mine"]
    longer = config.load(place / "run" / "config.yaml", ["stop.max_rounds=12"])
    done = simulate(replace(going_on(longer, place / "run"), quiet=True))
    assert "WARNING" not in capsys.readouterr().err
    assert done.summary["theta_sha256"] == whole.summary["theta_sha256"]
    assert done.uploads.tolist() == whole.uploads.tolist()
    write(place, TRIGGER + "# changed\n")
    further = config.load(place / "run" / "config.yaml", ["stop.max_rounds=13"])
    going_on(further, place / "run")
    assert "WARNING: the code of mine:Mine has changed since the run began" in capsys.readouterr().err
    (place / "mine.py").unlink()
    assert "cannot be found as a file" in changed_code(place / "run", further)[0]


def test_a_finished_run_is_read_without_its_code(place):
    write(place, TRIGGER)
    simulate(Plan(parse({"trigger": "mine:Mine"}, f_star="none"), place / "run", quiet=True))
    (place / "mine.py").unlink()
    del sys.modules["mine"]
    assert load_run(place / "run").config["algorithm"]["trigger"]["kind"] == "mine:Mine"
    with pytest.raises(ConfigError, match="there is no module 'mine'"):
        config.load(place / "run" / "config.yaml")


class Ranks:
    """A job as its ranks see it, of which rank 1 has another file."""

    def __init__(self, *others):
        self.others = others

    def gather(self, told, timeout_s):
        return [told, *({**told, **other} for other in self.others)]


def test_ranks_have_to_find_the_same_code(place):
    write(place, TRIGGER)
    made = parse({"trigger": "mine:Mine"})
    check_same_code(made, Ranks({}, {}))
    with pytest.raises(ConfigError, match="rank 2 finds other code under the name mine:Mine than rank 0") as caught:
        check_same_code(made, Ranks({}, {"mine:Mine": "0" * 64}))
    assert caught.value.agreed
    check_same_code(parse("gd"), None)  # nothing to compare, and nobody is asked


def test_a_field_may_have_any_name(place):
    write(place, TRIGGER.replace("xi", "of"))
    assert parse({"trigger": {"kind": "mine:Mine", "of": 2}}).algorithm.trigger.of == 2.0


def test_problems_and_recipes_are_told_by_their_files_too(place):
    write(place, f"{TRIGGER}\nROW = Algorithm(trigger=Mine(2))")
    (place / "other.py").write_text("class P: pass\n")
    made = config.parse({**LEAST, "algorithm": "mine:ROW", "problem": "other:P"})
    assert list(own_code(made)) == ["mine:Mine", "mine:ROW", "other:P"]
    assert "other" not in sys.modules  # it is located, not imported
    assert own_code(parse("gd")) == {}


# Promises


def broken(family, part):
    return {promise.sentence: why for promise, why in contract.verdicts(family, part) if why is not None}


TRIGGERS = {
    "a decide that counts": (
        ("return view.compare", "state += 1\n        return view.compare"),
        "asked twice it says the same, and changes nothing",
        "round 1: decide changed the state; only commit may",
    ),
    "a decide that draws": (
        ("return view.compare(", "return bool(np.random.random() < 0.5) or view.compare("),
        "asked twice it says the same",
        "asked twice, decide said",
    ),
    "a decide that gives a number": (
        ("return view.compare(float(|), view.limit)", "return (float(|) - view.limit)"),
        "asked twice it says the same",
        "expected True or False",
    ),
    "a commit that takes what it saw": (
        ("state += uploaded", "view.mirror[:] = view.contribution"),
        "asked twice it says the same",
        "the trigger wrote into mirror: 5 of 5 numbers differ",
    ),
    "a decide that scales the contribution": (
        ("return view.compare", "view.contribution[:] *= 2\n        return view.compare"),
        "asked twice it says the same",
        "the trigger wrote into contribution",
    ),
    "one that ignores forced rounds": (
        ("view.limit)", "max(view.limit, 1e6))"),
        "uploads in a forced round",
        "silent in 20 of 20 forced rounds",
    ),
    "one that is deaf to the threshold": (
        ("view.limit)", "-1.0)"),
        "stays silent under an infinite threshold",
        "it uploaded right after an upload",
    ),
    "one that says it is never silent": (
        ("lazy: ClassVar[bool] = True", "lazy: ClassVar[bool] = False"),
        "is silent only if it is `lazy`",
        "`lazy` is false, but it was silent in",
    ),
    "one that moves its anchor on a skip": (
        (
            "return np.zeros(1)|view.contribution - view.mirror|state += uploaded",
            "return np.zeros(dim, dtype)|view.contribution - state|state[:] = view.contribution",
        ),
        "what drifts away slowly is said in the end: a skip does not forget what was sent",
        "silent for 249 rounds with threshold 1, though the gradient is 133 away from what was sent",
    ),
    "one that remembers in its class": (
        (
            "        state += uploaded|view.limit)",
            "        Mine.seen = view.contribution.sum()|view.limit + abs(getattr(Mine, 'seen', 0.0)))",
        ),
        "follows from what it sees alone",
        "while a second worker ran beside the first",
    ),
    "one whose state no checkpoint can hold": (
        ("return np.zeros(1)", "return type('Memory', (), {'__iadd__': lambda self, n: self})()"),
        "follows from what it sees alone",
        "Memory does not tell what of it is state",
    ),
    "one whose state is saved in part": (
        (
            "return np.zeros(1)|view.limit)|state += uploaded",
            "return State()|view.limit + state.skips)|state.skips = state.skips * 0 + 3 * view.round",
        ),
        "follows from what it sees alone",
        "it decided otherwise",
    ),
    "a fact that is none": (
        ("lazy: ClassVar[bool] = True", "lazy: ClassVar[bool] = 'yes'"),
        "tells lazy, looks_back, threshold",
        "`lazy` is 'yes', expected bool",
    ),
    "one that raises": (
        ("return view.compare", "raise KeyError('mirror')\n        return view.compare"),
        "uploads in a forced round",
        "it raised KeyError: 'mirror'",
    ),
}


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_broken_trigger_is_caught(name, place):
    (old, new), sentence, why = TRIGGERS[name]
    text = TRIGGER
    for one, other in zip(old.split("|"), new.split("|"), strict=True):
        assert one in text
        text = text.replace(one, other, 1)
    write(place, "class State:\n    SAVED = ()\n    skips = 0\n" + text)
    found = broken("trigger", part_class("trigger", "mine:Mine")())
    assert any(promise.startswith(sentence) and why in said for promise, said in found.items()), found


def test_the_unbroken_one_is_not(place):
    write(place, TRIGGER + EITHER)
    plain = TRIGGER.replace("view.compare(float(", "bool(float(").replace("), view.limit)", ") > view.limit)")
    write(place, plain, "plain")
    assert broken("trigger", part_class("trigger", "plain:Mine")()) == {}
    assert broken("trigger", part_class("trigger", "mine:Mine")()) == {}
    assert broken("trigger", part_class("trigger", "mine:Either")()) == {}


COMPRESSOR = """
@dataclass(frozen=True)
class C:
    sparse: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    contraction: ClassVar[bool] = True
    unbiased: ClassVar[bool] = False
    def payload_dtype(self, dtype): return np.dtype(np.float32)
    def capacity(self, sizes, dtype): return 4 * sum(sizes)
    def init(self, sizes, dtype, rng): return rng
    def compress(self, rng, x): return x.astype(np.float32)
    def feed_back(self, rng, residual, x, scale):
        residual += residual.dtype.type(scale) * x
        payload = self.compress(rng, residual)
        residual -= payload
        return payload
    def decompress(self, payload, out): out[:] = payload
    def add(self, payload, out): out += payload.astype(out.dtype)
"""

UPDATE = """
@dataclass(frozen=True)
class U:
    def init(self, dim, dtype): return [None]
    def step(self, state, theta, aggregate, step_size):
        before = theta.astype(np.float64)
        theta -= theta.dtype.type(step_size) * aggregate
        return float(((theta - before) ** 2).sum())
"""

SELECTION = """
@dataclass(frozen=True)
class S:
    everyone: ClassVar[bool] = False
    needs_smoothness: ClassVar[bool] = False
    needs_anchors: ClassVar[bool] = False
    threshold: ClassVar[None] = None
    def init(self, smoothness, rng): return rng
    def select(self, rng, view):
        return np.sort(rng.choice(view.living, max(1, view.living.size // 2), replace=False))
"""

AGGREGATOR = """
from psopt.parts.aggregators import Lazy
@dataclass(frozen=True)
class A(Lazy):
    '''The sum of what each said last.'''
"""

WORK = """
@dataclass(frozen=True)
class W(Minibatch):
    '''A batch.'''
"""

PLAN = """
@dataclass(frozen=True)
class P:
    single: ClassVar[bool] = False
    needs_steps: ClassVar[bool] = False
    def instants(self, steps, workers): return iter(range(2, 10**6, 2))
"""

CODEC = """
@dataclass(frozen=True)
class K(Overwrite):
    '''What is said takes the place of what was there.'''
"""

START = """
@dataclass(frozen=True)
class T:
    fill: ClassVar[float] = 0.0
    forced_rounds: int = 2
    silent_rounds: int = 0
"""


def adding(method):
    """In place of the end of a docstring: that, and a method below it."""
    return "'''" + method


OTHERS = {
    # family, class, text, what is changed, the promise, the reason
    "wrong declared bytes": (
        "compressor",
        "C",
        COMPRESSOR,
        "4 * sum",
        "3 * sum",
        "within the bytes",
        "capacity declares",
    ),
    "a wrong declared dtype": (
        "compressor",
        "C",
        COMPRESSOR,
        "np.dtype(np.float32)",
        "dtype",
        "of the dtype",
        "float32",
    ),
    "no contraction": (
        "compressor",
        "C",
        COMPRESSOR,
        "return x.astype(np.float32)",
        "return (np.sign(x) * np.abs(x).max(initial=0)).astype(np.float32)",
        "never more than the whole if it is a `contraction`",
        "`contraction` is true, but ||C(x) - x|| = ",
    ),
    "not exact": (
        "compressor",
        "C",
        COMPRESSOR,
        "exact: ClassVar[bool] = False",
        "exact: ClassVar[bool] = True",
        "`exact`",
        "other",
    ),
    "not unbiased": (
        "compressor",
        "C",
        COMPRESSOR.replace("unbiased: ClassVar[bool] = False", "unbiased: ClassVar[bool] = True"),
        "return x.astype",
        "return (0.9 * x).astype",
        "the mean over many draws is the vector",
        "the mean of 4000 draws at",
    ),
    "writing into its input": (
        "compressor",
        "C",
        COMPRESSOR,
        "return x.astype",
        "x += 1; return x.astype",
        "leaves alone what it compresses",
        "compress wrote into the vector",
    ),
    "forgetting the last number": (
        "compressor",
        "C",
        COMPRESSOR,
        "out[:] = payload",
        "out[:-1] = payload[:-1]",
        "writes all of what it decompresses",
        "decompress left 1 of",
    ),
    "a residual that is lost": (
        "compressor",
        "C",
        COMPRESSOR,
        "residual -= payload",
        "residual.fill(1)",
        "feeds back all",
        "do not add up to residual + scale x",
    ),
    "adding something else": (
        "compressor",
        "C",
        COMPRESSOR,
        "out += payload",
        "out += 2 * payload",
        "adds what",
        "the sum",
    ),
    "drawing from the world": (
        "compressor",
        "C",
        COMPRESSOR,
        "return x.astype(np.float32)",
        "return (x * (np.random.random(x.size) < 0.5)).astype(np.float32)",
        "from its own generator",
        "the same seed and vectors gave other payloads",
    ),
    "a wrong length": ("update", "U", UPDATE, "** 2).sum())", "** 2).sum()) * 2", "returns how far", "it returned "),
    "writing into the aggregate": (
        "update",
        "U",
        UPDATE,
        "return float",
        "aggregate *= 2; return float",
        "leaves",
        "wrote into",
    ),
    "standing still": ("update", "U", UPDATE, "theta -=", "_ = ", "moves theta in place", "theta did not move"),
    "keeping the aggregate's array": (
        "update",
        "U",
        UPDATE.replace("return float", "state[0] = aggregate; return float"),
        "* aggregate",
        "* (aggregate if state[0] is None else aggregate + np.nan_to_num(state[0]))",
        "remembers what it needs",
        "it keeps the aggregate's own array",
    ),
    "asking somebody twice": (
        "selection",
        "S",
        SELECTION,
        "replace=False",
        "replace=True",
        "nobody twice",
        "asks somebody twice",
    ),
    "asking the dead": (
        "selection",
        "S",
        SELECTION,
        "view.living,",
        "view.workers,",
        "among the living",
        "who are not among",
    ),
    "never asking the last": (
        "selection",
        "S",
        SELECTION,
        "rng.choice(view.living,",
        "rng.choice(view.living[:-1] if view.living.size > 1 else view.living,",
        "each of them in the end",
        "it never asked [8]",
    ),
    "everyone, but not quite": (
        "selection",
        "S",
        SELECTION,
        "everyone: ClassVar[bool] = False",
        "everyone: ClassVar[bool] = True",
        "None means everyone",
        "`everyone` is True",
    ),
    "a sum by order of arrival": (
        "aggregator",
        "A",
        AGGREGATOR,
        "'''\n",
        adding("""
    def absorb(self, state, m, payload):
        super().absorb(state, m, payload)
        state.total[:] += state.held.row(m) * 1e-3 * m
        state.dirty = False
"""),
        "the same however answers arrive",
        "the aggregate is another",
    ),
    "weights that are none": (
        "aggregator",
        "A",
        AGGREGATOR,
        "'''\n",
        adding("""
    def weights(self, samples): return [0.5] * len(samples)
"""),
        "`weights` are what it multiplies with",
        "all said the same, and the aggregate is another",
    ),
    "a sum that is none": (
        "aggregator",
        "A",
        AGGREGATOR,
        "'''\n",
        adding("""
    sums = True
    def total(self, state): return 2 * super().total(state)
    def weights(self, samples): return [2.0] * len(samples)
"""),
        "if it `sums`, its aggregate is what it holds of all workers",
        "its aggregate is not the sum",
    ),
    "keeping the dropped": (
        "aggregator",
        "A",
        AGGREGATOR,
        "'''\n",
        adding("""
    def drop(self, state, m): return None
"""),
        "forgets a worker that is dropped",
        "what the dropped worker had said still counts",
    ),
    "keeping the payload's array": (
        "aggregator",
        "A",
        AGGREGATOR,
        "'''\n",
        adding("""
    def absorb(self, state, m, payload):
        super().absorb(state, m, payload)
        if payload.dtype.kind == 'f' and hasattr(state.held, 'rows'):
            state.held.rows[m] = payload
"""),
        "holds of each worker what that worker last said",
        "it holds something else",
    ),
    "a batch drawn in replay": (
        "work",
        "W",
        WORK,
        "'''\n",
        adding("""
    def replay(self, state, theta, out):
        state.problem.batch_value_and_gradient(theta, state.draw(), out)
        return 1
"""),
        "replays the same samples",
        "replayed at the same theta",
    ),
    "a step within theta": (
        "work",
        "W",
        WORK,
        "'''\n",
        adding("""
    def contribute(self, state, theta, entry, out):
        theta -= 1
        return super().contribute(state, theta, entry, out)
"""),
        "leaves theta alone",
        "contribute wrote into theta",
    ),
    "a batch that is called the whole": (
        "work",
        "W",
        WORK,
        "'''\n",
        adding("""
    whole: ClassVar[bool] = True
"""),
        "writes all of its contribution",
        "`whole` is true",
    ),
    "instants that are no whole numbers": (
        "plan",
        "P",
        PLAN,
        "iter(range(2, 10**6, 2))",
        "iter([1.5, 3.0])",
        "whole numbers",
        "instants gave 1.5",
    ),
    "long rounds that are called single": (
        "plan",
        "P",
        PLAN,
        "single: ClassVar[bool] = False",
        "single: ClassVar[bool] = True",
        "only if it is `single`",
        "a round has 2 local steps",
    ),
    "no round at all": (
        "plan",
        "P",
        PLAN,
        "iter(range(2, 10**6, 2))",
        "iter([])",
        "one round at least",
        "no round at all",
    ),
    "a mirror of its own": (
        "codec",
        "K",
        CODEC,
        "'''\n",
        adding("""
    def commit(self, state, contribution, mirror, step_size):
        payload, mirror = super().commit(state, contribution, mirror, step_size)
        return payload, mirror + 1
"""),
        "keeps both ends equal",
        "the worker's mirror is not what the server holds: 40 of 40 numbers differ",
    ),
    "a negative step": (
        "step_size",
        "Half",
        STEP,
        "initial / 2",
        "initial - k / 100",
        "never negative",
        "at k = 11 the step size is -",
    ),
    "another step in an array": (
        "step_size",
        "Half",
        STEP,
        "+ 0 * k",
        "+ np.size(k) - 1",
        "one by one and many at once",
        "alone and",
    ),
    "forced and silent": (
        "start",
        "T",
        START,
        "silent_rounds: int = 0",
        "silent_rounds: int = 1",
        "never forces and silences",
        "2 rounds are forced and 1 silent",
    ),
    "hashed by identity": (
        "start",
        "T",
        START,
        "    fill:",
        "    def __hash__(self): return id(self)\n    fill:",
        "hashed alike",
        "has another hash",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_broken_part_of_another_family_is_caught(name, place):
    family, cls, text, old, new, sentence, why = OTHERS[name]
    assert old in text
    write(place, text, "right")
    write(place, text.replace(old, new, 1), "wrong")
    if name not in ("not unbiased", "keeping the aggregate's array"):
        assert broken(family, part_class(family, f"right:{cls}")()) == {}
    found = broken(family, part_class(family, f"wrong:{cls}")())
    assert any(sentence in promise and why in said for promise, said in found.items()), found


# psopt check


def check(capsys, *words):
    code = cli.main(["check", *words], standalone_mode=False)
    return code, capsys.readouterr().out


def test_check_of_a_config_looks_at_all_that_is_its_own(place, capsys):
    write(place, f"{TRIGGER}{COMPRESSOR}\nROW = Algorithm(trigger=Mine(2), codec=Overwrite(C()))")
    (place / "bowl.py").write_text(
        "class Bowl:\n"
        "    dim = 3\n"
        "    def __init__(self, shard, share): self.samples = shard.samples\n"
        "    def value(self, theta): return 0.5 * float(theta @ theta)\n"
        "    def value_and_gradient(self, theta, out):\n"
        "        out[:] = theta\n"
        "        return self.value(theta)\n"
    )
    (place / "c.yaml").write_text(
        "workers: 3\nproblem: bowl:Bowl\ndata: housing\nalgorithm: {recipe: mine:ROW, step_size: 0.1}\n"
    )
    code, told = check(capsys, "c.yaml")
    assert code == 0, told
    titles = [line for line in told.splitlines() if not line.startswith("  ")]
    assert titles == [
        "mine:Mine, a trigger (xi 2.0, norm two)",
        "mine:C, a compressor",
        "mine:ROW, a recipe",
        "bowl:Bowl, a problem, on the shard of worker 0",
        "c.yaml, 5 rounds in this process",
        "all 25 promises are kept",
    ]
    text = (place / "bowl.py").read_text().replace("out[:] = theta", "out[:] = -theta")
    (place / "hole.py").write_text(text)
    code, told = check(capsys, "c.yaml", "--set", "problem=hole:Bowl")
    assert code == 1
    assert "ok      `value` agrees with `value_and_gradient`, and neither writes into theta\n  broken  " in told
    assert "hole:Bowl: the gradient has to agree with finite differences of value" in told


def test_check_of_a_name(place, capsys):
    write(place, TRIGGER + STEP + "ROW = Algorithm(trigger=Mine(2))")
    code, told = check(capsys, "mine:Mine", "--set", "xi=3")
    assert (code, told.splitlines()[0], told.splitlines()[-1]) == (
        0,
        "mine:Mine, a trigger (xi 3.0, norm two)",
        "all 8 promises are kept",
    )
    assert check(capsys, "mine:Half", "--family", "step_size")[0] == 0
    assert "mine:ROW, a recipe\n  ok      means the same" in check(capsys, "mine:ROW")[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere:Mine"], "there is no module 'nowhere'"),
        (["mine:np"], "'mine:np' is a module, expected a class of parts, or a recipe"),
        (["mine:Recipe"], "'mine:Recipe' is a part of no family; nearest is "),
        (["mine:Mine", "--set", "xi=-1"], "--set xi=-1: xi: found -1, expected a number above 0"),
        (["mine:Mine", "--family", "codec"], "is a trigger, not a codec"),
        (["mine:Mine", "--family", "triger"], "--family: unknown family 'triger'; did you mean `trigger`?"),
        (["mine:P"], "'mine:P' is a problem, which needs data: name it in a config"),
        (["c.yaml", "--family", "trigger"], "--family is for a class that is named by itself"),
        (["c.yaml"], "c.yaml: there is no such file"),
        (["own.yaml"], "problem 'nowhere:P': there is no module 'nowhere'"),
    ],
)
def test_check_of_what_cannot_be_checked(words, sentence, place):
    write(place, TRIGGER + "class P:\n    def value_and_gradient(self, theta, out): pass\n")
    (place / "own.yaml").write_text("workers: 2\nproblem: nowhere:P\ndata: housing\n")
    with pytest.raises(ConfigError) as caught:
        cli.main(["check", *words], standalone_mode=False)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_of_a_config_without_anything_of_ones_own(place, capsys):
    (place / "c.yaml").write_text("workers: 3\nproblem: least-squares\ndata: housing\n")
    assert check(capsys, "c.yaml") == (0, "c.yaml: names no part, recipe or problem of your own\n")
