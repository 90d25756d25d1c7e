"""Child processes: what they answer, how much memory they needed, and why they died."""

import io
import json
import sys
from pathlib import Path

import pytest
from benchmark_subjects import MEGABYTE, Broken

from ppcls_ext.analysis.benchmark.child import Child, ChildError, environment
from ppcls_ext.analysis.benchmark.results import Case
from ppcls_ext.analysis.benchmark.worker import LONGEST_REASON, reason, serve
from ppcls_ext.utils.cpu_settings import MARK

HERE = Path(__file__).parent
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def child(subject, options=None, threads=1, timeout=60):
    return Child(f"benchmark_subjects:{subject}", Case(model="x", threads=threads), options, timeout, [HERE])


def test_a_child_answers_whatever_libraries_print():
    with child("Subject", threads=3) as process:
        facts = process.open(warmup=2)
        assert facts["library"] == "test 1.0" and facts["place"] == "3", "its number of threads"
        answer = process.round(runs=4, seconds=1e-9)
    assert len(answer["seconds"]) == 4 and all(value >= 0 for value in answer["seconds"])
    assert answer["stages"] == {}


@linux
@pytest.mark.parametrize("megabytes", [100, 300])
def test_the_peak_is_what_a_child_needed_and_no_more(megabytes):
    """Beyond what was there before: what it asked for, but for the fraction of a megabyte by which Linux miscounts."""
    with child("Greedy", {"bytes": megabytes * MEGABYTE}) as process:
        before = process.open()["loaded_bytes"]
        grown = process.round(1, 1e-9)["peak_bytes"] - before
    assert megabytes - 1 < grown / MEGABYTE < megabytes + 20


@pytest.mark.parametrize(
    "subject, options, message",
    [
        ("Refused", {}, "height must be a multiple of 32, got 33"),
        ("Broken", {"after": 0}, "ImportError: kernel is not registered"),
        ("Killed", {"signal": "SIGKILL"}, "died of SIGKILL \\(out of memory\\?\\): FatalError: heap is corrupted"),
        ("Killed", {"signal": "SIGABRT"}, "died of SIGABRT: FatalError: heap is corrupted"),
        ("Missing", {}, "AttributeError: .* has no attribute 'Missing'"),
    ],
)
def test_the_reason_of_a_failure(subject, options, message):
    with child(subject, options) as process, pytest.raises(ChildError, match=message):
        process.open(warmup=1)


def test_a_child_that_hangs_is_stopped():
    with child("Hangs", timeout=3) as process, pytest.raises(ChildError, match="no answer within 3 s"):
        process.open(warmup=1)


def test_a_failure_in_a_later_round_ends_the_service(capsys):
    case = Case(model="x").model_dump()
    requests = [{"subject": "benchmark_subjects:Broken", "case": case, "options": {"after": 3}, "warmup": 0}]
    requests += [{"runs": 1, "seconds": 1e-9}] * 4  # two runs each, the first not timed
    replies = io.StringIO()
    serve(io.StringIO("\n".join(map(json.dumps, requests))), replies)
    answers = [json.loads(line) for line in replies.getvalue().splitlines()]
    assert [sorted(answer)[0] for answer in answers] == ["facts", "peak_bytes", "error"]
    assert Broken.runs == 0, "of the class, not of the object"


def test_reasons_are_one_line():
    assert reason(KeyError("unknown backbone 'X'")) == "unknown backbone 'X'"
    assert reason(FileNotFoundError("dir holds no graph")) == "dir holds no graph"
    assert reason(FileNotFoundError(2, "No such file", "a")) == "FileNotFoundError: [Errno 2] No such file: 'a'"
    assert reason(RuntimeError("\nstack\n\n  the end \n")) == "the end"
    assert reason(AssertionError()) == "AssertionError"
    assert len(reason(ValueError("x" * 1000))) == LONGEST_REASON + 2


def test_threads_of_a_child_are_its_own(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv(MARK, "OMP_NUM_THREADS,MKL_DEBUG_CPU_TYPE")
    found = environment(2, ["/extra"])
    assert found["OMP_NUM_THREADS"] == found["FLAGS_paddle_num_threads"] == "2"
    assert "MKL_NUM_THREADS" not in found
    assert found[MARK] == "MKL_DEBUG_CPU_TYPE", "else the child would compute the number of threads anew"
    assert found["PYTHONPATH"].split(":")[1] == "/extra" or sys.platform == "win32"
