"""The environment that ``import ppcls_ext`` prepares for Paddle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls_ext.utils import cpu_settings

REPOSITORY = Path(__file__).parents[2]
VARIABLES = cpu_settings.VARIABLES
LAUNCHER = (
    cpu_settings.SWITCH,
    cpu_settings.MARK,
    "PADDLE_LOCAL_SIZE",
    "PADDLE_CURRENT_ENDPOINT",
    "PADDLE_TRAINER_ENDPOINTS",
)

AVX_512 = "avx512f avx512dq avx512cd avx512bw avx512vl"
ZEN_3 = "vendor_id : AuthenticAMD\nflags : fpu fma avx2\n"
ZEN_4 = f"vendor_id : AuthenticAMD\nflags : fpu fma avx2 {AVX_512} avx512_vnni\n"
XEON = f"vendor_id : GenuineIntel\nflags : fpu fma avx2 {AVX_512}\n"


@pytest.fixture
def machine(monkeypatch):
    """A process that has not imported Paddle, on an AMD machine of 8 cores, with nothing set."""
    for name in (*VARIABLES, *LAUNCHER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    monkeypatch.setattr(cpu_settings, "usable_cores", lambda: 8)
    monkeypatch.setattr(cpu_settings, "processor", lambda: ZEN_3)
    yield monkeypatch
    for name in (
        *VARIABLES,
        cpu_settings.MARK,
    ):  # those that were set by the function under test, not through monkeypatch
        os.environ.pop(name, None)


def present() -> dict:
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def test_nothing_set_means_all_cores(machine):
    chosen = cpu_settings.set_cpu_defaults()
    assert chosen == {**dict.fromkeys(cpu_settings.THREAD_VARIABLES, "8"), "MKL_DEBUG_CPU_TYPE": "5"}
    assert present() == chosen


@pytest.mark.parametrize(
    "processor, path",
    [(ZEN_3, "5"), (ZEN_4, "7"), (ZEN_4.replace("avx512dq", ""), "5"), (XEON, None), ("", None)],
    ids=["AVX2", "AVX-512", "part of AVX-512", "Intel", "unknown"],
)
def test_only_amd_processors_need_an_mkl_path(machine, processor, path):
    machine.setattr(cpu_settings, "processor", lambda: processor)
    assert cpu_settings.set_cpu_defaults().get("MKL_DEBUG_CPU_TYPE") == path == os.environ.get("MKL_DEBUG_CPU_TYPE")


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_set_stays(machine, name):
    machine.setenv(name, "3")
    assert name not in cpu_settings.set_cpu_defaults()
    assert os.environ[name] == "3"
    assert set(present()) == set(VARIABLES)


def test_what_a_parent_process_chose_is_computed_anew(machine):
    """A launched child gets its share, not the whole machine that its parent had."""
    cpu_settings.set_cpu_defaults()
    machine.setenv("PADDLE_LOCAL_SIZE", "4")
    assert cpu_settings.set_cpu_defaults()["OMP_NUM_THREADS"] == "2" == os.environ["FLAGS_paddle_num_threads"]


def test_the_launchers_own_single_thread_is_not_the_users(machine):
    """Paddle sets OMP_NUM_THREADS=1 when the launcher imports it; with the flag beside it, it is the user's."""
    machine.setenv("PADDLE_CURRENT_ENDPOINT", "10.0.0.1:60209")
    machine.setenv("PADDLE_TRAINER_ENDPOINTS", "10.0.0.1:60209,10.0.0.1:48983")
    machine.setenv("OMP_NUM_THREADS", "1")
    assert cpu_settings.set_cpu_defaults()["OMP_NUM_THREADS"] == "4"
    for name, value in (("OMP_NUM_THREADS", "1"), ("FLAGS_paddle_num_threads", "1"), (cpu_settings.MARK, "")):
        machine.setenv(name, value)
    assert "OMP_NUM_THREADS" not in cpu_settings.set_cpu_defaults()


@pytest.mark.parametrize(
    "processes, threads", [("1", "8"), ("2", "4"), ("3", "2"), ("8", "1"), ("16", "1"), ("0", "8"), ("", "8")]
)
def test_launched_processes_share_the_cores(machine, processes, threads):
    machine.setenv("PADDLE_LOCAL_SIZE", processes)
    assert {cpu_settings.cpu_defaults()[name] for name in cpu_settings.THREAD_VARIABLES} == {threads}


@pytest.mark.parametrize(
    "addresses, threads",
    [("10.0.0.1:60209,10.0.0.1:48983", "4"), ("10.0.0.1:60209,10.0.0.2:60209", "8"), ("", "8")],
    ids=["one machine", "two machines", "not launched"],
)
def test_on_cpus_the_launcher_lists_addresses_only(machine, addresses, threads):
    machine.setenv("PADDLE_CURRENT_ENDPOINT", addresses.partition(",")[0])
    machine.setenv("PADDLE_TRAINER_ENDPOINTS", addresses)
    assert {cpu_settings.cpu_defaults()[name] for name in cpu_settings.THREAD_VARIABLES} == {threads}


def test_the_switch_leaves_the_environment_alone(machine):
    machine.setenv(cpu_settings.SWITCH, "0")
    assert cpu_settings.set_cpu_defaults() == present() == {}


def test_nothing_is_set_once_paddle_is_imported(machine):
    machine.setitem(sys.modules, "paddle", object())
    assert cpu_settings.set_cpu_defaults() == present() == {}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity mask")
def test_the_affinity_mask_counts_not_the_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 4, 7})
    assert cpu_settings.usable_cores() == 3


@pytest.mark.compat
def test_import_sets_the_environment_before_paddle_is_there():
    """And Python's zlib is loaded before Paddle 2.6, whose own one would shadow it."""
    code = """
import json, os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "paddle":
            print(json.dumps([os.environ.get("FLAGS_paddle_num_threads"), "zlib" in sys.modules]), flush=True)
            sys.exit(0)

sys.meta_path.insert(0, Watch())
import ppcls_ext, paddle
"""
    environment = {key: value for key, value in os.environ.items() if key not in (*VARIABLES, *LAUNCHER)}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert json.loads(process.stdout) == [str(cpu_settings.usable_cores()), True]
