"""Commands that prepare data: digits, CIFAR, label maps, shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import Switch, add_command, add_config_command, add_random_weights, positive
from ppcls_ext.cli.results import OK
from ppcls_ext.cli.training import load


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "prepare-digits",
        run_prepare_digits,
        "Write the handwritten digits that scikit-learn carries as image files with label lists; no download.",
        ["prepare-digits --output dataset/digits"],
    )
    add("--output", default="dataset/digits", help="folder to write to (default: %(default)s)")
    add("--quiet", action="store_true", help="show no progress bar")

    add = add_command(
        commands,
        "prepare-cifar",
        run_prepare_cifar,
        "Download the archive of CIFAR-10 or CIFAR-100 (about 170 MB), and check it. An archive that is there "
        "already is only checked.",
        ["prepare-cifar --dataset cifar10 --output dataset"],
    )
    add("--dataset", choices=("cifar10", "cifar100"), default="cifar10", help="which one (default: %(default)s)")
    add("--output", type=Path, default=Path("dataset"), help="folder to write to (default: %(default)s)")

    add = add_config_command(
        commands,
        "make-label-maps",
        run_make_label_maps,
        "Let a trained model label the images of DataLoader.Eval cell by cell, for token labelling. Give the training "
        "list, and operators that show the whole image.",
        ["make-label-maps -c teacher.yaml -o Global.pretrained_model=teacher --output dataset/token_labels"],
    )
    add("--output", required=True, help="folder of the label maps, which mirrors image_root")
    add("--top", type=positive, default=5, help="classes that are kept in a cell (default: %(default)s)")
    add_random_weights(add)

    add = add_command(
        commands,
        "convert-label-maps",
        run_convert_label_maps,
        "Convert the label maps of token labelling's official code (.pt files) to the format that is read here.",
        ["convert-label-maps --src label_top5_train_nfnet --dst dataset/ILSVRC2012/token_labels/train"],
    )
    add("--src", required=True, help="folder of the .pt files, at any depth")
    add("--dst", required=True, help="folder to write to, under the same names; existing files are left alone")

    add = add_command(
        commands,
        "write-shards",
        run_write_shards,
        "Pack the images of a label list into tar shards of WebDataset's layout, each with its index. Images are "
        "copied unchanged; existing shards are left alone.",
        ["write-shards --image_root dataset/ILSVRC2012 --list dataset/ILSVRC2012/train_list.txt --output shards/train"],
    )
    add("--image_root", required=True, help="folder that relative paths of the list start from")
    add("--list", required=True, metavar="FILE", help="label list: a path and a class id on each line")
    add("--output", required=True, metavar="PREFIX", help="shards are <PREFIX>-000000.tar, <PREFIX>-000001.tar, ...")
    add("--delimiter", help="between path and class id (default: any run of spaces or tabs)")
    add("--samples", type=positive, default=2000, help="images per shard (default: %(default)s)")
    add("--shuffle", action=Switch, default=True, help="shuffle the images once (default: yes)")
    add("--seed", type=int, default=0, help="for shuffling (default: %(default)s)")
    add("--quiet", action="store_true", help="show no progress bar")

    add = add_command(
        commands,
        "index-shards",
        run_index_shards,
        "Write the index of tar shards that another tool made (<shard>.index beside each), by reading them once.",
        ["index-shards 'shards/train-{000000..000639}.tar'"],
    )
    add("shards", nargs="+", help="shards, as patterns")
    add("--label_key", default="label", help="where the class id is in <key>.json (default: %(default)s)")
    add("--quiet", action="store_true", help="show no progress bar")


def run_prepare_digits(arguments: argparse.Namespace) -> int:
    """Write the digits."""
    import_paddle()
    from ppcls_ext.data.digits import prepare_digits

    folder = prepare_digits(arguments.output, progress=not arguments.quiet)
    print(f"{folder}: train_list.txt, val_list.txt, label_list.txt, images/")
    return OK


def run_prepare_cifar(arguments: argparse.Namespace) -> int:
    """Download and check an archive of CIFAR."""
    import_paddle()
    from ppcls_ext.data.cifar import ARCHIVES, check_archive
    from ppcls_ext.weights.download import download

    archive = {name.lower(): item for name, item in ARCHIVES.items()}[arguments.dataset]
    path = arguments.output / archive.file
    if not path.is_file():
        download(archive.url, path)
    check_archive(archive, str(path))
    print(f"{path}: write DataLoader.*.dataset.name: {archive.name}, data_file: {path}")
    return OK


def run_make_label_maps(arguments: argparse.Namespace) -> int:
    """Label images cell by cell."""
    cfg = load(arguments, "eval")
    from ppcls_ext.engine.label_maps import make_label_maps

    count = make_label_maps(cfg, arguments.output, arguments.top, arguments.random_weights)
    print(f"{arguments.output}: {count} label maps")
    return OK


def run_convert_label_maps(arguments: argparse.Namespace) -> int:
    """Convert label maps of the official code."""
    import_paddle()
    from ppcls_ext.engine.label_maps import convert_label_maps

    print(f"{arguments.dst}: {convert_label_maps(arguments.src, arguments.dst)} label maps")
    return OK


def run_write_shards(arguments: argparse.Namespace) -> int:
    """Write shards."""
    import_paddle()
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


def run_index_shards(arguments: argparse.Namespace) -> int:
    """Index shards."""
    import_paddle()
    from ppcls_ext.data.shards import index_shards

    count = index_shards(arguments.shards, arguments.label_key, progress=not arguments.quiet)
    print(f"indexed {count} samples")
    return OK
