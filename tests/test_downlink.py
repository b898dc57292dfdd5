"""The lazy downlink: the same bits as sending theta, fewer where little is said, and never a silent difference."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny

from psopt.config import parse
from psopt.core import downlink
from psopt.core.downlink import Replica
from psopt.core.messages import HEADER_NBYTES, Broadcast
from psopt.errors import ConfigError, ProtocolError
from psopt.parts.aggregators import FreshMean, Lazy
from psopt.parts.codecs import Increment, Overwrite
from psopt.parts.compressors import Cast, TopK
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


DENSE_ROW = {"recipe": "lag-wk"}
HALF = {"recipe": "lag-wk", "codec": {"kind": "overwrite", "compressor": "cast"}}
CORRECTED = {"recipe": "lag-wk", "codec": {"kind": "increment", "compressor": "identity"}}
QUARTER = {"recipe": "lag-wk", "codec": {"kind": "overwrite", "compressor": {"kind": "cast", "values": "float16"}}}


@pytest.mark.parametrize(("row", "upload"), [(DENSE_ROW, None), (HALF, None), (CORRECTED, None), (QUARTER, 8)])
def test_a_round_after_silence_has_no_payload(row, upload):
    """Payload down is, a worker: the start; each upload once with its two words, or, where two of them are as long as
    the aggregate, that once for all of a round; and a checksum each hundred rounds.
    """
    done, plain = run(row, "changes"), run(row, "theta")
    assert done.theta_sha256 == plain.theta_sha256
    workers, dim, rounds = 3, 4, done.rounds
    told = done.uploads[:-1]  # what is said in the last round moves nobody's copy any more
    assert 0 < told.any(axis=1).sum() < told.sum()  # silent rounds, and some in which several spoke
    content = told.sum() * (16 + upload) if upload else told.any(axis=1).sum() * (16 + 8 * dim)
    assert done.payload_bytes_down == workers * (8 + 8 * dim + content + rounds // 100 * 24)
    assert done.control_bytes_down == workers * (rounds + 1) * HEADER_NBYTES


def test_refused_where_a_run_begins_in_silence():
    """Whoever is not asked does not hear how theta and the update's moments move."""
    algorithm = {"recipe": "lag-wk", "start": {"kind": "ones", "silent_rounds": 3}, "update": "momentum"}
    with pytest.raises(ConfigError, match="`changes` cannot be used with `silent_rounds`"):
        parse(tiny(algorithm=algorithm, downlink="changes"))


def test_a_copy_begins_with_the_sum_that_the_server_begins_with():
    """Of ten times 0.1, which is not 1."""
    row, dtype = RECIPES["lag-wk"].row, np.dtype(np.float64)
    told = downlink.followed(row, 3, dtype).aggregator
    assert told != row.aggregator
    first = [part.total(part.init(3, dtype, 0.1, row.codec, [1] * 10)) for part in (row.aggregator, told)]
    np.testing.assert_array_equal(*first)


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - set(EVERYONE)))
def test_refused_where_somebody_is_not_asked(recipe):
    with pytest.raises(ConfigError, match="would not hear what the others said"):
        parse(tiny(algorithm=recipe, downlink="changes"))


GD = RECIPES["gd"].row


def begun(row):
    """A copy of two workers' model that has had its first message."""
    replica = Replica(row, 3, np.dtype(np.float64), [1, 1])
    replica.expand(message(5, downlink.first_message(0.5, np.arange(3.0))))
    return replica


@pytest.fixture
def copy():
    """Of a row whose uploads are so short that they are told one by one."""
    return begun(replace(GD, codec=Overwrite(Cast("float16"))))


@pytest.fixture
def summed():
    """Of one of which the aggregate is told."""
    return begun(GD)


def message(k, content):
    return Broadcast(k, 0.0, k - 1, 1, content)


def half(*numbers):
    """A payload of float16."""
    return np.array(numbers, np.float16).view(np.uint8)


def aggregate(*numbers):
    return downlink.changes([(downlink.AGGREGATE, np.array(numbers))], None)


def test_a_copy_that_hears_the_aggregate_keeps_it_and_makes_the_step(summed):
    assert summed.told
    assert summed.expand(message(6, aggregate(1.0, 2.0, 0.0))).theta.tolist() == [-0.5, 0.0, 2.0]
    content = downlink.changes([], np.array([-1.0, -1.0, 2.0]))
    assert summed.expand(message(7, content)).theta.tolist() == [-1.0, -1.0, 2.0]
    assert summed.expand(message(8, aggregate(0.0, 0.0, 4.0))).theta.tolist() == [-1.0, -1.0, 0.0]


@pytest.mark.parametrize("numbers", [(1.0,), (1.0, 2.0, 3.0, 4.0)])
def test_an_aggregate_of_another_length_is_refused(summed, numbers):
    with pytest.raises(ProtocolError, match=rf"an aggregate of {8 * len(numbers)} bytes came; expected 24"):
        summed.expand(message(6, aggregate(*numbers)))


def test_uploads_are_refused_where_the_aggregate_is_told(summed):
    with pytest.raises(ProtocolError, match="round 6: a change of worker 0 of 2"):
        summed.expand(message(6, downlink.changes([(0, np.ones(3))], None)))


class Doubled(Lazy):
    """Its aggregate is no sum of what it holds, and it does not say that it was."""

    def total(self, state):
        return 2 * super().total(state)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (GD, True),
        (replace(GD, codec=Increment()), True),
        (replace(GD, codec=Overwrite(Cast())), True),
        (replace(GD, codec=Overwrite(Cast("float16"))), False),
        (replace(GD, codec=Overwrite(TopK(count=3))), True),
        (replace(GD, codec=Overwrite(TopK(count=1, values="float16"))), False),
        (replace(GD, aggregator=FreshMean()), False),
        (replace(GD, aggregator=Doubled()), False),
    ],
)
def test_where_the_aggregate_is_told(row, told):
    """Uploads as long as half of it, of an aggregator that promises what that takes."""
    dtype = np.dtype(np.float64)
    assert downlink.sums_up(row, 3, dtype) == told
    said = downlink.costs(row, [3], dtype, 5)
    assert ("however many" in said) == told
    held = 24 + (24 if told else row.aggregator.nbytes(5, [3], dtype, 0.0, row.codec))
    assert f"each rank holds {held} B of the server's state, with `theta` 24 B" in said


def test_a_copy_makes_the_step_itself(copy):
    said = [(1, half(1.0, 0.0, 0.0)), (0, half(0.0, 2.0, 0.0))]
    assert not copy.told
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
        Replica(GD, 3, np.dtype(np.float64), [1, 1]).expand(message(1, np.zeros(40, np.uint8)))
