"""The command that makes an int8 model of an exported one: quantize."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ppcls_ext.cli.parser import Switch, add_command, not_negative, positive
from ppcls_ext.cli.results import OK, UsageError, keep_output_clean, print_json, print_table


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "quantize",
        run_quantize,
        "Make an int8 model of an exported ONNX graph, and measure it before it is written. What loses more accuracy "
        "than tolerated returns to float, one group of layers at a time; a model that still loses too much, or is not "
        "faster than float on this machine, is not written, and the exit code is 1.",
        [
            "quantize --model_dir inference --calibrate train_list.txt --evaluate val_list.txt --output inference_int8",
            "quantize --model_dir inference --calibrate photos/ --output inference_int8 --method entropy",
        ],
    )
    add("--model_dir", required=True, help="folder that `export --format onnx` wrote")
    add("--calibrate", required=True, metavar="IMAGES", help="a list or a folder of images that are like the real ones")
    add("--output", required=True, type=Path, metavar="FOLDER", help="for the int8 model and its quantization.json")
    add(
        "--evaluate",
        metavar="IMAGES",
        help="a list with a class id a line; or a folder, which tells the agreement with the float model only "
        "(default: the calibration images, for the agreement only)",
    )
    add("--images", type=positive, default=128, help="how many to calibrate with (default: %(default)s)")
    add("--seed", type=not_negative, default=0, help="of the choice of these images (default: %(default)s)")
    add(
        "--method",
        choices=("minmax", "entropy", "percentile"),
        default="minmax",
        help="how the range of a tensor is found (default: %(default)s)",
    )
    add(
        "--preset",
        choices=("convolutional", "tokens", "recurrent"),
        help="what becomes int8 (default: as the graph's operators tell)",
    )
    add(
        "--engine",
        choices=("onnxruntime", "openvino"),
        default="onnxruntime",
        help="which the model must pass in, and `predict` takes for it (default: %(default)s)",
    )
    add("--tolerance", type=_points, default=0.5, help="points of top-1 that may be lost (default: %(default)s)")
    add(
        "--agreement",
        type=_points,
        default=98.0,
        help="percent of the images on which both must agree, if there are no labels (default: %(default)s)",
    )
    add("--accept_slower", action="store_true", help="write the model even if it is not faster than float here")
    add(
        "--reduce_range",
        action=Switch,
        help="weights of seven bits (default: on x86 processors without VNNI, whose sums would overflow)",
    )
    add("--cpu_threads", type=positive, help="threads of the engines (default: all cores of this process)")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")


def run_quantize(arguments: argparse.Namespace) -> int:
    """Quantise."""
    from ppcls_ext.engine.deploy.inference_yml import InferenceConfigError
    from ppcls_ext.engine.deploy.quantization.errors import check_installed

    check_installed()
    from ppcls_ext.data.image_files import list_images
    from ppcls_ext.engine.deploy.quantization.evaluation import EvaluationImages
    from ppcls_ext.engine.deploy.quantization.gate import Gate
    from ppcls_ext.engine.deploy.quantization.quantizer import QuantizationOptions, check_folders, quantize

    try:
        config, _ = check_folders(arguments.model_dir, arguments.output)
        list_images(arguments.calibrate)
        if arguments.evaluate is not None:
            EvaluationImages.read(arguments.evaluate, len(config.label_list))
    except InferenceConfigError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    keep_output_clean()
    options = QuantizationOptions(
        images=arguments.images,
        seed=arguments.seed,
        method=arguments.method,
        preset=arguments.preset,
        engine=arguments.engine,
        reduce_range=arguments.reduce_range,
        gate=Gate(arguments.tolerance, arguments.agreement),
        accept_slower=arguments.accept_slower,
        threads=arguments.cpu_threads,
    )
    report = quantize(arguments.model_dir, arguments.calibrate, arguments.output, arguments.evaluate, options)
    if arguments.format == "json":
        print_json(report.to_dict())
    else:
        print_table(("", "float", "int8"), report.rows(), right=(1, 2))
    clock = "of the process" if report.timing["clock"] == "process" else "on the clock"
    print(
        f"{arguments.output} written; time {clock}, median of {report.timing['rounds']}, batch "
        f"{report.timing['batch_size']}, threads {report.timing['threads']}",
        file=sys.stderr,
    )
    return OK


def _points(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number from 0 to 100")
    return value
