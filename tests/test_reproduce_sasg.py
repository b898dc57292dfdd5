"""SASG's MNIST table: what is counted, from the trace of a run; the runs themselves take MNIST and minutes."""

import numpy as np
import pytest

from psopt import commands
from psopt.config import parse
from psopt.errors import ConfigError
from psopt.recipes import RECIPES
from psopt.runs import reproduce_sasg as table
from psopt.runs.folder import Run


def run(accuracies):
    """Two epochs and a half of ten workers; a record each 100 rounds; every third upload left out."""
    uploads = np.arange(1500 * 10).reshape(1500, 10) % 3 > 0
    records = len(accuracies)
    so_far = np.array([uploads[: 100 * k].sum() for k in range(records)])
    trace = {
        "round": 100 * np.arange(records),
        "test_accuracy": np.array(accuracies),
        "uploads": so_far,
        "payload_bytes_up": 32568 * so_far,
    }
    summary = {"rounds": 1500, "test_accuracy": accuracies[-1], "wall_s": 2.0}
    return Run(None, {}, {}, summary, trace, uploads, np.zeros(1))


def test_the_price_is_what_was_spent_when_more_than_98_percent_was_first_seen():
    row = table._row(run([0.1, 0.97, 0.98, 0.9801, 0.97, 0.985]), "sasg", 42)
    assert (row["rounds"], row["uploads"], row["paper"]) == (300, 2000, 22839)
    assert row["bits"] == 2000 * 64 * 4071
    assert row["skips_by_epoch"] == [2000, 2000]
    assert row["final_test_accuracy"] == 0.985


def test_what_was_never_reached_is_told(capsys):
    rows = [table._row(run([0.1, 0.5]), method, seed) for method in ("sasg", "sgd") for seed in (1, 7)]
    assert all(row["uploads"] is None for row in rows)
    table.show(rows)
    shown = capsys.readouterr().out
    assert shown.count("not reached") == 6
    assert shown.count("2000") == 6


@pytest.mark.parametrize("method", table.ALGORITHMS)
def test_the_configs_are_the_experiment(method):
    config = parse(table._config("somewhere", method, 42, 20))
    row = config.algorithm
    assert (config.workers, config.stop.max_rounds, row.work.batch, row.step_size.initial) == (10, 12000, 10, "0.005*M")
    assert row.lazy == (method in ("sasg", "lasg"))
    assert row.trigger == RECIPES["sasg" if row.lazy else "sgd"].row.trigger
    kept = row.codec.capacity((401408, 512, 5120, 10), np.dtype(np.float32))
    assert kept == (8 * (4014 + 5 + 51 + 1) if method in ("sasg", "sparse") else 4 * 407050)


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("methods", "sasg,adam", "--methods 'sasg,adam': expected a list of sasg, lasg, sparse, sgd"),
        ("methods", "", "--methods '': expected a list"),
        ("seeds", "1,two", "--seeds '1,two': expected whole numbers"),
        ("seeds", "-3", "--seeds '-3': expected whole numbers"),
    ],
)
def test_lists_that_are_none(tmp_path, option, text, said):
    given = {"methods": "sgd", "seeds": "1", option: text}
    with pytest.raises(ConfigError, match=said):
        commands.reproduce_sasg(None, given["methods"], given["seeds"], 1, None, tmp_path)
