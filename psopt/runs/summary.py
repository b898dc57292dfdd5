"""``summary.json``: how a run ended, in numbers."""

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

import psopt
from psopt.config import RunConfig
from psopt.core.ledger import Ledger
from psopt.core.server import Server
from psopt.runs import folder as run_folder
from psopt.runs.building import Facts
from psopt.runs.trace import Record


def summary_of(
    config: RunConfig,
    facts: Facts,
    ranks: int,
    ledger: Ledger,
    server: Server | None,
    last: Record | None,
    theta: np.ndarray,
    **said: Any,
) -> dict[str, Any]:
    """The file's content; ``server`` and ``last``, the last record, are missing of a run that failed before round 1,
    and ``said`` is what `Conductor` alone knows.
    """
    totals = asdict(ledger.totals())
    evaluation = totals.pop("evaluation_bytes_up") + totals.pop("evaluation_bytes_down")
    wire = ledger.wire
    return {
        "schema": run_folder.SCHEMA,
        "status": said.pop("status"),
        "stop_reason": said.pop("stop_reason"),
        "psopt_version": psopt.__version__,
        "name": config.name,
        "recipe": config.recipe,
        "workers": config.workers,
        "repeat": config.repeat,
        "ranks": ranks,
        "dim": facts.dim,
        "samples": facts.samples,
        "rounds": server.round if server else 0,
        "local_steps": server.local_steps if server else 0,
        **totals,
        "evaluation_bytes": evaluation,
        "wire_bytes_up": wire.bytes_up,
        "wire_bytes_down": wire.bytes_down,
        "wire_setup_bytes": wire.setup_bytes,
        "objective": last.objective if last else None,
        "gap": last.gap if last else None,
        "test_loss": last.test_loss if last else None,
        "test_accuracy": last.test_accuracy if last else None,
        "step_size": server.step_size if server else None,
        "smoothness": server.joint_smoothness if server else None,
        "worker_smoothness": _known(server.smoothness) if server else None,
        **said,
        "seed": config.seed,
        "config_sha256": config.sha256(),
        "theta_sha256": hashlib.sha256(theta.tobytes()).hexdigest(),
    }


def _known(smoothness: np.ndarray) -> list[float] | None:
    """Each L_m, where the run had to know them."""
    return smoothness.tolist() if np.isfinite(smoothness).all() else None
