"""How messages for everyone spread: the shape of the trees, what they cost, and relays that die."""

import itertools
import json

import mpi_jobs
import numpy as np
import pytest
from helpers import tiny

from psopt.config import parse
from psopt.errors import ConfigError
from psopt.runs.experiment import Plan, simulate
from psopt.transports.spreading import Spreading, best_arity, children, cost, cuts, height, mesh_cost, parent

TREES = [(ranks, arity) for ranks in (2, 3, 4, 11, 28) for arity in (1, 2, 3, 10, 27)]


@pytest.mark.parametrize(("ranks", "arity"), TREES)
def test_every_rank_is_reached_once_by_its_parent(ranks, arity):
    reached = [child for rank in range(ranks) for child in children(rank, ranks, arity)]
    assert sorted(reached) == list(range(1, ranks))
    for rank in range(1, ranks):
        assert rank in children(parent(rank, arity), ranks, arity)

    def level(rank):
        return 0 if rank == 0 else 1 + level(parent(rank, arity))

    assert height(ranks, arity) == max(map(level, range(ranks)))


@pytest.mark.parametrize("ranks", [2, 3, 5, 11, 40, 300])
def test_the_best_arity_is_the_best_of_all(ranks):
    for nbytes in (48, 500, 10_000, 100_000, 10**7):
        costs = {arity: cost(nbytes, ranks, arity, 8192, 32768) for arity in range(1, max(2, ranks))}
        assert costs[best_arity(nbytes, ranks)] == min(costs.values())


def test_short_messages_go_by_a_star_and_long_ones_by_a_chain():
    def arity(spreading, nbytes, ranks=11):
        return spreading.way(nbytes, ranks).arity

    tree = Spreading("tree")
    assert [arity(tree, n) for n in (48, 1000, 100_000, 10**7)] == [10, 10, 2, 1]
    assert arity(Spreading("tree", arity=3), 48) == 3
    assert arity(Spreading("tree", arity=30), 48) == 10
    assert arity(Spreading("chain"), 48) == 1
    assert arity(Spreading("star"), 10**7) == 10
    assert {arity(Spreading(kind), 48, 2) for kind in ("tree", "chain", "star", "mesh")} == {1}


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("nbytes", [1, 300, 3000, 100_000])
@pytest.mark.parametrize(
    "spreading",
    [
        Spreading("tree", segment=256),
        Spreading("chain", segment=256),
        Spreading("star"),
        Spreading("mesh"),
        Spreading("mesh", segment=256, bandwidth_delay=1),
    ],
    ids=lambda spreading: f"{spreading.kind} {spreading.segment}",
)
def test_every_segment_reaches_every_rank_once(spreading, nbytes, ranks):
    """From rank to rank, each from whom it expects it; in a mesh all ranks pass on what there is."""
    way = spreading.way(nbytes, ranks)
    busy = dict.fromkeys(range(ranks), 0)
    for number in range(len(way.cuts)):
        reached, todo = [], [0]
        while todo:
            rank = todo.pop()
            for other in way.to(rank, number):
                assert way.source(other, number) == rank
                reached.append(other)
                todo.append(other)
                busy[rank] += 1
        assert sorted(reached) == list(range(1, ranks))
    if not way.arity:  # the server sends the header to all, the rest once
        assert busy[0] == ranks - 1 + len(way.cuts) - 1
        passed_on = [busy[rank] for rank in range(1, ranks)]
        assert max(passed_on) - min(passed_on) <= ranks - 2  # one segment, to all others


def test_long_messages_go_by_a_mesh_and_short_ones_by_a_star():
    """Where the cost says so; a segment fills a frame at least, and of a long message no rank passes on very many."""
    mesh = Spreading("mesh")
    assert [mesh.way(n, 11).arity for n in (48, 1000, 10_000, 10**6)] == [10, 10, 0, 0]
    assert mesh.way(10_000, 11).cuts[:2] == [(0, 48), (48, 1448)]
    lengths = [stop - start for start, stop in (mesh.way(n, 11).cuts[1] for n in (10_000, 400_000, 10**6))]
    assert lengths == [1400, 5000, 8192]
    assert Spreading("mesh", segment=300).way(10_000, 11).cuts[1] == (48, 348)
    assert Spreading("mesh", bandwidth_delay=10**6).way(10_000, 11).arity == 10
    for n in (100, 2000, 5000, 20_000):
        meshed = mesh_cost(n, 11, 1400, 32768) < cost(n, 11, 10, 8192, 32768)
        assert (mesh.way(n, 11).arity == 0) == meshed


