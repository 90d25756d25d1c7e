"""The C library's heap on a CPU: memory that was freed once is kept for the next tensor.

Paddle takes each tensor on a CPU from ``malloc`` and frees it again. glibc returns large blocks to the system, and the
next pass has every page of them mapped and cleared anew: on a virtual machine that took up to half of a forward pass.
"""

import ctypes
import os
from importlib import metadata

from ppcls_ext.utils import cpu_settings

#: ``mallopt``'s parameters, from glibc's malloc.h: how much free memory at the top is kept, and how many blocks are
#: mapped on their own instead of being taken from the heap.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def is_set_by_user() -> bool:
    """Return whether the environment says how glibc's heap is to work, or that nothing is to be set."""
    tunables = "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    return tunables or any(map(os.environ.get, VARIABLES)) or os.environ.get(cpu_settings.SWITCH) == "0"


def is_for_cpus() -> bool:
    """Return whether the Paddle that is installed computes on CPUs alone; False without Paddle."""
    installed = [bool(list(metadata.distributions(name=name))) for name in ("paddlepaddle", "paddlepaddle-gpu")]
    return installed == [True, False]


def keep_freed_memory() -> bool:
    """Let this process keep freed memory, and return whether it does.

    Nothing is changed where the user has set one of glibc's variables or ``PPCLS_EXT_CPU_DEFAULTS=0``, with a Paddle
    for GPUs, and with another C library.
    """
    if is_set_by_user() or not is_for_cpus():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(M_MMAP_MAX, 0))
