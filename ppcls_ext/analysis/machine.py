"""The machine that figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from pydantic import BaseModel

from ppcls_ext.utils.cpu_features import cpu_features
from ppcls_ext.utils.cpu_settings import THREAD_VARIABLES, usable_cores
from ppcls_ext.version import __version__

PACKAGES = (
    "paddlepaddle paddlepaddle-gpu paddleclas numpy opencv-python opencv-python-headless pillow simplejpeg onnx "
    "onnxruntime onnxruntime-gpu openvino torch timm"
).split()
#: Beginnings of the names of variables that choose kernels and threads.
VARIABLES = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "FLAGS_", "DNNL_", "ONEDNN_", "CUDA_VISIBLE_DEVICES")

#: Of these names, but no matter of speed, or in each row, as threads are.
OTHERS = (*THREAD_VARIABLES, "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")


class Machine(BaseModel):
    """What decides the speed of a machine and of an installation.

    Attributes:
        cpu: its name.
        flags: instruction sets that the speed of networks depends on.
        cores: that the process may use.
        memory_bytes: of the machine.
        system: operating system and architecture.
        python: version.
        versions: of the packages that matter.
        environment: variables that decide speed and were set.
        load: average number of running processes in the minute before.
        date: in UTC.
    """

    cpu: str = ""
    flags: list[str] = []
    cores: int = 1
    memory_bytes: Optional[int] = None
    system: str = ""
    python: str = ""
    versions: dict[str, str] = {}
    environment: dict[str, str] = {}
    load: Optional[float] = None
    date: str = ""


def describe() -> Machine:
    """Return what decides the speed of this machine and of this installation."""
    cpuinfo = _read(Path("/proc/cpuinfo"))
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    return Machine(
        cpu=_field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        flags=cpu_features(),
        cores=usable_cores(),
        memory_bytes=1024 * int(memory[1]) if memory else None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={"ppcls_ext": __version__, **_versions()},
        environment={name: value for name, value in sorted(os.environ.items()) if _decides_speed(name)},
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
    )


def _decides_speed(name: str) -> bool:
    return name.startswith(VARIABLES) and name not in OTHERS


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(cpuinfo: str, name: str) -> Optional[str]:
    found = re.search(rf"^{name}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else None
