"""Files of weights and checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

from ppcls_ext.config.report import Report


def check_weights(report: Report) -> None:
    """Check that files of weights and checkpoints exist."""
    for key in ("Global.pretrained_model", "Arch.pretrained"):
        path = report.config.section(key)
        if not isinstance(path, str):
            continue
        if path.startswith(("http://", "https://")):
            report.wrong(key, f"got the address {path!r}; expected a file: download it first")
        elif not any(os.path.isfile(path + suffix) for suffix in ("", ".pdparams", ".safetensors")):
            report.wrong(key, f"got {path!r}; there is neither such a file nor {path + '.pdparams'!r} or .safetensors")
    prefix = report.config.Global.checkpoints
    if report.mode == "train" and prefix is not None and not _has_checkpoint(Path(prefix)):
        report.wrong(
            "Global.checkpoints",
            f"got {prefix!r}; there is no checkpoint of that prefix, such as output/latest for output/latest.pdparams",
        )


def _has_checkpoint(prefix: Path) -> bool:
    """Return whether a file of the prefix is there, also one that an interrupted save left under another name."""
    name = prefix.name.removesuffix(".pdparams")
    return (
        bool(name) and prefix.parent.is_dir() and any(file.startswith(f"{name}.") for file in os.listdir(prefix.parent))
    )
