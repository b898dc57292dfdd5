"""A program for mpiexec: for each case of `mpi_bits`, which kernels a rank makes when it should have them ready.

It tells a list of case, rank, and the kernels' names.
"""

import sys

import mpi_bits
import mpi_jobs
from numba.core.dispatcher import Dispatcher

from psopt.runs import experiment
from psopt.runs.experiment import Plan, run
from psopt.transports.mpi import Link, abort_on_exception

ROOM = "psopt.problems.kernels."


def kernels():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(ROOM)]
    return {id(one): one for module in modules for one in vars(module).values() if isinstance(one, Dispatcher)}


def made():
    """How many types of arguments each kernel has code for."""
    return {kernel: len(kernel.signatures) for kernel in kernels().values()}


def late(plan, link):
    """The kernels that were made in a run, after those that it will call had been."""
    noted = {}

    def noting():
        seconds = told()
        noted.update(made())
        return seconds

    told, experiment.ready_to_wait = experiment.ready_to_wait, noting
    try:
        run(plan, link)
    finally:
        experiment.ready_to_wait = told
    found = [kernel.__name__ for kernel, count in made().items() if count > noted.get(kernel, 0)]
    for kernel in kernels().values():
        kernel._reset_overloads()  # or the next case would find what this one had made
    return found


if __name__ == "__main__":
    abort_on_exception()
    link = Link()
    found = []
    for name, config, problem in mpi_bits.cases():
        by_rank = link.gather(late(Plan(config, problem=problem, quiet=True), link), 60)
        found += [[name, rank, kernel] for rank, made_late in enumerate(by_rank) for kernel in made_late]
    if link.rank == 0:
        mpi_jobs.tell(found)
