"""A PyTorch module as a problem: theta is its parameters, and autograd finds the gradient.

    reduction 'sum'   f_m(theta) =        sum_i loss(module(x_i), y_i) +    l2  / 2 ||theta||^2
    reduction 'mean'  f_m(theta) = (1/n)  sum_i loss(module(x_i), y_i) + (l2/M) / 2 ||theta||^2

where i runs over the shard, n counts the samples of all workers and M the workers. The l2 term takes all of theta,
biases and frozen parameters too.

The parameters are views of theta and their gradients views of ``out``, so that nothing of the size of theta is copied
(but a theta that lies askew in memory, as no message's does: matrix products would add up in another order there).
PyTorch runs on one thread, with its deterministic algorithms and a generator state of psopt's own; what a caller has
set is put back after each call. PyTorch itself is imported by the first problem that is made.
"""

import inspect
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt.data.table import CSR, Table
from psopt.errors import ConfigError, ProtocolError
from psopt.problems import named
from psopt.problems.base import Share, check_width, scale_and_l2
from psopt.problems.features import check_rows
from psopt.problems.kernels.vector import regularise, squared_norm
from psopt.problems.torch_support import (
    as_arrays,
    as_tensor,
    check_parameters,
    checked_shape,
    import_torch,
    shown,
    tensors,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_BLOCK_ROWS = 256
_ALIGNED_NBYTES = 16  # MKL sums in another order where an array does not begin at a multiple of it


class TorchModule:
    """f_m from a module, ``build(**options)``, and a loss.

    Parameters
    ----------
    shard : Table
        Dense features, shape (n_m, d), and labels.
    share : Share
    build : str
        Function or class as `package.module:function`, which returns a `torch.nn.Module`; `psopt.problems.torch_models`
        has examples.
    loss : str
        `cross_entropy` of scores, shape (B, K), and labels 0 to K - 1; `mse`, the mean squared error of one output a
        row, without a factor 1/2; or your function as `package.module:function`, which is given outputs and labels (in
        ``dtype``, shape (B,)) and returns the mean over the batch.
    shape : list of int, optional
        What a row of features is reshaped to, as [1, 28, 28]. Default: it stays as it is.
    options : dict, optional
        Keyword arguments for ``build``.
    l2 : float
        The weight of l2/2 ||theta||^2, of all parameters alike.
    reduction : 'sum' or 'mean'
        Whether the losses of all samples are added up, or their mean is taken.
    dtype : 'float64' or 'float32'
        Of features, parameters and theta.

    theta holds the parameters in the order of ``named_parameters()``; one that several modules share is there once, one
    without a gradient has gradient zero.

    `value`, `value_and_gradient` and `score` are taken in evaluation mode: no dropout, BatchNorm by its running
    statistics, so that they are functions of theta as long as no batch comes between. `batch_value_and_gradient` is
    taken in training mode, all rows of the batch at once. Then f_m and the batches' gradients are of different
    functions, as always with dropout and BatchNorm, and only without them a batch of all rows equals the whole.

    A batch is known by its rows. Random numbers within the module, as dropout's, come from PyTorch's generator, seeded
    by the worker and the rows: the same rows at another theta meet the same mask. Buffers, as BatchNorm's running
    statistics, belong to this worker alone and never travel. Rows equal to those of the last batch are that batch
    again: they meet the buffers as they were before it, and leave them as it left them, however often it is replayed.

    Limits: an older batch that comes again counts as a new one; a batch that is drawn twice in a row, likely for shards
    of a few rows only, moves the buffers once. State that is neither a parameter nor a buffer is not put back.
    """

    def __init__(
        self,
        shard: Table,
        share: Share,
        *,
        build: str,
        loss: str = "cross_entropy",
        shape: tuple[int, ...] | None = None,
        options: dict[str, Any] | None = None,
        l2: float = 0.0,
        reduction: str = "mean",
        dtype: str = "float32",
    ) -> None:
        self._scale, self._l2 = scale_and_l2(l2, reduction, dtype, share)
        self._torch = import_torch()
        self.dtype = np.dtype(dtype)
        self.samples, self.n_features = shard.samples, shard.n_features
        self._worker = share.worker
        self._build, self._options = build, dict(options or {})
        self._shape = checked_shape(shape, shard.n_features)
        self._loss = loss
        self._criterion = self._find_criterion()
        self._X = self._features(shard, f"worker {share.worker}")
        self._module = self._built(0)  # buffers that begin at random are the same for all workers
        self._parameters = tuple(self._module.parameters())
        self.tensors = tensors(self._module)
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self.dim = sum(self._sizes)
        self._has_buffers = next(self._module.buffers(), None) is not None
        self._theta_at = self._out_at = 0
        self._aligned = np.empty(0, self.dtype)
        self._last_batch = b""
        self._before: list[Tensor] = []
        self._held_out: tuple[Table, Tensor, Tensor] | None = None
        with self._settled(training=False), self._torch.no_grad():
            outputs = self._try()
            self._classes = outputs.shape[1] if loss == "cross_entropy" else 0
            self._labels = self._checked(shard, f"worker {share.worker}, row {{row}} of its shard")
            self._try_loss(outputs)

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        """f_m(theta), and its gradient into ``out``, shape (dim,); all NaN where the loss is NaN or infinite."""
        self._place(theta, out)
        loss = 0.0
        with self._settled(training=False):
            for X, labels in self._blocks(self._X, self._labels):
                loss += self._accumulate(X, labels, self._scale)
        return self._finish(loss, self._scale, theta, out)

    def value(self, theta: np.ndarray) -> float:
        """f_m(theta); NaN or infinite where the loss is."""
        loss, _ = self._evaluate(theta, self._X, self._labels)
        return self._scale * loss + (0.5 * self._l2 * squared_norm(theta) if self._l2 else 0.0)

    def batch_value_and_gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        """The estimate of f_m and its gradient from the samples ``rows``, int64, shape (B,), B >= 1."""
        check_rows(rows, self.samples)
        self._place(theta, out)
        batch = rows.tobytes()
        index = self._torch.tensor(rows)
        scale = self._scale * (self.samples / len(rows))
        with self._settled(training=True, seed=zlib.crc32(batch, self._worker)), self._buffers_of(batch):
            loss = self._accumulate(self._X[index], self._labels[index], scale)
        return self._finish(loss, scale, theta, out)

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """The parameters of a module built anew, with PyTorch's generator seeded from ``rng``, shape (dim,)."""
        module = self._built(int(rng.integers(2**63)))
        if tensors(module) != self.tensors:
            raise ConfigError(f"build {self._build!r} has to return the same parameters each time, but these differ")
        return np.concatenate([parameter.detach().numpy().ravel() for parameter in module.parameters()])

    def state(self) -> dict[str, Any]:
        """The module's buffers, and of the last batch its rows and the buffers before it: what a checkpoint holds."""
        return {
            "buffers": as_arrays(self._saved()),
            "before": as_arrays(self._before),
            "last_batch": np.frombuffer(self._last_batch, np.uint8),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The way back."""
        self._put_back(self._as_tensors(state["buffers"]))
        self._before = self._as_tensors(state["before"])
        self._last_batch = state["last_batch"].tobytes()

    def _as_tensors(self, arrays: Sequence[np.ndarray]) -> list["Tensor"]:
        return [self._torch.from_numpy(array.copy()) for array in arrays]

    def score(self, theta: np.ndarray, held_out: Table) -> tuple[float, int]:
        """The sum of the losses, without l2, and the number of right predictions on other rows.

        Of outputs of shape (B, K), K >= 2, the largest predicts, the first of equal ones. Other outputs, and those of
        `mse`, name no class, and none counts as right. The features of the last ``held_out`` are remembered.
        """
        if self._held_out is None or self._held_out[0] is not held_out:
            check_width(held_out, self.n_features)
            labels = self._checked(held_out, "held-out row {row}")
            self._held_out = (held_out, self._features(held_out, "held-out rows"), labels)
        loss, right = self._evaluate(theta, *self._held_out[1:])
        return loss, right if math.isfinite(loss) else 0

    def _accumulate(self, X: "Tensor", labels: "Tensor", scale: float) -> float:
        """The summed losses of a block; ``scale`` times their gradient is added to what ``out`` holds."""
        with self._torch.enable_grad():
            mean = self._criterion(self._module(X), labels)
            if mean.requires_grad:
                mean.backward(mean.new_tensor(scale * len(X)))
        return len(X) * float(mean.detach())

    def _evaluate(self, theta: np.ndarray, X: "Tensor", labels: "Tensor") -> tuple[float, int]:
        """The summed losses and the right predictions of all rows."""
        self._place(theta)
        loss, right = 0.0, 0
        with self._settled(training=False), self._torch.no_grad():
            for some, expected in self._blocks(X, labels):
                outputs = self._module(some)
                loss += len(some) * float(self._criterion(outputs, expected))
                right += self._right(outputs, expected)
        return loss, right

    def _right(self, outputs: "Tensor", labels: "Tensor") -> int:
        named_class = self._loss != "mse" and outputs.ndim == 2 and outputs.shape[1] >= 2
        return int((outputs.argmax(dim=1) == labels).sum()) if named_class else 0

    def _finish(self, loss: float, scale: float, theta: np.ndarray, out: np.ndarray) -> float:
        if not math.isfinite(loss):
            out.fill(math.nan)
            return math.nan
        return scale * loss + (0.5 * self._l2 * regularise(theta, 1.0, self._l2, out) if self._l2 else 0.0)

    def _blocks(self, X: "Tensor", labels: "Tensor") -> Iterator[tuple["Tensor", "Tensor"]]:
        """A fixed number of rows at a time: memory is bounded, and the order of sums depends on shapes alone."""
        return zip(X.split(_BLOCK_ROWS), labels.split(_BLOCK_ROWS), strict=True)

    # -- theta and out as PyTorch sees them --

    def _place(self, theta: np.ndarray, out: np.ndarray | None = None) -> None:
        """Makes the parameters views of theta, and their gradients views of ``out``, which is set to zero."""
        at = self._address(theta, "theta")
        if at % _ALIGNED_NBYTES:  # the bits must not depend on where a message happens to lie
            self._aligned = self._aligned if self._aligned.size else np.empty(self.dim, self.dtype)
            np.copyto(self._aligned, theta)
            theta, at = self._aligned, self._address(self._aligned, "theta")
        if at != self._theta_at:  # the views keep the memory alive, so that no other array can come to lie there
            for parameter, view in zip(self._parameters, self._views(theta), strict=True):
                parameter.data = view
            self._theta_at = at
        if out is None:
            return
        at = self._address(out, "out")
        out.fill(0)
        if at != self._out_at:
            for parameter, view in zip(self._parameters, self._views(out), strict=True):
                parameter.grad = view
            self._out_at = at

    def _address(self, vector: np.ndarray, name: str) -> int:
        if vector.shape != (self.dim,) or vector.dtype != self.dtype or not vector.flags.c_contiguous:
            found = f"{name} has shape {vector.shape} and dtype {vector.dtype}"
            raise ProtocolError(f"{found}, expected a contiguous ({self.dim},) of {self.dtype}")
        return vector.__array_interface__["data"][0]

    def _views(self, vector: np.ndarray) -> list["Tensor"]:
        parts = as_tensor(self._torch, vector).split(self._sizes)
        return [part.view(shape) for part, (_, shape) in zip(parts, self.tensors, strict=True)]

    # -- PyTorch's own state --

    @contextmanager
    def _settled(self, training: bool | None = None, seed: int = 0) -> Iterator[None]:
        """One thread, deterministic algorithms, the generator at ``seed``; afterwards all three as they were."""
        torch, generator = self._torch, self._torch.default_generator
        threads, mode, state = torch.get_num_threads(), torch.get_deterministic_debug_mode(), generator.get_state()
        torch.set_num_threads(1)
        torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms(True), which loads a compiler too
        generator.manual_seed(seed)
        if training is not None and self._module.training != training:
            self._module.train(training)
        try:
            yield
        finally:
            generator.set_state(state)
            torch.set_deterministic_debug_mode(mode)
            torch.set_num_threads(threads)

    @contextmanager
    def _buffers_of(self, batch: bytes) -> Iterator[None]:
        """Around a batch: the buffers are those that belong to it, as the class says."""
        if not self._has_buffers:
            yield
        elif batch != self._last_batch:
            self._before, self._last_batch = self._saved(), batch
            yield
        else:
            after = self._saved()
            self._put_back(self._before)
            yield
            self._put_back(after)

    def _saved(self) -> list["Tensor"]:
        return [buffer.detach().clone() for buffer in self._module.buffers()]

    def _put_back(self, saved: list["Tensor"]) -> None:
        with self._torch.no_grad():
            for buffer, old in zip(self._module.buffers(), saved, strict=True):
                buffer.copy_(old)

    # -- what the user named --

    def _built(self, seed: int) -> "Module":
        """A module built with PyTorch's generator at ``seed``, in this dtype; `ConfigError` if it cannot be used."""
        build = named(self._build, "build", "function")
        try:
            inspect.signature(build).bind(**self._options)
        except TypeError as error:
            raise ConfigError(f"build {self._build!r} cannot be called with these options: {error}") from None
        with self._settled(seed=seed):
            module = build(**self._options)
        if not isinstance(module, self._torch.nn.Module):
            raise ConfigError(
                f"build {self._build!r} has to return a torch.nn.Module, but returned a {type(module).__name__}"
            )
        check_parameters(self._torch, module, self._build)
        return module.to("cpu", getattr(self._torch, self.dtype.name))

    def _find_criterion(self) -> Callable[["Tensor", "Tensor"], "Tensor"]:
        functional = self._torch.nn.functional
        match self._loss:
            case "cross_entropy":
                return functional.cross_entropy
            case "mse":
                return lambda outputs, labels: functional.mse_loss(outputs.reshape(labels.shape), labels)
            case str(text) if ":" in text:
                return named(text, "loss", "function")
        raise ConfigError(f"loss is {self._loss!r}, but it has to be cross_entropy, mse or `package.module:function`")

    def _features(self, table: Table, whose: str) -> "Tensor":
        if isinstance(table.features, CSR):
            raise ConfigError(f"{whose}: the features are sparse, but problem `torch` needs dense ones (.toarray())")
        X = np.require(table.features, self.dtype, ["C", "ALIGNED"])
        return as_tensor(self._torch, X).view(len(X), *self._shape)

    def _try(self) -> "Tensor":
        """One row's outputs; `ConfigError` where they do not suit the loss."""
        try:
            outputs = self._module(self._X[:1])
        except RuntimeError as error:
            cannot = f"the module cannot take rows of shape {self._shape}: {str(error).splitlines()[0]}"
            raise ConfigError(f"build {self._build!r}: {cannot}") from error
        shape = getattr(outputs, "shape", ())
        if self._loss == "cross_entropy" and not (len(shape) == 2 and shape[1] >= 2):
            wanted = "(B, K), K >= 2"
        elif self._loss == "mse" and shape not in ((1,), (1, 1)):
            wanted = "(B,) or (B, 1)"
        else:
            return outputs
        raise ConfigError(
            f"build {self._build!r}: one row gives {shown(outputs)}, but loss {self._loss!r} wants {wanted}"
        )

    def _try_loss(self, outputs: "Tensor") -> None:
        loss = self._criterion(outputs, self._labels[:1])
        if getattr(loss, "shape", None) != ():
            raise ConfigError(
                f"loss {self._loss!r} has to return one number, a tensor of shape (), but gave {shown(loss)}"
            )

    def _checked(self, table: Table, where: str) -> "Tensor":
        """The labels, shape (n,): int64 for `cross_entropy`, else in this dtype."""
        labels = np.asarray(table.labels)
        if not self._classes:
            return self._torch.tensor(labels.astype(self.dtype))
        wrong = ~((labels >= 0) & (labels < self._classes) & (labels == np.floor(labels)))
        if wrong.any():
            row = int(wrong.argmax())
            found = f"{where.format(row=row)}: the label is {float(labels[row]):g}"
            raise ConfigError(f"{found}, but the module's outputs are for whole numbers from 0 to {self._classes - 1}")
        return self._torch.tensor(labels.astype(np.int64))
