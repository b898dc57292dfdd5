"""The multi-layer perceptron: layers of weights, biases and an activation, below softmax cross-entropy.

    a_0 = x,   z_l = W_l a_{l-1} + b_l,   a_l = activation(z_l),   scores z_L

    reduction 'sum'   f_m(theta) =        sum_i loss(z_L(x_i), y_i) +    l2  / 2 ||theta||^2
    reduction 'mean'  f_m(theta) = (1/n)  sum_i loss(z_L(x_i), y_i) + (l2/M) / 2 ||theta||^2

where i runs over the shard, n counts the samples of all workers, M the workers, and loss(z, y) = log sum_k exp(z_k) -
z_y. Biases are part of theta and of its norm.

The weights W_l are views of theta and their gradients views of ``out``: products write straight into what is sent. Rows
go by blocks of a fixed size, so that memory is bounded and the order of sums depends on shapes alone.
"""

import itertools
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.lines import LINE_NBYTES
from psopt.problems import kernels
from psopt.problems.base import Share, check_width, scale_and_l2
from psopt.problems.crew import Crew, total
from psopt.problems.cuts import VECTORS_OF_NETWORKS, even, parts_of
from psopt.problems.features import DenseFeatures, SparseFeatures, check_rows, check_walk, prepare
from psopt.problems.stored import Stored

if TYPE_CHECKING:
    from psopt.problems.kernels.steps import Rule, Walk

_ACTIVATIONS = {"relu": "RELU", "tanh": "TANH"}
_HIDDEN = (512,)
_BLOCK_NBYTES = 128 * 1024  # of rows of features, where a kernel has the next ones fetched: both fit the cache


