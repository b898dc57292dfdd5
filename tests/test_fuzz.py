"""The short form of ``make test-fuzz``; and that the fuzzer itself sees what it is made to see."""

import random
import shutil
import signal

import numpy as np
import pytest
from fuzz import plain_readers, runner
from fuzz.judge import Case, TooLong, Wrong, judged, limited, untimed

from psopt.errors import ConfigError

CASES = 300


@pytest.mark.parametrize("seed", [101])
def test_mutated_inputs_are_accepted_rightly_or_refused_in_a_sentence(seed, tmp_path):
    report = runner.Report(seed)
    runner.fuzz(seed, CASES, tmp_path, report)
    print(report.table())
    assert not report.found, report.faults(tmp_path)
    counts = report.kinds.values()
    assert sum(each["accepted"] for each in counts) > CASES / 20
    assert sum(each["refused"] for each in counts) > CASES / 2
    assert len(report.kinds) > 20


def test_cases_are_made_of_seed_and_number_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def inputs(number):
        """The files of a case, but for zip archives, which hold the time."""
        here = tmp_path / "case"
        here.mkdir()
        runner.MAKERS[number % len(runner.MAKERS)](random.Random(f"7/{number}"), here)
        files = [path for path in sorted(here.rglob("*")) if path.is_file() and path.suffix != ".npz"]
        made = {path.name: path.read_bytes() for path in files}
        shutil.rmtree(here)
        return made

    numbers = range(60)
    assert [inputs(number) for number in numbers] == [inputs(number) for number in numbers]


def refusing(text):
    def act():
        raise ConfigError(text)

    return act


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (raising(KeyError("x")), "KeyError in the fuzzer"),
        (raising(RuntimeWarning("x")), "RuntimeWarning in the fuzzer"),
        (raising(TooLong()), "hangs in the fuzzer"),
        (raising(Wrong("other numbers")), "wrong: other numbers"),
        (refusing(""), "a refusal says nothing"),
        (refusing("c.yaml: one\n\nc.yaml: two"), "a refusal with an empty line or a traceback"),
        (refusing("something is wrong"), "a refusal that names neither file nor key"),
        (refusing("c.yaml:" + "x" * 3000), "a refusal of more than 2000 characters"),
    ],
)
def test_faults_are_seen(act, what, tmp_path):
    verdict = judged(Case("any", act, ("c.yaml",)), tmp_path)
    assert (verdict.outcome, verdict.what.partition(" (")[0]) == ("fault", what)


def test_good_refusals_and_ends_are_no_faults(tmp_path):
    assert judged(Case("any", refusing("c.yaml:3: seed: found 1.5"), ("c.yaml",)), tmp_path).outcome == "refused"
    assert judged(Case("any", lambda: None), tmp_path).outcome == "accepted"
    (tmp_path / "executed").mkdir()
    assert judged(Case("any", lambda: None), tmp_path).what == "wrong: data were executed"


def test_hangs_end(tmp_path):
    with pytest.raises(TooLong), limited(0.05):
        signal.pause()
    with limited(0.05), untimed():
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_the_report_tells_a_fault_once_with_a_way_to_have_it_again(tmp_path):
    report = runner.Report(5)
    for number in (3, 8):
        report.add(number, judged(Case("some kind", raising(KeyError("x"))), tmp_path))
    assert report.table().splitlines()[1].split() == ["some", "kind", "2", "0", "0", "2"]
    told = report.faults(tmp_path)
    assert told.count("FAULT") == 1
    assert "(2 cases)" in told
    assert "python -m fuzz --seed 5 --only 3" in told


def test_plain_readers(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"1 2:0.5 2:0.5 # why\n\n-1\n")
    assert plain_readers.libsvm(str(path)) == ([{1: 1.0}, {}], [1.0, -1.0])
    path.write_bytes(b"a,b,y\n1,0,3\n")
    assert plain_readers.delimited(str(path), "a", None, ",") == ([{1: 3.0}], [1.0])
    np.save(tmp_path / "x.npy", np.asfortranarray([[1, 2], [0, 4]], dtype=">i2"))
    np.save(tmp_path / "y.npy", [True, False])
    assert plain_readers.npy(str(tmp_path / "x.npy"), str(tmp_path / "y.npy")) == ([{0: 1.0, 1: 2.0}, {1: 4.0}], [1, 0])
    path.write_bytes(b"\0\0\x0b\2\0\0\0\1\0\0\0\2\0\1\xff\xff")
    (tmp_path / "l").write_bytes(b"\0\0\x08\1\0\0\0\1\7")
    assert plain_readers.idx_pair(str(path), str(tmp_path / "l")) == ([{0: 1.0, 1: -1.0}], [7.0])
