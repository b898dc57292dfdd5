"""Real jobs under mpiexec: the same bits on any number of ranks, a ledger that adds up, and the commands as typed."""

import mpi_bits
import mpi_jobs
import pytest

import psopt
from psopt import launch
from psopt.config import load
from psopt.runs.experiment import Plan, simulate

pytestmark = pytest.mark.mpi
CONFIGS = mpi_jobs.HERE.parent / "configs"


@pytest.fixture(scope="module")
def here():
    """What every case gives in this one process, answers in order; and the same, answers reordered."""
    ordered = mpi_bits.in_process()
    assert mpi_bits.in_process(reorder=True) == ordered
    return ordered


@pytest.fixture(scope="module", params=[2, 3, 11])
def there(request):
    """The same cases over MPI: all workers on one rank, on two, and on one each with a rank left over."""
    ended = mpi_jobs.mpiexec(request.param, "mpi_bits.py")
    assert ended.code == 0, ended
    [told] = ended.told()
    assert list(told["results"]) == [name for name, *_ in mpi_bits.cases_on(request.param)]
    return told


def test_same_bits_and_counts_on_any_number_of_ranks(here, there):
    for name, result in there["results"].items():
        assert result == here[name], name


def test_ledger_equals_an_independent_count_at_the_boundary(there):
    for name, (counted, booked) in there["counts"].items():
        assert counted == booked, name


def test_on_one_host_vectors_lie_where_all_see_them(there):
    lent, results = there["lent"], there["results"]
    named = {"in common, everyone", "in common, a few", "in common, steps"} & set(lent)
    assert named
    for name in named:  # each worker's upload, and theta to each rank, which has nine workers at most
        said = results[name]
        assert lent[name] >= said["payload_bytes_up"] + said["payload_bytes_down"] / 9, name
    assert "changes" not in " ".join(name for name, nbytes in lent.items() if nbytes)
    assert any(nbytes == 0 for nbytes in lent.values())


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "run"
    return simulate(Plan(load(CONFIGS / "lag_wk.yaml"), out, quiet=True))


def test_run_starts_mpiexec_itself(simulated, tmp_path):
    ended = mpi_jobs.psopt("run", CONFIGS / "lag_wk.yaml", "--out", tmp_path / "run", "--ranks", 4)
    assert ended.code == 0, ended
    assert "ok (gap)" in ended.out
    assert "9 workers and the server on 4 ranks, 2313 samples, 34 parameters" in ended.err
    done = psopt.load_run(tmp_path / "run")
    assert done.ranks == 4
    assert len(done.manifest["hosts"]) == 4
    assert done.theta_sha256 == simulated.theta_sha256
    assert (done.uploads == simulated.uploads).all()
    assert (done.folder / "decisions.bin").read_bytes() == (simulated.folder / "decisions.bin").read_bytes()
    assert done.config == simulated.config


def test_run_joins_the_job_it_is_started_in(simulated, tmp_path):
    ended = mpi_jobs.mpiexec(3, "-m", "psopt", "run", CONFIGS / "lag_wk.yaml", "--out", tmp_path / "run", "--quiet")
    assert ended.code == 0, ended
    assert ended.out.count("ok (gap)") == 1
    assert ended.err == ""
    assert psopt.load_run(tmp_path / "run").theta_sha256 == simulated.theta_sha256


def test_ranks_take_the_config_that_their_launcher_has_checked(simulated, tmp_path):
    """Of the words they are started with, and no others: the file that these name is gone by now."""
    config = load(CONFIGS / "lag_wk.yaml").resolved()
    words = ["run", str(tmp_path / "gone.yaml"), "--out", str(tmp_path / "run"), "--quiet"]
    ended = mpi_jobs.mpiexec(3, "-m", "psopt", *words, **launch.handing_over(words, config))
    assert ended.code == 0, ended
    assert psopt.load_run(tmp_path / "run").theta_sha256 == simulated.theta_sha256
    ended = mpi_jobs.mpiexec(3, "-m", "psopt", *words, **launch.handing_over([*words, "--resume"], config))
    assert ended.code == 2, ended
    assert len(ended.said) == 1
    assert "there is no such file" in ended.said[0]


def test_a_config_is_handed_over_once_and_where_it_fits(monkeypatch):
    words, config = ["run", "a\udcff.yaml"], {"name": "caf\u00e9", "bound": float("inf")}
    told = launch.handing_over(words, config)
    for argv, found in ((words, config), (words[:1], None)):
        monkeypatch.setattr("sys.argv", ["psopt", *argv])
        monkeypatch.setattr("os.environ", dict(told))
        assert launch.handed() == found
        assert launch.handed() is None
    assert launch.handing_over(words, {"name": "x" * launch.LONGEST}) == {}


