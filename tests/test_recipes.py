"""Every recipe: from YAML text to five rounds, to an optimum, in any order of arrival, in either precision."""

import numpy as np
import pytest
from helpers import tiny

from psopt.algorithm import Algorithm
from psopt.config import load, parse
from psopt.data import open_shards
from psopt.problems import build
from psopt.problems.base import Share
from psopt.recipes import RECIPES
from psopt.runs.experiment import Plan, simulate

each_recipe = pytest.mark.parametrize("recipe", RECIPES)

STOCHASTIC = {name for name, entry in RECIPES.items() if not entry.row.work.whole}
LOCAL = {name for name, entry in RECIPES.items() if entry.row.work.local}
ADAPTIVE = {"adamw", "diloco"}
"""Recipes that end where their step size lets them."""


def calm(recipe, step_size=1e-4):
    """The recipe; a stochastic one with batches that are whole shards, a local one with everyone in rounds of one step,
    which leaves no drift, and a step that suits the data.
    """
    whole = {"recipe": recipe, "work": {"batch": 100_000}, "step_size": step_size}
    if recipe in LOCAL:
        whole |= {"plan": "every", "selection": "all"}
    if recipe in ADAPTIVE:
        whole["step_size"] = {"kind": "cosine", "initial": 0.05, "steps": 5000}
        part = "work" if recipe in LOCAL else "update"
        whole[part] = {**whole.get(part, {}), "weight_decay": 0.0}
    if getattr(RECIPES[recipe].row.codec, "feedback", False):  # which, with a constant step, ends near the optimum
        whole["codec"] = {"compressor": {"kind": "top_k", "fraction": 1.0}}
    return whole if recipe in STOCHASTIC else recipe


SQUARES = {"kind": "least-squares", "reduction": "mean"}
SHORT = {"max_rounds": 60, "max_steps": 600}

TEXT = """\
seed: 1
workers: 6
problem: {{kind: logistic, l2: 1e-3}}
data: lag-logistic
algorithm: {recipe}
stop: {{max_rounds: 5, max_steps: 5000}}
debug: {{check_mirror: true}}
"""


@each_recipe
def test_from_yaml_text_to_five_rounds(recipe, tmp_path):
    path = tmp_path / "five.yaml"
    path.write_text(TEXT.format(recipe=recipe))
    config = load(path)
    assert config.recipe == recipe
    assert config.algorithm == RECIPES[recipe].row
    if recipe in STOCHASTIC:
        config = load(path, [f"algorithm.step_size={1e-6 if recipe in LOCAL else 1e-4}"])
    done = simulate(Plan(config, quiet=True))
    rounds = 1 if recipe == "one-shot" else 5
    assert (done.status, done.rounds, done.recipe) == ("ok", rounds, recipe)
    assert done.stop_reason == ("max_steps" if recipe == "one-shot" else "max_rounds")
    assert done.uploads.shape == (rounds, 6)
    partial = not (config.algorithm.selection.everyone or config.algorithm.start.forced_rounds)
    assert done.uploads[0].sum() == (3 if partial else 6)
    assert done.gap < done.trace["gap"][0]
    assert parse(done.config) == config  # the resolved config is the same experiment


@each_recipe
def test_the_row_tells_its_source(recipe):
    entry = RECIPES[recipe]
    assert isinstance(entry.row, Algorithm)
    assert "arXiv" in entry.source
    assert entry.title


def objective(config, theta):
    """F by new problems, not those of the run."""
    shards, kind, options = (
        open_shards(config.data, config.workers, config.seed),
        config.problem.kind,
        config.problem.options,
    )
    return sum(
        build(kind, shards.shard(m), Share(m, config.workers, shards.total_samples), "float64", options).value(theta)
        for m in range(config.workers)
    )


