"""Faults on purpose: what the config takes, that each comes and is told, and that a slow run is the same run."""

import json
import os
import re
import subprocess
import sys

import mpi_jobs
import pytest

import psopt
from psopt import config
from psopt.config.faults import KINDS, Delay, Freeze, SlowNetwork, Strike
from psopt.core.worker import Worker
from psopt.errors import ConfigError, WorkerFailed
from psopt.runs.faults import THE_SERVER, Faults

LEAST = {"workers": 3, "problem": "logistic", "data": "lag-logistic", "stop": {"max_rounds": 50}}
TINY = {"workers": 4, "problem": "least-squares", "data": "lag-increasing", "algorithm": "lag-wk", "f_star": "none"}
TINY |= {"stop": {"max_rounds": 12}, "timeouts": {"round_s": 20}}


def parse(*faults, **changes):
    return config.parse({**LEAST, **changes, "faults": list(faults)})


def test_what_is_accepted():
    made = parse(
        {"kind": "kill", "worker": 2, "round": 50},
        {"kind": "freeze", "server": True, "round": 0, "seconds": 5},
        {"kind": "delay", "worker": 0, "seconds": 0.1, "first": 3},
        {"kind": "slow_network", "latency_s": 0.005, "megabit_per_s": 10},
    ).faults
    assert made == (
        Strike("kill", 50, 2),
        Freeze("freeze", 0, server=True, seconds=5),
        Delay("delay", 0, 0.1, 3),
        SlowNetwork("slow_network", 0.005, 10),
    )
    assert config.parse(LEAST).faults == ()


def test_they_survive_a_round_trip(tmp_path):
    made = parse(*({"kind": kind, **_least(cls)} for kind, cls in KINDS.items()))
    assert len(made.faults) == len(KINDS)
    path = tmp_path / "c.yaml"
    path.write_text(made.to_yaml())
    for again in (config.load(path), config.parse(made.resolved())):
        assert again == made
        assert again.sha256() == made.sha256()


def _least(cls):
    """The keys of a kind that have to be given."""
    return {Delay: {"worker": 1, "seconds": 1}, SlowNetwork: {"latency_s": 1}}.get(cls, {"worker": 1, "round": 1})


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"kind": "kill", "worker": 3, "round": 1}, "faults.0.worker: found 3, but the workers are 0 to 2"),
        ({"kind": "kill", "worker": 0, "round": 51}, "faults.0.round: found 51, but the run ends with round 50"),
        ({"kind": "delay", "worker": 0, "seconds": 1, "first": 60}, "faults.0.first: found 60, but the run ends"),
        ({"kind": "delay", "worker": 0, "seconds": 1, "first": 4, "last": 3}, "faults.0.last: key 'last': found 3"),
        ({"kind": "kill", "round": 1}, "faults.0: expected either `worker`, the number of one, or `server: true`"),
        ({"kind": "freeze", "worker": 0, "server": True, "round": 1}, "faults.0: expected either `worker`"),
        ({"kind": "kill", "worker": 0}, "faults.0.round: missing; expected a whole number of at least 0"),
        ({"kind": "kill", "worker": 0, "round": 1.5}, "faults.0.round: found 1.5, expected a whole number"),
        ({"kind": "kill", "worker": 0, "round": 1, "seconds": 2}, "faults.0.seconds: unknown key of fault `kill`"),
        ({"kind": "kil", "worker": 0, "round": 1}, "faults.0.kind: unknown fault 'kil'; did you mean `kill`?"),
        ({"worker": 0}, "faults.0.kind: missing; expected one of kill, freeze, terminate"),
        ({"kind": "delay", "worker": 0, "seconds": 0}, "faults.0.seconds: found 0, expected a number above 0"),
        ({"kind": "slow_network"}, "faults.0: a network that is not slow: set `latency_s` or `megabit_per_s`"),
        ({"kind": "not_finite", "worker": 0, "round": 0}, "faults.0.round: key 'round': found 0, but gradients"),
        (3, "faults.0: found 3, expected a mapping with `kind`"),
    ],
    ids=str,
)
def test_what_is_refused(fault, sentence):
    with pytest.raises(ConfigError) as caught:
        parse(fault)
    (line,) = str(caught.value).splitlines()
    assert sentence in line