@pytest.mark.parametrize("nbytes", [1, 255, 256, 257, 5000, 10**6, 10**9])
def test_segments_cover_a_message(nbytes):
    found = cuts(nbytes, 256, 100)
    assert found[0] == (0, min(100, nbytes))
    assert found[0][0] == 0
    assert found[-1][1] == nbytes
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(found))
    assert all(start < end for start, end in found)
    assert len(found) <= 514


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("ring", "broadcast.kind: found the text 'ring', expected one of auto, collective, star, tree, chain, mesh"),
        ({"kind": "chain", "arity": 2}, "broadcast: `arity` is for `tree`, and the kind is `chain`"),
        ({"kind": "mesh", "arity": 2}, "broadcast: `arity` is for `tree`, and the kind is `mesh`"),
        ({"kind": "chain", "bandwidth_delay": 9}, "broadcast: `bandwidth_delay` is for `tree` and `mesh`, and the"),
        ({"kind": "star", "segment": 1000}, "broadcast: `segment` is for `tree`, `chain` and `mesh`, and the kind is"),
        ({"kind": "tree", "arity": 2, "bandwidth_delay": 9}, "broadcast: `bandwidth_delay` chooses the arity, which"),
        ({"kind": "tree", "segment": 10}, "broadcast.segment: found 10, expected a whole number of at least 256"),
    ],
    ids=str,
)
def test_what_is_refused(wrong, sentence):
    with pytest.raises(ConfigError) as caught:
        parse(tiny(broadcast=wrong))
    assert sentence in str(caught.value)


def test_refused_where_a_run_is_to_outlive_a_rank():
    with pytest.raises(ConfigError, match="`drop` cannot be used with `broadcast: tree`, because what goes by way"):
        parse(tiny(failure={"policy": "drop"}, broadcast="tree"))
    parse(tiny(failure={"policy": "drop"}, broadcast="star"))


def test_short_forms_and_mappings_mean_the_same():
    assert parse(tiny(broadcast="tree")) == parse(tiny(broadcast={"kind": "tree"}))
    assert parse(tiny(downlink="changes")) == parse(tiny(downlink={"kind": "changes"}))
    made = parse(tiny(broadcast={"kind": "tree", "arity": 2}, downlink={"values": "float32"}))
    assert parse(made.resolved()) == made


def test_rounded_theta_is_for_theta():
    with pytest.raises(ConfigError, match="downlink: `values` is for `theta`, and the kind is `changes`"):
        parse(tiny(downlink={"kind": "changes", "values": "float32"}))


def test_workers_compute_at_the_theta_that_came():
    """The same iterates as those of a loop by hand, whose workers see theta in float32; half the bytes come down."""
    stop = {"max_rounds": 12}
    plain = simulate(Plan(parse(tiny(algorithm="gd", stop=stop)), quiet=True))
    rounded = simulate(Plan(parse(tiny(algorithm="gd", stop=stop, downlink={"values": "float32"})), quiet=True))
    assert 2 * rounded.payload_bytes_down == plain.payload_bytes_down
    assert rounded.theta_sha256 != plain.theta_sha256
    np.testing.assert_allclose(rounded.theta, plain.theta, rtol=1e-6)
    float32 = {"kind": "least-squares", "reduction": "mean", "dtype": "float32"}
    alike = [tiny(algorithm="gd", stop=stop, problem=float32, downlink={"values": v}) for v in ("theta", "float32")]
    short, same = (simulate(Plan(parse(config), quiet=True)) for config in alike)
    assert short.theta_sha256 == same.theta_sha256


def test_increments_in_float32_reach_what_float64_reaches():
    """What is left to say shrinks, and with it the rounding."""
    short = {"recipe": "ef21", "step_size": "1/L", "codec": {"kind": "increment", "compressor": "cast"}}
    config = tiny(algorithm=short, stop={"gap": 1e-12, "max_rounds": 20_000}, f_star="auto")
    done = simulate(Plan(parse(config), quiet=True))
    assert done.stop_reason == "gap"
    assert done.payload_bytes_up == done.summary["uploads"] * 4 * done.summary["dim"]


@pytest.mark.mpi
def test_a_frozen_relay_is_a_deadline(tmp_path):
    """Rank 1 of a chain stops in the middle: nobody behind it hears of the next round, and the run ends in time."""
    config = {
        "workers": 3,
        "problem": "least-squares",
        "data": "lag-increasing",
        "algorithm": "gd",
        "f_star": "none",
        "stop": {"max_rounds": 50},
        "trace": {"objective": False},
        "broadcast": "chain",
        "timeouts": {"round_s": 3, "idle_s": 8},
        "faults": [{"kind": "freeze", "worker": 0, "round": 5, "seconds": 60}],
    }
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config))
    ended = mpi_jobs.psopt("run", path, "--out", tmp_path / "run", "--ranks", 4)
    assert ended.code not in (0, 2), ended
    assert "round 5: no answer within 3 s (timeouts.round_s) from worker 0 (rank 1 on" in ended.err, ended
    assert ended.seconds < 60
