"""The command to run first on a new machine: doctor."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import add_command
from ppcls_ext.cli.results import FAILED, OK, UsageError, print_json, print_table


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "doctor",
        run_doctor,
        "Check that this machine computes what it should: golden outputs of a small network of each family, a training "
        "step in each precision, two processes, export and prediction, throughput. Each check runs in a process of its "
        "own. The exit code is 1 if one fails.",
        ["doctor", "doctor --device gpu --format json --output doctor.json", "doctor --only golden export"],
    )
    add("--device", help="cpu, gpu or gpu:<number> (default: gpu if there is one, else cpu)")
    add("--seconds", type=float, default=60.0, help="for which the throughput is measured (default: %(default)g)")
    add("--only", nargs="+", metavar="WORD", help="run the checks whose names contain one of these words")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")
    add("--output", type=Path, metavar="FILE", help="also write JSON into this file, to attach to an issue")


def run_doctor(arguments: argparse.Namespace) -> int:
    """Run the checks and print a table."""
    import_paddle()
    from ppcls_ext.analysis.doctor.checks import CHECKS
    from ppcls_ext.analysis.doctor.diagnosis import FAIL, diagnose
    from ppcls_ext.analysis.machine import describe
    from ppcls_ext.engine.deploy.engines.choice import check_device

    device = arguments.device or _default_device()
    words = arguments.only or [""]
    names = [name for name in CHECKS if any(word.lower() in name.lower() for word in words)]
    try:
        check_device(device)
        if not names:
            raise ValueError(f"no check is called like {' or '.join(words)}; there are: {', '.join(CHECKS)}")
        if not arguments.seconds > 0:
            raise ValueError(f"--seconds is {arguments.seconds:g}; expected more than 0")
    except ValueError as error:
        raise UsageError(str(error)) from None
    facts = {**describe().model_dump(), "device": device}
    findings = []
    for finding in diagnose(device, names, arguments.seconds):
        findings.append(finding)
        print(f"[{len(findings)}/{len(names)}] {finding.check}: {finding.outcome}", file=sys.stderr)
    report = {"machine": facts, "findings": [finding.to_dict() for finding in findings]}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.format == "json":
        print_json(report)
    else:
        print_table(("", ""), [(name, _text(value)) for name, value in facts.items()])
        print_table(("check", "outcome", "remark"), [(f.check, f.outcome, f.remark) for f in findings])
    return FAILED if any(finding.outcome == FAIL for finding in findings) else OK


def _default_device() -> str:
    import paddle

    return "gpu" if paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() else "cpu"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)
