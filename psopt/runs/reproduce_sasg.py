"""SASG's MNIST experiment, run again: uploads and bits until more than 98 % of the test set is predicted right.

Ten workers, batches of ten, a 784-512-10 perceptron, no momentum, 20 epochs of 600 rounds; test accuracy is looked at
after rounds 100, 200, ..., and the uploads so far are the price, the warm-up's included. Bits are the payload's: 32 a
dense coordinate, 64 a kept one (value and index). The seeds are the authors' numbers, but psopt's generators are its
own, so a seed's row is another draw of the same experiment.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt.config import parse
from psopt.runs.experiment import run
from psopt.runs.folder import Run, load_run, write_json
from psopt.runs.resume import plan_for

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

WORKERS, EPOCH, TARGET = 10, 600, 0.98
ALGORITHMS: dict[str, dict[str, Any]] = {
    "sasg": {"recipe": "sasg"},
    "lasg": {"recipe": "sasg", "codec": {"kind": "overwrite", "scale": "step"}},  # SASG's rule, dense uploads
    "sparse": {"recipe": "sparse"},
    "sgd": {"recipe": "sgd"},
}
SEEDS = (1, 19, 31, 42, 80)
PAPER = {
    "sasg": dict(zip(SEEDS, (27029, 24312, 23791, 22839, 22121), strict=True)) | {44: 21624},
    "lasg": dict(zip(SEEDS, (39520, 33800, 32961, 35079, 32413), strict=True)) | {44: 32653},
    "sparse": dict(zip(SEEDS, (69000, 66000, 55000, 73000, 70000), strict=True)) | {44: 51000},
    "sgd": dict(zip(SEEDS, (69000, 66000, 55000, 61000, 59000), strict=True)) | {44: 56000},
}
"""Uploads until the target, from the authors' logs."""


def reproduce(
    link: "Link", data: str | None, methods: Sequence[str], seeds: Sequence[int], epochs: int, out: Path
) -> list[dict[str, Any]]:
    """Runs each method with each seed on the ranks of the link; returns (rank 0: also writes) the rows of
    ``table.json``. A run that ``out`` holds already, finished and of the same config, is not run again; one that was
    cut off goes on, and one that failed is moved aside and made again.
    """
    rows = []
    for seed in seeds:
        for method in methods:
            config = parse(_config(data, method, seed, epochs))
            folder = out / f"{method}-{seed}"
            if (plan := plan_for(config, folder, link)) is not None:
                run(plan, link)
            if link.rank == 0:
                rows.append(_row(load_run(folder), method, seed))
                write_json(out / "table.json", {"schema": 1, "rows": rows})
    return rows


def _config(data: str | None, method: str, seed: int, epochs: int) -> dict[str, Any]:
    return {
        "name": f"sasg-mnist-{method}-{seed}",
        "seed": seed,
        "workers": WORKERS,
        "problem": {"kind": "perceptron", "classes": 10, "hidden": [512], "dtype": "float32"},
        "data": {
            "source": "mnist",
            "path": data,
            "standardise": {"kind": "fixed", "divide": 255, "mean": 0.1307, "scale": 0.3081},
            "partition": "iid",
            "test": "official",
        },
        "algorithm": {**ALGORITHMS[method], "step_size": "0.005*M"},
        "f_star": "none",
        "stop": {"max_rounds": epochs * EPOCH},
        "trace": {"every": 100, "objective": False},
    }


def _row(done: Run, method: str, seed: int) -> dict[str, Any]:
    reached = np.flatnonzero(done.trace["test_accuracy"] > TARGET)
    first = int(reached[0]) if reached.size else None
    epochs = done.uploads[: done.rounds // EPOCH * EPOCH].reshape(-1, EPOCH * WORKERS)
    return {
        "method": method,
        "seed": seed,
        "uploads": None if first is None else int(done.trace["uploads"][first]),
        "bits": None if first is None else 8 * int(done.trace["payload_bytes_up"][first]),
        "rounds": None if first is None else int(done.trace["round"][first]),
        "final_test_accuracy": done.test_accuracy,
        "skips_by_epoch": (~epochs).sum(axis=1).tolist(),
        "paper": PAPER[method].get(seed),
        "wall_s": done.wall_s,
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Paper and psopt side by side, on standard output."""
    from rich.table import Table

    from psopt.runs.progress import console

    table = Table(title="MNIST, 784-512-10, M = 10: uploads and bits until test accuracy > 98 %")
    for name in ("method", "seed", "uploads (paper)", "uploads (psopt)", "bits", "final accuracy", "skips, epoch 1"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        for row in own:
            table.add_row(method, str(row["seed"]), *_cells(row))
        together = {
            key: mean(row[key] for row in own) if all(row[key] is not None for row in own) else None
            for key in ("paper", "uploads", "bits", "final_test_accuracy")
        }
        skips = [mean(row["skips_by_epoch"][0] for row in own)] if all(row["skips_by_epoch"] for row in own) else []
        table.add_row(method, "mean", *_cells({**together, "skips_by_epoch": skips}), style="bold", end_section=True)
    console().print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        "-" if row["paper"] is None else f"{row['paper']:.0f}",
        "not reached" if row["uploads"] is None else f"{row['uploads']:.0f}",
        "-" if row["bits"] is None else f"{row['bits']:.3g}",
        f"{row['final_test_accuracy']:.2%}" if row["final_test_accuracy"] is not None else "-",
        f"{row['skips_by_epoch'][0]:.0f}" if row["skips_by_epoch"] else "-",
    ]
