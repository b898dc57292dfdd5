"""A program for mpiexec: every recipe on this job's ranks, and an independent count of the bytes at MPI's boundary.

It tells what `in_process` returns for the same configs, and the count.
"""

import ctypes
import struct
from typing import ClassVar

import mpi_jobs
import mpi_problems

from psopt.config import parse
from psopt.recipes import RECIPES
from psopt.runs.experiment import Plan, run, simulate

KEYS = (
    "theta_sha256",
    "uploads",
    "downloads",
    "skips",
    "rounds",
    "payload_bytes_up",
    "payload_bytes_down",
    "control_bytes_up",
    "control_bytes_down",
    "evaluation_bytes",
    "gradient_evaluations",
    "f_star",
)


SHORT = {"kind": "top_k", "fraction": 0.1, "values": "float16"}
MEAN = {"kind": "logistic", "l2": 1e-2, "reduction": "mean"}
CLASSES = {
    "data": {"source": "dermatology", "labels": "classes", "standardise": "z-score", "test": {"fraction": 0.2}},
    "f_star": "none",
}


def cases():
    """(name, config, problem class): each recipe with a built-in problem, and what else changes the messages."""
    for recipe, entry in RECIPES.items():
        yield recipe, _config(recipe, MEAN if entry.row.work.local else None), None
    yield "float32", _config("lag-ps", problem={"kind": "logistic", "l2": 1e-2, "dtype": "float32"}), None
    yield "sparsely evaluated", _config("lag-wk", trace={"every": 7}), None
    yield "mirrors checked", _config("lag-wk", debug={"check_mirror": True}), None
    yield "silent start", _config({"recipe": "lag-wk", "start": {"kind": "ones", "silent_rounds": 3}}), None
    yield "lazy downlink", _config("lag-wk", downlink="changes"), None
    codec = {"kind": "increment", "compressor": {"kind": "random_k", "fraction": 0.3, "values": "float32"}}
    yield "random increments", _config({"recipe": "ef21", "codec": codec}, downlink="changes"), None
    yield "lazy sparse downlink", _config({"recipe": "sasg", "step_size": 1e-3}, downlink="changes"), None
    yield "chain of theta", _config("lag-ps", broadcast={"kind": "chain", "segment": 256}), None
    tree = {"kind": "tree", "arity": 2, "segment": 256}
    row = {"recipe": "sasg", "step_size": 1e-3, "codec": {"compressor": {"kind": "top_k", "indices": "packed"}}}
    yield "tree of packed changes", _config(row, downlink="changes", broadcast=tree), None
    yield "trees of changes", _config("lag-wk", downlink="changes", broadcast={"kind": "tree", "segment": 256}), None
    short = {"recipe": "ef21", "codec": {"kind": "increment", "compressor": "cast"}}
    rounded = {"kind": "theta", "values": "float32"}
    yield "everything in float32", _config(short, downlink=rounded), None
    yield "trees of float32", _config("lag-ps", downlink=rounded, broadcast="tree"), None
    mesh = {"kind": "mesh", "segment": 256, "bandwidth_delay": 1}
    yield "mesh of changes", _config("lag-wk", downlink="changes", broadcast=mesh), None
    yield "mesh of theta", _config("lag-ps", broadcast=mesh), None
    heavy = {"recipe": "lag-wk", "update": {"kind": "momentum", "momentum": 0.3}}
    yield "momentum, changes", _config(heavy, downlink="changes"), None
    yield "star of changes", _config("lag-wk", downlink="changes", broadcast="star"), None
    yield "collective", _config("lag-wk", broadcast="collective"), None
    network = {"kind": "perceptron", "classes": 7, "hidden": [5], "dtype": "float32"}
    stochastic = {"recipe": "sasg", "step_size": "0.01*M", "codec": {"compressor": SHORT}}
    yield "network", _config(stochastic, network, **CLASSES), None
    yield "network, lazy downlink", _config(stochastic, network, **CLASSES, downlink="changes"), None
    local = {
        "plan": {"kind": "fixed", "local_steps": 20},
        "step_size": {"kind": "cosine", "initial": 0.01, "steps": 600},
    }
    yield "local AdamW, lazy downlink", _config({"recipe": "diloco", **local}, MEAN, downlink="changes"), None
    work = {"kind": "local_momentum", "batch": 3, "draw": "replace", "moments": "reset"}
    lazy = {"recipe": "lasg-wk2", **local, "work": work, "trigger": {"of": {"xi": 1.0}}}
    yield "local steps, lazily", _config(lazy, MEAN), None
    yield "in common, everyone", _config("gd"), None
    yield "in common, a few", _config("num-iag"), None
    yield "in common, steps", _config({"recipe": "local-sgd", **local}, MEAN), None
    yield "delays", _config("lag-wk", problem="mpi_problems:Jittery", data="lag-increasing"), mpi_problems.Jittery


