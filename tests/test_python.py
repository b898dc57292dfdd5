"""psopt from Python: the page and the example as they stand, what all ranks get, Ctrl-C, and mistakes."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mpi_jobs
import numpy as np
import pytest

import psopt
from psopt import signals
from psopt.errors import ConfigError

DOCS = Path(psopt.__file__).parent / "docs"
LOOK_S = 0.05
GIVEN = {"workers": 4, "stop": {"max_rounds": 30}}


def test_every_snippet_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "python.md").read_text()
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    space = {}
    for indent, block in blocks:
        exec(compile(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE), "python.md", "exec"), space)
    printed = capsys.readouterr().out
    for comment in re.findall(r"^ *print\([^\n]*\)  +# ([<m][^\n]*)", text, re.MULTILINE):  # what is said of the output
        assert comment.removesuffix(" ...") in printed, comment
    assert "on 1 ranks" in printed


def test_the_example_runs_in_one_process(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    began = time.monotonic()
    space = runpy.run_path(str(DOCS / "example_notebook.py"))
    assert time.monotonic() - began < 120  # or it hangs
    printed = capsys.readouterr().out
    lazy, noisy = space["lazy"], space["noisy"]
    assert list(lazy) == ["gd", "lag-wk", "lag-ps"]
    assert {run.stop_reason for run in lazy.values()} == {"gap"}
    assert "<Run lag-wk: status ok (gap), workers 9, " in printed
    assert space["spoke"]["lag-wk"].tolist() == lazy["lag-wk"].uploads.sum(axis=0).tolist()
    assert f"speaks least, in {lazy['lag-wk'].uploads.mean(axis=0).min():.1%} of the rounds" in printed
    assert noisy["sasg"].payload_bytes_up < noisy["sgd"].payload_bytes_up / 100
    assert noisy["sasg"].test_accuracy > 0.9
    assert (tmp_path / "who_has_to_speak.png").stat().st_size > 20_000


@pytest.mark.mpi
@pytest.mark.long
def test_the_example_runs_under_mpiexec(tmp_path):
    command = [
        "-c",
        f"import os, runpy; os.chdir({str(tmp_path)!r}); runpy.run_path({str(DOCS / 'example_notebook.py')!r})",
    ]
    ended = mpi_jobs.mpiexec(3, *command, MPLBACKEND="agg")
    assert ended.code == 0, ended
    assert ended.out.count("speaks least") == 1
    assert (tmp_path / "who_has_to_speak.png").is_file()


@pytest.mark.mpi
def test_every_rank_gets_the_whole_run_and_mistakes_come_once(tmp_path):
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "all_of_the_api", tmp_path / "run")
    saw = sorted(ended.told())
    assert [(rank, ranks) for rank, ranks, *_ in saw] == [(0, 3), (1, 3), (2, 3)], ended
    assert len({json.dumps(rest) for _, _, *rest in saw}) == 1, ended
    _, _, said, folder, ranks, gaps, rows = saw[0]
    assert said == "minimize: unknown keyword `progres`; did you mean `progress`?; interrupted"
    assert (folder, ranks, rows) == (str(tmp_path / "run"), 3, [31, 31, 31])
    alone = [psopt.minimize("least-squares", "lag-increasing", name, **GIVEN) for name in ("lag-wk", "gd", "lag-ps")]
    assert gaps[:4] == [alone[0].gap, alone[0].gap, alone[1].gap, alone[2].gap]
    assert gaps[5] == alone[0].gap
    assert psopt.load_run(f"{folder}-2").manifest["resumed"][0]["round"] >= 9
    assert ended.err.count("psopt: run: lag-wk, 4 workers and the server on 3 ranks") == 1
    # The last call is wrong on all ranks alike: told once, and nobody is aborted.
    assert ended.code != 0
    assert sum("unknown recipe 'lagwk'; did you mean `lag-wk`?" in line for line in ended.said) == 1, ended
    assert "MPI_ABORT" not in ended.err


def test_a_plain_process_is_rank_0_of_1_and_asking_is_light():
    code = "import psopt, sys; print(psopt.rank(), psopt.ranks()); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["0", "1", "False"]
    assert set(psopt.__all__) == {"load_run", "load_runs", "minimize", "rank", "ranks"}
    with pytest.raises(AttributeError, match="no attribute 'minimise'"):
        _ = psopt.minimise


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ({"worker": 3}, "minimize: unknown keyword `worker`; did you mean `workers`?"),
        ({"theta_0": 1}, "did you mean `theta0`?"),
        ({"checkpoints": {}}, "did you mean `checkpoint`?"),
        ({"recipe": "gd"}, "minimize: unknown keyword `recipe`; "),
        ({"stop": {"gapp": 1}}, "minimize: stop.gapp: unknown key; did you mean `gap`?"),
        ({"resume": True}, "`resume` needs `out`"),
    ],
)
def test_mistakes_have_a_near_name(keyword, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        psopt.minimize("logistic", (np.ones((10, 2)), np.ones(10)), **keyword)


ENDLESS = """
import sys, psopt
stop, trace = {"max_rounds": 10**8}, {"every": 50}
psopt.minimize("least-squares", "lag-increasing", workers=2, stop=stop, trace=trace, out=sys.argv[1])
"""


def test_an_interrupt_ends_after_the_round_with_a_checkpoint(tmp_path):
    folder = tmp_path / "run"
    job = mpi_jobs.start([sys.executable, "-c", ENDLESS, str(folder)])
    until = time.monotonic() + 60
    while not (folder / "trace.jsonl").exists() or not (folder / "trace.jsonl").stat().st_size:
        assert job.poll() is None
        assert time.monotonic() < until
        time.sleep(LOOK_S)
    os.kill(job.pid, signal.SIGINT)
    ended = mpi_jobs.finish(job, timeout_s=30)
    assert ended.code in (-signal.SIGINT, 130), ended
    assert "psopt: will end after this round; once more, and it ends now" in ended.err
    assert "KeyboardInterrupt" in ended.err
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["stop_reason"]) == ("stopped", "interrupted")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"round-{summary['rounds']:09d}"]
    again = psopt.minimize(
        "least-squares",
        "lag-increasing",
        workers=2,
        stop={"max_rounds": summary["rounds"] + 20},
        trace={"every": 50},
        out=folder,
        resume=True,
    )
    assert again.rounds == summary["rounds"] + 20


def handlers():
    return [signal.getsignal(number) for number in (*signals.ASKING, signals.WARNING, signal.SIGALRM)]


def test_a_programs_own_handlers_are_left_alone(tmp_path, monkeypatch):
    before = handlers()
    psopt.minimize("least-squares", "lag-increasing", **GIVEN, out=tmp_path / "a")
    assert handlers() == before
    with signals.answering(first=True):
        assert handlers() != before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before
    assert not signals.asked()

    signal.alarm(60)
    try:
        with signals.answering(first=True):
            assert handlers() == before
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
    finally:
        signal.alarm(0)

    def own(number, frame):
        raise RuntimeError

    monkeypatch.setattr(signals, "_wish", signals.Wish())
    for number, usual in zip((signals.WARNING, signal.SIGALRM), before[-2:], strict=True):
        signal.signal(number, own)
        try:
            mine = handlers()
            with signals.answering(first=True):
                assert handlers() == mine
        finally:
            signal.signal(number, usual)
    thread = threading.Thread(
        target=lambda: psopt.minimize("least-squares", "lag-increasing", **GIVEN, out=tmp_path / "b")
    )
    thread.start()
    thread.join(30)
    assert psopt.load_run(tmp_path / "b").rounds == 30
