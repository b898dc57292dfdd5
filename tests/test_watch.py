"""`psopt watch`: traces read while they grow, states of a run, places in a queue, forecasts, and what is shown."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import mpi_jobs
import pytest
from helpers import tiny

from psopt.cli import cli
from psopt.config import parse
from psopt.errors import ConfigError
from psopt.runs.experiment import Plan, simulate
from psopt.runs.occupancy import occupied
from psopt.views.watching import following, forecast, watch
from psopt.views.watching.following import Follower
from psopt.views.watching.queue import JOB, Entry, Queue, Submitted, submitted
from psopt.views.watching.standing import State, Watched

LOOK_S = 0.05


def run(folder, **changes):
    return simulate(Plan(parse(tiny(**changes)), folder, quiet=True))


def line(k, **fields):
    return json.dumps({"round": k, "compute_s": k / 4, "wait_s": k / 4, **fields}).encode() + b"\n"


def rounds(follower):
    follower.look()
    return [record["round"] for record in follower.records]


def test_a_growing_trace_is_read_as_it_grows(tmp_path):
    path = tmp_path / "trace.jsonl"
    follower = Follower(path)
    assert rounds(follower) == []
    assert follower.written_at is None
    path.write_bytes(line(0) + line(1) + line(2)[:7])
    assert rounds(follower) == [0, 1]
    assert follower.written_at == path.stat().st_mtime
    with open(path, "ab") as file:
        file.write(line(2)[7:-1])
        file.flush()
        assert rounds(follower) == [0, 1]  # whole, but for the end of the line
        file.write(b"\n" + line(3))
    assert rounds(follower) == [0, 1, 2, 3]
    path.unlink()
    assert rounds(follower) == []


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(map(line, range(50))))
    follower, parsed = Follower(path), []
    reading = following._record
    monkeypatch.setattr(following, "_record", lambda text: parsed.append(text) or reading(text))
    assert rounds(follower) == list(range(50))
    with open(path, "ab") as file:
        file.write(line(50))
    del parsed[:]
    assert rounds(follower)[-1] == 50
    assert len(parsed) == 1
    monkeypatch.setattr(following, "TAIL_NBYTES", 300)
    late = rounds(Follower(path))
    assert late == list(range(late[0], 51))
    assert 3 <= len(late) <= 8


def test_a_trace_that_is_cut_or_replaced_is_read_anew(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(map(line, range(9))))
    follower = Follower(path)
    assert rounds(follower) == list(range(9))
    path.write_bytes(b"".join(map(line, range(3))))  # cut
    assert rounds(follower) == [0, 1, 2]
    path.write_bytes(b"".join(map(line, range(0, 40, 3))))  # cut, and longer again by the next look: same length a line
    assert rounds(follower)[-3:] == [33, 36, 39]
    assert rounds(follower)[0] in (0, 9, 3)
    other = tmp_path / "other"
    other.write_bytes(b"".join(map(line, range(5))))
    os.replace(other, path)
    assert rounds(follower) == [0, 1, 2, 3, 4]
    path.write_bytes(line(0) + b"garbage\n" + b"[1]\n" + line(7))
    assert rounds(follower) == [0, 7]


def records(gaps, every=1, spacing_s=0.5, **fields):
    return [
        {"round": k * every, "uploads": 2 * k, "local_steps": 5 * k, "gap": gap, "compute_s": k * spacing_s, **fields}
        for k, gap in enumerate(gaps)
    ]


def test_a_geometric_gap_is_forecast():
    falling = records([10.0 * 0.5**k for k in range(41)])  # halves every half second
    assert forecast.seconds_left(falling, {"gap": 1e-14}) == pytest.approx(
        0.5 * (math.log(falling[-1]["gap"] / 1e-14) / math.log(2)), rel=1e-9
    )
    wavy = records([10.0 * 0.5**k * (1.5 if k % 2 else 1.0) for k in range(41)])
    assert forecast.seconds_left(wavy, {"gap": 1e-14}) == pytest.approx(5.0, abs=0.8)
    slow_start = records([10.0] * 100 + [10.0 * 0.5**k for k in range(101)])
    assert forecast.seconds_left(slow_start, {"gap": 1e-31}) == pytest.approx(
        0.5 * math.log2(slow_start[-1]["gap"] / 1e-31), rel=0.05
    )
    for hopeless in (records([1.0] * 30), records([2.0**k for k in range(30)]), records([None] * 30), falling[:3]):
        assert forecast.seconds_left(hopeless, {"gap": 1e-9}) is None


def test_counts_are_forecast_and_the_first_target_counts():
    falling = records([10.0 * 0.5**k for k in range(41)], every=3)
    assert forecast.rate(falling) == pytest.approx(6.0)
    assert forecast.seconds_left(falling, {"max_rounds": 180}) == pytest.approx(10.0)
    assert forecast.seconds_left(falling, {"max_uploads": 84}) == pytest.approx(1.0)
    assert forecast.seconds_left(falling, {"max_steps": 210}) == pytest.approx(1.0)
    assert forecast.seconds_left(falling, {"max_seconds": 23}) == pytest.approx(3.0)
    assert forecast.seconds_left(falling, {"max_rounds": 180, "gap": 1e-14, "max_seconds": 100}) < 10.0
    assert forecast.seconds_left(falling, {"max_rounds": 6}) == 0.0
    assert forecast.seconds_left(falling, {"test_accuracy": 0.9}) is None
    assert forecast.seconds_left([], {"max_rounds": 6}) is None
    quicker = records([1.0] * 21, spacing_s=1.0)
    quicker += [{**quicker[-1], "round": 20 + k, "compute_s": 20 + 0.1 * k} for k in range(1, 101)]
    assert forecast.rate(quicker) == pytest.approx(10.0)


def test_a_sparkline():
    assert forecast.spark([0, 1, 2, 3], 4, "abcd") == "abcd"
    assert forecast.spark([3] * 5 + [1] * 5, 2, "ab") == "ba"
    assert forecast.spark([2, 2, 2], 12, "ab") == "aaa"
    assert forecast.spark([1.0], 12, "ab") == forecast.spark([], 12, "ab") == ""
    assert len(forecast.spark(list(range(1000)), 12, "abcdefgh")) == 12


def look(folder, job=None, task=None, queue=None):
    return Watched(folder, folder.name, job, task).look(queue or Queue())


def test_a_run_that_has_ended(tmp_path):
    done = run(tmp_path / "r")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*")}
    seen = look(tmp_path / "r")
    assert (seen.state, seen.note, seen.progress, seen.recipe) == (State.ENDED, "max_rounds", "8", "lag-wk")
    assert (seen.uploads, seen.share, seen.elapsed_s) == (done.uploads.sum(), done.uploads.mean(), done.wall_s)
    assert seen.nbytes == done.payload_bytes_up + done.payload_bytes_down
    assert seen.measure == f"gap {done.gap:.2e}"
    assert len(seen.course) == 9
    assert (seen.left_s, seen.silent_s) == (None, None)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*")} == before


def test_states_of_a_folder(tmp_path):
    folder = tmp_path / "r"
    watched = Watched(folder, "r")

    def state():
        seen = watched.look(Queue())
        return seen.state, seen.note

    assert state() == (State.WAITING, "no such folder yet")
    folder.mkdir()
    assert state() == (State.WAITING, "no run in it yet")
    with occupied(folder):
        assert state() == (State.STARTING, "")
    folder.rmdir()
    assert state() == (State.GONE, "its folder was removed")
    run(folder)
    summary = (folder / "summary.json").read_text()
    assert state() == (State.ENDED, "max_rounds")
    (folder / "summary.json").unlink()
    assert state() == (State.CUT_OFF, "its process is gone")
    with occupied(folder):
        assert state() == (State.RUNNING, "")
    for status, reason, expected in [
        ("failed: it blew up", None, (State.FAILED, "it blew up")),
        ("stopped", "interrupted", (State.STOPPED, "interrupted")),
        ("ok", "gap", (State.ENDED, "gap")),
    ]:
        changed = {**json.loads(summary), "status": status, "stop_reason": reason}
        (folder / "summary.json").write_text(json.dumps(changed))
        assert state() == expected
    (folder / "summary.json").write_text(summary[:50])  # half written, and nobody at it
    assert state() == (State.CUT_OFF, "its process is gone")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("workers", "three", "config.yaml has no number `workers`"),
        ("workers", True, "config.yaml has no number `workers`"),
        ("repeat", "2", "config.yaml has no number `repeat`"),
        ("stop", "soon", "`stop` is no mapping"),
        ("stop", {"max_rounds": "ten"}, "config.yaml has no number `stop.max_rounds`"),
        ("algorithm", [1], "config.yaml is no resolved config"),
        ("algorithm", {"recipe": ["gd"]}, "config.yaml has no name `algorithm.recipe`"),
    ],
)
def test_a_damaged_config_is_told_beside_the_state(tmp_path, key, value, said):
    folder = tmp_path / "r"
    config = {**run(folder).config, key: value}
    (folder / "config.yaml").write_text(json.dumps(config))
    ended = look(folder)
    assert (ended.state, ended.progress) == (State.ENDED, "8")
    assert ended.note == f"max_rounds; holds a broken run: {said}".replace(
        "run: `", "run: config.yaml is no resolved config: `"
    )
    (folder / "summary.json").unlink()
    with occupied(folder):
        seen = look(folder)
    assert (seen.state, seen.uploads) == (State.RUNNING, ended.uploads)
    assert said in seen.note
    seen = look(folder)
    assert seen.state is State.CUT_OFF
    assert seen.note.startswith("its process is gone; ") and said in seen.note  # noqa: PT018
    watch._table([ended, seen], 200, None)


def test_what_else_may_be_damaged(tmp_path):
    folder = tmp_path / "r"
    run(folder)
    config = (folder / "config.yaml").read_bytes()
    for content, said in [
        (b"a: [", "config.yaml"),
        (b"\xff", "config.yaml is not UTF-8 text"),
        (b"", "no resolved config"),
    ]:
        (folder / "config.yaml").write_bytes(content)
        assert said in look(folder).note
    (folder / "config.yaml").write_bytes(config)
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("rounds", "uploads", "wall_s", "payload_bytes_up"):
        (folder / "summary.json").write_text(json.dumps({**summary, name: "many"}))
        seen = look(folder)
        assert (seen.state, seen.note) == (State.ENDED, f"max_rounds; summary.json has no number `{name}`")
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = (folder / "trace.jsonl").read_text().splitlines()
    damaged = [
        json.dumps({**json.loads(line), name: "x"})
        for line, name in zip(lines, ("uploads", "gap", "rest_s"), strict=False)
    ]
    (folder / "trace.jsonl").write_text("\n".join([*damaged, *lines[3:]]) + "\n")
    assert len(look(folder).course) == len(lines) - 3
    for points in ("3", True, [3]):
        (tmp_path / "r.slurm").mkdir(exist_ok=True)
        (tmp_path / "r.slurm" / JOB).write_text(json.dumps({"job": "42", "points": points}))
        assert submitted(folder) is None


def test_a_run_that_has_stalled(tmp_path):
    folder = tmp_path / "r"
    run(folder)
    (folder / "summary.json").unlink()
    long_ago = time.time() - 500
    for name in ("trace.jsonl", "uploads.bin"):
        os.utime(folder / name, (long_ago, long_ago))
    with occupied(folder):
        seen = look(folder)
    assert (seen.state, seen.note, seen.rate, seen.left_s) == (State.RUNNING, "stalled?", 0.0, None)
    assert 499 < seen.silent_s < 520


def test_replicas_are_counted(tmp_path):
    folder = tmp_path / "r"
    run(folder, repeat=3, algorithm="sgd")
    (folder / "summary.json").unlink()
    (folder / "replica-002" / "summary.json").unlink()
    with occupied(folder):
        seen = look(folder)
    assert (seen.state, seen.progress) == (State.RUNNING, "2 of 3 replicas")
    assert seen.left_s == pytest.approx(seen.elapsed_s / 2)


FAKE = """#!/bin/bash
echo "$0 $*" >> {log}
case "$*" in
*--states=all*) {all} ;;
*--partition=short*) printf '70|200\\n42|100\\n80|100\\n41|150\\n99|0\\n70|200\\n' ;;
*JobID,State*) printf '50|TIMEOUT\\n50.batch|CANCELLED\\n' ;;
esac
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A squeue and a sacct that answer from a script; returns what they were called as."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    log = tmp_path / "log"

    def answering(everything):
        for name in ("squeue", "sacct"):
            (commands / name).write_text(FAKE.format(log=log, all=everything))
            (commands / name).chmod(0o755)
        return log

    return answering


