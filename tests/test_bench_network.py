"""`psopt bench network`: what it counts and scales by hand, the arithmetic of torch and psopt, a small network."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from psopt.bench.netlab import probe
from psopt.bench.netlab.network import Network, lacking
from psopt.bench.network import command, table
from psopt.bench.network.clock import Limits, Marks, Timed, cable_nbytes
from psopt.bench.network.job import Place
from psopt.bench.network.measure import whole_run
from psopt.bench.network.optimum import lbfgs
from psopt.bench.network.table import EXPERIMENTS, Experiment, Row, Wire, experiments, wires
from psopt.bench.network.targets import Targets, spread
from psopt.cli import cli
from psopt.config import parse
from psopt.errors import ConfigError
from psopt.problems.optimum import newton
from psopt.runs.experiment import Plan, simulate

ROWS = (
    Row("torch DDP GD", peer="ddp", rounds_as="psopt GD"),
    Row("psopt GD", {"recipe": "gd"}),
    Row("psopt LAG-WK", {"recipe": "lag-wk"}, varies=True),
    Row("psopt LAG-WK, changes", {"recipe": "lag-wk"}, {"downlink": "changes"}, rounds_as="psopt LAG-WK", varies=True),
    Row("torch DDP GD, coarse", peer="ddp", rounds_as="psopt GD", gap=1e-2),
    Row("psopt local, coarse", table.growing(2e-3), {"stop": {"max_rounds": 12}}, gap=1e-2),
)
TINY = Experiment(
    "T",
    "a tiny problem",
    {
        "seed": 1,
        "workers": 2,
        "problem": {"kind": "least-squares"},
        "data": {"source": "synthetic", "synthetic": {"n_samples": 40, "n_features": 3, "heterogeneity": 0.5}},
        "stop": {"gap": 1e-8, "max_rounds": 500},
    },
    ROWS,
    ("100/5",),
    piece=20,
)
"""Of which all rows but one reach their target."""


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(table, "EXPERIMENTS", (TINY,))
    return TINY


def part(seconds, rounds, after=0, **more):
    booked = dict.fromkeys(("payload_bytes_up", "payload_bytes_down", "control_bytes_up", "control_bytes_down"), 4.0)
    return {
        "seconds": seconds,
        "rounds": rounds,
        "after": after,
        "hub_up": 1.0,
        "hub_down": 2.0,
        **more,
        "a_round": booked,
    }


def test_rounds_take_what_the_nearest_measured_ones_took():
    """Middles at 10, 50 and 95, borders at 30 and 72.5."""
    found = whole_run(100, [part(20, 20), part(40, 20, 40), part(30, 10, 90)])
    assert found["share_s"] == (1.0, 2.0, 3.0)
    assert found["seconds"] == pytest.approx(30 * 1 + 42.5 * 2 + 27.5 * 3)
    assert (found["measured"], found["ledger_up"], found["hub_down"]) == (50, 8.0, 2.0)


def test_a_row_is_held_against_the_baseline_of_its_own_target():
    assert TINY.baseline(TINY.row("psopt LAG-WK")).name == "torch DDP GD"
    assert TINY.baseline(TINY.row("psopt local, coarse")).name == "torch DDP GD, coarse"


def test_one_part_is_scaled_and_a_whole_run_is_not():
    assert whole_run(100, [part(5, 10)])["seconds"] == 50
    whole = whole_run(4, [part(3, 3, whole_s=4.5)])
    assert (whole["seconds"], whole["measured"], whole["share_s"]) == (4.5, 4, (1.125,))


def test_the_steps_before_local_ones_are_weighed_by_themselves():
    """Ten steps of 2 s, which count as one round, and 19 periods of 3 s."""
    first = {"seconds": 10.0, "rounds": 5}
    told = {key: value for key, value in part(9, 3, start=first).items() if key != "a_round"}
    found = whole_run(20, [told], started=10)
    assert found["seconds"] == 10 * 2 + 19 * 3
    assert "ledger_up" not in found


def test_places_are_near_the_middles_of_equal_parts():
    states = [(0, ""), *((k, str(k)) for k in range(100, 1000, 100))]
    assert [k for k, _ in spread(states, 600)] == [100, 300, 500]
    assert spread([(0, "")], 7) == ((0, ""),)


def test_the_clock_starts_after_the_warm_rounds_and_ends_with_enough():
    for begun in (False, True):
        timed = Timed(Limits(warm=2, fewest=3, most=5, seconds=0.0), begun)
        asked = 0
        while timed.reason(asked, None, 0, float(asked), lambda: 0.0) is None:
            asked += 1
        assert asked == (4 if not begun else 5)
        assert timed.marks.told()["rounds"] == 3
        assert timed.since_start_s == asked
    limits = Limits(0, 2, 10, 5.0)
    assert [limits.enough(*each) for each in ((1, 9.0), (2, 4.9), (2, 5.0), (10, 0.0))] == [False, False, True, True]


def test_pauses_do_not_count():
    marks = Marks([1.0, 2.0], [0, 10], [0, 20])
    marks.pause()
    assert marks.seconds[1] - marks.seconds[0] == pytest.approx(1.0)
    marks.note()
    told = marks.told()
    assert told["seconds"] == pytest.approx(1.0, abs=0.1)


def test_bytes_of_a_device():
    assert cable_nbytes("no-such-device") == (0, 0)
    assert min(cable_nbytes("lo")) >= 0


def test_lbfgs_finds_what_newton_finds():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 6))
    H, b = A.T @ A / 40 + 0.1 * np.eye(6), rng.standard_normal(6)

    def value_and_gradient(x):
        return 0.5 * x @ H @ x - b @ x, H @ x - b

    expected = newton(value_and_gradient, lambda x: H, 6)[1]
    found = lbfgs(value_and_gradient, np.zeros(6), 0.1, 0.1, 1e-10)
    assert 0 <= found - expected < 1e-10
    with pytest.raises(ConfigError, match=r"f\* was not found"):
        lbfgs(lambda x: (float(x[0]), np.array([np.nan])), np.zeros(1), 1.0, 1.0, 1e-10)


def test_the_table_makes_sense():
    for experiment in EXPERIMENTS:
        assert len({row.name for row in experiment.rows}) == len(experiment.rows)
        for row in experiment.rows:
            assert experiment.baseline(row).peer == "ddp"
            assert not row.rounds_as or experiment.row(row.rounds_as) is not row
            if not row.peer:
                config = {**experiment.config, **row.changes, "algorithm": dict(row.algorithm)}
                config["stop"] = {**experiment.config["stop"], **config["stop"]}
                if experiment.needs:
                    config["data"] = {**config["data"], "path": "somewhere"}
                parse({"name": "x", **config})
    assert [wire.name for wire in wires(["10/5", "200/1"])] == ["10/5", "200/1"]
    assert [each.key for each in experiments(["C"])] == ["C-linear", "C-logistic", "C-a9a", "C-w8a"]
    assert len(experiments([])) == len(EXPERIMENTS)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--network", "7/7"], "--network `7/7` is none of 10/20, 100/5, 10/5, 200/1"),
        (["--experiment", "Z"], "--experiment `Z` is none of A, B, C-linear"),
        (["--experiment", "A"], "experiment A needs --data: the folder that holds mnist"),
        (["--experiment", "C-a9a", "--data", "."], "experiment C-a9a needs a9a in ., and it is not there"),
        (["--experiment", "C-linear", "--row", "Adam"], "--row `Adam` is in none of torch DDP GD, psopt GD"),
    ],
)
def test_wrong_use_gets_a_sentence(options, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "lacking", lambda: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=sentence.replace("*", r"\*")):
        CliRunner().invoke(cli, ["bench", "network", "--out", "o", *options], catch_exceptions=False)


def test_without_root_it_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "lacking", lambda: "an emulated network needs root")
    with pytest.raises(ConfigError, match=r"needs root; the rounds .* --count"):
        command.bench_network(tmp_path, None, [], ["C-linear"])


def test_a_network_that_is_off_is_told():
    network = Network(Path(), "x", 3, 100.0, 5.0)
    assert probe.off(network, probe.Measured(10.4, 93.0)) is None
    for measured in (probe.Measured(14.0, 93.0), probe.Measured(10.4, 50.0), probe.Measured(0.1, 93.0)):
        assert probe.off(network, measured).startswith("the emulated network is not exact: 100 Mbit/s, 5 ms, 3 hosts")


def test_counts_are_those_of_whole_runs_and_found_once(tiny, tmp_path):
    targets = Targets(tmp_path, None)
    found = {row.name: targets.of(tiny, row) for row in tiny.rows}
    whole = simulate(Plan(parse({**tiny.config_of(tiny.plain, None)}), quiet=True, warns=False))
    assert found["psopt GD"].rounds == found["torch DDP GD"].rounds == whole.rounds
    assert found["torch DDP GD, coarse"].rounds < whole.rounds
    lazy = found["psopt LAG-WK"]
    assert lazy.places == found["psopt LAG-WK, changes"].places
    assert all(Path(place).is_dir() for k, place in lazy.places if k)
    config = targets.config(tiny, tiny.row("psopt LAG-WK"))
    straight = simulate(Plan(parse(config), quiet=True, warns=False))
    assert straight.rounds == lazy.rounds
    assert straight.summary["uploads"] / straight.rounds == lazy.uploads
    for downlink in ("theta", "changes"):  # either kind of server goes on from there, with the same bits
        k, place = lazy.places[-1]
        resumed = Place(Path(place), downlink == "changes")
        done = simulate(Plan(parse({**config, "downlink": downlink}), resumed=resumed, quiet=True, warns=False))
        assert (k > 0, done.rounds) == (True, straight.rounds)
        assert done.summary["theta_sha256"] == straight.summary["theta_sha256"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert targets.of(tiny, tiny.row("psopt LAG-WK")) == lazy
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before


PROBLEMS = {
    "logistic": ({"kind": "logistic", "l2": 1e-2, "reduction": "mean"}, {"source": "adult-a1a"}, 2.0, None),
    "least-squares": ({"kind": "least-squares", "l2": 0.1}, {"source": "lag-linear"}, 1e-4, None),
    "softmax": (
        {"kind": "softmax", "classes": 6, "l2": 1e-2},
        {"source": "dermatology", "labels": "classes", "standardise": "z-score"},
        0.1,
        None,
    ),
    "perceptron": (
        {"kind": "perceptron", "classes": 6, "hidden": [5], "l2": 1e-3},
        {"source": "dermatology", "labels": "classes", "standardise": "z-score"},
        0.1,
        8,
    ),
}


def config_of(problem, workers, rounds):
    kind, data, step_size, batch = PROBLEMS[problem]
    if data["source"] == "dermatology":
        kind = {**kind, "classes": 7}  # labels 1 to 6
    row = {"recipe": "gd" if batch is None else "sgd", "step_size": step_size}
    if batch:
        row["work"] = {"kind": "minibatch", "batch": batch}
    config = {"name": problem, "seed": 3, "workers": workers, "problem": kind, "data": data, "algorithm": row}
    config |= {"f_star": "none", "stop": {"max_rounds": rounds}}
    return config, {"step_size": step_size, **({"batch": batch} if batch else {})}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_torchs_arithmetic_is_psopts(problem):
    """DDP's steps, added up in one process, from the same shards, batches and first iterate."""
    pytest.importorskip("torch")
    from psopt.bench.peers import alone
    from psopt.bench.peers.model import Peer, flat

    config, options = config_of(problem, 3, 12)
    workers = alone.Workers(Peer(parse(config), options.get("batch")))
    steps = alone.ddp(workers, options)
    for _ in range(12):
        next(steps)
    expected = simulate(Plan(parse(config), quiet=True, warns=False)).theta
    np.testing.assert_allclose(flat(workers.modules[0]), expected, rtol=1e-9, atol=1e-12)


