"""Small programs for jobs that tests start: ``mpiexec -n R python mpi_programs.py NAME [ARGUMENT]``."""

import sys
import time

import mpi_jobs
import numpy as np

CONFIG = {
    "workers": 4,
    "problem": "mpi_problems:Quadratic",
    "data": "lag-increasing",
    "algorithm": "lag-wk",
    "f_star": "none",
    "stop": {"max_rounds": 50},
}


def server_raises(stamp):
    """The server's own code raises in round 20."""
    import mpi_problems

    from psopt.commands import join
    from psopt.config import parse
    from psopt.runs.experiment import Plan, run
    from psopt.runs.stopping import Stopping
    from psopt.transports.mpi import abort_on_exception

    class Broken(Stopping):
        def reason(self, k, *rest):
            if k == 20:
                with open(stamp, "w") as file:
                    file.write(repr(time.time()))
                raise RuntimeError("the server's hair is on fire")

    config = parse(CONFIG)
    abort_on_exception()
    run(Plan(config, stopping=Broken(config.stop), problem=mpi_problems.Quadratic, quiet=True), join(None))


def minimize(_):
    """A user's script: every rank calls `psopt.minimize` three times and gets the result."""
    import psopt

    rng = np.random.default_rng(3)
    x = rng.standard_normal((90, 5))
    y = np.sign(x @ rng.standard_normal(5) + 0.5 * rng.standard_normal(90))
    for algorithm, downlink in (("lag-wk", "theta"), ("lag-ps", "theta"), ("lag-wk", "changes")):
        done = psopt.minimize({"kind": "logistic", "l2": 1e-2}, (x, y), algorithm, workers=3, downlink=downlink)
        mpi_jobs.tell([done.ranks, done.theta_sha256, done.theta.tobytes().hex()])


def all_of_the_api(folder):
    """A user's script: who am I, a mistake that is caught, a run with a folder, the same again, a sweep, and a run that
    Ctrl-C interrupts, of which every rank hears and which all go on with.
    """
    import psopt
    from psopt.errors import ConfigError

    said, given = "", {"workers": 4, "stop": {"max_rounds": 30}}
    try:
        psopt.minimize("least-squares", "lag-increasing", **given, progres=True)
    except ConfigError as error:
        said = str(error)
    run = psopt.minimize("least-squares", "lag-increasing", **given, out=folder, progress=True)
    again = psopt.minimize("least-squares", "lag-increasing", **given, out=folder, resume=True)
    sweep = [psopt.minimize("least-squares", "lag-increasing", name, **given) for name in ("gd", "lag-ps")]
    whole = psopt.minimize("least-squares", "lag-increasing", "gd", **given, repeat=2)
    asked = [{"kind": "interrupt", "server": True, "round": 9}]
    try:
        psopt.minimize("least-squares", "lag-increasing", **given, out=f"{folder}-2", faults=asked)
    except KeyboardInterrupt:
        said += "; interrupted"
    on = psopt.minimize("least-squares", "lag-increasing", **given, out=f"{folder}-2", resume=True)
    gaps = [float(each.trace["gap"][-1]) for each in (run, again, *sweep, whole, on)]
    rows = [len(each.trace["round"]) for each in (run, sweep[1], whole)]
    mpi_jobs.tell([psopt.rank(), psopt.ranks(), said, str(run.folder), run.manifest["ranks"], gaps, rows])
    psopt.minimize("least-squares", "lag-increasing", "lagwk", **given)


def minimize_outliving(_):
    """A user's script that asks for what only `psopt run` can do."""
    import psopt

    data = (np.ones((10, 2)), np.ones(10))
    psopt.minimize("logistic", data, workers=2, stop={"max_rounds": 3}, failure={"policy": "drop"})


def before_mpi_4(_):
    """Collectives that cannot stand are made anew each round, with the same outcome."""
    from psopt.transports import mpi

    mpi.PERSISTENT_COLLECTIVES = False
    minimize(_)


def minimize_both_ways(_):
    minimize(_)
    before_mpi_4(_)


def script_raises(_):
    """A user's script fails on one rank only, after psopt has joined the job."""
    from mpi4py import MPI

    minimize(_)
    if MPI.COMM_WORLD.Get_rank() == 1:
        raise ValueError("only rank 1 is unhappy")
    MPI.COMM_WORLD.Barrier()


def wrong_start(_):
    """A first theta of the wrong shape."""
    import psopt

    psopt.minimize("logistic", (np.ones((10, 2)), np.ones(10)), workers=2, theta0=np.zeros(3))