class Network:
    """What softmax regression and the perceptron share: value and gradient by back-propagation.

    Parameters
    ----------
    shard : Table
    share : Share
    classes : int
    hidden : list of int
        Units of each hidden layer.
    activation : RELU, TANH or LINEAR
        Of the hidden layers.
    l2, reduction, dtype
        As `scale_and_l2` takes them.
    bias : bool
        Whether layers have biases.
    block_rows : int
        Rows worked on together.
    """

    def __init__(
        self,
        shard: Table,
        share: Share,
        classes: int,
        hidden: list[int],
        activation: int,
        l2: float,
        reduction: str,
        dtype: str,
        bias: bool = True,
        block_rows: int = 256,
    ) -> None:
        self._scale, self._l2 = scale_and_l2(l2, reduction, dtype, share)
        if not _whole(classes) or classes < 2:
            raise ConfigError(f"classes is {classes!r}, but it has to be a whole number, 2 or above")
        self.classes = classes
        self.samples = shard.samples
        self.n_features = shard.n_features
        self.dtype = np.dtype(dtype)
        self._widths = np.array([shard.n_features, *hidden, classes])
        self._narrow = max(self._widths[1:]) <= kernels.products.SKINNY
        self.fused_rows = math.inf if self._narrow else kernels.products.SKINNY
        self._activation = activation
        self._bias = bias
        self._block_rows = block_rows
        self.tensors = self._tensors()
        ends = np.cumsum([math.prod(shape) for _, shape in self.tensors]).tolist()
        self.dim = ends[-1]
        self._places = list(zip([0, *ends[:-1]], ends, strict=True))
        self._labels = self._checked(shard, f"worker {share.worker}, row {{row}} of its shard")
        self._features = prepare(shard, self.dtype)
        numbers = self.samples * self.n_features
        cut = parts_of(numbers * self.dtype.itemsize, self.dim * self.dtype.itemsize, VECTORS_OF_NETWORKS)
        self._rows = even(self.samples, cut, block_rows)
        self.parts = len(self._rows)
        self._crew = Crew()
        rows = max(4, _BLOCK_NBYTES // (5 * self.dtype.itemsize * max(1, shard.n_features)))
        self._ahead_rows = min(block_rows, 5 * rows)  # fewer would have the gradient written too often
        self._rooms: dict[tuple[np.dtype, int], _Room] = {}
        self._held_out: tuple[Table, DenseFeatures | SparseFeatures, np.ndarray] | None = None

    def employ(self, crew: Crew) -> None:
        """Lets these threads share passes over all rows."""
        self._crew = crew
        self._features.employ(crew)

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        """f_m(theta), and its gradient into ``out``, shape (dim,); all NaN where a score is NaN or infinite."""
        loss = self._over_parts(theta, self._scale, out)
        return self._finish(loss, self._scale, theta, out)

    def value(self, theta: np.ndarray) -> float:
        """f_m(theta); NaN where a score is NaN or infinite."""
        loss = self._over_parts(theta)
        return self._scale * loss + (0.5 * self._l2 * kernels.vector.squared_norm(theta) if self._l2 else 0.0)

    def batch_value_and_gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        """The estimate of f_m and its gradient from the samples ``rows``, int64, shape (B,), B >= 1."""
        check_rows(rows, self.samples)
        room = self._room(theta)
        scale = self._scale * (self.samples / len(rows))
        loss = 0.0
        for start in range(0, len(rows), self._block_rows):
            some = rows[start : start + self._block_rows]
            X = self._features.take(some, room.panel)
            labels = room.labels[: len(some)]
            self._labels.take(some, out=labels, mode="clip")  # clip: anything else would make a copy first
            loss += self._block(theta, X, labels, scale, room, out, start == 0)[0]
        return self._finish(loss, scale, theta, out)

    def local_steps(self, rule: "Rule", theta: np.ndarray, walk: "Walk", scale: float) -> None:
        """Moves theta along ``scale`` times the gradients of the walk's batches, as `Problem` says.

        All in one call, by the kernels of few rows whatever the sizes: hence `fused_rows`.
        """
        check_walk(walk, self.samples)
        room = self._room(theta)
        net = (self._activation, self._widths, self._bias)
        weight = scale * self._scale * self.samples
        operands = (tuple(rule), theta, *walk, weight, scale * self._l2, np.empty_like(theta))
        scratch = (room.panel, room.labels, room.up, room.down, room.unused)
        self._features.network_steps(self._labels, net, *operands, scratch)

    def score(self, theta: np.ndarray, held_out: Table) -> tuple[float, int]:
        """The sum of the losses, without l2, and the number of right predictions on other rows.

        The largest score predicts, the first of equal ones. The features of the last ``held_out`` are remembered.
        """
        if self._held_out is None or self._held_out[0] is not held_out:
            check_width(held_out, self.n_features)
            labels = self._checked(held_out, "held-out row {row}")
            self._held_out = (held_out, prepare(held_out, self.dtype), labels)
        features, labels = self._held_out[1:]
        loss, right = self._over_blocks(features, labels, slice(0, len(labels)), theta, self._room(theta))
        return loss, right if math.isfinite(loss) else 0

    def _tensors(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        raise NotImplementedError

    def _over_parts(self, theta: np.ndarray, weight: float = 1.0, out: np.ndarray | None = None) -> float:
        """The summed losses of the shard's rows; the gradient times ``weight`` into ``out``."""

        def part(number: int, scratch: int, into: np.ndarray | None) -> float:
            room = self._room(theta, scratch)
            return self._over_blocks(self._features, self._labels, self._rows[number], theta, room, weight, into)[0]

        self._stored(self._features, theta)  # before threads ask for it
        return total(self._crew.add_up(self.parts, part, out))

    def _over_blocks(
        self,
        features: DenseFeatures | SparseFeatures,
        labels: np.ndarray,
        rows: slice,
        theta: np.ndarray,
        room: "_Room",
        weight: float = 1.0,
        out: np.ndarray | None = None,
    ) -> tuple[float, int]:
        """The summed losses and the right predictions of some rows; the gradient times ``weight`` into ``out``."""
        stored = self._stored(features, theta)
        if stored:
            return self._class_rows(theta, stored, labels, rows, weight, room, out)
        if len(self._widths) == 2 and self._narrow and features.in_place(theta.dtype):
            X, y = features.block(rows.start, rows.stop, room.panel), labels[rows]
            return self._classes(theta, X, y, weight, room, out)
        loss, right = 0.0, 0
        at_once = self._block_rows
        if self._narrow and features.in_place(theta.dtype):
            at_once = max(1, rows.stop - rows.start)  # the kernel makes blocks by itself
        for start in range(rows.start, rows.stop, at_once):
            stop = min(start + at_once, rows.stop)
            X = features.block(start, stop, room.panel)
            part, hits = self._block(theta, X, labels[start:stop], weight, room, out, start == rows.start)
            loss += part
            right += hits
        return loss, right

    def _stored(self, features: DenseFeatures | SparseFeatures, theta: np.ndarray) -> Stored | None:
        """What of the features is not zero, where there is little of it and a kernel for that."""
        return features.stored(theta.dtype) if len(self._widths) == 2 and self._narrow else None

    def _class_rows(
        self,
        theta: np.ndarray,
        stored: Stored,
        labels: np.ndarray,
        rows: slice,
        weight: float,
        room: "_Room",
        out: np.ndarray | None,
    ) -> tuple[float, int]:
        """`_over_blocks` by what is not zero."""
        d, K = self._widths
        bias, nowhere = theta[K * d :] if self._bias else room.no_bias, room.no_bias[:0] if out is None else out
        pattern = stored.data, stored.indices, stored.indptr[rows.start : rows.stop + 1]
        operands = *pattern, labels[rows], weight, room.class_rows(), nowhere
        return kernels.sparse_classes.class_rows(K, theta, bias, *operands)

    def _classes(
        self, theta: np.ndarray, X: np.ndarray, labels: np.ndarray, weight: float, room: "_Room", out: np.ndarray | None
    ) -> tuple[float, int]:
        """`_over_blocks` where there are no hidden layers and any number of rows is at hand."""
        d, K = self._widths
        bias, nowhere = theta[K * d :] if self._bias else room.no_bias, room.no_bias[:0] if out is None else out
        block, scratch = kernels.classes.rows_of(d, X.itemsize), room.classes()
        return kernels.classes.class_blocks(K, theta, bias, X, labels, weight, block, scratch, nowhere, True)

    def _block(
        self,
        theta: np.ndarray,
        X: np.ndarray,
        labels: np.ndarray,
        weight: float,
        room: "_Room",
        out: np.ndarray | None,
        fresh: bool,
    ) -> tuple[float, int]:
        """A block's losses and right predictions; its gradient over ``out`` if ``fresh``, otherwise added to it."""
        if self._narrow or len(X) <= kernels.products.SKINNY:
            nowhere = room.no_bias[:0] if out is None else out
            sizes, scratch = (self._activation, self._widths, self._bias), (room.up, room.down, room.unused)
            block = self._block_rows if len(X) <= self._block_rows else self._ahead_rows
            return kernels.network.network_blocks(*sizes, theta, X, labels, weight, block, *scratch, nowhere, fresh)
        nowhere = room.no_bias[:0] if out is None else out
        sizes = self._activation, self._widths, self._bias
        return kernels.tiled_network.tiled_pass(
            *sizes, theta, X, labels, weight, *room.tiled(), room.unused, nowhere, fresh
        )

    def _finish(self, loss: float, scale: float, theta: np.ndarray, out: np.ndarray) -> float:
        if not math.isfinite(loss):
            out.fill(math.nan)
            return math.nan
        if not self._l2:
            return scale * loss
        return scale * loss + 0.5 * self._l2 * kernels.vector.regularise(theta, 1.0, self._l2, out)

    def _room(self, theta: np.ndarray, scratch: int = 0) -> "_Room":
        """The scratch of a thread."""
        room = self._rooms.get((theta.dtype, scratch))
        if room is None:
            room = self._rooms[theta.dtype, scratch] = _Room(self._widths, self._block_rows, theta.dtype)
        return room

    def _checked(self, table: Table, where: str) -> np.ndarray:
        """The labels as int64, shape (n,)."""
        labels = np.asarray(table.labels)
        wrong = ~((labels >= 0) & (labels < self.classes) & (labels == np.floor(labels)))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ConfigError(
                f"{where.format(row=row)}: the label is {float(labels[row]):g}, but with classes: {self.classes} "
                f"it has to be a whole number from 0 to {self.classes - 1}"
            )
        return labels.astype(np.int64)


class Perceptron(Network):
    """A multi-layer perceptron with softmax cross-entropy, labels 0 to classes - 1.

    Parameters
    ----------
    shard : Table
        Features, dense or CSR (made dense block by block), shape (n_m, d), and labels.
    share : Share
    classes : int
        K, how many labels there are, 2 or above.
    hidden : list of int
        Units of each hidden layer, from the features upwards; an empty list leaves softmax regression.
    activation : 'relu' or 'tanh'
        Of the hidden layers.
    l2 : float
        The weight of l2/2 ||theta||^2, of weights and biases alike.
    reduction : 'sum' or 'mean'
        Whether the losses of all samples are added up, or their mean is taken.
    dtype : 'float64' or 'float32'
        Of features and, normally, of theta; the value is float64 in any case.

    theta holds ``layer1.weight`` (units, inputs), ``layer1.bias``, ``layer2.weight``, ... in this order.
    """

    def __init__(
        self,
        shard: Table,
        share: Share,
        *,
        classes: int,
        hidden: tuple[int, ...] = _HIDDEN,
        activation: Literal["relu", "tanh"] = "relu",
        l2: float = 0.0,
        reduction: str = "mean",
        dtype: str = "float64",
    ) -> None:
        if not isinstance(hidden, list | tuple) or not all(_whole(units) and units >= 1 for units in hidden):
            raise ConfigError(f"hidden is {hidden!r}, but it has to be a list of whole numbers, each 1 or above")
        if activation not in _ACTIVATIONS:
            raise ConfigError(f"activation is {activation!r}, but it has to be {' or '.join(_ACTIVATIONS)}")
        super().__init__(
            shard, share, classes, list(hidden), getattr(kernels.layers, _ACTIVATIONS[activation]), l2, reduction, dtype
        )

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Weights and biases of each layer from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), shape (dim,)."""
        theta = np.empty(self.dim, self.dtype)
        for (start, stop), (_, shape) in zip(self._places, self.tensors, strict=True):
            if len(shape) == 2:  # the bias that follows has the same fan-in
                bound = 1.0 / math.sqrt(shape[1])
            theta[start:stop] = rng.uniform(-bound, bound, stop - start)
        return theta

    def _tensors(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        named: list[tuple[str, tuple[int, ...]]] = []
        for number, (inputs, units) in enumerate(itertools.pairwise(self._widths.tolist()), 1):
            named += [(f"layer{number}.weight", (units, inputs)), (f"layer{number}.bias", (units,))]
        return tuple(named)


class _Room:
    """Scratch for one block of rows in one dtype: what a call would otherwise allocate."""

    def __init__(self, widths: np.ndarray, rows: int, dtype: np.dtype) -> None:
        self.panel = np.empty((rows, widths[0]), dtype)
        self.labels = np.empty(rows, np.int64)
        self.up = np.empty(rows * widths[1:].sum(), dtype)  # activations of all layers, one after the other
        self.down = np.empty(rows * widths[1:-1].sum(), dtype)  # derivatives of the loss over z_l of the hidden layers
        self.no_bias = np.zeros(max(widths[1:]), dtype)
        self.unused = np.empty_like(self.no_bias)  # takes a bias's gradient where there is no bias
        self._widths = widths
        self._tiled: tuple[np.ndarray, ...] = ()
        self._classes: tuple[np.ndarray, ...] = ()
        self._class_rows: tuple[np.ndarray, ...] = ()

    def classes(self) -> tuple[np.ndarray, ...]:
        """What `class_blocks` overwrites, made when it is first needed."""
        if not self._classes:
            self._classes = kernels.classes.room(*self._widths, self.panel.dtype)
        return self._classes

    def class_rows(self) -> tuple[np.ndarray, ...]:
        """What `kernels.sparse_classes.class_rows` overwrites, made when it is first needed."""
        if not self._class_rows:
            self._class_rows = kernels.sparse_classes.room(*self._widths, self.panel.dtype)
        return self._class_rows

    def tiled(self) -> tuple[np.ndarray, ...]:
        """What `tiled_pass` overwrites, made when it is first needed."""
        if not self._tiled:
            widths, dtype, rows = self._widths, self.panel.dtype, len(self.panel)
            line = LINE_NBYTES // dtype.itemsize
            length, widest = -(-rows // line) * line, max(widths[1:])
            up = np.empty(length * widths[1:].sum(), dtype)
            down, turned = np.empty((2, length * widest), dtype), np.empty(length * widest, dtype)
            packed = np.empty(length * line * max(-(-widths[:-1] // line)), dtype)
            self._tiled = np.empty((rows, widths[-1]), dtype), up, down, turned, packed
        return self._tiled


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
