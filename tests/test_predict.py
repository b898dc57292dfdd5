"""`psopt predict`: its model against cases that a person can compute, and, where this machine can, the clock."""

import json
import math
import random
import shutil
import statistics
from dataclasses import replace

import pytest
from click.testing import CliRunner
from helpers import tiny
from run_predict import WORST, Case, Stage, compare

from psopt.bench.netlab.network import lacking
from psopt.cli import cli
from psopt.config import load, parse
from psopt.errors import ConfigError
from psopt.runs.experiment import Plan, simulate
from psopt.transports.spreading import Spreading, height
from psopt.views.cables import Cables
from psopt.views.conversation import (
    COLLECTIVE_LOOKS,
    EAGER_NBYTES,
    KINDS,
    LOOK_S,
    SINGLE_LOOKS,
    TURNS,
    Conversation,
    Question,
    children,
    dealt,
    pause_s,
)
from psopt.views.network import Network, parse_latency, parse_networks, parse_rate, wire_nbytes
from psopt.views.predict import Recorded, Round, check_ranks, predict, recorded
from psopt.views.predict_shown import short_names
from psopt.views.windows import CAREFUL_WINDOW, FIRST_WINDOW, Window, grown

HEADER = 48
FAST = Network(8e9, 20e-6, "fast")  # 1 GB/s
QUIET = 1e-4
ATTEMPTS = 5
"""Round trips shorter than a wait is polite: nobody sleeps, and times are those of the network alone."""


def star(megabit=8.0, latency_s=QUIET):
    """8 Mbit/s: a byte a microsecond."""
    return Network(megabit * 1e6, latency_s, "star")


def asked(hosts, down, answers, collective=True, seconds=0.0):
    """Seconds by kind of one question to workers 0, 1, ... whose answers have these sizes."""
    work = dealt(range(len(answers)), [seconds] * len(answers), answers, hosts.ranks)
    return dict(zip(KINDS, hosts.ask(Question((down,), work, collective)), strict=True))


@pytest.mark.parametrize(
    ("text", "bits_per_s"),
    [
        ("100Mbit", 1e8),
        ("1Gbit/s", 1e9),
        ("1 gbit", 1e9),
        ("2.5Gbps", 2.5e9),
        ("10MB/s", 8e7),
        ("10MBps", 8e7),
        ("1.5kB", 12e3),
        (".5Mbit", 5e5),
        ("8B", 64.0),
        ("9600bit/s", 9600.0),
    ],
)
def test_rates(text, bits_per_s):
    assert parse_rate(text) == bits_per_s


@pytest.mark.parametrize(
    ("text", "seconds"), [("5ms", 5e-3), ("20us", 2e-5), ("0.1 s", 0.1), ("7µs", 7e-6), ("0ms", 0)]
)
def test_latencies(text, seconds):
    assert parse_latency(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("rates", "latencies", "sentence"),
    [
        (["100"], ["5ms"], "--bandwidth `100` cannot be read; expected a rate such as 100Mbit, 1Gbit or 10MB/s"),
        (["10mb"], ["5ms"], "--bandwidth `10mb` has the unit `mb`; expected kbit, Mbit or Gbit for bits, kB, MB or GB"),
        (["10parsec"], ["5ms"], "--bandwidth `10parsec` has the unit `parsec`; expected kbit, Mbit or"),
        (["0Mbit"], ["5ms"], "--bandwidth `0Mbit` is not above 0"),
        (["-1Mbit"], ["5ms"], "--bandwidth `-1Mbit` cannot be read"),
        (["nanMbit"], ["5ms"], "--bandwidth `nanMbit` cannot be read"),
        (["1Mbit"], ["5"], "--latency `5` cannot be read; expected a time such as 5ms or 20us"),
        (["1Mbit"], ["5min"], "--latency `5min` has the unit `min`; expected us, ms or s"),
        (["1Mbit"], ["1000s"], "--latency `1000s` is longer than 100 s"),
        (["1Mbit,"], ["5ms"], "--bandwidth `1Mbit,` has an empty place"),
        (["1Mbit,2Mbit"], ["1ms", "2ms,3ms"], "--bandwidth names 2 rates and --latency 3 times; expected as many"),
        (["1Mbit"] * 65, ["1ms"], "65 networks; expected 64 at most"),
    ],
)
def test_wrong_networks_get_a_sentence(rates, latencies, sentence):
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        parse_networks(rates, latencies)