ON_ELEVEN = (
    "lag-ps",
    "sasg",
    "lazy sparse downlink",
    "local steps, lazily",
    "in common, a few",
    "delays",
    "momentum, changes",
)


def cases_on(ranks):
    """All cases on 3 ranks; every second one on 2. On 11, which take their time on two cores, all in which ranks pass
    messages on, and one of each other kind.
    """
    everything = list(cases())
    assert {name for name, *_ in everything}.issuperset(ON_ELEVEN)
    eleven = [case for case in everything if case[0] in ON_ELEVEN or case[1].broadcast.kind not in ("auto", "star")]
    return {2: everything[::2], 11: eleven}.get(ranks, everything)


def _config(algorithm, problem=None, data="lag-logistic", **sections):
    problem = problem or {"kind": "logistic", "l2": 1e-2}
    stop = {"max_rounds": 40, "max_steps": 400}
    return parse({"workers": 9, "problem": problem, "data": data, "algorithm": algorithm, "stop": stop, **sections})


def in_process(reorder=False):
    """Every case in this process: name -> what must not depend on ranks."""
    return {name: _kept(simulate(Plan(config, problem=own, quiet=True), reorder)) for name, config, own in cases()}


def _kept(done):
    return {key: done.summary[key] for key in KEYS}


class Counted:
    """A standing request that adds up its bytes each time it is started."""

    by_handle: ClassVar[dict[bytes, "Counted"]] = {}

    def __init__(self, request, counted, key, amount, lends=None):
        self.request, self._counted, self._key, self._amount = request, counted, key, amount
        self._lends = lends
        self.Test, self.Free = request.Test, request.Free
        self.by_handle[handle_at(place_of(self))] = self

    def Start(self):
        self.count()
        self.request.Start()

    def count(self):
        self._counted[self._key] += self._amount
        if self._lends is not None:
            self._counted["lent"] += lent_nbytes(self._lends)


def lent_nbytes(buffer):
    """What a message says lies where both ends see it: read from its header, by the layout as documented."""
    _, code, _, _, _, _, _, count = struct.unpack("<HHiqqddq", buffer[:48].tobytes())
    return count * {9: 4, 10: 8}.get(code, 0)


def place_of(request):
    from mpi4py import MPI

    return MPI._addressof(request.request if isinstance(request, Counted) else request)


def handle_at(place):
    from mpi4py import MPI

    return ctypes.string_at(place, MPI._sizeof(MPI.Request))


def count_what_compiled_code_starts():
    """MPI_Startall, as compiled code calls it, goes through a function that adds up the bytes of what it starts."""
    from mpi4py import MPI

    from psopt.transports import mpi_answers, standing

    size, called = MPI._sizeof(MPI.Request), ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    known = standing.address_of
    start_all = called(known("MPI_Startall"))

    def counting(count, handles):
        for i in range(count):
            started = Counted.by_handle.get(handle_at(handles + i * size))
            if started:
                started.count()
        return start_all(count, handles)

    kept = called(counting)
    place = ctypes.cast(kept, ctypes.c_void_p).value
    standing.place_of = place_of
    mpi_answers.address_of = lambda function: place if function == "MPI_Startall" else known(function)
    return kept


