"""Commands about deployed models: export, predict."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import (
    Switch,
    add_command,
    add_config_command,
    add_random_weights,
    not_negative,
    positive,
)
from ppcls_ext.cli.results import OK, UsageError, keep_output_clean, print_predictions
from ppcls_ext.cli.training import load


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_config_command(
        commands,
        "export",
        run_export,
        "Write the static graph, its weights and inference.yml into Global.save_inference_dir. The files are loaded "
        "again and compared with the model before they replace an earlier export.",
        [
            "export -c my.yaml -o Global.pretrained_model=output/best_model Global.save_inference_dir=inference",
            "export -c my.yaml -o Global.pretrained_model=output/best_model --format legacy",
            "export -c my.yaml -o Global.pretrained_model=output/best_model --format default onnx",
        ],
    )
    add_random_weights(add)
    add(
        "--format",
        nargs="+",
        choices=("default", "legacy", "onnx"),
        default=["default"],
        help="one or several. default: what this Paddle writes (3.x inference.json, 2.6 inference.pdmodel); "
        "legacy: inference.pdmodel on both, as PaddleClas's own predictor needs it; onnx: inference.onnx",
    )
    add(
        "--onednn",
        action=Switch,
        default=True,
        help="try whether Paddle Inference may use oneDNN, in a process of its own (default: yes)",
    )
    add("--opset", type=int, help="of the ONNX graph, 17 to 21 (default: 20)")
    add(
        "--outputs",
        nargs="+",
        metavar="NAME",
        help="results of the ONNX graph: logits or probabilities, features (pooled), stages[0] and so on (maps) "
        "(default: probabilities, or logits with Arch.infer_add_softmax: False)",
    )
    add(
        "--uint8_input",
        action="store_true",
        help="let the ONNX graph take decoded images [N, H, W, 3] of uint8, resized and cropped, and normalise them",
    )

    add = add_command(
        commands,
        "predict",
        run_predict,
        "Classify images with an exported model, with the preprocessing and labels that were exported with it. An "
        "image that cannot be read is named, the others are done, and the exit code is 1.",
        [
            "predict --model_dir inference --infer_imgs photo.jpg",
            "predict --model_dir inference --infer_imgs dataset/digits/val_list.txt --batch_size 32 --output out.json",
        ],
    )
    add("--model_dir", required=True, help="folder that `export` wrote")
    add("--infer_imgs", required=True, help="an image, a folder, or a text file with one image a line")
    add("--topk", type=positive, help="classes per result (default: as exported)")
    add("--batch_size", type=positive, default=1, help="images per run (default: %(default)s)")
    add(
        "--engine",
        choices=("auto", "paddle", "onnxruntime", "openvino"),
        default="auto",
        help="what runs the graph; auto: the fastest that is installed and whose graph is in the folder "
        "(default: %(default)s)",
    )
    add("--device", default="cpu", help="cpu, gpu or gpu:<number> (default: %(default)s)")
    add("--cpu_threads", type=positive, help="threads on the CPU (default: all cores of this process)")
    add("--workers", type=not_negative, default=2, help="threads that read and preprocess (default: %(default)s)")
    add("--verify", action=Switch, default=True, help="compare the export with its checksums first (default: yes)")
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


def run_export(arguments: argparse.Namespace) -> int:
    """Export."""
    cfg = load(arguments, "export")
    from ppcls_ext.engine.deploy.exporter import OnnxOptions, check_formats, export
    from ppcls_ext.engine.deploy.onnx.requirements import check_opset

    given = {"opset": arguments.opset, "outputs": arguments.outputs, "uint8_input": arguments.uint8_input or None}
    given = {name: value for name, value in given.items() if value is not None}
    onnx = OnnxOptions(**given) if given else None
    try:
        check_formats(arguments.format, onnx)
        if onnx is not None:
            check_opset(onnx.opset)
    except ValueError as error:
        raise UsageError(str(error)) from None
    export(cfg, arguments.format, onnx, arguments.random_weights, arguments.onednn)
    return OK


def run_predict(arguments: argparse.Namespace) -> int:
    """Classify with an exported model."""
    from ppcls_ext.data.image_files import list_images
    from ppcls_ext.engine.deploy.engines.choice import check_device, choose_engine
    from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
    from ppcls_ext.engine.deploy.inputs import Input
    from ppcls_ext.engine.deploy.pipeline import with_progress
    from ppcls_ext.engine.deploy.predictor import Predictor
    from ppcls_ext.engine.deploy.result_file import ResultFile

    try:
        check_device(arguments.device)
        images = list_images(arguments.infer_imgs)
        file = None if arguments.output is None else ResultFile(arguments.output)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    config = InferenceConfig.load_from(arguments.model_dir)
    engine = choose_engine(arguments.model_dir, config, arguments.engine, arguments.device).engine
    if engine == "paddle":
        import_paddle()  # for the others it need not be there
    keep_output_clean()
    predictor = Predictor(
        arguments.model_dir,
        device=arguments.device,
        batch_size=arguments.batch_size,
        threads=arguments.cpu_threads,
        topk=arguments.topk,
        workers=arguments.workers,
        verify=arguments.verify,
        engine=engine,
    )
    # A line of a list that names a folder or a list is no image, so the paths are not looked into again.
    inputs = (Input(str(path), path) for path in images)
    results = with_progress(predictor.stream(inputs), len(images))
    return print_predictions(results if file is None else file.through(results), arguments.format)