@pytest.mark.parametrize("value", [{"kind": "kill"}, "kill", 3])
def test_no_list_is_refused(value):
    with pytest.raises(ConfigError, match=r"^config: faults: found .*, expected a list of mappings with `kind`$"):
        config.parse({**LEAST, "faults": value})


def test_what_the_run_has_not_is_refused():
    lost, poisoned = {"kind": "unreadable_data", "worker": 0, "round": 0}, {"kind": "not_finite", "server": True}
    with pytest.raises(ConfigError, match=r"faults\.0: `unreadable_data` needs files, and data `lag-uniform` has none"):
        parse(lost, data="lag-uniform")
    with pytest.raises(ConfigError, match=r"faults\.0: `unreadable_data` with data `mnist` needs `data\.path`"):
        parse(lost, data="mnist", problem={"kind": "softmax", "classes": 10})
    with pytest.raises(ConfigError, match="at the server cannot be used with a sparse compressor"):
        parse({**poisoned, "round": 1}, algorithm={"recipe": "sparse", "step_size": 0.1}, work={"batch": 2})


def test_the_schema_knows_every_kind():
    schema = config.json_schema()["properties"]["faults"]
    kinds = {form["properties"]["kind"]["const"]: form for form in schema["items"]["anyOf"]}
    assert list(kinds) == list(KINDS)
    assert kinds["freeze"]["required"] == ["kind", "round"]
    assert not kinds["kill"]["additionalProperties"]
    assert all(
        key.get("description") for form in kinds.values() for name, key in form["properties"].items() if name != "kind"
    )


def test_a_process_without_faults_gets_back_what_it_gave():
    faulty = parse({"kind": "kill", "worker": 1, "round": 5}, {"kind": "delay", "worker": 1, "seconds": 1})
    without = config.parse(LEAST)
    for none in (Faults(without, [THE_SERVER, 0, 1, 2], "", []), Faults(faulty, [THE_SERVER, 0, 2], "", [])):
        assert none.handle is Worker.handle
        transport = object()
        assert none.around(transport) is transport
    assert Faults(faulty, [1], "", []).handle is not Worker.handle


# In one process


def run(*faults, **changes):
    return psopt.minimize(
        TINY["problem"], TINY["data"], TINY["algorithm"], 4, **{**_rest(), **changes}, faults=list(faults)
    )


def _rest():
    return {name: TINY[name] for name in ("f_star", "stop", "timeouts")}


SLOW = {
    "delay": {"kind": "delay", "worker": 2, "seconds": 0.01, "first": 3, "last": 6},
    "slow_network": {"kind": "slow_network", "latency_s": 0.002, "megabit_per_s": 100},
    "freeze": {"kind": "freeze", "worker": 1, "round": 4, "seconds": 0.5},
    "freeze of the server": {"kind": "freeze", "server": True, "round": 4, "seconds": 0.5},
}


@pytest.mark.parametrize("recipe", ["lag-wk", "lag-ps"])
def test_a_slow_run_is_the_same_run(recipe, capsys):
    """The faults that only take time change no bit."""
    expected = psopt.minimize("least-squares", "lag-increasing", recipe, 4, **_rest())
    for fault in (SLOW["delay"], SLOW["slow_network"]):
        made = psopt.minimize("least-squares", "lag-increasing", recipe, 4, **_rest(), faults=[fault])
        assert made.theta_sha256 == expected.theta_sha256
        assert (made.uploads == expected.uploads).all()
        assert made.payload_bytes_up == expected.payload_bytes_up
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "psopt: faults: the answers of worker 2 are 0.01 s late from round 3 to 6"
    assert re.fullmatch(r"psopt: faults: now, in process, process \d+: the answers of worker 2 are 0.01 s .*", said[1])
    assert said[2] == "psopt: faults: each message is 0.002 s under way at 100 Mbit/s"


