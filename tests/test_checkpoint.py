"""Checkpoints in process: a run that goes on ends with the bits, counts and trace of one that never stopped."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import mpi_bits
import numpy as np
import pytest

import psopt
from psopt.config import Checkpoint, parse
from psopt.core.state import restored, state_of
from psopt.errors import CannotWrite, ConfigError
from psopt.runs import checkpoint as checkpoints
from psopt.runs import conduct, container, resume
from psopt.runs.checkpoint import existing, round_of
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import Held, held, load_run, read_summary
from psopt.runs.occupancy import occupant, occupied

EVERY = Checkpoint(every_rounds=7, keep=100)
TINY = {
    "workers": 3,
    "problem": "least-squares",
    "data": {"source": "lag-increasing"},
    "algorithm": "lag-wk",
    "f_star": "none",
    "stop": {"max_rounds": 30},
    "checkpoint": {"every_rounds": 10, "keep": 2},
}


@pytest.fixture
def all_stay(monkeypatch):
    """A run that is over keeps its older checkpoints, too."""
    monkeypatch.setattr(checkpoints.Checkpoints, "thin", lambda self, k: None)


def cut_off(folder, k, into):
    """What would be there of the run had it been killed some time after the checkpoint of round k."""
    shutil.copytree(folder, into)
    for name in ("summary.json", "theta.npy"):
        (into / name).unlink()
    for path in existing(into):
        if round_of(path) > k:
            shutil.rmtree(path)
    return into


def go_on(config, folder, **given):
    return simulate(replace(resume.going_on(config, folder), quiet=True, **given))


CASES = {name: (config, own) for name, config, own in mpi_bits.cases()}


@pytest.mark.parametrize("name", CASES)
def test_same_bits_counts_and_trace(name, tmp_path, all_stay):
    config, own = CASES[name]
    whole = simulate(Plan(config, problem=own, quiet=True))
    config = replace(config, checkpoint=EVERY)
    simulate(Plan(config, tmp_path / "run", problem=own, quiet=True))
    points = [round_of(path) for path in existing(tmp_path / "run")]
    assert points[-1] == whole.rounds
    for k in {points[0], points[-1]}:
        again = go_on(config, cut_off(tmp_path / "run", k, tmp_path / str(k)), problem=own)
        assert {key: again.summary[key] for key in mpi_bits.KEYS} == {key: whole.summary[key] for key in mpi_bits.KEYS}
        np.testing.assert_array_equal(again.uploads, whole.uploads)
        for key in whole.trace:
            if not key.endswith("_s"):
                np.testing.assert_array_equal(again.trace[key], whole.trace[key], err_msg=key)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with the checkpoints of rounds 10, 20 and 30, and its config."""
    folder = tmp_path_factory.mktemp("made") / "run"
    config = parse({**TINY, "checkpoint": {"every_rounds": 10, "keep": 9}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "thin", lambda self, k: None)
        done = simulate(Plan(config, folder, quiet=True))
    assert [round_of(path) for path in existing(folder)] == [10, 20, 30]
    return folder, config, done


@pytest.fixture
def begun(made, tmp_path):
    """That run, killed after round 20."""
    return cut_off(made[0], 20, tmp_path / "run")


def test_the_last_ones_are_kept_and_of_a_finished_run_the_last_alone(tmp_path):
    config = parse({**TINY, "stop": {"max_rounds": 1000, "max_seconds": 1e9}})
    seen = []

    class Watch:
        stop = config.stop

        def reason(self, k, *rest):
            seen.append([round_of(path) for path in existing(tmp_path / "run")])
            return "enough" if k == 45 else None

    # A stopping rule that no config tells: such a run cannot go on, and writes nothing.
    assert simulate(Plan(config, tmp_path / "other", Watch(), quiet=True)).stop_reason == "enough"
    assert existing(tmp_path / "other") == []
    done = simulate(Plan(parse({**TINY, "stop": {"max_rounds": 45}}), tmp_path / "run", quiet=True))
    assert [round_of(path) for path in existing(tmp_path / "run")] == [done.rounds] == [45]
    assert not list((tmp_path / "run" / "checkpoints").glob("*.partial"))


def test_keep_counts_those_of_a_run_under_way(tmp_path, all_stay):
    simulate(Plan(parse(TINY), tmp_path / "run", quiet=True))
    assert [round_of(path) for path in existing(tmp_path / "run")] == [20, 30]
    config = parse({**TINY, "checkpoint": {"keep": 0}})
    simulate(Plan(config, tmp_path / "none", quiet=True))
    assert not (tmp_path / "none" / "checkpoints").exists()


def test_by_the_clock(tmp_path, all_stay):
    config = parse({**TINY, "checkpoint": {"every_seconds": 1e-9, "keep": 50}})
    simulate(Plan(config, tmp_path / "run", quiet=True))
    found = [round_of(path) for path in existing(tmp_path / "run")]
    assert found[-1] == 30
    assert 1 <= len(found) < 30, "what writing costs bounds how often"


def test_more_rounds_are_those_of_a_longer_run(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "run")
    longer = parse({**TINY, "stop": {"max_rounds": 50}, "trace": {"every": 1}, "checkpoint": {"every_rounds": 10}})
    done = go_on(longer, tmp_path / "run")
    whole = simulate(Plan(longer, quiet=True))
    assert done.rounds == 50
    assert done.theta_sha256 == whole.theta_sha256
    np.testing.assert_array_equal(done.trace["objective"], whole.trace["objective"])
    assert load_run(tmp_path / "run").config["stop"]["max_rounds"] == 50
    assert [each["round"] for each in done.manifest["resumed"]] == [30]


def test_a_rule_that_holds_already_ends_the_run_at_once(begun):
    done = go_on(parse({**TINY, "stop": {"max_rounds": 15}}), begun)
    assert (done.rounds, done.stop_reason, done.status) == (20, "max_rounds", "ok")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit": lambda at: flip(at / "rank-00000"),
    "a part cut short": lambda at: (at / "rank-00000").write_bytes((at / "rank-00000").read_bytes()[:-70]),
    "a part missing": lambda at: (at / "rank-00000").unlink(),
    "a manifest of nonsense": lambda at: (at / "manifest.json").write_text("{]"),
    "a manifest of another round": lambda at: (at / "manifest.json").write_text(
        (at / "manifest.json").read_text().replace('"round": 20', '"round": 21')
    ),
    "no manifest": lambda at: (at / "manifest.json").unlink(),
    "a trace cut short": lambda at: (at.parent.parent / "trace.jsonl").write_bytes(b""),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_checkpoint_is_recognised_and_the_one_before_is_used(what, begun, made, capsys):
    last = existing(begun)[-1]
    assert round_of(last) == 20
    DAMAGES[what](last)
    if what == "a trace cut short":
        with pytest.raises(ConfigError, match="holds no checkpoint that is whole") as caught:
            resume.going_on(made[1], begun)
        _, *faults = str(caught.value).splitlines()
        assert len(faults) == 2
        assert all("trace.jsonl is damaged" in fault for fault in faults)
        return
    done = go_on(made[1], begun)
    [warning] = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert str(last) in warning
    assert [each["round"] for each in done.manifest["resumed"]] == [10]
    assert done.theta_sha256 == made[2].theta_sha256
    np.testing.assert_array_equal(done.uploads, made[2].uploads)
    assert (begun / "decisions.bin").read_bytes() == (made[0] / "decisions.bin").read_bytes()


def test_what_was_not_finished_is_no_checkpoint(begun, made):
    last = existing(begun)[-1]
    last.rename(last.with_name(last.name + ".partial"))
    (begun / "checkpoints" / "round-x").mkdir()
    assert resume.latest(begun)[0].round == 10


def test_a_config_that_means_another_run_is_refused_with_the_difference(begun):
    other = parse({**TINY, "seed": 5, "algorithm": {"recipe": "lag-wk", "trigger": {"xi": 0.3}}})
    with pytest.raises(ConfigError) as caught:
        resume.going_on(other, begun)
    assert str(caught.value).splitlines() == [
        f"the config has changed since the checkpoint of round 20, and only {', '.join(resume.MAY_CHANGE)} may:",
        "  seed: 0 at the checkpoint, 5 now",
        "  algorithm.trigger.xi: 0.1 at the checkpoint, 0.3 now",
    ]


LOCAL = {
    "workers": 2,
    "problem": {"kind": "least-squares"},
    "data": "lag-increasing",
    "f_star": "none",
    "checkpoint": {"every_rounds": 1, "keep": 9},
}


@pytest.mark.parametrize(
    ("plan", "before", "after", "sentence"),
    [
        ({"kind": "growing", "rounds": 3}, 60, 90, "plan `growing` is laid out over it"),
        ({"kind": "fixed", "local_steps": 7}, 60, 90, "no round of plan `fixed` ends at the checkpoint, after 60"),
        ({"kind": "fixed", "local_steps": 7}, 70, 63, "no round of plan `fixed` ends at the checkpoint, after 70"),
        ({"kind": "fixed", "local_steps": 7}, 63, 90, None),
    ],
)
def test_more_local_steps_where_the_rounds_stay_the_same(plan, before, after, sentence, tmp_path):
    def config(steps):
        row = {"recipe": "local-sgd", "plan": plan, "step_size": 1e-4}
        return parse({**LOCAL, "algorithm": row, "stop": {"max_steps": steps}})

    simulate(Plan(config(before), tmp_path / "run", quiet=True))
    if sentence:
        with pytest.raises(ConfigError, match=sentence):
            resume.going_on(config(after), tmp_path / "run")
    else:
        whole = simulate(Plan(config(after), quiet=True))
        assert go_on(config(after), tmp_path / "run").theta_sha256 == whole.theta_sha256


def test_other_data_are_refused(tmp_path):
    rows = np.random.default_rng(0).standard_normal((40, 3))
    np.savez(tmp_path / "data.npz", X=rows, y=rows @ [1.0, 2.0, 3.0])
    config = parse({**TINY, "data": {"source": "file", "path": str(tmp_path / "data.npz")}})
    simulate(Plan(config, tmp_path / "run", quiet=True))
    rows[17, 1] += 1e-9
    np.savez(tmp_path / "data.npz", X=rows, y=rows @ [1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match=r"the data of worker [012] are not those that the run began with"):
        go_on(replace(config, stop=parse({**TINY, "stop": {"max_rounds": 40}}).stop), tmp_path / "run")


def test_what_a_problem_carries_is_kept(tmp_path, all_stay):
    class Carrying:
        """Its gradient depends, by very little, on how often it was asked."""

        dim, samples = 2, 4

        def __init__(self, shard, share):
            self.asked = 0

        def value(self, theta):
            return float(theta @ theta)

        def value_and_gradient(self, theta, out):
            out[:] = 2 * theta + 1e-9 * self.asked
            self.asked += 1
            return self.value(theta)

        def state(self):
            return {"asked": self.asked}

        def restore(self, state):
            self.asked = state["asked"]

    config = parse({**TINY, "algorithm": {"recipe": "gd", "step_size": 0.1}, "problem": "test_checkpoint:Carrying"})
    config = replace(config, trace=replace(config.trace, objective=False))
    done = simulate(Plan(config, tmp_path / "run", problem=Carrying, quiet=True))
    again = go_on(config, cut_off(tmp_path / "run", 20, tmp_path / "again"), problem=Carrying)
    assert again.theta_sha256 == done.theta_sha256


def test_state_that_nobody_told_of_is_an_error():
    class Silent:
        pass

    with pytest.raises(TypeError, match="Silent does not tell what of it is state"):
        state_of(Silent())


def test_views_stay_views_and_generators_stay_themselves():
    whole = np.zeros((3, 4))
    rows, rng = list(whole), np.random.default_rng(0)
    other = np.random.default_rng(7)
    tree = {"rows": [np.full(4, float(m)) for m in range(3)], "rng": state_of(other)}
    assert restored(rows, tree["rows"])[2] is rows[2]
    assert restored(rng, tree["rng"]) is rng
    assert whole[2].tolist() == [2] * 4
    assert rng.random() == other.random()


def test_a_folder_is_written_by_one_at_a_time(begun, made):
    config = made[1]
    with occupied(begun):
        assert held(begun, config.sha256()) is Held.RUNNING
        assert occupant(begun).pid > 0
        with pytest.raises(ConfigError, match="is being written by process"):
            resume.config_of(begun, [])
        with pytest.raises(ConfigError, match="is being written by process"):
            go_on(config, begun)
    assert held(begun, config.sha256()) is Held.UNFINISHED
    assert not (begun / "running").exists()
    (begun / "running").write_text("left behind by one that was killed")
    assert go_on(config, begun).status == "ok"


@dataclass
class Interrupts:
    """A stopping rule that interrupts, as Ctrl-C in round ``at`` would."""

    stop: object
    at: int

    def reason(self, k, *rest):
        if k == self.at:
            raise KeyboardInterrupt
        return "max_rounds" if k == self.stop.max_rounds else None


def test_minimize_goes_on(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((40, 3))
    data = (rows, rows @ [1.0, 2.0, 3.0])
    given = {"stop": {"max_rounds": 30}, "checkpoint": {"every_rounds": 5}, "workers": 4, "f_star": "none"}
    whole = psopt.minimize("least-squares", data, **given)
    with monkeypatch.context() as patch:
        patch.setattr(conduct, "Stopping", lambda stop: Interrupts(stop, 13))
        with pytest.raises(KeyboardInterrupt):
            psopt.minimize("least-squares", data, **given, out=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "stopped"
    done = psopt.minimize("least-squares", data, **given, out=tmp_path / "run", resume=True)
    assert done.theta_sha256 == whole.theta_sha256
    assert [each["round"] for each in done.manifest["resumed"]] == [10]
    read = psopt.minimize("least-squares", data, **given, out=tmp_path / "run", resume=True)
    assert read.summary == done.summary
    with pytest.raises(ConfigError, match="`resume` needs `out`"):
        psopt.minimize("least-squares", data, **given, resume=True)
    with pytest.raises(ConfigError, match="a Python program on arrays of its own"):
        resume.config_of(tmp_path / "run", [])


def test_replicas_that_are_done_are_not_run_again(tmp_path):
    config = parse({**TINY, "repeat": 4, "algorithm": "cyc-iag", "checkpoint": {}})
    whole = simulate(Plan(config, quiet=True))
    done = simulate(Plan(config, tmp_path / "run", quiet=True))
    (tmp_path / "run" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "run" / "replica-002")
    before = (tmp_path / "run" / "replica-001" / "summary.json").stat().st_mtime_ns
    again = go_on(config, tmp_path / "run")
    assert again.theta_sha256 == done.theta_sha256 == whole.theta_sha256
    assert (tmp_path / "run" / "replica-001" / "summary.json").stat().st_mtime_ns == before
    assert again.manifest["resumed"][0]["replicas"] == 3


def test_a_folder_without_a_run(tmp_path):
    for folder, sentence in {
        tmp_path / "nowhere": "holds no run: there is no config.yaml",
        Path(__file__).parent: "holds no run: there is no config.yaml",
    }.items():
        with pytest.raises(ConfigError, match=sentence):
            resume.config_of(folder, [])


def test_a_damaged_checkpoint_does_not_outlive_the_whole_ones(made, begun):
    """Once the run has gone on from the one before, the damaged one is not taken for the last."""
    flip(existing(begun)[-1] / "rank-00000")
    shorter = replace(made[1], stop=parse({**TINY, "stop": {"max_rounds": 15}}).stop)
    assert go_on(shorter, begun).rounds == 15
    assert [round_of(path) for path in existing(begun)] == [15]
    assert [path.name for path in (begun / "checkpoints").glob("*.damaged")] == ["round-000000020.damaged"]
    assert go_on(made[1], begun).theta_sha256 == made[2].theta_sha256


def test_what_a_kill_leaves_of_a_checkpoint_is_cleared_away(made, begun):
    last = existing(begun)[-1]
    partial = last.with_name("round-000000027.partial")
    shutil.copytree(last, partial)
    assert go_on(made[1], begun).status == "ok"
    assert not partial.exists()


def test_a_full_disk_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    written = container.write

    def full(path, tree, tick):
        if tree["round"] == 20:
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        return written(path, tree, tick)

    monkeypatch.setattr(container, "write", full)
    with pytest.raises(CannotWrite, match=r"the checkpoint .*round-000000020.partial cannot be written: No space left"):
        simulate(Plan(parse(TINY), tmp_path / "run", quiet=True))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["round-000000010"]
    assert read_summary(tmp_path / "run")["status"].startswith("failed: psopt: the checkpoint ")
    monkeypatch.undo()
    assert go_on(parse(TINY), tmp_path / "run").theta_sha256 == simulate(Plan(parse(TINY), quiet=True)).theta_sha256


def test_another_first_theta_is_refused(tmp_path, made):
    config = made[1]
    first = np.ones(made[2].theta.size)
    simulate(Plan(config, tmp_path / "run", theta=first, quiet=True))
    longer = replace(config, stop=parse({**TINY, "stop": {"max_rounds": 40}}).stop)
    for other in (None, 2 * first):
        with pytest.raises(ConfigError, match="began with another first theta"):
            go_on(longer, tmp_path / "run", theta=other)
    assert go_on(longer, tmp_path / "run", theta=first).rounds == 40


def test_a_replica_that_was_cut_off_is_made_anew(tmp_path):
    config = parse({**TINY, "repeat": 3, "checkpoint": {}})
    done = simulate(Plan(config, tmp_path / "run", quiet=True))
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "replica-001" / "summary.json").unlink()
    assert go_on(config, tmp_path / "run").theta_sha256 == done.theta_sha256
    assert len(load_run(tmp_path / "run").replicas) == 3


def test_a_lost_manifest_does_not_stop_anybody(made, begun):
    (begun / "manifest.json").write_text("")
    assert resume.ranks_of(begun) == 1
    assert go_on(made[1], begun).theta_sha256 == made[2].theta_sha256