def test_the_place_in_the_queue(slurm):
    log = slurm(
        "printf '42|N/A|PENDING|Priority|short|100|2026-11-27T12:40:00\\n70|1|PENDING|Resources|short|200|N/A\\n"
        "70|0|RUNNING|None|short|200|2026-11-27T12:00:00\\n99|N/A|PENDING|JobHeldUser|short|0|N/A\\n'"
    )
    queue = Queue()
    queue.ask(["42", "70", "99", "50"])
    assert str(queue.of("42")) == "place 3 of 5 in short, expected 11-27 12:40 (Priority)"
    assert str(queue.of("70", 1)) == "place 1 of 5 in short (Resources)"
    assert str(queue.of("99")) == "place 5 of 5 in short (JobHeldUser)"
    assert (queue.of("70", 0).state, str(queue.of("70", 0))) == ("RUNNING", "running")
    assert queue.of("50") == Entry("TIMEOUT")
    assert queue.of("50").over
    assert queue.of("60") is None
    said = log.read_text()
    assert said.count("squeue") == 2
    queue.ask(["42"])
    assert log.read_text() == said, "Slurm is asked seldom"


def test_a_submitted_run_waits_starts_and_goes_on(slurm, tmp_path):
    slurm("printf '42|N/A|PENDING|Priority|short|100|N/A\\n'")
    folder = tmp_path / "r"
    (tmp_path / "r.slurm").mkdir()
    (tmp_path / "r.slurm" / JOB).write_text(json.dumps({"job": "42", "points": None}))
    assert submitted(folder) == Submitted("42")

    def state():
        return [(one.state, one.note) for one in watch.View([folder]).look()]

    assert state() == [(State.WAITING, "place 3 of 5 in short (Priority)")]
    slurm("printf '42|N/A|RUNNING|None|short|100|N/A\\n'")
    assert state() == [(State.STARTING, "job 42 is running")]
    run(folder)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "status": "stopped", "stop_reason": "interrupted"}))
    slurm("printf '42|N/A|PENDING|BeginTime|short|100|N/A\\n'")
    assert state() == [(State.WAITING, "place 3 of 5 in short (BeginTime), to go on")]
    (folder / "summary.json").unlink()
    slurm("printf '42|N/A|TIMEOUT|None|short|100|N/A\\n'")
    assert state() == [(State.CUT_OFF, "Slurm says timeout")]
    for name in list(folder.rglob("*"))[::-1]:
        name.unlink() if name.is_file() else name.rmdir()
    folder.rmdir()
    assert state() == [(State.FAILED, "job 42 has left no run (Slurm says timeout)")]
    slurm("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert state() == [(State.FAILED, "job 42 has left no run (Slurm knows it no longer)")]
    slurm("echo 'Unable to contact slurm controller' >&2; exit 1")
    assert state() == [(State.WAITING, "job 42; squeue does not answer")]


def test_submit_leaves_what_watch_asks_for(slurm, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")  # for the folders' names
    slurm("printf '42|0|PENDING|Priority|short|100|N/A\\n42|1|PENDING|Priority|short|100|N/A\\n'")
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text("#!/bin/bash\necho '42;cluster'\n")
    sbatch.chmod(0o755)
    config = tmp_path / "small.yaml"
    config.write_text(json.dumps(tiny()))
    for name, grid, points in [("one", [], None), ("array", ["--grid", "seed=1,2"], 2)]:
        code = cli.main(["submit", str(config), "--out", str(tmp_path / name), *grid], standalone_mode=False)
        assert code == 0
        assert submitted(tmp_path / name) == Submitted("42", points)
    capsys.readouterr()
    code, out = shown(tmp_path / "array", "--once", capsys=capsys)
    assert code == 0
    assert out.count("waiting: place 3 of 5 in short (Priority)") == 2


def test_an_array_shows_all_its_points(slurm, tmp_path):
    slurm("printf '42|1|PENDING|Priority|short|100|N/A\\n42|2|RUNNING|None|short|100|N/A\\n'")
    (tmp_path / "s.slurm").mkdir()
    (tmp_path / "s.slurm" / JOB).write_text(json.dumps({"job": "42", "points": 3}))
    run(tmp_path / "s" / "point-000")
    for view in (watch.View([tmp_path / "s"]), watch.View([tmp_path])):
        seen = {one.name: (one.state, one.note) for one in view.look()}
        assert seen == {
            str(tmp_path / "s" / "point-000"): (State.ENDED, "max_rounds"),
            str(tmp_path / "s" / "point-001"): (State.WAITING, "place 3 of 5 in short (Priority)"),
            str(tmp_path / "s" / "point-002"): (State.STARTING, "job 42 is running"),
        }


def shown(*arguments, capsys):
    code = cli.main(["watch", *map(str, arguments)], standalone_mode=False)
    return code, capsys.readouterr().out


def test_once_prints_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    run(tmp_path / "a")
    run(tmp_path / "s" / "one", algorithm="gd")
    run(tmp_path / "s" / "cut.failed-1")
    code, out = shown(tmp_path / "a", tmp_path / "s", tmp_path / "new", "--once", capsys=capsys)
    assert code == 0
    rows = [line.split() for line in out.splitlines() if str(tmp_path) in line]
    assert [row[0] for row in rows] == [str(tmp_path / "a"), str(tmp_path / "s" / "one"), str(tmp_path / "new")]
    assert rows[1][1:6] == ["ended:", "max_rounds", "gd", "8", "gap"]
    assert {"24", "(100.0%)"} <= {*rows[1]}
    assert rows[2][1:] == ["waiting:", "no", "such", "folder", "yet"]
    assert "1 waiting, 2 ended" in out
    assert "\x1b" not in out
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    (tmp_path / "a" / "summary.json").write_text(json.dumps({**summary, "status": "failed: [red]no[/]"}))
    code, out = shown(tmp_path / "a", "--once", capsys=capsys)
    assert code == 1
    assert "failed: [red]no[/]" in out
    monkeypatch.setenv("COLUMNS", "80")
    code, out = shown(tmp_path / "s", "--once", capsys=capsys)
    assert "payload" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_many_runs_give_way_to_those_that_matter(tmp_path):
    from psopt.views.watching.standing import Standing

    ended = [Standing(f"run-{i}", state=State.ENDED) for i in range(30)]
    failed = Standing("the-one", state=State.FAILED, note="why")
    table = watch._table([*ended, failed], 120, 10)
    assert table.row_count == 10
    assert table.columns[0]._cells[0] == "the-one"
    assert table.caption == "30 ended, 1 failed; 21 more rows would not fit"


SLOW = "faults=[{kind: delay, worker: 0, seconds: 0.02}]"


def test_lines_come_at_a_change_and_now_and_then(tmp_path, monkeypatch, capsys):
    """Without a terminal, of a run whose records come as the looks do."""
    folder = tmp_path / "r"
    run(folder, algorithm="gd", stop={"max_rounds": 40})
    lines, summary = (folder / "trace.jsonl").read_text().splitlines(True), (folder / "summary.json").read_text()
    (folder / "summary.json").unlink()
    (folder / "trace.jsonl").write_text("")
    (folder / "uploads.bin").write_bytes(b"")
    view, wait = watch.View([folder]), threading.Event.wait
    held = ExitStack()
    held.enter_context(occupied(folder))

    def pause(nobody, timeout=None):
        if lines:
            with open(folder / "trace.jsonl", "a") as file:
                file.writelines(lines[:10])
            del lines[:10]
        else:
            held.close()
            (folder / "summary.json").write_text(summary)

    monkeypatch.setattr(threading.Event, "wait", pause)
    monkeypatch.setattr(watch, "PLAIN_EVERY_S", 0.0)
    assert watch._plain(view, 0.0) == 0
    monkeypatch.setattr(threading.Event, "wait", wait)
    states = [line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert states[0] == "starting"
    going = [state for state in states if state.startswith("running; round ")]
    assert [state.split()[2] for state in going] == ["9", "19", "29", "39", "40"]
    assert all("rounds/s" in state and " to go" in state for state in going)
    assert states[-1].startswith("ended: max_rounds; round 40, uploads 120 (100.0%)")


def test_a_run_is_watched_to_its_end_from_outside(tmp_path):
    """Started before the run, without a terminal: a line a change, and it leaves when the run has ended."""
    config, folder = tmp_path / "small.yaml", tmp_path / "r"
    config.write_text(json.dumps(tiny(algorithm="gd", stop={"max_rounds": 120})))
    watching = mpi_jobs.start([sys.executable, "-m", "psopt", "watch", str(folder), "--interval", "0.1"])
    first = watching.stdout.readline()  # and no sooner is the run begun
    simulated = mpi_jobs.psopt("simulate", config, "--set", SLOW, "--out", folder, "--quiet")
    assert simulated.code == 0, simulated
    ended = mpi_jobs.finish(watching, timeout_s=60)
    assert (ended.code, ended.err) == (0, ""), ended
    assert first.endswith(": waiting: no such folder yet\n")
    assert ": ended: max_rounds; round 120, uploads 360 (100.0%)" in ended.out.splitlines()[-1]


def test_a_killed_run_is_cut_off_and_ctrl_c_leaves_quietly(tmp_path):
    config, folder = tmp_path / "small.yaml", tmp_path / "r"
    config.write_text(json.dumps(tiny(stop={"max_rounds": 100000})))
    job = mpi_jobs.start([sys.executable, "-m", "psopt", "simulate", str(config), "--set", SLOW, "--out", str(folder)])
    other = mpi_jobs.start([sys.executable, "-m", "psopt", "watch", str(tmp_path / "nowhere"), "--interval", "0.1"])
    watched, until = Watched(folder, "r"), time.monotonic() + 60
    while (seen := watched.look(Queue())).state is not State.RUNNING:
        assert time.monotonic() < until, seen
        time.sleep(LOOK_S)
    assert seen.left_s is None or seen.left_s > 100
    assert other.stdout.readline().endswith("nowhere: waiting: no such folder yet\n")
    other.send_signal(signal.SIGINT)
    ended = mpi_jobs.finish(other, timeout_s=30)
    assert (ended.code, ended.out, ended.err) == (130, "", "")
    job.send_signal(signal.SIGKILL)
    mpi_jobs.finish(job, timeout_s=30)
    assert watched.look(Queue()).state is State.CUT_OFF
    assert watch.View([folder]).look()[0].note == "its process is gone"


def test_a_folder_of_runs_is_over_when_no_more_can_come(tmp_path, monkeypatch):
    run(tmp_path / "s" / "point-000")
    view = watch.View([tmp_path / "s"])
    assert not view.over(view.look())  # another may begin
    (tmp_path / "s" / "table.json").write_text('{"schema": 1, "axes": [], "rows": []}')
    assert view.over(view.look())
    (tmp_path / "s" / "table.json").write_text('{"schema": 1, "rows": []}')  # of `psopt reproduce`, after each run
    assert not view.over(view.look())
    monkeypatch.setattr(watch, "MORE_WITHIN_S", 0.0)
    assert view.over(view.look())
    run(tmp_path / "r")
    alone = watch.View([tmp_path / "r"])
    assert alone.over(alone.look())


def test_wrong_input_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; expected a run folder, or a folder of runs"):
        watch.watch([tmp_path / "file"], 1.0, True)
    for arguments, said in [([], "Missing argument 'DIR...'"), ([tmp_path, "--interval", "0"], "is not in the range")]:
        done = subprocess.run(
            [sys.executable, "-m", "psopt", "watch", *map(str, arguments)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert said in done.stderr
