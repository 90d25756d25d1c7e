"""Commands that run a configuration: train, eval, infer; launch runs them in several processes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, add_config_command, add_foreign_command, add_random_weights, positive
from ppcls_ext.cli.results import OK, UsageError, print_predictions

#: What the launcher starts in each process.
SCRIPT = Path(__file__).with_name("__main__.py")
LAUNCHABLE = ("train", "eval")


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_config_command(
        commands,
        "train",
        run_train,
        f"Train a model from a YAML file in PaddleClas's schema. `{PROGRAM} launch` trains in several processes.",
        [
            "train -c configs/quick_start/Sequencer2D_digits.yaml -o Global.device=cpu",
            "train -c my.yaml --resume",
            "train -c my.yaml -o Global.checkpoints=output/epoch_3   # resume from a certain checkpoint",
        ],
    )
    add("--resume", action="store_true", help="continue from the newest state in Global.output_dir, its latest")
    add = add_config_command(
        commands,
        "eval",
        run_eval,
        "Evaluate weights on DataLoader.Eval; every image counts exactly once.",
        [
            "eval -c my.yaml -o Global.pretrained_model=output/best_model",
            "eval -c my.yaml -o Global.pretrained_model=output/best_model --save_predictions out.parquet",
            "eval -c my.yaml -o Global.pretrained_model=output/best_model --labels real",
            "eval -c my.yaml -o Global.pretrained_model=output/best_model --tta ten_crop",
            "eval -c my.yaml -o Global.pretrained_model=output/best_model --imagenet_c dataset/ImageNet-C",
        ],
    )
    add_random_weights(add)
    add(
        "--save_predictions",
        type=Path,
        metavar="FILE",
        help="also write file, label and logits of each image into this .parquet, .npz or .csv; "
        f"`{PROGRAM} report` shows them",
    )
    add("--save_topk", type=positive, metavar="K", help="write the K best classes with their scores in place of logits")
    add_label_sets(add, "the folder of the images")
    add(
        "--tta",
        choices=("hflip", "five_crop", "ten_crop", "multi_scale"),
        help="test-time augmentation: the mean of the probabilities of several views of each image",
    )
    add(
        "--imagenet_c",
        type=Path,
        metavar="DIR",
        help="evaluate on ImageNet-C, <corruption>/<severity>/<class>/<image> in this folder: 15 corruptions at 5 "
        "severities, and mCE",
    )
    add = add_config_command(
        commands,
        "infer",
        run_infer,
        "Classify images with trained weights (for exported models see `predict`). The section Infer says which "
        "images, how they are preprocessed and, with Infer.save_dir, where a JSON file goes. An image that cannot be "
        "read is named, the others are done, and the exit code is 1.",
        ["infer -c my.yaml -o Global.pretrained_model=output/best_model Infer.infer_imgs=photos/"],
    )
    add_random_weights(add)
    add_foreign_command(
        commands,
        "launch",
        run_launch,
        "Train or evaluate in several processes, one for each card. The same as `python -m paddle.distributed.launch "
        "[options] tools/train.py [arguments]` in a clone: the words before `train` or `eval` go to Paddle's launcher, "
        "whose options `python -m paddle.distributed.launch --help` lists.",
        [
            "launch --gpus 0,1,2,3 train -c my.yaml",
            "launch --nproc_per_node 2 --backend gloo train -c my.yaml -o Global.device=cpu   # two processes on CPUs",
        ],
    ).verbatim = True


def add_label_sets(add: Callable, folder: str) -> None:
    """Add ``--labels`` and ``--classes``; ``folder`` is where ``real`` is looked for."""
    add(
        "--labels",
        metavar="FILE",
        help="reassessed labels (ImageNet-ReaL), where several classes of an image may be right: the path of "
        f"real.json, or `real` if it is in {folder}",
    )
    add(
        "--classes",
        type=Path,
        metavar="FILE",
        help="score among these classes alone, as on ImageNet-A and -R: a text file with a class (id or name) a line, "
        "or a folder of class folders",
    )


def load(arguments: argparse.Namespace, mode: str):
    """Return the configuration that the command line names, checked for ``mode``."""
    import_paddle()
    from ppcls_ext.config import load_config
    from ppcls_ext.config.recipes import find_config

    try:
        path = find_config(arguments.config)
    except KeyError as error:
        raise UsageError(error.args[0]) from None
    return load_config(path, arguments.override, mode=mode)


def run_train(arguments: argparse.Namespace) -> int:
    """Train."""
    cfg = load(arguments, "train")
    from ppcls_ext.engine.train.output_dir import resume_own
    from ppcls_ext.engine.train.trainer import train

    if arguments.resume:
        try:
            resume_own(cfg)
        except ValueError as error:
            raise UsageError(error) from None
    train(cfg)
    if cfg.Global.plot_curves:
        from paddle.distributed import get_rank

        from ppcls_ext.analysis.curves import draw_run

        if get_rank() == 0:
            print(draw_run(Path(cfg.Global.output_dir)))
    return OK


def run_eval(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    from ppcls_ext.engine.predictions import PredictionsFileError, check_suffix

    if arguments.save_topk is not None and arguments.save_predictions is None:
        raise UsageError("--save_topk needs --save_predictions")
    if arguments.imagenet_c is not None:
        given = [name for name in ("save_predictions", "labels", "tta") if getattr(arguments, name) is not None]
        if given:
            raise UsageError(f"--imagenet_c evaluates 75 sets of images; it does not go with --{given[0]}")
    try:
        if arguments.save_predictions is not None:
            check_suffix(arguments.save_predictions)
    except PredictionsFileError as error:
        raise UsageError(f"--save_predictions: {error}") from None
    cfg = load(arguments, "eval")
    from ppcls_ext.engine.evaluator import EvaluationOptions, evaluate
    from ppcls_ext.engine.tta import UndefinedViewError

    if arguments.imagenet_c is not None:
        from ppcls_ext.engine.imagenet_c import evaluate_imagenet_c

        evaluate_imagenet_c(cfg, arguments.imagenet_c, arguments.random_weights, arguments.classes)
        return OK
    options = EvaluationOptions(
        arguments.save_predictions, arguments.save_topk, arguments.labels, arguments.classes, arguments.tta
    )
    try:
        evaluate(cfg, arguments.random_weights, options)
    except UndefinedViewError as error:
        raise UsageError(error) from None
    return OK


def run_infer(arguments: argparse.Namespace) -> int:
    """Classify with trained weights."""
    cfg = load(arguments, "infer")
    from ppcls_ext.engine.infer import infer

    return print_predictions(infer(cfg, arguments.random_weights), "table")


def launch_command(words: list[str]) -> list[str]:
    """Return the command line of Paddle's launcher for ``[its options …] train|eval [arguments …]``.

    Raises:
        UsageError: if neither command is among the words.
    """
    places = [words.index(command) for command in LAUNCHABLE if command in words]
    if not places:
        raise UsageError(f"expected [options of Paddle's launcher] {' | '.join(LAUNCHABLE)} [arguments]")
    options, command = words[: min(places)], words[min(places) :]
    return [sys.executable, "-m", "paddle.distributed.launch", *options, str(SCRIPT), *command]


def run_launch(arguments: argparse.Namespace) -> int:
    """Become Paddle's launcher."""
    command = launch_command(arguments.arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(command[0], command)  # signals reach the launcher directly
    return subprocess.call(command)
