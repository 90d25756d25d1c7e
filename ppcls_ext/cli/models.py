"""Commands about backbones and their weights: list, info, download, convert."""

from __future__ import annotations

import argparse
import fnmatch
from pathlib import Path
from typing import Optional

from ppcls_ext import registry
from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import Switch, add_command, add_override, positive
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table
from ppcls_ext.utils.spelling import nearest


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "list",
        run_list,
        "List the backbones of ppcls_ext. Accuracies are published ones. The last column says whether weights are "
        "published: for pretrained=True (yes), or only for download in a browser (manual).",
        ["list", "list 'sequencer2d_*'", "list --pretrained", "list --all --json"],
    )
    add("pattern", nargs="?", default="*", help="shell pattern of names, case-insensitive (default: all)")
    add("--pretrained", action="store_true", help="only those with published weights")
    add("--all", action="store_true", help="also the backbones of the installed PaddleClas, which train here too")
    add("--json", action="store_true", help="print JSON instead of a table")

    add = add_command(
        commands,
        "info",
        run_info,
        "Show what is known of a backbone: parameters, multiply-adds, preprocessing, published accuracy with its "
        "source, weights with their licence, paper.",
        ["info Sequencer2D_S", "info Sequencer2D_S --json"],
    )
    add("name", help="a backbone of ppcls_ext, or of the installed PaddleClas")
    add("--json", action="store_true", help="print JSON instead of text")

    add = add_command(
        commands,
        "download",
        run_download,
        "Download and convert the published weights of backbones, so that pretrained=True finds them later without a "
        "network. They go into $PPCLS_EXT_HOME/weights, by default ~/.cache/ppcls_ext/weights.",
        ["download Sequencer2D_S", "download Sequencer2D_S Sequencer2D_M"],
    )
    add("names", nargs="+", metavar="name", help="a backbone of ppcls_ext")
    add("--source", help="which of several published files, as pretrained_source (default: the first)")
    add("--layout", dest="source", help="the old name of --source")

    add = add_command(
        commands,
        "convert",
        run_convert,
        "Convert published weights (.pth, .safetensors, .npz, .pdparams) for a backbone of ppcls_ext, or back to "
        "PyTorch's names. Nothing in the file is run, every tensor is accounted for, and <dst>.json records what was "
        "done.",
        [
            "convert --arch Sequencer2D_S --src sequencer2d_s.pth --dst Sequencer2D_S.pdparams",
            "convert --arch Sequencer2D_S --src Sequencer2D_S.pdparams --dst s.safetensors --to torch --source timm",
        ],
    )
    add("--arch", required=True, metavar="NAME", help="a backbone of ppcls_ext")
    add("--src", required=True, type=Path, metavar="FILE", help="the file to convert; its content tells the format")
    add("--dst", required=True, type=Path, metavar="FILE", help="the result: .pdparams or .safetensors")
    add("--source", help="whose names the PyTorch side has (default: found by the keys; --to torch: the official ones)")
    add("--layout", dest="source", help="the old name of --source")
    add("--to", choices=("paddle", "torch"), default="paddle", help="direction (default: %(default)s)")
    add("--backbone_only", action="store_true", help="leave the classifier out")
    add("--class_num", type=positive, help="leave the classifier out if it has a different number of classes")
    add(
        "--ema",
        action=Switch,
        help="where the file holds weights and their moving average: which to take",
    )
    add_override(
        add,
        "constructor argument of the model that the file is for, such as in_channels=1; several after one -o, or -o "
        "again. Values are read as YAML",
    )


def run_list(arguments: argparse.Namespace) -> int:
    """Print the backbones that match."""
    rows = [_row(registry.get_spec(name)) for name in registry.list_backbones(arguments.pattern)]
    if arguments.all:
        rows += [
            {"name": name, "family": "PaddleClas", "params": None, "macs": None, "top1": None, "weights": None}
            for name in _names_of_paddleclas()
            if fnmatch.fnmatchcase(name.lower(), arguments.pattern.lower())
        ]
    if not rows:
        hint = nearest(arguments.pattern.strip("*"), registry.list_backbones())
        raise UsageError(
            f"no backbone matches {arguments.pattern!r}" + (f"; did you mean {', '.join(hint)}?" if hint else "")
        )
    if arguments.pretrained:
        rows = [row for row in rows if row["weights"]]
        if not rows:
            raise UsageError(f"no backbone that matches {arguments.pattern!r} has published weights")
    if arguments.json:
        print_json(rows)
        return OK
    table = [
        (
            row["name"],
            row["family"],
            _scaled(row["params"], 1e6),
            _scaled(row["macs"], 1e9),
            "" if row["top1"] is None else f"{row['top1']:.2f}",
            row["weights"] or "",
        )
        for row in rows
    ]
    print_table(("name", "family", "params (M)", "MACs (G)", "top-1 (%)", "weights"), table, right=(2, 3, 4))
    return OK


