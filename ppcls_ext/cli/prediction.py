"""The command that runs a deployed model: predict."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, Switch, add_command, add_engine, not_negative, positive
from ppcls_ext.cli.results import FAILED, OK, UsageError, keep_output_clean, print_predictions

if TYPE_CHECKING:
    from ppcls_ext.engine.deploy.accuracy import LabelledImages
    from ppcls_ext.engine.predictions.deployed import DeployedRecorder


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "predict",
        run_predict,
        "Classify images with an exported model, with the preprocessing and labels that were exported with it. An "
        "image that cannot be read is named, the others are done, and the exit code is 1. Under "
        "`python -m paddle.distributed.launch` the images are divided among the processes and the results are merged "
        "in order.",
        [
            "predict --model_dir inference --infer_imgs photo.jpg",
            "predict --model_dir inference --infer_imgs dataset/digits/val_list.txt --batch_size 32 --output out.json",
            "predict --model_dir inference --infer_imgs dataset/digits/val_list.txt --batch_size 32 --metrics",
            "predict --model_dir inference --infer_imgs dataset/digits/val_list.txt --save_predictions out.parquet",
        ],
    )
    add("--model_dir", required=True, help="folder that `export` wrote")
    add("--infer_imgs", required=True, help="an image, a folder, or a text file with one image a line")
    add("--topk", type=positive, help="classes per result (default: as exported)")
    add("--batch_size", type=positive, default=1, help="images per run (default: %(default)s)")
    add_engine(add)
    add("--cpu_threads", type=positive, help="threads on the CPU (default: all cores of this process)")
    add("--workers", type=not_negative, default=2, help="threads that read and preprocess (default: %(default)s)")
    add("--verify", action=Switch, default=True, help="compare the export with its checksums first (default: yes)")
    add(
        "--metrics",
        nargs="?",
        const="",
        metavar="FILE.json",
        help="count how often the model is right, by the class ids in the list --infer_imgs; print the accuracies, and "
        "write them into the file if one is given",
    )
    add(
        "--save_predictions",
        type=Path,
        metavar="FILE",
        help="also write file, label and probabilities of each image into this .parquet, .npz or .csv, with the class "
        f"ids of a list as labels; `{PROGRAM} report` shows them",
    )
    add("--save_topk", type=positive, metavar="K", help="write the K best classes alone")
    add(
        "--format",
        choices=("table", "json", "jsonl"),
        default="table",
        help="what to print: a table, a JSON list, or a result a line as they come (default: %(default)s)",
    )
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="also write the results into this file as they come: a JSON list, or lines if it ends in .jsonl",
    )


def run_predict(arguments: argparse.Namespace) -> int:
    """Classify with an exported model."""
    from ppcls_ext.data.image_files import is_list, list_images
    from ppcls_ext.engine.deploy.accuracy import LabelledImages
    from ppcls_ext.engine.deploy.engines.choice import check_device, choose_engine
    from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
    from ppcls_ext.engine.deploy.inputs import Input
    from ppcls_ext.engine.deploy.pipeline import with_progress
    from ppcls_ext.engine.deploy.predictor import Predictor
    from ppcls_ext.engine.deploy.result_file import ResultFile
    from ppcls_ext.engine.deploy.shares import Share
    from ppcls_ext.engine.predictions import check_suffix

    share = Share.from_environment()
    config = InferenceConfig.load_from(arguments.model_dir)
    topk = arguments.topk or config.topk
    labelled = None
    counts, saves = arguments.metrics is not None, arguments.save_predictions is not None
    if arguments.save_topk is not None and not saves:
        raise UsageError("--save_topk needs --save_predictions")
    try:
        check_device(arguments.device)
        if saves:
            check_suffix(arguments.save_predictions)
        if counts or (saves and is_list(arguments.infer_imgs)):
            labelled = LabelledImages.read(arguments.infer_imgs, len(config.label_list))
        images = list_images(arguments.infer_imgs) if labelled is None else labelled.paths
        if share.nodes > 1 and arguments.output is None:
            raise ValueError("on several machines --output is needed: a file in a folder that all of them share")
        file = None if arguments.output is None or not share.is_first else ResultFile(arguments.output)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    engine = choose_engine(arguments.model_dir, config, arguments.engine, arguments.device).engine
    if engine == "paddle":
        import_paddle()  # the other engines do without
    recorder = _recorder(arguments, config.label_list, labelled, engine) if saves and share.is_first else None
    keep_output_clean()
    predictor = Predictor(
        arguments.model_dir,
        device=arguments.device,
        batch_size=arguments.batch_size,
        threads=arguments.cpu_threads,
        topk=max(topk, labelled.accuracy.largest) if counts and labelled is not None else topk,
        workers=arguments.workers,
        verify=arguments.verify,
        engine=engine,
        all_scores=saves,
    )
    # A line of a list that names a folder or a list is no image, so the paths are not looked into again.
    inputs = [Input(str(path), path) for path in share.of(images)]
    results = predictor.stream(inputs)
    parts = share.folder(arguments.output)
    if not share.is_first:
        share.leave(results, parts)
        return OK  # the first process tells what could not be read
    results = with_progress(share.merge(results, parts), len(images))
    if recorder is not None:
        results = recorder.through(results)
    if counts and labelled is not None:
        results = labelled.counted(results, topk)
    code = print_predictions(results if file is None else file.through(results), arguments.format)
    if counts and labelled is not None:
        return _tell_accuracy(labelled.accuracy.figures(), arguments.metrics) or code
    return code


def _recorder(
    arguments: argparse.Namespace, class_names: Sequence[str], labelled: Optional[LabelledImages], engine: str
) -> DeployedRecorder:
    from ppcls_ext.engine.predictions.deployed import DeployedRecorder

    source = {"model": str(arguments.model_dir), "engine": engine}
    labels = None if labelled is None else labelled.labels
    try:
        return DeployedRecorder(arguments.save_predictions, class_names, labels, source, arguments.save_topk)
    except (ValueError, OSError) as error:
        raise UsageError(f"--save_predictions: {error}") from None


def _tell_accuracy(figures: dict, path: str) -> int:
    counts = f"{figures['samples']} images" + (f", {figures['unread']} not read" if figures["unread"] else "")
    shares = "  ".join(f"{name} {value:.5f}" for name, value in figures.items() if name.startswith("top"))
    print(f"{shares}  ({counts})" if shares else f"no accuracy: {counts}", file=sys.stderr)
    if path:
        from ppcls_ext.utils.files import write_atomically

        text = json.dumps(figures, indent=1) + "\n"
        write_atomically(Path(path), lambda aside: aside.write_text(text, encoding="utf-8"))
    return OK if shares else FAILED