class Spy:
    """A communicator that adds up the bytes handed to each sending call, as a sender on each rank sees them."""

    def __init__(self, comm, counted, in_common=False):
        self._comm, self.counted, self._in_common = comm, counted, in_common

    def Idup(self):
        duplicate, request = self._comm.Idup()
        return Spy(duplicate, self.counted, self._in_common), request

    def Isend(self, message, dest, tag=0):
        self.counted["point_to_point"] += _nbytes(message)
        if self._in_common:
            self.counted["lent"] += lent_nbytes(message[0])
        return self._comm.Isend(message, dest, tag)

    def Send_init(self, message, dest, tag=0):
        lends = message[0] if self._in_common else None
        request = self._comm.Send_init(message, dest, tag)
        return Counted(request, self.counted, "point_to_point", _nbytes(message), lends)

    def Bcast_init(self, message, root):
        amount = _nbytes(message) * (self._comm.Get_size() - 1) if self._comm.Get_rank() == root else 0
        return Counted(self._comm.Bcast_init(message, root), self.counted, "collective", amount)

    def Ibcast(self, message, root):
        if self._comm.Get_rank() == root:
            self.counted["collective"] += _nbytes(message) * (self._comm.Get_size() - 1)
        return self._comm.Ibcast(message, root)

    def Igather(self, message, target, root):
        self.counted["collective"] += _nbytes(message) if self._comm.Get_rank() != root else 0
        return self._comm.Igather(message, target, root)

    def Igatherv(self, message, target, root):
        self.counted["collective"] += _nbytes(message) if self._comm.Get_rank() != root else 0
        return self._comm.Igatherv(message, target, root)

    def __getattr__(self, name):
        if name in ("Irecv", "Recv_init", "Get_rank", "Get_size"):
            return getattr(self._comm, name)
        raise AttributeError(f"psopt calls {name}, which this spy does not count")


def _nbytes(message):
    return (message[0] if isinstance(message, list) else message).nbytes


def main():
    from mpi4py import MPI

    from psopt.runs import in_common
    from psopt.transports.mpi import Link

    kept = count_what_compiled_code_starts()  # as long as it may be called
    results, counts, lent = {}, {}, {}
    for number, (name, config, own) in enumerate(cases_on(MPI.COMM_WORLD.Get_size())):
        Counted.by_handle.clear()
        counted = {"point_to_point": 0, "collective": 0, "lent": 0}
        # As if across hosts, on one host, and on one host with vectors that are long enough to lie there for all.
        way = 2 if name.startswith("in common") else number % 3
        in_common.LEAST_NBYTES = 1 if way == 2 else 1 << 30
        link = Link(Spy(MPI.COMM_WORLD, counted, way == 2 and config.broadcast.kind == "auto"))
        link.one_host = way > 0
        done = run(Plan(config, problem=own, quiet=True), link)
        # The outcome is shared when the ledger is closed: taken off again.
        everywhere = MPI.COMM_WORLD.allreduce(sum(counted.values()))
        lent[name] = MPI.COMM_WORLD.allreduce(counted["lent"])
        after = link.setup_bytes - done.summary["wire_setup_bytes"]
        results[name] = _kept(done)
        summary = done.summary
        booked = summary["wire_bytes_up"] + summary["wire_bytes_down"] + summary["wire_setup_bytes"]
        counts[name] = [everywhere - after, booked]
    del kept
    if MPI.COMM_WORLD.Get_rank() == 0:
        mpi_jobs.tell({"results": results, "counts": counts, "lent": lent})


if __name__ == "__main__":
    main()