def test_networks_are_pairs_or_one_for_all():
    pairs = parse_networks(["10Mbit,100Mbit"], ["20ms", "5ms"])
    assert [(one.bits_per_s, one.latency_s) for one in pairs] == [(1e7, 0.02), (1e8, 0.005)]
    one = parse_networks(["1Gbit"], ["1ms,2ms,3ms"])
    assert [(each.bits_per_s, each.latency_s) for each in one] == [(1e9, 1e-3), (1e9, 2e-3), (1e9, 3e-3)]


def test_bytes_on_the_wire():
    assert wire_nbytes(HEADER) == 48 + 48 + 90  # MPI's envelope, and a frame
    assert wire_nbytes(1400) == 1448 + 90
    assert wire_nbytes(1401) == 1449 + 2 * 90


def test_the_tree_of_a_broadcast():
    assert [children(rank, 10) for rank in range(10)] == [(1, 2, 4, 8), (3, 5, 9), (6,), (7,), *[()] * 6]
    assert children(0, 4) == (1, 2, 3)
    assert children(1, 4) == ()
    for ranks in range(2, 70):
        heard = sorted(child for rank in range(ranks) for child in children(rank, ranks))
        assert heard == list(range(1, ranks))


def arrivals(pieces, bytes_per_s=100.0, latency_s=10.0, frame_nbytes=10):
    """When pieces (time, source, target, bytes) have left the sender's cable, and are through the receiver's."""
    cables, found = Cables(bytes_per_s, latency_s), {}
    for number, (time, source, target, nbytes) in enumerate(pieces):
        then = lambda passed, number=number: found.__setitem__(number, passed)  # noqa: E731
        cables.at(time, lambda s=source, t=target, n=nbytes, then=then: cables.send(s, t, n, frame_nbytes, then))
    cables.run()
    return [(found[number].sent, found[number].last - latency_s) for number in range(len(pieces))]


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        ([(0, 0, 1, 100)], [(1.0, 1.1)]),  # frame by frame: the second cable is one frame behind the first
        ([(0, 0, 1, 5)], [(0.05, 0.1)]),
        ([(0, 0, 1, 100), (0, 0, 2, 100)], [(1.0, 1.1), (2.0, 2.1)]),  # one cable out: in turn
        ([(0, 1, 0, 100), (0, 2, 0, 100), (0.5, 3, 0, 100)], [(1.0, 1.1), (1.0, 2.1), (1.5, 3.1)]),  # one cable in
        ([(0, 1, 0, 100), (0, 0, 2, 100)], [(1.0, 1.1), (1.0, 1.1)]),  # both directions of one
        ([(0, 0, 1, 100), (0, 0, 2, 100), (1, 3, 2, 50)], [(1.0, 1.1), (2.0, 2.1), (1.5, 2.6)]),
        ([(0, 0, 1, 100), (5, 0, 1, 100)], [(1.0, 1.1), (6.0, 6.1)]),
    ],
)
def test_cables_take_what_comes_in_turn(pieces, ends):
    for found, expected in zip(arrivals(pieces), ends, strict=True):
        assert found == pytest.approx(expected)


def test_a_message_and_its_answer_by_hand():
    hosts = Conversation(star(), 2)
    spent = asked(hosts, 1048, [HEADER], seconds=3e-4)
    out, back = wire_nbytes(1048), wire_nbytes(HEADER)
    assert (out, back) == (1048 + 48 + 90, 186)
    assert spent["downlink"] == pytest.approx(2 * out * 1e-6)  # a frame goes over two cables, one after the other
    assert spent["uplink"] == pytest.approx(2 * back * 1e-6)
    assert spent["latency"] == pytest.approx(2 * QUIET)
    assert spent["computing"] == pytest.approx(3e-4)
    assert hosts.now == pytest.approx(sum(spent.values()))
    assert (hosts.server_sent, hosts.server_received) == (out, back)