def other_data(_):
    """Each rank draws data of its own."""
    import psopt
    from psopt.transports.mpi import world

    x = np.random.default_rng(world()[0]).standard_normal((10, 2))
    psopt.minimize("logistic", (x, np.ones(10)), workers=2)


def lone_mistake(_):
    """A mistake of input on rank 1 alone, after psopt has joined the job."""
    import psopt
    from psopt.transports.mpi import world

    minimize(None)
    if world()[0] == 1:
        psopt.load_run("nowhere")
    minimize(None)


def after_a_mistake(file):
    """A run that cannot be written is refused; the next one is none the worse for it."""
    import psopt
    from psopt.errors import ConfigError

    data, refused = "lag-increasing", ""
    try:
        psopt.minimize("least-squares", data, "lag-ps", 4, stop={"max_rounds": 5}, out=f"{file}/below")
    except ConfigError as error:
        refused = str(error)
    if "cannot be written" not in refused:
        raise AssertionError(refused)
    for workers in (4, 2):
        psopt.minimize("least-squares", data, "gd", workers, stop={"max_rounds": 5})
    done = psopt.minimize("least-squares", data, "lag-ps", 4, stop={"max_rounds": 30})
    mpi_jobs.tell([done.theta_sha256, int(done.uploads.sum()), done.summary["uploads"]])


def wrong_call(_):
    """A user's script hands over labels that do not fit."""
    import psopt

    psopt.minimize("logistic", (np.ones((10, 2)), np.ones(9)), workers=2)


def resumed_in_common(folder):
    """Runs whose vectors are long enough to lie in common are interrupted and go on; rank 0 tells what lay there, and
    whether that changed anything.
    """
    import psopt
    from psopt.config import parse
    from psopt.data.table import Table
    from psopt.runs import in_common
    from psopt.runs.experiment import Plan, simulate

    lay, commons = [], in_common.commons

    def watched(*arguments):
        found = commons(*arguments)
        lay.append(found and ("rows" if found.rows else "theta"))
        return found

    in_common.commons = watched
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((40, 4500)), np.sign(rng.standard_normal(40))
    problem, told = {"kind": "logistic", "l2": 1e-2}, {}
    asked = [{"kind": "interrupt", "server": True, "round": 5}]
    for recipe in ("gd", "num-iag", "lag-wk"):
        algorithm, stop, lay[:] = {"recipe": recipe, "step_size": 1e-3}, {"max_rounds": 12}, []
        given = {"workers": 4, "stop": stop, "out": f"{folder}/{recipe}", "f_star": "none"}
        try:
            psopt.minimize(problem, (X, y), algorithm, **given, faults=asked)
        except KeyboardInterrupt:
            done = psopt.minimize(problem, (X, y), algorithm, **given, resume=True)
        config = {"workers": 4, "stop": stop, "problem": problem, "data": "memory", "algorithm": algorithm}
        alone = simulate(Plan(parse({**config, "f_star": "none"}), table=Table(X, y), quiet=True))
        same = done.theta_sha256 == alone.theta_sha256
        told[recipe] = [*lay, same, done.summary["uploads"] == alone.summary["uploads"]]
    if psopt.rank() == 0:
        mpi_jobs.tell(told)


def idle_server(seconds):
    """What the server's waiting costs while every worker computes: CPU seconds and wall seconds of five rounds."""
    import mpi_problems

    from psopt.commands import join
    from psopt.config import parse
    from psopt.runs.experiment import Plan, run
    from psopt.runs.stopping import Stopping

    clock = {}

    class Watched(Stopping):
        def reason(self, k, *rest):
            if k in (9, 14):  # the first eight rounds are quick
                clock[k] = (time.process_time(), time.perf_counter())
            return "enough" if k == 14 else None

    problem = {"kind": "mpi_problems:Slow", "seconds": float(seconds)}
    config = parse({**CONFIG, "workers": 2, "problem": problem, "algorithm": "gd", "trace": {"every": 100}})
    link = join(None)
    run(Plan(config, stopping=Watched(config.stop), problem=mpi_problems.Slow, quiet=True), link)
    if link.rank == 0:
        (cpu, wall), (cpu_after, wall_after) = clock[9], clock[14]
        mpi_jobs.tell({"cpu_s": cpu_after - cpu, "wall_s": wall_after - wall})


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2] if len(sys.argv) > 2 else None)
