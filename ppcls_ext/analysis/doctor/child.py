"""The process of one check: ``python -m ppcls_ext.analysis.doctor.child <check> <device> <seconds> <outcome.json>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(name: str, device: str, seconds: str, outcome: str) -> None:
    """Run a check and write its outcome; what is not foreseen in it ends the process with its call stack."""
    import paddle

    from ppcls_ext.analysis.doctor.checks import CHECKS, CheckFailed, Skipped

    paddle.set_device(device)
    try:
        found = {"outcome": "pass", "remark": CHECKS[name](device, float(seconds))}
    except CheckFailed as error:
        found = {"outcome": "fail", "remark": str(error)}
    except Skipped as error:
        found = {"outcome": "skipped", "remark": str(error)}
    Path(outcome).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