def test_waiting_is_psopts_own():
    """When in a pause a message comes is drawn: in the mean over many questions it is the middle."""
    assert [pause_s(quiet) for quiet in (0.0, 9e-4, 2e-3, 0.01, 1.0)] == [0, 0, 50e-6, 200e-6, 1e-3]
    L, waited = 5e-3, []
    for turn in range(TURNS):
        hosts = Conversation(Network(1e15, L, "slow and wide"), 2)
        hosts._asked = turn
        spent = asked(hosts, HEADER, [HEADER])
        assert spent["latency"] == pytest.approx(2 * L)
        waited.append(spent["waiting"])
    acted = COLLECTIVE_LOOKS * (0.02 * L + LOOK_S)
    taken = SINGLE_LOOKS * (0.02 * (2 * L + acted) + LOOK_S)  # the server has waited since it asked
    assert statistics.fmean(waited) == pytest.approx(acted + taken, rel=0.15)
    assert max(waited) - min(waited) < 2 * (0.02 * (2 * L + acted) + LOOK_S)


def test_a_tree_of_ten_takes_three_hops_and_a_few_are_asked_directly():
    everyone = Conversation(star(megabit=1e9), 10)
    assert asked(everyone, HEADER, [HEADER] * 9)["latency"] == pytest.approx(4 * QUIET)
    few = Conversation(star(megabit=1e9), 10)
    assert asked(few, HEADER, [HEADER] * 3, collective=False)["latency"] == pytest.approx(2 * QUIET)


def test_uploads_queue_before_the_server():
    nbytes = 10_000
    hosts = Conversation(star(), 4)
    spent = asked(hosts, HEADER, [nbytes] * 3)
    first_out, frame = 2 * 186, wire_nbytes(1400)  # the server's cable in is busy from the first frame to the end
    on_cables_s = (first_out + frame + 3 * wire_nbytes(nbytes)) * 1e-6
    assert hosts.now - spent["waiting"] == pytest.approx(2 * QUIET + on_cables_s)
    assert hosts.server_received == 3 * wire_nbytes(nbytes)


def test_two_workers_on_a_host_compute_in_turn():
    apart, together = Conversation(FAST, 3), Conversation(FAST, 2)
    assert asked(apart, HEADER, [HEADER] * 2, seconds=0.25)["computing"] == pytest.approx(0.25)
    assert asked(together, HEADER, [HEADER] * 2, seconds=0.25)["computing"] == pytest.approx(0.5)


def test_what_is_long_is_announced_first():
    hops = []
    for nbytes in (EAGER_NBYTES, EAGER_NBYTES + 1):
        hosts = Conversation(Network(1e12, QUIET, "wide"), 2)
        hosts.note_window(0, 1, Window(0.0, 1e9, 0.0))  # the connection is warm
        hops.append(round(asked(hosts, nbytes, [HEADER])["latency"] / QUIET))
    assert hops == [2, 4]


def test_a_connection_warms_up_and_cools_down():
    L, hosts = 1e-3, Conversation(Network(1e12, 1e-3, "long and wide"), 2)

    def hops():
        return round(asked(hosts, HEADER, [4 * FIRST_WINDOW])["latency"] / L)

    assert hops() == 2 + 2 * 2  # windows of 1, 2 and the rest
    assert hops() == 2
    hosts.pass_time(0.15)
    assert hops() == 2
    hosts.pass_time(60.0)
    assert hops() == 2 + 2 * 2


def test_a_window_that_is_late_grows_slowly():
    assert grown(FIRST_WINDOW, FIRST_WINDOW, math.inf, False) == (2 * FIRST_WINDOW, math.inf)
    assert grown(FIRST_WINDOW, FIRST_WINDOW, math.inf, True) == (2 * FIRST_WINDOW, math.inf)  # too small to be judged
    assert grown(FIRST_WINDOW, 100, math.inf, False) == (FIRST_WINDOW, math.inf)
    window, limit = grown(2 * FIRST_WINDOW, 2 * FIRST_WINDOW, math.inf, True)
    assert window == limit == 2 * FIRST_WINDOW + CAREFUL_WINDOW
    assert grown(window, 20_000, limit, False) == (window + 1000, limit)


