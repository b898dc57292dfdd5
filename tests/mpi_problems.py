"""Problems that misbehave on purpose, for jobs that tests start: they live here to be importable by name."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from psopt.errors import NotFinite, WorkerLost


class Quadratic:
    """1/2 ||X theta - y||^2 in plain NumPy, with all the optional methods."""

    def __init__(self, shard, share):
        self.x, self.y, self.share = np.asarray(shard.features), shard.labels, share
        self.samples, self.dim = self.x.shape
        self.calls = 0

    def value(self, theta):
        residual = self.x @ theta - self.y
        return float(0.5 * residual @ residual)

    def value_and_gradient(self, theta, out):
        self.calls += 1
        residual = self.x @ theta - self.y
        out[:] = self.x.T @ residual
        return float(0.5 * residual @ residual)

    def smoothness(self):
        return float(np.linalg.eigvalsh(self.x.T @ self.x)[-1])

    def curvature_product(self, v, out):
        out[:] = self.x.T @ (self.x @ v)

    def hessian(self, theta):
        return self.x.T @ self.x


class Raising(Quadratic):
    """Worker ``worker`` (-1: all of them) raises at its ``after``-th gradient, and leaves the time in a file."""

    def __init__(self, shard, share, worker=1, after=30, stamp=None):
        super().__init__(shard, share)
        self.worker, self.after, self.stamp = worker, after, stamp

    def value_and_gradient(self, theta, out):
        value = super().value_and_gradient(theta, out)
        if self.worker in (-1, self.share.worker) and self.calls == self.after:
            if self.stamp:
                Path(self.stamp).write_text(repr(time.time()))
            raise ArithmeticError("the moon is in the wrong phase")
        return value


class RaisingAtBirth(Quadratic):
    """Worker 1 cannot even be built."""

    def __init__(self, shard, share):
        super().__init__(shard, share)
        if share.worker == 1:
            raise OSError("no such licence server")


class Poisoned(Quadratic):
    """Worker 2's gradient turns NaN after a while."""

    def value_and_gradient(self, theta, out):
        value = super().value_and_gradient(theta, out)
        if self.share.worker == 2 and self.calls > 30:
            out[0] = np.nan
        return value


class Dying(Quadratic):
    """Worker 1's whole process is killed after a while, without a word."""

    def value_and_gradient(self, theta, out):
        if self.share.worker == 1 and self.calls == 30:
            os.kill(os.getpid(), 9)
        return super().value_and_gradient(theta, out)


class Slow(Quadratic):
    """Every gradient after the first ``quick`` ones (set-up asks too) takes ``seconds``, on worker ``only`` or on all.

    ``stamp``, if given, is touched once the first slow one begins.
    """

    def __init__(self, shard, share, seconds=1.0, stamp=None, quick=8, only=None):
        super().__init__(shard, share)
        self.seconds, self.stamp, self.quick = seconds, stamp, quick
        self.slow = only in (None, share.worker)

    def value_and_gradient(self, theta, out):
        if self.slow and self.calls > self.quick:
            if self.stamp:
                Path(self.stamp).touch()
            time.sleep(self.seconds)
        return super().value_and_gradient(theta, out)


class Verbose(Quadratic):
    """Worker 1 raises with more words than fit a message, none of them in ASCII."""

    def value_and_gradient(self, theta, out):
        if self.share.worker == 1 and self.calls == 20:
            raise ArithmeticError("月" * 100_000)
        return super().value_and_gradient(theta, out)


class Exiting(Quadratic):
    """Worker 1 calls sys.exit in the middle of a gradient."""

    def __init__(self, shard, share, code="0"):
        super().__init__(shard, share)
        self.code = int(code) if code.isdigit() else code

    def value_and_gradient(self, theta, out):
        if self.share.worker == 1 and self.calls == 20:
            sys.exit(self.code)
        return super().value_and_gradient(theta, out)


