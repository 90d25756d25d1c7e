"""Which instruction sets the processor has, as far as the operating system tells."""

from __future__ import annotations

import platform
from pathlib import Path

#: Sets for products of matrices, which decide the kernels that libraries take, as Linux names them.
FEATURES = (
    "avx avx2 fma avx512f avx512bw avx512vl avx_vnni avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
    "asimd asimddp i8mm bf16 sve sve2"
).split()


def cpu_features() -> list[str]:
    """Return the names of :data:`FEATURES` that this processor has; the machine's name alone outside Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [platform.machine()]
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return [feature for feature in FEATURES if feature in value.split()]
    return [platform.machine()]
