"""Commands about backbones and their weights: list, info, download, convert."""

from __future__ import annotations

import argparse
import fnmatch
import math
from pathlib import Path
from typing import Callable, Iterable, Optional, Sequence

from ppcls_ext import registry
from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import Switch, add_command, add_override, positive
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table
from ppcls_ext.utils.spelling import nearest

SORTED_BY = ("name", "top1", "params", "macs")


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "list",
        run_list,
        "List the backbones of ppcls_ext. Accuracies are published ones. The last column says whether weights are "
        "published: for pretrained=True (yes), or only for download in a browser (manual).",
        [
            "list",
            "list 'sequencer2d_*'",
            "list --sort top1 --max_params 30M",
            "list --family SwinTransformer --pretrained",
            "list --all --json",
        ],
    )
    add("patterns", nargs="*", default=["*"], help="names or shell patterns of names, case-insensitive (default: all)")
    add_selection(add)
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


def add_selection(add: Callable) -> None:
    """Add the options that choose and sort backbones."""
    add("--family", help="only this family")
    add("--min_top1", type=_number, metavar="PERCENT", help="only with a published top-1 of at least so much")
    add("--max_params", type=_number, metavar="NUMBER", help="only with at most so many parameters, such as 30M")
    add("--max_macs", type=_number, metavar="NUMBER", help="only with at most so many multiply-adds, such as 5G")
    add("--sort", choices=SORTED_BY, help="top1: the best first; params, macs: the smallest first (default: by family)")


def _number(text: str) -> float:
    """Return the number that ``text`` is, with K, M, G or B (10⁹) behind it or not."""
    factor = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}.get(text[-1:].upper())
    try:
        value = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no number of at least 0, such as 80, 30M or 4.5G")
    return value


def select(arguments: argparse.Namespace, foreign: Sequence[dict] = ()) -> list[dict]:
    """Return what ``list`` shows of the backbones that the command line chooses, each once and sorted.

    Args:
        arguments: with ``patterns`` and what :func:`add_selection` adds.
        foreign: rows of other backbones to choose among.

    Raises:
        UsageError: a pattern or a family fits none, or no backbone is left; the message has the nearest names.
    """
    known = [*(_row(registry.get_spec(name)) for name in registry.list_backbones()), *foreign]
    rows: dict[str, dict] = {}
    for pattern in arguments.patterns:
        found = [row for row in known if fnmatch.fnmatchcase(row["name"].lower(), pattern.lower())]
        if not found:
            raise UsageError(f"no backbone matches {pattern!r}{_hint(pattern.strip('*'), registry.list_backbones())}")
        rows.update({row["name"]: row for row in found})
    chosen = list(rows.values())
    if arguments.family is not None:
        families = list(dict.fromkeys(row["family"] for row in known))
        wanted = {name.lower(): name for name in families}.get(arguments.family.lower())
        if wanted is None:
            hint = _hint(arguments.family, families) or f"; there are {', '.join(families)}"
            raise UsageError(f"--family: there is no family {arguments.family!r}{hint}")
        chosen = [row for row in chosen if row["family"] == wanted]
    for key, limit, sign in (
        ("top1", arguments.min_top1, -1),
        ("params", arguments.max_params, 1),
        ("macs", arguments.max_macs, 1),
    ):
        if limit is not None:
            chosen = [row for row in chosen if row[key] is not None and sign * row[key] <= sign * limit]
    if not chosen:
        raise UsageError("no backbone meets all of the conditions")
    if arguments.sort == "name":
        return sorted(chosen, key=lambda row: row["name"].lower())
    if arguments.sort is not None:
        sign = -1 if arguments.sort == "top1" else 1
        return sorted(chosen, key=lambda row: (row[arguments.sort] is None, sign * (row[arguments.sort] or 0)))
    return chosen


def _hint(wanted: str, names: Iterable[str]) -> str:
    found = nearest(wanted, names)
    return f"; did you mean {', '.join(found)}?" if found else ""


def run_list(arguments: argparse.Namespace) -> int:
    """Print the backbones that match."""
    foreign = [
        {"name": name, "family": "PaddleClas", "params": None, "macs": None, "top1": None, "weights": None}
        for name in (_names_of_paddleclas() if arguments.all else ())
    ]
    rows = select(arguments, foreign)
    if arguments.pretrained:
        rows = [row for row in rows if row["weights"]]
        if not rows:
            named = " or ".join(map(repr, arguments.patterns))
            raise UsageError(f"no backbone that matches {named} has published weights")
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
