"""How much memory a process has, and the most that it ever had."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Optional

_STATUS = Path("/proc/self/status")


def resident_bytes() -> Optional[int]:
    """Return the bytes of this process in memory now; None where the system does not tell."""
    return _of_linux("VmRSS")


def peak_bytes() -> Optional[int]:
    """Return the most bytes of this process that were in memory at once; None where the system does not tell.

    Linux's ``ru_maxrss`` would begin with the peak of the parent, so ``VmHWM`` is read there.
    """
    found = _of_linux("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _of_linux(name: str) -> Optional[int]:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
