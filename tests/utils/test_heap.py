"""Freed memory stays with the process: on CPUs, with glibc, where the user has not decided otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from ppcls_ext.utils import cpu_settings, heap

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the system has another C library")

FAULTS = """
import ctypes, resource
import ppcls_ext
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def touch(size=2**26):
    block = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 1, size)
    libc.free(ctypes.c_void_p(block))
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in (*heap.VARIABLES, "GLIBC_TUNABLES", cpu_settings.SWITCH):
        monkeypatch.delenv(name, raising=False)


def faults(kept: bool) -> int:
    environment = os.environ if kept else {**os.environ, cpu_settings.SWITCH: "0"}
    run = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


@needs_glibc
@pytest.mark.compat
def test_the_pages_of_a_freed_block_are_used_again():
    """64 MB are 16384 pages of 4 KB, or 32 of 2 MB; kept, none of them has to be mapped a second time."""
    assert faults(kept=False) >= 32
    assert faults(kept=True) < 8


@pytest.mark.parametrize(
    "name, value",
    [(name, "1") for name in heap.VARIABLES]
    + [("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"), (cpu_settings.SWITCH, "0")],
)
def test_what_the_user_set_stays(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not heap.keep_freed_memory()


def test_other_tunables_are_none_of_the_heaps(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.cpu.x86_ibt=off")
    assert not heap.is_set_by_user()


@pytest.mark.parametrize(
    "installed, expected",
    [("paddlepaddle", True), ("paddlepaddle-gpu", False), ("paddlepaddle paddlepaddle-gpu", False), ("", False)],
    ids=["CPU", "GPU", "both", "none"],
)
def test_only_a_paddle_for_cpus_is_touched(monkeypatch, installed, expected):
    monkeypatch.setattr(heap.metadata, "distributions", lambda name: [name] if name in installed.split() else [])
    assert heap.is_for_cpus() is expected
