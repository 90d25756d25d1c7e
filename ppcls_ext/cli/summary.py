"""The command that shows the layers of a backbone: summary."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import add_command, positive
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table


def add_commands(commands) -> None:
    """Add the command."""
    add = add_command(
        commands,
        "summary",
        run_summary,
        "Show the layers of a backbone: output shape, parameters and multiply-adds, LSTMs and attention counted. "
        "Unlike paddle.summary it tells the multiply-adds, and sums up the layers below a given depth.",
        ["summary Sequencer2D_S", "summary ViT_S_16_224 --size 384 --depth 2", "summary paddleclas.ResNet50 --json"],
    )
    add("name", help="a backbone of ppcls_ext, or `paddleclas.<Name>`")
    add("--size", nargs="+", type=positive, metavar="PIXELS", help="height and width, or one number for both")
    add("--class_num", type=positive, help="number of classes (default: the backbone's own)")
    add("--depth", type=positive, help="sum up the layers whose names have more parts (default: show all)")
    add("--json", action="store_true", help="print JSON instead of a table")


def run_summary(arguments: argparse.Namespace) -> int:
    """Print the layers."""
    if arguments.size and len(arguments.size) > 2:
        raise UsageError(f"--size: expected one number or two, got {len(arguments.size)}")
    import_paddle()
    from ppcls_ext.analysis.benchmark.targets import find_targets
    from ppcls_ext.analysis.summary import summarise
    from ppcls_ext.factory import create_backbone

    try:
        targets = find_targets([arguments.name])
    except KeyError as error:
        raise UsageError(error.args[0]) from None
    if len(targets) != 1 or targets[0].folder is not None:
        raise UsageError(f"{arguments.name} is not the name of one backbone")
    height, width = (arguments.size * 2)[:2] if arguments.size else targets[0].size
    options = {} if arguments.class_num is None else {"class_num": arguments.class_num}
    model = create_backbone(targets[0].full_name, **options)
    size = [getattr(model, "in_channels", 3), height, width]
    found = summarise(model, size, arguments.depth)
    if arguments.json:
        totals = {"params": found.params, "trainable": found.trainable, "macs": found.macs}
        print_json({"name": arguments.name, "input": size, "layers": [asdict(row) for row in found.rows], **totals})
        return OK
    rows = [
        (row.name, row.type, "×".join(map(str, row.output or [])), f"{row.params:,}", _macs(row.macs))
        for row in found.rows
    ]
    rows.append(("total", "", "", f"{found.params:,}", _macs(found.macs)))
    print_table(("layer", "type", "output", "parameters", "MACs"), rows, right=(3, 4))
    print(f"input {'×'.join(map(str, size))}; {found.trainable:,} of {found.params:,} parameters are trainable")
    if found.uncounted:
        print(f"MACs are not known: {found.uncounted}")
    return OK


def _macs(macs: object) -> str:
    return "-" if macs is None else f"{macs:,}"
