"""CPU settings that must be in the environment before Paddle is imported.

Paddle reads its thread count and the path of its bundled MKL once, at import. Left alone it runs one thread, and MKL
takes a slow path on AMD processors. ``import ppcls_ext`` therefore calls :func:`set_cpu_defaults` first of all. It uses
the standard library only, fills in nothing that the user has set, and does nothing once Paddle is imported.
"""

import os
import sys
import zlib  # noqa: F401 - loaded after Paddle 2.6 it binds to Paddle's own inflate and crashes
from pathlib import Path

#: Set to "0" to leave the environment alone.
SWITCH = "PPCLS_EXT_CPU_DEFAULTS"
#: Tells child processes which of the values below are ours, to be computed anew for their share of the machine.
MARK = "PPCLS_EXT_CPU_DEFAULTS_SET"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "FLAGS_paddle_num_threads")
VARIABLES = (*THREAD_VARIABLES, "MKL_DEBUG_CPU_TYPE")


def usable_cores() -> int:
    """Return the number of cores that this process may use (its affinity mask where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_amd() -> bool:
    """Return whether the processor is AMD's, as far as the operating system tells."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def local_processes() -> int:
    """Return how many processes ``paddle.distributed.launch`` has started on this machine; 1 without it.

    The launcher says so on GPUs; on CPUs it only lists the addresses of all processes.
    """
    size = os.environ.get("PADDLE_LOCAL_SIZE")
    if size:
        return max(1, int(size))
    here = os.environ.get("PADDLE_CURRENT_ENDPOINT", "").rpartition(":")[0]
    hosts = [address.rpartition(":")[0] for address in os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")]
    return max(1, hosts.count(here))


def cpu_defaults() -> dict:
    """Return the environment variables that suit this machine and this process' share of it.

    Under ``paddle.distributed.launch`` the cores are divided among the processes of this machine.
    """
    threads = str(max(1, usable_cores() // local_processes()))
    defaults = dict.fromkeys(THREAD_VARIABLES, threads)
    if is_amd():
        defaults["MKL_DEBUG_CPU_TYPE"] = "5"
    return defaults


def user_settings() -> set:
    """Return which of the variables the user has set.

    Two kinds of values are not the user's: what this module set in a parent process, and the
    ``OMP_NUM_THREADS=1`` that Paddle's launcher leaves to its children. Who wants one thread under the launcher says so
    by ``FLAGS_paddle_num_threads=1``.
    """
    inherited = set(os.environ.get(MARK, "").split(","))
    settings = {name for name in VARIABLES if os.environ.get(name) and name not in inherited}
    launched = bool(os.environ.get("PADDLE_TRAINER_ENDPOINTS"))
    if launched and os.environ.get("OMP_NUM_THREADS") == "1" and "FLAGS_paddle_num_threads" not in settings:
        settings.discard("OMP_NUM_THREADS")
    return settings


def set_cpu_defaults() -> dict:
    """Put :func:`cpu_defaults` into the environment where the user has set nothing, and return what was set."""
    if os.environ.get(SWITCH) == "0" or "paddle" in sys.modules:
        return {}
    chosen = {name: value for name, value in cpu_defaults().items() if name not in user_settings()}
    os.environ.update(chosen)
    os.environ[MARK] = ",".join(chosen)
    return chosen


def default_threads() -> int:
    """Return how many threads this process is to compute with: as the user or :func:`set_cpu_defaults` has set."""
    for name in reversed(THREAD_VARIABLES):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    return max(1, usable_cores() // local_processes())
