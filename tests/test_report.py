"""psopt report: reading folders, grouping seeds, costs, warnings, the page and the other formats, wrong input."""

import csv
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers import tiny

from psopt.cli import cli
from psopt.config import parse, yaml_source
from psopt.config.sentences import Complaints
from psopt.errors import ConfigError
from psopt.runs import folder as run_folder
from psopt.runs.experiment import Plan, simulate
from psopt.runs.finding import find_runs
from psopt.runs.occupancy import occupied
from psopt.runs.progress import size
from psopt.runs.shard_smoothness import worker_smoothness
from psopt.runs.trace import packed
from psopt.views.reading import CUT_OFF, RUNNING, read_run
from psopt.views.reporting.comparing import differences, groups_of, key_text, value_text
from psopt.views.reporting.concerns import concerns_of, limit_of, longest_silence
from psopt.views.reporting.costs import baseline_of, paid, ratio, read_targets, targets_of
from psopt.views.reporting.curves import FEW, draw, panel_of, thinned
from psopt.views.reporting.drawing import new_figure, style
from psopt.views.reporting.measures import (
    ACCURACY,
    COSTS,
    GAP,
    OBJECTIVE,
    measures_of,
    seconds_text,
    short_count,
    tiny_text,
)
from psopt.views.reporting.raster import COLUMNS, ROWS, Smoothness, binned, picture, raster_of
from psopt.views.reporting.report import report

STEP = {"payload_bytes_up": 10, "payload_bytes_down": 30, "control_bytes_up": 2, "control_bytes_down": 3}
STEP |= {"evaluation_bytes_up": 100, "evaluation_bytes_down": 200}


def record(k, gap=None, uploads=0, **given):
    """The record after round k: one second a round, of which half is spent computing."""
    times = {"compute_s": 0.5 * k, "wait_s": 0.25 * k, "serialise_s": 0.0, "rest_s": 0.25 * k}
    counts = {name: nbytes * uploads for name, nbytes in STEP.items()}
    known = {"objective": None if gap is None else 5.0 + gap, "gap": gap, "test_loss": None, "test_accuracy": None}
    return {"round": k, **known, "uploads": uploads, **counts, **times, **given}