def _row(spec) -> dict:
    weights = [published for published in spec.weights if not published.manual]
    return {
        "name": spec.name,
        "family": spec.family,
        "params": spec.params,
        "macs": spec.macs,
        "top1": spec.accuracy.top1 if spec.accuracy else None,
        "weights": "yes" if weights else "manual" if spec.weights else None,
    }


def _scaled(value: Optional[float], unit: float) -> str:
    return "" if value is None else f"{value / unit:.2f}"


def _names_of_paddleclas() -> list[str]:
    import_paddle()
    from ppcls_ext import plugin

    return plugin.paddleclas_names()


def run_info(arguments: argparse.Namespace) -> int:
    """Print what is known of a backbone."""
    info = _info(arguments.name)
    if arguments.json:
        print_json(info)
        return OK
    for key, value in info.items():
        if isinstance(value, dict):
            value = _pairs(value)
        elif isinstance(value, (list, tuple)):
            value = "".join(f"\n    {_pairs(item)}" for item in value)
        elif isinstance(value, int):
            value = f"{value:,}"
        print(f"{key}: {'-' if value in (None, '') else value}")
    return OK


def _info(name: str) -> dict:
    """Return what is known of a backbone of this package, else what can be found out about one of PaddleClas's."""
    if registry.bare_name(name) in registry.list_backbones():
        return registry.backbone_info(name)
    import_paddle()
    from ppcls_ext import plugin

    theirs = name.removeprefix("paddleclas.")
    factory = plugin.paddleclas_factory(theirs)
    if factory is None:
        hint = nearest(name, [*registry.list_backbones(), *plugin.paddleclas_names()])
        raise UsageError(f"unknown backbone {name!r}" + (f"; did you mean {', '.join(hint)}?" if hint else ""))
    url = plugin.paddleclas_address(factory, {})
    parameters = [parameter for parameter in factory().parameters() if not parameter.stop_gradient]
    return {
        "name": theirs,
        "family": "PaddleClas",
        "params": sum(int(parameter.size) for parameter in parameters),
        "weights": [{"url": url}] if url else [],
        "notes": f"defined in {factory.__module__}; no facts beyond these are recorded here",
    }


def _pairs(items: dict) -> str:
    return ", ".join(f"{name}: {value}" for name, value in items.items() if value is not None)


def run_download(arguments: argparse.Namespace) -> int:
    """Download, convert and cache published weights."""
    import_paddle()
    from ppcls_ext.weights.pretrained import choose, pretrained_path

    try:
        specs = [registry.get_spec(name) for name in arguments.names]
        for spec in specs:
            choose(spec.name, spec.weights, arguments.source)
    except (KeyError, ValueError) as error:
        raise UsageError(error.args[0]) from None
    for spec in specs:
        print(pretrained_path(spec.name, spec.weights, arguments.source))
    return OK


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert a file of weights."""
    import_paddle()
    import yaml

    from ppcls_ext.engine.logger import start_logging
    from ppcls_ext.weights.conversion import convert_file
    from ppcls_ext.weights.expected import find_factory

    given = {}
    for item in arguments.override:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"-o {item}: expected KEY=VALUE")
        given[key] = yaml.safe_load(value)
    try:
        find_factory(arguments.arch)
    except KeyError as error:
        raise UsageError(error.args[0]) from None
    start_logging(is_main=True)
    convert_file(
        arguments.arch,
        arguments.src,
        arguments.dst,
        source=arguments.source,
        to=arguments.to,
        backbone_only=arguments.backbone_only,
        class_num=arguments.class_num,
        ema=arguments.ema,
        arguments=given,
    )
    return OK
