"""A problem class of the user's own: how it is found, and what is said of one that breaks its promises."""

import sys

import numpy as np
import pytest

from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.check import check_problem

DTYPES = ("float64", "float32")
ALONE = Share(0, 1, 10)

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def table():
    rng = np.random.default_rng(0)
    return Table(rng.standard_normal((10, 4)), np.where(rng.random(10) < 0.5, -1.0, 1.0))


class Bowl:
    """f(theta) = sum cosh(theta - c): right in every way."""

    def __init__(self, shard, share, *, centre=0.5, dtype="float64"):
        self.dim, self.samples = shard.n_features, shard.samples
        self.centre, self.dtype = centre, dtype

    def value_and_gradient(self, theta, out):
        np.sinh(theta - self.centre, out=out)
        return self.value(theta)

    def value(self, theta):
        return float(np.cosh(theta - self.centre).sum())


class NoDim(Bowl):
    def __init__(self, shard, share):
        super().__init__(shard, share)
        self.dim = 2.0


class NoSamples(Bowl):
    def __init__(self, shard, share):
        super().__init__(shard, share)
        self.samples = 0


class ReturnsNone(Bowl):
    def value_and_gradient(self, theta, out):
        out[:] = np.sinh(theta - self.centre)


class ReturnsNaN(Bowl):
    def value(self, theta):
        return float("nan")


class ForgetsOne(Bowl):
    def value_and_gradient(self, theta, out):
        out[1:] = np.sinh(theta - self.centre)[1:]
        return self.value(theta)


class ReturnsAnArray(Bowl):
    def value(self, theta):
        return np.ones(1)


class ChangesTheta(Bowl):
    def value(self, theta):
        total = super().value(theta)
        theta += 1e-9
        return total


class WrongSign(Bowl):
    def value_and_gradient(self, theta, out):
        np.sinh(self.centre - theta, out=out)
        return self.value(theta)


class OneElementWrong(Bowl):
    def value_and_gradient(self, theta, out):
        np.sinh(theta - self.centre, out=out)
        out[2] *= 1.1
        return self.value(theta)


class TwoValues(Bowl):
    def value_and_gradient(self, theta, out):
        super().value_and_gradient(theta, out)
        return 2 * self.value(theta)


class Raises(Bowl):
    def value(self, theta):
        raise RuntimeError("the user's own trouble")


class Walks(Bowl):
    """One sample and a gradient that is no estimate; its own local steps."""

    late = 0

    def batch_value_and_gradient(self, theta, rows, out):
        return self.value_and_gradient(theta, out)

    def local_steps(self, rule, theta, walk, scale):
        gradient = np.empty_like(theta)
        for step_size in walk.step_sizes[self.late :]:
            self.value_and_gradient(theta, gradient)
            theta -= theta.dtype.type(scale * step_size) * gradient


class LosesAStep(Walks):
    late = 1


class Bare:
    dim = samples = 1

    def __init__(self, shard, share):
        pass


def own(cls, dtype="float64", **options):
    return build(f"{__name__}:{cls.__name__}", table(), ALONE, dtype, options)


@each_dtype
def test_a_right_class_of_the_users_passes(dtype):
    problem = own(Bowl, dtype, centre=0.25)
    assert (problem.centre, problem.dtype) == (0.25, dtype)
    check_problem(problem, np.random.default_rng(0), dtype)
    check_problem(own(Walks, dtype), np.random.default_rng(0), dtype)


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (NoDim, "dim has to be a positive integer, but is 2.0"),
        (NoSamples, "samples has to be a positive integer, but is 0"),
        (ReturnsNone, "value_and_gradient has to return a float, but returned a NoneType"),
        (ReturnsAnArray, "value_and_gradient has to return a float, but returned a ndarray"),
        (ReturnsNaN, "value_and_gradient has to return a finite number near theta = 0, but returned nan"),
        (ForgetsOne, "finite gradient into `out`, but 1 of its 4 elements are NaN, infinite or were never written"),
        (ChangesTheta, "theta has to stay as it is, but a method changed it"),
        (TwoValues, "value and value_and_gradient have to agree, but returned"),
        (WrongSign, "the gradient has to agree with finite differences of value"),
        (OneElementWrong, "the gradient has to agree with finite differences of value"),
        (
            LosesAStep,
            "local_steps has to take the steps of batch_value_and_gradient's gradients, but after two of them",
        ),
    ],
)
def test_a_wrong_class_of_the_users_is_named_with_its_fault(cls, sentence):
    with pytest.raises(ConfigError) as caught:
        check_problem(own(cls), np.random.default_rng(0))
    assert str(caught.value).startswith(f"problem {__name__}:{cls.__name__}: ")
    assert sentence in str(caught.value)


def test_what_the_users_code_raises_passes_through():
    with pytest.raises(RuntimeError, match="the user's own trouble"):
        check_problem(own(Raises), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            "logistik",
            "there is no problem 'logistik': known are least-squares, logistic, softmax, perceptron",
        ),
        ("logistik", "did you mean 'logistic'?"),
        ("no_such_module:Thing", "there is no module 'no_such_module', neither installed nor in"),
        (f"{__name__}:Bowll", f"the module '{__name__}' has no 'Bowll'; did you mean 'Bowl'?"),
        (f"{__name__}:DTYPES", "'DTYPES' is a tuple, not a class"),
        (f"{__name__}:Bare", "lacks value_and_gradient, value, which every problem has to have"),
    ],
)
def test_a_class_that_cannot_be_had(kind, sentence):
    with pytest.raises(ConfigError) as caught:
        build(kind, table(), ALONE, "float64", {})
    assert sentence in str(caught.value)


def test_a_module_of_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "mine_for_this_test.py").write_text(
        "class Mine:\n"
        "    def __init__(self, shard, share): self.dim, self.samples = 1, shard.samples\n"
        "    def value(self, theta): return float(theta[0] ** 2)\n"
        "    def value_and_gradient(self, theta, out): out[:] = 2 * theta; return self.value(theta)\n"
    )
    (tmp_path / "broken_for_this_test.py").write_text("import a_library_nobody_has\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    problem = build("mine_for_this_test:Mine", table(), ALONE, "float64", {})
    check_problem(problem, np.random.default_rng(0))
    with pytest.raises(ModuleNotFoundError, match="a_library_nobody_has"):
        build("broken_for_this_test:Mine", table(), ALONE, "float64", {})
    with pytest.raises(ConfigError, match="unexpected keyword argument 'l2'"):
        build("mine_for_this_test:Mine", table(), ALONE, "float64", {"l2": 1.0})