def test_a_slow_network_takes_its_time():
    """Latency twice a round, and four times theta in either direction: 50 float64 and a header, at 1 Mbit/s."""
    still = {"trace": {"every": 100, "objective": False}}
    made = run({"kind": "slow_network", "latency_s": 0.01, "megabit_per_s": 1}, **still, stop={"max_rounds": 5})
    bytes_a_round = (made.payload_bytes_up + made.payload_bytes_down) / 5
    assert made.trace["wait_s"][-1] > 5 * (0.02 + 8e-6 * bytes_a_round)
    assert made.trace["wait_s"][-1] < 5 * (0.02 + 8e-6 * bytes_a_round) + 1.0


def test_it_raises(capsys):
    with pytest.raises(
        WorkerFailed, match=r"### worker 1 of 4, rank 0 on .*, round 5\n(.|\n)*worker 1 raises in round 5"
    ):
        run({"kind": "raise", "worker": 1, "round": 5})
    with pytest.raises(RuntimeError, match="the server raises in round 5, as `faults` asks"):
        run({"kind": "raise", "server": True, "round": 5})
    assert capsys.readouterr().err.count("psopt: faults: now, in process") == 2


def test_it_is_not_finite():
    with pytest.raises(WorkerFailed, match="round 5: the gradient of worker 1 is not finite in tensor `theta`"):
        run({"kind": "not_finite", "worker": 1, "round": 5})
    with pytest.raises(ConfigError, match="theta is no longer finite after round 5"):
        run({"kind": "not_finite", "server": True, "round": 5}, stop={"max_rounds": 6})


IONOSPHERE = {"problem": {"kind": "logistic", "l2": 1e-3}, "data": "ionosphere"}
NOISY = {"problem": {"kind": "noisy-quadratic", "curvature": [1.0, 2.0]}, "data": "none"}


@pytest.mark.parametrize(
    "row",
    [
        {**IONOSPHERE, "algorithm": {"recipe": "sgd", "work": {"batch": 5}}},
        {**IONOSPHERE, "algorithm": {"recipe": "fedavg", "work": {"batch": 5}}},
        {**IONOSPHERE, "algorithm": "lag-wk", "downlink": "changes"},
        {**NOISY, "algorithm": {"recipe": "sgd", "step_size": 0.01, "work": {"batch": 5, "draw": "replace"}}},
    ],
    ids=["minibatches", "local steps", "own theta", "noise"],
)
def test_any_work_is_not_finite(row):
    fault = {"kind": "not_finite", "worker": 1, "round": 3}
    with pytest.raises(WorkerFailed, match=r"round 3: the (pseudo-)?gradient of worker 1 is not finite in tensor"):
        psopt.minimize(**row, workers=3, stop={"max_rounds": 6}, f_star="none", faults=[fault])


def test_one_who_is_not_asked_is_struck_when_asked_next():
    """cyc-iag asks one worker a round, in turn: worker 0 in rounds 4 and 8."""
    cyclic = {"algorithm": {"recipe": "cyc-iag", "step_size": 1e-3}, "problem": "least-squares", "data": TINY["data"]}
    with pytest.raises(WorkerFailed, match=r"### worker 0 of 4, .*, round 8\n"):
        psopt.minimize(**cyclic, workers=4, **_rest(), faults=[{"kind": "raise", "worker": 0, "round": 6}])


def test_what_did_not_come_is_told(capsys):
    faults = [{"kind": "raise", "worker": 1, "round": 10}, {"kind": "delay", "worker": 1, "seconds": 1, "first": 10}]
    cyclic = {"recipe": "cyc-iag", "step_size": 1e-3}
    psopt.minimize("least-squares", TINY["data"], cyclic, 4, **_rest(), faults=faults)
    said = capsys.readouterr().err.splitlines()
    assert said[-2] == "psopt: faults: did not come: worker 1 raises in round 10"
    assert said[-1] == "psopt: faults: did not come: the answers of worker 1 are 1 s late from round 10 on"


def test_a_resumed_run_has_behind_it_what_has_come():
    made = parse({"kind": "raise", "worker": 1, "round": 5}, {"kind": "raise", "worker": 1, "round": 0})
    assert Faults(made, [THE_SERVER, 0, 1, 2], "", [], after=5).handle is Worker.handle
    assert Faults(made, [THE_SERVER, 0, 1, 2], "", [], after=4).handle is not Worker.handle


# As processes of their own