WAYS = {
    "ddp": ({}, 8, 8),
    "powersgd": ({"rank": 2, "start": 3}, 8, 8),
    "postlocal": ({"period": 3, "start": 2}, 9, 4),  # two steps, one and its mean, then twice three
}
"""Options, how many steps two ranks take, and how many rounds these are alone."""


def two_of(way):
    """The problem of two ranks, and the way's options."""
    config, options = config_of("perceptron", 2, 1)
    config["problem"] = {**config["problem"], "hidden": [30]}
    return config, {**options, **WAYS[way][0]}


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory):
    """Theta of each way by torch.distributed's own hooks, by gloo on the loopback device, all by the same two."""
    folder, specs = tmp_path_factory.mktemp("ways"), []
    for way, (_, rounds, _) in WAYS.items():
        config, options = two_of(way)
        spec = {"config": config, "way": way, "options": options, "timeout_s": 60, "rounds": rounds}
        spec |= {"address": f"file://{folder}/meeting-{way}", "theta": str(folder / f"{way}.npy")}
        specs.append(folder / f"{way}.json")
        specs[-1].write_text(json.dumps(spec))
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    code = (
        "import faulthandler, os, sys\n"
        "from psopt.bench.peers.host import main\n"
        "faulthandler.dump_traceback_later(100)\n"
        "for spec in sys.argv[2:]:\n"
        "    child = os.fork()\n"  # which ends with its part
        "    if not child:\n"
        "        main(spec, int(sys.argv[1]))\n"
        "    assert os.waitpid(child, 0)[1] == 0, spec\n"
    )
    program = [sys.executable, "-c", code]
    ranks = [
        subprocess.Popen([*program, str(rank), *map(str, specs)], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=240)[1].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], said
    return {way: np.load(folder / f"{way}.npy") for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_torchs_ways_alone_are_those_of_two_ranks(way, request):
    """What is added up in one process against torch.distributed."""
    pytest.importorskip("torch")
    from psopt.bench.peers import alone
    from psopt.bench.peers.model import Peer, flat

    expected = request.getfixturevalue("on_two_ranks")[way]
    config, options = two_of(way)
    workers = alone.Workers(Peer(parse(config), options["batch"]))
    steps = alone.WAYS[way](workers, options)
    for _ in range(WAYS[way][2]):
        next(steps)
    np.testing.assert_allclose(flat(workers.modules[0]), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.mpi
@pytest.mark.open_mpi
@pytest.mark.alone
def test_on_a_network(tmp_path, monkeypatch, capsys):
    """All of it, on three hosts: the table, its file, and rows that are kept."""
    lacks = lacking()
    if lacks:
        pytest.skip(lacks)
    fine = tuple(row for row in ROWS if row.gap is None)
    monkeypatch.setattr(table, "EXPERIMENTS", (replace(TINY, rows=fine),))
    monkeypatch.setattr(table, "WIRES", (Wire(100, 5),))
    monkeypatch.setattr(command, "WIRES", (Wire(100, 5),))
    monkeypatch.setattr(probe, "ATTEMPTS", 10)
    assert command.bench_network(tmp_path, None, [], [], quick=True) == 0
    held = json.loads((tmp_path / "bench.json").read_text())
    rows = {row["name"].removeprefix("T 100/5: "): row for row in held["rows"]}
    with_torch = "torch DDP GD" in rows
    assert set(rows) == {row.name for row in fine if with_torch or not row.peer}
    gd, lazy, changes = (rows[name] for name in ("psopt GD", "psopt LAG-WK", "psopt LAG-WK, changes"))
    for row in (gd, lazy, changes):
        each = row["seconds"] / row["rounds"]
        assert 0.010 < each < 0.25, "a round is a question and an answer, 5 ms each"
    # Three doubles to two workers in one broadcast, and two back, with MPI's and TCP's own bytes.
    assert 2 * (24 + 48) <= gd["ledger_up"] < 1.1 * 2 * (24 + 48)  # greetings are in it
    assert gd["ledger_up"] < gd["hub_down"] < gd["ledger_up"] + 2 * 700
    assert lazy["ledger_up"] < gd["ledger_up"]
    assert gd["job_down"] > gd["hub_down"] * gd["measured"]
    if with_torch:
        assert gd["baseline"] == "torch DDP GD"
        assert gd["ratio"] == pytest.approx(rows["torch DDP GD"]["median_s"] / gd["median_s"])
    printed = capsys.readouterr().out
    assert "100 Mbit/s, 5 ms, 3 hosts; plain TCP: round trip" in printed
    with pytest.raises(ConfigError, match="is there already: --continue keeps its rows"):
        command.bench_network(tmp_path, None, [], [], quick=True)
    assert command.bench_network(tmp_path, None, [], [], quick=True, again=True) == 0
    again = json.loads((tmp_path / "bench.json").read_text())
    assert again["rows"] == held["rows"]