def write(folder, gaps=(1.0, 0.1, 0.01), status="ok", masks=None, records=None, summary=None, **changes):
    """A run folder made by hand: everyone uploads in every round, unless ``masks`` says otherwise."""
    config = parse(tiny(**{"data": {"source": "none"}, "problem": {"kind": "noisy-quadratic"}, **changes})).resolved()
    workers = config["workers"]
    rounds = len(gaps) - 1
    masks = np.ones((rounds, workers), dtype=bool) if masks is None else np.asarray(masks, dtype=bool)
    if records is None:
        counts = np.concatenate([[0], masks.sum(axis=1).cumsum()])
        records = [record(k, gap, int(count)) for k, (gap, count) in enumerate(zip(gaps, counts, strict=False))]
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml_source.dump(config))
    (folder / "trace.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (folder / "uploads.bin").write_bytes(packed(masks).tobytes())
    run_folder.write_json(folder / "manifest.json", {"hosts": ["a"], "ranks": 2, "system": "s"})
    if status is not None:
        told = {"schema": 1, "status": status, "stop_reason": "max_rounds", "rounds": rounds, "f_star": 5.0}
        run_folder.write_json(folder / "summary.json", {**told, **(summary or {})})
    return folder


def seen(folder, *arguments, **changes):
    return read_run(write(folder, *arguments, **changes))


def kinds(*runs):
    """What is warned of, as (kind, level)."""
    return {(concern.kind, concern.level) for concern in concerns_of(groups_of(runs))}


def told(kind, *runs):
    return " ".join(concern.text for concern in concerns_of(groups_of(runs)) if concern.kind == kind)


def command(*arguments):
    return cli.main(["report", *map(str, arguments)], standalone_mode=False)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two seeds of lag-wk, gd, and three replicas of lag-ps: real runs, in one folder."""
    out = tmp_path_factory.mktemp("real")
    own = {"stop": {"max_rounds": 30}, "problem": {"kind": "least-squares", "l2": 0.1}}
    for name, changes in {
        "gd": {"algorithm": "gd"},
        "wk-3": {},
        "wk-4": {"seed": 4},
        "ps": {"algorithm": "lag-ps", "repeat": 3},
    }.items():
        simulate(Plan(parse(tiny(**{**own, **changes})), out / name, quiet=True))
    return out


# --- reading


def test_a_finished_run_is_read_as_load_run_reads_it(real):
    run, known = read_run(real / "wk-3"), run_folder.load_run(real / "wk-3")
    assert run.summary == known.summary
    assert run.config == known.config
    assert run.status == "ok"
    assert set(run.trace) == set(known.trace)
    for name, values in known.trace.items():
        np.testing.assert_array_equal(run.trace[name], values)
    np.testing.assert_array_equal(run.uploads, known.uploads)


def test_replicas_are_read_with_their_seeds(real):
    run = read_run(real / "ps")
    assert [replica.seed for replica in run.replicas] == [3, 4, 5]
    assert all(replica.uploads.shape == (30, 3) for replica in run.replicas)
    assert run.uploads.dtype == float


def test_folders_are_expanded_to_their_runs(real, tmp_path):
    assert [path.name for path in find_runs([real])] == ["gd", "ps", "wk-3", "wk-4"]
    assert [path.name for path in find_runs([real / "wk-4", real, real / "gd"])] == ["wk-4", "gd", "ps", "wk-3"]
    for name in ("point-10", "point-9", ".hidden", "point-9.failed-1", "deep/er/point-0", "point-9.slurm"):
        write(tmp_path / name)
    write(tmp_path / "point-10" / "replica-000")
    assert [path.name for path in find_runs([tmp_path])] == ["point-0", "point-9", "point-10"]
    (tmp_path / "table.json").write_text(json.dumps({"rows": [{"folder": "point-10"}, {"method": "point-9"}]}))
    assert [path.name for path in find_runs([tmp_path])] == ["point-10", "point-9", "point-0"]


def test_a_run_that_was_cut_off_is_shown_as_far_as_it_went(tmp_path):
    folder = write(tmp_path / "cut", (4.0, 2.0, 1.0), status=None)
    with open(folder / "trace.jsonl", "a") as file:
        file.write('{"round": 3, "gap"')
    run = read_run(folder)
    assert run.status == CUT_OFF
    assert run.trace["round"].tolist() == [0, 1, 2]
    assert ("unfinished", "warning") in kinds(run)
    assert "cut off, after round 2" in told("unfinished", run)
    (folder / "trace.jsonl").unlink()
    assert read_run(folder).trace == {}


def test_a_run_that_is_being_written_is_no_failure(tmp_path):
    folder = write(tmp_path / "run", status=None)
    with occupied(folder):
        run = read_run(folder)
    assert run.status == RUNNING
    assert ("unfinished", "note") in kinds(run)


def test_fields_that_not_all_records_have_are_left_out(tmp_path):
    """As of a run that an older psopt began."""
    old = {name: value for name, value in record(0, 1.0).items() if name != "serialise_s"}
    run = seen(tmp_path / "run", records=[old, record(1, 0.5, 3)])
    assert "serialise_s" not in run.trace
    assert run.trace["gap"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("trace.jsonl", "{}\n", "records without `round`"),
        ("trace.jsonl", "[1]\n", "trace.jsonl:1 is broken: expected a record"),
        ("trace.jsonl", '{"round": 0}\nnonsense\n', "trace.jsonl:2 is broken"),
        ("trace.jsonl", json.dumps(record(0, 1.0) | {"gap": "x"}) + "\n", "is broken: could not convert"),
        ("trace.jsonl", json.dumps(record(0, uploads=1) | {"uploads": "many"}) + "\n", "`uploads` is not a number"),
        ("config.yaml", "a: [", "is not YAML"),
        ("config.yaml", "workers: 3", "no resolved config"),
        ("config.yaml", "algorithm: {recipe: gd}\nworkers: many\n", "no number `workers`"),
        ("config.yaml", "algorithm: {recipe: gd}\nworkers: true\nseed: 1\n", "no number `workers`"),
        ("config.yaml", "algorithm: {recipe: gd}\nworkers: 2\nseed: 1\nrepeat: two\n", "no number `repeat`"),
        ("config.yaml", "algorithm: {recipe: gd}\nworkers: 2\nseed: 1\nstop: {gap: x}\n", "no number `stop.gap`"),
        ("config.yaml", "algorithm: {recipe: gd}\nworkers: 2\nseed: 1\nproblem: torch\n", "`problem` is no mapping"),
        ("config.yaml", "algorithm: {recipe: [gd]}\nworkers: 2\nseed: 1\n", "no name `algorithm.recipe`"),
        ("summary.json", "{}", "schema None"),
        ("manifest.json", "{", "manifest.json is broken"),
    ],
)
def test_broken_files_are_told_of_in_a_sentence(tmp_path, file, content, said):
    folder = write(tmp_path / "run")
    (folder / file).write_text(content)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_run(folder)


@pytest.mark.parametrize(
    ("trigger", "selection", "limit"),
    [
        ({"kind": "max_age", "rounds": 7}, {"kind": "all"}, (7, True)),
        ({"kind": "max_age", "rounds": "seven"}, {"kind": "all"}, (None, False)),
        ({"kind": "max_age"}, {"kind": "all", "window": 4}, (4, False)),
        ({"kind": "innovation", "window": 10}, {"kind": "smoothness_drift", "max_age": 3}, (3, True)),
        ({"kind": "innovation", "window": 10}, "all", (10, False)),
        ("innovation", "all", (None, False)),
        (["innovation"], 3, (None, False)),
        (None, None, (None, False)),
    ],
)
def test_the_limit_of_a_rule_in_whatever_form_it_is_written(tmp_path, trigger, selection, limit):
    folder = write(tmp_path / "run")
    config = yaml_source.read((folder / "config.yaml").read_text(), "c", Complaints("c"))
    config["algorithm"] |= {"trigger": trigger, "selection": selection}
    (folder / "config.yaml").write_text(yaml_source.dump(config))
    run = read_run(folder)
    assert limit_of(run) == limit
    concerns_of(groups_of([run]))


def test_damaged_numbers_about_a_run_are_no_ground_for_a_warning(tmp_path):
    runs = [seen(tmp_path / str(n), summary={"f_star": star}) for n, star in enumerate(("x", [5.0], {}, True))]
    for run, hosts in zip(runs, (3, True, [["a"]], None), strict=True):
        run.manifest["hosts"] = hosts
    assert not {"f_star"} & {kind for kind, _ in kinds(*runs)}


def test_a_run_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    write(tmp_path / "runs" / "good")
    (write(tmp_path / "runs" / "bad") / "config.yaml").write_text("a: [")
    out, count = report([tmp_path / "runs"], tmp_path / "r.html")
    assert count == 1
    assert "left out: " in out.read_text()


# --- groups and labels


def test_runs_that_differ_in_the_seed_alone_are_one_group(real):
    groups = groups_of([read_run(path) for path in find_runs([real])])
    assert [group.shown for group in groups] == ["gd", "lag-ps (3 seeds)", "lag-wk (2 seeds)"]
    assert [run.seed for run in groups[2].members] == [3, 4]
    assert [run.seed for run in groups[1].members] == [3, 4, 5]


def test_the_same_run_twice_is_two_groups_with_labels_of_their_own(tmp_path):
    runs = [seen(tmp_path / place / "run") for place in ("a", "b")]
    assert [group.label for group in groups_of(runs)] == ["lag-wk [a/run]", "lag-wk [b/run]"]


def test_labels_tell_what_differs(tmp_path):
    def labels(*changes):
        home = tmp_path / str(len(list(tmp_path.iterdir())))
        return [g.label for g in groups_of([seen(home / str(i), **own) for i, own in enumerate(changes)])]

    innovation = {"kind": "innovation", "xi": 0.3}
    assert labels({}, {"algorithm": "gd"}) == ["lag-wk", "gd"]
    assert labels({}, {"algorithm": {"recipe": "lag-wk", "trigger": innovation}}) == [
        "lag-wk, xi=0.1",
        "lag-wk, xi=0.3",
    ]
    assert labels({}, {"workers": 4, "algorithm": "gd"}) == ["lag-wk, workers=3", "gd, workers=4"]
    assert labels({}, {"algorithm": {"recipe": "lag-wk", "step_size": 0.5}}) == [
        "lag-wk, step_size=1/L",
        "lag-wk, step_size=0.5",
    ]
    parts = [{"algorithm": {"recipe": "lag-wk", "trigger": kind}} for kind in ("always", innovation)]
    assert labels(*parts) == ["lag-wk, trigger=always", "lag-wk, trigger=innovation"]
    assert labels({}, {"stop": {"max_rounds": 9}}) == ["lag-wk [0]", "lag-wk [1]"]


def test_differences_name_only_keys_that_differ(tmp_path):
    groups = groups_of([seen(tmp_path / "a"), seen(tmp_path / "b", algorithm="gd", seed=9, timeouts={"round_s": 9})])
    found = differences(groups)
    assert set(found) == {"algorithm.recipe", "algorithm.trigger"}
    assert [value_text(value) for value in found["algorithm.trigger"]] == ["innovation(window=10, xi=0.1)", "always"]
    assert key_text("algorithm.step_size.initial", ["algorithm.step_size.initial"]) == "step_size"


# --- costs


def test_costs_are_exact(tmp_path):
    masks = [[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]]
    lazy = seen(tmp_path / "a", (2.0, 1.0, 0.5, 0.09, 0.001), masks=masks)
    plain = seen(tmp_path / "b", (2.0, 0.5, 0.2, 0.1, 0.01), algorithm="gd")
    groups = groups_of([lazy, plain])
    base = baseline_of(groups, None)
    assert base.label == "gd"
    own, its = paid(groups[0], GAP, 0.1), paid(base, GAP, 0.1)
    assert own.costs == {"rounds": 3, "uploads": 4, "bytes": 160, "seconds": 3.0}
    assert its.costs == {"rounds": 3, "uploads": 9, "bytes": 360, "seconds": 3.0}
    assert ratio(its, own, "uploads") == 9 / 4
    assert ratio(its, own, "seconds") == 1.0
    never = paid(base, GAP, 0.001)
    assert (never.arrived, never.reached) == (False, 0)
    assert ratio(never, own, "uploads") is None


def test_costs_of_seeds_are_medians_and_who_did_not_arrive_is_infinite(tmp_path):
    gaps = {1: (1, 0.1), 2: (1, 1, 0.1), 3: (1, 1, 1, 1, 0.1), 4: (1, 1)}
    runs = [seen(tmp_path / str(seed), own, seed=seed) for seed, own in gaps.items()]
    of_three = paid(groups_of(runs[:3])[0], GAP, 0.1)
    assert (of_three.costs["rounds"], of_three.reached, of_three.of) == (2, 3, 3)
    of_four = paid(groups_of(runs)[0], GAP, 0.1)
    assert (of_four.costs["rounds"], of_four.reached, of_four.of) == (3, 3, 4)
    assert not paid(groups_of(runs[2:])[0], GAP, 0.1).arrived


def test_targets_are_round_and_within_reach(tmp_path):
    gap = groups_of([seen(tmp_path / "a", (300.0, 1.0, 2e-7), stop={"gap": 3e-5, "max_rounds": 9})])
    assert targets_of(gap, GAP) == [1e-2, 1e-4, 3e-5, 1e-6]
    slow = groups_of([seen(tmp_path / "b", (5.0, 0.5))])
    assert targets_of(slow, GAP) == [1.0]
    records = [record(k, test_accuracy=value) for k, value in enumerate((0.1, 0.62, 0.91))]
    accuracy = groups_of([seen(tmp_path / "c", records=records)])
    assert targets_of(accuracy, ACCURACY) == [0.6, 0.7, 0.8, 0.9]
    losses = [record(k) | {"objective": value} for k, value in enumerate((10.0, 4.0, 2.0))]
    objective = groups_of([seen(tmp_path / "d", records=losses)])
    assert measures_of(objective) == [OBJECTIVE]
    assert targets_of(objective, OBJECTIVE) == [6.0, 2.8, 2.08, 2.0]


def test_targets_are_those_that_most_seeds_reach(tmp_path):
    runs = []
    for seed, last in enumerate((0.75, 0.82, 0.999)):
        records = [record(k, test_accuracy=value) for k, value in enumerate((0.1, last))]
        runs.append(seen(tmp_path / str(seed), records=records, seed=seed))
    assert targets_of(groups_of(runs), ACCURACY) == [0.5, 0.6, 0.7, 0.8]


def test_targets_that_are_given():
    assert read_targets(["1e-6", "1e-2", "1e-6"], GAP) == [1e-2, 1e-6]
    assert read_targets(["98%", "0.5"], ACCURACY) == [0.5, 0.98]
    for text in ("x", "nan", "0", "-1", "inf"):
        with pytest.raises(ConfigError, match=f"--target {text}: the runs are compared by their gap"):
            read_targets([text], GAP)
    with pytest.raises(ConfigError, match=r"98%"):
        read_targets(["98"], ACCURACY)


def test_a_baseline_by_label_recipe_or_folder(real):
    groups = groups_of([read_run(path) for path in find_runs([real])])
    assert baseline_of(groups, "lag-ps").label == "lag-ps"
    assert baseline_of(groups, "wk-4").label == "lag-wk"
    with pytest.raises(ConfigError, match="did you mean `lag-wk`"):
        baseline_of(groups, "lag-wks")


# --- what is drawn


def test_a_long_line_keeps_its_peaks():
    x = np.arange(50_000.0)
    y = np.ones(50_000)
    y[31_234], y[777] = 9.0, -3.0
    for log in (False, True):
        a, b = thinned(x + 1, y, log)
        assert a.size <= FEW
        assert (b.max(), b.min()) == (9.0, -3.0)
        assert (a[0], a[-1]) == (1, 50_000)
    np.testing.assert_array_equal(thinned(x[:50], y[:50])[0], x[:50])


def test_the_band_holds_median_and_extremes_and_the_last_value_counts_on(tmp_path):
    gaps = {1: (8.0, 4.0, 2.0), 2: (8.0, 2.0), 3: (8.0, 8.0, 8.0)}
    groups = groups_of([seen(tmp_path / str(seed), own, seed=seed) for seed, own in gaps.items()])
    (line,) = panel_of(groups, GAP, COSTS["rounds"]).lines
    assert line.x.tolist() == [0, 1, 2]
    np.testing.assert_allclose(line.y, [8, 4, 2])
    np.testing.assert_allclose(line.low, [8, 2, 2])
    np.testing.assert_allclose(line.high, [8, 8, 8])


def test_axes_are_logarithmic_where_it_is_apt(tmp_path):
    long, short = seen(tmp_path / "a", [1.0] * 20, algorithm="gd"), seen(tmp_path / "b", (1.0, 0.0, -1e-9))
    panel = panel_of(groups_of([long, short]), GAP, COSTS["rounds"])
    assert (panel.log_x, panel.log_y, panel.hidden) == (True, True, 2)
    alone = panel_of(groups_of([long]), GAP, COSTS["rounds"])
    assert (alone.log_x, alone.hidden) == (False, 0)


def test_a_run_that_diverges_leaves_the_picture_and_does_not_flatten_it(tmp_path):
    fine, wild = write(tmp_path / "a", (5.0, 1.0, 0.1)), write(tmp_path / "b", (5.0, 1e100, 1e308), algorithm="gd")
    panel = panel_of(groups_of([read_run(fine), read_run(wild)]), GAP, COSTS["rounds"])
    assert panel.top == 1e4
    assert "above 1e4 is cut off" in panel.caption
    assert max(line.y.max() for line in panel.lines) == 1e5
    with style():
        axes = new_figure(400, 300).add_axes((0, 0, 1, 1))
        draw(axes, panel)
        low, high = axes.get_ylim()
    assert high == 1e4
    assert 0.01 < low < 0.1
    page_of(fine, wild)  # without a warning of an overflow
    assert panel_of(groups_of([read_run(fine)]), GAP, COSTS["rounds"]).top is None


def test_a_gap_that_is_never_above_zero_can_be_drawn(tmp_path):
    folder = write(tmp_path / "a", (0.0, 0.0, -1e-15))
    assert "3 records are left out" in page_of(folder)


def test_bins_hold_the_share_of_their_own_rounds():
    uploads = np.zeros((10 * COLUMNS + 7, 4), dtype=bool)
    uploads[::2, 1] = True
    uploads[:, 3] = True
    shades = binned(uploads, np.array([3, 1, 0, 2]))
    assert shades.shape == (4, COLUMNS)
    assert (shades[0] == 1).all()
    assert ((shades[1] > 0.4) & (shades[1] < 0.6)).all()
    assert not shades[2:].any()
    assert binned(np.ones((5, 3 * ROWS), dtype=bool), np.arange(3 * ROWS)).shape == (ROWS, 5)
    once = np.zeros((500 * COLUMNS, 1), dtype=bool)
    once[0] = True
    cells = picture(binned(once, np.array([0])))[0]
    assert cells[0].sum() < 3 * 255 - 60  # it can be seen
    assert (cells[1:] == 255).all()


def test_workers_are_sorted_by_smoothness(real, tmp_path):
    told_of = seen(tmp_path / "a", summary={"worker_smoothness": [3.0, 1.0, 2.0]})
    own = raster_of(groups_of([told_of])[0], Smoothness())
    assert own.order.tolist() == [1, 2, 0]
    assert own.smoothness.tolist() == [3.0, 1.0, 2.0]
    run = read_run(real / "gd")
    computed = worker_smoothness(run.config)
    np.testing.assert_allclose(computed, read_run(real / "ps").replicas[0].summary["worker_smoothness"], rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"problem": {"kind": "somebody.elses:Code"}}, "code of its own"),
        ({"data": {"source": "file", "path": "/none/such.csv", "label": 0}}, "not at hand"),
        ({"data": {"source": "mnist"}, "problem": {"kind": "softmax", "classes": 10}}, "not at hand"),
        ({"data": {"source": "synthetic", "synthetic": {"n_samples": 10**7, "n_features": 9}}}, "large"),
        ({"data": {"source": "memory"}}, "memory"),
        ({"problem": {"kind": "noisy-quadratic"}, "data": {"source": "none"}, "workers": 1001}, "more than 1000"),
    ],
)
def test_where_smoothness_is_not_known_it_is_said_why(changes, why):
    with pytest.raises(ConfigError, match=why):
        worker_smoothness(parse(tiny(**{"algorithm": "gd", **changes})).resolved())


# --- warnings, each with a run that has the fault and one that has not


def masks(rounds, workers, *silent):
    made = np.ones((rounds, workers), dtype=bool)
    made[:, list(silent)] = False
    return made


def falling(rounds):
    return list(np.geomspace(1.0, 1e-3, rounds + 1))


def test_a_worker_that_never_or_hardly_ever_spoke(tmp_path):
    good = seen(tmp_path / "good", falling(60))
    never = seen(tmp_path / "never", falling(60), masks=masks(60, 3, 1))
    hardly = masks(60, 3, 2)
    hardly[0] = True
    assert ("starved", "warning") not in kinds(good)
    assert "worker 1 never uploaded in 60 rounds (its rule kept it silent)" in told("starved", never)
    assert "worker 2 uploaded at most 1 times" in told("starved", seen(tmp_path / "h", falling(60), masks=hardly))
    few = seen(tmp_path / "few", falling(19), masks=masks(19, 3, 1))
    assert ("starved", "warning") not in kinds(few)
    asked = seen(tmp_path / "asked", falling(60), masks=masks(60, 3, 1), algorithm="lag-ps")
    assert "it was not asked" in told("starved", asked)


@pytest.mark.parametrize(
    ("gaps", "warned"),
    [
        ((1.0, 0.5, 0.1), False),
        ((1.0, 0.5, 1.1), True),
        ((1.0, 1.0, 1.0), True),
        ((10.0, 1.0, 7.0), True),
        ((10.0, 1.0, 2.0), False),
    ],
)
def test_an_objective_that_does_not_go_down(tmp_path, gaps, warned):
    assert (("rising", "warning") in kinds(seen(tmp_path / "run", gaps))) == warned


def test_an_accuracy_that_does_not_go_up(tmp_path):
    def run(name, *values):
        return seen(tmp_path / name, records=[record(k, test_accuracy=value) for k, value in enumerate(values)])

    assert ("rising", "warning") in kinds(run("a", 0.5, 0.4))
    assert ("rising", "warning") not in kinds(run("b", 0.5, 0.6))


def test_a_worker_older_than_d(tmp_path):
    quiet = masks(40, 3)
    quiet[1:30, 0] = False
    lag = seen(tmp_path / "lag", falling(40), masks=quiet)
    assert ("stale", "note") in kinds(lag)
    assert "1 of 3 workers, worker 0 for 29 rounds" in told("stale", lag)
    promised = {"recipe": "lag-wk", "trigger": {"kind": "max_age", "rounds": 10}}
    assert ("stale", "warning") in kinds(seen(tmp_path / "late", falling(40), masks=quiet, algorithm=promised))
    in_time = masks(40, 3)
    in_time[1:12, 0] = False  # one more than D, as after the first round
    assert "stale" not in {
        kind for kind, _ in kinds(seen(tmp_path / "ok", falling(40), masks=in_time, algorithm=promised))
    }
    assert "stale" not in {kind for kind, _ in kinds(seen(tmp_path / "gd", falling(40), masks=quiet, algorithm="gd"))}


def test_the_longest_silence_counts_both_ends():
    uploads = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    assert longest_silence(uploads).tolist() == [2, 2, 4]


def test_gain_from_raw_labels(tmp_path):
    logistic = {"problem": {"kind": "logistic"}, "data": {"source": "lag-logistic"}}
    raw = {
        "problem": {"kind": "logistic", "zero_labels": True},
        "data": {"source": "lag-logistic", "labels": "authors"},
    }
    assert ("labels", "warning") not in kinds(seen(tmp_path / "a", **logistic))
    assert "gain from raw labels: lag-wk" in told("labels", seen(tmp_path / "b", **raw))


def test_a_run_short_of_its_own_gap(tmp_path):
    stop = {"gap": 1e-8, "max_rounds": 9}
    assert ("short", "warning") not in kinds(seen(tmp_path / "a", stop=stop, summary={"stop_reason": "gap"}))
    assert "stop.gap of 1e-8 was not reached by lag-wk (ended by max_rounds)" in told(
        "short", seen(tmp_path / "b", stop=stop)
    )


def test_runs_that_failed_or_lost_workers(tmp_path):
    assert kinds(seen(tmp_path / "a")) == set()
    failed = seen(tmp_path / "b", status="failed: worker 1: gradient is not finite", summary={"stop_reason": None})
    assert "failed: worker 1: gradient is not finite" in told("unfinished", failed)
    assert ("lost", "warning") in kinds(seen(tmp_path / "c", summary={"lost": [{"worker": 1, "round": 3}]}))


def test_runs_that_cannot_be_compared(tmp_path):
    one, other = seen(tmp_path / "a"), seen(tmp_path / "b", algorithm="gd")
    assert kinds(one, other) == set()
    elsewhere = seen(tmp_path / "c", algorithm="gd", problem={"kind": "noisy-kink"})
    assert "(problem.kind)" in told("mixed", one, elsewhere)
    l2 = [{"problem": {"kind": "logistic", "l2": l2}, "data": {"source": "adult-a1a"}} for l2 in (0.1, 0.2)]
    assert "(problem.l2)" in told("mixed", seen(tmp_path / "d", **l2[0]), seen(tmp_path / "e", **l2[1], algorithm="gd"))
    f_star = seen(tmp_path / "f", algorithm="gd", summary={"f_star": 4.0})
    assert "f* is not the same" in told("mixed", one, f_star)


def test_warnings_of_a_kind_are_not_without_end(tmp_path):
    runs = [seen(tmp_path / str(seed), (1.0, 2.0), seed=seed) for seed in range(12)]
    rising = [concern for concern in concerns_of(groups_of(runs)) if concern.kind == "rising"]
    assert len(rising) == 9
    assert rising[-1].text.startswith("and 4 more runs")


def test_seconds_from_different_machines_and_faults_on_purpose(tmp_path):
    one, other = seen(tmp_path / "a"), seen(tmp_path / "b", algorithm="gd")
    other.manifest["hosts"] = ["b"]
    assert "different hosts" in told("seconds", one, other)
    assert ("f_star", "warning") in kinds(seen(tmp_path / "c", (1.0, -0.5)))


# --- the page


def page_of(*folders, **given):
    out, _ = report(list(folders), folders[0].parent / "page.html", **given)
    return out.read_text()


def test_the_page_holds_all_pictures_and_tables(real, tmp_path):
    out = tmp_path / "r.html"
    assert command(real, "--out", out) == 0
    text = out.read_text()
    assert text.count("<figure>") == 4 + 3
    assert text.count('<svg viewBox="') == 4 + 3
    assert text.count("data:image/png;base64,") == 3
    for heading in ("Cost of each target", "Who uploaded when", "Bytes by direction", "Where the time went"):
        assert heading in text
    assert re.findall(r"https?:", text) == []
    assert "<script" not in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) == set(ids)
    assert len(text) < 400_000


def test_the_page_is_the_same_each_time(real, tmp_path):
    first, _ = report([real], tmp_path / "a.html")
    again, _ = report([real], tmp_path / "b.html")
    assert first.read_bytes() == again.read_bytes()


def test_what_comes_from_configs_is_escaped(tmp_path):
    folder = tmp_path / '<img src=x onerror="1">'
    bad = '"><script>alert(1)</script>$x^2$'
    run = write(folder, status=f"failed: {bad}")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("recipe: lag-wk", "recipe: '" + bad + "'", 1))
    text = page_of(run)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$x^2$" in text


def test_runs_without_anything_to_show_are_still_listed(tmp_path):
    text = page_of(write(tmp_path / "run", records=[], masks=np.zeros((0, 3)), status="failed: no data"))
    assert "No run has recorded" in text
    assert "failed: no data" in text


def test_an_older_trace_does_not_tell_serialising(tmp_path):
    old = [{k: v for k, v in record(n, 1.0 / (n + 1), 3 * n).items() if k != "serialise_s"} for n in range(3)]
    text = page_of(write(tmp_path / "old", records=old))
    assert "unknown" in text
    assert "unknown" not in page_of(write(tmp_path / "new"))


# --- other formats


def test_csv_holds_every_record_of_every_run(real, tmp_path):
    out = tmp_path / "t.csv"
    assert command(real, "--format", "csv", "--out", out) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == (1 + 2 + 3) * 31
    assert {row["run"] for row in rows} == {"gd", "lag-wk", "lag-ps"}
    last = next(row for row in reversed(rows) if row["folder"].endswith("wk-4"))
    assert float(last["gap"]) == read_run(real / "wk-4").trace["gap"][-1]
    assert last["test_accuracy"] == ""


def test_figures_alone(real, tmp_path):
    png, svg = tmp_path / "f.png", tmp_path / "f.svg"
    assert command(real, "--out", png) == command(real, "--out", svg, "--x", "bytes") == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    text = "".join(ET.fromstring(svg.read_text()).itertext())
    assert "payload bytes, up + down" in text
    assert "lag-ps (3 seeds)" in text


# --- wrong input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "none: there is no such folder"),
        (["empty"], "empty holds no run"),
        (["file"], "file is a file; expected the folder of a run"),
        (["run", "--baseline", "sgd"], "--baseline sgd: no run is called so; valid are lag-wk"),
        (["run", "--target", "soon"], "--target soon: the runs are compared by their gap to f*; expected a number"),
        (["run", "--out", "missing/r.html"], "--out missing/r.html: there is no folder missing"),
        (["run", "--out", "r.pdf"], "--out r.pdf: expected a name that ends in .html, .png, .svg, .csv"),
        (["run", "--out", "r.png", "--format", "svg"], "--out r.png and --format svg contradict each other"),
        (["run", "--out", "empty"], "--out empty is a folder"),
        (["run", "--out", "other.html"], "--out other.html exists and is no report of psopt's"),
        (["run", "--out", "other.csv"], "--out other.csv exists and is no report of psopt's"),
        (["blank", "--target", "1"], "--target: no run has recorded"),
        (["blank", "--format", "png"], "there is nothing to draw"),
    ],
)
def test_wrong_input_gets_one_sentence(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run")
    write(tmp_path / "blank", records=[], masks=np.zeros((0, 3)))
    (tmp_path / "empty").mkdir()
    for name in ("file", "other.html", "other.csv"):
        (tmp_path / name).write_text("mine,\n")
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        command(*arguments)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "other.html").read_text() == "mine,\n"


@pytest.mark.parametrize("form", ["html", "png", "svg", "csv"])
def test_an_older_report_is_written_over(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run")
    for _ in range(2):
        assert command("run", "--format", form) == 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [f"report.{form}"]


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_without_the_extra_a_sentence_says_what_to_install(tmp_path, missing):
    """In a process of its own, in which the package cannot be imported; csv does without both."""
    write(tmp_path / "run")
    code = f"""
import sys
sys.modules[{missing!r}] = None
from psopt.views.reporting.report import report
from psopt.errors import ConfigError
from pathlib import Path
report([Path("run")], Path("t.csv"))
try:
    report([Path("run")], Path("r.html"))
except ConfigError as error:
    print(error)
print("matplotlib" in sys.modules and sys.modules["matplotlib"] is not None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "psopt report needs matplotlib and jinja2: pip install 'psopt[report]'"
    assert (tmp_path / "t.csv").is_file()
    assert not (tmp_path / "r.html").exists()


# --- numbers for people


def test_numbers():
    assert [tiny_text(v) for v in (0, 1e-8, 3.4e-5, 0.01, 250.0, 1e5)] == ["0", "1e-8", "3.4e-5", "0.01", "250", "1e5"]
    assert [size(v) for v in (0, 999, 1000, 123456, 999_960, 5e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "123.5 kB",
        "1 MB",
        "5 GB",
    ]
    assert [short_count(v) for v in (0, 500, 9999, 10_000, 2.5e6)] == ["0", "500", "9999", "10k", "2.5M"]
    assert [seconds_text(v) for v in (0.0012, 0.5, 12.345, 5000)] == ["1.2 ms", "0.5 s", "12.3 s", "5,000 s"]
