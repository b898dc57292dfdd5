# %% [markdown]
"""
# Who has to speak?

Nine workers hold parts of real data and minimise the sum of their losses. What do they have to send?

* `gd`: everyone computes a gradient and uploads it, every round,
* `lag-wk`: a worker uploads when its gradient has changed enough,
* `lag-ps`: the server asks those whose gradient may have changed enough,
* `sasg`, on a small network: gradients of batches, uploaded when changed enough, and then the largest 1 % of them.

Run the cells in Jupyter or an editor that knows `# %%`, or the file as a program: `python example_notebook.py`, or
`mpiexec -n 4 --map-by :OVERSUBSCRIBE --bind-to none python example_notebook.py` (both options are Open MPI's, for more
ranks than cores), which gives the same numbers. Tables need pandas, plots matplotlib: `pip install 'psopt[notebook]'
matplotlib`.
"""

# %%
import psopt

first = psopt.rank() == 0  # under mpiexec every rank runs this file, and one of them speaks

# %% [markdown]
# ## Lazy gradients
# `stop` holds the targets of which the first one met ends a run. f*, and so the gap, is found by psopt itself.

# %%
problem, stop = {"kind": "logistic", "l2": 1e-3}, {"gap": 1e-6, "max_rounds": 5000}
lazy = {
    name: psopt.minimize(problem, "lag-logistic", name, 9, stop=stop, seed=1) for name in ("gd", "lag-wk", "lag-ps")
}
if first:
    print(*lazy.values(), sep="\n")

# %% [markdown]
# `frame()` is the trace: a row a round, with the record's fields and a few that follow from them.

# %%
if first:
    import pandas

    traces = pandas.concat({name: run.frame() for name, run in lazy.items()}, names=["method"])
    last = traces.groupby("method", sort=False).last()
    print(last[["gap", "uploads", "upload_share", "payload_bytes", "gradient_evaluations"]].to_string())

# %% [markdown]
# ## Who spoke
# `uploads` has a row a round and a column a worker; `uploads_frame()` is the same, a line an entry.

# %%
if first:
    spoke = pandas.DataFrame({name: run.uploads.sum(axis=0) for name, run in lazy.items()})
    spoke.index.name = "worker"
    print(spoke.to_string())
    shares = lazy["lag-wk"].uploads_frame().groupby("worker")["uploaded"].mean()
    print(f"with lag-wk worker {shares.idxmin()} speaks least, in {shares.min():.1%} of the rounds")

# %% [markdown]
# ## A network
# Any section of a config is a keyword, and any part of a recipe can be exchanged.

# %%
network = {"kind": "perceptron", "classes": 7, "hidden": [64], "dtype": "float32"}
patients = {"source": "dermatology", "labels": "classes", "standardise": "z-score", "test": {"fraction": 0.2}}
patients["partition"] = "iid"
noisy = {
    name: psopt.minimize(
        network,
        patients,
        {"recipe": name, "step_size": step},
        workers=5,
        stop={"max_rounds": 300},
        f_star="none",
        trace={"every": 10},
        seed=2,
    )
    for name, step in (("sgd", 0.05), ("sasg", "0.05*M"))
}
if first:
    for name, run in noisy.items():
        print(
            f"{name}: {run.test_accuracy:.1%} of the test rows right, {run.uploads.sum()} uploads, "
            f"{run.payload_bytes_up / 1e6:.3g} MB up, by worker {run.uploads.sum(axis=0)}"
        )

# %% [markdown]
# ## Plots

# %%
try:
    import matplotlib.pyplot as plt
except ImportError:
    plt = None
if first and plt is not None:
    figure, (falling, speaking, learning) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    for name, run in lazy.items():
        trace = run.frame().loc[1:]
        falling.loglog(trace["payload_bytes_up"], trace["gap"], label=name)
    falling.set(xlabel="payload up so far, bytes", ylabel="gap to f*")
    spoke.plot.bar(ax=speaking, logy=True, ylabel="uploads")
    for name, run in noisy.items():
        trace = run.frame().loc[1:]
        learning.semilogx(trace["payload_bytes_up"], trace["test_accuracy"], label=name)
    learning.set(xlabel="payload up so far, bytes", ylabel="test accuracy")
    for axes in (falling, learning):
        axes.legend()
    figure.savefig("who_has_to_speak.png", dpi=120)
    print("plots: who_has_to_speak.png")