def made(rounds, workers=4, **changes):
    return replace(
        Recorded("run", "gd", workers, 8000, False, True, False, tuple(rounds), 1.0, 1, "max_rounds", ""), **changes
    )


def test_like_questions_are_asked_once_and_take_as_long():
    rng = random.Random(4)
    rounds = [
        Round(k, None, frozenset(m for m in range(9) if rng.random() < 0.2), 40_000, rng.uniform(1e-4, 2e-4), 0.0, 1)
        for k in range(1, 200)
    ]
    network = Network(1e8, 2e-3, "n")
    quick = predict(made(rounds, 9), network)
    Patient = type("Patient", (Conversation,), {"_likeness": lambda self, question: (object(),)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("psopt.views.predict.Conversation", Patient)
        exact = predict(made(rounds, 9), network)
    assert quick.wall_s == pytest.approx(exact.wall_s, rel=0.02)
    assert quick.server_link == pytest.approx(exact.server_link, rel=0.02)
    assert quick.wall_s != exact.wall_s


@pytest.mark.parametrize("sums_up", [False, True])
def test_the_lazy_downlink_sends_what_was_said(sums_up):
    """Bytes out of the server, by hand: a header each, theta at first, then the uploads of the round before, or what
    they came to.
    """
    spoke = [{0, 1}, {2}, set(), {3}]
    rounds = [Round(k, None, frozenset(who), 800, 0.0, 0.0, 0) for k, who in enumerate(spoke, start=1)]
    found = predict(made(rounds, ranks=1, lazy_downlink=True, sums_up=sums_up), star(), ranks=2)
    contents = [8 + 8000, *([16 + 8000] * 2 if sums_up else [2 * 816, 816])]  # after the silent round nothing
    sent = sum(map(wire_nbytes, [HEADER] * 4 + contents))
    assert found.server_link[0] * found.wall_s == pytest.approx(sent * 1e-6)


@pytest.mark.parametrize("ranks", [4, 9])
@pytest.mark.parametrize("arity", [1, 2, 3])
def test_a_segment_passed_on_by_hand(arity, ranks):
    """Four ranks that host workers, one segment: the last one has it after so many cables out, one frame's time each
    in, and the hops. Ranks to spare are not in the tree.
    """
    hosts, L, B, n = Conversation(Network(8e5, 20e-3, "n"), ranks), 20e-3, 1e5, 1000
    work = ((3, ((0.0, HEADER),)),)
    spent = dict(zip(KINDS, hosts.ask(Question((n,), work, False, Spreading("tree", arity=arity))), strict=True))
    out, back = wire_nbytes(n) / B, wire_nbytes(HEADER) / B
    hops = height(4, arity)
    # With arity 2 rank 3 is the first child of rank 1, itself the first child of the server.
    behind = {1: 0, 2: 0, 3: 2}[arity]
    assert spent["downlink"] == pytest.approx((2 * hops + behind) * out)
    assert spent["latency"] == pytest.approx((hops + 1) * L)
    assert spent["uplink"] == pytest.approx(2 * back)
    assert hosts.now == pytest.approx(sum(spent.values()))
    assert hosts.server_sent == min(arity, 3) * wire_nbytes(n)


def test_segments_go_on_while_more_come():
    """A long message takes little longer down a chain than to its first rank; a star takes ten times as long."""
    network, seconds = Network(1e7, 20e-3, "n"), {}
    for kind in ("chain", "star"):
        hosts = Conversation(network, 11)
        hosts.ask(Question((1_000_000,), dealt(range(10), [0.0] * 10, [HEADER] * 10, 11), False, Spreading(kind)))
        seconds[kind] = hosts.now
    once = wire_nbytes(1_000_000) / network.bytes_per_s
    assert once < seconds["chain"] < 2 * once
    assert 10 * once < seconds["star"] < 11 * once


def test_a_mesh_passed_on_by_hand():
    """Two segments of a frame each to three ranks. The second leaves the server behind three headers and the first, and
    comes to rank 2, which passes it on to rank 1 and then to rank 3, where it is a frame's time later than on rank 1.
    """
    hosts, L, B = Conversation(Network(8e5, 20e-3, "n"), 4), 20e-3, 1e5
    mesh = Spreading("mesh", segment=1000, bandwidth_delay=1)
    assert mesh.way(HEADER + 2000, 4).cuts == [(0, HEADER), (HEADER, HEADER + 1000), (HEADER + 1000, HEADER + 2000)]
    work = tuple((rank, ((0.0, HEADER),)) for rank in (1, 2, 3))
    spent = dict(zip(KINDS, hosts.ask(Question((HEADER + 2000,), work, False, mesh)), strict=True))
    head, frame = wire_nbytes(HEADER) / B, wire_nbytes(1000) / B
    assert spent["downlink"] == pytest.approx(3 * head + 2 * frame + frame + 2 * frame + frame)
    assert spent["latency"] == pytest.approx(3 * L)
    assert hosts.server_sent == 3 * wire_nbytes(HEADER) + 2 * wire_nbytes(1000)


@pytest.mark.parametrize(
    ("broadcast", "measured_ms"),
    [
        (Spreading("star"), (46, 215, 900)),
        (Spreading("chain"), (247, 358, 458)),
        (Spreading("tree", arity=2), (89, 144, 284)),
        (Spreading("tree", arity=3), (67, 131, 339)),
        (Spreading("tree"), (46, 132, 285)),
        (Spreading("mesh"), (46, 93, 167)),
    ],
    ids=["star", "chain", "arity 2", "arity 3", "tree", "mesh"],
)
def test_broadcasts_take_what_was_measured(broadcast, measured_ms):
    """``make test-broadcasts``, 10 Mbit/s, 20 ms, 11 hosts; nothing of the model was fitted to it."""
    hosts = Conversation(Network(1e7, 20e-3, "n"), 11)
    for nbytes, expected_ms in zip((200, 20_000, 100_000), measured_ms, strict=True):
        taken = []
        for _ in range(6):
            began = hosts.now
            hosts.ask(Question((HEADER + nbytes,), dealt(range(10), [0.0] * 10, [HEADER] * 10, 11), False, broadcast))
            taken.append(hosts.now - began)
        assert 1e3 * sorted(taken)[3] == pytest.approx(expected_ms, rel=0.15)


def test_runs_that_pass_messages_on_are_predicted(tmp_path):
    seconds = {}
    for kind in ("auto", "star", "tree", "chain", "mesh"):
        for downlink in ("theta", "changes"):
            config = parse(tiny(name="r", workers=5, algorithm="gd", broadcast=kind, downlink=downlink))
            simulate(Plan(config, tmp_path / f"{kind}-{downlink}", quiet=True, warns=False))
            found = predict(recorded(tmp_path / f"{kind}-{downlink}"), Network(1e7, 20e-3, "n"))
            assert sum(found.spent.values()) == pytest.approx(found.wall_s)
            seconds[kind, downlink] = found.wall_s
    for downlink in ("theta", "changes"):  # short messages: a hop costs, and a chain has five
        for kind in ("tree", "mesh"):
            assert seconds[kind, downlink] == pytest.approx(seconds["star", downlink], rel=0.2)
        assert seconds["chain", downlink] > 2 * seconds["tree", downlink]
    long = parse(tiny(name="r", broadcast={"kind": "tree", "segment": 100_000}))
    simulate(Plan(long, tmp_path / "long", quiet=True, warns=False))
    with pytest.raises(ConfigError, match=r"`broadcast\.segment: 100000`; predictions know of"):
        recorded(tmp_path / "long")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Small recorded runs by recipe."""
    folder = tmp_path_factory.mktemp("runs")
    extra = {"local-sgd": {"stop": {"max_steps": 60}}, "lag-wk-every-3": {"trace": {"every": 3}}}
    for name in ("gd", "lag-wk", "lag-wk-every-3", "lag-ps", "cyc-iag", "sasg", "local-sgd", "fedavg"):
        recipe = name.removesuffix("-every-3")
        config = parse(tiny(name=name, workers=5, algorithm=recipe, **extra.get(name, {})))
        simulate(Plan(config, folder / name, quiet=True, warns=False))
    return folder


ALL = ("gd", "lag-wk", "lag-wk-every-3", "lag-ps", "cyc-iag", "sasg", "local-sgd", "fedavg")


@pytest.mark.parametrize("name", ALL)
def test_the_servers_cable_carries_what_the_ledger_says(name, runs):
    """Every message, with its frames: theta to whoever was asked, a header or a payload back, and the objective."""
    run = recorded(runs / name)
    summary = json.loads((runs / name / "summary.json").read_text())
    found = predict(run, star(), ranks=2)  # one host: what goes to it goes once, whoever is asked
    looks = sum(each.looks for each in run.rounds)
    spoken = summary["uploads"] + summary["skips"]
    each_up = summary["payload_bytes_up"] // summary["uploads"]
    up = summary["uploads"] * wire_nbytes(HEADER + each_up)
    up += (summary["skips"] + 5 * looks) * wire_nbytes(HEADER)
    assert found.server_link[1] * found.wall_s == pytest.approx(up * 1e-6)
    exchanges = sum(each.asked != () for each in run.rounds)
    masks = sum(bool(each.asked) for each in run.rounds)
    down = (exchanges + looks) * wire_nbytes(HEADER + run.theta_nbytes)
    down += masks * 8
    assert found.server_link[0] * found.wall_s == pytest.approx(down * 1e-6)
    assert spoken == sum(5 if each.asked is None else len(each.asked) for each in run.rounds)
    assert looks == len((runs / name / "trace.jsonl").read_text().splitlines())


@pytest.mark.parametrize("name", ALL)
def test_times_add_up_and_grow_with_worse_networks(name, runs):
    run = recorded(runs / name)
    walls = []
    for network in parse_networks(["1Gbit,100Mbit,100Mbit,1Mbit"], ["10us,10us,5ms,5ms"]):
        found = predict(run, network)
        assert found.ranks == 6
        assert sum(found.spent.values()) == pytest.approx(found.wall_s)
        assert min(found.spent.values()) >= 0
        assert 0 < max(found.server_link) <= 1
        walls.append(found.wall_s)
    assert walls == sorted(walls)


def test_the_work_is_the_recorded_one(runs):
    """On one host as in one process; a host a worker divides it, for they compute at the same time."""
    run = recorded(runs / "gd")
    last = json.loads((runs / "gd" / "trace.jsonl").read_text().splitlines()[-1])
    one, five = (predict(run, FAST, ranks).spent["computing"] for ranks in (2, 6))
    assert one == pytest.approx(last["compute_s"], rel=0.05)
    assert five == pytest.approx(last["compute_s"] / 5, rel=0.05)


def test_wrong_runs_and_ranks_get_a_sentence(runs, tmp_path):
    run = recorded(runs / "gd")
    check_ranks(run, 5, 6)
    for workers, ranks, sentence in [
        (4, None, "has 5 workers, and who of 4 would have spoken is not known"),
        (None, 1, "--ranks 1: expected 2 to 6"),
        (None, 7, "--ranks 7: expected 2 to 6"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            check_ranks(run, workers, ranks)
    for name, changes, sentence in [
        ("replicas", {"repeat": 2}, "holds the mean of 2 replicas"),
        ("faults", {"faults": [{"kind": "slow_network", "latency_s": 1e-4}]}, "lost workers or `faults`"),
    ]:
        config = parse(tiny(name=name, algorithm="gd", **changes))
        simulate(Plan(config, tmp_path / name, quiet=True, warns=False))
        with pytest.raises(ConfigError, match=sentence):
            recorded(tmp_path / name)


def test_who_was_asked_must_be_known(tmp_path):
    """A selection and a trigger together: told by decisions.bin, and refused without it."""
    row = {"recipe": "lag-ps", "trigger": {"kind": "innovation", "window": 10, "xi": 1.0}}
    for told in (True, False):
        folder = tmp_path / str(told)
        config = parse(tiny(algorithm=row, trace={"decisions": told}))
        simulate(Plan(config, folder, quiet=True, warns=False))
    run = recorded(tmp_path / "True")
    downloads = json.loads((tmp_path / "True" / "summary.json").read_text())["downloads"]
    assert sum(3 if each.asked is None else len(each.asked) for each in run.rounds) == downloads
    with pytest.raises(ConfigError, match="does not tell who was asked in each round"):
        recorded(tmp_path / "False")


def test_the_command(runs):
    network = ["--bandwidth", "10Mbit,1Gbit", "--latency", "20ms,50us"]
    shown = CliRunner().invoke(cli, ["predict", str(runs / "gd"), str(runs / "cyc-iag"), *network])
    assert shown.exit_code == 0, shown.output
    assert "10Mbit 20ms: cyc-iag is over first; gd takes" in shown.output
    assert "10Mbit 20ms: much of the time goes to evaluations" in shown.output
    assert "gd: gd, 8 rounds, ended by max_rounds; took" in shown.output
    done = CliRunner().invoke(cli, ["predict", str(runs / "gd"), *network, "--ranks", "3", "--json"])
    told = json.loads(done.output)
    assert [(one["network"]["bits_per_s"], one["hosts"], one["workers"]) for one in told] == [(1e7, 3, 5), (1e9, 3, 5)]
    for one in told:
        assert one["wall_s"] == pytest.approx(sum(one["seconds"].values()))
    # Latency rules: eight rounds, each followed by a question to everyone that is as long, and one before the first.
    assert told[0]["evaluating_s"] == pytest.approx(9 / 17 * told[0]["wall_s"], rel=0.1)
    assert load(runs / "gd" / "config.yaml").workers == 5


def test_runs_that_minimise_other_things_do_not_compete(runs, tmp_path):
    config = parse(tiny(name="other", workers=5, algorithm="gd", seed=9, problem={"kind": "least-squares", "l2": 0.1}))
    simulate(Plan(config, tmp_path / "other", quiet=True, warns=False))
    folders = [str(runs / "gd"), str(tmp_path / "other")]
    shown = CliRunner().invoke(cli, ["predict", *folders, "--bandwidth", "10Mbit", "--latency", "20ms"])
    assert "different problems or data" in shown.output
    assert "over first;" not in shown.output


def test_a_trace_without_records_is_refused(runs, tmp_path):
    shutil.copytree(runs / "gd", tmp_path / "run")
    (tmp_path / "run" / "trace.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"trace\.jsonl holds no record"):
        recorded(tmp_path / "run")


def test_names_are_as_short_as_they_can_be():
    assert short_names(["runs/a/x", "runs/b/y"]) == ["x", "y"]
    assert short_names(["runs/a/x", "runs/b/x"]) == ["a/x", "b/x"]


@pytest.mark.mpi
@pytest.mark.open_mpi
@pytest.mark.alone
def test_against_the_clock(tmp_path):
    """One network, two runs: latency rules the one, the server's link the other. On a busy machine the network, or the
    run, can be late for reasons of its own: the best of some attempts counts.
    """
    lacks = lacking()
    if lacks:
        pytest.skip(lacks)
    stage = Stage(100, 5, 4, [Case("lag-ps", 50, 0.05, 8, every=2), Case("gd", 7850, 5e-4, 4)], apart=False)
    failures = []
    for attempt in range(ATTEMPTS):
        try:
            (tmp_path / str(attempt)).mkdir()
            found, _ = compare(stage, tmp_path / str(attempt))
        except AssertionError as error:
            failures.append(str(error))
            continue
        if all(abs(one.error) <= WORST for one in found):
            return
        failures.append([(one.case.recipe, one.error) for one in found])
    pytest.fail(f"{ATTEMPTS} attempts: {failures}")