def test_no_rank_makes_a_kernel_that_it_should_have_had_ready():
    ended = mpi_jobs.mpiexec(3, "mpi_ready.py", timeout_s=300.0)
    assert ended.code == 0, ended
    assert ended.told() == [[]]


def test_more_ranks_than_workers(simulated, tmp_path):
    small = ["--set", "workers=3", "--set", "stop={max_rounds: 20}"]
    ended = mpi_jobs.psopt("run", CONFIGS / "lag_ps.yaml", *small, "--out", tmp_path / "run", "--ranks", 6)
    assert ended.code == 0, ended
    alone = simulate(Plan(load(CONFIGS / "lag_ps.yaml", small[1::2]), quiet=True))
    assert psopt.load_run(tmp_path / "run").theta_sha256 == alone.theta_sha256


def test_keep_alives_hold_idle_ranks(tmp_path):
    """LAG-PS leaves ranks unasked while one worker takes longer than they would bear silence."""
    slow = ["--set", "problem.kind=mpi_problems:Slow", "--set", "problem.seconds=1.5", "--set", "timeouts.idle_s=0.6"]
    config = tmp_path / "slow.yaml"
    config.write_text(
        "{workers: 2, problem: 'mpi_problems:Slow', data: lag-increasing, algorithm: cyc-iag, f_star: none,\n"
        " stop: {max_rounds: 20}, trace: {every: 100}}\n"
    )
    ended = mpi_jobs.psopt("run", config, *slow, "--out", tmp_path / "run", "--ranks", 3)
    assert ended.code == 0, ended
    done = psopt.load_run(tmp_path / "run")
    quick = simulate(Plan(load(config, [*slow[1::2], "problem.seconds=0"]), quiet=True))
    assert done.theta_sha256 == quick.theta_sha256
    assert done.control_bytes_down > quick.control_bytes_down, "keep-alives are control messages"
    assert done.payload_bytes_down == quick.payload_bytes_down


def test_minimize_on_every_rank():
    """With standing collectives, and with those of each round that stand in for them before MPI 4."""
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "minimize_both_ways")
    assert ended.code == 0, ended
    saw = ended.told()
    assert len(saw) == 2 * 9, ended
    assert {ranks for ranks, _, _ in saw} == {3}
    assert len({sha for _, sha, _ in saw}) == len({theta for _, _, theta in saw}) == 2
    assert sorted(saw)[::2] == sorted(saw)[1::2]


def test_what_lies_in_common_is_there_again_when_a_run_goes_on(tmp_path):
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "resumed_in_common", tmp_path)
    assert ended.code == 0, ended
    [told] = ended.told()
    assert told == {
        "gd": ["rows", "rows", True, True],
        "num-iag": ["rows", "rows", True, True],
        "lag-wk": ["theta", "theta", True, True],
    }


def test_an_idle_server_leaves_the_core_to_others():
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "idle_server", "1.0")
    assert ended.code == 0, ended
    [cost] = ended.told()
    assert cost["wall_s"] > 4.9
    assert cost["cpu_s"] < 0.1 * cost["wall_s"], cost


def test_doctor_finds_mpi_well():
    ended = mpi_jobs.psopt("doctor")
    assert ended.code == 0, ended
    assert "rank 1 of 2" in ended.out
    assert "all well" in ended.out


def test_a_library_that_sees_another_world_is_refused(tmp_path):
    """As when srun or a foreign mpiexec starts N singletons: the environment says 3, the library sees 1."""
    ended = mpi_jobs.psopt("run", CONFIGS / "lag_wk.yaml", "--out", tmp_path / "run", PMI_SIZE="3", PMI_RANK="0")
    assert ended.code != 0
    if "sees 1" not in ended.err:  # some libraries refuse by themselves, before psopt can
        assert "psopt" not in ended.out
        assert ended.seconds < 60
    assert not (tmp_path / "run").exists()


def test_a_table_that_would_be_overwritten_is_refused_on_every_rank(tmp_path):
    (tmp_path / "here").write_text("something of the user's")
    options = ["--task", "linear", "--protocol", "authors", "--out", tmp_path]
    ended = mpi_jobs.mpiexec(3, "-m", "psopt", "reproduce", "lag-real", *options)
    assert ended.code == 2, ended
    assert len(ended.said) == 1
    assert "is not empty" in ended.said[0]
    assert ended.seconds < 30


def test_default_ranks_are_the_server_and_as_many_workers_as_cores():
    assert launch.default_ranks(9) == 1 + min(9, launch.cores())
    assert launch.default_ranks(1) == 2
