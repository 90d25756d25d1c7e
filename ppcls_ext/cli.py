"""The command ``ppcls_ext`` and, through :func:`main`, the scripts in ``tools/``.

A command parses its arguments, calls one function of the package and turns what happens into an exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Callable, Optional, Sequence

from ppcls_ext.version import __version__

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """\
exit codes:
  0    done
  1    the run failed; the message says why
  2    wrong command line or configuration; nothing was done
  130  stopped by Ctrl-C (143 by SIGTERM); training saves first
"""
PROGRAM = "ppcls_ext"


class UsageError(ValueError):
    """The command line is wrong."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the command's name and its arguments; ``None`` takes them from the command line.
    """
    arguments = build_parser().parse_args(argv)
    from ppcls_ext.config import ConfigError

    try:
        return arguments.run(arguments) or OK
    except (ConfigError, UsageError) as error:
        return _report(error, USAGE, arguments)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # the outermost place: what is not ours is raised again
        if not _is_ours(error):
            raise
        return _report(error, FAILED, arguments)


def _report(error: Exception, code: int, arguments: argparse.Namespace) -> int:
    if arguments.traceback:
        traceback.print_exception(type(error), error, error.__traceback__)
    # str(KeyError) is the repr of its message
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    print(f"{PROGRAM} {arguments.command}: error: {message}", file=sys.stderr)
    return code


def _is_ours(error: Exception) -> bool:
    """Return whether the message was written for the user, so that a call stack would only hide it.

    That is an error class of this package, a file that cannot be opened, or a plain error that our code raised.
    """
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == PROGRAM:
        return True
    if type(error) not in (ValueError, RuntimeError):
        return False
    innermost = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    return innermost.f_globals.get("__name__", "").partition(".")[0] == PROGRAM


# ---- the command line ------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="PaddleClas-compatible model zoo: list, train, evaluate, export and run image classifiers.",
        epilog=f"`{PROGRAM} <command> --help` explains a command.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="<command>", required=True)

    add = _adder(
        commands,
        "list",
        _list,
        "List the backbones of ppcls_ext.",
        ["list", "list 'sequencer2d_*'", "list --all --json"],
    )
    add("pattern", nargs="?", default="*", help="shell pattern of names; case does not matter (default: all)")
    add("--all", action="store_true", help="also the backbones of the installed PaddleClas, which train here too")
    add("--json", action="store_true", help="print JSON instead of a table")

    add = _adder(
        commands,
        "info",
        _info,
        "Show what is known of a backbone: parameters, multiply-adds, preprocessing, published accuracy with its "
        "source, weights with their licence, paper.",
        ["info Sequencer2D_S", "info Sequencer2D_S --json"],
    )
    add("name", help="a backbone of ppcls_ext")
    add("--json", action="store_true", help="print JSON instead of text")

    add = _adder(
        commands,
        "download",
        _download,
        "Download and convert the published weights of backbones, so that pretrained=True finds them later without a "
        "network. They go into $PPCLS_EXT_HOME/weights, by default ~/.cache/ppcls_ext/weights.",
        ["download Sequencer2D_S", "download Sequencer2D_S Sequencer2D_M"],
    )
    add("names", nargs="+", metavar="name", help="a backbone of ppcls_ext")
    add("--layout", help="which of several published files, as pretrained_layout (default: the first)")

    _add_config_command(
        commands,
        "train",
        _train,
        "Train a model from a YAML file in PaddleClas's schema. Under `python -m paddle.distributed.launch` use "
        "tools/train.py or `-m ppcls_ext.cli train`.",
        [
            "train -c configs/quick_start/Sequencer2D_digits.yaml -o Global.device=cpu",
            "train -c my.yaml -o Global.checkpoints=output/latest   # resume",
        ],
    )
    _add_config_command(
        commands,
        "eval",
        _eval,
        "Evaluate weights on DataLoader.Eval; every image counts exactly once.",
        ["eval -c my.yaml -o Global.pretrained_model=output/best_model"],
    )
    _add_config_command(
        commands,
        "infer",
        _infer,
        "Classify images with trained weights (for exported models see `predict`). The section Infer says which, "
        "how they are preprocessed and, with Infer.save_dir, where a JSON file goes. An image that cannot be read "
        "is named, the others are done, and the exit code is 1.",
        ["infer -c my.yaml -o Global.pretrained_model=output/best_model Infer.infer_imgs=photos/"],
    )
    add = _add_config_command(
        commands,
        "export",
        _export,
        "Write the static graph, its weights and inference.yml into Global.save_inference_dir. The files are loaded "
        "again and compared with the model before they replace an earlier export.",
        [
            "export -c my.yaml -o Global.pretrained_model=output/best_model Global.save_inference_dir=inference",
            "export -c my.yaml -o Global.pretrained_model=output/best_model --format legacy",
        ],
    )
    add(
        "--format",
        choices=("default", "legacy"),
        default="default",
        help="default: what this Paddle writes (3.x inference.json, 2.6 inference.pdmodel); "
        "legacy: inference.pdmodel on both, as PaddleClas's own predictor needs it",
    )

    add = _adder(
        commands,
        "predict",
        _predict,
        "Classify images with an exported model, with the preprocessing and labels that were exported with it. An "
        "image that cannot be read is named, the others are done, and the exit code is 1.",
        [
            "predict --model_dir inference --infer_imgs photo.jpg",
            "predict --model_dir inference --infer_imgs dataset/digits/val_list.txt --batch_size 32 --output out.json",
        ],
    )
    add("--model_dir", required=True, help="folder that `export` wrote")
    add("--infer_imgs", required=True, help="an image, a folder, or a text file with one image a line")
    add("--topk", type=_positive, help="classes a result (default: as exported)")
    add("--batch_size", type=_positive, default=1, help="images a run (default: %(default)s)")
    add("--device", default="cpu", help="cpu, gpu or gpu:<number> (default: %(default)s)")
    add("--cpu_threads", type=_positive, help="threads on the CPU (default: all cores of this process)")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")
    add("--output", type=Path, metavar="FILE", help="also write the results as JSON into this file")

    add = _adder(
        commands,
        "convert",
        _convert,
        "Convert published weights (.pth, .safetensors, .npz, .pdparams) for a backbone of ppcls_ext, or back to "
        "PyTorch's names. Nothing in the file is run, every tensor is accounted for, and <dst>.json records what was "
        "done.",
        [
            "convert --arch Sequencer2D_S --src sequencer2d_s.pth --dst Sequencer2D_S.pdparams",
            "convert --arch Sequencer2D_S --src Sequencer2D_S.pdparams --dst s.safetensors --to torch --layout timm",
        ],
    )
    add("--arch", required=True, metavar="NAME", help="a backbone of ppcls_ext")
    add("--src", required=True, type=Path, metavar="FILE", help="the file to convert; its content tells the format")
    add("--dst", required=True, type=Path, metavar="FILE", help="the result: .pdparams or .safetensors")
    add("--layout", help="whose names the PyTorch side has (default: found by the keys; --to torch: the official ones)")
    add("--to", choices=("paddle", "torch"), default="paddle", help="direction (default: %(default)s)")
    add("--backbone-only", action="store_true", help="leave the classifier out")
    add("--class_num", type=_positive, help="leave the classifier out if it has another number of classes")
    add(
        "--ema",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="if the file holds weights and their moving average: which (default: an error then)",
    )
    _add_override(
        add,
        "constructor argument of the model that the file is for, such as in_channels=1; several after one -o, or -o "
        "again. Values are read as YAML",
    )

    add = _adder(
        commands,
        "prepare-digits",
        _prepare_digits,
        "Write the handwritten digits that scikit-learn carries as image files with label lists; no download.",
        ["prepare-digits --output dataset/digits"],
    )
    add("--output", default="dataset/digits", help="folder to write to (default: %(default)s)")
    add("--quiet", action="store_true", help="show no progress bar")

    add = _adder(
        commands,
        "prepare-cifar",
        _prepare_cifar,
        "Fetch the archive of CIFAR-10 or CIFAR-100 (about 170 MB), and check it; one that is there already is checked "
        "only.",
        ["prepare-cifar --dataset cifar10 --output dataset"],
    )
    add("--dataset", choices=("cifar10", "cifar100"), default="cifar10", help="which one (default: %(default)s)")
    add("--output", type=Path, default=Path("dataset"), help="folder to write to (default: %(default)s)")

    add = _add_config_command(
        commands,
        "make-label-maps",
        _make_label_maps,
        "Let a trained model label the images of DataLoader.Eval cell by cell, for token labelling; give the training "
        "list, and operators that show the whole image.",
        ["make-label-maps -c teacher.yaml -o Global.pretrained_model=teacher --output dataset/token_labels"],
    )
    add("--output", required=True, help="folder of the label maps, which mirrors image_root")
    add("--top", type=_positive, default=5, help="classes that are kept in a cell (default: %(default)s)")

    add = _adder(
        commands,
        "convert-label-maps",
        _convert_label_maps,
        "Write the label maps of the official code of token labelling (.pt files) in the format that is read here.",
        ["convert-label-maps --src label_top5_train_nfnet --dst dataset/ILSVRC2012/token_labels/train"],
    )
    add("--src", required=True, help="folder of the .pt files, at any depth")
    add("--dst", required=True, help="folder to write to, under the same names; what is there already is left alone")

    add = _adder(
        commands,
        "write-shards",
        _write_shards,
        "Pack the images of a label list into tar shards of WebDataset's layout, each with its index. Images are "
        "copied as they are; shards that are there already are left alone.",
        ["write-shards --image_root dataset/ILSVRC2012 --list dataset/ILSVRC2012/train_list.txt --output shards/train"],
    )
    add("--image_root", required=True, help="folder that relative paths of the list start from")
    add("--list", required=True, metavar="FILE", help="label list: a path and a class id a line")
    add("--output", required=True, metavar="PREFIX", help="shards are <PREFIX>-000000.tar, <PREFIX>-000001.tar, ...")
    add("--delimiter", help="between path and class id (default: any run of spaces or tabs)")
    add("--samples", type=_positive, default=2000, help="images a shard (default: %(default)s)")
    add("--shuffle", action=argparse.BooleanOptionalAction, default=True, help="mix the images once (default: yes)")
    add("--seed", type=int, default=0, help="of the mixing (default: %(default)s)")
    add("--quiet", action="store_true", help="show no progress bar")

    add = _adder(
        commands,
        "index-shards",
        _index_shards,
        "Write the index of tar shards that another tool made (<shard>.index beside each), by reading them once.",
        ["index-shards 'shards/train-{000000..000639}.tar'"],
    )
    add("shards", nargs="+", help="shards, as patterns")
    add("--label_key", default="label", help="where the class id is in <key>.json (default: %(default)s)")
    add("--quiet", action="store_true", help="show no progress bar")

    add = _adder(
        commands,
        "quick-start",
        _quick_start,
        "Train, evaluate, export and predict the handwritten digits, in a clone of the repository.",
        ["quick-start", "quick-start --root ppcls_ext -o Global.epochs=2"],
    )
    add("--root", type=Path, default=Path(), help="the clone (default: the working directory)")
    _add_override(add)

    add = _adder(
        commands,
        "paddleclas",
        _paddleclas,
        "Run an unchanged script of a PaddleClas source checkout with the backbones of ppcls_ext in its table.",
        ["paddleclas PaddleClas/tools/train.py -c my.yaml -o Global.device=cpu"],
    )
    add("script", help="a script of the checkout, for example PaddleClas/tools/train.py")
    add("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    return parser


def _adder(commands, name: str, run: Callable, text: str, examples: Sequence[str]) -> Callable:
    """Add a command and return its ``add_argument``."""
    shown = "\n".join(f"  {PROGRAM} {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=text.partition(". ")[0].rstrip("."),
        description=textwrap.fill(text, width=100, break_long_words=False, break_on_hyphens=False),
        epilog=f"examples:\n{shown}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--traceback", action="store_true", help="print the call stack of every error")
    return parser.add_argument


def _add_config_command(commands, name: str, run: Callable, text: str, examples: Sequence[str]) -> Callable:
    add = _adder(commands, name, run, text, examples)
    add("-c", "--config", required=True, metavar="FILE", help="YAML file in PaddleClas's schema")
    _add_override(add)
    return add


def _add_override(
    add: Callable,
    help: str = "replace a value, such as Global.epochs=5; several after one -o, or -o again. Values are read as YAML; "
    "a list item is named by its index",
) -> None:
    add("-o", "--override", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=help)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


# ---- the commands ----------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    from ppcls_ext import plugin, registry

    rows = []
    for name in registry.list_backbones(arguments.pattern):
        spec = registry.get_spec(name)
        rows.append({"name": name, "family": spec.family, "params": spec.params, "macs": spec.macs})
    if arguments.all:
        theirs = _matching(plugin.paddleclas_names(), arguments.pattern)
        rows += [{"name": name, "family": "PaddleClas", "params": None, "macs": None} for name in theirs]
    if not rows:
        from ppcls_ext.utils.spelling import nearest

        hint = nearest(arguments.pattern.strip("*"), registry.list_backbones())
        raise UsageError(
            f"no backbone matches {arguments.pattern!r}" + (f"; did you mean {', '.join(hint)}?" if hint else "")
        )
    if arguments.json:
        _print_json(rows)
        return OK
    table = [(row["name"], row["family"], _scaled(row["params"], 1e6), _scaled(row["macs"], 1e9)) for row in rows]
    _print_table(("name", "family", "params (M)", "MACs (G)"), table, right=(2, 3))
    return OK


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    import fnmatch

    return [name for name in names if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def _scaled(value: Optional[float], unit: float) -> str:
    return "" if value is None else f"{value / unit:.2f}"


def _info(arguments: argparse.Namespace) -> int:
    from ppcls_ext import registry

    try:
        info = registry.backbone_info(arguments.name)
    except KeyError as error:
        raise UsageError(error.args[0]) from None
    if arguments.json:
        _print_json(info)
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


def _download(arguments: argparse.Namespace) -> int:
    from ppcls_ext import registry
    from ppcls_ext.weights.pretrained import choose, pretrained_path

    try:
        specs = [registry.get_spec(name) for name in arguments.names]
        for spec in specs:
            choose(spec.name, spec.weights, arguments.layout)
    except (KeyError, ValueError) as error:
        raise UsageError(error.args[0]) from None
    for spec in specs:
        print(pretrained_path(spec.name, spec.weights, arguments.layout))
    return OK


def _pairs(items: dict) -> str:
    return ", ".join(f"{name}: {value}" for name, value in items.items() if value is not None)


def _config(arguments: argparse.Namespace, mode: str):
    from ppcls_ext.config import load_config

    return load_config(arguments.config, arguments.override, mode=mode)


def _train(arguments: argparse.Namespace) -> int:
    cfg = _config(arguments, "train")
    from ppcls_ext.engine.train.trainer import train

    train(cfg)
    return OK


def _eval(arguments: argparse.Namespace) -> int:
    cfg = _config(arguments, "eval")
    from ppcls_ext.engine.evaluator import evaluate

    evaluate(cfg)
    return OK


def _infer(arguments: argparse.Namespace) -> int:
    cfg = _config(arguments, "infer")
    from ppcls_ext.engine.infer import infer

    return _print_results(infer(cfg), "table")


def _export(arguments: argparse.Namespace) -> int:
    cfg = _config(arguments, "export")
    from ppcls_ext.engine.deploy.exporter import export

    export(cfg, format=arguments.format)
    return OK


def _predict(arguments: argparse.Namespace) -> int:
    from ppcls_ext.engine.deploy.image_files import list_images
    from ppcls_ext.engine.deploy.predictor import Predictor, check_device
    from ppcls_ext.engine.infer import save_json

    try:
        check_device(arguments.device)
        images = list_images(arguments.infer_imgs)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    predictor = Predictor(
        arguments.model_dir,
        device=arguments.device,
        batch_size=arguments.batch_size,
        threads=arguments.cpu_threads,
        topk=arguments.topk,
    )
    results = predictor.predict(images)
    if arguments.output is not None:
        save_json(results, arguments.output)
    return _print_results(results, arguments.format)


def _print_results(results: list[dict], format: str) -> int:
    from ppcls_ext.engine.deploy.pipeline import failures

    if format == "json":
        _print_json(results)
    else:
        rows = []
        for result in results:
            named = zip(result["class_ids"], result["label_names"], result["scores"])
            rows.append((result["file_name"], *_columns([(f"{i} {name}", f"{score:.5f}") for i, name, score in named])))
        _print_table(("file", "class", "score"), rows, right=(2,))
    failed = failures(results)
    for result in failed:
        print(f"error: {result['file_name']}: {result['error']}", file=sys.stderr)
    if failed:
        print(f"error: {len(failed)} of {len(results)} images could not be read", file=sys.stderr)
    return FAILED if failed else OK


def _columns(pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    return "\n".join(first for first, _ in pairs), "\n".join(second for _, second in pairs)


def _convert(arguments: argparse.Namespace) -> int:
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
        source=arguments.layout,
        to=arguments.to,
        backbone_only=arguments.backbone_only,
        class_num=arguments.class_num,
        ema=arguments.ema,
        arguments=given,
    )
    return OK


def _prepare_digits(arguments: argparse.Namespace) -> int:
    from ppcls_ext.data.digits import prepare_digits

    folder = prepare_digits(arguments.output, progress=not arguments.quiet)
    print(f"{folder}: train_list.txt, val_list.txt, label_list.txt, images/")
    return OK


def _make_label_maps(arguments: argparse.Namespace) -> int:
    cfg = _config(arguments, "eval")
    from ppcls_ext.engine.label_maps import make_label_maps

    print(f"{arguments.output}: {make_label_maps(cfg, arguments.output, arguments.top)} label maps")
    return OK


def _convert_label_maps(arguments: argparse.Namespace) -> int:
    from ppcls_ext.engine.label_maps import convert_label_maps

    print(f"{arguments.dst}: {convert_label_maps(arguments.src, arguments.dst)} label maps")
    return OK


def _prepare_cifar(arguments: argparse.Namespace) -> int:
    from ppcls_ext.data.cifar import ARCHIVES, check_archive
    from ppcls_ext.weights.download import download

    archive = {name.lower(): item for name, item in ARCHIVES.items()}[arguments.dataset]
    path = arguments.output / archive.file
    if not path.is_file():
        download(archive.url, path)
    check_archive(archive, str(path))
    print(f"{path}: write DataLoader.*.dataset.name: {archive.name}, data_file: {path}")
    return OK


def _write_shards(arguments: argparse.Namespace) -> int:
    from ppcls_ext.data.shards import write_shards

    shards = write_shards(
        arguments.image_root,
        arguments.list,
        arguments.output,
        delimiter=arguments.delimiter,
        samples=arguments.samples,
        shuffle=arguments.shuffle,
        seed=arguments.seed,
        progress=not arguments.quiet,
    )
    pattern = f"{arguments.output}-{{000000..{len(shards) - 1:06d}}}.tar"
    print(f"{len(shards)} shards: write DataLoader.*.dataset.name: ShardDataset, shards: '{pattern}'")
    return OK


def _index_shards(arguments: argparse.Namespace) -> int:
    from ppcls_ext.data.shards import index_shards

    count = index_shards(arguments.shards, arguments.label_key, progress=not arguments.quiet)
    print(f"{count} samples are indexed")
    return OK


def _quick_start(arguments: argparse.Namespace) -> int:
    from ppcls_ext.engine.quick_start import DEFAULT_CONFIG, quick_start

    root = arguments.root.resolve()
    if not (root / DEFAULT_CONFIG).is_file():
        raise UsageError(f"{root} is no clone of the repository: it has no {DEFAULT_CONFIG}; give --root")
    quick_start(root, overrides=tuple(arguments.override))
    return OK


def _paddleclas(arguments: argparse.Namespace) -> int:
    from ppcls_ext.checkout import find_script, run_script

    try:
        script = find_script(arguments.script)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None
    run_script(script, arguments.arguments)
    return OK


# ---- printing --------------------------------------------------------------------------------------------------


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for index, title in enumerate(header):
        table.add_column(title, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])  # as text: a file name may hold rich's markup
    # Into a file or a pipe, a row stays one line.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


if __name__ == "__main__":
    sys.exit(main())