@pytest.fixture
def path(tmp_path):
    (tmp_path / "data.csv").write_text("a,b,y\n" + "".join(f"{i},{i * i % 7},{3 * i}\n" for i in range(20)))
    made = {**TINY, "data": {"source": "file", "path": str(tmp_path / "data.csv")}, "algorithm": "gd"}
    (tmp_path / "c.yaml").write_text(json.dumps(made))
    return tmp_path / "c.yaml"


def simulated(path, *faults, **streams):
    command = [sys.executable, "-m", "psopt", "simulate", str(path), "--quiet", "--out", str(path.parent / "run")]
    command += ["--set", f"faults={json.dumps(faults)}"]
    wanted = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, text=True, timeout=60, cwd=os.path.dirname(__file__), **wanted)


def test_the_one_process_is_killed(path):
    done = simulated(path, {"kind": "kill", "worker": 1, "round": 5})
    assert done.returncode == -9
    assert re.search(
        r"^psopt: faults: now, in process, process \d+: worker 1 is killed in round 5\n\Z", done.stderr, re.M
    )


@pytest.mark.parametrize("kind", ["interrupt", "terminate"])
def test_the_one_process_gets_a_signal(path, kind):
    done = simulated(path, {"kind": kind, "worker": 1, "round": 5})
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "psopt: interrupted"
    assert json.loads((path.parent / "run" / "summary.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize(("k", "to_files"), [(0, False), (5, True), (12, False)])
def test_the_disk_is_full_and_what_is_printed_arrives(path, k, to_files):
    fault = {"kind": "disk_full", "server": True, "round": k}
    if to_files:
        out, err = path.parent / "out", path.parent / "err"
        with open(out, "w") as stdout, open(err, "w") as stderr:
            done = simulated(path, fault, stdout=stdout, stderr=stderr)
        said = err.read_text().splitlines()
    else:
        done = simulated(path, fault)
        said = done.stderr.splitlines()
    assert done.returncode == 1
    assert said[2:] == [f"psopt: the run folder {path.parent / 'run'} cannot be written: File too large"]
    assert not list((path.parent / "run").glob("*.partial"))


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_disk_full_of_replicas(path, interrupted):
    """It is told once, also beside another end."""
    full, stop = {"kind": "disk_full", "server": True, "round": 5}, {"kind": "interrupt", "server": True, "round": 6}
    path.write_text(json.dumps({**json.loads(path.read_text()), "repeat": 2}))
    done = simulated(path, full, *[stop] * interrupted)
    said = [line for line in done.stderr.splitlines() if line and not line.startswith("psopt: faults: ")]
    out = path.parent / "run"
    if interrupted:
        assert said[0] == "psopt: will end after this round; once more, and it ends now"
        assert said[1:] == [f"psopt: the run folder {out} cannot be written: File too large", "psopt: interrupted"]
    else:
        assert said == [f"psopt: the run folder {out / '.replica-000.partial'} cannot be written: File too large"]
    assert done.returncode == (130 if interrupted else 1)


def test_data_that_cannot_be_read(path):
    done = simulated(path, {"kind": "unreadable_data", "worker": 1, "round": 0})
    assert done.returncode == 2
    assert done.stderr.splitlines()[2:] == [f"{path.parent / 'data.csv'}: cannot be read: Input/output error"]


@pytest.mark.mpi
def test_a_slow_job_has_the_bits_of_one_process(path):
    done = simulated(path)
    assert done.returncode == 0, done.stderr
    expected = json.loads((path.parent / "run" / "summary.json").read_text())
    faults = json.dumps(list(SLOW.values()))
    ended = mpi_jobs.psopt(
        "run", path, "--ranks", 3, "--quiet", "--out", path.parent / "job", "--set", f"faults={faults}"
    )
    assert ended.code == 0, ended
    made = json.loads((path.parent / "job" / "summary.json").read_text())
    for name in ("theta_sha256", "uploads", "payload_bytes_up", "payload_bytes_down", "rounds"):
        assert made[name] == expected[name]
    assert (path.parent / "job" / "uploads.bin").read_bytes() == (path.parent / "run" / "uploads.bin").read_bytes()
    now = [line.partition(": ")[2].partition(": ")[2] for line in ended.said if line.startswith("psopt: faults: now")]
    assert len(now) == 3, ended
