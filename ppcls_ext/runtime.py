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
THREAD_VARIABLES = ("OMP_NUM_THREADS", "FLAGS_paddle_num_threads")


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


def cpu_defaults() -> dict:
    """Return the environment variables that suit this machine and this process' share of it.

    Under ``paddle.distributed.launch`` the cores are divided among the processes of this machine.
    """
    processes = max(1, int(os.environ.get("PADDLE_LOCAL_SIZE") or 1))
    threads = str(max(1, usable_cores() // processes))
    defaults = dict.fromkeys(THREAD_VARIABLES, threads)
    if is_amd():
        defaults["MKL_DEBUG_CPU_TYPE"] = "5"
    return defaults


def set_cpu_defaults() -> dict:
    """Put :func:`cpu_defaults` into the environment where it holds no value, and return what was set."""
    if os.environ.get(SWITCH) == "0" or "paddle" in sys.modules:
        return {}
    chosen = {name: value for name, value in cpu_defaults().items() if not os.environ.get(name)}
    os.environ.update(chosen)
    return chosen
