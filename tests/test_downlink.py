"""The lazy downlink: the same bits as sending theta, fewer where little is said, and never a silent difference."""

import numpy as np
import pytest
from helpers import tiny

from psopt.config import parse
from psopt.core import downlink
from psopt.core.downlink import Replica
from psopt.core.messages import HEADER_NBYTES, Broadcast
from psopt.errors import ConfigError, ProtocolError
from psopt.recipes import RECIPES
from psopt.runs.experiment import Plan, simulate

EVERYONE = [name for name, entry in RECIPES.items() if entry.row.selection.everyone]
SAME = ("theta_sha256", "uploads", "skips", "payload_bytes_up", "objective", "control_bytes_down")


def run(recipe, how, **changes):
    stop = {"max_rounds": 230, "max_steps": 2300}
    config = tiny(algorithm=recipe, downlink=how, stop=stop, debug={"check_mirror": True}, **changes)
    return simulate(Plan(parse(config), quiet=True))


@pytest.mark.parametrize("recipe", EVERYONE)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_bits_as_sending_theta(recipe, dtype):
    problem = {"kind": "least-squares", "reduction": "mean", "dtype": dtype}
    plain, lazy = (run(recipe, how, problem=problem) for how in ("theta", "changes"))
    assert {key: plain.summary[key] for key in SAME} == {key: lazy.summary[key] for key in SAME}
    np.testing.assert_array_equal(plain.uploads, lazy.uploads)


def test_a_round_after_silence_has_no_payload():
    """Payload down is, a worker: the start, each upload once with its two words, and a checksum each hundred rounds."""
    done = run("lag-wk", "changes")
    workers, dim, rounds = 3, 4, done.rounds
    told = done.uploads[:-1].sum()  # what is said in the last round moves nobody's copy any more
    assert done.payload_bytes_down == workers * (8 + 8 * dim + told * (16 + 8 * dim) + rounds // 100 * 24)
    assert done.control_bytes_down == workers * (rounds + 1) * HEADER_NBYTES


def test_with_the_start_of_the_authors():
    """Nobody is asked for ten rounds, and the copies begin where the server's theta is by then."""
    algorithm = {"recipe": "lag-wk", "start": {"kind": "ones", "silent_rounds": 10}, "step_size": 0.001}
    plain, lazy = (run(algorithm, how) for how in ("theta", "changes"))
    assert plain.theta_sha256 == lazy.theta_sha256


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - set(EVERYONE)))
def test_refused_where_somebody_is_not_asked(recipe):
    with pytest.raises(ConfigError, match="would not hear what the others said"):
        parse(tiny(algorithm=recipe, downlink="changes"))


@pytest.fixture
def copy():
    """A copy of two workers' model that has had its first message."""
    replica = Replica(RECIPES["gd"].row, 3, np.dtype(np.float64), [1, 1])
    replica.expand(message(5, downlink.first_message(0.5, np.arange(3.0))))
    return replica


def message(k, content):
    return Broadcast(k, 0.0, k - 1, 1, content)


def test_a_copy_makes_the_step_itself(copy):
    said = [(1, np.array([1.0, 0.0, 0.0])), (0, np.array([0.0, 2.0, 0.0]))]
    assert copy.expand(message(6, downlink.changes(said, None))).theta.tolist() == [-0.5, 0.0, 2.0]
    content = downlink.changes([], np.array([-1.0, -1.0, 2.0]))
    assert copy.expand(message(7, content)).theta.tolist() == [-1.0, -1.0, 2.0]  # the stale gradients, once more
    assert copy.expand(message(8, np.empty(0, np.uint8))).theta.tolist() == [-1.5, -2.0, 2.0]


def test_copies_that_drift_apart_are_noticed(copy):
    with pytest.raises(ProtocolError, match="round 6: this rank's copy of theta differs"):
        copy.expand(message(6, downlink.changes([], np.zeros(3))))


@pytest.mark.parametrize(
    ("k", "content", "said"),
    [
        (7, np.empty(0, np.uint8), "round 7 follows that of round 5"),
        (6, np.zeros(5, np.uint8), "left over"),
        (6, np.array([0, 99], np.int64).view(np.uint8), "a change of 99 bytes"),
        (6, np.array([2, 8, 0], np.int64).view(np.uint8), "worker 2 of 2"),
    ],
)
def test_what_is_no_message_is_refused(copy, k, content, said):
    with pytest.raises(ProtocolError, match=said):
        copy.expand(message(k, content))


def test_a_first_message_of_the_wrong_size_is_refused():
    with pytest.raises(ProtocolError, match="the first message holds 40 bytes"):
        Replica(RECIPES["gd"].row, 3, np.dtype(np.float64), [1, 1]).expand(message(1, np.zeros(40, np.uint8)))