@each_recipe
@pytest.mark.parametrize("problem", ["least-squares", "logistic"])
def test_the_optimum_beats_perturbations_of_itself(recipe, problem):
    kind = "linear" if problem == "least-squares" else "logistic"
    made = {"kind": kind, "n_samples": 90, "n_features": 4, "heterogeneity": 0.5, "noise": 1.0}
    config = parse(
        tiny(
            # Where each worker divides by moments of its own, the mean of their steps is none along F.
            workers=1 if recipe == "diloco" else 3,
            problem={"kind": problem, "l2": 0.5},
            data={"source": "synthetic", "synthetic": made},
            algorithm=calm(recipe, 0.002),
            stop={"gap": 1e-10, "max_rounds": 5000, "max_steps": 5000},
        )
    )
    done = simulate(Plan(config, quiet=True))
    assert done.stop_reason == "gap"
    reached = objective(config, done.theta)
    assert reached == pytest.approx(done.objective, rel=1e-13)
    assert done.objective - done.f_star == done.gap <= 1e-10
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1e-1):
        for _ in range(50):
            step = rng.standard_normal(4)
            assert objective(config, done.theta + scale * step / np.linalg.norm(step)) > reached


@each_recipe
def test_the_order_of_arrival_changes_no_bit(recipe):
    config = parse(tiny(workers=7, algorithm=recipe, stop=SHORT))
    plain, reordered = (simulate(Plan(config, quiet=True), reorder) for reorder in (False, True))
    np.testing.assert_array_equal(plain.uploads, reordered.uploads)
    same = ("theta_sha256", "uploads", "payload_bytes_up", "payload_bytes_down", "control_bytes_up", "objective", "gap")
    assert {key: plain.summary[key] for key in same} == {key: reordered.summary[key] for key in same}
    assert plain.theta.tobytes() == reordered.theta.tobytes()


def test_reordering_does_reorder():
    """The test above is worth nothing unless answers come in another order."""
    from helpers import built_in, joined, shards_for

    course = joined(Algorithm(), built_in("least-squares", shards_for("squares", 7)), reorder=np.random.default_rng(0))
    arrived = []
    course.transport.exchange(course.server.begin(), lambda answer: arrived.append(answer.worker))
    assert sorted(arrived) == list(range(7)) != arrived


@each_recipe
def test_float32_halves_numbers_on_the_wire(recipe):
    double, single = (
        simulate(Plan(parse(tiny(problem={**SQUARES, "dtype": dtype}, algorithm=recipe)), quiet=True))
        for dtype in ("float64", "float32")
    )
    assert single.theta.dtype == np.float32
    codec = RECIPES[recipe].row.codec
    for done, dtype in ((double, np.dtype(np.float64)), (single, np.dtype(np.float32))):
        assert done.payload_bytes_up == done.uploads.sum() * codec.capacity([4], dtype)
    assert single.payload_bytes_down / single.downloads == 4 * 4
    np.testing.assert_allclose(single.theta, double.theta, rtol=1e-3, atol=1e-4)
    assert 0 < single.f_star == pytest.approx(double.f_star, rel=1e-5)


@each_recipe
def test_the_same_config_gives_the_same_bits_and_another_seed_others(recipe):
    runs = [simulate(Plan(parse(tiny(algorithm=recipe, seed=seed)), quiet=True)) for seed in (3, 3, 4)]
    assert runs[0].theta_sha256 == runs[1].theta_sha256 != runs[2].theta_sha256
    assert runs[0].config_sha256 == runs[1].config_sha256 != runs[2].config_sha256


def test_lazy_methods_are_lazy():
    """On the paper's logistic task at M = 9 the order of the methods is that of its table."""
    uploads = {}
    for recipe in ("gd", "lag-ps", "lag-wk"):
        text = {"workers": 9, "problem": {"kind": "logistic", "l2": 1e-3}, "data": "lag-logistic", "algorithm": recipe}
        done = simulate(Plan(parse({**text, "seed": 1, "stop": {"gap": 1e-8, "max_rounds": 20000}}), quiet=True))
        assert done.stop_reason == "gap"
        uploads[recipe] = (done.summary["uploads"], done.rounds)
    assert uploads["gd"] == (4905, 545)
    assert uploads["lag-ps"] == (1992, 535)  # lag.md, the clean protocol
    assert uploads["lag-wk"][0] == pytest.approx(374, rel=0.08)
