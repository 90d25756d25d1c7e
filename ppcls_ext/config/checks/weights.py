"""Files of weights and checkpoints."""

from __future__ import annotations

import os

from ppcls_ext.config.report import Report
from ppcls_ext.utils.checkpoint_path import checkpoint_prefix, has_checkpoint


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
    path = report.config.Global.checkpoints
    if report.mode == "train" and path is not None and not has_checkpoint(checkpoint_prefix(path)):
        report.wrong(
            "Global.checkpoints",
            f"got {path!r}; there is no checkpoint of that prefix, such as output/latest for output/latest.pdparams, "
            "nor is it the folder of a run",
        )