class Jittery(Quadratic):
    """Every gradient takes a random time, so that answers arrive in any order."""

    def value_and_gradient(self, theta, out):
        value = super().value_and_gradient(theta, out)
        time.sleep(np.random.default_rng().uniform(0, 2e-3))
        return value


class Leaving(Quadratic):
    """The ranks of some workers leave, in the way ``how``, at the moment ``when``.

    ``who`` names the workers, as ``1,4``. ``when`` is ``gradient:30`` or ``value:30``, one for all or one for each,
    separated by commas: the 30th call of that method, from theta = 0 on. Where F is recorded and everyone is asked for
    whole gradients, a round's gradient is asked for along with the F of the round before. ``how`` is ``die``,
    ``freeze``, ``freeze:2`` (seconds), ``raise``, ``diverge`` or ``server`` (rank 0 dies). In one process ``lose``
    stands for ``die``.
    """

    def __init__(self, shard, share, who="1", when="gradient:30", how="die"):
        super().__init__(shard, share)
        whos, whens = [int(m) for m in str(who).split(",")], when.split(",")
        moments = dict(zip(whos, whens if len(whens) > 1 else whens * len(whos), strict=True))
        self.moment, self.how = moments.get(share.worker), how
        self.calls = self.values = -1_000_000  # of the set-up, which looks at the problem at another theta

    def value(self, theta):
        self.values = self.values + 1 if theta.any() else 1
        self._at(f"value:{self.values}")
        return super().value(theta)

    def value_and_gradient(self, theta, out):
        if not theta.any():
            self.calls = self.values = 0
        value = super().value_and_gradient(theta, out)
        self._at(f"gradient:{self.calls}")
        return value

    def batch_value_and_gradient(self, theta, rows, out):
        scale, x = self.samples / rows.size, self.x[rows]
        residual = x @ theta - self.y[rows]
        out[:] = scale * (x.T @ residual)
        self.calls = self.calls + 1 if theta.any() else 1
        self._at(f"gradient:{self.calls}")
        return scale * float(0.5 * residual @ residual)

    def _at(self, moment):
        if self.moment != moment:
            return
        match self.how.partition(":"):
            case ("die", _, _):
                os.kill(os.getpid(), signal.SIGKILL)
            case ("lose", _, _):
                raise WorkerLost("its process died")
            case ("freeze", _, seconds):
                waker = f"sleep {seconds}; kill -CONT {os.getpid()}"
                if seconds:
                    subprocess.Popen(["sh", "-c", waker], start_new_session=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            case ("raise", _, _):
                raise ArithmeticError("the moon is in the wrong phase")
            case ("server", _, _):
                os.kill(server_of_this_job(), signal.SIGKILL)
            case ("diverge", _, _):
                raise NotFinite("nothing is finite any longer")


def server_of_this_job():
    """The process of rank 0: a child of the same mpiexec."""
    [server] = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if _parent(folder) == os.getppid() and b"OMPI_COMM_WORLD_RANK=0\0" in (folder / "environ").read_bytes()
    ]
    return server


def _parent(folder):
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


class LeavingWithoutHessian(Leaving):
    """As `Leaving`, and f* cannot be found."""

    hessian = property()


class Wide:
    """f_m = (m + 1)/2 ||theta - 1||^2, of any dimension, and of no data but a number of samples."""

    def __init__(self, shard, share, dtype="float64", dim=50):
        self.samples, self.dim, self.slope = shard.samples, dim, (share.worker + 1.0) / share.workers

    def value(self, theta):
        return 0.5 * self.slope * sum(float(((part - 1.0) ** 2).sum()) for part in np.array_split(theta, 100))

    def value_and_gradient(self, theta, out):
        np.subtract(theta, 1, out=out)
        out *= out.dtype.type(self.slope)
        return self.value(theta)

    def batch_value_and_gradient(self, theta, rows, out):
        return self.value_and_gradient(theta, out)
